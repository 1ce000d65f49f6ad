//! Whether a caller may do something with a stream: pure, from what is known of both.
//!
//! ```text
//!   administrator, or a server that asks nobody ─────────────────────────────> yes
//!   a tenant's caller, and the stream does not begin with a prefix of its own ─> no
//!   users and their passwords, $settings, what lists them ────────────────────> administrators
//!   the ledger's streams, to be read ─────────────────────────────────────────> ledger-read, -audit
//!   the stream's own $acl, if it has a list for the act ─┐
//!   $settings: $userStreamAcl, $systemStreamAcl;         ├─ first that has one ─> whom it names
//!     not of $audit                                      │
//!   built in: $all for users' streams, $admins for $…   ─┘
//! ```
//!
//! The lists and defaults are KurrentDB's. Two things are stricter, because a bank's passwords and
//! books lie in the same log: what holds users is never opened by a list, and the ledger's streams
//! are read by those who may read the ledger. A metadata stream is judged as its stream is, by `$mr`
//! and `$mw`.
//!
//! INVARIANT: denies whatever no line above allows.

use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::stream::{self, AUDIT_STREAM, Owner};
use daybook_model::{AccessList, Act};
use daybook_store::IndexKey;
use serde_json::Value;

use super::caller::{ADMINS, Caller, Proof};
use super::rights::{LEDGER_AUDIT, LEDGER_READ, tenants};

/// The name by which lists mean everybody who proved who it is, and by which the whole log goes.
pub const ALL: &str = "$all";
/// The stream whose last event says what holds of streams that have no list of their own.
pub const SETTINGS_STREAM: &str = "$settings";

/// What holds where a stream's own list does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    users: AccessList,
    system: AccessList,
}

impl Defaults {
    /// Those of a store that has no settings.
    #[must_use]
    pub fn built_in() -> Defaults {
        Defaults { users: AccessList::default(), system: AccessList::default() }
    }

    /// Those that the data of an event in [`SETTINGS_STREAM`] sets. What cannot be read names
    /// nobody.
    #[must_use]
    pub fn of_settings(data: &[u8]) -> Defaults {
        let Ok(Value::Object(map)) = serde_json::from_slice(data) else {
            return Defaults::nobody();
        };
        let list = |key: &str| match map.get(key) {
            None | Some(Value::Null) => AccessList::default(),
            Some(list) => AccessList::read(list),
        };
        Defaults { users: list("$userStreamAcl"), system: list("$systemStreamAcl") }
    }

    /// Those of a store whose settings were taken away: who opened streams no longer says to whom.
    #[must_use]
    pub fn nobody() -> Defaults {
        Defaults { users: AccessList::nobody(), system: AccessList::nobody() }
    }

    /// Whether they let `caller` do `act` with the stream called `name`.
    fn let_do(&self, caller: &Caller, act: Act, name: &str) -> bool {
        let (list, built_in) =
            if name.starts_with('$') { (&self.system, ADMINS) } else { (&self.users, ALL) };
        match list.who_may(act) {
            Some(names) => names.iter().any(|name| is(caller, name)),
            None => is(caller, built_in),
        }
    }
}

/// What is asked of a stream's lists: an act on a metadata stream is one on the stream it describes.
#[must_use]
pub fn meant(act: Act, stream: &str) -> (Act, &str) {
    match (stream::described_by(stream), act) {
        (None, act) => (act, stream),
        (Some(described), Act::Read | Act::ReadMetadata) => (Act::ReadMetadata, described),
        (Some(described), _) => (Act::WriteMetadata, described),
    }
}

/// The stream that lists what an index key has, by whose rights the key is read.
#[must_use]
pub fn stream_of(key: &IndexKey) -> String {
    match key {
        IndexKey::Category(name) => format!("$ce-{name}"),
        IndexKey::EventType(name) => format!("$et-{name}"),
        IndexKey::Correlation(id) => format!("$bc-{id}"),
    }
}

/// Whether `caller` need not be asked for any stream: no list is looked up for it.
#[must_use]
pub fn is_above(caller: &Caller) -> bool {
    caller.proof() == Proof::Unasked || caller.is_admin()
}

