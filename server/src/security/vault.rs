//! Secrets and certificates from HashiCorp Vault or OpenBao, which speak the same.
//!
//! ```text
//!   session   the token: read from a file or got for a service account's, renewed before it ends
//!      │
//!   keeper ── call ──> GET  /v1/MOUNT/data/PATH       KV version 2, every --vault-poll
//!      │               POST /v1/MOUNT/issue/ROLE      PKI, after 3/5 to 2/3 of a certificate's life
//!      └── held <── read ── Source <── TLS, tokens, the first administrator, read models
//!           └ changed? ──> Security::reload: new connections use the new certificate
//! ```
//!
//! A start waits for all of it, and not for long: without its secrets a server cannot be what it is
//! told to be. Later nothing waits: what was fetched stays in use, and that Vault does not answer is
//! told, counted and tried again.
//!
//! INVARIANTS: what comes from Vault is in memory only, in [`Held`], and in no message and no log
//! line: neither are answers, nor what a parser says of them. The token goes to the one address that
//! was given, never where an answer points. What is asked has a limit in bytes and time.
//!
//! Left out on purpose: leases of dynamic secrets, response wrapping, other engines.

mod call;
mod certificate;
mod fault;
mod held;
mod keeper;
mod name;
mod session;
mod settings;

pub use certificate::CertificateWish;
pub use fault::{Fault, VaultError};
pub use held::{Held, Secret, Wish};
pub use keeper::{Keeper, POLL_DEFAULT, Seams, StartError};
pub use name::{SecretName, check_path};
pub use settings::{Auth, Settings, TIMEOUT, TOKEN_FILE, VaultUrl};

#[cfg(test)]
mod tests;
