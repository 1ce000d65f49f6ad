//! What a server is told at its start, and which of it is refused.
//!
//! Every setting is a flag, an environment variable `DAYBOOK_…`, and a key of a settings file: see
//! `cli::settings` for which of them counts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Where the server listens unless told otherwise: KurrentDB's port, this machine only.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:2113";
/// Where its data is unless told otherwise.
pub const DATA_DEFAULT: &str = "./data";

/// A setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The flag's name.
    pub name: String,
    /// What it is; none if it is not set, and other words if it may hold a secret.
    pub value: Option<String>,
    /// Who said it: default, flag, a variable's name, or a file's.
    pub from: String,
}

/// Who may be able to reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Programs on this machine.
    ThisMachine,
    /// Anyone: connections are encrypted, and everyone is asked who they are.
    Protected,
    /// Anyone: `--insecure` was spelled out.
    Anyone,
}

/// Why the server cannot be set up so.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address does not parse or resolve.
    #[error("cannot listen on '{listen}': {source}; give HOST:PORT, for example {LISTEN_DEFAULT}")]
    BadAddress {
        /// What was given.
        listen: String,
        /// Why it is none.
        source: io::Error,
    },
    /// The name resolves to nothing.
    #[error("cannot listen on '{listen}': the name has no address")]
    NoAddress {
        /// What was given.
        listen: String,
    },
    /// Others could reach the server.
    #[error(
        "refusing to listen on {address}: other machines could reach it, and connections are not \
         encrypted or nobody is asked who they are, so anyone there could read, write and delete \
         every event. Give --tls-cert and --tls-key (and not --auth off), or listen on \
         {LISTEN_DEFAULT}, or say --insecure if the network is yours alone"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
}

/// The addresses that `listen` means.
///
/// # Errors
/// [`ConfigError`] if it means none, or one that more than `exposure` could reach.
pub fn listen_addresses(listen: &str, exposure: Exposure) -> Result<Vec<SocketAddr>, ConfigError> {
    let found = listen
        .to_socket_addrs()
        .map_err(|source| ConfigError::BadAddress { listen: listen.to_owned(), source })?;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() {
        return Err(ConfigError::NoAddress { listen: listen.to_owned() });
    }
    if exposure == Exposure::ThisMachine
        && let Some(exposed) = addresses.iter().find(|address| !is_this_machine(address))
    {
        return Err(ConfigError::Exposed { address: *exposed });
    }
    Ok(addresses)
}

/// Whether only programs on this machine can reach `address`.
#[must_use]
pub fn is_this_machine(address: &SocketAddr) -> bool {
    // ::ffff:127.0.0.1 is loopback too, in other clothes.
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_unless_spelled_out() {
        for (listen, exposure, allowed) in [
            ("127.0.0.1:2113", Exposure::ThisMachine, true),
            ("127.8.8.8:1", Exposure::ThisMachine, true),
            ("[::1]:2113", Exposure::ThisMachine, true),
            ("[::ffff:127.0.0.1]:2113", Exposure::ThisMachine, true),
            ("0.0.0.0:2113", Exposure::ThisMachine, false),
            ("[::]:2113", Exposure::ThisMachine, false),
            ("10.0.0.1:2113", Exposure::ThisMachine, false),
            ("0.0.0.0:2113", Exposure::Anyone, true),
        ] {
            let found = listen_addresses(listen, exposure);
            assert_eq!(found.is_ok(), allowed, "{listen} {exposure:?}: {found:?}");
        }
    }

    #[test]
    fn a_protected_server_listens_anywhere() {
        assert!(listen_addresses("0.0.0.0:2113", Exposure::Protected).is_ok());
    }

    #[test]
    fn a_refusal_names_the_way_out() {
        let refused = listen_addresses("0.0.0.0:1", Exposure::ThisMachine).expect_err("exposed");
        assert!(refused.to_string().contains("--insecure"), "{refused}");
        let bad = listen_addresses("2113", Exposure::ThisMachine).expect_err("no address");
        assert!(bad.to_string().contains("HOST:PORT"), "{bad}");
    }
}
