//! Operations that fail on request.

use std::io;

use rustix::io::Errno;

use super::trace::Step;

/// Something done to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Operation {
    Open,
    Create,
    Rename,
    Remove,
    List,
    SyncNames,
    FreeSpace,
    Read,
    Write,
    Sync,
    Len,
}

impl Operation {
    /// Whether it can change what a power cut leaves: the points between which crashes differ.
    #[must_use]
    pub const fn is_change(self) -> bool {
        match self {
            Self::Create
            | Self::Rename
            | Self::Remove
            | Self::SyncNames
            | Self::Write
            | Self::Sync => true,
            Self::Open | Self::List | Self::FreeSpace | Self::Read | Self::Len => false,
        }
    }

    pub(super) const fn action(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::List => "list",
            Self::SyncNames | Self::Sync => "sync",
            Self::FreeSpace => "ask for the free space of",
            Self::Read => "read",
            Self::Write => "write to",
            Self::Len => "ask for the length of",
        }
    }
}

/// How an operation fails.
///
/// A failed sync, however it fails, leaves what it was to sync for ever in doubt: seen until a
/// power cut, kept or lost by it, and not made durable by a later sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With an input/output error, without effect.
    Eio,
    /// For lack of space, without effect.
    Enospc,
    /// A write stops in the middle with an input/output error; others fail as by [`Fault::Eio`].
    Torn,
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Eio | Self::Torn => Errno::IO.into(),
            Self::Enospc => Errno::NOSPC.into(),
        }
    }
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Once.
    Once,
    /// From then on, until [`super::SimDisk::clear_faults`].
    Always,
}

#[derive(Clone, Debug)]
struct Plan {
    operation: Operation,
    name_contains: Option<String>,
    /// Matching operations still to succeed.
    spared: u64,
    fault: Fault,
    repeat: Repeat,
}

/// The faults to come.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    plans: Vec<Plan>,
}

impl Faults {
    pub(super) fn plan(
        &mut self,
        operation: Operation,
        name_contains: Option<&str>,
        nth: u64,
        fault: Fault,
        repeat: Repeat,
    ) {
        self.plans.push(Plan {
            operation,
            name_contains: name_contains.map(str::to_owned),
            spared: nth.saturating_sub(1),
            fault,
            repeat,
        });
    }

    pub(super) fn clear(&mut self) {
        self.plans.clear();
    }

    /// The fault that strikes this operation. Counts it for every plan that it matches.
    pub(super) fn strike(&mut self, step: &Step) -> Option<Fault> {
        let mut struck = None;
        self.plans.retain_mut(|plan| {
            let matches = plan.operation == step.operation
                && plan.name_contains.as_deref().is_none_or(|part| step.concerns(part));
            if !matches {
                return true;
            }
            if plan.spared > 0 {
                plan.spared -= 1;
                return true;
            }
            if struck.is_some() {
                return true;
            }
            struck = Some(plan.fault);
            plan.repeat == Repeat::Always
        });
        struck
    }
}
