//! Which streams have something that goes, and in which sealed segments it lies.
//!
//! Only a stream with settings or a tombstone loses events, and the index knows those: by the names
//! that begin with `$$`, and by what deleted streams. So a survey costs by the number of such
//! streams, not by the size of the log. It goes in rounds, each of a bounded number of streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use daybook_log::planted::{self, Bug};
use daybook_model::{Position, StreamName, Timestamp};

use super::decide::{Facts, Rule};
use super::judge::Rules;
use crate::core::Core;
use crate::fetch::fetch;
use crate::index::key::{DELETED, IdentityState};
use crate::index::{Access, Key, KeyKind, View};
use crate::read::ReadError;
use crate::resolve::settings;

/// Streams of one round that lose events: bounds the memory of a pass, some 80 bytes each.
pub(crate) const RULES_MAX: usize = 262_144;
/// Names, or deletions, that are looked up at once.
const PAGE_LEN: usize = 512;
/// What such a page counts for beside bytes that are read, in bytes: a few blocks of the index for
/// each name.
const PAGE_SIZE: u64 = 512 * 1024;

/// Where a round begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// With the metadata streams, from the first on.
    #[default]
    Start,
    /// With the metadata streams after this one.
    After(String),
    /// With what deleted streams, from this one on.
    Deletions(u64),
    /// There is no more.
    End,
}

/// What a sealed segment holds that goes, perhaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Events, those removed before included.
    pub events: u64,
    /// Of which streams how many: the same as long as nothing has changed.
    pub fingerprint: u64,
}

/// What a rule rests on: how many settings events there were of the stream and, of a metadata
/// stream, of the one that it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Basis {
    own: (Key, u64),
    described: Option<(Key, u64)>,
}

impl Basis {
    /// Whether nothing was set since. Not, if that cannot be read.
    pub fn holds(&self, core: &Core) -> bool {
        let (committed, view) = (core.committed(), core.view.load());
        let same = |(key, count): (Key, u64)| {
            view.count(key, committed, Access::Disk).is_ok_and(|now| now == count)
        };
        same(self.own) && self.described.is_none_or(same)
    }
}

/// One round.
pub(crate) struct Survey {
    pub rules: Rules,
    pub shares: BTreeMap<Position, Share>,
    /// Of how many streams nothing goes because what says so cannot be read, and why of the first.
    pub damage: Option<(u64, ReadError)>,
    pub next: Cursor,
}

/// Makes a round.
struct Surveyor<'a> {
    core: &'a Core,
    view: Arc<View>,
    committed: Position,
    now: Timestamp,
    /// For each limit of time the first position that is younger.
    ages: BTreeMap<Timestamp, Position>,
    rules: Rules,
    shares: BTreeMap<Position, Share>,
    damage: Option<(u64, ReadError)>,
}

