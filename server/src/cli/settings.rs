//! Settings files: every flag of every command may also stand in a file.
//!
//! ```text
//!   default  <  settings file  <  environment  <  flag
//!
//!   --settings daybook.toml       log = "info"              a flag that all commands have
//!   or DAYBOOK_SETTINGS           [serve]
//!                               listen = "127.0.0.1:2113" a flag of `daybook serve`
//!                               [projections.run]         a command of a command
//! ```
//!
//! There is no second list of settings to keep: a key is the long name of a flag, and its value is
//! put behind the arguments as that flag, unless the flag itself or its environment variable was
//! given. So the command line's own checks hold for files, too.
//!
//! INVARIANT: nothing in the file is passed over. A table or key that means nothing is refused, also
//! if it is another command's.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

/// The flag that names the file.
pub const SETTINGS_FLAG: &str = "settings";
/// Bytes of a settings file; a larger one is none.
const FILE_SIZE_MAX: u64 = 1024 * 1024;
/// How alike two names must be for one to be suggested instead of the other; 1 is the same.
const ALIKE_MIN: f64 = 0.7;
/// Flags that do something else than set something.
const NOT_SETTINGS: [&str; 3] = [SETTINGS_FLAG, "help", "version"];

/// Why a settings file is not used. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("the settings file {file} cannot be read: {source}; name another with --settings")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML.
    #[error("the settings file {file} is not TOML: {reason}")]
    NotToml {
        /// The file.
        file: String,
        /// What the parser says, with the line.
        reason: String,
    },
    /// It names what does not exist.
    #[error("the settings file {file}: {place} has no '{key}'{hint}; see daybook config example")]
    Unknown {
        /// The file.
        file: String,
        /// The table.
        place: String,
        /// The key.
        key: String,
        /// What was perhaps meant.
        hint: String,
    },
    /// A value of the wrong kind.
    #[error("the settings file {file}: '{key}' in {place} takes {takes}")]
    WrongKind {
        /// The file.
        file: String,
        /// The table.
        place: String,
        /// The key.
        key: String,
        /// What it takes.
        takes: &'static str,
    },
    /// The flag refuses the value.
    #[error("the settings file {file}: {reason}")]
    Refused {
        /// The file.
        file: String,
        /// What the flag says.
        reason: String,
    },
}

/// What a command was told, by all that may tell it something.
pub struct Told {
    /// The arguments as they are parsed.
    pub matches: ArgMatches,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// The flags that the file gave.
    pub from_file: Vec<String>,
}

/// Parses `arguments` for `command`, with the settings file that they name.
///
/// # Errors
/// [`SettingsError`] about the file. What is wrong with the arguments themselves is the inner
/// result: `clap` says it better, and `--help` is one of them.
pub fn parse(
    command: &Command,
    arguments: Vec<OsString>,
) -> Result<Result<Told, clap::Error>, SettingsError> {
    let alone = |matches| Told { matches, file: None, from_file: Vec::new() };
    let first = command.clone().ignore_errors(true).try_get_matches_from(&arguments);
    let Ok(first) = first else {
        return Ok(command.clone().try_get_matches_from(arguments).map(alone));
    };
    let Some(file) = first.get_one::<PathBuf>(SETTINGS_FLAG).cloned() else {
        return Ok(command.clone().try_get_matches_from(arguments).map(alone));
    };
    let source = File { name: file.display().to_string(), settings: read(&file)? };
    source.check(command, &source.settings, &mut Vec::new())?;
    let mut given = Given { arguments: Vec::new(), flags: Vec::new() };
    source.give(command, &first, &mut given)?;
    let mut both = arguments.clone();
    // Behind `--` everything is a text.
    let end = both.iter().position(|text| text == "--").unwrap_or(both.len());
    both.splice(end..end, given.arguments);
    match command.clone().try_get_matches_from(both) {
        Ok(matches) => Ok(Ok(Told { matches, file: Some(file), from_file: given.flags })),
        // If the arguments are refused without the file, too, they are what is wrong.
        Err(error) => match command.clone().try_get_matches_from(arguments) {
            Err(own) => Ok(Err(own)),
            Ok(_) => {
                let text = error.to_string();
                let about = text.split("\n\nUsage").next().unwrap_or_default();
                let words = about.trim_start_matches("error: ").split_whitespace();
                let reason = words.collect::<Vec<_>>().join(" ");
                Err(SettingsError::Refused { file: source.name, reason })
            }
        },
    }
}

/// Whether a flag can be set in a file.
pub fn is_setting(argument: &Arg) -> bool {
    argument.get_long().is_some_and(|long| !NOT_SETTINGS.contains(&long)) && !argument.is_hide_set()
}

