//! Whole runs against a ledger in memory, sound and broken.

use super::fake::{self, Fault};
use super::*;

async fn run_against(fault: Fault) -> Report {
    let args = LoadArgs {
        users: 20,
        seconds: 0.2,
        url: Some(fake::start(fault).await),
        identity: Default::default(),
        data: PathBuf::new(),
        pause: None,
        html: None,
        json: Json::default(),
    };
    measure(&args).await.unwrap_or_else(|error| panic!("{fault:?}: {error:#}"))
}

fn failed(report: &Report) -> Vec<&'static str> {
    report.checks.iter().filter(|check| !check.passed()).map(|check| check.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_against_a_sound_ledger_is_consistent() {
    let report = run_against(Fault::None).await;
    assert!(report.is_consistent(), "{}", report.to_text());
    assert_eq!(report.checks.len(), 5);
    assert_eq!(report.totals.error_count(), 0, "{}", report.errors());
    let Outcomes { completed, compensated, failed, unknown } = report.outcomes;
    assert!(completed > 0 && compensated > 0, "flagged users' are compensated");
    assert_eq!((failed, unknown), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_in_doubt_are_retried_under_the_same_id_and_counted() {
    let report = run_against(Fault::Busy).await;
    assert!(report.is_consistent(), "{}", report.to_text());
    assert_eq!(report.totals.errors.keys().collect::<Vec<_>>(), ["overloaded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_against_a_broken_ledger_is_not_consistent() {
    for (fault, checks) in [
        (Fault::CreditLost, &["transfers", "deposits"][..]),
        (Fault::CreditedTwice, &["transfers", "accounts", "deposits"]),
        (Fault::Forgotten, &["transfers"]),
        (Fault::Misreported, &["transfers"]),
        (Fault::Stuck, &["quiet", "transfers", "accounts", "deposits"]),
        (Fault::RiskIgnored, &["transfers"]),
        (Fault::BalanceOff, &["accounts", "deposits"]),
        (Fault::BooksOff, &["trial balance"]),
    ] {
        let report = run_against(fault).await;
        let failed = failed(&report);
        for check in checks {
            assert!(failed.contains(check), "{fault:?}: {failed:?} in {}", report.to_text());
        }
    }
}