/// Surveys the streams from `cursor` on. What is older than `now` allows has expired. `go_on` is
/// asked after each page of names; none if it says no.
pub(crate) fn survey(
    core: &Core,
    cursor: Cursor,
    now: Timestamp,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Survey>, ReadError> {
    let committed = core.committed();
    let mut surveyor = Surveyor {
        core,
        view: core.view.load_full(),
        committed,
        now,
        ages: BTreeMap::new(),
        rules: Rules::with_hasher(IdentityState),
        shares: BTreeMap::new(),
        damage: None,
    };
    let mut next = cursor;
    while next != Cursor::End && surveyor.rules.len() < RULES_MAX {
        next = match next {
            Cursor::Start => surveyor.metadata(None)?,
            Cursor::After(name) => surveyor.metadata(Some(&name))?,
            Cursor::Deletions(from) => surveyor.deletions(from)?,
            Cursor::End => Cursor::End,
        };
        if !go_on(PAGE_SIZE) {
            return Ok(None);
        }
    }
    let Surveyor { rules, shares, damage, .. } = surveyor;
    Ok(Some(Survey { rules, shares, damage, next }))
}

impl Surveyor<'_> {
    fn metadata(&mut self, after: Option<&str>) -> Result<Cursor, ReadError> {
        let names = self.view.names("$$", after, PAGE_LEN)?;
        for name in &names {
            let described = name.strip_prefix("$$").unwrap_or_default();
            // Longer than a client's may be: the metadata stream of a metadata stream.
            let Ok(described) = StreamName::new(described) else { continue };
            self.look_at(&described)?;
            self.look_at(&described.metastream())?;
        }
        match names.into_iter().next_back() {
            Some(last) => Ok(Cursor::After(last)),
            None => Ok(Cursor::Deletions(0)),
        }
    }

    fn deletions(&mut self, from: u64) -> Result<Cursor, ReadError> {
        let key = self.core.hasher.key(KeyKind::EventType, DELETED);
        let (view, committed) = (self.view.clone(), self.committed);
        let positions = view.positions(key, from, PAGE_LEN, committed, Access::Disk)?;
        if positions.is_empty() {
            return Ok(Cursor::End);
        }
        let page = match fetch(self.core, &view, &positions, Access::Disk) {
            // One of them: the others are found without it.
            Err(ReadError::Damaged { .. }) => {
                match fetch(self.core, &view, &positions[..1], Access::Disk) {
                    Err(damage @ ReadError::Damaged { .. }) => {
                        self.unreadable(damage);
                        return Ok(Cursor::Deletions(from + 1));
                    }
                    other => other?,
                }
            }
            other => other?,
        };
        for event in page.events().filter(|event| event.tombstone) {
            // Those with metadata were met already; what is done twice comes out the same.
            if let Ok(stream) = StreamName::new(event.stream) {
                self.look_at(&stream)?;
            }
        }
        Ok(Cursor::Deletions(from + page.considered.max(1) as u64))
    }

    fn unreadable(&mut self, damage: ReadError) {
        self.damage.get_or_insert((0, damage)).0 += 1;
    }

    /// As [`Surveyor::add`]; a stream of which it cannot be read what goes keeps all.
    fn look_at(&mut self, stream: &StreamName) -> Result<(), ReadError> {
        match self.add(stream) {
            Err(damage @ ReadError::Damaged { .. }) if !planted::is(Bug::DamageEndsScavenge) => {
                self.unreadable(damage);
                Ok(())
            }
            other => other,
        }
    }

    /// Notes what goes of `stream`, if anything, and where it lies.
    fn add(&mut self, stream: &StreamName) -> Result<(), ReadError> {
        let key = self.core.hasher.key(KeyKind::Stream, stream.as_str());
        if self.rules.contains_key(&key) {
            return Ok(());
        }
        let (facts, basis) = self.facts(stream, key)?;
        let Some(rule) = Rule::of(stream, &facts) else { return Ok(()) };
        let young = match rule.before {
            Some(before) => self.position_at(before)?,
            None => Position(0),
        };
        let mut number = 0;
        for (segment, count) in self.view.holdings(key, Access::Disk)? {
            let by_number = rule.below.saturating_sub(number).min(count);
            let by_age = self.older(key, (segment, count), young)?;
            let events = by_number.max(by_age);
            number += count;
            if events > 0 {
                let share = self.shares.entry(segment).or_default();
                share.events += events;
                let mixed = key.hash() ^ events.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                share.fingerprint = share.fingerprint.wrapping_add(mixed.rotate_left(17));
            }
        }
        self.rules.insert(key, (rule, basis));
        Ok(())
    }

    fn facts(&self, stream: &StreamName, key: Key) -> Result<(Facts, Basis), ReadError> {
        let (core, view, committed) = (self.core, &*self.view, self.committed);
        let of = |name: &str| {
            let key = core.hasher.key(KeyKind::Settings, name);
            let count = view.count(key, committed, Access::Disk)?;
            let settings = settings(core, view, key, committed, Access::Disk)?;
            Ok::<_, ReadError>((settings, (key, count)))
        };
        let (own, own_basis) = of(stream.as_str())?;
        let described = stream.described().map(of).transpose()?;
        let basis =
            Basis { own: own_basis, described: described.as_ref().map(|(_, basis)| *basis) };
        let described = described.map(|(settings, _)| settings);
        let over = described.as_ref().is_some_and(|described| described.tombstoned);
        let facts = Facts {
            count: view.count(key, committed, Access::Disk)?,
            ended: own.tombstoned || over,
            metadata: own.metadata,
            settings: described.and_then(|described| described.position),
            now: self.now,
        };
        Ok((facts, basis))
    }

    /// How many entries of `key` in a segment are older than the event at `young`.
    fn older(
        &self,
        key: Key,
        (segment, count): (Position, u64),
        young: Position,
    ) -> Result<u64, ReadError> {
        let sealed = self.view.sealed_at(segment);
        if young <= segment {
            return Ok(0);
        }
        if sealed.end <= young {
            return Ok(count);
        }
        let mut positions = Vec::new();
        sealed.positions(key, 0, count as usize, Access::Disk, &mut positions)?;
        Ok(positions.partition_point(|position| *position < young) as u64)
    }

    /// The first sealed position whose event was not committed before `time`: times never go back.
    fn position_at(&mut self, time: Timestamp) -> Result<Position, ReadError> {
        if let Some(known) = self.ages.get(&time) {
            return Ok(*known);
        }
        let end = self.view.sealed.last().map_or(Position(0), |sealed| sealed.end);
        let (mut low, mut high) = (0, end.0);
        while low < high {
            let middle = low + (high - low) / 2;
            let time_of = match fetch(self.core, &self.view, &[Position(middle)], Access::Disk) {
                Ok(page) => page.last_time(),
                Err(ReadError::Damaged { .. }) => None,
                Err(e) => return Err(e),
            };
            // The place of an event that never was here has no time, and one that is damaged does
            // not say it: it is taken for older. What goes is asked of each event once more.
            match time_of {
                Some(at) if at >= time => high = middle,
                _ => low = middle + 1,
            }
        }
        self.ages.insert(time, Position(low));
        Ok(Position(low))
    }
}
