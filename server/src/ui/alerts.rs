//! What fires now, of the alerts that the server itself can judge: the same figures and thresholds as
//! `server/deploy/prometheus/alerts.yml`, without its waiting times and without what needs a history
//! longer than the console's.
//!
//! INVARIANT: a rule here has the name of one there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::samples::Ring;
use crate::node::Context;

/// Alerts that are shown at a time: more say no more.
const ALERTS_MAX: usize = 50;
/// A disk that is full sooner than this is an alert.
const DISK_FULL_SOON: Duration = Duration::from_secs(4 * 3600);

/// How long the disk is watched before it is said to fill: a burst is no trend.
const DISK_WATCHED_MIN: Duration = Duration::from_secs(10 * 60);

/// How much an alert presses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// At once.
    Critical,
    /// Today.
    Warning,
}

impl Severity {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
        }
    }
}

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its name among the rules, and in the operations manual.
    pub name: &'static str,
    /// How much it presses.
    pub severity: Severity,
    /// What it is about, if there are several of it.
    pub about: String,
    /// What is wrong.
    pub summary: &'static str,
    /// What to do.
    pub todo: &'static str,
    /// The page to look at.
    pub page: &'static str,
}

/// Figures at a moment, as `/metrics` shows them.
#[derive(Debug, Default)]
pub struct Figures {
    now: f64,
    values: BTreeMap<String, Vec<(String, f64)>>,
}

impl Figures {
    /// Those of now.
    pub async fn take(context: &Context) -> Figures {
        let groups = context.persistent().numbers().await;
        let scripted = context.scripted().list();
        let text = context.metrics().render(context, &groups, &scripted);
        Figures::read(&text, context.clock().now().0 as f64 / 1e9)
    }

    /// Those of a text in Prometheus' format; histograms are left out.
    #[must_use]
    pub fn read(text: &str, now: f64) -> Figures {
        let mut values: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            if name.ends_with("_bucket") {
                continue;
            }
            let Ok(value) = value.parse() else { continue };
            let about = labels.trim_end_matches('}').to_owned();
            values.entry(name.to_owned()).or_default().push((about, value));
        }
        Figures { now, values }
    }

    /// All series of a figure: their labels, and their values.
    #[must_use]
    pub fn all(&self, name: &str) -> &[(String, f64)] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    fn first(&self, name: &str) -> f64 {
        self.all(name).first().map_or(0.0, |(_, value)| *value)
    }
}

/// A rule: which figure, and when it is too much.
struct Rule {
    name: &'static str,
    severity: Severity,
    figure: &'static str,
    fires: fn(&str, f64, &Figures) -> bool,
    summary: &'static str,
    todo: &'static str,
    page: &'static str,
}

const DAY: f64 = 86_400.0;
use Severity::{Critical, Warning};

