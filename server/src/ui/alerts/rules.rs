//! Which figure is too much, and what to do then.

use super::Figures;
use super::Severity::{self, Critical, Warning};

/// One of them.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    /// Each series of it is judged by itself.
    pub(super) figure: &'static str,
    /// By the series' labels, its value, and all figures.
    pub(super) fires: fn(&str, f64, &Figures) -> bool,
    pub(super) summary: &'static str,
    pub(super) todo: &'static str,
    pub(super) page: &'static str,
}

const HOUR: f64 = 3_600.0;
const DAY: f64 = 24.0 * HOUR;

/// Whether the server is up for an hour: a new one has that long for what is to be done each day.
fn has_started(all: &Figures) -> bool {
    all.now - all.first("daybook_start_time_seconds") > HOUR
}

/// Whether certificates are short-lived, and renewed before they end.
fn is_renewed_by_vault(all: &Figures) -> bool {
    all.first("daybook_vault_certificate_renewal_due_seconds") > 0.0
}

/// All that is judged by the figures of a moment.
pub(super) const RULES: &[Rule] = &[
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
        name: "DaybookFilesShort",
        severity: Warning,
        figure: "process_open_fds",
        fires: |_, value, all| {
            let most = all.first("process_max_fds");
            most > 0.0 && value / most > 0.8
        },
        summary: "Four fifths of the files that may be open are.",
        todo: "Look for clients that leak connections, or raise LimitNOFILE.",
        page: "/ui/",
    },
    Rule {
        name: "DaybookMemoryShort",
        severity: Warning,
        figure: "process_resident_memory_bytes",
        fires: |_, value, all| {
            let most = all.first("daybook_memory_limit_bytes");
            most > 0.0 && value / most > 0.9
        },
        summary: "Nine tenths of the memory that the server may take are in use.",
        todo: "Raise the limit of its control group, or give it less to do.",
        page: "/ui/config",
    },
    Rule {
        name: "DaybookStoreFailed",
        severity: Critical,
        figure: "daybook_store_state",
        fires: |about, value, _| value == 1.0 && about.contains(r#"state="poisoned""#),
        summary: "A write or fdatasync failed: no more appends.",
        todo: "Look at the kernel's log and the drive; when you trust it again, restart.",
        page: "/ui/",
    },
    Rule {
        name: "DaybookStoreRefuses",
        severity: Critical,
        figure: "daybook_store_state",
        fires: |about, value, _| {
            let refuses = [r#"state="disk_full""#, r#"state="clock_leapt""#];
            value == 1.0 && refuses.iter().any(|state| about.contains(state))
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
        fires: |_, value, all| all.now - value > 26.0 * HOUR && has_started(all),
        summary: "No whole backup is known of the last 26 hours.",
        todo: "See whether the backup job runs, and what it says. A start forgets backups before it.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookArchiveLags",
        severity: Critical,
        figure: "daybook_archive_last_success_timestamp_seconds",
        fires: |_, value, all| {
            let start = all.first("daybook_start_time_seconds");
            all.now - if value > 0.0 { value } else { start } > 300.0
        },
        summary: "Nothing was archived for five minutes.",
        todo: "The archive's state says why; see whether its store answers.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookTrialBalanceOld",
        severity: Warning,
        figure: "daybook_trial_balance_verified_timestamp_seconds",
        fires: |_, value, all| {
            let commands = all.all("daybook_account_commands_total");
            let is_used = commands.iter().any(|(_, count)| *count > 0.0);
            is_used && all.now - value > 26.0 * HOUR && has_started(all)
        },
        summary: "No comparison of the books with the accounts is known of the last 26 hours.",
        todo: "Have it done once a night; a start forgets those before it.",
        page: "/ui/books",
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
        fires: |_, value, all| value > 0.0 && value - all.now < DAY && !is_renewed_by_vault(all),
        summary: "The server's certificate ends within a day, or has ended.",
        todo: "Put a new certificate and key where the old ones are; no restart is needed.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookCertificateExpires",
        severity: Warning,
        figure: "daybook_tls_certificate_not_after_seconds",
        fires: |_, value, all| {
            value > 0.0 && value - all.now < 14.0 * DAY && !is_renewed_by_vault(all)
        },
        summary: "The server's certificate ends within two weeks.",
        todo: "Put the new certificate and key where the old ones are.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookVaultFailing",
        severity: Warning,
        figure: "daybook_vault_failing",
        fires: |_, value, _| value == 1.0,
        summary: "Vault does not give the server what it should.",
        todo: "The log says what is wrong; the server goes on with what it has, and would not start again.",
        page: "/ui/operations",
    },
    Rule {
        name: "DaybookVaultCertificateOverdue",
        severity: Critical,
        figure: "daybook_vault_certificate_renewal_due_seconds",
        fires: |_, due, all| {
            let not_after = all.first("daybook_tls_certificate_not_after_seconds");
            due > 0.0 && all.now - due > (not_after - due) / 4.0
        },
        summary: "The certificate from Vault is not renewed.",
        todo: "The log says why Vault issues none: once it has ended, nobody connects.",
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
        fires: |about, value, _| value == 1.0 && about.contains(r#"state="stopped""#),
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
        name: "DaybookScriptStopped",
        severity: Warning,
        figure: "daybook_script_faulted",
        fires: |_, value, _| value == 1.0,
        summary: "The program of a user's projection failed.",
        todo: "Its page says why: mend the program, then resume it.",
        page: "/ui/projections",
    },
    Rule {
        name: "DaybookScriptStopped",
        severity: Warning,
        figure: "daybook_script_waiting",
        fires: |_, value, _| value == 1.0,
        summary: "The store does not take what a user's projection writes.",
        todo: "Its page says why: mend what it waits for.",
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
        name: "DaybookConnectorLag",
        severity: Warning,
        figure: "daybook_connector_up",
        fires: |_, value, _| value == 0.0,
        summary: "A connector does not relay.",
        todo: "Its page says why: it is paused, stopped, or tries again.",
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
