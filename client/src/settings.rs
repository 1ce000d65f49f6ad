//! What a connection string says, and nothing about connecting.
//!
//! ```text
//!   esdb://            user:password@   host:2113   /   ? tls=false & connectionName=billing
//!   kurrentdb:// kdb:// kurrent://                      keys without regard to case
//!   daybook:// http:// https://
//! ```
//!
//! The form is KurrentDB's, so that a string which works with its clients works here. Where this
//! client differs, it says so:
//! - `tls` is true by default in KurrentDB's clients. This one has no TLS yet: it takes
//!   `tls=false`, and for a loopback host (or `http://`) no option at all. Everything else is
//!   refused, with the way out in the error; nothing is ever sent in the clear by surprise.
//! - `+discover` is accepted with one host, and that host is then used as it is: there is no gossip
//!   to ask yet. Several hosts are refused.
//! - Options that only matter to clusters and TLS are accepted and have no effect; an unknown
//!   option is an error, because it is most likely a misspelt one.

use std::fmt;
use std::time::Duration;

/// The port of a server whose address names none.
pub const PORT_DEFAULT: u16 = 2113;
/// How long a call that does not stream may take, unless told otherwise. KurrentDB's clients use
/// the same.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// How often a connection is probed with an HTTP/2 PING, so that a dead peer is noticed.
pub const KEEP_ALIVE_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
/// How long the answer to a probe may take before the connection counts as dead.
pub const KEEP_ALIVE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Options that clients of KurrentDB understand and that mean nothing to one plain node.
const WITHOUT_EFFECT: [&str; 9] = [
    "tlsverifycert",
    "tlscafile",
    "usercertfile",
    "userkeyfile",
    "maxdiscoverattempts",
    "discoveryinterval",
    "gossiptimeout",
    "nodepreference",
    "throwonappendfailure",
];

/// How to reach a server, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server's name or address. An IPv6 address stands in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How long a call that does not stream may take; none means for ever.
    pub default_deadline: Option<Duration>,
    /// How often the connection is probed; none means never.
    pub keep_alive_interval: Option<Duration>,
    /// How long the answer to a probe may take.
    pub keep_alive_timeout: Duration,
    /// A name by which the server's operator recognises this connection.
    pub connection_name: Option<String>,
    /// Sent with every call, if given.
    pub credentials: Option<Credentials>,
}

/// A login and its password. Its `Debug` form does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub login: String,
    /// The secret.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("login", &self.login).finish_non_exhaustive()
    }
}

/// Why a connection string cannot be used. Never shows the string itself: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// It does not begin with a scheme.
    #[error("the connection string has no scheme; write for example daybook://127.0.0.1:2113")]
    NoScheme,
    /// The scheme is none of ours.
    #[error(
        "'{scheme}://' is not a scheme of an event store; use daybook://, kurrentdb://, kdb://, \
         esdb:// or http://"
    )]
    UnknownScheme {
        /// What stood before `://`.
        scheme: String,
    },
    /// No server is named.
    #[error("the connection string names no host; write for example daybook://127.0.0.1:2113")]
    NoHost,
    /// Several servers are named.
    #[error("the connection string names {count} hosts; this client connects to one, name that")]
    SeveralHosts {
        /// How many.
        count: usize,
    },
    /// A host that is not one.
    #[error("'{host}' is not a host name or address")]
    BadHost {
        /// What stood there.
        host: String,
    },
    /// What follows the host's colon is not a port.
    #[error("'{port}' is not a port; give a number from 1 to 65535")]
    BadPort {
        /// What stood there.
        port: String,
    },
    /// The part before `@` is not `user:password`.
    #[error("what stands before '@' is not user:password with special characters as %XX")]
    BadCredentials,
    /// An option nobody knows.
    #[error("'{key}' is not an option of a connection string; check its spelling")]
    UnknownOption {
        /// The option.
        key: String,
    },
    /// An option with a value that it cannot have.
    #[error("the option {key} is '{value}'; it takes {takes}")]
    BadOption {
        /// The option.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it takes.
        takes: &'static str,
    },
    /// TLS is asked for, or is what the string means because it does not say otherwise.
    #[error(
        "the connection to {host} would use TLS, which this client does not have yet; add \
         tls=false if the network between is yours"
    )]
    TlsNotOffered {
        /// The server.
        host: String,
    },
}

impl Settings {
    /// The settings of a plain connection to `host` and `port`, all else by default.
    #[must_use]
    pub fn plain(host: &str, port: u16) -> Settings {
        Settings {
            host: host.to_owned(),
            port,
            default_deadline: Some(DEADLINE_DEFAULT),
            keep_alive_interval: Some(KEEP_ALIVE_INTERVAL_DEFAULT),
            keep_alive_timeout: KEEP_ALIVE_TIMEOUT_DEFAULT,
            connection_name: None,
            credentials: None,
        }
    }

