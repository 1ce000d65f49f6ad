//! Stream names, and what a name says about its stream.

use std::fmt;
use std::sync::Arc;

use crate::limits::STREAM_NAME_SIZE_MAX;

/// How the names of the ledger's streams begin.
pub const LEDGER_PREFIX: &str = "ledger.";

/// The stream that lists the users.
pub const USERS_STREAM: &str = "$users";
/// How the names of the streams of single users begin.
pub const USER_PREFIX: &str = "$user-";
/// How the names of the streams that tell of the server's own projections begin.
pub const PROJECTION_PREFIX: &str = "$projections-";

/// The stream that records what operators did and what was denied.
pub const AUDIT_STREAM: &str = "$audit";

/// How the names of the streams of persistent subscriptions begin, and that of the one which holds
/// their settings.
pub const GROUP_PREFIXES: [&str; 2] = ["$persistentsubscription-", "$persistentSubscriptionConfig"];

/// A part of the server that writes some streams alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Accounts and transfers.
    Ledger,
    /// Users and their passwords.
    Users,
    /// The server's own projections.
    Projections,
    /// Persistent subscriptions: their settings, places and parked messages.
    Groups,
    /// The record of what operators did and of what was denied. Its metadata is the administrators'.
    Audit,
}

/// The name of a stream: 1 to [`STREAM_NAME_SIZE_MAX`] bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

/// Why a text cannot name a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStreamName {
    /// It has no characters.
    #[error("the stream name is empty; give at least one character")]
    Empty,
    /// It is longer than [`STREAM_NAME_SIZE_MAX`].
    #[error("the stream name has {size} bytes; the limit is {STREAM_NAME_SIZE_MAX}")]
    TooLong {
        /// Its bytes.
        size: usize,
    },
    /// It has a character that would forge lines in logs and headers.
    #[error("the stream name has the control character U+{code:04X} at byte {at}; leave it out")]
    ControlCharacter {
        /// The character.
        code: u32,
        /// Its byte in the name.
        at: usize,
    },
    /// It is `$all`, the name of the whole log.
    #[error("'$all' names the whole log and cannot be written to; choose another stream")]
    All,
    /// Its bytes are not text.
    #[error("the stream name is not valid UTF-8")]
    NotUtf8,
}

impl StreamName {
    /// Checks `name` and makes it a stream name.
    ///
    /// # Errors
    /// [`InvalidStreamName`] says which rule it breaks.
    pub fn new(name: &str) -> Result<StreamName, InvalidStreamName> {
        if name.is_empty() {
            return Err(InvalidStreamName::Empty);
        }
        if name.len() > STREAM_NAME_SIZE_MAX {
            return Err(InvalidStreamName::TooLong { size: name.len() });
        }
        if let Some((at, c)) = name.char_indices().find(|(_, c)| c.is_control()) {
            return Err(InvalidStreamName::ControlCharacter { code: u32::from(c), at });
        }
        if name == "$all" {
            return Err(InvalidStreamName::All);
        }
        Ok(StreamName(name.into()))
    }

    /// As [`StreamName::new`], from the bytes that the protocol carries.
    ///
    /// # Errors
    /// [`InvalidStreamName`] says which rule they break.
    pub fn from_bytes(name: &[u8]) -> Result<StreamName, InvalidStreamName> {
        StreamName::new(std::str::from_utf8(name).map_err(|_| InvalidStreamName::NotUtf8)?)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name begins with `$`: the system's, and readable by administrators only.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }

    /// Whether this is the metadata stream `$$…` of another.
    #[must_use]
    pub fn is_metastream(&self) -> bool {
        self.0.starts_with("$$")
    }

    /// Whether the stream, or the one whose metadata it holds, is the ledger's: its name begins
    /// with [`LEDGER_PREFIX`]. Only the ledger writes such streams, so that what they say about
    /// money was decided by its rules.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.described().unwrap_or(&self.0).starts_with(LEDGER_PREFIX)
    }

