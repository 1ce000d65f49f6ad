//! The connectors of a TOML file.
//!
//! ```toml
//! [[connector]]
//! name = "payments"               # lower case, digits, _
//! kind = "webhook"                # or "rabbitmq", "file"
//! from = "start"                  # or "end": where it begins the first time
//! url = "https://pay.example/hook"
//! secret_env = "HOOK_SECRET"      # or secret_file
//!
//! [connector.select]              # all events of users' streams if left out
//! categories = ["ledger.transfer"]
//! types = ["PaymentCompleted"]
//!
//! [connector.mapping]
//! body = "envelope"               # or "data"
//! fields = ["transfer_id", "amount"]
//! rename = { amount = "value" }
//! constants = { source = "daybook" }
//!
//! [connector.retry]
//! attempts = 5                    # of a message in a row, before it is waited for or parked
//! refused = "park"                # or "stop"
//! exhausted = "wait"              # or "park"
//! ```
//!
//! INVARIANT: a secret is named here and never written here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use super::mapping::Mapping;
use super::rabbitmq::RabbitMqSettings;
use super::section::{ConfigError, Section, VAULT, Variables};
use super::select::Selection;
use super::webhook::WebhookSettings;

/// Connectors of one file. Each has a feed of its own and a label in the metrics.
pub const CONNECTORS_MAX: usize = 64;
/// Bytes of a connector's name: it stands in the names of its streams.
pub const NAME_SIZE_MAX: usize = 64;
/// Bytes of a configuration file.
const FILE_SIZE_MAX: usize = 1024 * 1024;

/// One connector.
#[derive(Clone, Debug)]
pub struct ConnectorSettings {
    /// Its name, unique in the store it follows.
    pub name: String,
    /// Which events it relays.
    pub selection: Selection,
    /// Where it begins when it has no place yet.
    pub from: From,
    /// What its messages say.
    pub mapping: Mapping,
    /// What becomes of messages that are not taken.
    pub retry: RetrySettings,
    /// When its place is written.
    pub checkpoint: CheckpointSettings,
    /// The receiver.
    pub sink: SinkSettings,
}

/// Where a connector begins when it has no place yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With the first event of the log.
    Start,
    /// With what is committed after it was first started.
    End,
}

/// What becomes of messages that are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// How often a message is tried in a row.
    pub attempts_max: u32,
    /// The wait before the second attempt; doubled for each further one.
    pub backoff_min: Duration,
    /// The longest wait between two attempts.
    pub backoff_max: Duration,
    /// What becomes of a message that the receiver refuses for good.
    pub refused: Refused,
    /// What happens when the attempts are used up.
    pub exhausted: Exhausted,
}

/// What becomes of a message that the receiver refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is parked, and the connector goes on.
    Park,
    /// The connector stops before it.
    Stop,
}

/// What happens when a message was tried as often as it may be in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// The connector rests, and tries again: a receiver that is away is waited for.
    Wait,
    /// The message is parked, and the connector goes on.
    Park,
}

/// When a connector's place is written. Each write is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Once so many messages were confirmed: also the most that are sent again after a crash,
    /// beside those under way.
    pub every: u64,
    /// Once this time has passed since a message was confirmed.
    pub after: Duration,
}

/// The receiver.
#[derive(Clone, Debug)]
pub enum SinkSettings {
    /// A RabbitMQ broker.
    RabbitMq(Box<RabbitMqSettings>),
    /// An HTTP endpoint.
    Webhook(Box<WebhookSettings>),
    /// A file of JSON lines.
    File(FileSettings),
}

/// A file of JSON lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes after which another file is begun.
    pub size_max: u64,
}

impl SinkSettings {
    /// Its word in the configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            SinkSettings::RabbitMq(_) => "rabbitmq",
            SinkSettings::Webhook(_) => "webhook",
            SinkSettings::File(_) => "file",
        }
    }
}

/// Reads the connectors of the file at `path`, and what it refers to.
///
/// # Errors
/// [`ConfigError`].
pub fn load(path: &Path) -> Result<Vec<ConnectorSettings>, ConfigError> {
    load_with(path, &|name| std::env::var(name).ok())
}

/// As [`load`], with other `variables` than the environment's, secrets in Vault among them.
///
/// # Errors
/// [`ConfigError`].
pub fn load_with(
    path: &Path,
    variables: Variables<'_>,
) -> Result<Vec<ConnectorSettings>, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let reason = format!("cannot be read: {error}");
        ConfigError { file: file.clone(), place: "the file".to_owned(), reason }
    })?;
    parse(&file, &text, variables)
}

