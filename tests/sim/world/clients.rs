//! What clients ask for, and what they are answered.

use super::*;

impl World {
    pub(super) fn stream_name(&mut self) -> String {
        let name = self.rng.pick(&self.streams).copied().unwrap_or("plain");
        if self.rng.chance(1, 40) { format!("$${name}") } else { name.to_owned() }
    }

    pub(super) fn expected(&mut self, name: &str) -> ExpectedRevision {
        let head = self.checker.model.head(name);
        match self.rng.below(12) {
            0..=2 => ExpectedRevision::Any,
            3 => ExpectedRevision::StreamExists,
            4 => ExpectedRevision::NoStream,
            5 => ExpectedRevision::Exact(Revision(self.rng.below(8))),
            6 => ExpectedRevision::Exact(Revision(head.map_or(0, |head| head + 1))),
            _ => head.map_or(ExpectedRevision::NoStream, |h| ExpectedRevision::Exact(Revision(h))),
        }
    }

    pub(super) fn new_event(&mut self, stream: usize) -> AskedEvent {
        self.next_id += 1;
        let kinds = ["Opened", "Paid", "Paid", "Closed"];
        let kind = self.rng.pick(&kinds).copied().unwrap_or_default().to_owned();
        let metadata = match self.rng.below(6) {
            0 => b"{\"$correlationId\":\"c0\"}".to_vec(),
            1 => b"{\"a\":[1],\"$correlationId\":\"c1\"}".to_vec(),
            2 => b"not json $correlationId".to_vec(),
            _ => Vec::new(),
        };
        let end = self.checker.model.len();
        let data = payload::data(&mut self.rng, &self.style, &self.disk, end);
        let json = self.rng.chance(1, 2);
        AskedEvent { stream, id: self.next_id, kind, json, metadata, data }
    }

    pub(super) fn append(&mut self, count: usize) -> Result<(), String> {
        let mut streams: Vec<(String, ExpectedRevision)> = Vec::new();
        for _ in 0..count {
            let name = self.stream_name();
            if streams.iter().all(|(other, _)| *other != name) {
                let expected = self.expected(&name);
                streams.push((name, expected));
            }
        }
        let mut events = Vec::new();
        let many = self.rng.between(1, 4);
        for _ in 0..self.rng.between(u64::from(count == 1), many) {
            let stream = self.rng.below(streams.len() as u64) as usize;
            events.push(self.new_event(stream));
        }
        self.submit(Arc::new(Asked { streams, events, deletes: None }))
    }

    pub(super) fn retry(&mut self) -> Result<(), String> {
        let recent = self.asked.len().saturating_sub(12);
        let from = if self.rng.chance(3, 4) { recent } else { 0 };
        let Some(asked) = self.rng.pick(&self.asked[from..]).cloned() else { return Ok(()) };
        if !self.rng.chance(1, 6) {
            return self.submit(asked);
        }
        // As another client would: the same ids under another condition, or in part.
        let mut other = (*asked).clone();
        let name = other.streams[0].0.clone();
        other.streams[0].1 = self.expected(&name);
        if self.rng.chance(1, 3) {
            let event = self.new_event(0);
            other.events.push(event);
        }
        self.submit(Arc::new(other))
    }

    pub(super) fn describe(&mut self) -> Result<(), String> {
        let name = self.rng.pick(&self.streams).copied().unwrap_or("plain");
        // Metadata has metadata, too.
        let name = if self.rng.chance(1, 6) { format!("$${name}") } else { name.to_owned() };
        let number = self.rng.below(6);
        let data = match self.rng.below(6) {
            0 | 1 => format!("{{\"$maxCount\":{number}}}"),
            2 => format!("{{\"$maxAge\":{}}}", number + 1),
            3 => format!("{{\"$tb\":{number},\"mine\":\"kept\"}}"),
            4 => "{}".to_owned(),
            _ => "not json".to_owned(),
        };
        self.next_id += 1;
        let event = AskedEvent {
            stream: 0,
            id: self.next_id,
            kind: "$metadata".to_owned(),
            json: true,
            metadata: Vec::new(),
            data: data.into_bytes(),
        };
        let streams = vec![(format!("$${name}"), ExpectedRevision::Any)];
        self.submit(Arc::new(Asked { streams, events: vec![event], deletes: None }))
    }

    pub(super) fn submit(&mut self, asked: Arc<Asked>) -> Result<(), String> {
        if self.tickets.len() >= WAITING_MAX {
            return self.poll();
        }
        let append = append_of(&asked);
        let key = self.begin(&asked);
        self.asked.push(Arc::clone(&asked));
        let ticket = self.engine().submit(&append);
        self.counts.appends += 1;
        let names: Vec<String> =
            asked.streams.iter().map(|(name, expected)| format!("{name}={expected}")).collect();
        let ids: Vec<String> = asked.events.iter().map(|e| format!("{:x}", e.id as u32)).collect();
        self.note(format!("append {key}: {} ids {}", names.join(" "), ids.join(" ")));
        self.tickets.insert(key, ticket);
        self.ask(key)
    }