    /// Which part of the server alone writes the stream, or the one whose metadata it holds: what
    /// stands there is believed.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        owner_of(&self.0)
    }

    /// The stream that holds this one's metadata, `$$` before its name. It may be two bytes longer
    /// than a client's stream name may be.
    #[must_use]
    pub fn metastream(&self) -> StreamName {
        StreamName(format!("$${}", self.0).into())
    }

    /// The stream whose metadata this one holds, if it is a metastream.
    #[must_use]
    pub fn described(&self) -> Option<&str> {
        described_by(&self.0)
    }

    /// The category: see [`category`].
    #[must_use]
    pub fn category(&self) -> Option<&str> {
        category(&self.0)
    }
}

/// As [`StreamName::owner`], of the stream called `text`.
#[must_use]
pub fn owner_of(text: &str) -> Option<Owner> {
    let name = described_by(text).unwrap_or(text);
    if name.starts_with(LEDGER_PREFIX) {
        Some(Owner::Ledger)
    } else if name == USERS_STREAM || name.starts_with(USER_PREFIX) {
        Some(Owner::Users)
    } else if name.starts_with(PROJECTION_PREFIX) {
        Some(Owner::Projections)
    } else if GROUP_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        Some(Owner::Groups)
    } else if text == AUDIT_STREAM {
        Some(Owner::Audit)
    } else {
        None
    }
}

/// The stream whose metadata the stream called `name` holds, if it is a metastream.
#[must_use]
pub fn described_by(name: &str) -> Option<&str> {
    name.strip_prefix("$$").filter(|name| !name.is_empty())
}

/// The category of the stream called `name`: what stands before its first `-`. System streams and
/// names without a `-` have none.
#[must_use]
pub fn category(name: &str) -> Option<&str> {
    if name.starts_with('$') {
        return None;
    }
    name.split_once('-').map(|(category, _)| category).filter(|category| !category.is_empty())
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for StreamName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for StreamName {
    type Err = InvalidStreamName;
    fn from_str(name: &str) -> Result<StreamName, InvalidStreamName> {
        StreamName::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let long = "x".repeat(STREAM_NAME_SIZE_MAX + 1);
        let cases: [(&str, Result<(), InvalidStreamName>); 7] = [
            ("account-1", Ok(())),
            ("$$account-1", Ok(())),
            ("ключ", Ok(())),
            ("", Err(InvalidStreamName::Empty)),
            ("$all", Err(InvalidStreamName::All)),
            ("a\nb", Err(InvalidStreamName::ControlCharacter { code: 10, at: 1 })),
            (&long, Err(InvalidStreamName::TooLong { size: STREAM_NAME_SIZE_MAX + 1 })),
        ];
        for (name, expected) in cases {
            assert_eq!(StreamName::new(name).map(|_| ()), expected, "{name:?}");
        }
    }

    #[test]
    fn the_ledger_s_streams_and_their_metadata_are_reserved() {
        for (name, reserved) in [
            ("ledger.account-1", true),
            ("$$ledger.account-1", true),
            ("ledger.", true),
            ("ledger", false),
            ("ledgers-1", false),
            ("$$$$ledger.account-1", false),
        ] {
            assert_eq!(StreamName::new(name).expect("a name").is_reserved(), reserved, "{name}");
        }
    }

    #[test]
    fn what_the_server_believes_has_an_owner() {
        for (name, owner) in [
            ("ledger.account-1", Some(Owner::Ledger)),
            ("$user-ada", Some(Owner::Users)),
            ("$$$user-ada", Some(Owner::Users)),
            ("$users", Some(Owner::Users)),
            ("$$$users", Some(Owner::Users)),
            ("$users-1", None),
            ("user-ada", None),
            ("$projections-$by_category", Some(Owner::Projections)),
            ("$persistentSubscriptionConfig", Some(Owner::Groups)),
            ("$persistentsubscription-a::g-checkpoint", Some(Owner::Groups)),
            ("$$$persistentsubscription-a::g-parked", Some(Owner::Groups)),
        ] {
            assert_eq!(StreamName::new(name).expect("a name").owner(), owner, "{name}");
        }
    }

    #[test]
    fn a_category_is_what_stands_before_the_first_dash() {
        for (name, expected) in [
            ("account-1-2", Some("account")),
            ("account", None),
            ("-1", None),
            ("$account-1", None),
            ("$$account-1", None),
        ] {
            assert_eq!(category(name), expected, "{name}");
        }
    }
}
