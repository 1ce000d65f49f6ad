//! What a webhook's table says.

use std::fmt;

use http::Uri;

use crate::connect::guard::{CONCURRENCY_MAX, GuardSettings};
use crate::connect::section::{ConfigError, Referred, Secret, Section};

/// Messages of one POST.
pub const BATCH_MAX: u64 = 100;

/// Where the URL may be given instead of in the file: it may say something nobody else may know.
static URL: Referred = Referred { name: "url", env: "url_env", file: "url_file" };
static SECRET: Referred = Referred { name: "secret", env: "secret_env", file: "secret_file" };

/// An HTTP endpoint.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Where it is.
    pub url: WebhookUrl,
    /// What messages are signed with.
    pub secret: Secret,
    /// Messages of one POST at most.
    pub batch_max: usize,
    /// Calls at a time.
    pub concurrency: u32,
    /// How its calls are guarded.
    pub guard: GuardSettings,
}

/// A URL of which people are shown the host only.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(pub(super) Uri);

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.0.scheme_str(), self.0.authority());
        write!(f, "{}://{}", scheme.unwrap_or("http"), authority.map_or("", |a| a.as_str()))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl WebhookSettings {
    /// Reads the keys of a webhook.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(section: &mut Section<'_>) -> Result<WebhookSettings, ConfigError> {
        let allow_http = section.flag("allow_http", false)?;
        let url = url(section, allow_http)?;
        let Some(secret) = section.secret(&SECRET)? else {
            let takes = "is missing; messages are signed: give secret_env or secret_file";
            return Err(section.wrong(SECRET.name, takes));
        };
        let batch_max = section.number("batch", 1..=BATCH_MAX, 1)?;
        let concurrency = section.number("concurrency", 1..=CONCURRENCY_MAX, 1)?;
        let guard = GuardSettings::read(section)?;
        Ok(WebhookSettings {
            url,
            secret,
            batch_max: usize::try_from(batch_max).unwrap_or(1),
            concurrency: u32::try_from(concurrency).unwrap_or(1),
            guard,
        })
    }
}

fn url(section: &mut Section<'_>, allow_http: bool) -> Result<WebhookUrl, ConfigError> {
    let takes = "https://HOST/PATH, or url_env or url_file that refers to one";
    let text = match section.referred(&URL)? {
        Some(secret) => secret.reveal().to_owned(),
        None => section.required(URL.name, takes)?,
    };
    let uri: Uri = text.parse().map_err(|_| section.wrong(URL.name, format!("takes {takes}")))?;
    let (host, scheme) = (uri.host().unwrap_or_default(), uri.scheme_str().unwrap_or_default());
    if host.is_empty() || !["http", "https"].contains(&scheme) {
        return Err(section.wrong(URL.name, "takes http:// or https:// and a host"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(section.wrong(URL.name, "takes no login; messages are signed instead"));
    }
    if scheme == "http" && !allow_http && !is_loopback(host) {
        let reason = "http:// reaches other machines unencrypted; give https://, or allow_http = \
                      true";
        return Err(section.wrong(URL.name, reason));
    }
    Ok(WebhookUrl(uri))
}

/// Whether `host` is this machine.
pub(in crate::connect) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
