//! Whether the log, the accounts and the subscribers agree with what users were told.
//!
//! ```text
//!   acknowledged   every acknowledged event is there, at its place, with its bytes
//!   once           none is there twice, in part, or without anybody having sent it
//!   order          positions 0, 1, 2 …; revisions 0, 1, 2 … in each stream; each user's in its order
//!   subscribers    each saw every event of the log once, in order
//!   transfers      completed: one debit, one credit, one end;  compensated: a debit and its refund,
//!                  or neither;  and that is what the sender was told
//!   money          each account has what it was opened with, plus and minus its transfers; the
//!                  trial balance is zero
//!   sagas          none is under way or failed
//! ```
//!
//! INVARIANT: pure; a check that could not be made has not passed.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use crate::journal::{Append, End, Findings, Followed, Memory, Transfer};

#[cfg(test)]
mod tests;

/// How the users' own streams begin.
pub const STREAM_PREFIX: &str = "chaos-";

/// One question and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is about.
    pub name: &'static str,
    /// What was looked at.
    pub about: String,
    /// What is wrong.
    pub findings: Findings,
}

impl Check {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.count == 0
    }
}

/// One event of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the store.
    pub position: u64,
    /// Its stream.
    pub stream: String,
    /// Its number there.
    pub revision: u64,
    /// Its id.
    pub id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Its data.
    pub data: Bytes,
}

/// What the server says of its books.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The accounts' balances in cents, by index; none if it is no amount of two digits.
    pub balances: Vec<Option<i64>>,
    /// `/v1/trial-balance?verify=true`
    pub trial_balance: Value,
    /// The state of each saga that is not over.
    pub sagas: Vec<String>,
}

/// Makes all checks.
#[must_use]
pub fn all(memory: &Memory, log: &[Entry], followed: &[Followed], books: &Books) -> Vec<Check> {
    let legs = Legs::of(log);
    let mut checks = vec![
        acknowledged(memory, log),
        once(memory, log),
        order(memory, log),
        transfers(memory, &legs),
        money(memory, &legs, books),
        sagas(books),
    ];
    checks.extend(followed.iter().map(|followed| subscriber(followed, log)));
    checks
}

fn by_id(log: &[Entry]) -> BTreeMap<Uuid, &Entry> {
    log.iter().map(|entry| (entry.id, entry)).collect()
}

fn acknowledged(memory: &Memory, log: &[Entry]) -> Check {
    let (entries, mut findings, mut events) = (by_id(log), memory.oddities.clone(), 0);
    for append in &memory.appends {
        let Some((revision, position)) = append.told else {
            findings.add(|| format!("never settled: {}", name(append)));
            continue;
        };
        for (back, event) in append.events.iter().rev().enumerate() {
            events += 1;
            let Some(entry) = entries.get(&event.id) else {
                findings.add(|| format!("lost: {} of {}", event.id, name(append)));
                continue;
            };
            let place = (entry.revision + back as u64, entry.position + back as u64);
            if entry.stream != append.stream || place != (revision, position) {
                findings.add(|| {
                    let (stream, revision, position) =
                        (&entry.stream, entry.revision, entry.position);
                    format!("moved: {} is at {stream}@{revision}, {position}", name(append))
                });
            }
            if entry.data != event.data {
                findings.add(|| format!("changed: the bytes of {}", event.id));
            }
        }
    }
    let appends = memory.appends.len();
    let about = format!("{events} acknowledged events of {appends} appends are there, unchanged");
    Check { name: "acknowledged", about, findings }
}

fn name(append: &Append) -> String {
    let first = append.events.first().map(|event| event.id).unwrap_or_default();
    format!("the append of {first} to {} (told {:?})", append.stream, append.told)
}

