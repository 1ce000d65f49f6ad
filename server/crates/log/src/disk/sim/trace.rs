//! What was done to a simulated disk, in order: a hash of all of it, and the last of it as text.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::faults::{Fault, Operation};
use super::rng::mix;

/// Operations kept as text: enough to see what led to a failure.
const RECENT_COUNT_MAX: usize = 256;

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) operation: Operation,
    pub(super) name: Arc<str>,
    /// The file's other name, of a rename.
    pub(super) to: Option<Arc<str>>,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Of the written bytes; 0 of zeros.
    pub(super) digest: u32,
}

impl Step {
    pub(super) const fn new(operation: Operation, name: Arc<str>) -> Self {
        Self { operation, name, to: None, offset: 0, length: 0, digest: 0 }
    }

    /// Whether one of its names contains `part`.
    pub(super) fn concerns(&self, part: &str) -> bool {
        self.name.contains(part) || self.to.as_deref().is_some_and(|to| to.contains(part))
    }

    pub(super) const fn at(mut self, offset: u64, length: u64) -> Self {
        self.offset = offset;
        self.length = length;
        self
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.operation, self.name)?;
        if let Some(to) = &self.to {
            write!(f, " -> {to}")?;
        }
        if self.length > 0 {
            write!(f, " [{}, +{}]", self.offset, self.length)?;
        }
        if self.digest != 0 {
            write!(f, " #{:08x}", self.digest)?;
        }
        Ok(())
    }
}

/// The record of all operations.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    recent: VecDeque<(Step, Option<Fault>)>,
}

impl Trace {
    pub(super) fn record(&mut self, step: Step, fault: Option<Fault>) {
        let name = crc32fast::hash(step.name.as_bytes());
        let to = step.to.as_deref().map_or(0, |to| crc32fast::hash(to.as_bytes()));
        let facts = [
            step.operation as u64,
            u64::from(name) << 32 | u64::from(to),
            step.offset,
            step.length,
            u64::from(step.digest) << 1 | u64::from(fault.is_some()),
        ];
        self.mix(&facts);
        if self.recent.len() == RECENT_COUNT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((step, fault));
    }

    /// Takes facts beside operations into the hash: crashes.
    pub(super) fn mix(&mut self, facts: &[u64]) {
        for fact in facts {
            self.hash = mix(self.hash.rotate_left(5).wrapping_add(mix(*fact)));
        }
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn recent(&self) -> Vec<String> {
        let line = |(step, fault): &(Step, Option<Fault>)| match fault {
            Some(fault) => format!("{step}: failed by {fault:?}"),
            None => step.to_string(),
        };
        self.recent.iter().map(line).collect()
    }
}