/// Whether `caller` may do `act` with the stream called `name`, as [`meant`] has both, whose own
/// lists are `own`.
///
/// # Errors
/// Why not, and who could change it.
pub fn check(
    caller: &Caller,
    (act, name): (Act, &str),
    own: Option<&AccessList>,
    defaults: &Defaults,
) -> Result<(), &'static str> {
    if is_above(caller) {
        return Ok(());
    }
    if caller.proof() == Proof::None {
        return Err("give credentials");
    }
    if is_outside(caller, name) {
        return Err("callers of a tenant may use the streams that begin with its prefix");
    }
    if is_administrators(act, name) {
        return Err("this is for $admins alone");
    }
    if stream::owner_of(name) == Some(Owner::Ledger) {
        let reads = matches!(act, Act::Read | Act::ReadMetadata);
        let may = reads && (caller.is_in(LEDGER_READ) || caller.is_in(LEDGER_AUDIT));
        return if may { Ok(()) } else { Err("this needs the group ledger-read or ledger-audit") };
    }
    let may = match own.and_then(|own| own.who_may(act)) {
        Some(names) => names.iter().any(|name| is(caller, name)),
        // What was done and denied is opened by the log's own list and nothing else.
        None if name == AUDIT_STREAM => false,
        None => defaults.let_do(caller, act, name),
    };
    if may { Ok(()) } else { Err("the stream's $acl, or the defaults in $settings, say who may") }
}

/// Whether the stream belongs to no tenant of `caller`, who has some.
fn is_outside(caller: &Caller, name: &str) -> bool {
    let mut tenants = tenants(caller).peekable();
    tenants.peek().is_some() && !tenants.any(|prefix| name.starts_with(prefix))
}

/// What no list opens: users and their passwords, what leads to them by links, how long the audit
/// log is kept, and the defaults, which decide about all others.
fn is_administrators(act: Act, name: &str) -> bool {
    let writes = !matches!(act, Act::Read | Act::ReadMetadata);
    let of_users = stream::owner_of(name) == Some(Owner::Users);
    // The types of users' events begin with `$`; the first event of a user's stream is listed.
    let leads_there = name == "$streams"
        || name.strip_prefix("$et-").is_some_and(|kind| {
            kind.starts_with('$') && kind != METADATA_EVENT_TYPE && kind != "$deleted"
        });
    let of_audit = name == AUDIT_STREAM && act == Act::WriteMetadata;
    of_users || of_audit || (leads_there && act == Act::Read) || (name == SETTINGS_STREAM && writes)
}

