//! The rules of expected revisions and idempotency, pure: from what is stored and what is asked,
//! and nothing else.
//!
//! | stream       | any | no stream      | stream exists      | exactly N                          |
//! |--------------|-----|----------------|--------------------|------------------------------------|
//! | missing      | ok  | ok             | wrong, unless it   | wrong                              |
//! |              |     |                | has metadata       |                                    |
//! | last = L     | ok¹ | same ids from  | ok¹                | N = L ok; N < L same ids after N?  |
//! |              |     | 0 on? else     |                    | else wrong; N > L wrong            |
//! |              |     | wrong          |                    |                                    |
//! | soft-deleted | ok¹ | ok             | deleted            | as last = L                        |
//! | tombstoned   | deleted, if there are events                                                |
//!
//! ¹ unless the ids were written to this stream lately: all of them in order is a duplicate (the
//! first answer is given again); a known first id followed by another is wrong; an unknown first
//! id means that all is new. These are KurrentDB's rules.

use daybook_log::planted::{self, Bug};
use daybook_model::append::{EndedState, FoundState};
use daybook_model::{ExpectedRevision, Revision};

/// What is stored of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamFacts {
    /// The revision of its last event.
    pub head: Option<u64>,
    pub tombstoned: bool,
    pub soft_deleted: bool,
    /// Whether metadata was ever written for it.
    pub has_metadata: bool,
}

/// What becomes of one stream's part of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It may be written (or, without events, its condition holds).
    Append,
    /// It was written before; its last event has this revision.
    Duplicate { last: u64 },
    /// The condition does not hold.
    Wrong,
    /// The stream is deleted.
    Deleted,
}

/// Decides one stream's part of an append: `known[i]` is the revision at which the i-th event's
/// id was found in this stream, if it was.
pub(crate) fn decide(
    facts: &StreamFacts,
    expected: ExpectedRevision,
    known: &[Option<u64>],
) -> Decision {
    if planted::is(Bug::ConditionAlwaysHolds) && !facts.tombstoned {
        return Decision::Append;
    }
    if facts.tombstoned && !known.is_empty() && !planted::is(Bug::TombstoneForgotten) {
        return Decision::Deleted;
    }
    match expected {
        ExpectedRevision::Any => weak(known),
        ExpectedRevision::StreamExists if facts.soft_deleted || facts.tombstoned => {
            Decision::Deleted
        }
        ExpectedRevision::StreamExists if facts.head.is_none() && !facts.has_metadata => {
            Decision::Wrong
        }
        ExpectedRevision::StreamExists => weak(known),
        ExpectedRevision::NoStream => match facts.head {
            None => Decision::Append,
            Some(_) if facts.tombstoned => Decision::Append,
            Some(_) if facts.soft_deleted => match strong(0, known) {
                Decision::Wrong => Decision::Append,
                other => other,
            },
            Some(_) => strong(0, known),
        },
        ExpectedRevision::Exact(n) => match facts.head {
            Some(head) if n.0 == head => Decision::Append,
            Some(head) if n.0 < head => strong(n.0 + 1, known),
            _ => Decision::Wrong,
        },
    }
}

/// Whether an append's check of a stream holds: `ended` is what it asks of how the stream ended,
/// `decision` what [`decide`] says of what it expects otherwise, `writes` whether it has events for
/// the stream. Stricter than [`decide`]: a stream that ended has no revision any more.
pub(crate) fn check_holds(
    facts: &StreamFacts,
    (expected, ended): (ExpectedRevision, Option<EndedState>),
    decision: Decision,
    writes: bool,
) -> bool {
    match (ended, expected) {
        (Some(EndedState::Tombstoned), _) => facts.tombstoned && !writes,
        (Some(EndedState::SoftDeleted), _) => facts.soft_deleted && !facts.tombstoned,
        (None, ExpectedRevision::Any) => true,
        (None, ExpectedRevision::Exact(_)) if facts.tombstoned => false,
        (None, _) => decision == Decision::Append,
    }
}