    /// Reads a connection string.
    ///
    /// ```
    /// use daybook_client::Settings;
    /// let settings = Settings::parse("daybook://127.0.0.1:2113?connectionName=billing")?;
    /// assert_eq!(settings.port, 2113);
    /// assert_eq!(settings.connection_name.as_deref(), Some("billing"));
    /// # Ok::<(), daybook_client::ConnectionStringError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConnectionStringError`] says what to change.
    pub fn parse(text: &str) -> Result<Settings, ConnectionStringError> {
        let (scheme, rest) = text.split_once("://").ok_or(ConnectionStringError::NoScheme)?;
        let tls_by_scheme = tls_of_scheme(scheme)?;
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let address = address.strip_suffix('/').unwrap_or(address);
        let (credentials, hosts) = match address.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(parse_credentials(credentials)?), hosts),
            None => (None, address),
        };
        let count = hosts.split(',').count();
        if count > 1 {
            return Err(ConnectionStringError::SeveralHosts { count });
        }
        let (host, port) = parse_host(hosts)?;
        let mut settings = Settings { credentials, ..Settings::plain(host, port) };
        let tls = settings.apply_options(query)?.or(tls_by_scheme);
        if tls.unwrap_or(!is_loopback(host)) {
            return Err(ConnectionStringError::TlsNotOffered { host: host.to_owned() });
        }
        Ok(settings)
    }

    /// Applies `key=value&…`; returns what it says of TLS.
    fn apply_options(&mut self, query: &str) -> Result<Option<bool>, ConnectionStringError> {
        let mut tls = None;
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key.to_ascii_lowercase().as_str() {
                "tls" => tls = Some(parse_bool("tls", value)?),
                "defaultdeadline" => {
                    self.default_deadline = Some(parse_millis("defaultDeadline", value)?);
                }
                // KurrentDB's clients turn probes off with -1.
                "keepaliveinterval" if value == "-1" => self.keep_alive_interval = None,
                "keepaliveinterval" => {
                    self.keep_alive_interval = Some(parse_millis("keepAliveInterval", value)?);
                }
                "keepalivetimeout" => {
                    self.keep_alive_timeout = parse_millis("keepAliveTimeout", value)?;
                }
                "connectionname" => {
                    let takes = "printable ASCII, other characters as %XX";
                    let name = percent_decode(value)
                        .filter(|name| name.bytes().all(|b| (0x20..0x7f).contains(&b)));
                    let bad = || ConnectionStringError::BadOption {
                        key: "connectionName",
                        value: value.to_owned(),
                        takes,
                    };
                    self.connection_name = Some(name.ok_or_else(bad)?);
                }
                other if WITHOUT_EFFECT.contains(&other) => {}
                _ => return Err(ConnectionStringError::UnknownOption { key: key.to_owned() }),
            }
        }
        Ok(tls)
    }

    /// The server as a URI.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }
}

impl std::str::FromStr for Settings {
    type Err = ConnectionStringError;
    fn from_str(text: &str) -> Result<Settings, ConnectionStringError> {
        Settings::parse(text)
    }
}

/// What a scheme says of TLS: yes, no, or nothing.
fn tls_of_scheme(scheme: &str) -> Result<Option<bool>, ConnectionStringError> {
    let lower = scheme.to_ascii_lowercase();
    match lower.strip_suffix("+discover").unwrap_or(&lower) {
        "http" => Ok(Some(false)),
        "https" => Ok(Some(true)),
        "esdb" | "kurrentdb" | "kurrent" | "kdb" | "daybook" => Ok(None),
        _ => Err(ConnectionStringError::UnknownScheme { scheme: scheme.to_owned() }),
    }
}

fn parse_host(text: &str) -> Result<(&str, u16), ConnectionStringError> {
    let colon = match text.rfind(']') {
        // The colons within an IPv6 address are not the port's.
        Some(bracket) => text[bracket..].find(':').map(|at| bracket + at),
        None => text.rfind(':'),
    };
    let (host, port) = match colon {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    if host.is_empty() {
        return Err(ConnectionStringError::NoHost);
    }
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ipv6 = bracketed.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    if !plain && !ipv6 {
        return Err(ConnectionStringError::BadHost { host: host.to_owned() });
    }
    let port = match port {
        None => PORT_DEFAULT,
        Some(port) => match port.parse() {
            Ok(number) if number > 0 => number,
            _ => return Err(ConnectionStringError::BadPort { port: port.to_owned() }),
        },
    };
    Ok((host, port))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn parse_credentials(text: &str) -> Result<Credentials, ConnectionStringError> {
    let bad = || ConnectionStringError::BadCredentials;
    let (login, password) = text.split_once(':').ok_or_else(bad)?;
    let login = percent_decode(login).filter(|login| !login.is_empty()).ok_or_else(bad)?;
    let password = percent_decode(password).ok_or_else(bad)?;
    // A colon in the login would move the border between the two in the header.
    if login.contains(':') {
        return Err(bad());
    }
    Ok(Credentials { login, password })
}

fn parse_bool(key: &'static str, value: &str) -> Result<bool, ConnectionStringError> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ConnectionStringError::BadOption {
            key,
            value: value.to_owned(),
            takes: "true or false",
        }),
    }
}