/// The secrets in Vault that the file at `path` names where it may name a secret's file. A file that
/// cannot be read names none: loading it says what is wrong.
#[must_use]
pub fn secrets_in_vault(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let table: Table = text.parse().unwrap_or_default();
    let connectors = table.get("connector").and_then(Value::as_array).into_iter().flatten();
    let keys = connectors.filter_map(Value::as_table).flatten();
    let named = keys.filter(|(key, _)| key.ends_with("_file")).filter_map(|(_, v)| v.as_str());
    named.filter(|name| name.starts_with(VAULT)).map(str::to_owned).collect()
}

/// Reads the connectors of `text`, which is what `file` holds.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(
    file: &str,
    text: &str,
    variables: Variables<'_>,
) -> Result<Vec<ConnectorSettings>, ConfigError> {
    if text.len() > FILE_SIZE_MAX {
        let (place, reason) = ("the file", format!("is larger than {FILE_SIZE_MAX} bytes"));
        return Err(ConfigError { file: file.to_owned(), place: place.to_owned(), reason });
    }
    let mut root = Section::of_file(file, text, variables)?;
    let sections = root.sections("connector")?;
    if sections.is_empty() || sections.len() > CONNECTORS_MAX {
        let reason = format!("takes one to {CONNECTORS_MAX} tables [[connector]]");
        return Err(root.wrong("connector", reason));
    }
    root.finish()?;
    let mut names = BTreeSet::new();
    let mut connectors = Vec::with_capacity(sections.len());
    for mut section in sections {
        let name = name(&mut section)?;
        if !names.insert(name.clone()) {
            return Err(section.wrong("name", format!("another connector is called {name}")));
        }
        connectors.push(connector(name, section)?);
    }
    Ok(connectors)
}

fn name(section: &mut Section<'_>) -> Result<String, ConfigError> {
    let takes = "lower-case letters, digits and _";
    let name = section.required("name", takes)?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.len() > NAME_SIZE_MAX || !name.chars().all(fits) {
        return Err(section.wrong("name", format!("takes {takes}, {NAME_SIZE_MAX} at most")));
    }
    section.call(format!("[[connector]] {name}"));
    Ok(name)
}

fn connector(name: String, mut section: Section<'_>) -> Result<ConnectorSettings, ConfigError> {
    let kind = section.required("kind", "\"rabbitmq\", \"webhook\" or \"file\"")?;
    let from = section.word("from", &[("start", From::Start), ("end", From::End)])?;
    let selection = Selection::read(section.section("select")?)?;
    let mapping = Mapping::read(section.section("mapping")?)?;
    let retry = retry(section.section("retry")?)?;
    let checkpoint = checkpoint(section.section("checkpoint")?)?;
    let sink = match kind.as_str() {
        "rabbitmq" => SinkSettings::RabbitMq(Box::new(RabbitMqSettings::read(&mut section)?)),
        "webhook" => SinkSettings::Webhook(Box::new(WebhookSettings::read(&mut section)?)),
        "file" => SinkSettings::File(file(&mut section)?),
        _ => {
            let reason = "takes \"rabbitmq\", \"webhook\" or \"file\" (NATS and Kafka wait)";
            return Err(section.wrong("kind", reason));
        }
    };
    section.finish()?;
    Ok(ConnectorSettings { name, selection, from, mapping, retry, checkpoint, sink })
}

fn retry(mut section: Section<'_>) -> Result<RetrySettings, ConfigError> {
    let millis = Duration::from_millis;
    let settings = RetrySettings {
        attempts_max: u32::try_from(section.number("attempts", 1..=100, 5)?).unwrap_or(100),
        backoff_min: millis(section.number("backoff_ms", 1..=60_000, 100)?),
        backoff_max: millis(section.number("backoff_max_ms", 1..=600_000, 10_000)?),
        refused: section.word("refused", &[("park", Refused::Park), ("stop", Refused::Stop)])?,
        exhausted: section
            .word("exhausted", &[("wait", Exhausted::Wait), ("park", Exhausted::Park)])?,
    };
    section.finish()?;
    Ok(settings)
}

fn checkpoint(mut section: Section<'_>) -> Result<CheckpointSettings, ConfigError> {
    let settings = CheckpointSettings {
        every: section.number("every", 1..=100_000, 500)?,
        after: Duration::from_millis(section.number("after_ms", 10..=600_000, 1000)?),
    };
    section.finish()?;
    Ok(settings)
}

