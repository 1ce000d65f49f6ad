//! How callers prove who they are, and how connections are protected, in numbers.

use daybook_model::Timestamp;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::metrics::register;

/// How a caller may prove who it is, as labels.
const PROOFS: [&str; 4] = ["password", "token", "api_token", "certificate"];
/// What may come of it.
const OUTCOMES: [&str; 4] = ["accepted", "wrong", "locked_out", "unavailable"];
/// Why a handshake may fail.
const FAILURES: [&str; 4] = ["not_tls", "timed_out", "client_certificate", "other"];

/// What is known since the start. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct SecurityMetrics {
    authentications: IntCounterVec,
    handshake_failures: IntCounterVec,
    not_after: IntGauge,
    reload_failures: IntCounter,
    connections_refused: IntCounter,
    strangers_refused: IntCounter,
    answers_dropped: IntCounter,
    insecure: IntGauge,
}

/// What came of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They are somebody's.
    Accepted,
    /// They are nobody's, or no more.
    Wrong,
    /// Too many were wrong; these were not looked at.
    LockedOut,
    /// They could not be looked at.
    Unavailable,
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The client does not speak TLS.
    NotTls,
    /// It took too long.
    TimedOut,
    /// The client's certificate is missing, or not believed.
    ClientCertificate,
    /// Anything else: no common version, a client that does not believe ours.
    Other,
}

impl SecurityMetrics {
    /// Nothing has happened yet.
    #[must_use]
    pub(super) fn new(registry: &Registry) -> SecurityMetrics {
        let authentications = Opts::new(
            "daybook_authentications_total",
            "Credentials that came with requests, by their kind and what came of them.",
        );
        let authentications =
            register(registry, IntCounterVec::new(authentications, &["proof", "outcome"]));
        for (proof, outcome) in PROOFS.iter().flat_map(|proof| OUTCOMES.map(|o| (*proof, o))) {
            authentications.with_label_values(&[proof, outcome]).inc_by(0);
        }
        let failures = Opts::new(
            "daybook_tls_handshake_failures_total",
            "Connections that did not become secure ones, by reason.",
        );
        let handshake_failures = register(registry, IntCounterVec::new(failures, &["reason"]));
        for reason in FAILURES {
            handshake_failures.with_label_values(&[reason]).inc_by(0);
        }
        let gauge = |name, help| register(registry, IntGauge::new(name, help));
        SecurityMetrics {
            authentications,
            handshake_failures,
            not_after: gauge(
                "daybook_tls_certificate_not_after_seconds",
                "When the server's certificate ends, in seconds since 1970; 0 without TLS.",
            ),
            reload_failures: register(
                registry,
                IntCounter::new(
                    "daybook_tls_reload_failures_total",
                    "Changed files of certificates, keys or tokens' issuers that could not be used.",
                ),
            ),
            connections_refused: register(
                registry,
                IntCounter::new(
                    "daybook_connections_refused_total",
                    "Connections closed at once, because their address has as many as one may.",
                ),
            ),
            strangers_refused: register(
                registry,
                IntCounter::new(
                    "daybook_strangers_refused_total",
                    "Calls without a proof that were refused, because too many such are open.",
                ),
            ),
            answers_dropped: register(
                registry,
                IntCounter::new(
                    "daybook_answers_dropped_total",
                    "Large answers dropped, because nobody read them or their caller is no more.",
                ),
            ),
            insecure: gauge(
                "daybook_insecure",
                "1 if other machines reach this server without TLS or without being asked who \
                 they are.",
            ),
        }
    }

    /// Counts credentials.
    pub fn authenticated(&self, proof: &'static str, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Accepted => "accepted",
            Outcome::Wrong => "wrong",
            Outcome::LockedOut => "locked_out",
            Outcome::Unavailable => "unavailable",
        };
        self.authentications.with_label_values(&[proof, outcome]).inc();
    }

    /// Counts a handshake that failed.
    pub fn handshake_failed(&self, reason: HandshakeFailure) {
        let reason = match reason {
            HandshakeFailure::NotTls => "not_tls",
            HandshakeFailure::TimedOut => "timed_out",
            HandshakeFailure::ClientCertificate => "client_certificate",
            HandshakeFailure::Other => "other",
        };
        self.handshake_failures.with_label_values(&[reason]).inc();
    }

    /// The server shows a certificate that ends then.
    pub fn certificate_not_after(&self, end: Timestamp) {
        self.not_after.set(end.0 / 1_000_000_000);
    }

    /// When that certificate ends, to the second; none without TLS.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        let seconds = self.not_after.get();
        (seconds > 0).then(|| Timestamp(seconds.saturating_mul(1_000_000_000)))
    }

    /// Changed files could not be used.
    pub fn reload_failed(&self) {
        self.reload_failures.inc();
    }

    /// An address has as many connections as it may, and wanted another.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// More calls of those who prove nothing are open than may.
    pub fn stranger_refused(&self) {
        self.strangers_refused.inc();
    }

    /// An answer was dropped that its client did not read, or may not have any more.
    pub fn answer_dropped(&self) {
        self.answers_dropped.inc();
    }

    /// Other machines reach the server, and it does not protect itself.
    pub fn insecure(&self) {
        self.insecure.set(1);
    }
}
