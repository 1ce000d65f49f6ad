//! Follows a log that grows: every event must be one that somebody asked for, once, whole, and
//! when the rules allowed it. Cloned, so that a disk's possible futures can be judged apart.

use std::sync::Arc;

use daybook_model::append::Deletion;

use super::model::{Asked, Fact, Model, Outcome, Verdict};

/// An append that was asked for and may appear in the log.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Its number.
    pub key: u64,
    /// What was asked.
    pub asked: Arc<Asked>,
    /// The position of the commit that is taken for it.
    pub logged: Option<u64>,
    /// What it could be answered instead: the rules' answers at each moment since it was asked.
    pub answers: Vec<Outcome>,
    /// Whether its caller still waits.
    pub waits: bool,
}

/// What an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The append was written.
    Written,
    /// What was in the log before.
    Known,
}

/// A commit, and who can have asked for it: retries ask for the same.
#[derive(Clone, Debug)]
struct Commit {
    first: u64,
    /// Who is taken to have asked for it.
    owner: u64,
    /// Who can have, and what they must be answered then.
    candidates: Vec<(u64, Outcome)>,
    /// Whether another than the owner was told so, which can be the owner's answer or that to a
    /// retry of it.
    told: bool,
}

/// The log so far, and who may add to it.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    /// The log so far.
    pub model: Model,
    /// Who may add to it, in the order they asked.
    pub pending: Vec<Pending>,
    /// Commits of which nobody was told yet.
    untold: Vec<Commit>,
}

impl Checker {
    /// Notes that something is asked for.
    pub fn ask(&mut self, key: u64, asked: Arc<Asked>) {
        let answers = self.model.answers(&asked);
        self.pending.push(Pending { key, asked, logged: None, answers, waits: true });
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
        for pending in self.pending.iter_mut().filter(|p| p.waits) {
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
        let outcomes = same.map(|(index, asked, _)| {
            let revisions = asked.streams.iter().map(|(name, _)| self.model.head(name)).collect();
            let position = Some(facts[asked.events.len() - 1].position);
            (self.pending[*index].key, Outcome::Done { revisions, position })
        });
        let candidates = outcomes.collect();
        let owner = self.pending[index].key;
        self.untold.push(Commit { first: first.position, owner, candidates, told: false });
        self.pending[index].logged = Some(first.position);
        Ok(count)
    }

    /// Nobody waits any more.
    pub fn forget_waiting(&mut self) {
        self.pending.retain(|pending| pending.logged.is_none());
        for pending in &mut self.pending {
            pending.waits = false;
        }
        self.untold.clear();
    }

    /// The append with `key` is answered with `outcome`.
    ///
    /// # Errors
    /// If that is not what happened.
    pub fn answered(&mut self, key: u64, outcome: &Outcome) -> Result<Told, String> {
        let me = self.pending.iter().position(|p| p.key == key);
        let Some(me) = me else { return Err(format!("append {key} was answered twice")) };
        let mine = |commit: &Commit| commit.candidates.contains(&(key, outcome.clone()));
        let logged = self.pending[me].logged;
        let answers = &self.pending[me].answers;
        let repeated = answers.contains(outcome);
        let commit = self.untold.iter_mut().find(|commit| mine(commit));
        if let Some(commit) = commit.filter(|commit| commit.owner != key && repeated) {
            commit.told = true;
        } else if let Some(at) = self.untold.iter().position(mine) {
            let commit = self.untold.remove(at);
            if commit.owner != key {
                if let Some(owner) = self.pending.iter_mut().find(|p| p.key == commit.owner) {
                    owner.logged = None;
                }
                self.disown(key, logged)?;
            }
            self.pending.retain(|p| p.key != key);
            return Ok(Told::Written);
        }
        if !repeated {
            return Err(format!(
                "append {key} was answered {outcome:?}; it is in the log at {logged:?}; the rules \
                 allow {answers:?}"
            ));
        }
        self.disown(key, logged)?;
        self.pending.retain(|p| p.key != key);
        Ok(Told::Known)
    }

    /// The append with `key` was not written; it may still be if its outcome is unknown.
    ///
    /// # Errors
    /// If it was.
    pub fn refused(&mut self, key: u64, unknown: bool) -> Result<(), String> {
        let me = self.pending.iter_mut().find(|p| p.key == key);
        let Some(me) = me else { return Err(format!("append {key} was answered twice")) };
        me.waits = false;
        let logged = me.logged.take();
        self.disown(key, logged)?;
        self.pending.retain(|p| p.key != key || unknown);
        Ok(())
    }

    /// The commit that begins at `first` is not of the append with `key`: another must have asked.
    fn disown(&mut self, key: u64, first: Option<u64>) -> Result<(), String> {
        let Some(first) = first else { return Ok(()) };
        let Some(commit) = self.untold.iter_mut().find(|c| c.first == first) else { return Ok(()) };
        let free = self.pending.iter_mut().find(|p| {
            let candidate = commit.candidates.iter().any(|(other, _)| *other == p.key);
            p.key != key && p.logged.is_none() && candidate
        });
        let Some(free) = free else {
            if commit.told {
                self.untold.retain(|commit| commit.first != first);
                return Ok(());
            }
            return Err(format!("append {key} is in the log at {first}, but was told otherwise"));
        };
        free.logged = Some(first);
        commit.owner = free.key;
        Ok(())
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
            && fact.tombstone == (asked.deletes == Some(Deletion::Tombstone))
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
