//! Rot: a bit of the log is wrong; index files that belong to another store.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use daybook_log::disk::Disk;
use daybook_log::disk::sim::{Rng, SimDisk};
use daybook_log::frame::{HEADER_SIZE, Kind, TRAILER_SIZE};
use daybook_log::scan::{Found, Scanner};
use daybook_log::segment::{SEGMENT_HEADER_SIZE, SEGMENT_SUFFIX, parse_name};
use daybook_log::{Recovery, Segment, recovery};
use daybook_model::{Clock, ContentType, ExpectedRevision, NewEvent, StreamName};
use daybook_store::scavenge::{Step, Thoroughness};
use daybook_store::{Append, Engine, Environment, ReadError, Sizes};
use uuid::Uuid;

use super::model::Model;
use super::reads;
use super::seams::{SimClock, SimEntropy};

/// A byte of the log that something proves to be as it was written, if there is one.
fn proven_byte(segments: &[Arc<Segment>], rng: &mut Rng) -> Option<(String, u64)> {
    let index = rng.below(segments.len() as u64) as usize;
    let segment = &segments[index];
    let last = index + 1 == segments.len();
    let mut scanner = Scanner::new(segment);
    let mut frames = Vec::new();
    while let Found::Frame { offset, header } = scanner.step().ok()? {
        frames.push((offset, header));
    }
    let proven = frames.iter().map(|(_, header)| header.durable).max();
    let mut spans = Vec::from([0..SEGMENT_HEADER_SIZE as u64; 1]);
    for (offset, header) in frames {
        let end = header.first.0 + u64::from(header.count);
        let commit = header.kind == Kind::Commit;
        if !last || (commit && Some(end) <= proven.map(|p| p.0)) {
            // Not the zeros that fill a frame up: nothing is in them.
            let size = HEADER_SIZE as u64 + u64::from(header.len) + TRAILER_SIZE as u64;
            spans.push(offset..offset + size);
        }
    }
    let span = rng.pick(&spans)?.clone();
    Some((segment.name.clone(), span.start + rng.below(span.end - span.start)))
}

/// Inverts a bit of the log on `disk`, which is a copy, and sees what becomes of it.
///
/// # Errors
/// If it went unnoticed.
pub fn flip(
    disk: &SimDisk,
    clock: &Arc<SimClock>,
    entropy: &Arc<SimEntropy>,
    sizes: Sizes,
    model: &Model,
    rng: &mut Rng,
) -> Result<String, String> {
    let segments = recovery::load(disk, &mut Recovery::default()).map_err(|e| e.to_string())?;
    let Some((name, byte)) = proven_byte(&segments, rng) else { return Ok("none".to_owned()) };
    drop(segments);
    let first = |name: &str| parse_name(name, SEGMENT_SUFFIX).map(|(first, _)| first);
    if disk.names().iter().filter(|other| first(other) == first(&name)).count() > 1 {
        // The generation before it is there still, and counts then.
        return Ok("none".to_owned());
    }
    let bit = rng.below(8) as u32;
    disk.flip_bit(&name, byte, bit).map_err(|e| e.to_string())?;
    let what = format!("bit {bit} of byte {byte} of {name}");
    let reader: Arc<dyn Disk> = Arc::new(disk.restart());
    if daybook_store::verify::verify(&reader, &mut |_| {}).is_ok() {
        return Err(format!("verify does not see that {what} is wrong"));
    }
    let environment = Environment {
        disk: Arc::new(disk.restart()),
        clock: clock.clone(),
        entropy: entropy.clone(),
    };
    let mut engine = match Engine::open(environment, sizes) {
        Ok(engine) => engine,
        Err(e) => return Ok(format!("{what}: {e}")),
    };
    if engine.committed().0 < model.len() {
        let end = engine.committed();
        return Err(format!("{what} is wrong, and the log ends at {end} instead of failing"));
    }
    // Removed by a scavenge whose readers have not been told yet.
    damaged_reads(&engine, model, &model.may_go, &what)?;
    if engine.committed().0 > model.len() {
        // What goes depends on appends whose outcome is unknown.
        return Ok(format!("{what}: opens"));
    }
    scavenge(&mut engine).map_err(|e| format!("{what} is wrong, and a scavenge fails: {e}"))?;
    let mut gone = model.goers(clock.now());
    gone.extend(&model.may_go);
    damaged_reads(&engine, model, &gone, &what)?;
    Ok(format!("{what}: opens"))
}

/// A scavenge of everything.
fn scavenge(engine: &mut Engine) -> Result<(), String> {
    for _ in 0..10_000 {
        if engine.scavenge(Thoroughness::Everything).map_err(|e| e.to_string())? == Step::Done {
            return Ok(());
        }
    }
    Err("it does not end".to_owned())
}

/// Reads every event: each is as it was, or said to be damaged, or one of those that may be `gone`.
fn damaged_reads(
    engine: &Engine,
    model: &Model,
    gone: &BTreeSet<u64>,
    what: &str,
) -> Result<(), String> {
    for fact in model.events.iter().filter(|fact| model.is_there(fact.position)) {
        let stream = StreamName::new(&fact.stream).expect("a valid name");
        let query = daybook_store::ReadAll {
            from: daybook_store::AllFrom::Position(daybook_model::Position(fact.position)),
            direction: daybook_store::Direction::Forwards,
            count: 1,
            filter: None,
        };
        match reads::drain_all(engine.read_all(query)) {
            Ok(read) if read.first() == Some(fact) => {}
            Ok(read)
                if gone.contains(&fact.position)
                    && read.first().is_none_or(|next| next.position > fact.position) => {}
            Err(ReadError::Damaged { .. }) => {}
            other => {
                let stream = stream.as_str();
                return Err(format!("{what} is wrong; {stream} reads {other:?}"));
            }
        }
    }
    Ok(())
}

thread_local! {
    static FOREIGN: OnceCell<Vec<(String, Vec<u8>)>> = const { OnceCell::new() };
}

/// The index files of some other store.
pub fn foreign_tables() -> Vec<(String, Vec<u8>)> {
    FOREIGN.with(|cell| cell.get_or_init(make_foreign_tables).clone())
}

fn make_foreign_tables() -> Vec<(String, Vec<u8>)> {
    let disk = SimDisk::new(77);
    let environment = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SimClock::default()),
        entropy: Arc::new(SimEntropy::new(77)),
    };
    let Ok(mut engine) = Engine::open(environment, Sizes { first: 4096, max: 4096 }) else {
        return Vec::new();
    };
    for i in 0..60_u128 {
        let stream = StreamName::new(&format!("acct-{}", i % 3)).expect("a valid name");
        let event = NewEvent {
            id: Uuid::from_u128(i + 1),
            event_type: "Paid".to_owned(),
            content_type: ContentType::Binary,
            metadata: bytes::Bytes::new(),
            data: vec![7; 300].into(),
        };
        engine.submit(&Append::to_stream(stream, ExpectedRevision::Any, [event]));
        engine.run();
    }
    while matches!(engine.maintain(), Ok(true)) {}
    disk.names()
        .into_iter()
        .filter(|name| [".idx", ".ids", ".dir"].iter().any(|suffix| name.ends_with(suffix)))
        .filter_map(|name| disk.read_all(&name).ok().map(|bytes| (name, bytes)))
        .collect()
}
