//! What goes wrong between a server and Vault, and what to do about it.
//!
//! INVARIANT: no message repeats anything of an answer but its status, its `errors` and the names of
//! a secret's fields.

use crate::security::files::FileError;

/// Something that was asked of Vault, and did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Vault at {url}: {path}: {fault}")]
pub struct VaultError {
    /// Where Vault is.
    pub url: String,
    /// What was asked for.
    pub path: String,
    /// Why it did not come.
    pub fault: Fault,
}

/// Why something did not come from Vault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody answers, or nobody who can be believed.
    #[error("{0}; is it running, and are --vault-url and --vault-ca right?")]
    Unreachable(String),
    /// The authorities that may vouch for it cannot be used.
    #[error("{0}; correct --vault-ca")]
    Authorities(String),
    /// The answer takes too long.
    #[error("no answer within {0} s; is it overloaded, or behind a firewall?")]
    TimedOut(u64),
    /// It is sealed.
    #[error("it is sealed or not ready ({0}); unseal it")]
    Sealed(String),
    /// The token may not.
    #[error(
        "refused ({0}); give a token that is valid, or a role, and let its policy allow this path"
    )]
    Denied(String),
    /// There is nothing at that path.
    #[error(
        "there is nothing{0}; check mount and path (of secrets: an engine KV version 2), and \
         --vault-namespace if there is one"
    )]
    Missing(String),
    /// The secret's newest version is deleted.
    #[error("its newest version is deleted; undelete it, or write the secret again")]
    Deleted,
    /// The secret has no such field.
    #[error("it has no field '{field}' that is a text; its fields are: {fields}")]
    NoField {
        /// The field.
        field: String,
        /// Those that it has.
        fields: String,
    },
    /// Vault does not do it.
    #[error("it answers {status}{reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says.
        reason: String,
    },
    /// The answer is too large.
    #[error("its answer is larger than {0} bytes; is that Vault?")]
    TooLarge(usize),
    /// The answer is none of Vault's.
    #[error("its answer cannot be read: {0}; is that Vault?")]
    Malformed(String),
    /// A file of this side.
    #[error(transparent)]
    File(#[from] FileError),
    /// The token cannot be sent.
    #[error("the token has characters that tokens do not have")]
    NoToken,
    /// The token ends soon, and that cannot be helped from here.
    #[error(
        "the token ends within {0} s and cannot be renewed; put a new one into --vault-token-file, \
         it is taken up without a restart"
    )]
    TokenEnds(u64),
    /// A certificate that was issued is of no use.
    #[error("the certificate that it issued cannot be used: {0}")]
    Certificate(String),
}

impl Fault {
    /// Whether it may be otherwise in a moment, without anybody's doing.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Fault::Unreachable(_) | Fault::TimedOut(_) | Fault::Sealed(_) => true,
            // 412: a standby has not seen yet what was just written; 429: too much at a time.
            Fault::Refused { status, .. } => *status >= 500 || matches!(status, 412 | 429),
            _ => false,
        }
    }
}
