//! Answers that are whole in memory while their clients read them, within bounds.
//!
//! ```text
//!   whole answer ─ room? ─> Kept ── a piece at a time ──> HTTP ──> the client
//!                    └ 503    ^
//!                             └─ the watch: nobody reads, or its caller is no more ─> dropped
//! ```
//!
//! HTTP asks for the next piece only when its client has room for it, so an answer can tell whether
//! it is read. It cannot end by itself while nobody asks: a task watches each of them. An answer that
//! is dropped ends as a broken one, its stream reset or its connection closed: it never passes for a
//! shorter one.
//!
//! INVARIANT: an answer larger than [`PIECE_SIZE`] holds a [`Share`] for as long as its bytes are
//! here; what lies in HTTP's own buffers is a copy, and bounded by them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use daybook_model::limits::EVENT_SIZE_MAX;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::shares::{Holder, Share, Shares};
use crate::grpc::{call, status};
use crate::http::body::BODY_TIMEOUT;
use crate::http::page::PAGE_SIZE_TARGET;
use crate::http::problem::{Kind, Problem};
use crate::security::caller::Standing;
use crate::security::gate::Tongue;
use crate::security::lapse::LAPSE_LOOK_MAX;
use crate::telemetry::metrics::Metrics;

/// Bytes of all answers that are held at a time, unless there is less memory: 64 full pages of a
/// read.
pub const ANSWERS_SIZE_MAX: usize = 256 * 1024 * 1024;
/// Bytes of the largest answer: a page that is all but full, and then an event of the largest size,
/// as base64; with room for what encloses them. One caller may always have that much.
pub const ANSWER_SIZE_MAX: usize = PAGE_SIZE_TARGET + EVENT_SIZE_MAX / 3 * 4 + 1024 * 1024;
/// Bytes of those of one caller, so that one who does not read keeps nobody from reading.
pub const ANSWERS_OF_ONE_MAX: usize = ANSWERS_SIZE_MAX / 4;
/// Bytes that are handed to HTTP at a time. An answer that is no larger is not counted: HTTP takes
/// it at once, whether it is read or not.
pub const PIECE_SIZE: usize = 64 * 1024;
/// Time in which a client must take a further piece: as long as it may take for a whole request.
pub const STALLED_MAX: Duration = BODY_TIMEOUT;

/// When answers are looked at, and how long one may stand still.
#[derive(Clone, Copy)]
struct Pace {
    look: Duration,
    stalled: Duration,
}

const PACE: Pace = Pace { look: LAPSE_LOOK_MAX, stalled: STALLED_MAX };

static ANSWERS: Shares = Shares::new(ANSWERS_SIZE_MAX, ANSWERS_OF_ONE_MAX);

/// Bounds the bytes of all answers that this process holds at a time.
pub fn bound(size: usize) {
    ANSWERS.bound(size, ANSWER_SIZE_MAX);
}

/// Says how many bytes an answer holds whose body does not. Put into a response's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Whole(pub usize);

/// Whom answers are for, and how they are said.
pub struct Reader {
    /// Who holds them.
    pub holder: Holder,
    /// Whom to ask whether it may have them still.
    pub standing: Option<Arc<dyn Standing>>,
    /// How it is told that there is no room.
    pub tongue: Tongue,
}

/// `response`, held within the bounds; told apart from those that are large only by what `reader`
/// makes, because most are not. An overload instead of it, if there is no room.
pub fn held(
    response: Response,
    metrics: &Arc<Metrics>,
    reader: impl FnOnce() -> Reader,
) -> Response {
    let said = || response.extensions().get::<Whole>().map(|whole| whole.0 as u64);
    let size = response.body().size_hint().exact().or_else(said).unwrap_or(0);
    if size <= PIECE_SIZE as u64 {
        return response;
    }
    held_in((&ANSWERS, PACE), response, size, (metrics, reader()))
}

fn held_in(
    (shares, pace): (&'static Shares, Pace),
    mut response: Response,
    size: u64,
    (metrics, reader): (&Arc<Metrics>, Reader),
) -> Response {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let Some(share) = shares.hold(reader.holder, size) else {
        let mut refused = match reader.tongue {
            Tongue::Grpc => call::refused(&status::too_busy()),
            Tongue::Http => {
                let detail = "too many large answers wait for their clients; try again later";
                Problem::new(Kind::Overloaded, detail).into_response()
            }
        };
        // The metrics are told by them which route it was.
        std::mem::swap(refused.extensions_mut(), response.extensions_mut());
        return refused;
    };
    let (metrics, standing) = (metrics.clone(), reader.standing);
    response.map(|body| {
        let rest = Bytes::new();
        let held = Some(Held { body, rest, moved: Instant::now(), _share: share });
        let held = Arc::new(Mutex::new(held));
        let watch = tokio::spawn(watch(held.clone(), standing, (pace, metrics))).abort_handle();
        Body::new(Kept { held, watch })
    })
}

/// An answer that is held.
struct Held {
    body: Body,
    /// What was taken of it and not handed on.
    rest: Bytes,
    /// When the last piece was handed on.
    moved: Instant,
    _share: Share,
}

/// Drops an answer whose client does not read it, or may not have it any more.
async fn watch(
    held: Arc<Mutex<Option<Held>>>,
    standing: Option<Arc<dyn Standing>>,
    (pace, metrics): (Pace, Arc<Metrics>),
) {
    let mut seen = standing.as_ref().map(|standing| standing.at());
    loop {
        tokio::time::sleep(pace.look).await;
        let mut is_over = match held.lock().as_ref() {
            None => return,
            Some(held) => held.moved.elapsed() >= pace.stalled,
        };
        if let Some(standing) = &standing {
            let now = Some(standing.now());
            if now != seen {
                is_over |= !standing.holds().await;
                seen = now;
            }
        }
        if is_over {
            metrics.security.answer_dropped();
            *held.lock() = None;
            return;
        }
    }
}

/// The body of an answer that is held.
struct Kept {
    /// None once it was dropped.
    held: Arc<Mutex<Option<Held>>>,
    watch: AbortHandle,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.watch.abort();
        // At once, and not when the task that watches it has noticed.
        self.held.lock().take();
    }
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut held = self.held.lock();
        let Some(held) = held.as_mut() else {
            let dropped = io::Error::other("the answer was dropped: nobody read it in time");
            return Poll::Ready(Some(Err(axum::Error::new(dropped))));
        };
        if held.rest.is_empty() {
            match ready!(Pin::new(&mut held.body).poll_frame(task)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => held.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        held.moved = Instant::now();
        let size = held.rest.len().min(PIECE_SIZE);
        // A copy: else what HTTP has not sent yet would hold all of it.
        let piece = Bytes::copy_from_slice(&held.rest.split_to(size));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let held = self.held.lock();
        held.as_ref().is_some_and(|held| held.rest.is_empty() && held.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.lock();
        match held.as_ref().and_then(|held| Some((held.body.size_hint().exact()?, held))) {
            Some((left, held)) => SizeHint::with_exact(left + held.rest.len() as u64),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