fn once(memory: &Memory, log: &[Entry]) -> Check {
    let mut findings = Findings::default();
    let mut seen: BTreeMap<Uuid, u64> = BTreeMap::new();
    // The store's own first event has no id that means anything.
    for entry in log.iter().filter(|entry| entry.position > 0) {
        if let Some(before) = seen.insert(entry.id, entry.position) {
            findings.add(|| format!("twice: {} at {before} and {}", entry.id, entry.position));
        }
    }
    let mut ours = 0;
    for append in &memory.appends {
        let there = append.events.iter().filter(|event| seen.contains_key(&event.id)).count();
        ours += there;
        if there != 0 && there != append.events.len() {
            findings.add(|| format!("in part: {}", name(append)));
        }
    }
    let stored = log.iter().filter(|entry| entry.stream.starts_with(STREAM_PREFIX)).count();
    if stored > ours {
        findings.add(|| format!("{} events that nobody has sent", stored - ours));
    }
    let about = format!("{} events, none of them twice, in part or invented", log.len());
    Check { name: "once", about, findings }
}

fn order(memory: &Memory, log: &[Entry]) -> Check {
    let mut findings = Findings::default();
    let mut revisions: BTreeMap<&str, u64> = BTreeMap::new();
    for (expected, entry) in log.iter().enumerate() {
        if entry.position != expected as u64 {
            findings.add(|| format!("position {} where {expected} should be", entry.position));
        }
        let next = revisions.entry(&entry.stream).or_default();
        if entry.revision != *next {
            let (stream, revision) = (&entry.stream, entry.revision);
            findings.add(|| format!("revision {revision} of {stream} where {next} should be"));
        }
        *next = entry.revision + 1;
    }
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    for append in &memory.appends {
        let Some((_, position)) = append.told else { continue };
        if last.insert(append.user, position).is_some_and(|before| before >= position) {
            findings.add(|| format!("out of its user's order: {}", name(append)));
        }
    }
    let about = format!("positions and the revisions of {} streams without a gap", revisions.len());
    Check { name: "order", about, findings }
}

fn subscriber(followed: &Followed, log: &[Entry]) -> Check {
    let mut findings = followed.findings.clone();
    for (position, (seen, entry)) in followed.ids.iter().zip(log).enumerate() {
        if *seen != entry.id {
            findings.add(|| format!("saw {seen} at {position}, the log has {}", entry.id));
        }
    }
    let (seen, there) = (followed.ids.len(), log.len());
    if seen != there {
        findings.add(|| format!("saw {seen} events, the log has {there}"));
    }
    let about =
        format!("saw {seen} events, each once and in order; began {} times", followed.begun);
    Check { name: followed.name, about, findings }
}

/// What the log says of one transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    debits: u32,
    credits: u32,
    refunds: u32,
    completions: u32,
    rejections: u32,
}

/// What the log says of all transfers.
struct Legs(BTreeMap<String, Seen>);

impl Legs {
    fn of(log: &[Entry]) -> Legs {
        let mut legs: BTreeMap<String, Seen> = BTreeMap::new();
        for entry in log {
            type Counter = fn(&mut Seen) -> &mut u32;
            let counter: Counter = match entry.event_type.as_str() {
                "TransferDebited" => |seen| &mut seen.debits,
                "TransferCredited" => |seen| &mut seen.credits,
                "TransferRefunded" => |seen| &mut seen.refunds,
                "PaymentCompleted" => |seen| &mut seen.completions,
                "PaymentRejected" => |seen| &mut seen.rejections,
                _ => continue,
            };
            let data: Value = serde_json::from_slice(&entry.data).unwrap_or_default();
            let id = data["transfer_id"].as_str().unwrap_or_default().to_owned();
            *counter(legs.entry(id).or_default()) += 1;
        }
        Legs(legs)
    }

    /// How it ended, if it stands as a transfer may; `Ok(None)` if it never began.
    fn end(&self, transfer: &Transfer) -> Result<Option<End>, Seen> {
        let seen = self.0.get(&transfer.id.to_string()).copied().unwrap_or_default();
        match (seen.debits, seen.credits, seen.refunds, seen.completions, seen.rejections) {
            (0, 0, 0, 0, 0) => Ok(None),
            (1, 1, 0, 1, 0) => Ok(Some(End::Completed)),
            (1, 0, 1, 0, 1) | (0, 0, 0, 0, 1) => Ok(Some(End::Compensated)),
            _ => Err(seen),
        }
    }
}

