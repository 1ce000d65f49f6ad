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
