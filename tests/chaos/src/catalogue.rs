//! The experiments: what is done, and what is believed about it beforehand.
//!
//! INVARIANT: a fault's figures come from the seed and the experiment's name alone, so that one
//! experiment by itself is the same as among all others.

use std::time::Duration;

use daybook_log::disk::sim::Rng;

use crate::faults::Fault;
use crate::proxy::{Door, Silence, Weather};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Set {
    /// One of each kind, for CI.
    Short,
    /// All of them.
    Long,
}

/// What the users' breaker must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Open in the fault, and be closed again in the end.
    OpensAndHeals,
    /// Be closed in the end, whether it opened or not.
    EndsClosed,
    /// Never open: slowness is no failure.
    StaysClosed,
}

/// One experiment.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Its name.
    pub name: &'static str,
    /// What is believed.
    pub hypothesis: &'static str,
    /// What is done.
    pub fault: Fault,
    /// The set in which it first is.
    pub set: Set,
    /// What the breaker must do.
    pub breaker: Breaker,
    /// How long the fault lasts at least; longer if phases are longer.
    pub lasts_min: Duration,
    /// Within this it must be as before: generous, several times what was measured. Only this and
    /// the invariants decide, not how fast it was.
    pub recovery_max: Duration,
}

/// A restart, and what waits for a debug server on a busy machine.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// A number that a name has, always the same (FNV-1a).
fn number_of(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// All of them, with the figures that `seed` decides.
#[must_use]
pub fn all(seed: u64) -> Vec<Experiment> {
    let mut all = network(seed);
    all.extend(process(seed));
    all.extend(disk(seed));
    all
}

struct Entry {
    name: &'static str,
    set: Set,
    breaker: Breaker,
    hypothesis: &'static str,
    fault: Box<dyn Fn(&mut Rng) -> Fault>,
}

fn entry(
    name: &'static str,
    set: Set,
    breaker: Breaker,
    hypothesis: &'static str,
    fault: impl Fn(&mut Rng) -> Fault + 'static,
) -> Entry {
    Entry { name, set, breaker, hypothesis, fault: Box::new(fault) }
}

fn drawn(entries: Vec<Entry>, seed: u64) -> Vec<Experiment> {
    let experiments = entries.into_iter().map(|entry| {
        let mut rng = Rng::new(seed ^ number_of(entry.name));
        let fault = (entry.fault)(&mut rng);
        // Silence is noticed by timeouts of 2 s: it must last longer than two of them.
        let is_silent = matches!(&fault, Fault::Stop | Fault::Partition)
            || matches!(&fault, Fault::Weather(weather) if weather.silence != Silence::None);
        Experiment {
            name: entry.name,
            hypothesis: entry.hypothesis,
            fault,
            set: entry.set,
            breaker: entry.breaker,
            lasts_min: Duration::from_secs(if is_silent { 5 } else { 0 }),
            recovery_max: RECOVERY_MAX,
        }
    });
    experiments.collect()
}

fn ms(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + rng.below(to - from + 1))
}

fn weather(change: impl FnOnce(&mut Weather)) -> Fault {
    let mut weather = Weather::default();
    change(&mut weather);
    Fault::Weather(weather)
}

