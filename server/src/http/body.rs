//! Bodies of requests that are held in memory whole, within bounds.
//!
//! One body is bounded by its route's limit and a time; all that are held together by
//! [`BODIES_SIZE_MAX`], and those of one caller by a share of that. Above it requests are refused with
//! 503 at once, before a byte is read of those that say how long they are: memory does not grow with
//! the number of clients. Answers have [room of their own](crate::node::answers): who does not read
//! keeps nobody from writing.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use daybook_model::limits::APPEND_SIZE_MAX;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;

use super::problem::{Kind, Problem, body_too_large};
use crate::node::shares::{Holder, Share, Shares};

/// Bytes of an append's body. Base64 makes events a third larger than they are stored.
pub const APPEND_BODY_SIZE_MAX: usize = APPEND_SIZE_MAX / 3 * 4 + 1024 * 1024;
/// Bytes of all bodies that are held at a time, unless there is less memory.
pub const BODIES_SIZE_MAX: usize = 256 * 1024 * 1024;
/// Bytes of those of one caller: the largest append, and many others.
pub const BODIES_OF_ONE_MAX: usize = BODIES_SIZE_MAX / 2;
/// Time in which a body must have arrived: the largest at 1.5 MB/s.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// That a body must have arrived in another time than [`BODY_TIMEOUT`]; among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct BodyWait(pub Duration);

/// Bytes of a body that does not say how long it is, until it turns out to be longer.
const UNSAID_SIZE: usize = 64 * 1024;

const _: () = assert!(APPEND_BODY_SIZE_MAX <= BODIES_OF_ONE_MAX);

static ROOM: Shares = Shares::new(BODIES_SIZE_MAX, BODIES_OF_ONE_MAX);

/// Bounds the bytes of all bodies that this process holds at a time.
pub fn bound(size: usize) {
    ROOM.bound(size, APPEND_BODY_SIZE_MAX);
}

fn overloaded() -> Problem {
    Problem::new(Kind::Overloaded, "too many large requests at a time; try again later")
}

/// A body of at most `LIMIT` bytes. Hold it while its bytes are in use: it is their room.
pub struct Held<const LIMIT: usize> {
    /// The body.
    pub bytes: Bytes,
    _room: Share,
}

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for Held<LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Held<LIMIT>, Problem> {
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > LIMIT) {
            return Err(body_too_large(LIMIT));
        }
        let mut room = ROOM.begin(Holder::asking(request.extensions()));
        if !room.grow_to(length.unwrap_or_else(|| LIMIT.min(UNSAID_SIZE))) {
            return Err(overloaded());
        }
        let wait = request.extensions().get::<BodyWait>().map_or(BODY_TIMEOUT, |wait| wait.0);
        let said = length.unwrap_or(0);
        let collecting = collect::<LIMIT>(request.into_body(), said, &mut room);
        match tokio::time::timeout(wait, collecting).await {
            Ok(collected) => Ok(Held { bytes: collected?, _room: room }),
            Err(_) => {
                let detail = format!("the body did not arrive within {} s", wait.as_secs());
                Err(Problem::new(Kind::BodyTimeout, detail))
            }
        }
    }
}

/// All of `body`, which says that it has `said` bytes, and for which `room` grows.
async fn collect<const LIMIT: usize>(
    mut body: Body,
    said: usize,
    room: &mut Share,
) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::new(Kind::InvalidRequest, format!("the body broke off: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let size = first.len() + whole.len() + data.len();
        if size > LIMIT {
            return Err(body_too_large(LIMIT));
        }
        if !room.grow_to(size) {
            return Err(overloaded());
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                // Once and not in steps, which would need twice the memory for a moment.
                whole.reserve(said.max(size));
            }
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::security::{Caller, Proof};

    /// A request of `login` with a body of `size` bytes, which it says at the beginning or not.
    fn request(login: &str, size: usize, says: Option<usize>) -> Request {
        let pieces = (0..size.div_ceil(4096)).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 4096]));
        let mut request = Request::new(Body::from_stream(stream::iter(pieces)));
        if let Some(length) = says {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        let caller = Caller::known(login.to_owned(), Vec::new(), Proof::Password, None);
        request.extensions_mut().insert(caller);
        request
    }

    #[tokio::test]
    async fn a_caller_that_sends_much_at_a_time_holds_up_no_other() {
        const LIMIT: usize = 64 * 1024 * 1024;
        let send = |login, size, says| async move {
            Held::<LIMIT>::from_request(request(login, size, says), &()).await
        };
        let all = (send("a", LIMIT, Some(LIMIT)).await, send("a", LIMIT, None).await);
        assert!(all.0.is_ok() && all.1.is_ok());
        for says in [Some(1), None] {
            let refused = send("a", 4096, says).await.map(|_| ()).expect_err("it has its share");
            assert_eq!(refused.kind(), Kind::Overloaded);
        }
        let other = send("b", 8 * 4096, None).await.expect("another has its own");
        assert_eq!(other.bytes.len(), 8 * 4096);
        let too_large = send("b", LIMIT + 1, None).await.map(|_| ()).expect_err("refused");
        assert_eq!(too_large.kind(), Kind::TooLarge);
        drop(all);
        assert!(send("a", 4096, None).await.is_ok(), "what was held is given back");
    }
}