const RULES: &[Rule] = &[
    Rule {
        name: "DaybookNotReady",
        severity: Critical,
        figure: "daybook_ready",
        fires: |_, value, _| value == 0.0,
        summary: "The server runs and does not serve.",
        todo: "The health below names the part that is not ready.",
        page: "/ui/",
    },
    Rule {
        name: "DaybookStoreFailed",
        severity: Critical,
        figure: "daybook_store_state",
        fires: |about, value, _| value == 1.0 && about.contains("poisoned"),
        summary: "A write or fdatasync failed: no more appends.",
        todo: "Look at the kernel's log and the drive; when you trust it again, restart.",
        page: "/ui/",
    },
    Rule {
        name: "DaybookStoreRefuses",
        severity: Critical,
        figure: "daybook_store_state",
        fires: |about, value, _| {
            value == 1.0 && (about.contains("disk_full") || about.contains("clock_leapt"))
        },
        summary: "Appends are refused.",
        todo: "disk_full: free space. clock_leapt: check the machine's clock, then accept it.",
        page: "/ui/",
    },
    Rule {
        name: "DaybookLogDamaged",
        severity: Critical,
        figure: "daybook_log_damaged",
        fires: |_, value, _| value == 1.0,
        summary: "The last verification found damage in the log.",
        todo: "Stop writers, keep the directory, and restore the range from a backup.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookBackupDamaged",
        severity: Critical,
        figure: "daybook_backup_damaged",
        fires: |_, value, _| value == 1.0,
        summary: "The last verification of a backup found damage.",
        todo: "See which objects; take a backup to another place, and look at the disk or bucket.",
        page: "/ui/operations/backups",
    },
    Rule {
        name: "DaybookTrialBalanceOff",
        severity: Critical,
        figure: "daybook_trial_balance_off",
        fires: |_, value, _| value == 1.0,
        summary: "The books do not balance.",
        todo: "It must never happen: stop the server, keep the directory, run daybook verify.",
        page: "/ui/books",
    },
    Rule {
        name: "DaybookTransferFailed",
        severity: Critical,
        figure: "daybook_transfers_failed",
        fires: |_, value, _| value > 0.0,
        summary: "Transfers failed and wait for a person.",
        todo: "Open each, see to the money, then resume or abandon it.",
        page: "/ui/transfers?state=failed",
    },
    Rule {
        name: "DaybookTransferStuck",
        severity: Critical,
        figure: "daybook_transfer_oldest_unfinished_seconds",
        fires: |_, value, _| value > 900.0,
        summary: "A transfer is under way for more than 15 minutes.",
        todo: "Its page says at which step it is, and why that fails.",
        page: "/ui/transfers?state=running",
    },
    Rule {
        name: "DaybookBackupOld",
        severity: Critical,
        figure: "daybook_backup_last_success_timestamp_seconds",
        fires: |_, value, all| {
            all.now - value.max(all.first("daybook_start_time_seconds")) > 26.0 * 3600.0
        },
        summary: "No whole backup was taken for more than 26 hours.",
        todo: "See whether the backup job runs, and what it says.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookArchiveLags",
        severity: Critical,
        figure: "daybook_archive_last_success_timestamp_seconds",
        fires: |_, value, all| all.now - value.max(all.first("daybook_start_time_seconds")) > 300.0,
        summary: "Nothing was archived for five minutes.",
        todo: "The archive's state says why; see whether its store answers.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookDiskLow",
        severity: Warning,
        figure: "daybook_disk_free_bytes",
        fires: |_, value, _| value < 2.0 * 1024.0 * 1024.0 * 1024.0,
        summary: "Less than 2 GiB are free on the data volume.",
        todo: "Make room or grow the volume; a scavenge gives back what retention hides.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookCertificateExpired",
        severity: Critical,
        figure: "daybook_tls_certificate_not_after_seconds",
        fires: |_, value, all| value > 0.0 && value - all.now < DAY,
        summary: "The server's certificate ends within a day, or has ended.",
        todo: "Put a new certificate and key where the old ones are; no restart is needed.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookCertificateExpires",
        severity: Warning,
        figure: "daybook_tls_certificate_not_after_seconds",
        fires: |_, value, all| value > 0.0 && (DAY..14.0 * DAY).contains(&(value - all.now)),
        summary: "The server's certificate ends within two weeks.",
        todo: "Put the new certificate and key where the old ones are.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookInsecure",
        severity: Critical,
        figure: "daybook_insecure",
        fires: |_, value, _| value == 1.0,
        summary: "Other machines reach this server without TLS or without being asked who they are.",
        todo: "Give it --tls-cert and --tls-key, and users.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookBreakerOpen",
        severity: Warning,
        figure: "daybook_breaker_state",
        fires: |_, value, _| value > 0.0 && value != 4.0,
        summary: "A service does not answer; its circuit breaker is open.",
        todo: "Restore that service; what waits for it goes on by itself.",
        page: "/ui/connectors",
    },
    Rule {
        name: "DaybookProjectionStopped",
        severity: Critical,
        figure: "daybook_projection_state",
        fires: |about, value, _| value == 1.0 && about.contains("stopped"),
        summary: "A projection has stopped.",
        todo: "Its page says why: mend the cause, then resume it.",
        page: "/ui/projections",
    },
    Rule {
        name: "DaybookProjectionLag",
        severity: Warning,
        figure: "daybook_projection_lag_seconds",
        fires: |_, value, _| value > 60.0,
        summary: "A projection is more than a minute behind.",
        todo: "Lists that it feeds are that old; see whether it retries.",
        page: "/ui/projections",
    },
    Rule {
        name: "DaybookProjectionParked",
        severity: Warning,
        figure: "daybook_projection_parked_total",
        fires: |_, value, _| value > 0.0,
        summary: "A projection left out events.",
        todo: "Look at them; after the mistake is mended, rebuild it.",
        page: "/ui/projections",
    },
    Rule {
        name: "DaybookSubscriptionLag",
        severity: Warning,
        figure: "daybook_persistent_oldest_unacknowledged_seconds",
        fires: |_, value, _| value > 300.0,
        summary: "A group's oldest message waits for more than five minutes.",
        todo: "See whether its consumers are connected, and keep up.",
        page: "/ui/subscriptions",
    },
    Rule {
        name: "DaybookSubscriptionLag",
        severity: Warning,
        figure: "daybook_persistent_lag_events",
        fires: |_, value, _| value > 10_000.0,
        summary: "A group is more than 10,000 events behind.",
        todo: "See whether its consumers are connected, and keep up.",
        page: "/ui/subscriptions",
    },
    Rule {
        name: "DaybookSubscriptionParked",
        severity: Warning,
        figure: "daybook_persistent_parked",
        fires: |_, value, _| value > 0.0,
        summary: "Messages of a group are parked.",
        todo: "Mend the consumer, then replay them.",
        page: "/ui/subscriptions",
    },
    Rule {
        name: "DaybookSubscriptionTroubled",
        severity: Critical,
        figure: "daybook_persistent_troubled",
        fires: |_, value, _| value > 0.0,
        summary: "A group cannot go on.",
        todo: "Its page says what keeps it from working.",
        page: "/ui/subscriptions",
    },
    Rule {
        name: "DaybookConnectorLag",
        severity: Warning,
        figure: "daybook_connector_lag_seconds",
        fires: |_, value, _| value > 300.0,
        summary: "A connector is more than five minutes behind.",
        todo: "Its page says why its receiver does not take messages.",
        page: "/ui/connectors",
    },
    Rule {
        name: "DaybookConnectorParked",
        severity: Warning,
        figure: "daybook_connector_parked",
        fires: |_, value, _| value > 0.0,
        summary: "Messages of a connector are parked.",
        todo: "The receiver refused them for good: retry or discard them.",
        page: "/ui/connectors",
    },
];

