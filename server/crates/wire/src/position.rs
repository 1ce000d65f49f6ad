//! Positions of the log on the wire.
//!
//! ```text
//!   63                          8 7          0
//!   | position (event number)    | epoch byte |     commit = prepare = this
//! ```
//!
//! The low byte is that of the epoch that wrote the event. Positions still rise along the log,
//! because epochs never fall. A client that comes back after a restore with a position of the
//! history that was rewound is told so, instead of waiting for ever or skipping what is new.

use daybook_model::{Epoch, Position};

/// Events that a position on the wire can number: what is left of 64 bits beside the epoch's byte.
pub const POSITION_MAX: u64 = u64::MAX >> EPOCH_BITS;
/// Bits of the epoch in a position on the wire.
const EPOCH_BITS: u32 = 8;

/// What a request may name as a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WirePosition {
    /// Before the first event: (0, 0), the protocol's own constant for the start.
    Start,
    /// After the last event: all bits set.
    End,
    /// An event, and the low byte of the epoch that is said to have written it.
    Event(Position, u8),
    /// Nothing this server ever gave out.
    Impossible,
}

/// The number that stands for `position`, written by `epoch`, in both fields.
#[must_use]
pub fn encode_position(position: Position, epoch: Epoch) -> u64 {
    (position.0 << EPOCH_BITS) | u64::from(epoch.0 & 0xff)
}

/// The event and the epoch's byte that `number` stands for.
#[must_use]
pub fn decode(number: u64) -> (Position, u8) {
    (Position(number >> EPOCH_BITS), (number & 0xff) as u8)
}

/// What a request's pair of numbers names.
#[must_use]
pub fn from_request(commit: u64, prepare: u64) -> WirePosition {
    match (commit, prepare) {
        (u64::MAX, _) => WirePosition::End,
        (0, 0) => WirePosition::Start,
        (commit, prepare) if commit != prepare => WirePosition::Impossible,
        (commit, _) => {
            let (position, epoch) = decode(commit);
            WirePosition::Event(position, epoch)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_carries_the_byte_of_its_epoch() {
        for (position, epoch, number) in [
            (0, 0, 0),
            (0, 1, 1),
            (1, 0, 256),
            (1000, 7, 256_007),
            (5, 256, 1280),
            (POSITION_MAX, 255, u64::MAX),
        ] {
            assert_eq!(encode_position(Position(position), Epoch(epoch)), number);
            assert_eq!(decode(number), (Position(position), (epoch % 256) as u8));
        }
    }

    #[test]
    fn a_request_names_an_event_or_an_end_of_the_log() {
        assert_eq!(from_request(0, 0), WirePosition::Start);
        assert_eq!(from_request(u64::MAX, u64::MAX), WirePosition::End);
        assert_eq!(from_request(513, 513), WirePosition::Event(Position(2), 1));
        assert_eq!(from_request(513, 512), WirePosition::Impossible);
    }
}
