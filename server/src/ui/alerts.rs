//! What fires now, of the alerts that the server itself can judge: the same figures and thresholds as
//! `server/deploy/prometheus/alerts.yml`, without its waiting times and without what needs a history
//! longer than the console's.
//!
//! ```text
//!   figures   what /metrics shows at this moment
//!   rules     which figure is too much, and what to do then
//!   trends    the few that are judged by the last minutes
//! ```
//!
//! INVARIANT: a rule here has the name and the severity of one there and fires for the same figures; a
//! rule there that is none here is in the tests' list of those, with the reason.

#[cfg(test)]
mod agreement;
mod figures;
mod rules;
mod trends;

pub use figures::Figures;
use rules::RULES;

use super::samples::Ring;

/// Alerts that are shown at a time: more say no more.
const ALERTS_MAX: usize = 50;

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

/// What fires, the most pressing first.
#[must_use]
pub fn firing(figures: &Figures, ring: &Ring) -> Vec<Alert> {
    let mut firing = trends::firing(ring);
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

    // Thresholds are held against those of Prometheus in `agreement`; here is what only the console does.
    #[test]
    fn a_new_server_has_an_hour_for_its_first_backup_and_a_silent_figure_fires_nothing() {
        let backup = |up: u64, last: u64| {
            format!(
                "daybook_start_time_seconds {}\n\
                 daybook_backup_last_success_timestamp_seconds {last}",
                2_000_000 - up
            )
        };
        let cases = [
            (String::new(), vec![]),
            ("daybook_ready 1".to_owned(), vec![]),
            (backup(3_600, 0), vec![]),
            (backup(3_601, 0), vec!["DaybookBackupOld"]),
            (backup(200_000, 2_000_000 - 93_600), vec![]),
            (backup(200_000, 2_000_000 - 93_601), vec!["DaybookBackupOld"]),
            // A process without a limit shows none.
            ("process_open_fds 1000".to_owned(), vec![]),
        ];
        for (text, expected) in cases {
            assert_eq!(names(&text), expected, "{text}");
        }
    }

    #[test]
    fn the_most_pressing_is_first_and_each_series_is_named() {
        let text = "daybook_projection_lag_seconds{projection=\"a\"} 60.5\n\
                    daybook_projection_lag_seconds{projection=\"b\"} 1\n\
                    daybook_transfers_failed 1";
        assert_eq!(names(text), ["DaybookTransferFailed", "DaybookProjectionLag"]);
        let found = firing(&Figures::read(text, NOW), &Ring::default());
        assert_eq!(found[1].about, "projection=\"a\"");
    }
}
