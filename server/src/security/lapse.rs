//! Answers that end when the proof of their caller does: subscriptions, batches, figures.
//!
//! A token holds for minutes, a subscription for months. Whatever a caller was let to follow ends
//! with what it was let in by; it comes back with another, and goes on where it was.
//!
//! ```text
//!   gRPC   trailers: UNAUTHENTICATED            HTTP   event: problem, "unauthenticated"
//! ```
//!
//! The proof of a user also ends when it would not be let in any more, or not as the same: disabled,
//! deleted, in other groups, with another password.
//!
//! Answers that have an end are left to reach it: a page or a backup cut short would pass for whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use daybook_model::{Clock, Timestamp};
use futures_util::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::caller::{Caller, Standing};
use super::gate::Tongue;
use crate::grpc::{call, status};
use crate::http::problem::{Kind, Problem};
use crate::node::entrance::WithoutEnd;

/// How often the clock is looked at again: it may be set meanwhile. So long after its end, at most,
/// a proof is still good for what it began.
pub const LAPSE_LOOK_MAX: Duration = Duration::from_secs(2);

/// `response`, which ends with the proof of `caller` if it has no end of its own.
pub fn with(
    caller: &Caller,
    clock: Arc<dyn Clock>,
    tongue: Tongue,
    response: Response,
) -> Response {
    let (until, standing) = (caller.until(), caller.standing().cloned());
    let may_lapse = until.is_some() || standing.is_some();
    if !may_lapse || response.extensions().get::<WithoutEnd>().is_none() {
        return response;
    }
    response.map(|body| {
        let sleep = Box::pin(tokio::time::sleep(left(until, clock.as_ref())));
        let standing = standing.map(|asked| Watched { seen: asked.at(), asked, asking: None });
        Body::new(Lapsing { body, until, standing, clock, tongue, sleep, is_over: false })
    })
}

/// How long to wait before the clock is looked at again.
fn left(until: Option<Timestamp>, clock: &dyn Clock) -> Duration {
    let Some(until) = until else { return LAPSE_LOOK_MAX };
    let left = until.0.saturating_sub(clock.now().0);
    Duration::from_nanos(u64::try_from(left).unwrap_or(0)).min(LAPSE_LOOK_MAX)
}

/// A body that ends with its caller's proof.
struct Lapsing {
    body: Body,
    until: Option<Timestamp>,
    standing: Option<Watched>,
    clock: Arc<dyn Clock>,
    tongue: Tongue,
    sleep: Pin<Box<Sleep>>,
    is_over: bool,
}

/// A caller who is looked at again when users have changed.
struct Watched {
    asked: Arc<dyn Standing>,
    seen: u64,
    /// What was begun, and which change it knows of.
    asking: Option<(u64, BoxFuture<'static, bool>)>,
}

impl Watched {
    /// Whether the caller is found not to be who it was.
    fn poll_fallen(&mut self, task: &mut Context<'_>) -> bool {
        let now = self.asked.now();
        if self.asking.is_none() && now != self.seen {
            self.asking = Some((now, self.asked.holds()));
        }
        let Some((knows, asking)) = &mut self.asking else { return false };
        let Poll::Ready(holds) = asking.as_mut().poll(task) else { return false };
        self.seen = *knows;
        self.asking = None;
        !holds
    }
}

impl Lapsing {
    /// Resolves when the proof has ended.
    fn poll_lapsed(&mut self, task: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.until.is_some_and(|until| self.clock.now() >= until) {
                return Poll::Ready(());
            }
            if self.standing.as_mut().is_some_and(|standing| standing.poll_fallen(task)) {
                return Poll::Ready(());
            }
            ready!(self.sleep.as_mut().poll(task));
            let next = Instant::now() + left(self.until, self.clock.as_ref());
            self.sleep.as_mut().reset(next);
        }
    }
}

impl HttpBody for Lapsing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.poll_lapsed(task).is_pending() {
            return Pin::new(&mut self.body).poll_frame(task);
        }
        self.is_over = true;
        // Lets go of what it followed.
        self.body = Body::empty();
        Poll::Ready(Some(Ok(match self.tongue {
            Tongue::Grpc => Frame::trailers(call::trailers(&status::unauthenticated())),
            Tongue::Http => {
                let problem = Problem::new(Kind::Unauthenticated, "the caller's proof has ended");
                let text = format!("event: problem\ndata: {}\n\n", problem.to_json());
                Frame::data(text.into())
            }
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