    pub(super) fn begin(&mut self, asked: &Arc<Asked>) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.checker.ask(key, Arc::clone(asked));
        key
    }

    /// Deletes a stream, softly or for ever.
    pub(super) fn delete(&mut self) -> Result<(), String> {
        let name = self.rng.pick(&self.streams).copied().unwrap_or("plain");
        let expected = self.expected(name);
        let stream = StreamName::new(name).expect("a valid name");
        let id = u128::from_be_bytes(self.entropy.peek());
        let mut event = AskedEvent {
            stream: 0,
            id,
            kind: "$streamDeleted".to_owned(),
            json: true,
            metadata: Vec::new(),
            data: Vec::new(),
        };
        let mut streams = vec![(name.to_owned(), expected)];
        let how = if self.rng.chance(1, 4) { Deletion::Tombstone } else { Deletion::Soft };
        if how == Deletion::Soft {
            streams.push((format!("$${name}"), ExpectedRevision::Any));
            event.stream = 1;
            event.kind = "$metadata".to_owned();
            event.data = format!("{{\"$tb\":{}}}", i64::MAX).into_bytes();
        }
        let asked = Arc::new(Asked { streams, events: vec![event], deletes: Some(how) });
        let key = self.begin(&asked);
        let engine = self.engine();
        let ticket = match how {
            Deletion::Tombstone => engine.tombstone(&stream, expected),
            Deletion::Soft => engine.soft_delete(&stream, expected),
        };
        self.note(format!("delete {key}: {name}={expected} {how:?}"));
        self.tickets.insert(key, ticket);
        self.ask(key)
    }

    pub(super) fn poll(&mut self) -> Result<(), String> {
        let keys: Vec<u64> = self.tickets.keys().copied().collect();
        for key in keys {
            if !self.disk.is_down() {
                self.ask(key)?;
            }
        }
        Ok(())
    }

    pub(super) fn ask(&mut self, key: u64) -> Result<(), String> {
        let Some(ticket) = self.tickets.remove(&key) else { return Ok(()) };
        let (answer, ticket) = self.engine().poll(ticket);
        if self.disk.is_down() {
            // The process is dead: nobody hears what it says.
            self.tickets.extend(ticket.map(|ticket| (key, ticket)));
            return Ok(());
        }
        match (answer, ticket) {
            (Some(answer), _) => self.answered(key, answer),
            (None, Some(ticket)) => {
                self.tickets.insert(key, ticket);
                Ok(())
            }
            (None, None) => Err(format!("append {key} has neither an answer nor a ticket")),
        }
    }

    pub(super) fn answered(
        &mut self,
        key: u64,
        answer: Result<Appended, AppendError>,
    ) -> Result<(), String> {
        // What an answer speaks of must be visible when it is given.
        self.absorb()?;
        let text = match &answer {
            Ok(appended) => format!("{appended:?}"),
            Err(e) => e.to_string(),
        };
        self.note(format!("answer {key}: {text}"));
        let outcome = match answer {
            Ok(appended) => Outcome::Done {
                revisions: appended.revisions.iter().map(|r| r.map(|r| r.0)).collect(),
                position: appended.position.map(|p| p.0),
            },
            Err(AppendError::WrongExpectedRevision { index, actual, .. }) => {
                Outcome::Wrong { index, actual: actual.map(|r| r.0) }
            }
            Err(AppendError::StreamDeleted { index, tombstoned, .. }) => {
                Outcome::Deleted { index, tombstoned }
            }
            Err(other) => return self.refused(key, &other),
        };
        let told = self.checker.answered(key, &outcome)?;
        self.saw(match (told, &outcome) {
            (Told::Written, _) => "an append was written",
            (Told::Known, Outcome::Done { position: Some(_), .. }) => "a retry was recognised",
            (Told::Known, Outcome::Done { .. }) => "conditions were checked without events",
            (Told::Known, Outcome::Wrong { .. }) => "a condition did not hold",
            (Told::Known, Outcome::Deleted { .. }) => "a stream was deleted",
        });
        Ok(())
    }

    /// An answer that says nothing about the log.
    pub(super) fn refused(&mut self, key: u64, error: &AppendError) -> Result<(), String> {
        let trouble = self.trouble;
        let poisoned = matches!(self.engine().health(), Health::Poisoned { .. });
        let excused = match error {
            AppendError::Unknown { .. } => trouble.faults || trouble.full,
            AppendError::DiskFull { .. } => trouble.faults || trouble.full,
            AppendError::Overloaded { .. } => trouble.refused,
            AppendError::ClockLeapt { .. } => trouble.leapt,
            AppendError::Closed { .. } => poisoned,
            AppendError::Read { .. } => trouble.faults || trouble.index,
            _ => false,
        };
        if !excused {
            return Err(format!("append {key} was refused without a reason: {error}"));
        }
        self.saw(match error {
            AppendError::Unknown { .. } => "an outcome was unknown",
            AppendError::DiskFull { .. } => "the disk was full",
            AppendError::ClockLeapt { .. } => "the clock leapt",
            AppendError::Closed { .. } => "the store took no more appends",
            AppendError::Read { .. } => "an append could not be decided",
            _ => "an append was refused otherwise",
        });
        // Only an unknown one may still appear.
        self.checker.refused(key, matches!(error, AppendError::Unknown { .. }))
    }

    /// Takes into the model what has become visible.
    pub(super) fn absorb(&mut self) -> Result<(), String> {
        let end = self.engine().committed().0;
        let known = self.checker.model.len();
        if end < known {
            return Err(format!("the log ends at {end}, but ended at {known} before"));
        }
        if end == known || self.disk.is_down() {
            return Ok(());
        }
        let mut read = reads::scan(self.engine(), known);
        if read.is_err() && self.trouble.faults {
            self.calm();
            read = reads::scan(self.engine(), known);
        }
        let facts = match read {
            Ok(facts) => facts,
            Err(e) => return self.failed(&e),
        };
        if facts.len() as u64 != end - known {
            return Err(format!("{} of the events from {known} to {end} are read", facts.len()));
        }
        self.counts.events += facts.len() as u64;
        self.checker.extend(&facts)
    }
}