/// What fires, the most pressing first.
#[must_use]
pub fn firing(figures: &Figures, ring: &Ring) -> Vec<Alert> {
    let mut firing = Vec::new();
    let is_trend = ring.span() >= DISK_WATCHED_MIN;
    if is_trend && ring.disk_full_in().is_some_and(|left| left < DISK_FULL_SOON) {
        firing.push(Alert {
            name: "DaybookDiskFilling",
            severity: Critical,
            about: String::new(),
            summary: "The disk is full in less than four hours, at the pace of the last minutes.",
            todo: "Make room, grow the volume, or find who writes so much.",
            page: "/ui/operations",
        });
    }
    for rule in RULES {
        for (about, value) in figures.all(rule.figure) {
            if (rule.fires)(about, *value, figures) {
                firing.push(Alert {
                    name: rule.name,
                    severity: rule.severity,
                    about: about.clone(),
                    summary: rule.summary,
                    todo: rule.todo,
                    page: rule.page,
                });
            }
        }
    }
    firing.sort_by_key(|alert| alert.severity);
    firing.truncate(ALERTS_MAX);
    firing
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: f64 = 2_000_000.0;

    fn names(text: &str) -> Vec<&'static str> {
        let found = firing(&Figures::read(text, NOW), &Ring::default());
        found.iter().map(|alert| alert.name).collect()
    }

    #[test]
    fn rules_fire_by_their_thresholds() {
        let cases = [
            ("daybook_ready 1", vec![]),
            ("daybook_ready 0", vec!["DaybookNotReady"]),
            ("daybook_store_state{state=\"poisoned\"} 1", vec!["DaybookStoreFailed"]),
            ("daybook_store_state{state=\"poisoned\"} 0", vec![]),
            ("daybook_store_state{state=\"disk_full\"} 1", vec!["DaybookStoreRefuses"]),
            ("daybook_disk_free_bytes 2147483647", vec!["DaybookDiskLow"]),
            ("daybook_disk_free_bytes 2147483648", vec![]),
            ("daybook_tls_certificate_not_after_seconds 0", vec![]),
            (
                "daybook_tls_certificate_not_after_seconds 2086399",
                vec!["DaybookCertificateExpired"],
            ),
            (
                "daybook_tls_certificate_not_after_seconds 2086400",
                vec!["DaybookCertificateExpires"],
            ),
            ("daybook_tls_certificate_not_after_seconds 3209600", vec![]),
            (
                "daybook_start_time_seconds 1999000\ndaybook_backup_last_success_timestamp_seconds 0",
                vec![],
            ),
            (
                "daybook_start_time_seconds 1900000\ndaybook_backup_last_success_timestamp_seconds 0",
                vec!["DaybookBackupOld"],
            ),
            (
                "daybook_projection_lag_seconds{projection=\"a\"} 60.5\n\
              daybook_projection_lag_seconds{projection=\"b\"} 1",
                vec!["DaybookProjectionLag"],
            ),
            (
                "daybook_transfers_failed 1\ndaybook_persistent_parked{group=\"g\"} 2",
                vec!["DaybookTransferFailed", "DaybookSubscriptionParked"],
            ),
            ("daybook_trial_balance_off 1", vec!["DaybookTrialBalanceOff"]),
            ("daybook_transfer_oldest_unfinished_seconds 901", vec!["DaybookTransferStuck"]),
        ];
        for (text, expected) in cases {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn every_rule_is_one_of_prometheus_too() {
        let there = include_str!("../../deploy/prometheus/alerts.yml");
        for rule in RULES {
            assert!(there.contains(&format!("alert: {}\n", rule.name)), "{}", rule.name);
            assert!(there.contains(rule.figure), "{}", rule.figure);
        }
        assert!(there.contains("alert: DaybookDiskFilling\n"));
    }
}
