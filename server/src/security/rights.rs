//! What a route asks of its caller, and which groups have it.
//!
//! ```text
//!                $admins  $ops  $monitor  ledger-…           everybody known   everybody
//!   Anyone          x      x       x         x                     x               x
//!   Known           x      x       x         x                     x
//!   Delegate        x      x       x         x            by password or certificate; recorded
//!   ReadAudit       x      x       x         x            whom the list of `$audit` names
//!   Monitor         x      x       x
//!   Inspect         x      x
//!   Operate         x      x                     recorded in the audit log before it is done
//!   Rescue          x      x                     recorded if that is possible
//!   Administer      x                            recorded in the audit log before it is done
//!   ReadLedger      x             ledger-read, ledger-audit
//!   OpenAccounts    x             ledger-open
//!   SetLimits       x             ledger-open             recorded, as Administer is
//!   MoveMoney       x             ledger-move
//!   SettleSagas     x             ledger-move             recorded, as Administer is
//!   FreezeAccounts  x             ledger-freeze           recorded, as Administer is
//!   AuditLedger     x             ledger-audit
//! ```
//!
//! A caller of a tenant (a group `tenant:PREFIX`) has no right over the server as a whole, in
//! whatever other groups it is: its own streams are all it is to know of. Administrators are above
//! tenants.
//!
//! INVARIANT: a route without a right cannot be written; see [`crate::security::gate`].

use daybook_model::stream::LEDGER_PREFIX;

use super::caller::{ADMINS, Caller, OPERATORS, Proof};

/// The group whose members may see how a server does: its figures, and nothing of what it holds.
pub const MONITORS: &str = "$monitor";
/// The group whose members may look at accounts, transfers and what happened to them.
pub const LEDGER_READ: &str = "ledger-read";
/// The group whose members open and close accounts, and set their limits.
pub const LEDGER_OPEN: &str = "ledger-open";
/// The group whose members move money: deposits, withdrawals, fees, holds, transfers.
pub const LEDGER_MOVE: &str = "ledger-move";
/// The group whose members stop money: freeze accounts, flag them, set the rules of risk.
pub const LEDGER_FREEZE: &str = "ledger-freeze";
/// The group whose members look at everything in the ledger, and draw up its trial balance.
pub const LEDGER_AUDIT: &str = "ledger-audit";
/// How the names of the groups begin that confine their members to a tenant's streams.
pub const TENANT_PREFIX: &str = "tenant:";

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Nothing: what says that the server is there, and how to speak with it.
    Anyone,
    /// That it proved who it is. What it may do with which stream is then asked at the door.
    Known,
    /// To let machines call as oneself, and to say by which password one calls.
    Delegate,
    /// To look at the audit log. Whom its list lets do that is then asked at the door.
    ReadAudit,
    /// To see figures.
    Monitor,
    /// To see what the server's own parts do: groups of consumers, projections, connectors, and
    /// the events they have in hand.
    Inspect,
    /// To change how the server runs.
    Operate,
    /// The same, where nothing could be written any more if it were not done.
    Rescue,
    /// Everything else.
    Administer,
    /// To look at the ledger.
    ReadLedger,
    /// To open and close accounts.
    OpenAccounts,
    /// To set how much may leave an account.
    SetLimits,
    /// To move money.
    MoveMoney,
    /// To say how a transfer goes on that failed.
    SettleSagas,
    /// To stop money.
    FreezeAccounts,
    /// To draw up the books.
    AuditLedger,
}

/// Why a caller may not use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It did not prove who it is.
    #[error("give credentials: this needs a caller who is known")]
    Unproved,
    /// It is in none of the groups that have the right.
    #[error("this needs the group {}; an administrator can add you to it", groups(*.0))]
    Lacks(Right),
    /// It is not the user itself who asks.
    #[error(
        "tokens make no tokens and set no passwords: this needs the user's password or \
         certificate, or $admins"
    )]
    NotItself,
    /// It belongs to a tenant.
    #[error("callers of a tenant may use the streams of their tenant, and nothing of the server")]
    Confined,
}

