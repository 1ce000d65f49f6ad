//! What `daybook --help` says: the commands by what they are for.

use std::fmt::Write as _;

use clap::Command;
use clap::builder::styling::{AnsiColor, Styles};

/// The commands, as people look for them.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run", &["serve", "query", "connectors", "projections"]),
    ("Events", &["append", "read", "tail", "streams", "delete", "subscriptions"]),
    ("Money", &["accounts", "transfers", "sagas", "risk"]),
    ("Operate", &["health", "stats", "certs", "scavenge", "config", "completions"]),
    ("Who may", &["users", "tokens", "audit"]),
    ("Keep safe", &["backup", "restore", "verify", "import", "export"]),
    ("Try and measure", &["demo", "load", "bench"]),
];
/// The flags of `serve`, as people look for them, by how their names begin; the first that fits
/// counts.
const HEADINGS: &[(&str, &str)] = &[
    ("tls-", "TLS and authentication"),
    ("auth", "TLS and authentication"),
    ("jwt", "TLS and authentication"),
    ("admin-", "TLS and authentication"),
    ("dev", "TLS and authentication"),
    ("insecure", "TLS and authentication"),
    ("risk-", "Ledger"),
    ("transfer-", "Ledger"),
    ("snapshot-", "Ledger"),
    ("read-models", "Read side"),
    ("connectors", "Read side"),
    ("trace-", "Traces"),
    ("archive", "Storage"),
    ("scavenge", "Storage"),
];
/// What a newcomer types.
const EXAMPLES: &str = "\
Examples:
  daybook serve                                      a server on this machine
  daybook append account-1 Opened '{\"owner\":\"Ada\"}'  an event
  daybook tail                                       events as they come
  daybook demo                                       accounts and transfers at work

Exit codes: 0 success, 1 failure, 2 wrong usage.";

/// `command` with its help in groups.
pub fn grouped(mut command: Command) -> Command {
    let styles = Styles::styled()
        .header(AnsiColor::Green.on_default().bold())
        .usage(AnsiColor::Green.on_default().bold())
        .literal(AnsiColor::Cyan.on_default().bold())
        .placeholder(AnsiColor::Cyan.on_default());
    let (header, literal) = (*styles.get_header(), *styles.get_literal());
    let width = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for (group, names) in GROUPS {
        let _ = writeln!(text, "{header}{group}:{header:#}");
        for name in *names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let about = about.trim_end_matches('.');
            let _ = writeln!(text, "  {literal}{name:<width$}{literal:#}  {about}");
        }
        text.push('\n');
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{text}{header}Options:{header:#}\n\
         {{options}}{{after-help}}"
    );
    command = command.mut_subcommand("serve", |serve| {
        serve.mut_args(|flag| match flag.get_long().and_then(heading) {
            Some(heading) => flag.help_heading(heading),
            None => flag,
        })
    });
    command = command.styles(styles).help_template(template).after_help(EXAMPLES);
    command
}

fn heading(flag: &str) -> Option<&'static str> {
    HEADINGS.iter().find(|(prefix, _)| flag.starts_with(prefix)).map(|(_, heading)| *heading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = crate::cli::command();
        let mut known: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut visible: Vec<&str> = command
            .get_subcommands()
            .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
            .map(Command::get_name)
            .collect();
        let serve = command.find_subcommand("serve").expect("it is there");
        for (prefix, _) in HEADINGS {
            let mut flags = serve.get_arguments().filter_map(clap::Arg::get_long);
            assert!(flags.any(|flag| flag.starts_with(prefix)), "{prefix}");
        }
        known.sort_unstable();
        visible.sort_unstable();
        assert_eq!(known, visible);
    }
}