fn parse_millis(key: &'static str, value: &str) -> Result<Duration, ConnectionStringError> {
    match value.parse::<u32>() {
        Ok(millis) if millis > 0 => Ok(Duration::from_millis(millis.into())),
        _ => Err(ConnectionStringError::BadOption {
            key,
            value: value.to_owned(),
            takes: "milliseconds, at least 1",
        }),
    }
}

/// Text with each `%XX` replaced by the byte it stands for; none if that is not text.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |b: &u8| char::from(*b).to_digit(16);
        bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConnectionStringError as E;

    #[test]
    fn connection_strings_are_read() {
        let ms = Duration::from_millis;
        let plain = Settings::plain;
        let cases = [
            ("http://127.0.0.1:2113", plain("127.0.0.1", 2113)),
            ("http://store.internal", plain("store.internal", 2113)),
            ("daybook://localhost", plain("localhost", 2113)),
            ("esdb://127.0.0.1:99/?tls=false", plain("127.0.0.1", 99)),
            ("KURRENTDB://store:1?TLS=False", plain("store", 1)),
            ("kdb+discover://store?tls=false", plain("store", 2113)),
            ("esdb+discover://[::1]:7", plain("[::1]", 7)),
            (
                "esdb://store?tls=false&nodePreference=follower&maxDiscoverAttempts=1",
                plain("store", 2113),
            ),
            (
                "kurrent://admin:ch%40nge%3Ait@store:5/?tls=false&defaultDeadline=60000\
                 &keepAliveInterval=1&KEEPALIVETIMEOUT=2&connectionName=a%20b",
                Settings {
                    default_deadline: Some(ms(60_000)),
                    keep_alive_interval: Some(ms(1)),
                    keep_alive_timeout: ms(2),
                    connection_name: Some("a b".to_owned()),
                    credentials: Some(Credentials {
                        login: "admin".to_owned(),
                        password: "ch@nge:it".to_owned(),
                    }),
                    ..plain("store", 5)
                },
            ),
            (
                "http://localhost?keepAliveInterval=-1",
                Settings { keep_alive_interval: None, ..plain("localhost", 2113) },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Settings::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_connection_strings_say_what_to_change() {
        let text = str::to_owned;
        let tls = |host: &str| E::TlsNotOffered { host: host.to_owned() };
        let cases = [
            ("localhost:2113", E::NoScheme),
            ("redis://localhost", E::UnknownScheme { scheme: text("redis") }),
            ("esdb://", E::NoHost),
            ("esdb://:2113", E::NoHost),
            ("esdb://a,b,c?tls=false", E::SeveralHosts { count: 3 }),
            ("esdb://a b", E::BadHost { host: text("a b") }),
            ("esdb://[zz]:1", E::BadHost { host: text("[zz]") }),
            ("esdb://localhost:0", E::BadPort { port: text("0") }),
            ("esdb://localhost:65536", E::BadPort { port: text("65536") }),
            ("esdb://admin@localhost", E::BadCredentials),
            ("esdb://admin:%zz@localhost", E::BadCredentials),
            ("esdb://store", tls("store")),
            ("esdb://localhost?tls=true", tls("localhost")),
            ("https://localhost", tls("localhost")),
            ("esdb://localhost?tsl=false", E::UnknownOption { key: text("tsl") }),
            (
                "esdb://localhost?tls=no",
                E::BadOption { key: "tls", value: text("no"), takes: "true or false" },
            ),
            (
                "esdb://localhost?defaultDeadline=0",
                E::BadOption {
                    key: "defaultDeadline",
                    value: text("0"),
                    takes: "milliseconds, at least 1",
                },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Settings::parse(text), Err(expected), "{text}");
        }
        assert!(tls("store").to_string().contains("tls=false"));
    }

    #[test]
    fn a_password_is_never_shown() {
        let settings = Settings::parse("http://admin:hunter2@localhost").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
