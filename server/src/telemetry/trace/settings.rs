//! What is traced, and where it is sent to.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use crate::security::files::FileError;
use crate::security::source::Source;
use crate::security::wire::is_this_machine;

/// Bytes of a file of headers: some tokens fit many times over.
pub const HEADERS_SIZE_MAX: usize = 64 * 1024;
/// Where OTLP over HTTP takes spans, unless a URL says otherwise.
const OTLP_HTTP_PATH: &str = "/v1/traces";

/// How traces are taken and sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where they are sent to, all of them.
    pub targets: Vec<Target>,
    /// The share of traces that begin here.
    pub ratio: Ratio,
    /// A request whose answer begins later than this is sent in any case.
    pub slow: Duration,
}

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    OtlpGrpc,
    /// OTLP over HTTP, in protobuf.
    OtlpHttp,
    /// Zipkin's JSON, version 2.
    Zipkin,
}

impl Protocol {
    /// Its name, as metrics show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::OtlpGrpc => "otlp_grpc",
            Protocol::OtlpHttp => "otlp_http",
            Protocol::Zipkin => "zipkin",
        }
    }
}

/// A place that spans are sent to.
#[derive(Clone, Debug)]
pub struct Target {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Where it is: `http://…`, or `https://…` for one that is spoken to within TLS.
    pub url: Uri,
    /// Who may vouch for it, a PEM file; none: this machine's authorities.
    pub authorities: Option<PathBuf>,
    /// What each request says besides.
    pub headers: Headers,
}

/// Headers of requests to a target. They may hold tokens, so they are never shown.
#[derive(Clone, Default)]
pub struct Headers(pub Vec<(HeaderName, HeaderValue)>);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} headers", self.0.len())
    }
}

/// Why a text names no target. What was given is not repeated: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// It is no URL of this kind.
    #[error("{flag} is no URL that it takes; give {example}")]
    Url {
        /// The flag.
        flag: &'static str,
        /// What would do.
        example: &'static str,
    },
    /// It has a user or a password in it.
    #[error("{flag} has credentials in its URL; put them into a file, and give --trace-headers")]
    Credentials {
        /// The flag.
        flag: &'static str,
    },
}

impl Target {
    /// A target of OTLP: `grpc://HOST:PORT` or `http://HOST:PORT[/PATH]`; `grpcs` and `https`
    /// within TLS.
    ///
    /// # Errors
    /// [`InvalidTarget`]
    pub fn otlp(text: &str) -> Result<Target, InvalidTarget> {
        let flag = "--trace-otlp";
        let example = "grpc://HOST:4317 or http://HOST:4318";
        let (protocol, url) = match text.split_once("://") {
            Some(("grpc", rest)) => (Protocol::OtlpGrpc, format!("http://{rest}")),
            Some(("grpcs", rest)) => (Protocol::OtlpGrpc, format!("https://{rest}")),
            Some(("http" | "https", _)) => (Protocol::OtlpHttp, text.to_owned()),
            _ => return Err(InvalidTarget::Url { flag, example }),
        };
        let mut url = parse(&url, flag, example)?;
        if protocol == Protocol::OtlpHttp && url.path() == "/" {
            let mut parts = url.into_parts();
            parts.path_and_query = Some(http::uri::PathAndQuery::from_static(OTLP_HTTP_PATH));
            url = Uri::from_parts(parts).map_err(|_| InvalidTarget::Url { flag, example })?;
        }
        Ok(Target { protocol, url, authorities: None, headers: Headers::default() })
    }

    /// A target of Zipkin: `http://HOST:PORT/api/v2/spans`, or `https`.
    ///
    /// # Errors
    /// [`InvalidTarget`]
    pub fn zipkin(text: &str) -> Result<Target, InvalidTarget> {
        let (flag, example) = ("--trace-zipkin", "http://HOST:9411/api/v2/spans");
        let url = parse(text, flag, example)?;
        let (protocol, headers) = (Protocol::Zipkin, Headers::default());
        Ok(Target { protocol, url, authorities: None, headers })
    }

    /// The same, with `headers` in each request.
    #[must_use]
    pub fn with_headers(self, headers: Headers) -> Target {
        Target { headers, ..self }
    }

    /// The same, for which the authorities in this file vouch.
    #[must_use]
    pub fn trusting(self, authorities: PathBuf) -> Target {
        Target { authorities: Some(authorities), ..self }
    }

    /// Whether what is sent to it could be read on its way.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        !self.is_secure() && !self.url.host().is_some_and(is_this_machine)
    }

    /// Whether it is spoken to within TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }
}

fn parse(text: &str, flag: &'static str, example: &'static str) -> Result<Uri, InvalidTarget> {
    let url = text.parse::<Uri>().map_err(|_| InvalidTarget::Url { flag, example })?;
    let Some(authority) = url.authority() else {
        return Err(InvalidTarget::Url { flag, example });
    };
    if authority.as_str().contains('@') {
        return Err(InvalidTarget::Credentials { flag });
    }
    if !matches!(url.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
        return Err(InvalidTarget::Url { flag, example });
    }
    Ok(url)
}