fn network(seed: u64) -> Vec<Experiment> {
    use Breaker::{EndsClosed, OpensAndHeals, StaysClosed};
    use Set::{Long, Short};
    let entries = vec![
        entry(
            "latency",
            Short,
            StaysClosed,
            "Slow is not broken: every call is answered, later; no breaker opens",
            |rng| {
                weather(|weather| {
                    weather.latency = ms(rng, 40, 120);
                    weather.jitter = ms(rng, 20, 80);
                })
            },
        ),
        entry(
            "narrow",
            Long,
            EndsClosed,
            "A narrow link carries less, and what it carries is whole",
            |rng| weather(|weather| weather.bandwidth = Some((24 + rng.below(40)) * 1024)),
        ),
        entry(
            "slices",
            Long,
            StaysClosed,
            "Frames that arrive in pieces of a few bytes are read as if they came whole",
            |rng| weather(|weather| weather.slice_size = Some(1 + rng.below(7) as usize)),
        ),
        entry(
            "resets",
            Short,
            EndsClosed,
            "Appends and transfers whose connection breaks are sent again, and done once",
            |rng| Fault::Cuts(ms(rng, 200, 600)),
        ),
        entry(
            "half-closes",
            Long,
            EndsClosed,
            "A connection that says no more is replaced; nothing waits on it for ever",
            |rng| Fault::HalfCloses(ms(rng, 300, 700)),
        ),
        entry(
            "black-hole",
            Short,
            OpensAndHeals,
            "Silence is noticed by time alone: calls end, the breaker opens, and heals",
            |_| weather(|weather| weather.silence = Silence::Both),
        ),
        entry(
            "lost-answers",
            Short,
            OpensAndHeals,
            "What was done and not told is told when it is asked for again, and not done twice",
            |_| weather(|weather| weather.silence = Silence::Answers),
        ),
        entry(
            "refused",
            Long,
            OpensAndHeals,
            "Clients that are turned away at the door come back when it opens",
            |_| weather(|weather| weather.door = Door::Refusing),
        ),
        entry(
            "partition",
            Long,
            OpensAndHeals,
            "A pulled wire is as a black hole, with the kernel's own TCP at both ends",
            |_| Fault::Partition,
        ),
        entry(
            "netem",
            Long,
            EndsClosed,
            "Delayed and lost packets make it slower; TCP sends them again",
            |rng| Fault::Netem(ms(rng, 20, 60), ms(rng, 5, 20), 1 + rng.below(5) as u32),
        ),
    ];
    drawn(entries, seed)
}

fn process(seed: u64) -> Vec<Experiment> {
    use Breaker::{EndsClosed, OpensAndHeals};
    use Set::{Long, Short};
    let entries = vec![
        entry(
            "stop",
            Short,
            OpensAndHeals,
            "A server that hangs is as silent as a black hole; what it was sent it does later",
            |_| Fault::Stop,
        ),
        entry(
            "kill",
            Short,
            OpensAndHeals,
            "SIGKILL at any moment loses nothing that was acknowledged",
            |rng| Fault::Kill(ms(rng, 100, 1_000)),
        ),
        entry(
            "terminate",
            Short,
            OpensAndHeals,
            "A stop under load drains what was begun, ends with 0, and the next start goes on",
            |rng| Fault::Terminate(ms(rng, 100, 1_000)),
        ),
        entry(
            "starved",
            Long,
            EndsClosed,
            "With a part of a processor it is slow, and stays correct",
            |rng| Fault::Processor(3 + rng.below(4) as u32),
        ),
    ];
    drawn(entries, seed)
}

fn disk(seed: u64) -> Vec<Experiment> {
    use Breaker::{EndsClosed, OpensAndHeals};
    use Set::Short;
    let entries = vec![
        entry(
            "slow-sync",
            Short,
            EndsClosed,
            "A slow disk makes appends slow: they wait for it, and share the wait",
            |rng| Fault::SlowSync(ms(rng, 20, 60)),
        ),
        entry(
            "failed-sync",
            Short,
            OpensAndHeals,
            "After a failed fdatasync it takes nothing more, and says so; a restart finds out what \
             is durable",
            |_| Fault::FailedSync,
        ),
        entry(
            "full-disk",
            Short,
            OpensAndHeals,
            "Without room appends are refused, nothing is lost, and they go on when there is room",
            |_| Fault::FullDisk,
        ),
    ];
    drawn(entries, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_figures_and_the_name_which_of_them() {
        let faults = |seed| all(seed).into_iter().map(|e| (e.name, e.fault)).collect::<Vec<_>>();
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
    }

    #[test]
    fn names_are_words_of_their_own_and_the_short_set_has_every_kind() {
        let all = all(0);
        let mut names: Vec<_> = all.iter().map(|experiment| experiment.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        let short = all.iter().filter(|experiment| experiment.set == Set::Short).count();
        assert!((8..=12).contains(&short), "{short}: the short set has to take 3 minutes");
    }
}
