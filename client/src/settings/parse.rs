//! Reading a connection string.
//!
//! INVARIANT: an option that is misspelt, or has a value it cannot have, is an error and never
//! passed over: a connection must not be less secure, or go elsewhere, than its string says.

use std::path::PathBuf;
use std::time::Duration;

use super::{
    Cluster, Credentials, Identity, NodeAddress, NodePreference, PORT_DEFAULT, Settings, Tls,
    Verification,
};

/// Hosts that a string may name: more than the largest cluster has.
const HOSTS_MAX: usize = 64;
/// Rounds that a string may ask for: what takes longer is not worth waiting for.
const ATTEMPTS_MAX: u64 = 10_000;
/// The shortest `gossipTimeout`, in milliseconds. What is shorter was meant as seconds: the
/// clients do not agree on the unit, and no network between cluster and client is that sure.
const GOSSIP_TIMEOUT_MIN_MS: u64 = 100;

const MILLIS: &str = "milliseconds, at least 1";
const MILLIS_OR_OFF: &str = "milliseconds, at least 1, or -1 for never";

/// Why a connection string cannot be used. Never shows the string itself: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// It does not begin with a scheme.
    #[error("the connection string has no scheme; write for example daybook://127.0.0.1:2113")]
    NoScheme,
    /// The scheme is none of ours.
    #[error(
        "'{scheme}://' is not a scheme of an event store; use daybook://, kurrentdb://, kdb://, \
         esdb:// or http://, or one of them with +discover"
    )]
    UnknownScheme {
        /// What stood before `://`.
        scheme: String,
    },
    /// No server is named.
    #[error("the connection string names no host; write for example daybook://127.0.0.1:2113")]
    NoHost,
    /// Too many servers are named.
    #[error("the connection string names {count} hosts; name at most {HOSTS_MAX} of the cluster")]
    TooManyHosts {
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
    /// A certificate without its key, or a key without its certificate.
    #[error(
        "the option {given} is given without {missing}; a client proves who it is with both, so \
         give {missing} too, or neither"
    )]
    HalfIdentity {
        /// The option that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
}

type Parsed<T> = Result<T, ConnectionStringError>;

/// The settings that `text` describes.
pub(super) fn parse(text: &str) -> Parsed<Settings> {
    let (scheme, rest) = text.split_once("://").ok_or(ConnectionStringError::NoScheme)?;
    let scheme = Scheme::parse(scheme)?;
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let address = address.strip_suffix('/').unwrap_or(address);
    let (credentials, hosts) = match address.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(parse_credentials(credentials)?), hosts),
        None => (None, address),
    };
    let count = hosts.split(',').count();
    if count > HOSTS_MAX {
        return Err(ConnectionStringError::TooManyHosts { count });
    }
    let seeds = hosts.split(',').map(parse_host).collect::<Parsed<Vec<_>>>()?;
    let loopback = seeds.iter().all(|seed| is_loopback(&seed.host));
    let first = seeds.first().ok_or(ConnectionStringError::NoHost)?.clone();
    let mut options = Options::new(Cluster::of(seeds));
    options.settings.credentials = credentials;
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        options.apply(key, value)?;
    }
    let plain_by_default = match scheme.meaning {
        Meaning::Plain => true,
        Meaning::Tls => false,
        Meaning::Ours => loopback,
        Meaning::KurrentDb => false,
    };
    let tls = options.identity()?;
    let NodeAddress { host, port } = first;
    Ok(Settings {
        host,
        port,
        tls: options.tls.unwrap_or(!plain_by_default).then_some(tls),
        cluster: (count > 1 || scheme.discover).then_some(options.cluster),
        ..options.settings
    })
}

/// What stands before `://`.
struct Scheme {
    meaning: Meaning,
    discover: bool,
}

/// What a scheme says of TLS.
enum Meaning {
    Plain,
    Tls,
    /// TLS, except to this machine itself.
    Ours,
    /// TLS.
    KurrentDb,
}

impl Scheme {
    fn parse(scheme: &str) -> Parsed<Scheme> {
        let lower = scheme.to_ascii_lowercase();
        let plain = lower.strip_suffix("+discover");
        let meaning = match plain.unwrap_or(&lower) {
            "http" => Meaning::Plain,
            "https" => Meaning::Tls,
            "daybook" => Meaning::Ours,
            "esdb" | "kurrentdb" | "kurrent" | "kdb" => Meaning::KurrentDb,
            _ => return Err(ConnectionStringError::UnknownScheme { scheme: scheme.to_owned() }),
        };
        Ok(Scheme { meaning, discover: plain.is_some() })
    }
}

