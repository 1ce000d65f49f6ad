//! Who may do what with a stream, as its metadata says: the member `$acl`.
//!
//! ```text
//!   {"$acl": {"$r": ["ada", "auditors"], "$w": "ada", "$d": [], "$mr": "$all", "$mw": "$admins"}}
//!              read                       write        delete    read, write the metadata
//! ```
//!
//! A name is a login, a group, or `$all`, which is everybody who proved to be somebody. What is left
//! out is left to the store's defaults; an empty list names nobody.
//!
//! INVARIANTS
//! - Decides nothing: it says whom a list names. Administrators may do everything, named or not.
//! - What cannot be read names nobody: a mistake in a list never opens a stream.

use std::fmt;

use serde_json::Value;

/// Names of one list. Bounds what is kept in memory for a stream, and the time a check takes.
pub const ACCESS_NAMES_MAX: usize = 256;
/// Bytes of all names of a stream's lists, for the same reason.
pub const ACCESS_SIZE_MAX: usize = 16 * 1024;

/// What may be done with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Its events may be read: `$r`.
    Read,
    /// It may be appended to: `$w`.
    Write,
    /// It may be deleted: `$d`.
    Delete,
    /// Its metadata may be read: `$mr`.
    ReadMetadata,
    /// Its metadata may be written: `$mw`.
    WriteMetadata,
}

impl Act {
    /// All there are.
    pub const ALL: [Act; 5] =
        [Act::Read, Act::Write, Act::Delete, Act::ReadMetadata, Act::WriteMetadata];

    /// The member of `$acl` that lists who may.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Act::Read => "$r",
            Act::Write => "$w",
            Act::Delete => "$d",
            Act::ReadMetadata => "$mr",
            Act::WriteMetadata => "$mw",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Act::Read => "read",
            Act::Write => "write",
            Act::Delete => "delete",
            Act::ReadMetadata => "read the metadata of",
            Act::WriteMetadata => "write the metadata of",
        })
    }
}

/// The lists of a stream: for each act who may, if it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    lists: [Option<Vec<String>>; Act::ALL.len()],
}

impl AccessList {
    /// The lists in the data of a stream's metadata event; none if it has no member `$acl`.
    #[must_use]
    pub fn of_metadata(data: &[u8]) -> Option<AccessList> {
        if data.is_empty() {
            return None;
        }
        match serde_json::from_slice(data) {
            Ok(Value::Object(map)) => map.get("$acl").map(AccessList::read),
            _ => Some(AccessList::nobody()),
        }
    }

    /// The lists in `acl`, the value of a member `$acl`.
    #[must_use]
    pub fn read(acl: &Value) -> AccessList {
        let Value::Object(acl) = acl else { return AccessList::nobody() };
        let lists = Act::ALL.map(|act| match acl.get(act.key()) {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(vec![name.clone()]),
            Some(Value::Array(names)) => Some(texts(names).unwrap_or_default()),
            Some(_) => Some(Vec::new()),
        });
        let size: usize = lists.iter().flatten().flatten().map(String::len).sum();
        if size > ACCESS_SIZE_MAX { AccessList::nobody() } else { AccessList { lists } }
    }

    /// Lists that name nobody.
    #[must_use]
    pub fn nobody() -> AccessList {
        AccessList { lists: Act::ALL.map(|_| Some(Vec::new())) }
    }

    /// Lists that all name `name` alone.
    #[must_use]
    pub fn all_to(name: &str) -> AccessList {
        AccessList { lists: Act::ALL.map(|_| Some(vec![name.to_owned()])) }
    }

    /// Who may do `act`; none if it is not said.
    #[must_use]
    pub fn who_may(&self, act: Act) -> Option<&[String]> {
        // In the order of `Act::ALL`, which is that of the variants.
        self.lists[act as usize].as_deref()
    }
}

/// Names that are all texts, and not too many.
fn texts(names: &[Value]) -> Option<Vec<String>> {
    if names.len() > ACCESS_NAMES_MAX {
        return None;
    }
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// That a caller may not do something with a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{who} may not {act} '{stream}'; {hint}")]
pub struct Denied {
    /// Who asked: a login, or words for somebody without one.
    pub who: String,
    /// What for.
    pub act: Act,
    /// The stream, or `$all`.
    pub stream: String,
    /// Why, and who could change it.
    pub hint: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(metadata: &str, act: Act) -> Option<Vec<String>> {
        let list = AccessList::of_metadata(metadata.as_bytes())?;
        list.who_may(act).map(<[String]>::to_vec)
    }

    #[test]
    fn a_list_is_a_name_or_names_and_what_cannot_be_read_names_nobody() {
        let long = format!(r#"{{"$acl":{{"$r":"{}"}}}}"#, "x".repeat(ACCESS_SIZE_MAX + 1));
        let names = vec!["\"a\""; ACCESS_NAMES_MAX + 1].join(",");
        let many = format!(r#"{{"$acl":{{"$r":[{names}]}}}}"#);
        let nobody = Some(vec![]);
        for (metadata, read) in [
            ("", None),
            ("{}", None),
            (r#"{"$maxCount":1}"#, None),
            (r#"{"$acl":{}}"#, None),
            (r#"{"$acl":{"$w":"ada"}}"#, None),
            (r#"{"$acl":{"$r":null}}"#, None),
            (r#"{"$acl":{"$r":"ada"}}"#, Some(vec!["ada".to_owned()])),
            (r#"{"$acl":{"$r":["ada","$all"]}}"#, Some(vec!["ada".to_owned(), "$all".to_owned()])),
            (r#"{"$acl":{"$r":[]}}"#, nobody.clone()),
            (r#"{"$acl":{"$r":["ada",7]}}"#, nobody.clone()),
            (r#"{"$acl":{"$r":7}}"#, nobody.clone()),
            (r#"{"$acl":"$all"}"#, nobody.clone()),
            ("not json", nobody.clone()),
            ("[]", nobody.clone()),
            (long.as_str(), nobody.clone()),
            (many.as_str(), nobody.clone()),
        ] {
            assert_eq!(who(metadata, Act::Read), read, "{}", &metadata[..metadata.len().min(60)]);
        }
    }

    #[test]
    fn each_act_has_its_own_list() {
        let metadata = r#"{"$acl":{"$r":"a","$w":"b","$d":"c","$mr":"d","$mw":"e"}}"#;
        let named = Act::ALL.map(|act| who(metadata, act).expect("a list").concat());
        assert_eq!(named, ["a", "b", "c", "d", "e"]);
    }
}