fn file(section: &mut Section<'_>) -> Result<FileSettings, ConfigError> {
    let path = PathBuf::from(section.required("path", "the file's path")?);
    let mebibytes = section.number("size_max_mib", 1..=1024 * 1024, 256)?;
    Ok(FileSettings { path, size_max: mebibytes * 1024 * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOK: &str = "name = 'a'\nkind = 'webhook'\nurl = 'https://h.example/'\n\
                        secret_env = 'KEY'\n";

    fn variable(name: &str) -> Option<String> {
        (name == "KEY").then(|| "hunter2\n".to_owned())
    }

    fn read(body: &str) -> Result<Vec<ConnectorSettings>, ConfigError> {
        parse("c.toml", &format!("[[connector]]\n{body}"), &variable)
    }

    #[test]
    fn the_example_is_understood() {
        let text: String = include_str!("config.rs")
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| format!("{}\n", line.trim_start_matches("//!")))
            .collect();
        let variables = |name: &str| (name == "HOOK_SECRET").then(|| "s".to_owned());
        let connectors = parse("c.toml", &text, &variables).expect("it is right");
        assert_eq!(connectors.len(), 1);
        assert_eq!(
            (connectors[0].name.as_str(), connectors[0].sink.kind()),
            ("payments", "webhook")
        );
        assert_eq!(connectors[0].selection.interest().streams, ["ledger.transfer-"]);
        assert_eq!(connectors[0].retry.attempts_max, 5);
    }

    #[test]
    fn a_mistake_names_its_file_table_and_key_and_says_what_it_takes() {
        let amqp = "name = 'a'\nkind = 'rabbitmq'\n";
        for (body, expected) in [
            ("kind = 'file'", "c.toml: [[connector]] 1, name: is missing; it takes lower-case"),
            ("name = 'A'\nkind = 'file'", "[[connector]] 1, name: takes lower-case letters"),
            ("name = 'a-parked'\nkind = 'file'", "name: takes lower-case letters"),
            ("name = 'a'\nkind = 'nats'", "a, kind: takes \"rabbitmq\", \"webhook\" or \"file\""),
            ("name = 'a'\nkind = 'file'", "[[connector]] a, path: is missing"),
            ("name = 'a'\nkind = 'file'\npath = 3", "a, path: takes a text"),
            ("name = 'a'\nkind = 'file'\npath = 'p'\nfrom = 'now'", "takes \"start\" or \"end\""),
            ("name = 'a'\nkind = 'file'\npath = 'p'\nurl = 'x'", "url: is not known here; there"),
            ("name = 'a'\nkind = 'file'\npath = 'p'\nsize_max_mib = 0", "whole number, 1 to"),
            (
                "name = 'a'\nkind = 'file'\npath = 'p'\n[connector.retry]\nattempts = -1",
                "[[connector]] a, [connector.retry], attempts: takes a whole number, 1 to 100",
            ),
            (&format!("{HOOK}[connector.mapping]\nbody = 'all'"), "takes \"envelope\" or \"data\""),
            (&HOOK.replace("https:", "ftp:"), "a, url: takes http:// or https://"),
            (&HOOK.replace("https:", "http:"), "a, url: http:// reaches other machines"),
            (&HOOK.replace("https://", "https://me:pw@"), "a, url: takes no login"),
            (&HOOK.replace("'KEY'", "'NONE'"), "a, secret_env: there is no variable NONE"),
            (&HOOK.replace("secret_env = 'KEY'", ""), "a, secret: is missing"),
            (&HOOK.replace("secret_env", "secret"), "a, secret: a secret is not written here"),
            (
                &HOOK.replace("secret_env = 'KEY'", "secret_file = '/no/such'"),
                "cannot read /no/such",
            ),
            (
                &HOOK.replace("secret_env = 'KEY'", "secret_file = 'vault:secret/hook#key'"),
                "a, secret_file: vault:secret/hook#key is not known here",
            ),
            (amqp, "a, url: is missing"),
            (&format!("{amqp}url = 'amqp://u:p@h/'"), "a, url: takes no login or password"),
            (&format!("{amqp}url = 'http://h/'"), "a, url: takes amqp://HOST:PORT/VHOST or"),
            (&format!("{amqp}url = 'amqp://h.example/'"), "a, url: amqp:// reaches other machines"),
            (
                &format!("{HOOK}[[connector]]\n{HOOK}"),
                "[[connector]] a, name: another connector is called a",
            ),
            ("name = ", "c.toml: line 2: "),
        ] {
            let error = read(body).expect_err(body).to_string();
            assert!(error.contains(expected), "{body}\n  {error}\n  {expected}");
            assert!(!error.contains("hunter2") && !error.contains("pw@"), "{error}");
        }
        assert!(parse("c.toml", "", &variable).expect_err("none").reason.contains("one to 64"));
    }

    #[test]
    fn a_secret_is_in_no_debug_text() {
        let settings = read(&format!("{HOOK}\n")).expect("it is right");
        let shown = format!("{settings:?}");
        assert!(shown.contains("(hidden)") && !shown.contains("hunter2"), "{shown}");
        let SinkSettings::Webhook(webhook) = &settings[0].sink else { panic!("a webhook") };
        assert_eq!(webhook.secret.reveal(), "hunter2", "without the line break");
    }
}
