//! Places as clients see them: a revision in decimal, or `C:<commit>/P:<prepare>` of the log.
//!
//! A place in the log carries the low byte of the epoch that wrote it. One that this log's history
//! does not have is from elsewhere, or from a history that a restore rewound.

use daybook_model::Position;
use daybook_store::Store;
use daybook_wire::{encode_position, position};

use super::definition::Start;
use super::key::Source;

/// `number` of `source` as text.
#[must_use]
pub fn text(store: &Store, source: &Source, number: u64) -> String {
    match source {
        Source::Stream(_) => number.to_string(),
        Source::All => both(shown(store, Position(number))),
    }
}

/// Where a group begins, as text.
#[must_use]
pub fn start_text(source: &Source, start: Start) -> String {
    match (source, start) {
        (Source::Stream(_), Start::First) => "0".to_owned(),
        (Source::Stream(_), Start::End) => "-1".to_owned(),
        (Source::Stream(_), Start::At(revision)) => revision.to_string(),
        (Source::All, Start::First) => both(0),
        (Source::All, Start::End) => "C:-1/P:-1".to_owned(),
        (Source::All, Start::At(number)) => both(number),
    }
}

/// Where a group begins, from its text.
#[must_use]
pub fn parse_start(source: &Source, text: &str) -> Option<Start> {
    match source {
        Source::Stream(_) if text == "-1" => Some(Start::End),
        Source::Stream(_) => {
            text.parse().ok().map(|n| if n == 0 { Start::First } else { Start::At(n) })
        }
        Source::All if text.starts_with("C:-1/") => Some(Start::End),
        Source::All => parse_both(text).map(|n| if n == 0 { Start::First } else { Start::At(n) }),
    }
}

/// The number of `source` that a checkpoint's text names.
///
/// # Errors
/// Says why this log has no such place.
pub fn parse(store: &Store, source: &Source, text: &str) -> Result<u64, String> {
    let unreadable = || format!("'{text}' is not a place that a checkpoint can name");
    match source {
        Source::Stream(_) => text.parse().map_err(|_| unreadable()),
        Source::All => {
            let number = parse_both(text).ok_or_else(unreadable)?;
            written(store, number).map(|position| position.0).ok_or_else(|| {
                format!(
                    "this log's history has no place '{text}': it is from another, or was rewound"
                )
            })
        }
    }
}

/// The position that clients number so, if this log's history has it.
#[must_use]
pub fn written(store: &Store, number: u64) -> Option<Position> {
    let (position, epoch) = position::decode(number);
    let writer = store.epoch_at(position)?;
    (writer.0 & 0xff == u32::from(epoch)).then_some(position)
}

/// The number that clients see for a position.
#[must_use]
pub fn shown(store: &Store, position: Position) -> u64 {
    let epoch = store.epoch_at(position).unwrap_or_else(|| store.about().epoch);
    encode_position(position, epoch)
}

fn both(number: u64) -> String {
    format!("C:{number}/P:{number}")
}

fn parse_both(text: &str) -> Option<u64> {
    let (commit, prepare) = text.strip_prefix("C:")?.split_once("/P:")?;
    let commit = commit.parse().ok()?;
    (prepare.parse() == Ok(commit)).then_some(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_survives_its_text() {
        let stream = Source::named("s").expect("a source");
        for source in [Source::All, stream] {
            for start in [Start::First, Start::End, Start::At(768)] {
                let text = start_text(&source, start);
                assert_eq!(parse_start(&source, &text), Some(start), "{text}");
            }
        }
        for wrong in ["", "x", "C:1/P:2", "C:1", "1"] {
            assert_eq!(parse_start(&Source::All, wrong), None, "{wrong}");
        }
    }
}