/// What the options have said so far.
struct Options {
    settings: Settings,
    cluster: Cluster,
    tls: Option<bool>,
    secured: Tls,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl Options {
    fn new(cluster: Cluster) -> Options {
        Options {
            settings: Settings::plain("", PORT_DEFAULT),
            cluster,
            tls: None,
            secured: Tls::default(),
            certificate_file: None,
            key_file: None,
        }
    }

    fn apply(&mut self, key: &str, value: &str) -> Parsed<()> {
        match key.to_ascii_lowercase().as_str() {
            "tls" => self.tls = Some(parse_bool("tls", value)?),
            "tlsverifycert" => {
                let verified = parse_bool("tlsVerifyCert", value)?;
                self.secured.verification =
                    if verified { Verification::Full } else { Verification::Off };
            }
            "tlscafile" => self.secured.ca_file = Some(parse_path("tlsCaFile", value)?),
            "usercertfile" => self.certificate_file = Some(parse_path("userCertFile", value)?),
            "userkeyfile" => self.key_file = Some(parse_path("userKeyFile", value)?),
            "nodepreference" => self.settings.node_preference = parse_preference(value)?,
            "maxdiscoverattempts" => {
                let count = parse_number(value).filter(|n| (1..=ATTEMPTS_MAX).contains(n));
                let count = count.and_then(|n| u32::try_from(n).ok());
                let takes = "a number from 1 to 10000";
                self.cluster.attempts_max = or_bad(count, "maxDiscoverAttempts", value, takes)?;
            }
            "discoveryinterval" => {
                self.cluster.interval = parse_millis("discoveryInterval", value)?;
            }
            "gossiptimeout" => {
                let millis = parse_number(value).filter(|ms| *ms >= GOSSIP_TIMEOUT_MIN_MS);
                let takes = "milliseconds, at least 100 (some clients take seconds here)";
                let millis = or_bad(millis, "gossipTimeout", value, takes)?;
                self.cluster.gossip_timeout = Duration::from_millis(millis);
            }
            "defaultdeadline" => {
                self.settings.default_deadline = Some(parse_millis("defaultDeadline", value)?);
            }
            "keepaliveinterval" => {
                self.settings.keep_alive_interval = parse_or_off("keepAliveInterval", value)?;
            }
            "keepalivetimeout" => {
                // Without a limit to its answer, a probe finds out nothing.
                match parse_or_off("keepAliveTimeout", value)? {
                    Some(timeout) => self.settings.keep_alive_timeout = timeout,
                    None => self.settings.keep_alive_interval = None,
                }
            }
            "connectionname" => {
                let takes = "printable ASCII, other characters as %XX";
                let printable = |name: &String| name.bytes().all(|b| (0x20..0x7f).contains(&b));
                let name = percent_decode(value).filter(printable);
                self.settings.connection_name = Some(or_bad(name, "connectionName", value, takes)?);
            }
            "throwonappendfailure" => _ = parse_bool("throwOnAppendFailure", value)?,
            _ => return Err(ConnectionStringError::UnknownOption { key: key.to_owned() }),
        }
        Ok(())
    }

    /// What was said of TLS, its two halves of an identity put together.
    fn identity(&mut self) -> Parsed<Tls> {
        let identity = match (self.certificate_file.take(), self.key_file.take()) {
            (Some(certificate_file), Some(key_file)) => {
                Some(Identity { certificate_file, key_file })
            }
            (None, None) => None,
            (given, _) => {
                let (cert, key) = ("userCertFile", "userKeyFile");
                let (given, missing) = if given.is_some() { (cert, key) } else { (key, cert) };
                return Err(ConnectionStringError::HalfIdentity { given, missing });
            }
        };
        Ok(Tls { identity, ..self.secured.clone() })
    }
}

fn parse_host(text: &str) -> Parsed<NodeAddress> {
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
    if !is_host(host) {
        return Err(ConnectionStringError::BadHost { host: host.to_owned() });
    }
    let port = match port {
        None => PORT_DEFAULT,
        Some(port) => match port.parse() {
            Ok(number) if number > 0 => number,
            _ => return Err(ConnectionStringError::BadPort { port: port.to_owned() }),
        },
    };
    Ok(NodeAddress { host: host.to_owned(), port })
}

/// Whether `host` may stand in a URI: a name, an IPv4 address, an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ipv6 = bracketed.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    !host.is_empty() && (plain || ipv6)
}

impl NodeAddress {
    /// The address that a server tells of itself or of another; none if it cannot be one.
    pub(crate) fn told(host: &str, port: u32) -> Option<NodeAddress> {
        let bare_ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        let host = if bare_ipv6 { format!("[{host}]") } else { host.to_owned() };
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        is_host(&host).then_some(NodeAddress { host, port })
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn parse_credentials(text: &str) -> Parsed<Credentials> {
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

fn or_bad<T>(found: Option<T>, key: &'static str, value: &str, takes: &'static str) -> Parsed<T> {
    let value = || value.to_owned();
    found.ok_or_else(|| ConnectionStringError::BadOption { key, value: value(), takes })
}

fn parse_bool(key: &'static str, value: &str) -> Parsed<bool> {
    let found = match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    or_bad(found, key, value, "true or false")
}

fn parse_preference(value: &str) -> Parsed<NodePreference> {
    let found = match value.to_ascii_lowercase().as_str() {
        "leader" => Some(NodePreference::Leader),
        "follower" => Some(NodePreference::Follower),
        "readonlyreplica" => Some(NodePreference::ReadOnlyReplica),
        "random" => Some(NodePreference::Random),
        _ => None,
    };
    or_bad(found, "nodePreference", value, "leader, follower, readOnlyReplica or random")
}

fn parse_number(value: &str) -> Option<u64> {
    value.parse::<u32>().ok().map(u64::from)
}

fn parse_millis(key: &'static str, value: &str) -> Parsed<Duration> {
    let millis = parse_number(value).filter(|millis| *millis > 0);
    or_bad(millis, key, value, MILLIS).map(Duration::from_millis)
}

/// As [`parse_millis`]; KurrentDB's clients turn probes off with -1.
fn parse_or_off(key: &'static str, value: &str) -> Parsed<Option<Duration>> {
    if value == "-1" {
        return Ok(None);
    }
    let millis = parse_number(value).filter(|millis| *millis > 0);
    or_bad(millis, key, value, MILLIS_OR_OFF).map(|millis| Some(Duration::from_millis(millis)))
}

fn parse_path(key: &'static str, value: &str) -> Parsed<PathBuf> {
    let path = percent_decode(value).filter(|path| !path.is_empty()).map(PathBuf::from);
    or_bad(path, key, value, "the path of a PEM file, special characters as %XX")
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
mod tests;