/// Why a file of headers cannot be used. Its lines are not repeated.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] FileError),
    /// It is too large to be one.
    #[error("{path} is larger than {HEADERS_SIZE_MAX} bytes; give one header a line")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line is no header.
    #[error(
        "line {line} of {path} is no header; write 'name: value', one a line, '#' for comments"
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl Headers {
    /// Reads a file with a header a line: `name: value`. Empty lines and those that begin with `#`
    /// are left out.
    ///
    /// # Errors
    /// [`HeadersError`]
    pub fn load(source: &Source) -> Result<Headers, HeadersError> {
        let (bytes, path) = (source.read("--trace-headers")?, source.place());
        if bytes.len() > HEADERS_SIZE_MAX {
            return Err(HeadersError::TooLarge { path: path.to_owned() });
        }
        Headers::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|line| HeadersError::Line { path: path.to_owned(), line })
    }

    /// The headers in `text`; or the number of the line that is none.
    fn parse(text: &str) -> Result<Headers, usize> {
        let mut headers = Vec::new();
        for (number, line) in (1usize..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once(':').ok_or(number)?;
            let name = HeaderName::try_from(name.trim()).map_err(|_| number)?;
            let mut value = HeaderValue::try_from(value.trim()).map_err(|_| number)?;
            value.to_str().map_err(|_| number)?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(Headers(headers))
    }
}

/// A share of traces, from none (0) to all (1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    share: f64,
    /// Of the 56 random bits at the end of a trace's id, those below this are taken.
    below: u64,
}

/// What the random part of a trace's id counts to: 7 bytes, as the W3C has it.
const RANDOM_COUNT: u64 = 1 << 56;

impl Ratio {
    /// The share `share`; none if it is no number from 0 to 1.
    #[must_use]
    pub fn new(share: f64) -> Option<Ratio> {
        if !(0.0..=1.0).contains(&share) {
            return None;
        }
        let below = (share * RANDOM_COUNT as f64) as u64;
        Some(Ratio { share, below })
    }

    /// Whether a trace of this id is taken. Each server that has the same share says the same.
    #[must_use]
    pub fn takes(&self, trace: &[u8; 16]) -> bool {
        let mut random = [0; 8];
        random[1..].copy_from_slice(&trace[9..]);
        u64::from_be_bytes(random) < self.below
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Ratio, String> {
        let share = text.parse().ok().and_then(Ratio::new);
        share.ok_or_else(|| "give a share from 0 (none) to 1 (all), such as 0.01".to_owned())
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.share.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use daybook_model::{SystemEntropy, TraceContext};

    use super::*;

    #[test]
    fn a_target_is_a_url_without_secrets() {
        let shown = |target: Result<Target, InvalidTarget>| match target {
            Ok(target) => format!("{} {}", target.protocol.as_str(), target.url),
            Err(InvalidTarget::Url { .. }) => "url".to_owned(),
            Err(InvalidTarget::Credentials { .. }) => "credentials".to_owned(),
        };
        for (text, expected) in [
            ("grpc://tempo:4317", "otlp_grpc http://tempo:4317/"),
            ("http://tempo:4318", "otlp_http http://tempo:4318/v1/traces"),
            ("http://tempo:4318/otlp/v1/traces", "otlp_http http://tempo:4318/otlp/v1/traces"),
            ("https://tempo:4318", "otlp_http https://tempo:4318/v1/traces"),
            ("grpcs://tempo:4317", "otlp_grpc https://tempo:4317/"),
            ("grpc://user:secret@tempo:4317", "credentials"),
            ("tempo:4317", "url"),
            ("grpc://", "url"),
            ("", "url"),
        ] {
            assert_eq!(shown(Target::otlp(text)), expected, "{text}");
            let error = Target::otlp(text).err().map(|error| error.to_string());
            assert!(error.is_none_or(|error| !error.contains("secret")), "{text}");
        }
        assert_eq!(
            shown(Target::zipkin("http://zipkin:9411/api/v2/spans")),
            "zipkin http://zipkin:9411/api/v2/spans"
        );
        for (text, expected) in
            [("https://z/", "zipkin https://z/"), ("grpc://z", "url"), ("z", "url")]
        {
            assert_eq!(shown(Target::zipkin(text)), expected, "{text}");
        }
    }

    #[test]
    fn headers_are_read_by_line_and_never_shown() {
        let text = "# tenant and token\n\nx-scope-orgid: bank\nAuthorization: Bearer a:b \n";
        let headers = Headers::parse(text).expect("headers");
        let values: Vec<_> = headers.0.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        let expected: [(&str, &[u8]); 2] =
            [("x-scope-orgid", b"bank"), ("authorization", b"Bearer a:b")];
        assert_eq!(values, expected);
        assert_eq!(format!("{headers:?} {:?}", headers.0[1].1), "2 headers Sensitive");
        for (text, line) in [("token", 1), ("a: b\nb c: d", 2), (": d", 1), ("a: \u{1}", 1)] {
            assert_eq!(Headers::parse(text).err(), Some(line), "{text}");
        }
    }

    #[test]
    fn a_ratio_takes_its_share_and_the_ends_are_exact() {
        let ids: Vec<_> =
            (0..20_000).map(|_| TraceContext::begin(&SystemEntropy).trace_id()).collect();
        for (share, from, to) in
            [("0", 0, 0), ("1", 20_000, 20_000), ("0.25", 4_500, 5_500), ("1.0", 20_000, 20_000)]
        {
            let ratio: Ratio = share.parse().expect("a ratio");
            let taken = ids.iter().filter(|id| ratio.takes(id)).count();
            assert!((from..=to).contains(&taken), "{share}: {taken}");
        }
        for text in ["-0.1", "1.1", "NaN", "", "1%"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }
}