fn groups(right: Right) -> String {
    right.groups().join(" or ")
}

impl Right {
    /// The groups that have it, beside the administrators; all of these come after them.
    #[must_use]
    pub fn groups(self) -> &'static [&'static str] {
        match self {
            Right::Anyone | Right::Known | Right::Delegate | Right::ReadAudit => &[],
            Right::Monitor => &[ADMINS, OPERATORS, MONITORS],
            Right::Inspect | Right::Operate | Right::Rescue => &[ADMINS, OPERATORS],
            Right::Administer => &[ADMINS],
            Right::ReadLedger => &[ADMINS, LEDGER_READ, LEDGER_AUDIT],
            Right::OpenAccounts | Right::SetLimits => &[ADMINS, LEDGER_OPEN],
            Right::MoveMoney | Right::SettleSagas => &[ADMINS, LEDGER_MOVE],
            Right::FreezeAccounts => &[ADMINS, LEDGER_FREEZE],
            Right::AuditLedger => &[ADMINS, LEDGER_AUDIT],
        }
    }

    /// Whether it is one over the server as a whole, and not over a stream or the ledger.
    #[must_use]
    pub fn is_over_server(self) -> bool {
        use Right as R;
        match self {
            R::Monitor | R::Inspect | R::Operate | R::Rescue | R::Administer => true,
            R::ReadAudit => true,
            R::Anyone | R::Known | R::Delegate => false,
            R::ReadLedger | R::OpenAccounts | R::MoveMoney | R::FreezeAccounts => false,
            R::SetLimits | R::SettleSagas | R::AuditLedger => false,
        }
    }

    /// Whether what it lets through is recorded in the audit log.
    #[must_use]
    pub fn is_recorded(self) -> bool {
        match self {
            Right::Operate | Right::Rescue | Right::Administer | Right::Delegate => true,
            // What these do is not undone by the books themselves, and nobody else looks at it.
            Right::FreezeAccounts | Right::SetLimits | Right::SettleSagas => true,
            // The ledger's own events are the record of these, and say who.
            Right::OpenAccounts | Right::MoveMoney => false,
            Right::Anyone | Right::Known | Right::Monitor | Right::Inspect => false,
            Right::ReadLedger | Right::AuditLedger | Right::ReadAudit => false,
        }
    }

    /// Whether `caller` has it.
    ///
    /// # Errors
    /// [`Refused`] says what it lacks.
    pub fn check(self, caller: &Caller) -> Result<(), Refused> {
        if self == Right::Anyone || caller.is_admin() {
            return Ok(());
        }
        if caller.proof() == Proof::None {
            return Err(Refused::Unproved);
        }
        if matches!(self, Right::Known | Right::ReadAudit) {
            return Ok(());
        }
        if self == Right::Delegate {
            // Others may be anybody who has the token, or only share a user's name.
            let itself = matches!(caller.proof(), Proof::Password | Proof::Certificate);
            return if itself { Ok(()) } else { Err(Refused::NotItself) };
        }
        let mut tenants = tenants(caller).peekable();
        // The ledger is one, and its accounts belong to no tenant, unless one has all of it.
        if tenants.peek().is_some()
            && !(self.is_of_ledger() && tenants.any(|prefix| LEDGER_PREFIX.starts_with(prefix)))
        {
            return Err(Refused::Confined);
        }
        let has = self.groups().iter().any(|group| caller.is_in(group));
        if has { Ok(()) } else { Err(Refused::Lacks(self)) }
    }

    fn is_of_ledger(self) -> bool {
        use Right as R;
        match self {
            R::ReadLedger | R::OpenAccounts | R::SetLimits | R::AuditLedger => true,
            R::MoveMoney | R::SettleSagas | R::FreezeAccounts => true,
            R::Anyone | R::Known | R::Delegate | R::Monitor | R::Inspect => false,
            R::Operate | R::Rescue | R::Administer | R::ReadAudit => false,
        }
    }
}