/// Whether a list means `caller` by `name`.
fn is(caller: &Caller, name: &str) -> bool {
    // A login that begins with `$` would pass for a group.
    let login = caller.login().filter(|login| !login.starts_with('$'));
    name == ALL || login == Some(name) || caller.is_in(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(groups: &[&str]) -> Caller {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Caller::known("ada".to_owned(), groups, Proof::Password, None)
    }

    fn may(caller: &Caller, act: Act, stream: &str, acl: &str, settings: &str) -> bool {
        let metadata = format!("{{\"$acl\":{acl}}}");
        let own = (!acl.is_empty()).then(|| AccessList::of_metadata(metadata.as_bytes())).flatten();
        let defaults = match settings {
            "" => Defaults::built_in(),
            settings => Defaults::of_settings(settings.as_bytes()),
        };
        check(caller, meant(act, stream), own.as_ref(), &defaults).is_ok()
    }

    #[test]
    fn lists_then_settings_then_what_is_built_in() {
        use Act::{Delete, Read, Write};
        let users_closed = r#"{"$userStreamAcl":{"$r":"staff","$w":[]}}"#;
        let system_open = r#"{"$systemStreamAcl":{"$r":["$all"]}}"#;
        let (ada, ops) = (of(&[]), of(&["$ops"]));
        let cases: &[(&Caller, Act, &str, &str, &str, bool)] = &[
            (&ada, Read, "a-1", "", "", true),
            (&ada, Write, "a-1", "", "", true),
            (&ada, Delete, "a-1", "", "", true),
            (&ada, Read, "$projections-x", "", "", false),
            (&ops, Read, "$projections-x", "", "", false),
            (&ada, Read, "a-1", r#"{"$r":"ada"}"#, "", true),
            (&ada, Read, "a-1", r#"{"$r":"bob"}"#, "", false),
            (&ops, Read, "a-1", r#"{"$r":["bob","$ops"]}"#, "", true),
            (&ada, Read, "a-1", r#"{"$r":[]}"#, "", false),
            (&ada, Write, "a-1", r#"{"$r":"bob"}"#, "", true),
            (&ada, Read, "$ce-a", "", "", false),
            (&ada, Read, "$ce-a", r#"{"$r":"$all"}"#, "", true),
            (&ada, Read, "a-1", "", users_closed, false),
            (&of(&["staff"]), Read, "a-1", "", users_closed, true),
            (&ada, Write, "a-1", r#"{"$w":"ada"}"#, users_closed, true),
            (&ada, Delete, "a-1", "", users_closed, true),
            (&ada, Read, "$ce-a", "", system_open, true),
            (&ada, Read, "a-1", "", "no settings", false),
            (&ada, Read, "$audit", "", system_open, false),
            (&ada, Act::ReadMetadata, "$audit", "", system_open, false),
            (&ada, Read, "$audit", r#"{"$r":"ada"}"#, "", true),
            (&Caller::nobody(), Read, "a-1", r#"{"$r":"$all"}"#, "", false),
            (&Caller::unasked(), Read, "$user-ada", r#"{"$r":[]}"#, "", true),
            (&of(&["$admins"]), Write, "a-1", r#"{"$w":[]}"#, "", true),
        ];
        for (caller, act, stream, acl, settings, expected) in cases {
            let found = may(caller, *act, stream, acl, settings);
            let groups = caller.groups();
            assert_eq!(found, *expected, "{groups:?} {act} {stream} {acl} {settings}");
        }
    }

    #[test]
    fn a_metadata_stream_is_judged_as_its_stream() {
        let acl = r#"{"$r":[],"$w":"$all","$mr":"ada","$mw":"bob"}"#;
        let ada = of(&[]);
        assert!(!may(&ada, Act::Read, "a-1", acl, ""));
        assert!(may(&ada, Act::Read, "$$a-1", acl, ""));
        assert!(!may(&ada, Act::Write, "$$a-1", acl, ""));
        assert!(!may(&ada, Act::Delete, "$$a-1", acl, ""));
        assert_eq!(meant(Act::Write, "$$$all"), (Act::WriteMetadata, "$all"));
        assert!(!may(&ada, Act::Write, "$$$all", "", ""));
    }

    #[test]
    fn no_list_opens_what_holds_passwords_or_decides_about_others() {
        let open = r#"{"$r":"$all","$w":"$all","$d":"$all","$mr":"$all","$mw":"$all"}"#;
        let settings = r#"{"$systemStreamAcl":{"$r":"$all","$w":"$all","$mw":"$all"}}"#;
        let caller = of(&["$ops", "ledger-audit"]);
        for stream in ["$user-bob", "$$$user-bob", "$users", "$streams", "$et-$UserCreated"] {
            assert!(!may(&caller, Act::Read, stream, open, settings), "{stream}");
        }
        for stream in [SETTINGS_STREAM, "$$$settings"] {
            assert!(!may(&caller, Act::Write, stream, open, settings), "{stream}");
            assert!(may(&caller, Act::Read, stream, open, settings), "{stream}");
        }
    }

    #[test]
    fn the_ledgers_streams_are_read_by_those_who_may_read_the_ledger() {
        for (groups, reads) in
            [(&["ledger-read"][..], true), (&["ledger-audit"], true), (&["ledger-move"], false)]
        {
            let caller = of(groups);
            assert_eq!(may(&caller, Act::Read, "ledger.account-1", "", ""), reads, "{groups:?}");
            assert!(!may(&caller, Act::Write, "ledger.account-1", "", ""), "{groups:?}");
        }
    }

    #[test]
    fn a_tenant_has_its_own_streams_and_no_others() {
        let caller = of(&["tenant:acme.", "tenant:acme2."]);
        for (stream, expected) in [
            ("acme.orders-1", true),
            ("acme2.orders-1", true),
            ("$$acme.orders-1", true),
            ("other.orders-1", false),
            ("acme-1", false),
            ("$ce-acme.orders", false),
            ("ledger.account-1", false),
            (ALL, false),
        ] {
            assert_eq!(may(&caller, Act::Read, stream, "", ""), expected, "{stream}");
            let opened = may(&caller, Act::Read, stream, r#"{"$r":"$all"}"#, "");
            assert_eq!(opened, expected, "{stream}, opened to all");
        }
        let within = may(&caller, Act::Read, "acme.orders-1", r#"{"$r":"bob"}"#, "");
        assert!(!within, "lists hold within a tenant, too");
        assert!(!may(&of(&["tenant:"]), Act::Read, "a-1", "", ""), "a tenant without a prefix");
    }
}
