//! What is asked of Vault, in numbers.

use std::time::Duration;

use daybook_model::Timestamp;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::metrics::register;

/// What is asked, as labels.
const ASKED: [&str; 4] = ["login", "token", "read", "issue"];
/// What comes of it.
const OUTCOMES: [&str; 2] = ["answered", "failed"];

/// What Vault is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A token.
    Login,
    /// How long a token holds, or that it hold longer.
    Token,
    /// A secret.
    Read,
    /// A certificate.
    Issue,
}

impl Asked {
    fn label(self) -> &'static str {
        match self {
            Asked::Login => "login",
            Asked::Token => "token",
            Asked::Read => "read",
            Asked::Issue => "issue",
        }
    }
}

/// What is known since the start. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct VaultMetrics {
    requests: IntCounterVec,
    changes: IntCounter,
    failing: IntGauge,
    renewal_due: IntGauge,
}

impl Default for VaultMetrics {
    /// Nobody looks at these yet.
    fn default() -> VaultMetrics {
        VaultMetrics::new(&Registry::new())
    }
}

impl VaultMetrics {
    /// Nothing has happened yet.
    #[must_use]
    pub(super) fn new(registry: &Registry) -> VaultMetrics {
        let requests = Opts::new(
            "daybook_vault_requests_total",
            "What was asked of Vault, by its kind and what came of it.",
        );
        let requests = register(registry, IntCounterVec::new(requests, &["asked", "outcome"]));
        for (asked, outcome) in ASKED.iter().flat_map(|asked| OUTCOMES.map(|o| (*asked, o))) {
            requests.with_label_values(&[asked, outcome]).inc_by(0);
        }
        let gauge = |name, help| register(registry, IntGauge::new(name, help));
        let changes = IntCounter::new(
            "daybook_vault_secrets_changed_total",
            "Secrets that were changed in Vault while the server ran, and taken up.",
        );
        VaultMetrics {
            requests,
            changes: register(registry, changes),
            failing: gauge(
                "daybook_vault_failing",
                "1 while Vault does not give what it should; what it gave before is in use.",
            ),
            renewal_due: gauge(
                "daybook_vault_certificate_renewal_due_seconds",
                "When the certificate that Vault issued is to be renewed, in seconds since 1970; \
                 0 without one.",
            ),
        }
    }

    /// Counts a question.
    pub fn asked(&self, asked: Asked, is_answered: bool) {
        let outcome = if is_answered { "answered" } else { "failed" };
        self.requests.with_label_values(&[asked.label(), outcome]).inc();
    }

    /// A round of all that was due has ended.
    pub fn round_ended(&self, is_well: bool) {
        self.failing.set(i64::from(!is_well));
    }

    /// A secret was changed, and is taken up.
    pub fn secret_changed(&self) {
        self.changes.inc();
    }

    /// The certificate is to be renewed that long after `now`.
    pub fn certificate_renewal_due(&self, now: Timestamp, wait: Duration) {
        let wait = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
        self.renewal_due.set((now.0 / 1_000_000_000).saturating_add(wait));
    }

    /// Goes on from what others have counted.
    pub fn go_on_from(&self, others: &VaultMetrics) {
        for (asked, outcome) in ASKED.iter().flat_map(|asked| OUTCOMES.map(|o| (*asked, o))) {
            let labels: [&str; 2] = [asked, outcome];
            let before = others.requests.with_label_values(&labels).get();
            self.requests.with_label_values(&labels).inc_by(before);
        }
        self.changes.inc_by(others.changes.get());
        self.failing.set(others.failing.get());
        self.renewal_due.set(others.renewal_due.get());
    }
}
