//! What a server's settings beside those of its protection name in Vault: it is read at the start,
//! and a new version of it is taken up by a restart.

use std::path::Path;

use anyhow::Context as _;
use daybook_projections::connect::{self, ConfigError, ConnectorSettings};

use crate::readside::Place;
use crate::security::source::Source;

/// The setting, as messages name it.
const READ_MODELS: &str = "--read-models";
const TRACE_HEADERS: &str = "--trace-headers";
const CONNECTORS: &str = "--connectors";

/// What is named; files are among it.
pub struct Secrets {
    /// Only if it is in Vault: what else it is may hold a password, and is no file.
    read_models: Option<Source>,
    trace_headers: Option<Source>,
    connectors: Vec<Source>,
}

impl Secrets {
    /// What these settings name.
    ///
    /// # Errors
    /// If a name of a secret is none.
    pub fn named(
        read_models: &str,
        trace_headers: Option<&Path>,
        connectors: Option<&Path>,
    ) -> anyhow::Result<Secrets> {
        let headers = trace_headers.map(|file| Source::given(TRACE_HEADERS, file)).transpose()?;
        let named = connectors.map(connect::secrets_in_vault).unwrap_or_default();
        let named = named.iter().map(|name| Source::given(CONNECTORS, Path::new(name)));
        let read_models = Source::given(READ_MODELS, Path::new(read_models))?;
        Ok(Secrets {
            read_models: Some(read_models).filter(|place| place.held().is_some()),
            trace_headers: headers,
            connectors: named.collect::<Result<_, _>>()?,
        })
    }

    /// All of it.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let others = self.trace_headers.iter().chain(&self.connectors);
        self.read_models.iter().chain(others)
    }

    /// Where read models are kept, if that is what was `given`.
    ///
    /// # Errors
    /// If that is no place.
    pub fn read_models(&self, given: &str) -> anyhow::Result<Place> {
        let place = match &self.read_models {
            None => given.to_owned(),
            Some(secret) => secret.read_secret(READ_MODELS)?,
        };
        place.parse().with_context(|| format!("{READ_MODELS} cannot be used"))
    }

    /// What is sent along with traces.
    #[must_use]
    pub fn trace_headers(&self) -> Option<&Source> {
        self.trace_headers.as_ref()
    }

    /// The connectors of `file`.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn connectors(&self, file: Option<&Path>) -> Result<Vec<ConnectorSettings>, ConfigError> {
        let Some(file) = file else { return Ok(Vec::new()) };
        connect::load_with(file, &|name| match self
            .connectors
            .iter()
            .find(|kept| kept.place() == Path::new(name))
        {
            Some(kept) => kept.read_secret(CONNECTORS).ok(),
            None => std::env::var(name).ok(),
        })
    }
}
