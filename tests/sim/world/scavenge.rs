//! Scavenges, a step at a time, and what may become of what they write.

use daybook_log::segment::{SEGMENT_SUFFIX, parse_name};
use daybook_store::scavenge::{Step, Thoroughness};

use super::*;

/// Where in a segment's header its format stands.
const FORMAT_BYTES: std::ops::Range<u64> = 8..12;

impl World {
    /// Some steps of a scavenge.
    pub(super) fn scavenge(&mut self) -> Result<(), String> {
        let everything = self.rng.chance(3, 4);
        let thoroughness =
            if everything { Thoroughness::Everything } else { Thoroughness::Worthwhile };
        for _ in 0..self.rng.between(1, 16) {
            match self.scavenge_step(thoroughness)? {
                Some(Step::Done) | None => break,
                Some(Step::Installed) if self.rng.chance(1, 4) => self.keep_from_readers(),
                // The index is there, and its log has no name yet.
                Some(Step::Indexed) if self.rng.chance(1, 3) => self.future()?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The new generation, which has its name, cannot be opened; perhaps its name stays, too.
    fn keep_from_readers(&mut self) {
        let once = Repeat::Once;
        self.disk.fail_after(Operation::Open, Some(".idx"), 1, Fault::Eio, once);
        if self.rng.chance(1, 4) {
            self.disk.fail_after(Operation::Remove, Some(".log"), 2, Fault::Eio, once);
        }
        self.trouble.faults = true;
        self.saw("a new generation was kept from readers");
    }

    /// One step; none if it failed, for a reason, or the process died.
    fn scavenge_step(&mut self, thoroughness: Thoroughness) -> Result<Option<Step>, String> {
        let goers = self.checker.model.goers(self.now());
        self.checker.model.may_go.extend(goers);
        let result = self.engine().scavenge(thoroughness);
        self.note(format!("scavenge: {result:?}"));
        if self.disk.is_down() {
            return Ok(None);
        }
        match result {
            Ok(Step::GaveUp) => {
                self.saw("a scavenge gave a segment up");
                let rotten = std::mem::take(&mut self.trouble.draft);
                if rotten || self.trouble.faults || self.trouble.full {
                    return Ok(Some(Step::GaveUp));
                }
                Err("a scavenge gave a segment up without a reason".to_owned())
            }
            Ok(step) => {
                self.scavenged(step)?;
                Ok(Some(step))
            }
            Err(e) => {
                self.saw("a scavenge failed");
                let rotten = std::mem::take(&mut self.trouble.draft);
                let index = self.trouble.index;
                if index {
                    self.mend();
                }
                if rotten || index || self.trouble.faults || self.trouble.full {
                    return Ok(None);
                }
                Err(format!("a scavenge failed without a reason: {e}"))
            }
        }
    }

    fn scavenged(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Written if self.rng.chance(1, 6) => {
                let names = self.disk.names();
                if let Some(name) = names.iter().find(|name| name.ends_with(".log.tmp")) {
                    self.flip(&name.clone());
                    self.trouble.draft = true;
                }
            }
            Step::ReadBack => self.trouble.draft = false,
            Step::Swapped => {
                self.saw("a segment was rewritten");
                let read = reads::scan(self.engine(), 0);
                match read {
                    Ok(facts) => {
                        // What was committed since is not known yet.
                        let known = self.checker.model.len();
                        let len = facts.partition_point(|fact| fact.position < known);
                        self.checker.model.found(&facts[..len])?;
                    }
                    Err(e) => {
                        self.failed(&e)?;
                        self.calm();
                        let facts = reads::scan(self.engine(), 0);
                        let facts = facts.map_err(|e| format!("after a scavenge: {e}"))?;
                        let known = self.checker.model.len();
                        let len = facts.partition_point(|fact| fact.position < known);
                        self.checker.model.found(&facts[..len])?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn flip(&mut self, name: &str) {
        let size = self.disk.read_all(name).map_or(0, |bytes| bytes.len() as u64);
        if size > 0 {
            let (byte, bit) = (self.rng.below(size), self.rng.below(8) as u32);
            // A header that names another format is refused, whatever else is there: it may be of
            // a later version. The byte after those is as good.
            let byte = if FORMAT_BYTES.contains(&byte) { FORMAT_BYTES.end } else { byte };
            let flipped = self.disk.flip_bit(name, byte, bit).is_ok();
            self.note(format!("bit {bit} of byte {byte} of {name} is wrong: {flipped}"));
        }
    }

    /// Of two generations of a segment the newer one rots, perhaps, while nobody uses it.
    pub(super) fn rot_newer(&mut self) -> bool {
        let names = self.disk.names();
        let mut segments: Vec<_> =
            names.iter().filter_map(|name| parse_name(name, SEGMENT_SUFFIX)).collect();
        segments.sort_unstable();
        let twice = segments.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1]);
        let Some((first, generation)) = twice else { return false };
        self.saw("a start found two generations of a segment");
        if !self.rng.chance(1, 2) {
            return false;
        }
        self.flip(&daybook_log::segment::segment_name(first, generation));
        true
    }

    /// A whole scavenge: of what goes nothing is left in sealed segments.
    pub(super) fn scavenge_all(&mut self) -> Result<(), String> {
        // One that was at work already may have looked earlier.
        let mut left = 2;
        for _ in 0..20_000 {
            match self.scavenge_step(Thoroughness::Everything)? {
                Some(Step::Done) if left == 1 => break,
                Some(Step::Done) => left -= 1,
                // What rotted is written once more by the next one.
                Some(Step::GaveUp) => left = 2,
                // Something else is damaged, and was excused.
                None => return Ok(()),
                Some(_) => {}
            }
        }
        let names = self.disk.names();
        let segments = names.iter().filter_map(|name| parse_name(name, SEGMENT_SUFFIX));
        let active = segments.map(|(first, _)| first.0).max().unwrap_or(0);
        let model = &self.checker.model;
        let left = model.goers(self.now());
        match left.iter().find(|position| **position < active && model.is_there(**position)) {
            Some(position) => {
                let brief = model.events[*position as usize].brief();
                Err(format!("{brief} was not removed by a scavenge of everything"))
            }
            None => Ok(()),
        }
    }
}
