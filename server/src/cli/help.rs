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
/// Examples of commands that do not have theirs beside their flags.
const EXAMPLES_OF: &[(&str, &str)] = &[
    (
        "serve",
        "\
  daybook serve                                  on this machine, in ./data
  daybook serve --dev                            with TLS and an administrator made for it
  daybook serve --listen 0.0.0.0:2113 --tls-cert server.crt --tls-key server.key
  daybook --settings daybook.toml serve          see daybook config example

It ends with 0 when it was told to stop (SIGTERM, SIGINT) and did, with 1 on a second signal.",
    ),
    (
        "query",
        "\
  daybook query serve --postgres postgres://front@db/daybook
  daybook query serve --postgres postgres://front@db/daybook --listen 0.0.0.0:2114 \
--tls-cert c --tls-key k --jwt jwt.toml",
    ),
    (
        "connectors",
        "\
  daybook connectors                             how far each is
  daybook connectors check connectors.toml
  daybook connectors run --config connectors.toml --url https://db:2113 --ca ca.crt
  daybook connectors retry payments              all that is parked; ends with 1 if any still is",
    ),
    (
        "projections",
        "\
  daybook projections                            how far each is
  daybook projections rebuild accounts
  daybook projections run --postgres postgres://daybook@db/daybook",
    ),
    (
        "tail",
        "\
  daybook tail                                   all events as they come
  daybook tail account-1                         of one stream",
    ),
    (
        "streams",
        "\
  daybook streams
  daybook streams --prefix account- --json",
    ),
    (
        "delete",
        "\
  daybook delete account-1                       may be written again
  daybook delete account-1 --hard                for ever",
    ),
    (
        "subscriptions",
        "\
  daybook subscriptions
  daybook subscriptions create orders mailer
  daybook subscriptions replay orders mailer     what is parked",
    ),
    (
        "health",
        "\
  daybook health
  daybook health --url https://db:2113 --ca ca.crt

It ends with 0 if the server is ready, with 1 if it is not or cannot be asked.",
    ),
    (
        "stats",
        "\
  daybook stats
  daybook stats --data ./data --json             of a stopped store",
    ),
    (
        "users",
        "\
  daybook users
  daybook users create billing --group ledger-read
  daybook users passwd billing
  daybook users list --json --url https://db:2113 --user admin",
    ),
    (
        "tokens",
        "\
  daybook tokens                                 one's own; all, for administrators
  daybook tokens create nightly --for billing --group ledger-read --expires-in 30d
  daybook tokens revoke 5f1c0a7b3d9e2468",
    ),
    (
        "audit",
        "\
  daybook audit
  daybook audit --outcome denied --since 24h
  daybook audit --who billing --limit 20 --json",
    ),
    (
        "certs",
        "\
  daybook certs dev --dir certs --host localhost",
    ),
    (
        "scavenge",
        "\
  daybook scavenge start                         waits, with a bar
  daybook scavenge start --data ./data           of a stopped store
  daybook scavenge status
  daybook scavenge stop",
    ),
    (
        "config",
        "\
  daybook config example > daybook.toml
  daybook --settings daybook.toml config show",
    ),
    (
        "backup",
        "\
  daybook backup --to /mnt/backups               of the server at --url
  daybook backup --to s3://backups/ledger
  daybook backup now                             what --archive does not have yet, at once
  daybook backup list --from /mnt/backups
  daybook backup verify --from /mnt/backups      ends with 1 if any is not whole",
    ),
    (
        "restore",
        "\
  daybook restore --from /mnt/backups --data ./restored",
    ),
    (
        "verify",
        "\
  daybook verify --data ./data                   ends with 1 if it is not sound
  daybook verify --data ./data --json",
    ),
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
    for (name, examples) in EXAMPLES_OF {
        command = command
            .mut_subcommand(name, |inner| inner.after_help(format!("Examples:\n  {examples}")));
    }
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
    fn every_command_has_examples_that_can_be_typed() {
        let command = crate::cli::command();
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            let name = inner.get_name();
            let help = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(name == "help" || help.contains("Example"), "{name} has no example");
            let examples = help.lines().map(str::trim).filter(|line| line.starts_with("daybook "));
            for example in examples {
                // Two spaces end what is typed, and a shell would make something else of the rest.
                let typed = example.split("  ").next().unwrap_or_default();
                let typed = typed.split(" && ").next().unwrap_or_default();
                if typed.contains(['|', '<', '>', '\'', '"', '(', '\\']) {
                    continue;
                }
                let parsed = command.clone().try_get_matches_from(typed.split(' '));
                assert!(parsed.is_ok(), "{name}: {typed}: {}", parsed.expect_err("refused"));
            }
        }
    }

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
