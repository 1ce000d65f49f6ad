//! The ledger's numbers.

use std::time::Duration;

use daybook_ledger::orchestrator::StepTime;
use prometheus::proto::MetricFamily;

use super::families::{self, Labels};
use crate::ledger::Ledger;
use crate::ledger::metrics::Numbers;

/// What the ledger has done, and has in hand.
pub(super) fn families(ledger: &Ledger) -> Vec<MetricFamily> {
    let mut families = number_families(&ledger.numbers());
    families.push(families::durations(
        "daybook_transfer_duration_seconds",
        "From a transfer's request to its end.",
        ledger.transfer_durations(),
    ));
    families.push(step_family(ledger.transfer_counters().steps.all()));
    families
}

fn step_family(steps: impl Iterator<Item = StepTime>) -> MetricFamily {
    let steps: Vec<StepTime> = steps.collect();
    let labels: Vec<_> = steps
        .iter()
        .map(|each| [("step", each.step), ("direction", each.direction.as_str())])
        .collect();
    let values = steps.iter().zip(&labels);
    let values: Vec<(&Labels<'_>, u64, Duration)> =
        values.map(|(each, labels)| (labels.as_slice(), each.count, each.sum)).collect();
    families::totals(
        "daybook_transfer_step_seconds",
        "Attempts at the steps of transfers, and how long they took.",
        &values,
    )
}

fn number_families(numbers: &Numbers) -> Vec<MetricFamily> {
    let ended: [(&Labels<'_>, u64); 3] = [
        (&[("state", "completed")], numbers.completed),
        (&[("state", "compensated")], numbers.compensated),
        (&[("state", "failed")], numbers.failed),
    ];
    let found: [(&Labels<'_>, u64); 2] =
        [(&[("found", "memory")], numbers.cache_hits), (&[("found", "log")], numbers.cache_loads)];
    vec![
        families::counter("daybook_transfers_started_total", "Transfers begun.", numbers.started),
        families::counters(
            "daybook_transfers_ended_total",
            "Transfers that came to rest, by state; failed ones may have been resumed since.",
            &ended,
        ),
        families::gauge(
            "daybook_transfers_unfinished",
            "Transfers that are under way.",
            numbers.under_way,
        ),
        families::float_gauge(
            "daybook_transfer_oldest_unfinished_seconds",
            "How long ago the oldest transfer that is under way began; 0 if none is.",
            numbers.oldest.as_secs_f64(),
        ),
        families::gauge(
            "daybook_transfers_failed",
            "Transfers that failed and wait for somebody to resume or abandon them: alert on it.",
            numbers.waiting_failed,
        ),
        families::counter(
            "daybook_transfer_retries_total",
            "Attempts at a transfer's step that failed and were repeated.",
            numbers.retries,
        ),
        families::counter(
            "daybook_account_commands_total",
            "Commands on accounts, those of transfers included.",
            numbers.commands,
        ),
        families::counter(
            "daybook_account_batches_total",
            "Appends that these were done in; commands / batches is the mean batch.",
            numbers.batches,
        ),
        families::counter(
            "daybook_account_conflicts_total",
            "Batches that were decided again because others wrote the account first.",
            numbers.conflicts,
        ),
        families::counter(
            "daybook_account_repeats_total",
            "Commands recognised as repetitions by their transaction id.",
            numbers.repeats,
        ),
        families::counters(
            "daybook_account_states_total",
            "States of accounts that were needed, by where they were found.",
            &found,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use daybook_ledger::saga::Direction;
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn steps_have_their_number_and_their_time() {
        let direction = Direction::Action;
        let sum = Duration::from_millis(1_500);
        let step = StepTime { step: "check_risk", direction, count: 3, sum };
        let text = TextEncoder::new().encode_to_string(&[step_family([step].into_iter())]);
        let text = text.expect("text");
        for line in [
            "# TYPE daybook_transfer_step_seconds summary",
            "daybook_transfer_step_seconds_sum{step=\"check_risk\",direction=\"action\"} 1.5",
            "daybook_transfer_step_seconds_count{step=\"check_risk\",direction=\"action\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