/// How the names of the streams begin that `caller` is confined to; nothing at all if it is to none.
/// A group without a prefix confines to no stream: a mistake must not open all of them.
pub fn tenants(caller: &Caller) -> impl Iterator<Item = &str> {
    let prefixes = caller.groups().iter().filter_map(|group| group.strip_prefix(TENANT_PREFIX));
    // No stream's name begins so.
    prefixes.map(|prefix| if prefix.is_empty() { "\0" } else { prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(groups: &[&str]) -> Caller {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Caller::known("ada".to_owned(), groups, Proof::Password, None)
    }

    fn machine(groups: &[&str]) -> Caller {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let until = daybook_model::Timestamp(i64::MAX);
        Caller::by_api_token("ada".to_owned(), groups, "00".to_owned(), until)
    }

    fn issued(login: &str) -> Caller {
        Caller::known(login.to_owned(), Vec::new(), Proof::Token, None)
    }

    #[test]
    fn a_right_is_had_by_its_groups_and_by_nobody_else() {
        use Right as R;
        let all = [
            R::Anyone,
            R::Known,
            R::ReadAudit,
            R::Delegate,
            R::Monitor,
            R::Inspect,
            R::Operate,
            R::Rescue,
            R::Administer,
            R::ReadLedger,
            R::OpenAccounts,
            R::SetLimits,
            R::MoveMoney,
            R::SettleSagas,
            R::FreezeAccounts,
            R::AuditLedger,
        ];
        let ledger = &all[9..];
        let any = [R::Anyone, R::Known, R::ReadAudit, R::Delegate];
        let and = |more: &[Right]| [&any, more].concat();
        let cases: [(&str, Caller, Vec<Right>); 16] = [
            ("unasked", Caller::unasked(), all.to_vec()),
            ("nobody", Caller::nobody(), vec![R::Anyone]),
            ("no group", of(&[]), and(&[])),
            ("admin", of(&[ADMINS]), all.to_vec()),
            ("operator", of(&[OPERATORS]), all[..8].to_vec()),
            ("monitor", of(&[MONITORS]), all[..5].to_vec()),
            ("opener", of(&[LEDGER_OPEN]), and(&[R::OpenAccounts, R::SetLimits])),
            ("teller", of(&[LEDGER_MOVE]), and(&[R::MoveMoney, R::SettleSagas])),
            ("auditor", of(&[LEDGER_AUDIT]), and(&[R::ReadLedger, R::AuditLedger])),
            ("operator of a tenant", of(&[OPERATORS, "tenant:a-"]), and(&[])),
            ("teller of a tenant", of(&[LEDGER_MOVE, "tenant:a-"]), and(&[])),
            (
                "the ledger's tenant",
                of(&[LEDGER_FREEZE, "tenant:ledger."]),
                and(&[R::FreezeAccounts]),
            ),
            ("admin of a tenant", of(&[ADMINS, "tenant:a-"]), all.to_vec()),
            ("a machine", machine(&[]), any[..3].to_vec()),
            ("an administrator's machine", machine(&[ADMINS]), all.to_vec()),
            ("an issuer's", issued("ada"), any[..3].to_vec()),
        ];
        for (who, caller, expected) in cases {
            let has: Vec<Right> = all.into_iter().filter(|r| r.check(&caller).is_ok()).collect();
            assert_eq!(has, expected, "{who}");
        }
        assert!(ledger.iter().all(|right| right.is_of_ledger()));
        assert_eq!(tenants(&of(&["tenant:"])).collect::<Vec<_>>(), ["\0"]);
    }

    #[test]
    fn a_refusal_names_the_group() {
        let refused = Right::Operate.check(&of(&[])).expect_err("refused").to_string();
        assert!(refused.contains("$admins or $ops"), "{refused}");
    }
}
