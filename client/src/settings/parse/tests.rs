use super::*;
use ConnectionStringError as E;

fn node(host: &str, port: u16) -> NodeAddress {
    NodeAddress { host: host.to_owned(), port }
}

fn plain(host: &str, port: u16) -> Settings {
    Settings::plain(host, port)
}

fn secure(host: &str, port: u16) -> Settings {
    Settings { tls: Some(Tls::default()), ..plain(host, port) }
}

/// The settings of a plain cluster of `seeds`.
fn cluster(seeds: &[(&str, u16)]) -> Settings {
    let (host, port) = seeds[0];
    let seeds = seeds.iter().map(|(host, port)| node(host, *port)).collect();
    Settings { cluster: Some(Cluster::of(seeds)), ..plain(host, port) }
}

#[test]
fn connection_strings_are_read() {
    let ms = Duration::from_millis;
    let cases = [
        ("http://127.0.0.1:2113", plain("127.0.0.1", 2113)),
        ("http://store.internal", plain("store.internal", 2113)),
        ("esdb://127.0.0.1:99/?tls=false", plain("127.0.0.1", 99)),
        ("KURRENTDB://store:1?TLS=False", plain("store", 1)),
        ("kdb+discover://store?tls=false", cluster(&[("store", 2113)])),
        ("daybook+discover://[::1]:7", cluster(&[("[::1]", 7)])),
        (
            "esdb://a,b:2114,[::1]:5?tls=false&throwOnAppendFailure=false",
            cluster(&[("a", 2113), ("b", 2114), ("[::1]", 5)]),
        ),
        (
            "esdb://a,b?tls=false&nodePreference=FOLLOWER&maxDiscoverAttempts=1\
             &discoveryInterval=7&gossipTimeout=100",
            Settings {
                node_preference: NodePreference::Follower,
                cluster: Some(Cluster {
                    attempts_max: 1,
                    interval: ms(7),
                    gossip_timeout: ms(100),
                    ..Cluster::of(vec![node("a", 2113), node("b", 2113)])
                }),
                ..plain("a", 2113)
            },
        ),
        (
            "esdb://store?nodePreference=readOnlyReplica",
            Settings { node_preference: NodePreference::ReadOnlyReplica, ..secure("store", 2113) },
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
        (
            "esdb://store?tlsVerifyCert=false&tlsCaFile=/etc/a%20b.pem&userCertFile=c.pem\
             &userKeyFile=k.pem",
            Settings {
                tls: Some(Tls {
                    verification: Verification::Off,
                    ca_file: Some("/etc/a b.pem".into()),
                    identity: Some(Identity {
                        certificate_file: "c.pem".into(),
                        key_file: "k.pem".into(),
                    }),
                }),
                ..plain("store", 2113)
            },
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn only_the_loopback_under_our_own_scheme_is_reached_in_the_clear_unasked() {
    for (text, encrypted) in [
        ("daybook://localhost", false),
        ("daybook://127.0.0.2", false),
        ("daybook://[::1]", false),
        ("daybook://localhost,127.0.0.1", false),
        ("daybook://localhost,store", true),
        ("daybook://store", true),
        ("daybook://localhost?tls=true", true),
        ("esdb://localhost", true),
        ("kurrentdb://127.0.0.1", true),
        ("kurrentdb+discover://store", true),
        ("esdb://store?tls=false", false),
        ("http://store", false),
        ("https://localhost", true),
        ("https://localhost?tls=false", false),
    ] {
        assert_eq!(parse(text).map(|settings| settings.tls.is_some()), Ok(encrypted), "{text}");
    }
}

#[test]
fn bad_connection_strings_say_what_to_change() {
    let text = str::to_owned;
    let bad = |key, value, takes| E::BadOption { key, value: text(value), takes };
    let half = |given, missing| E::HalfIdentity { given, missing };
    let preferences = "leader, follower, readOnlyReplica or random";
    let gossip = "milliseconds, at least 100 (some clients take seconds here)";
    let attempts = "a number from 1 to 10000";
    let path = "the path of a PEM file, special characters as %XX";
    let cases = [
        ("localhost:2113", E::NoScheme),
        ("redis://localhost", E::UnknownScheme { scheme: text("redis") }),
        ("esdb+discover+discover://a", E::UnknownScheme { scheme: text("esdb+discover+discover") }),
        ("esdb://", E::NoHost),
        ("esdb://:2113", E::NoHost),
        ("esdb://a,,b", E::NoHost),
        ("esdb://a b", E::BadHost { host: text("a b") }),
        ("esdb://a,b/c", E::BadHost { host: text("b/c") }),
        ("esdb://[zz]:1", E::BadHost { host: text("[zz]") }),
        ("esdb://localhost:0", E::BadPort { port: text("0") }),
        ("esdb://a:1,b:65536", E::BadPort { port: text("65536") }),
        ("esdb://admin@localhost", E::BadCredentials),
        ("esdb://admin:%zz@localhost", E::BadCredentials),
        ("esdb://localhost?tsl=false", E::UnknownOption { key: text("tsl") }),
        ("esdb://localhost?tls=no", bad("tls", "no", "true or false")),
        ("esdb://a?tlsVerifyCert=", bad("tlsVerifyCert", "", "true or false")),
        ("esdb://a?tlsCaFile=", bad("tlsCaFile", "", path)),
        ("esdb://a?userCertFile=c", half("userCertFile", "userKeyFile")),
        ("esdb://a?userKeyFile=k", half("userKeyFile", "userCertFile")),
        ("esdb://a?nodePreference=king", bad("nodePreference", "king", preferences)),
        ("esdb://a?gossipTimeout=5", bad("gossipTimeout", "5", gossip)),
        ("esdb://a?maxDiscoverAttempts=0", bad("maxDiscoverAttempts", "0", attempts)),
        ("esdb://a?maxDiscoverAttempts=10001", bad("maxDiscoverAttempts", "10001", attempts)),
        ("esdb://localhost?defaultDeadline=0", bad("defaultDeadline", "0", MILLIS)),
        ("esdb://a?keepAliveTimeout=0", bad("keepAliveTimeout", "0", MILLIS_OR_OFF)),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text), Err(expected), "{text}");
    }
    let crowd = format!("esdb://{}", ["a"; HOSTS_MAX + 1].join(","));
    assert_eq!(parse(&crowd), Err(E::TooManyHosts { count: HOSTS_MAX + 1 }));
}

#[test]
fn a_password_is_never_shown() {
    let settings = parse("http://admin:hunter2@localhost").unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn an_address_that_a_server_tells_is_checked_like_any_other() {
    assert_eq!(NodeAddress::told("::1", 7), Some(node("[::1]", 7)));
    assert_eq!(NodeAddress::told("[::1]", 7), Some(node("[::1]", 7)));
    assert_eq!(NodeAddress::told("b.internal", 2113), Some(node("b.internal", 2113)));
    for (host, port) in [("", 1), ("a b", 1), ("a/b", 1), ("a", 0), ("a", 65_536)] {
        assert_eq!(NodeAddress::told(host, port), None, "{host} {port}");
    }
}
