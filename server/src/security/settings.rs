//! What a node is told about those who connect.

use super::source::Source;
use super::tls::TlsSettings;

/// Who is asked for who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asks {
    /// Nobody: every caller may do everything.
    #[default]
    Nobody,
    /// Everyone.
    Everyone,
}

/// How a node protects itself. By default not at all: it is for this machine alone then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How connections are encrypted, if they are.
    pub tls: Option<TlsSettings>,
    /// Who is asked.
    pub asks: Asks,
    /// The file that says which tokens are believed, if any are.
    pub tokens: Option<Source>,
}

impl Settings {
    /// All that it rests on: files, and what is kept of Vault.
    #[must_use]
    pub fn sources(&self) -> Vec<&Source> {
        let tls = self.tls.as_ref();
        let clients = tls.and_then(|tls| tls.clients.as_ref());
        let mut sources: Vec<&Source> = Vec::new();
        sources.extend(tls.map(|tls| &tls.certificate));
        // One that was issued has its key with it.
        sources.extend(tls.filter(|tls| tls.key != tls.certificate).map(|tls| &tls.key));
        sources.extend(clients.map(|clients| &clients.authorities));
        sources.extend(clients.and_then(|clients| clients.revoked.as_ref()));
        sources.extend(&self.tokens);
        sources
    }
}
