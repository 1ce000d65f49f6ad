//! A page of a read, as JSON: what was asked about, then the events, then where to go on.
//!
//! ```json
//! { "events": [ … ], "stream": "account-1", "head": 41, "next": 20, "atEnd": false }
//! ```
//!
//! `next` is what to give as `from` to go on in the same direction. Forwards it is always a
//! number: at the end (`atEnd`) it is where the next event will be. Backwards it is null when the
//! first event has been read.

use axum::response::{IntoResponse, Response};
use daybook_store::{Direction, Page};
use http::header;
use serde_json::{Map, Value};

use super::event;
use super::problem::Problem;

/// Events of one page, unless the request says otherwise.
pub const LIMIT_DEFAULT: u64 = 100;
/// Events of one page at most. Larger results go page by page, or by subscription.
pub const LIMIT_MAX: u64 = 1000;
/// Bytes of JSON after which a page ends though fewer events were asked for: memory does not grow
/// with the size of events.
pub const PAGE_SIZE_TARGET: usize = 4 * 1024 * 1024;

/// How many things a page may have.
///
/// # Errors
/// [`Problem`] if the request wants none, or more than there are in one.
pub fn limit(given: Option<u64>) -> Result<usize, Problem> {
    limit_of(given, LIMIT_DEFAULT, LIMIT_MAX)
}

/// The same, of pages with another `default` and `max`.
///
/// # Errors
/// As [`limit`].
pub fn limit_of(given: Option<u64>, default: u64, max: u64) -> Result<usize, Problem> {
    let limit = given.unwrap_or(default);
    match usize::try_from(limit) {
        Ok(count) if (1..=max).contains(&limit) => Ok(count),
        _ => Err(Problem::field("limit", format!("give 1 to {max}"))),
    }
}

/// A page being filled.
pub struct PageBuilder {
    json: Vec<u8>,
    count: u64,
    limit: u64,
    last: Option<Last>,
}

/// The last event that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its position.
    pub position: u64,
    /// Its number in what was read: in a stream its revision.
    pub number: u64,
}

impl PageBuilder {
    /// A page for at most `limit` events.
    #[must_use]
    pub fn new(limit: u64) -> PageBuilder {
        PageBuilder { json: b"{\"events\":[".to_vec(), count: 0, limit, last: None }
    }

    /// Takes events of `page` while there is room, and says how many.
    pub fn take(&mut self, page: &Page) -> u64 {
        let before = self.count;
        for target in page.targets() {
            if self.is_full() {
                break;
            }
            if self.count > 0 {
                self.json.push(b',');
            }
            event::write_target(&target, page.links(), &mut self.json);
            self.count += 1;
            self.last = Some(Last { position: target.event.position.0, number: target.number });
        }
        self.count - before
    }

    /// Whether it takes no more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count >= self.limit || self.json.len() >= PAGE_SIZE_TARGET
    }

    /// The last event taken.
    #[must_use]
    pub fn last(&self) -> Option<Last> {
        self.last
    }

    /// The page as an answer, with `members` after its events.
    #[must_use]
    pub fn finish(mut self, members: &Map<String, Value>) -> Response {
        self.json.push(b']');
        for (name, value) in members {
            self.json.push(b',');
            self.json.extend_from_slice(Value::from(name.as_str()).to_string().as_bytes());
            self.json.push(b':');
            self.json.extend_from_slice(value.to_string().as_bytes());
        }
        self.json.push(b'}');
        ([(header::CONTENT_TYPE, "application/json")], self.json).into_response()
    }
}

/// Where a stream's or an index' reader goes on after number `last`; `from` is where it began if it
/// found nothing.
#[must_use]
pub fn next_number(direction: Direction, last: Option<u64>, from: Option<u64>) -> Option<u64> {
    match (direction, last) {
        (Direction::Forwards, Some(last)) => Some(last.saturating_add(1)),
        (Direction::Backwards, Some(last)) => last.checked_sub(1),
        (Direction::Forwards, None) => from,
        (Direction::Backwards, None) => None,
    }
}

/// Where a reader of `$all` goes on: forwards a position is inclusive, backwards it is exclusive.
#[must_use]
pub fn next_position(direction: Direction, last: Option<u64>, end: u64) -> Option<u64> {
    match (direction, last) {
        (Direction::Forwards, Some(last)) => Some(last.saturating_add(1)),
        (Direction::Forwards, None) => Some(end),
        (Direction::Backwards, last) => last.filter(|position| *position > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_on_where_the_page_ended() {
        let (f, b) = (Direction::Forwards, Direction::Backwards);
        assert_eq!(next_number(f, Some(9), None), Some(10));
        assert_eq!(next_number(f, None, Some(4)), Some(4));
        assert_eq!(next_number(b, Some(9), None), Some(8));
        assert_eq!(next_number(b, Some(0), None), None);
        assert_eq!(next_position(f, Some(9), 50), Some(10));
        assert_eq!(next_position(f, None, 50), Some(50));
        assert_eq!(next_position(b, Some(9), 50), Some(9));
        assert_eq!(next_position(b, Some(0), 50), None);
        assert_eq!(next_position(b, None, 50), None);
    }

    #[test]
    fn pages_are_bounded() {
        let default = usize::try_from(LIMIT_DEFAULT).expect("it is small");
        assert_eq!(limit(None), Ok(default));
        assert_eq!(limit_of(Some(20), 10, 20), Ok(20));
        for refused in [Some(0), Some(LIMIT_MAX + 1), Some(u64::MAX)] {
            assert!(limit(refused).is_err(), "{refused:?}");
        }
        assert!(limit_of(Some(21), 10, 20).is_err());
    }
}
