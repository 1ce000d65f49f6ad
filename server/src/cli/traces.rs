//! Where a server sends traces, and how many.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

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
    /// How to trace; none if there is nowhere to send it to.
    ///
    /// # Errors
    /// If a URL or the file of headers cannot be used.
    pub fn settings(&self) -> anyhow::Result<Option<Settings>> {
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
        if let Some(file) = &self.trace_headers {
            let headers = Headers::load(file).context("--trace-headers cannot be used")?;
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
