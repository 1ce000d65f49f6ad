//! Reading a TOML table key by key, so that every mistake names its file, table and key, and says
//! what the key takes.
//!
//! INVARIANT: an error never quotes a value: it could be a secret that was put in the wrong place.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use toml::{Table, Value};

/// Bytes of a secret's file that are read at most.
const SECRET_SIZE_MAX: usize = 64 * 1024;

/// How the names of secrets in Vault begin. What they hold is looked up as variables are.
pub const VAULT: &str = "vault:";

/// Looks up a variable of the process' environment, or what else has a name.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {place}: {reason}")]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// The table, and the key in it if it is about one.
    pub place: String,
    /// What is wrong, and what it takes.
    pub reason: String,
}

/// Something nobody else may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// What it is, for whoever must send or use it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A table that is being read. Keys that nobody asked for are a mistake ([`Section::finish`]).
pub struct Section<'a> {
    file: &'a str,
    place: String,
    table: Table,
    variables: Variables<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The table of a whole file.
    ///
    /// # Errors
    /// If it is not TOML; the line is named, its text is not.
    pub fn of_file(
        file: &'a str,
        text: &str,
        variables: Variables<'a>,
    ) -> Result<Section<'a>, ConfigError> {
        let table = text.parse::<Table>().map_err(|error| {
            let line = error.span().map_or(1, |span| {
                1 + text.as_bytes()[..span.start.min(text.len())]
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count()
            });
            let place = format!("line {line}");
            ConfigError { file: file.to_owned(), place, reason: error.message().to_owned() }
        })?;
        Ok(Section { file, place: String::new(), table, variables, known: Vec::new() })
    }

    /// A mistake at `key`.
    #[must_use]
    pub fn wrong(&self, key: &str, reason: impl fmt::Display) -> ConfigError {
        let place =
            if self.place.is_empty() { key.to_owned() } else { format!("{}, {key}", self.place) };
        ConfigError { file: self.file.to_owned(), place, reason: reason.to_string() }
    }

    /// From now on errors call the table so.
    pub fn call(&mut self, place: String) {
        self.place = place;
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// A text.
    ///
    /// # Errors
    /// If it is something else.
    pub fn text(&mut self, key: &'static str) -> Result<Option<String>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "takes a text in quotes")),
        }
    }

    /// A text that must be there; `takes` says what it is.
    ///
    /// # Errors
    /// If it is not there, or something else.
    pub fn required(&mut self, key: &'static str, takes: &str) -> Result<String, ConfigError> {
        match self.text(key)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(self.wrong(key, format!("is missing; it takes {takes}"))),
        }
    }

    /// One of some words, the first if none is given.
    ///
    /// # Errors
    /// If it is another one.
    pub fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(words[0].1) };
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.wrong(key, format!("takes {}", names.join(" or ")))
        })
    }

    /// A list of texts; empty if there is none.
    ///
    /// # Errors
    /// If it is something else.
    pub fn texts(&mut self, key: &'static str) -> Result<Vec<String>, ConfigError> {
        let wrong = |this: &Self| this.wrong(key, "takes a list of texts: [\"one\", \"two\"]");
        let items = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(wrong(self)),
        };
        let texts = items.into_iter().map(|item| match item {
            Value::String(text) if !text.is_empty() => Ok(text),
            _ => Err(wrong(self)),
        });
        texts.collect()
    }

    /// Whether, or `default`.
    ///
    /// # Errors
    /// If it is neither true nor false.
    pub fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Boolean(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(key, "takes true or false")),
        }
    }

    /// A whole number within `range`, or `default`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        let number = match self.take(key) {
            None => return Ok(default),
            Some(Value::Integer(number)) => u64::try_from(number).ok(),
            Some(_) => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let takes = format!("takes a whole number, {} to {}", range.start(), range.end());
            self.wrong(key, takes)
        })
    }

    /// Names and values as they stand; empty if there are none.
    ///
    /// # Errors
    /// If it is no table.
    pub fn pairs(&mut self, key: &'static str) -> Result<BTreeMap<String, Value>, ConfigError> {
        match self.take(key) {
            None => Ok(BTreeMap::new()),
            Some(Value::Table(table)) => Ok(table.into_iter().collect()),
            Some(_) => Err(self.wrong(key, "takes a table: { name = \"value\" }")),
        }
    }

    /// The table under `key`, empty if there is none.
    ///
    /// # Errors
    /// If it is no table.
    pub fn section(&mut self, key: &'static str) -> Result<Section<'a>, ConfigError> {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => return Err(self.wrong(key, "takes a table")),
        };
        let place = format!("{}, [connector.{key}]", self.place);
        let (file, variables) = (self.file, self.variables);
        Ok(Section { file, place, table, variables, known: Vec::new() })
    }

    /// The tables `[[key]]`.
    ///
    /// # Errors
    /// If there is something else.
    pub fn sections(&mut self, key: &'static str) -> Result<Vec<Section<'a>>, ConfigError> {
        let items = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.wrong(key, format!("takes tables: [[{key}]]"))),
        };
        let numbered = items.into_iter().zip(1_usize..).map(|(item, number)| match item {
            Value::Table(table) => {
                let place = format!("[[{key}]] {number}");
                let (file, variables) = (self.file, self.variables);
                Ok(Section { file, place, table, variables, known: Vec::new() })
            }
            _ => Err(self.wrong(key, format!("takes tables: [[{key}]]"))),
        });
        numbered.collect()
    }

    /// What `<key>_env` or `<key>_file` refers to; a line break at its end is not part of it.
    ///
    /// # Errors
    /// If both are given, or what is referred to is not there or empty.
    pub fn secret(&mut self, key: &'static Referred) -> Result<Option<Secret>, ConfigError> {
        if self.table.contains_key(key.name) {
            let instead = format!("{} = \"VARIABLE\" or {} = \"/path\"", key.env, key.file);
            return Err(
                self.wrong(key.name, format!("a secret is not written here; use {instead}"))
            );
        }
        self.referred(key)
    }

    /// As [`Section::secret`], of what may be written here too; the caller looks for that.
    ///
    /// # Errors
    /// As there.
    pub fn referred(&mut self, key: &'static Referred) -> Result<Option<Secret>, ConfigError> {
        let found = match (self.text(key.env)?, self.text(key.file)?) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(self.wrong(key.file, format!("cannot be given beside {}", key.env)));
            }
            (Some(name), None) => (self.variables)(&name)
                .ok_or_else(|| self.wrong(key.env, format!("there is no variable {name}")))?,
            (None, Some(path)) => {
                self.secret_file(&path).map_err(|reason| self.wrong(key.file, reason))?
            }
        };
        let secret = found.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(self.wrong(key.name, "what it refers to is empty"));
        }
        Ok(Some(Secret::new(secret)))
    }

    fn secret_file(&self, path: &str) -> Result<String, String> {
        if path.starts_with(VAULT) {
            let none = || format!("{path} is not known here: `daybook serve` asks Vault for it");
            return (self.variables)(path).ok_or_else(none);
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}"))?;
        if text.len() > SECRET_SIZE_MAX {
            return Err(format!("{path} is larger than {SECRET_SIZE_MAX} bytes"));
        }
        Ok(text)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// If there is a key that nobody asked for.
    pub fn finish(self) -> Result<(), ConfigError> {
        let Some(key) = self.table.keys().next() else { return Ok(()) };
        let takes = self.known.join(", ");
        Err(self.wrong(key, format!("is not known here; there are: {takes}")))
    }
}

/// The keys that refer to one secret.
#[derive(Debug)]
pub struct Referred {
    /// How it is called.
    pub name: &'static str,
    /// The key that names a variable.
    pub env: &'static str,
    /// The key that names a file.
    pub file: &'static str,
}
