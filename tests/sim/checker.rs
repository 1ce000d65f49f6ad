//! Follows a log that grows: every event must be one that somebody asked for, once, whole, and
//! when the rules allowed it. Cloned, so that a disk's possible futures can be judged apart.

use std::sync::Arc;

use super::model::{Asked, Fact, Model, Outcome, Verdict};

/// An append that was asked for and may appear in the log.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Its number.
    pub key: u64,
    /// What was asked.
    pub asked: Arc<Asked>,
    /// What it must be answered, once it is in the log.
    pub logged: Option<Outcome>,
    /// Who asked for the same and may be meant instead, and what they must be answered then.
    pub others: Vec<(u64, Outcome)>,
    /// What it could be answered instead: the rules' answers at each moment since it was asked.
    pub answers: Vec<Outcome>,
    /// Whether its caller still waits.
    pub waits: bool,
}

/// The log so far, and who may add to it.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    /// The log so far.
    pub model: Model,
    /// Who may add to it, in the order they asked.
    pub pending: Vec<Pending>,
}

impl Checker {
    /// Notes that something is asked for.
    pub fn ask(&mut self, key: u64, asked: Arc<Asked>) {
        let answers = self.model.answers(&asked);
        let (logged, others, waits) = (None, Vec::new(), true);
        self.pending.push(Pending { key, asked, logged, others, answers, waits });
    }

    /// Notes what follows in the log; `facts` is all that is visible now.
    ///
    /// # Errors
    /// Which promise it breaks.
    pub fn extend(&mut self, facts: &[Arc<Fact>]) -> Result<(), String> {
        let mut at = 0;
        while at < facts.len() {
            at += self.commit(&facts[at..])?;
        }
        for pending in self.pending.iter_mut().filter(|p| p.waits && p.logged.is_none()) {
            for outcome in self.model.answers(&pending.asked) {
                if !pending.answers.contains(&outcome) {
                    pending.answers.push(outcome);
                }
            }
        }
        self.pending.retain(|p| p.waits || p.logged.is_none());
        Ok(())
    }

    /// One commit at the start of `facts`. Returns its length.
    fn commit(&mut self, facts: &[Arc<Fact>]) -> Result<usize, String> {
        let first = &facts[0];
        if first.position == 0 {
            if first.stream != "$store" || first.kind != "$store-created" {
                return Err(format!("the log begins with {}", first.brief()));
            }
            self.model.epochs.push((0, 0));
            self.model.push(Arc::clone(first))?;
            return Ok(1);
        }
        let mut reason = format!("nobody asked for {}", first.brief());
        let mut found: Vec<(usize, Arc<Asked>, usize)> = Vec::new();
        let mut candidates: Vec<usize> = (0..self.pending.len())
            .filter(|&i| {
                let pending = &self.pending[i];
                pending.logged.is_none()
                    && pending.asked.events.first().is_some_and(|event| {
                        event.id == first.id
                            && pending.asked.streams[event.stream].0 == first.stream
                    })
            })
            .collect();
        // A store that runs writes for those who wait.
        candidates.sort_by_key(|index| !self.pending[*index].waits);
        for index in candidates {
            let asked = Arc::clone(&self.pending[index].asked);
            let reopened = match self.model.judge(&asked) {
                Verdict::Write(reopened) => reopened,
                Verdict::Answer(outcome) => {
                    let brief = first.brief();
                    reason = format!("{brief} was written, the rules say {outcome:?}");
                    continue;
                }
            };
            match matches(&asked, &reopened, facts) {
                Ok(count) => found.push((index, asked, count)),
                Err(e) => reason = e,
            }
        }
        // One that asked for more begins with the same events.
        found.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
        let Some((index, _, count)) = found.first().cloned() else { return Err(reason) };
        for fact in &facts[..count] {
            self.model.push(Arc::clone(fact))?;
            if fact.time != first.time {
                return Err(format!("{} has another time than its commit", fact.brief()));
            }
        }
        let same = found.iter().filter(|(_, _, other)| *other == count);
        let mut outcomes = same.map(|(index, asked, _)| {
            let revisions = asked.streams.iter().map(|(name, _)| self.model.head(name)).collect();
            let position = Some(facts[asked.events.len() - 1].position);
            (self.pending[*index].key, Outcome::Done { revisions, position })
        });
        let logged = outcomes.next().map(|(_, outcome)| outcome);
        let others = outcomes.collect();
        self.pending[index].logged = logged;
        self.pending[index].others = others;
        Ok(count)
    }

    /// It was another who asked for the same: the one with `key` was not written. Answers whether
    /// that can be.
    pub fn not_me(&mut self, key: u64) -> bool {
        let Some(me) = self.pending.iter_mut().find(|p| p.key == key) else { return false };
        let mut others = std::mem::take(&mut me.others);
        while !others.is_empty() {
            let (other, outcome) = others.remove(0);
            let Some(found) = self.pending.iter_mut().find(|p| p.key == other) else { continue };
            if found.logged.is_none() {
                found.logged = Some(outcome);
                found.others = others;
                if let Some(me) = self.pending.iter_mut().find(|p| p.key == key) {
                    me.logged = None;
                }
                self.pending.retain(|p| p.waits || p.logged.is_none());
                return true;
            }
        }
        false
    }
}

/// Whether `facts` begin with all that `asked` asked for.
fn matches(
    asked: &Asked,
    reopened: &[(String, serde_json::Value)],
    facts: &[Arc<Fact>],
) -> Result<usize, String> {
    let count = asked.events.len() + reopened.len();
    if facts.len() < count {
        let brief = facts[0].brief();
        return Err(format!("only {} of {count} events of one commit: {brief}", facts.len()));
    }
    for (event, fact) in asked.events.iter().zip(facts) {
        let same = fact.id == event.id
            && fact.stream == asked.streams[event.stream].0
            && fact.kind == event.kind
            && fact.json == event.json
            && fact.tombstone == asked.tombstone
            && fact.metadata == event.metadata
            && fact.data == event.data;
        if !same {
            return Err(format!("{} is not what was asked for", fact.brief()));
        }
    }
    for ((stream, value), fact) in reopened.iter().zip(&facts[asked.events.len()..]) {
        let data = serde_json::from_slice::<serde_json::Value>(&fact.data).ok();
        if fact.stream != *stream || fact.kind != "$metadata" || data.as_ref() != Some(value) {
            return Err(format!("{} should open a soft-deleted stream again", fact.brief()));
        }
    }
    Ok(count)
}
