//! By which names a server is called that asks nobody who they are.
//!
//! Such a server trusts its address: only this machine reaches it. A browser on this machine is
//! reached by any page that is open there, and a page whose own name was made to lead to this
//! machine (DNS rebinding) is of the same origin for the browser. What it cannot change is the name
//! that it asks for: its own. So requests must name an address, `localhost`, or a name that was
//! told.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use crate::http::problem::{Kind, Problem};

/// The names. A clone shares them.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Arc<[String]>,
}

impl Hosts {
    /// Addresses, `localhost`, and these.
    #[must_use]
    pub fn new(names: &[String]) -> Hosts {
        Hosts { names: names.iter().map(|name| plain(name).to_ascii_lowercase()).collect() }
    }

    /// Asks that a request names the server by one of them. What names none is no browser's.
    ///
    /// # Errors
    /// [`Problem`] says which name was asked for, and what to do.
    pub fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        // HTTP/2 says it in the path's place; a header beside it must not say something else.
        let asked = uri.authority().map(Authority::as_str);
        let headers = headers.get_all(HOST).iter();
        let said = headers.map(|value| value.to_str().unwrap_or("an unreadable name"));
        match said.chain(asked).find(|host| !self.has(host)) {
            None => Ok(()),
            Some(host) => {
                let host = host.get(..host.floor_char_boundary(255)).unwrap_or_default();
                let detail = format!(
                    "this server asks nobody who they are, so it answers to addresses and to \
                     localhost only, and not to '{host}'; start it with --host-name if that is \
                     its name"
                );
                Err(Problem::new(Kind::OtherHost, detail))
            }
        }
    }

    fn has(&self, host: &str) -> bool {
        // What nearly every request names, without a copy.
        if host.parse::<SocketAddr>().is_ok() {
            return true;
        }
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = plain(authority.host()).to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.names.contains(&name)
    }
}

/// A name without the dot that may end it.
fn plain(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_names_that_no_other_site_can_have_are_answered_to() {
        let hosts = Hosts::new(&["Ledger.Internal.".to_owned()]);
        let cases = [
            (None, None, true),
            (Some("127.0.0.1:2113"), None, true),
            (Some("[::1]:2113"), None, true),
            (Some("localhost"), None, true),
            (Some("LOCALHOST.:80"), None, true),
            (Some("app.localhost:2113"), None, true),
            (Some("ledger.internal:2113"), None, true),
            (Some("evil.example:2113"), None, false),
            (Some("localhost.evil.example"), None, false),
            (Some("127.0.0.1.evil.example"), None, false),
            (Some("evil.example\u{fc}"), None, false),
            (Some(""), None, false),
            (None, Some("http://127.0.0.1:2113/"), true),
            (None, Some("http://evil.example:2113/"), false),
            (Some("127.0.0.1"), Some("http://evil.example/"), false),
            (Some("evil.example"), Some("http://127.0.0.1/"), false),
        ];
        for (host, uri, good) in cases {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, HeaderValue::from_bytes(host.as_bytes()).expect("a header"));
            }
            let uri = Uri::from_static(uri.unwrap_or("/v1/streams/a"));
            let found = hosts.check(&headers, &uri);
            assert_eq!(found.is_ok(), good, "{host:?} {uri} {found:?}");
        }
    }
}