/// What a check finds.
pub(crate) fn found(facts: &StreamFacts) -> FoundState {
    match facts.head {
        _ if facts.tombstoned => FoundState::Tombstoned,
        _ if facts.soft_deleted => FoundState::SoftDeleted,
        Some(head) => FoundState::At(Revision(head)),
        None => FoundState::NoStream,
    }
}

/// The same ids must stand in the stream itself, from `first` on.
fn strong(first: u64, known: &[Option<u64>]) -> Decision {
    if known.is_empty() {
        return Decision::Wrong;
    }
    if planted::is(Bug::IdsNotCompared) {
        return Decision::Duplicate { last: first + known.len() as u64 - 1 };
    }
    let same = known.iter().enumerate().all(|(i, at)| *at == Some(first + i as u64));
    if same {
        Decision::Duplicate { last: first + known.len() as u64 - 1 }
    } else {
        Decision::Wrong
    }
}

/// The ids are looked for among those written lately.
fn weak(known: &[Option<u64>]) -> Decision {
    let Some(Some(first)) = known.first() else { return Decision::Append };
    strong(*first, known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: ExpectedRevision = ExpectedRevision::Any;
    const NONE: ExpectedRevision = ExpectedRevision::NoStream;
    const EXISTS: ExpectedRevision = ExpectedRevision::StreamExists;

    fn at(n: u64) -> ExpectedRevision {
        ExpectedRevision::Exact(Revision(n))
    }

    #[test]
    fn the_table_holds() {
        use Decision::{Append, Deleted, Duplicate, Wrong};
        let missing = StreamFacts::default();
        let described = StreamFacts { has_metadata: true, ..missing };
        let live = StreamFacts { head: Some(5), ..missing };
        let soft = StreamFacts { soft_deleted: true, has_metadata: true, ..live };
        let ended = StreamFacts { tombstoned: true, ..live };
        let new: &[Option<u64>] = &[None];
        type Case = (&'static str, StreamFacts, ExpectedRevision, &'static [Option<u64>], Decision);
        let cases: [Case; 38] = [
            ("missing, any", missing, ANY, new, Append),
            ("missing, none", missing, NONE, new, Append),
            ("missing, exists", missing, EXISTS, new, Wrong),
            ("missing, exact", missing, at(0), new, Wrong),
            ("described, exists", described, EXISTS, new, Append),
            ("described, any", described, ANY, new, Append),
            ("described, none", described, NONE, new, Append),
            ("described, exact", described, at(0), new, Wrong),
            ("live, any", live, ANY, new, Append),
            ("live, exists", live, EXISTS, new, Append),
            ("live, none, new ids", live, NONE, new, Wrong),
            ("live, none, same ids from 0", live, NONE, &[Some(0), Some(1)], Duplicate { last: 1 }),
            ("live, none, same ids later", live, NONE, &[Some(1)], Wrong),
            ("live, none, runs past the end", live, NONE, &[Some(0), None], Wrong),
            ("live, at the end", live, at(5), new, Append),
            ("live, at the end, known id", live, at(5), &[Some(2)], Append),
            ("live, before, same ids", live, at(3), &[Some(4), Some(5)], Duplicate { last: 5 }),
            ("live, before, other order", live, at(3), &[Some(5), Some(4)], Wrong),
            ("live, before, partly", live, at(3), &[Some(4), None], Wrong),
            ("live, before, past the end", live, at(4), &[Some(5), None], Wrong),
            ("live, before, new ids", live, at(3), new, Wrong),
            ("live, beyond", live, at(6), new, Wrong),
            ("live, beyond, known id", live, at(6), &[Some(5)], Wrong),
            ("live, any, all known", live, ANY, &[Some(2), Some(3)], Duplicate { last: 3 }),
            ("live, any, known then new", live, ANY, &[Some(5), None], Wrong),
            ("live, any, new then known", live, ANY, &[None, Some(5)], Append),
            ("live, any, known, out of order", live, ANY, &[Some(3), Some(2)], Wrong),
            ("live, exists, all known", live, EXISTS, &[Some(2)], Duplicate { last: 2 }),
            ("live, any, no events", live, ANY, &[], Append),
            ("live, exact, no events", live, at(5), &[], Append),
            ("live, wrong, no events", live, at(4), &[], Wrong),
            ("soft, any", soft, ANY, new, Append),
            ("soft, none", soft, NONE, new, Append),
            ("soft, exists", soft, EXISTS, new, Deleted),
            ("soft, exact", soft, at(5), new, Append),
            ("ended, any", ended, ANY, new, Deleted),
            ("ended, exact", ended, at(5), new, Deleted),
            ("ended, any, no events", ended, ANY, &[], Append),
        ];
        for (name, facts, expected, known, decision) in cases {
            assert_eq!(decide(&facts, expected, known), decision, "{name}");
        }
    }

    #[test]
    fn checks_hold_and_tell_what_they_found() {
        let missing = StreamFacts::default();
        let live = StreamFacts { head: Some(5), ..missing };
        let soft = StreamFacts { soft_deleted: true, has_metadata: true, ..live };
        let ended = StreamFacts { tombstoned: true, ..live };
        let (is_soft, is_ended) = (Some(EndedState::SoftDeleted), Some(EndedState::Tombstoned));
        const READS: bool = false;
        const WRITES: bool = true;
        type Check = (ExpectedRevision, Option<EndedState>);
        let cases: [(&str, StreamFacts, Check, bool, bool, i64); 24] = [
            ("missing, none", missing, (NONE, None), READS, true, -1),
            ("missing, exists", missing, (EXISTS, None), READS, false, -1),
            ("missing, exact", missing, (at(0), None), READS, false, -1),
            ("missing, soft", missing, (ANY, is_soft), READS, false, -1),
            ("missing, ended", missing, (ANY, is_ended), READS, false, -1),
            ("live, exact", live, (at(5), None), READS, true, 5),
            ("live, exact, written", live, (at(5), None), WRITES, true, 5),
            ("live, behind", live, (at(4), None), READS, false, 5),
            ("live, ahead", live, (at(6), None), READS, false, 5),
            ("live, exists", live, (EXISTS, None), READS, true, 5),
            ("live, none", live, (NONE, None), READS, false, 5),
            ("live, soft", live, (ANY, is_soft), READS, false, 5),
            ("soft, none", soft, (NONE, None), READS, true, -5),
            ("soft, none, written", soft, (NONE, None), WRITES, true, -5),
            ("soft, its last", soft, (at(5), None), READS, true, -5),
            ("soft, another", soft, (at(4), None), READS, false, -5),
            ("soft, exists", soft, (EXISTS, None), READS, false, -5),
            ("soft, soft, written", soft, (ANY, is_soft), WRITES, true, -5),
            ("ended, none", ended, (NONE, None), READS, true, -6),
            ("ended, none, written", ended, (NONE, None), WRITES, false, -6),
            ("ended, its last", ended, (at(5), None), READS, false, -6),
            ("ended, exists", ended, (EXISTS, None), READS, false, -6),
            ("ended, ended", ended, (ANY, is_ended), READS, true, -6),
            ("ended, ended, written", ended, (ANY, is_ended), WRITES, false, -6),
        ];
        for (name, facts, check, writes, holds, code) in cases {
            let known: &[Option<u64>] = if writes { &[None] } else { &[] };
            let decision = decide(&facts, check.0, known);
            assert_eq!(check_holds(&facts, check, decision, writes), holds, "{name}");
            assert_eq!(found(&facts).code(), code, "{name}");
        }
    }
}
