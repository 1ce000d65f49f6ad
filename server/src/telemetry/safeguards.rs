//! What is done to keep the data safe, and when it was done last: backups, and the check that the
//! books balance.

use daybook_model::Timestamp;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use super::metrics::register;

/// What is known since the start. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Safeguards {
    backups: IntCounterVec,
    backup_time: IntGauge,
    backup_damaged: IntGauge,
    backup_verified_time: IntGauge,
    trial_balance_off: IntGauge,
    trial_balance_time: IntGauge,
    log_damaged: IntGauge,
    log_time: IntGauge,
}

impl Safeguards {
    /// Nothing was done yet.
    #[must_use]
    pub(super) fn new(registry: &Registry) -> Safeguards {
        let gauge = |name, help| register(registry, IntGauge::new(name, help));
        let backups = Opts::new("daybook_backups_total", "Backups sent, by outcome.");
        let backups = register(registry, IntCounterVec::new(backups, &["outcome"]));
        for outcome in ["complete", "broken_off"] {
            backups.with_label_values(&[outcome]).inc_by(0);
        }
        Safeguards {
            backups,
            backup_time: gauge(
                "daybook_backup_last_success_timestamp_seconds",
                "When the last whole backup had been sent, in seconds since 1970; 0 if none was \
                 since the start.",
            ),
            backup_damaged: gauge(
                "daybook_backup_damaged",
                "1 if the last verification of a backup in the archive found damage: alert on it.",
            ),
            backup_verified_time: gauge(
                "daybook_backup_verified_timestamp_seconds",
                "When a verification of a backup in the archive last ended, in seconds since 1970; \
                 0 if none did since the start.",
            ),
            trial_balance_off: gauge(
                "daybook_trial_balance_off",
                "1 if the last trial balance did not come to zero, or not to what the accounts \
                 have: alert on it.",
            ),
            trial_balance_time: gauge(
                "daybook_trial_balance_verified_timestamp_seconds",
                "When the trial balance was last compared with all accounts, in seconds since \
                 1970; 0 if never since the start.",
            ),
            log_damaged: gauge(
                "daybook_log_damaged",
                "1 if the last verification of the running log found damage: alert on it.",
            ),
            log_time: gauge(
                "daybook_log_verified_timestamp_seconds",
                "When a verification of the running log last ended, in seconds since 1970; 0 if \
                 none did since the start.",
            ),
        }
    }

    /// The log was read from its beginning: whether it is sound.
    pub fn log_verified(&self, sound: bool, now: Timestamp) {
        self.log_damaged.set(i64::from(!sound));
        self.log_time.set(seconds(now));
    }

    /// A whole backup was sent.
    pub fn backup_complete(&self, now: Timestamp) {
        self.backups.with_label_values(&["complete"]).inc();
        self.backup_time.set(seconds(now));
    }

    /// A backup in the archive was read: whether it is sound.
    pub fn backup_verified(&self, sound: bool, now: Timestamp) {
        self.backup_damaged.set(i64::from(!sound));
        self.backup_verified_time.set(seconds(now));
    }

    /// When the last whole backup was taken, to the second; none if none was since the start.
    #[must_use]
    pub fn last_backup(&self) -> Option<Timestamp> {
        let seconds = self.backup_time.get();
        (seconds > 0).then(|| Timestamp(seconds.saturating_mul(1_000_000_000)))
    }

    /// A backup broke off.
    pub fn backup_broke_off(&self) {
        self.backups.with_label_values(&["broken_off"]).inc();
    }

    /// A trial balance was drawn up: whether it is zero, and, if that was asked for, whether it is
    /// what the accounts have. What a comparison found to be off stays so until another finds
    /// nothing.
    pub fn trial_balance(&self, balanced: bool, equal: Option<bool>, now: Timestamp) {
        match equal {
            Some(equal) => {
                self.trial_balance_off.set(i64::from(!(balanced && equal)));
                self.trial_balance_time.set(seconds(now));
            }
            None if !balanced => self.trial_balance_off.set(1),
            None => {}
        }
    }
}

fn seconds(time: Timestamp) -> i64 {
    time.0 / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_comparison_found_stays_until_the_next_one() {
        let registry = Registry::new();
        let safeguards = Safeguards::new(&registry);
        let at = |seconds: i64| Timestamp(seconds * 1_000_000_000);
        let off = || (safeguards.trial_balance_off.get(), safeguards.trial_balance_time.get());
        // Balanced, equal, when; then: off, last comparison.
        let cases = [
            (true, None, 10, (0, 0)),
            (true, Some(true), 11, (0, 11)),
            (true, Some(false), 12, (1, 12)),
            (true, None, 13, (1, 12)),
            (true, Some(true), 14, (0, 14)),
            (false, None, 15, (1, 14)),
            (false, Some(true), 16, (1, 16)),
        ];
        for (balanced, equal, when, expected) in cases {
            safeguards.trial_balance(balanced, equal, at(when));
            assert_eq!(off(), expected, "balanced {balanced}, equal {equal:?}, at {when}");
        }
    }
}
