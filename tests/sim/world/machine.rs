//! What operators and the machine do, and what the disk may hold.

use super::*;

impl World {
    pub(super) fn maintain(&mut self) -> Result<(), String> {
        let runs = |disk: &SimDisk| disk.names().iter().filter(|n| n.ends_with(".dir")).count();
        let before = runs(&self.disk);
        let result = self.engine().maintain();
        self.note(format!("maintain: {result:?}"));
        match runs(&self.disk).cmp(&before) {
            std::cmp::Ordering::Greater => self.saw("a segment's index was written"),
            std::cmp::Ordering::Less => self.saw("runs of the directory were merged"),
            std::cmp::Ordering::Equal => {}
        }
        match result {
            Ok(_) => Ok(()),
            Err(ReadError::Disk { .. }) if self.trouble.full => Ok(()),
            Err(e) => self.failed(&e),
        }
    }

    pub(super) fn tick(&mut self) -> Result<(), String> {
        if self.rng.chance(1, 6) {
            let back = self.rng.below(4_000_000_000).cast_signed();
            self.clock.jump(-back);
            self.note(format!("clock back by {back}"));
        } else {
            let ns = self.rng.below(3_000_000_000);
            self.clock.pass(ns);
        }
        Ok(())
    }

    pub(super) fn leap(&mut self) -> Result<(), String> {
        self.clock.jump(2 * 3_600_000_000_000);
        self.trouble.leapt = true;
        self.note("clock leaps".to_owned());
        // Whoever asks now must be refused, until someone accepts the time.
        let idle = self.tickets.is_empty() && self.engine().health() == Health::Writable;
        if idle {
            let name = self.streams[0].to_owned();
            let event = self.new_event(0);
            let before = self.checker.model.len();
            let streams = vec![(name, ExpectedRevision::Any)];
            self.submit(Arc::new(Asked { streams, events: vec![event], deletes: None }))?;
            self.engine().run();
            self.poll()?;
            if !self.disk.is_down() && self.engine().committed().0 != before {
                return Err("the clock leapt, and an append was taken".to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn heal(&mut self) -> Result<(), String> {
        match self.engine().health() {
            Health::ClockLeapt { .. } => {
                self.engine().accept_clock();
                self.note("the clock is accepted".to_owned());
                Ok(())
            }
            Health::DiskFull { .. } => {
                self.calm();
                Ok(())
            }
            Health::Poisoned { .. } | Health::Closed => {
                let power = self.trouble.names || self.rng.chance(1, 2);
                self.restart(Some(power))
            }
            Health::Writable => Ok(()),
        }
    }

    /// The disk fails no more, and has room.
    pub(super) fn calm(&mut self) {
        self.disk.clear_faults();
        self.disk.set_capacity(None);
        self.note("the disk is well".to_owned());
    }

    pub(super) fn fail(&mut self) -> Result<(), String> {
        let operations = [
            Operation::Write,
            Operation::Write,
            Operation::Sync,
            Operation::Sync,
            Operation::Sync,
            Operation::Read,
            Operation::Create,
            Operation::Rename,
            Operation::SyncNames,
            Operation::Remove,
            Operation::FreeSpace,
            Operation::List,
        ];
        let operation = *self.rng.pick(&operations).expect("not empty");
        let files = [".log", ".log", "next.tmp", ".log.tmp", ".idx", ".ids", ".dir", ""];
        let file = *self.rng.pick(&files).expect("not empty");
        let fault = *self.rng.pick(&[Fault::Eio, Fault::Enospc, Fault::Torn]).expect("not empty");
        let repeat = if self.rng.chance(1, 6) { Repeat::Always } else { Repeat::Once };
        let directory =
            matches!(operation, Operation::SyncNames | Operation::List | Operation::FreeSpace);
        let name = (!directory && !file.is_empty()).then_some(file);
        let nth = self.rng.between(1, 4);
        self.disk.fail_after(operation, name, nth, fault, repeat);
        self.trouble.faults = true;
        self.trouble.names |= operation == Operation::SyncNames;
        self.note(format!("{operation:?} {name:?} will fail: {nth} {fault:?} {repeat:?}"));
        Ok(())
    }

    pub(super) fn fill(&mut self) -> Result<(), String> {
        let used: u64 = self
            .disk
            .names()
            .iter()
            .filter_map(|name| self.disk.read_all(name).ok())
            .map(|bytes| bytes.len() as u64)
            .sum();
        let room = self.rng.below(40_000);
        self.disk.set_capacity(Some(used + room));
        self.trouble.full = true;
        self.note(format!("the disk has room for {room}"));
        Ok(())
    }

    pub(super) fn raise_epoch(&mut self) -> Result<(), String> {
        let idle = self.tickets.is_empty() && self.engine().health() == Health::Writable;
        if !idle {
            return Ok(());
        }
        self.engine().run();
        self.absorb()?;
        let end = self.checker.model.len();
        let epoch = self.checker.model.epochs.last().map_or(0, |(_, epoch)| *epoch);
        let result = self.engine().raise_epoch();
        self.note(format!("raise the epoch at {end}: {result:?}"));
        match result {
            Ok(raised) => {
                self.epoch_doubt = None;
                self.saw("the epoch was raised");
                self.checker.model.epochs.push((end, raised.0));
                Ok(())
            }
            Err(_) if self.disk.is_down() || self.trouble.faults || self.trouble.full => {
                self.epoch_doubt = Some((end, epoch + 1));
                Ok(())
            }
            Err(e) => Err(format!("the epoch could not be raised: {e}")),
        }
    }

    /// Cuts the power of a copy of the disk: what was visible must be there, and nothing else.
    pub(super) fn future(&mut self) -> Result<(), String> {
        let modes = [CrashMode::DropAll, CrashMode::DropAll, CrashMode::Random];
        let mode = *self.rng.pick(&modes).expect("not empty");
        let disk = self.disk.fork(self.rng.next_u64());
        disk.clear_faults();
        disk.set_capacity(None);
        disk.crash(mode);
        let disk = disk.restart();
        self.note(format!("what if the power went now, {mode:?}"));
        self.counts.crashes += 1;
        self.saw("the power of a copy was cut");
        let mut rng = self.rng.fork();
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(self.clock.fork()),
            entropy: Arc::new(SimEntropy::new(rng.next_u64())),
        };
        let broken = |e: String| format!("after a power cut ({mode:?}): {e}");
        let engine = Engine::open(environment, self.sizes).map_err(|e| broken(e.to_string()))?;
        let mut checker = self.checker.clone();
        match compare(&engine, &mut checker) {
            Ok(()) => {}
            Err(Bad::Failed(_)) if self.trouble.index => return Ok(()),
            Err(Bad::Failed(e)) => return Err(broken(e.to_string())),
            Err(Bad::Broken(e)) => return Err(broken(e)),
        }
        drop(engine);
        let disk: Arc<dyn Disk> = Arc::new(disk.restart());
        let report = daybook_store::verify::verify(&disk, &mut |_| {});
        match report {
            Ok(_) => Ok(()),
            Err(_) if self.trouble.index => Ok(()),
            Err(e) => Err(broken(e.to_string())),
        }
    }

    /// Inverts a bit of a copy of the disk: nothing wrong may ever be read from it.
    pub(super) fn damage(&mut self) -> Result<(), String> {
        if !self.tickets.is_empty() || self.trouble.index {
            return Ok(());
        }
        let disk = self.disk.fork(self.rng.next_u64());
        disk.clear_faults();
        disk.set_capacity(None);
        let mut rng = self.rng.fork();
        let clock = Arc::new(self.clock.fork());
        let entropy = Arc::new(SimEntropy::new(rng.next_u64()));
        let model = &self.checker.model;
        let told = damage::flip(&disk, &clock, &entropy, self.sizes, model, &mut rng)?;
        self.note(format!("what if a bit were wrong: {told}"));
        self.saw("a copy of the log was damaged");
        Ok(())
    }

    pub(super) fn kill(&mut self) {
        self.watches.clear();
        self.held.clear();
        self.tickets.clear();
        self.checker.forget_waiting();
        self.engine = None;
        self.disk.kill();
    }

    /// Ends the process, perhaps by cutting the power, and starts the next one.
    pub(super) fn restart(&mut self, power: Option<bool>) -> Result<(), String> {
        self.kill();
        if let Some(power) = power {
            self.counts.crashes += 1;
            self.crash(power);
        }
        self.tamper();
        let rotten = self.rot_newer();
        if rotten {
            // The generation before it counts again, also if a process notices that and dies.
            self.checker.model.removed.clear();
        }
        self.disk.clear_faults();
        self.disk.set_capacity(None);
        self.trouble = Trouble { index: self.trouble.index, ..Trouble::default() };
        let mut cuts = if self.rng.chance(1, 4) { OPEN_CUTS_MAX } else { 0 };
        let engine = loop {
            self.disk = self.disk.restart();
            if cuts > 0 {
                let after = self.rng.below(10);
                self.disk.crash_at_change(self.disk.changes() + after);
            }
            let result = Engine::open(self.environment(&self.disk), self.sizes);
            if self.disk.is_down() {
                self.note("died while opening".to_owned());
                self.saw("a process died while it opened the store");
                cuts = cuts.saturating_sub(1);
                self.counts.crashes += 1;
                drop(result);
                let power = self.rng.chance(2, 3);
                self.crash(power);
                continue;
            }
            match result {
                Ok(engine) => break engine,
                Err(e) => return Err(format!("the store does not open: {e}")),
            }
        };
        self.disk.crash_at_change(u64::MAX);
        self.note(format!("opened at {}: {:?}", engine.committed(), engine.recovery()));
        let recovery = engine.recovery().clone();
        if !recovery.set_aside.is_empty() {
            if !rotten {
                return Err(format!("{:?} is not sound", recovery.set_aside));
            }
            self.saw("a rotten generation was set aside");
        }
        if recovery.torn.is_some() {
            self.saw("a torn tail was cut");
        }
        if recovery.rewritten_bytes > 0 {
            self.saw("a tail was rewritten");
        }
        if engine.rebuilt() > 0 {
            self.saw("index files were built at the start");
        }
        let before = self.checker.model.len();
        self.engine = Some(engine);
        self.compare()?;
        if self.checker.model.len() > before && before > 0 {
            self.saw("an unknown append was there after all");
        }
        // What is not there now was never durable, and may not come back.
        self.checker.pending.clear();
        Ok(())
    }

    /// Holds the store that was just opened against what was visible before.
    pub(super) fn compare(&mut self) -> Result<(), String> {
        // A rotten index file is found when it is read, and built anew then.
        for _ in 0..100 {
            let engine = self.engine.as_ref().expect("open");
            match compare(engine, &mut self.checker) {
                Ok(()) => return Ok(()),
                Err(Bad::Broken(reason)) => return Err(reason),
                Err(Bad::Failed(e)) => self.failed(&e)?,
            }
        }
        Err("an index file is damaged, and not built anew".to_owned())
    }

    pub(super) fn crash(&mut self, power: bool) {
        let modes = [
            CrashMode::Random,
            CrashMode::Random,
            CrashMode::Random,
            CrashMode::DropAll,
            CrashMode::KeepAll,
            CrashMode::DataOnly,
            CrashMode::NamesOnly,
        ];
        if power {
            let mode = *self.rng.pick(&modes).expect("not empty");
            self.note(format!("the power goes: {mode:?}"));
            self.disk.crash(mode);
        } else {
            self.note("killed".to_owned());
            self.disk.kill();
        }
    }

    /// Index files go missing, grow old, come from elsewhere, rot.
    pub(super) fn tamper(&mut self) {
        if !self.rng.chance(1, 3) {
            return;
        }
        let suffixes = [".idx", ".ids", ".dir"];
        let files: Vec<String> = self
            .disk
            .names()
            .into_iter()
            .filter(|name| suffixes.iter().any(|suffix| name.ends_with(suffix)))
            .collect();
        let Some(name) = self.rng.pick(&files).cloned() else { return };
        let Ok(bytes) = self.disk.read_all(&name) else { return };
        let suffix = &name[name.len() - 4..];
        let kind = self.rng.below(5);
        let done = match kind {
            0 => {
                let disk = self.disk.restart();
                let gone = disk.remove(&name).is_ok();
                disk.kill();
                gone
            }
            1 | 2 if !bytes.is_empty() => {
                let byte = self.rng.below(bytes.len() as u64);
                let bit = self.rng.below(8) as u32;
                self.trouble.index = true;
                self.disk.flip_bit(&name, byte, bit).is_ok()
            }
            3 => {
                let others: Vec<&String> =
                    files.iter().filter(|other| other.ends_with(suffix)).collect();
                let other = self.rng.pick(&others).map(|other| (*other).clone());
                let bytes = other.and_then(|other| self.disk.read_all(&other).ok());
                bytes.is_some_and(|bytes| self.disk.write_all(&name, &bytes).is_ok())
            }
            _ => {
                let foreign = damage::foreign_tables();
                let mut all = self.old_files.clone();
                all.extend(foreign.iter().cloned());
                let fit: Vec<_> = all.iter().filter(|(other, _)| other.ends_with(suffix)).collect();
                let bytes = self.rng.pick(&fit).map(|(_, bytes)| bytes.clone());
                bytes.is_some_and(|bytes| self.disk.write_all(&name, &bytes).is_ok())
            }
        };
        if self.old_files.len() < 16 {
            self.old_files.push((name.clone(), bytes));
        }
        self.note(format!("tampered with {name}: {kind} {done}"));
        self.saw("an index file was tampered with");
    }

    /// The end: everything is read in every way, and verified.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.calm();
        let power = self.trouble.names || self.rng.chance(1, 2);
        self.restart(Some(power))?;
        for _ in 0..4 {
            let mut rng = self.rng.fork();
            let now = self.now();
            let model = &self.checker.model;
            let engine = self.engine.as_mut().expect("open");
            let mut maintained = engine.maintain();
            while matches!(maintained, Ok(true)) {
                maintained = engine.maintain();
            }
            let read = maintained
                .map_err(Bad::Failed)
                .and_then(|_| reads::everything(engine, model, &mut rng, now));
            self.checked(read)?;
            engine_idle(self.engine())?;
            self.scavenge_all()?;
            self.kill();
            let disk: Arc<dyn Disk> = Arc::new(self.disk.restart());
            let report = daybook_store::verify::verify(&disk, &mut |_| {});
            let bad: Vec<String> = match report {
                Ok(report) if report.log.events != self.checker.model.len() => {
                    return Err(format!("verify counts {} events", report.log.events));
                }
                Ok(report) => report.bad_index_files,
                Err(VerifyError::Read(ReadError::IndexDamaged { file, .. })) => vec![file],
                Err(e) => return Err(format!("verify: {e}")),
            };
            let forgiven = self.trouble.index && bad.iter().all(|name| !name.ends_with(".log"));
            match bad.as_slice() {
                [] => return Ok(()),
                _ if !forgiven => return Err(format!("verify: index files are wrong: {bad:?}")),
                _ => {}
            }
            // What nobody read yet was not found yet.
            for name in &bad {
                let _ = disk.remove(name);
            }
            self.restart(None)?;
        }
        Err("index files are wrong after they were removed and built anew".to_owned())
    }
}