fn transfers(memory: &Memory, legs: &Legs) -> Check {
    let (mut findings, mut completed, mut compensated) = (Findings::default(), 0, 0);
    for transfer in &memory.transfers {
        match (transfer.told, legs.end(transfer)) {
            (_, Err(seen)) => findings.add(|| format!("{} is half done: {seen:?}", transfer.id)),
            (None, Ok(_)) => findings.add(|| format!("{} was never settled", transfer.id)),
            (Some(told), Ok(there)) if there != Some(told) => {
                findings.add(|| format!("{} was told as {told:?}, it is {there:?}", transfer.id));
            }
            (Some(End::Completed), Ok(_)) => completed += 1,
            (Some(End::Compensated), Ok(_)) => compensated += 1,
        }
    }
    let ours = memory.transfers.iter().map(|transfer| transfer.id.to_string());
    let ours: std::collections::BTreeSet<String> = ours.collect();
    for id in legs.0.keys().filter(|id| !ours.contains(*id)) {
        findings.add(|| format!("transfer {id} was sent by nobody"));
    }
    let about = format!("{completed} completed and {compensated} compensated, each whole");
    Check { name: "transfers", about, findings }
}

fn money(memory: &Memory, legs: &Legs, books: &Books) -> Check {
    let mut findings = Findings::default();
    let mut expected = vec![memory.opened_cents; memory.accounts.len()];
    for transfer in &memory.transfers {
        if legs.end(transfer) == Ok(Some(End::Completed)) {
            expected[transfer.from] -= transfer.cents;
            expected[transfer.to] += transfer.cents;
        }
    }
    if books.balances.len() != expected.len() {
        findings.add(|| "not every account could be asked".to_owned());
    }
    for (account, (expected, found)) in expected.iter().zip(&books.balances).enumerate() {
        if *found != Some(*expected) {
            let id = memory.accounts[account];
            findings
                .add(|| format!("account {id} has {found:?} cents, by its transfers {expected}"));
        }
    }
    let sum: i64 = books.balances.iter().flatten().sum();
    let paid_in = memory.opened_cents * memory.accounts.len() as i64;
    if sum != paid_in {
        findings.add(|| format!("{paid_in} cents were paid in, {sum} are there"));
    }
    let trial = &books.trial_balance;
    if trial["balanced"] != Value::Bool(true) || trial["verified"]["equal"] != Value::Bool(true) {
        findings.add(|| format!("the trial balance is not: {trial}"));
    }
    for sums in trial["currencies"].as_array().into_iter().flatten() {
        let parts = ["customers", "cash", "clearing", "fees", "fx_position"];
        let parts: Option<Vec<i64>> = parts.into_iter().map(|part| cents(&sums[part])).collect();
        if parts.is_none_or(|parts| parts.iter().sum::<i64>() != 0) {
            findings.add(|| format!("the trial balance does not sum to zero: {sums}"));
        }
    }
    let accounts = expected.len();
    let about = format!("{accounts} accounts have what their transfers left; the books are zero");
    Check { name: "money", about, findings }
}

/// An amount of two digits after the point, exactly.
#[must_use]
pub fn cents(amount: &Value) -> Option<i64> {
    let (whole, part) = amount.as_str()?.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if part.len() != 2 || !digits(part) || !digits(whole.trim_start_matches('-')) {
        return None;
    }
    [whole, part].concat().parse().ok()
}

fn sagas(books: &Books) -> Check {
    let mut findings = Findings::default();
    for saga in &books.sagas {
        findings.add(|| saga.clone());
    }
    Check { name: "sagas", about: "none is under way or failed".to_owned(), findings }
}
