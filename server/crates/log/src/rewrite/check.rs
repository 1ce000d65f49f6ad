//! Holds a new generation against the old one, as both are read from the disk.

use daybook_model::Position;

use super::pass::next_commit;
use super::{Pace, Plan, RewriteError};
use crate::frame::{Form, Record};
use crate::recovery::OpenError;
use crate::scan::Scanner;
use crate::segment::Segment;
use crate::verify::verify_sealed_while;

/// Whether `new` is `old` without what `plan` removes, and nothing else.
pub(super) fn compare(
    old: &Segment,
    new: &Segment,
    plan: &Plan,
    pace: &mut Pace<'_>,
) -> Result<(), RewriteError> {
    let unsound = |reason: String| RewriteError::Unsound { file: new.name.clone(), reason };
    check_header(old, new).map_err(|reason| unsound(reason.to_owned()))?;
    // Every checksum, digest and chain value, and the seal.
    match verify_sealed_while(new, pace) {
        Ok(None) => return Err(RewriteError::Stopped),
        Ok(Some((end, _))) if end == plan.end => {}
        Ok(Some((end, _))) => return Err(unsound(format!("it ends at position {end}"))),
        Err(OpenError::Disk(e)) => return Err(e.into()),
        Err(e) => return Err(unsound(e.to_string())),
    }
    let (mut olds, mut news) = (Scanner::new(old), Scanner::new(new));
    let mut end = old.header.first;
    loop {
        let before = next_commit(old, &mut olds, end)?;
        let after = next_commit(new, &mut news, end)?;
        let (before, after) = match (before, after) {
            (None, None) => return Ok(()),
            (Some(before), Some(after)) => (before, after),
            _ => return Err(unsound("it does not have the commits it should".to_owned())),
        };
        let same = before.header.count == after.header.count && before.chain() == after.chain();
        if !same {
            return Err(unsound(format!("the commit at position {end} is another")));
        }
        for ((position, before), (_, after)) in before.records().zip(after.records()) {
            let goes = plan.goes(position.0 - old.header.first.0);
            if !is_left(goes, &before?, &after?) {
                return Err(unsound(format!("the event at position {position} is not the same")));
            }
        }
        end = Position(end.0 + u64::from(before.header.count));
        let read = before.header.frame_size() + after.header.frame_size();
        if !pace(read as u64) {
            return Err(RewriteError::Stopped);
        }
    }
}

fn check_header(old: &Segment, new: &Segment) -> Result<(), &'static str> {
    let Ok(Ok(header)) = Segment::read_header(&*new.file) else { return Err("it has no header") };
    let like_old = header.chain == old.header.chain
        && header.first == old.header.first
        && header.previous == old.header.previous
        && header.epoch == old.header.epoch
        && header.store_id == old.header.store_id;
    if header != new.header || !like_old {
        return Err("its header is another");
    }
    if new.file.len().ok() != Some(header.size) {
        return Err("it does not have the length it was made with");
    }
    Ok(())
}

/// Whether `after` is what should be left of `before`.
fn is_left(goes: bool, before: &Record<'_>, after: &Record<'_>) -> bool {
    let placed = before.place == after.place;
    match (before.form, after.form) {
        (Form::Removed(digest), Form::Removed(same)) => {
            placed && !goes && digest == same && before.body == after.body
        }
        (Form::Removed(_), _) => false,
        (_, Form::Removed(_)) => placed && goes,
        _ => placed && !goes && before.body == after.body,
    }
}
