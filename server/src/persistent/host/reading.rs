//! What the source brings.
//!
//! A turn of the host ends when anything happens, and most of what happens has nothing to do with
//! the source. So a read that was begun is kept over turns, however many there are: it ends once, and
//! what it brought is taken in as there is room.

use std::time::Duration;

use daybook_store::ReadError;
use daybook_store::persistent::Origin;
use daybook_store::persistent::settings::TRY_AGAIN;
use futures_util::future::BoxFuture;

use super::super::feed::{Fed, Feed};
use super::{Host, Step};

/// How the source is read.
pub(super) enum Reading {
    /// Nothing is asked of it.
    Idle(Box<Feed>),
    /// It is asked for what comes next.
    Busy(BoxFuture<'static, (Box<Feed>, Result<(), ReadError>)>),
    /// It could not be read, and will be again at this time.
    Again(Duration),
    /// The stream ended for ever.
    Ended,
}

impl Reading {
    pub fn of(feed: Feed) -> Reading {
        Reading::Idle(Box::new(feed))
    }

    /// Whether there may be more to read.
    pub fn goes_on(&self) -> bool {
        !matches!(self, Reading::Ended)
    }

    /// What the source brings, at most `room` of it. May be dropped and called again without loss:
    /// what was begun goes on.
    pub async fn next(&mut self, room: usize, now: Duration) -> Step {
        loop {
            *self = match std::mem::replace(self, Reading::Ended) {
                Reading::Idle(mut feed) if !feed.is_ready() => {
                    Reading::Busy(Box::pin(async move {
                        let filled = feed.fill().await;
                        (feed, filled)
                    }))
                }
                other => other,
            };
            match self {
                Reading::Idle(feed) => return Step::Fed(Ok(feed.take(room))),
                Reading::Busy(read) => {
                    let (feed, filled) = read.await;
                    *self = Reading::Idle(feed);
                    if let Err(failed) = filled {
                        return Step::Fed(Err(failed));
                    }
                }
                Reading::Again(at) => {
                    tokio::time::sleep(at.saturating_sub(now)).await;
                    return Step::ReadAgain;
                }
                Reading::Ended => std::future::pending().await,
            }
        }
    }
}

impl Host {
    pub(super) fn take(&mut self, fed: Result<Vec<Fed>, ReadError>) {
        match fed {
            Ok(fed) => {
                self.read_trouble = None;
                fed.into_iter().for_each(|fed| self.push(Origin::Source, fed));
            }
            // The stop that closed the store also stops this.
            Err(ReadError::Closed) => self.reading = Reading::Ended,
            Err(error @ ReadError::StreamDeleted { .. }) => {
                self.live = true;
                self.read_trouble = Some(error.to_string());
                self.reading = Reading::Ended;
            }
            Err(error) => {
                let group = &self.definition.key;
                tracing::warn!(%group, %error, "the group cannot read on; it tries again");
                self.read_trouble = Some(error.to_string());
                self.reading = Reading::Again(self.now() + TRY_AGAIN);
            }
        }
    }

    pub(super) fn push(&mut self, origin: Origin, fed: Fed) {
        match fed {
            Fed::Message(message) => self.group.push(origin, message, self.now()),
            Fed::Passed(number) => self.group.pass(origin, number),
            Fed::CaughtUp => self.live = true,
        }
    }

    pub(super) fn read_again(&mut self) {
        let next = self.group.considered(Origin::Source).map_or(0, |number| number + 1);
        let feed = Feed::new(self.journal.store(), &self.definition, next);
        self.reading = Reading::of(feed);
        self.live = false;
    }
}
