//! Where Vault is, and how this server proves to it who it is.

use std::path::PathBuf;
use std::time::Duration;

use daybook_client::Tls;
use http::Uri;

/// Where Kubernetes puts the token of a pod's service account.
pub const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How long an answer may take unless told otherwise: it issues a certificate in tenths of a second.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How Vault is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it is.
    pub url: VaultUrl,
    /// The namespace that paths lie in, if it has such.
    pub namespace: Option<String>,
    /// How this server proves who it is.
    pub auth: Auth,
    /// How often secrets are looked at.
    pub poll: Duration,
    /// How long one answer may take, connecting included.
    pub timeout: Duration,
}

/// How a server proves to Vault who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// By a token in a file, which may be replaced at any time.
    TokenFile(PathBuf),
    /// By the token of its service account in Kubernetes.
    Kubernetes {
        /// Where the method is mounted, below `auth/`.
        mount: String,
        /// The role that it logs in for.
        role: String,
        /// The file that has the service account's token.
        token_file: PathBuf,
    },
}

/// Where Vault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultUrl {
    /// As it was given.
    pub text: String,
    /// The host; an IPv6 address in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it proves who it is.
    pub tls: Option<Tls>,
}

impl VaultUrl {
    /// Reads a URL; `ca_file` has who may vouch for its server.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, ca_file: Option<PathBuf>) -> Result<VaultUrl, String> {
        let form = "give https://HOST:8200";
        // What cannot be read may hold a password: it is not repeated.
        let uri: Uri = text.parse().map_err(|error| format!("no URL: {error}; {form}"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("no URL; {form}"));
        };
        if authority.as_str().contains('@') || uri.path() != "/" || uri.query().is_some() {
            return Err(format!("more than a scheme, a host and a port; {form}"));
        }
        let host = authority.host();
        let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        let (tls, port) = match scheme {
            "https" => (Some(Tls { ca_file, ..Tls::default() }), 443),
            "http" if ca_file.is_some() => {
                return Err(format!("an authority's certificate has no use without TLS; {form}"));
            }
            // An agent beside this server. Over any network the token could be read.
            "http" if local => (None, 80),
            _ => return Err(format!("it is not secure; {form}")),
        };
        Ok(VaultUrl {
            text: text.trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(port),
            tls,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_sent_to_secure_places_only() {
        for (text, found) in [
            ("https://vault.bank.example:8200", Some(("vault.bank.example", 8200, true))),
            ("https://vault.bank.example/", Some(("vault.bank.example", 443, true))),
            ("http://127.0.0.1:8100", Some(("127.0.0.1", 8100, false))),
            ("http://[::1]:8100", Some(("[::1]", 8100, false))),
            ("http://vault.bank.example:8200", None),
            ("vault.bank.example:8200", None),
            ("https://user:word@vault.bank.example", None),
            ("https://vault.bank.example/v1", None),
            ("ftp://localhost", None),
            ("", None),
        ] {
            let url = VaultUrl::parse(text, None);
            let said = url.as_ref().ok().map(|u| (u.host.as_str(), u.port, u.tls.is_some()));
            assert_eq!(said, found, "{text}: {url:?}");
            assert!(!format!("{:?}", url.err()).contains("word"));
        }
        assert!(VaultUrl::parse("http://localhost:1", Some("ca.crt".into())).is_err());
    }
}
