//! Where a server sends traces, and how many.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::security::source::Source;
use crate::telemetry::trace::settings::Headers;
use crate::telemetry::trace::{Ratio, Settings, Target};

/// What is traced. Nothing is unless there is somewhere to send it to.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Send traces by OTLP, to grpc://HOST:4317 or http://HOST:4318, or to grpcs:// and https://
    /// within TLS; may be given several times
    // A text until it is used: a refused argument is shown, and it may hold a password.
    #[arg(
        long,
        env = "DAYBOOK_TRACE_OTLP",
        hide_env_values = true,
        value_name = "URL",
        value_delimiter = ','
    )]
    trace_otlp: Vec<String>,

    /// Send traces as Zipkin's JSON, to http://HOST:9411/api/v2/spans, or https://; may be given
    /// several times
    #[arg(
        long,
        env = "DAYBOOK_TRACE_ZIPKIN",
        hide_env_values = true,
        value_name = "URL",
        value_delimiter = ','
    )]
    trace_zipkin: Vec<String>,

    /// A file of headers to send along, as tokens: 'name: value', one a line
    #[arg(long, env = "DAYBOOK_TRACE_HEADERS", value_name = "FILE")]
    trace_headers: Option<PathBuf>,

    /// Who may vouch for what traces are sent to within TLS: certificates of authorities, a PEM
    /// file [default: this machine's]
    #[arg(long, env = "DAYBOOK_TRACE_CA", value_name = "FILE")]
    trace_ca: Option<PathBuf>,

    /// The share of requests that are traced, from 0 to 1. One that comes with a trace of its own
    /// says so itself; what fails by the server's fault or is slow is told in any case
    #[arg(long, env = "DAYBOOK_TRACE_RATIO", value_name = "SHARE", default_value = "0.01")]
    trace_ratio: Ratio,

    /// How late an answer begins that is told in any case
    #[arg(
        long,
        env = "DAYBOOK_TRACE_SLOW",
        value_name = "DURATION",
        default_value = "1s",
        value_parser = humantime::parse_duration
    )]
    trace_slow: Duration,
}

impl TraceArgs {
    /// What the headers that are sent along are named by.
    #[must_use]
    pub fn headers(&self) -> Option<&Path> {
        self.trace_headers.as_deref()
    }

    /// How to trace, with these `headers`; none if there is nowhere to send it to.
    ///
    /// # Errors
    /// If a URL or the file of headers cannot be used.
    pub fn settings(&self, headers: Option<&Source>) -> anyhow::Result<Option<Settings>> {
        let mut targets = Vec::new();
        for url in &self.trace_otlp {
            targets.push(Target::otlp(url)?);
        }
        for url in &self.trace_zipkin {
            targets.push(Target::zipkin(url)?);
        }
        if targets.is_empty() {
            return Ok(None);
        }
        if let Some(headers) = headers {
            if let Some(exposed) = targets.iter().find(|target| target.is_exposed()) {
                let host = exposed.url.host().unwrap_or_default();
                bail!(
                    "--trace-headers would be sent to {host} in the clear, where others could read \
                     its tokens; give grpcs:// or https://, or a collector on this machine"
                );
            }
            let headers = Headers::load(headers).context("--trace-headers cannot be used")?;
            targets =
                targets.into_iter().map(|target| target.with_headers(headers.clone())).collect();
        }
        if let Some(authorities) = &self.trace_ca {
            if !targets.iter().any(Target::is_secure) {
                bail!("--trace-ca has no use without TLS; give grpcs:// or https://");
            }
            targets =
                targets.into_iter().map(|target| target.trusting(authorities.clone())).collect();
        }
        Ok(Some(Settings { targets, ratio: self.trace_ratio, slow: self.trace_slow }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::Parser;
    use tempfile::NamedTempFile;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        traces: TraceArgs,
    }

    #[test]
    fn headers_are_sent_where_nobody_is_between() {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(b"authorization: Bearer secret\n").expect("written");
        let headers = Source::File(file.path().to_owned());
        for (target, good) in [
            ("--trace-otlp=https://collector.example", true),
            ("--trace-otlp=grpcs://collector.example:4317", true),
            ("--trace-otlp=grpc://127.0.0.1:4317", true),
            ("--trace-zipkin=http://localhost:9411/api/v2/spans", true),
            ("--trace-otlp=grpc://collector.example:4317", false),
            ("--trace-zipkin=http://collector.example:9411/api/v2/spans", false),
        ] {
            let cli = Cli::try_parse_from(["daybook", target]).expect("flags");
            let with = cli.traces.settings(Some(&headers));
            assert_eq!(with.is_ok(), good, "{target}: {with:?}");
            assert!(cli.traces.settings(None).is_ok(), "{target}: what is told is no secret");
        }
    }
}
