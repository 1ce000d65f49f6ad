//! Says of each event of a segment whether it goes.

use daybook_log::frame::Record;
use daybook_log::rewrite::Judge;
use daybook_model::Position;

use super::decide::Rule;
use super::survey::Basis;
use super::trace;
use crate::core::Core;
use crate::index::key::{IdentityState, KeyMap};
use crate::index::{Key, KeyKind};
use crate::record;

/// What goes of each stream, and what that rests on.
pub(super) type Rules = KeyMap<Key, (Rule, Basis)>;

/// Judges by the rules of a round.
pub(super) struct ByRules<'a> {
    core: &'a Core,
    rules: &'a Rules,
    /// Of each stream met that has a rule whether what it rests on still holds: a setting that was
    /// put right since the survey is obeyed.
    holds: KeyMap<Key, bool>,
}

impl<'a> ByRules<'a> {
    pub fn new(core: &'a Core, rules: &'a Rules) -> ByRules<'a> {
        ByRules { core, rules, holds: KeyMap::with_hasher(IdentityState) }
    }

    /// What the rules that were applied rest on.
    pub fn bases(&self) -> Vec<Basis> {
        let applied = self.holds.iter().filter(|(_, holds)| **holds);
        applied.filter_map(|(key, _)| self.rules.get(key)).map(|(_, basis)| *basis).collect()
    }
}

impl Judge for ByRules<'_> {
    fn goes(&mut self, position: Position, found: &Record<'_>) -> bool {
        let Some(event) = record::view(position, found.payload) else { return false };
        if record::is_gone(found.payload) {
            return false;
        }
        let key = self.core.hasher.key(KeyKind::Stream, event.stream);
        let Some((rule, basis)) = self.rules.get(&key) else { return false };
        rule.removes(&event) && *self.holds.entry(key).or_insert_with(|| basis.holds(self.core))
    }

    fn trace(&mut self, position: Position, found: &Record<'_>, out: &mut Vec<u8>) {
        if let Some(event) = record::view(position, found.payload) {
            trace::encode(out, &self.core.hasher, &event);
        }
    }
}