fn read(file: &Path) -> Result<Table, SettingsError> {
    let name = || file.display().to_string();
    let unreadable = |source| SettingsError::Unreadable { file: name(), source };
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > FILE_SIZE_MAX {
        let reason = format!("it has {size} bytes, more than {FILE_SIZE_MAX}");
        return Err(SettingsError::NotToml { file: name(), reason });
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    text.parse().map_err(|error: toml::de::Error| SettingsError::NotToml {
        file: name(),
        reason: error.to_string().trim_end().to_owned(),
    })
}

/// A file that was read.
struct File {
    name: String,
    settings: Table,
}

/// What a file adds to the arguments.
struct Given {
    arguments: Vec<OsString>,
    flags: Vec<String>,
}

impl File {
    /// Whether everything in `table` is a flag or a subcommand of `command`, which `path` names.
    fn check(
        &self,
        command: &Command,
        table: &Table,
        path: &mut Vec<String>,
    ) -> Result<(), SettingsError> {
        for (key, value) in table {
            if let Some(argument) = flag(command, key) {
                self.texts(path, argument, value)?;
            } else if let (Some(inner), Value::Table(table)) = (command.find_subcommand(key), value)
            {
                path.push(key.clone());
                self.check(inner, table, path)?;
                path.pop();
            } else {
                return Err(self.unknown(command, key, path));
            }
        }
        Ok(())
    }

    /// Adds what the tables of the command that `matches` is about say, and nobody else does.
    fn give(
        &self,
        command: &Command,
        matches: &ArgMatches,
        given: &mut Given,
    ) -> Result<(), SettingsError> {
        let (mut command, mut matches, mut table) = (command, matches, &self.settings);
        let mut path = Vec::new();
        loop {
            for (key, value) in table {
                let Some(argument) = flag(command, key) else { continue };
                let told = matches.value_source(argument.get_id().as_str());
                if matches!(told, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
                    continue;
                }
                let texts = self.texts(&path, argument, value)?;
                if !texts.is_empty() {
                    given.flags.push(key.clone());
                }
                given.arguments.extend(texts.into_iter().map(OsString::from));
            }
            let Some((name, inner)) = matches.subcommand() else { return Ok(()) };
            let (Some(Value::Table(next)), Some(subcommand)) =
                (table.get(name), command.find_subcommand(name))
            else {
                return Ok(());
            };
            path.push(name.to_owned());
            (command, matches, table) = (subcommand, inner, next);
        }
    }

    /// `value` as arguments.
    fn texts(
        &self,
        path: &[String],
        argument: &Arg,
        value: &Value,
    ) -> Result<Vec<String>, SettingsError> {
        let key = argument.get_long().unwrap_or_default();
        let wrong = |takes| SettingsError::WrongKind {
            file: self.name.clone(),
            place: place(path),
            key: key.to_owned(),
            takes,
        };
        if !argument.get_action().takes_values() {
            return match value {
                Value::Boolean(true) => Ok(vec![format!("--{key}")]),
                Value::Boolean(false) => Ok(Vec::new()),
                _ => Err(wrong("true or false")),
            };
        }
        let one = |value: &Value| match value {
            Value::String(text) => Some(format!("--{key}={text}")),
            Value::Integer(number) => Some(format!("--{key}={number}")),
            Value::Float(number) => Some(format!("--{key}={number}")),
            Value::Boolean(word) => Some(format!("--{key}={word}")),
            Value::Datetime(time) => Some(format!("--{key}={time}")),
            Value::Array(_) | Value::Table(_) => None,
        };
        match value {
            Value::Array(values) if matches!(argument.get_action(), ArgAction::Append) => values
                .iter()
                .map(one)
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("a list of texts")),
            other => Ok(vec![one(other).ok_or_else(|| wrong("one text or number"))?]),
        }
    }

    fn unknown(&self, command: &Command, key: &str, path: &[String]) -> SettingsError {
        let flags = command.get_arguments().filter(|flag| is_setting(flag));
        let flags = flags.filter_map(Arg::get_long);
        let inner = command.get_subcommands().map(Command::get_name);
        let nearest = flags
            .chain(inner)
            .map(|name| (strsim::jaro_winkler(&key.replace('_', "-"), name), name))
            .filter(|(alike, _)| *alike >= ALIKE_MIN)
            .max_by(|one, other| one.0.total_cmp(&other.0));
        let hint = nearest.map_or_else(String::new, |(_, name)| format!("; perhaps '{name}'"));
        let file = self.name.clone();
        SettingsError::Unknown { file, place: place(path), key: key.to_owned(), hint }
    }
}

fn flag<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|flag| flag.get_long() == Some(key) && is_setting(flag))
}

fn place(path: &[String]) -> String {
    if path.is_empty() { "it".to_owned() } else { format!("[{}]", path.join(".")) }
}

#[cfg(test)]
#[path = "settings/tests.rs"]
mod tests;
