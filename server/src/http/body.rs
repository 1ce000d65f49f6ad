//! Bodies that are held in memory whole, of requests and of pages, within bounds.
//!
//! One body is bounded by its route's limit and a time; all that are held together by
//! [`BODIES_SIZE_MAX`]. Above it requests are refused with 503 at once, before a byte is read:
//! memory does not grow with the number of clients, nor with how slowly they read.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use daybook_model::limits::APPEND_SIZE_MAX;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Kind, Problem, body_too_large};

/// Bytes of an append's body. Base64 makes events a third larger than they are stored.
pub const APPEND_BODY_SIZE_MAX: usize = APPEND_SIZE_MAX / 3 * 4 + 1024 * 1024;
/// Bytes of all bodies that are held at a time, unless there is less memory.
pub const BODIES_SIZE_MAX: usize = 512 * 1024 * 1024;
/// Time in which a body must have arrived: the largest at 1.5 MB/s.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// That a body must have arrived in another time than [`BODY_TIMEOUT`]; among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct BodyWait(pub Duration);

/// One permit is worth so many bytes.
const PERMIT_SIZE: usize = 4096;

const _: () = assert!(APPEND_BODY_SIZE_MAX <= BODIES_SIZE_MAX);

/// Of the process: bodies are made where nothing else of a server is known.
static ROOM: OnceLock<Arc<Semaphore>> = OnceLock::new();

/// Bounds the bytes of all bodies that this process holds at a time. The first bound stays.
pub fn bound(size: usize) {
    // Another server of this process was first.
    let _ = ROOM.set(Arc::new(Semaphore::new(size / PERMIT_SIZE)));
}

fn all_room() -> &'static Arc<Semaphore> {
    ROOM.get_or_init(|| Arc::new(Semaphore::new(BODIES_SIZE_MAX / PERMIT_SIZE)))
}

/// Room for `size` bytes, until dropped.
fn room(size: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let permits = u32::try_from(size.div_ceil(PERMIT_SIZE)).unwrap_or(u32::MAX);
    all_room().clone().try_acquire_many_owned(permits).map_err(|_| {
        let detail = "too many large requests and answers at a time; try again later";
        Problem::new(Kind::Overloaded, detail)
    })
}

/// Makes `bytes` an answer's body that counts as held until its client has read it.
///
/// # Errors
/// [`Problem`] if there is no room for it.
pub fn hold(bytes: Vec<u8>) -> Result<Body, Problem> {
    struct Kept {
        bytes: Vec<u8>,
        _room: OwnedSemaphorePermit,
    }
    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    let room = room(bytes.len())?;
    Ok(Body::from(Bytes::from_owner(Kept { bytes, _room: room })))
}

/// A body of at most `LIMIT` bytes. Hold it while its bytes are in use: it is their room.
pub struct Held<const LIMIT: usize> {
    /// The body.
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for Held<LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Held<LIMIT>, Problem> {
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        // A body that does not say how long it is may be as long as it may.
        let expected = length.unwrap_or(LIMIT);
        if expected > LIMIT {
            return Err(body_too_large(LIMIT));
        }
        let room = room(expected)?;
        let wait = request.extensions().get::<BodyWait>().map_or(BODY_TIMEOUT, |wait| wait.0);
        let body = Limited::new(request.into_body(), LIMIT);
        match tokio::time::timeout(wait, collected(body, length.unwrap_or(0))).await {
            Ok(Ok(bytes)) => Ok(Held { bytes, _room: room }),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(body_too_large(LIMIT)),
            Ok(Err(error)) => {
                Err(Problem::new(Kind::InvalidRequest, format!("the body broke off: {error}")))
            }
            Err(_) => {
                let detail = format!("the body did not arrive within {} s", wait.as_secs());
                Err(Problem::new(Kind::BodyTimeout, detail))
            }
        }
    }
}

/// All of a body that says it has `length` bytes. Its pieces are not kept beside it.
async fn collected(mut body: Limited<Body>, length: usize) -> Result<Bytes, BoxError> {
    let mut bytes = BytesMut::with_capacity(length);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let all = room(BODIES_SIZE_MAX).expect("all of it");
        let refused = hold(vec![0]).map(|_| ()).expect_err("none is left");
        assert_eq!(refused.kind(), Kind::Overloaded);
        drop(all);
        drop(hold(vec![0]).expect("there is room again"));
        assert_eq!(all_room().available_permits(), BODIES_SIZE_MAX / PERMIT_SIZE);
    }
}
