//! What readers and subscribers see.

use super::*;

impl World {
    pub(super) fn checked(&mut self, result: Result<(), Bad>) -> Result<(), String> {
        self.counts.reads += 1;
        match result {
            Ok(()) => Ok(()),
            Err(Bad::Broken(reason)) => Err(reason),
            Err(Bad::Failed(e)) => self.failed(&e),
        }
    }

    /// The store said that it could not read.
    pub(super) fn failed(&mut self, error: &ReadError) -> Result<(), String> {
        self.saw("a read failed");
        self.note(format!("read failed: {error}"));
        if self.disk.is_down() {
            return Ok(());
        }
        match error {
            ReadError::Disk { .. } if self.trouble.faults => Ok(()),
            ReadError::IndexDamaged { .. } if self.trouble.index => {
                self.saw("a rotten index file was built anew");
                self.mend();
                Ok(())
            }
            other => Err(format!("a read failed without a reason: {other}")),
        }
    }

    /// Lets the store build anew what is damaged.
    pub(super) fn mend(&mut self) {
        for _ in 0..100 {
            if !matches!(self.engine().maintain(), Ok(true)) {
                break;
            }
        }
    }

    pub(super) fn read(&mut self) -> Result<(), String> {
        let now = self.now();
        let name = self.stream_name();
        let mut rng = self.rng.fork();
        let key = rng.pick(&reads::keys()).cloned().expect("not empty");
        let listed = *rng.pick(&reads::VIRTUAL).expect("not empty");
        let model = &self.checker.model;
        let engine = self.engine.as_ref().expect("open");
        let kind = rng.below(7);
        let result = match kind {
            0 => reads::all(engine, model, &mut rng),
            1 => reads::stream(engine, model, &mut rng, &name, now),
            2 => reads::index(engine, model, &mut rng, &key),
            3 => reads::names(engine, model, &mut rng),
            4 => reads::info(engine, model, &name),
            5 => reads::links(engine, model, &mut rng, listed, now),
            _ => return self.epochs(),
        };
        self.note(format!("read {kind} {name}"));
        self.checked(result)
    }

    pub(super) fn epochs(&mut self) -> Result<(), String> {
        let position = self.rng.below(self.checker.model.len() + 2);
        let found = self.engine().epoch_at(Position(position)).map(|epoch| epoch.0);
        let known = self.checker.model.epoch_at(position);
        if found == known {
            return Ok(());
        }
        match self.epoch_doubt {
            Some((from, epoch)) if position >= from && found == Some(epoch) => {
                self.checker.model.epochs.push((from, epoch));
                self.epoch_doubt = None;
                Ok(())
            }
            _ => Err(format!("position {position} is of epoch {found:?}, not {known:?}")),
        }
    }

    pub(super) fn hold(&mut self) -> Result<(), String> {
        let now = self.now();
        let mut rng = self.rng.fork();
        if self.held.len() < 4 && rng.chance(1, 2) {
            let name = self.stream_name();
            let model = &self.checker.model;
            let engine = self.engine.as_ref().expect("open");
            if rng.chance(1, 2) {
                let (what, reader, expected) = reads::open_all(engine, model, &mut rng);
                self.held.push(Held { what, reader: Reader::All(reader), expected });
                return Ok(());
            }
            return match reads::open_stream(engine, model, &mut rng, &name, now) {
                Ok(Some((what, reader, expected))) => {
                    self.held.push(Held { what, reader: Reader::Stream(reader), expected });
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(bad) => self.checked(Err(bad)),
            };
        }
        let Some(mut held) = self.held.pop() else { return Ok(()) };
        let mut read = Vec::new();
        let result = loop {
            let page = match &mut held.reader {
                Reader::All(reader) => reader.next_page(),
                Reader::Stream(reader) => reader.next_page(),
            };
            match page {
                Ok(Some(page)) => read.extend(page.events().map(|event| Fact::of(&event))),
                Ok(None) => break Ok(()),
                Err(e) => break Err(Bad::Failed(e)),
            }
        };
        self.saw("a reader was held while the store went on");
        let what = format!("held: {}", held.what);
        let result = result.and_then(|()| {
            let expected = held.expected.now(&self.checker.model);
            reads::same(&what, &read, &expected, &self.checker.model, false).map_err(Bad::Broken)
        });
        self.checked(result)
    }

    pub(super) fn feed(&mut self) -> Result<(), String> {
        if self.watches.len() < 6 && self.rng.chance(1, 3) {
            self.subscribe();
            return Ok(());
        }
        if self.watches.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let at = self.rng.below(self.watches.len() as u64) as usize;
        let count = self.rng.between(1, 4);
        let looked = self.watches[at].look(&self.checker.model, now, count)?;
        match looked {
            Looked::Fine(told) => {
                if told.contains("..") {
                    self.saw("a feed delivered events");
                }
                if told.contains("checkpoint") {
                    self.saw("a feed delivered a checkpoint");
                }
                self.note(format!("feed {at}:{told}"));
                if self.rng.chance(1, 30) {
                    self.watches.remove(at);
                }
                Ok(())
            }
            Looked::Ended => {
                self.saw("a feed ended with its stream");
                self.watches.remove(at);
                Ok(())
            }
            Looked::Failed(e) => self.failed(&e),
        }
    }

    pub(super) fn subscribe(&mut self) {
        let model = &self.checker.model;
        let source = if self.rng.chance(1, 2) {
            let name = self.rng.pick(&self.streams).copied().unwrap_or("plain");
            Source::Stream(name.to_owned())
        } else {
            let wanted = self.rng.chance(1, 2).then(|| Wanted::random(&mut self.rng));
            Source::All(wanted, self.rng.between(1, 9))
        };
        let end = match &source {
            Source::Stream(name) => model.head(name).map_or(0, |head| head + 1),
            Source::All(..) => model.len(),
        };
        let after = self.rng.below(end + 1);
        let (from, next) = match self.rng.below(3) {
            0 => (SubscribeFrom::Start, 0),
            1 => (SubscribeFrom::End, end),
            _ if after == end => (SubscribeFrom::Start, 0),
            _ => (SubscribeFrom::After(after), after + 1),
        };
        self.note(format!("subscribe {source:?} {from:?}"));
        let watch = Watch::new(self.engine.as_ref().expect("open"), source, from, next);
        self.watches.push(watch);
    }

    /// Much at once, so that the log rolls often and runs of the directory are merged.
    pub(super) fn burst(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.between(8, 24) {
            self.append(1)?;
            self.engine().run();
            if self.disk.is_down() {
                return Ok(());
            }
            self.absorb()?;
            self.poll()?;
            if self.rng.chance(1, 2) && !self.disk.is_down() {
                self.maintain()?;
            }
            if self.disk.is_down() {
                return Ok(());
            }
        }
        Ok(())
    }
}
