//! One gRPC call over an HTTP body: messages in, messages and a status out.
//!
//! ```text
//!   request   headers (grpc-timeout) · | prefix | message | ... · end of stream
//!   answer    headers · | prefix | message | ... · trailers: grpc-status, grpc-message, more
//!   refusal   headers with the status in them, and no body ("trailers-only")
//! ```
//!
//! Compression is not offered; clients of this protocol do not use it unless told to.
//!
//! What is held of a message that is not whole counts from [`SMALL_SIZE`] on: as a share of its
//! caller, and it has a time to become whole. So does all that a unary call sends, however small,
//! because anyone may make some of them.
//!
//! INVARIANT: never holds more of a call than one message and one frame, and less than
//! [`SMALL_SIZE`] of it that is not counted; reads on only when asked, so that HTTP/2's flow control
//! is the back-pressure.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use daybook_model::limits::{MESSAGE_SIZE_MAX, RECORDS_MESSAGE_SIZE_MAX};
use daybook_wire::frame::{PREFIX_SIZE, Prefix, put_message};
use futures_util::future::Either;
use futures_util::{FutureExt as _, Stream};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame};
use prost::Message;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::status;
use crate::http::body::{BODY_TIMEOUT, BodyWait};
use crate::node::answers::{PIECE_SIZE, Whole};
use crate::node::entrance::{REQUEST_TIME_MAX, WithoutEnd};
use crate::node::shares::{Holder, Share, Shares};

/// The media type of every answer.
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
/// Digits of a `grpc-timeout`; gRPC's own limit.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// Bytes of a message that are not counted: no more than an open call costs in any case. Appends of
/// small events pay for no counting. What anyone may call takes no larger ones.
pub const SMALL_SIZE: usize = 4 * 1024;
/// Bytes of the message of a unary call that asks, or sets, and brings no data of its own: forty
/// names of streams, of the longest there are.
pub const ASKED_SIZE_MAX: usize = 64 * 1024;
/// Bytes of messages that are not whole, of all calls together, unless there is less memory: eight
/// of the largest.
pub const PARTIAL_SIZE_MAX: usize = 8 * MESSAGE_SIZE_MAX;
/// Bytes of those of one caller.
pub const PARTIAL_OF_ONE_MAX: usize = PARTIAL_SIZE_MAX / 4;

static PARTIAL: Shares = Shares::new(PARTIAL_SIZE_MAX, PARTIAL_OF_ONE_MAX);

/// Bytes of the largest message that is not whole.
pub const PARTIAL_SIZE_MIN: usize = RECORDS_MESSAGE_SIZE_MAX + PREFIX_SIZE;

/// Bounds the bytes of all messages that are not whole in this process.
pub fn bound(size: usize) {
    PARTIAL.bound(size, PARTIAL_SIZE_MIN);
}

const _: () = assert!(SMALL_SIZE < ASKED_SIZE_MAX && ASKED_SIZE_MAX < MESSAGE_SIZE_MAX);
const _: () = assert!(RECORDS_MESSAGE_SIZE_MAX + PREFIX_SIZE <= PARTIAL_OF_ONE_MAX);

/// The messages of a request, one after the other.
pub struct Messages {
    body: Body,
    /// What was received and not read yet. One of the two is empty: messages are cut out of the
    /// frame they arrived in, and only one that spans frames is put together in `partial`.
    chunk: Bytes,
    partial: BytesMut,
    /// Bytes one message may have.
    size_max: usize,
    /// What the request brought with it: who asks, looked at when a message is large.
    extensions: Extensions,
    /// Whether the only message, however small, and the end have to come in time.
    is_timed: bool,
    /// What is held of a large message.
    share: Option<Box<Share>>,
    /// When the wait for it is over, once there was one.
    late: Option<Pin<Box<Sleep>>>,
}

impl Messages {
    /// The messages of `request`, of at most [`MESSAGE_SIZE_MAX`] bytes each.
    #[must_use]
    pub fn new(request: Request<Body>) -> Messages {
        Messages::up_to(MESSAGE_SIZE_MAX, request)
    }

    /// The messages of `request`, of at most `size_max` bytes each.
    #[must_use]
    pub fn up_to(size_max: usize, request: Request<Body>) -> Messages {
        let (Parts { extensions, .. }, body) = request.into_parts();
        let (chunk, partial) = (Bytes::new(), BytesMut::new());
        let (is_timed, share, late) = (false, None, None);
        Messages { body, chunk, partial, size_max, extensions, is_timed, share, late }
    }

    /// The same, whose only message has to come in time, with the end of the request.
    #[must_use]
    pub fn in_time(self) -> Messages {
        Messages { is_timed: true, ..self }
    }

    /// The next message; none when the client has half-closed. May be dropped and called again
    /// without loss.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if it is larger than one may be; CANCELLED if the client went away;
    /// UNIMPLEMENTED if it is compressed; INVALID_ARGUMENT if the request ends within it;
    /// UNAVAILABLE if too much is held of such as are not whole; DEADLINE_EXCEEDED if the rest of it
    /// does not come in time.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let message = poll_fn(|task| self.poll_next(task)).await;
        // It is whole: who asked for it holds it from now on.
        (self.share, self.late) = (None, None);
        message
    }

    fn poll_next(&mut self, task: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.take()? {
                return Poll::Ready(Ok(Some(message)));
            }
            // A few bytes of a message do not keep the frame that they came in.
            self.partial.extend_from_slice(&std::mem::take(&mut self.chunk));
            self.count(self.partial.len())?;
            match ready!(self.poll_data(task))? {
                Some(data) if self.partial.is_empty() => self.chunk = data,
                Some(data) => self.partial.extend_from_slice(&data),
                None if self.partial.is_empty() => return Poll::Ready(Ok(None)),
                None => {
                    let ended = Status::invalid_argument("the request ends in a message");
                    return Poll::Ready(Err(ended));
                }
            }
        }
    }

    /// What comes next; none at the end of the request.
    fn poll_data(&mut self, task: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        while let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(task) {
            let Some(frame) = frame else { return Poll::Ready(Ok(None)) };
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => return Poll::Ready(Ok(Some(data))),
                Ok(Err(_trailers)) => {}
                Err(error) => return Poll::Ready(Err(Status::cancelled(error.to_string()))),
            }
        }
        if !self.is_timed && self.share.is_none() {
            return Poll::Pending;
        }
        let wait = self.extensions.get::<BodyWait>().map_or(BODY_TIMEOUT, |wait| wait.0);
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
        ready!(late.as_mut().poll(task));
        let text = format!("the request did not arrive within {} s", wait.as_secs());
        Poll::Ready(Err(Status::deadline_exceeded(text)))
    }

    /// Holds `size` bytes of a message.
    fn count(&mut self, size: usize) -> Result<(), Status> {
        if size <= SMALL_SIZE {
            return Ok(());
        }
        let share = self
            .share
            .get_or_insert_with(|| Box::new(PARTIAL.begin(Holder::asking(&self.extensions))));
        if share.grow_to(size) { Ok(()) } else { Err(status::too_busy()) }
    }

    /// The only message of a unary call.
    ///
    /// # Errors
    /// As [`Messages::next`]; INVALID_ARGUMENT unless there is exactly one.
    pub async fn only(&mut self) -> Result<Bytes, Status> {
        let Some(message) = poll_fn(|task| self.poll_next(task)).await? else {
            return Err(Status::invalid_argument("the request has no message; send one"));
        };
        if !self.body.is_end_stream() {
            // It is held until the end comes.
            self.count(message.len())?;
        }
        match poll_fn(|task| self.poll_next(task)).await? {
            None => Ok(message),
            Some(_) => Err(Status::invalid_argument("the request has two messages; send one")),
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let received = if self.partial.is_empty() { &self.chunk[..] } else { &self.partial[..] };
        let Some(prefix) = received.first_chunk::<PREFIX_SIZE>() else { return Ok(None) };
        let Prefix { compressed, len } = Prefix::read(*prefix);
        if compressed {
            return Err(Status::unimplemented("compressed messages are not supported"));
        }
        if len > self.size_max {
            let limit = self.size_max;
            return Err(Status::resource_exhausted(format!(
                "Received message larger than max ({len} vs. {limit})"
            )));
        }
        let end = PREFIX_SIZE + len;
        if received.len() < end {
            return Ok(None);
        }
        let mut message = if self.partial.is_empty() {
            self.chunk.split_to(end)
        } else {
            self.partial.split_to(end).freeze()
        };
        message.advance(PREFIX_SIZE);
        Ok(Some(message))
    }
}

/// How long the client waits: its `grpc-timeout`. One that cannot be read counts as none.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > TIMEOUT_DIGITS_MAX {
        return None;
    }
    let number = digits.parse::<u32>().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(3600) * number,
        "M" => Duration::from_secs(60) * number,
        "S" => Duration::from_secs(u64::from(number)),
        "m" => Duration::from_millis(u64::from(number)),
        "u" => Duration::from_micros(u64::from(number)),
        "n" => Duration::from_nanos(u64::from(number)),
        _ => return None,
    })
}

/// When the client stops waiting, if it ever does.
#[must_use]
pub fn deadline(headers: &HeaderMap) -> Option<Instant> {
    Instant::now().checked_add(timeout(headers)?)
}

/// When a call with one answer is over: when its client stops waiting, or after
/// [`REQUEST_TIME_MAX`].
#[must_use]
pub fn end(headers: &HeaderMap) -> Option<Instant> {
    let wait = timeout(headers).map_or(REQUEST_TIME_MAX, |wait| wait.min(REQUEST_TIME_MAX));
    Instant::now().checked_add(wait)
}

/// What `work` comes to, or DEADLINE_EXCEEDED at `deadline`. What it began may still happen.
///
/// # Errors
/// Those of `work`.
pub fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Status>>,
) -> impl Future<Output = Result<T, Status>> {
    // Not an `async fn`: that would have room for `work` three times.
    match deadline {
        None => Either::Left(work),
        Some(deadline) => Either::Right(
            tokio::time::timeout_at(deadline, work)
                .map(|done| done.unwrap_or_else(|_elapsed| Err(status::deadline_exceeded()))),
        ),
    }
}

/// A message of type `Q`.
///
/// # Errors
/// INVALID_ARGUMENT if it is not one.
pub fn decoded<Q: Message + Default>(message: Bytes) -> Result<Q, Status> {
    Q::decode(message).map_err(|error| status::invalid(&error.into()))
}

/// Serves a unary call: decodes its message, of at most [`ASKED_SIZE_MAX`] bytes, answers with what
/// `handle` makes of it.
pub fn unary<Q, A, F>(
    request: Request<Body>,
    handle: impl FnOnce(Q) -> F,
) -> impl Future<Output = Response<Body>>
where
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>>,
{
    unary_up_to(ASKED_SIZE_MAX, request, handle)
}

/// Serves a unary call whose message has at most `size_max` bytes.
pub async fn unary_up_to<Q, A, F>(
    size_max: usize,
    request: Request<Body>,
    handle: impl FnOnce(Q) -> F,
) -> Response<Body>
where
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>>,
{
    let deadline = end(request.headers());
    let mut messages = Messages::up_to(size_max, request).in_time();
    let answer = within(deadline, async {
        let message = messages.only().await?;
        handle(decoded(message)?).await
    });
    answered(answer.await)
}

/// The answer of a call with one message in it, or its refusal.
pub fn answered(answer: Result<impl Message, Status>) -> Response<Body> {
    match answer {
        Ok(message) => {
            let mut buf = BytesMut::new();
            put_message(&message, &mut buf);
            let size = buf.len();
            let mut response =
                with_body(Body::new(Once { message: Some(buf.freeze()), ended: false }));
            if size > PIECE_SIZE {
                response.extensions_mut().insert(Whole(size));
            }
            response
        }
        Err(status) => refused(&status),
    }
}

/// An answer without a message: `status` alone.
#[must_use]
pub fn refused(status: &Status) -> Response<Body> {
    let mut response = with_body(Body::empty());
    response.headers_mut().extend(trailers(status));
    response
}

/// An answer of many messages. Each item is any number of whole messages with their prefixes; the
/// call ends with OK after the last, with an item's error, or at `deadline`.
pub fn streamed<S>(deadline: Option<Instant>, replies: S) -> Response<Body>
where
    S: Stream<Item = Result<Bytes, Status>> + Send + 'static,
{
    let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
    let mut response = with_body(Body::new(Replies { replies: Some(Box::pin(replies)), deadline }));
    // Most last for as long as somebody listens; the others say themselves if they are cut short.
    response.extensions_mut().insert(WithoutEnd);
    response
}

fn with_body(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// `status` as it stands at the end of an answer.
#[must_use]
pub fn trailers(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    // It fails only on a message with bytes that no header can carry, and those are encoded.
    if status.add_header(&mut headers).is_err() {
        headers.insert("grpc-status", HeaderValue::from_static("2"));
    }
    headers
}

fn ok() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert("grpc-status", HeaderValue::from_static("0"));
    headers
}

/// The body of an answer with one message.
struct Once {
    message: Option<Bytes>,
    ended: bool,
}

impl HttpBody for Once {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.message.take() {
            Some(message) => Some(Frame::data(message)),
            None if !self.ended => {
                self.ended = true;
                Some(Frame::trailers(ok()))
            }
            None => None,
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// The body of an answer with many messages.
struct Replies<S> {
    /// None after the trailers.
    replies: Option<Pin<Box<S>>>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S: Stream<Item = Result<Bytes, Status>>> Replies<S> {
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let Some(replies) = self.replies.as_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(reply) = replies.as_mut().poll_next(task) {
            return Poll::Ready(reply);
        }
        match self.deadline.as_mut() {
            None => Poll::Pending,
            Some(deadline) => {
                ready!(deadline.as_mut().poll(task));
                Poll::Ready(Some(Err(status::deadline_exceeded())))
            }
        }
    }
}

impl<S: Stream<Item = Result<Bytes, Status>>> HttpBody for Replies<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.replies.is_none() {
            return Poll::Ready(None);
        }
        let ended = match ready!(self.poll(task)) {
            Some(Ok(messages)) => return Poll::Ready(Some(Ok(Frame::data(messages)))),
            Some(Err(status)) => trailers(&status),
            None => ok(),
        };
        // Frees the reader or subscription at once.
        self.replies = None;
        Poll::Ready(Some(Ok(Frame::trailers(ended))))
    }

    fn is_end_stream(&self) -> bool {
        self.replies.is_none()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use tonic::Code;

    use super::*;
    use crate::security::{Caller, Proof};

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    fn body(frames: Vec<Vec<u8>>) -> Request<Body> {
        let frames = frames.into_iter().map(Ok::<_, Infallible>);
        Request::new(Body::from_stream(stream::iter(frames)))
    }

    /// A request of `login` whose frames come and whose end does not.
    fn begun(login: &str, frames: Vec<Vec<u8>>) -> Request<Body> {
        let frames = stream::iter(frames.into_iter().map(Ok::<_, Infallible>));
        let mut request = Request::new(Body::from_stream(frames.chain(stream::pending())));
        let caller = Caller::known(login.to_owned(), Vec::new(), Proof::Password, None);
        request.extensions_mut().insert(caller);
        request
    }

    /// `request`, for which there is no time.
    fn hurried(mut request: Request<Body>) -> Request<Body> {
        request.extensions_mut().insert(BodyWait(Duration::ZERO));
        request
    }

    #[tokio::test]
    async fn a_unary_call_that_does_not_come_to_its_end_is_over_in_time() {
        for frames in [vec![], vec![vec![0, 0]], vec![framed(b"a")]] {
            let answer = unary(hurried(begun("ada", frames)), |(): ()| async { Ok(()) }).await;
            assert_eq!(answer.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED");
        }
        let large = framed(&vec![0; ASKED_SIZE_MAX + 1]);
        let answer = unary(begun("ada", vec![large]), |(): ()| async { Ok(()) }).await;
        assert_eq!(answer.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED");
    }

    #[tokio::test]
    async fn a_large_message_has_a_time_to_become_whole_and_a_call_between_two_has_not() {
        let large = framed(&vec![0; 2 * SMALL_SIZE]);
        for frames in [vec![], vec![large[..SMALL_SIZE].to_vec()]] {
            let mut messages = Messages::new(begun("eve", frames));
            assert!(messages.next().now_or_never().is_none());
            assert!(messages.late.is_none(), "nothing much is held: it may wait");
        }
        let cut = begun("eve", vec![large[..=SMALL_SIZE].to_vec()]);
        let mut messages = Messages::new(hurried(cut));
        let refused = messages.next().await.expect_err("the rest does not come");
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        let half = large[..large.len() / 2 + PREFIX_SIZE].to_vec();
        let rest = large[half.len()..].to_vec();
        let mut messages = Messages::new(begun("eve", vec![half, rest]));
        messages.next().await.expect("a message").expect("one");
        assert!(messages.next().now_or_never().is_none());
        assert!(messages.late.is_none(), "a whole message has no time any more");
    }

    #[tokio::test]
    async fn one_caller_holds_a_share_of_what_is_not_whole_and_others_theirs() {
        let large = framed(&vec![0; MESSAGE_SIZE_MAX]);
        let cut = vec![large[..large.len() - 1].to_vec()];
        let mut held = Vec::new();
        let refused = loop {
            let mut messages = Messages::new(begun("bob", cut.clone()));
            match messages.next().now_or_never() {
                None => held.push(messages),
                Some(refused) => break refused.expect_err("no message is whole"),
            }
        };
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(held.len() * MESSAGE_SIZE_MAX <= PARTIAL_OF_ONE_MAX, "{}", held.len());
        let mut other = Messages::new(begun("carl", cut.clone()));
        assert!(other.next().now_or_never().is_none(), "another has its own");
        held.pop();
        let mut again = Messages::new(begun("bob", cut));
        assert!(again.next().now_or_never().is_none(), "what was held is given back");
        let whole = Messages::new(begun("bob", vec![large])).only().now_or_never();
        assert!(whole.is_some_and(|it| it.is_err()), "whole, but without its end, it counts, too");
    }

    #[tokio::test]
    async fn messages_are_found_however_the_frames_cut_them() {
        let whole: Vec<u8> =
            [b"first".as_slice(), b"", b"third"].iter().flat_map(|m| framed(m)).collect();
        for size in 1..=whole.len() {
            let frames = whole.chunks(size).map(<[u8]>::to_vec).collect();
            let mut messages = Messages::new(body(frames));
            let mut found = Vec::new();
            while let Some(message) = messages.next().await.expect("messages") {
                found.push(message);
            }
            assert_eq!(found, [&b"first"[..], b"", b"third"], "frames of {size}");
        }
    }

    #[tokio::test]
    async fn what_is_not_a_message_is_refused() {
        let mut large = framed(b"");
        large[1..].copy_from_slice(&(MESSAGE_SIZE_MAX as u32 + 1).to_be_bytes());
        let mut compressed = framed(b"x");
        compressed[0] = 1;
        for (bytes, code) in [
            (large, Code::ResourceExhausted),
            (compressed, Code::Unimplemented),
            (framed(b"cut")[..6].to_vec(), Code::InvalidArgument),
            (vec![0, 0], Code::InvalidArgument),
        ] {
            let status = Messages::new(body(vec![bytes])).next().await.expect_err("refused");
            assert_eq!(status.code(), code);
        }
        let two = Messages::new(body(vec![framed(b"a"), framed(b"b")])).only().await;
        assert_eq!(two.expect_err("refused").code(), Code::InvalidArgument);
        let none = Messages::new(body(vec![])).only().await;
        assert_eq!(none.expect_err("refused").code(), Code::InvalidArgument);
    }

    #[test]
    fn a_timeout_has_a_number_and_a_unit() {
        for (text, expected) in [
            ("10S", Some(Duration::from_secs(10))),
            ("250m", Some(Duration::from_millis(250))),
            ("2H", Some(Duration::from_secs(7200))),
            ("1M", Some(Duration::from_secs(60))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(3600) * 99_999_999)),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("10", None),
            ("10x", None),
            ("-1S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            assert_eq!(timeout(&headers), expected, "{text:?}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn a_call_that_is_not_answered_ends_even_if_its_client_would_wait() {
        for (waits, seconds) in [(None, 120), (Some("5M"), 120), (Some("3S"), 3), (Some("0S"), 0)] {
            let mut headers = HeaderMap::new();
            headers.extend(waits.map(|waits| {
                (http::HeaderName::from_static("grpc-timeout"), HeaderValue::from_static(waits))
            }));
            let before = Instant::now();
            let (end, limit) = (end(&headers).expect("an end"), Duration::from_secs(seconds));
            assert!((before + limit..=Instant::now() + limit).contains(&end), "{waits:?}");
        }
        let mut request = body(vec![framed(b"")]);
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("0S"));
        let never = |(): ()| std::future::pending::<Result<(), Status>>();
        let answer = unary(request, never).await;
        assert_eq!(answer.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED");
    }

    #[tokio::test]
    async fn an_answer_ends_with_its_status() {
        let failed = stream::iter([Ok(Bytes::from_static(b"x")), Err(Status::aborted("why: ü"))]);
        let collected = streamed(None, failed).into_body().collect().await.expect("a body");
        let trailers = collected.trailers().expect("trailers").clone();
        assert_eq!(collected.to_bytes(), &b"x"[..]);
        assert_eq!(trailers["grpc-status"], "10");
        assert_eq!(trailers["grpc-message"], "why:%20%C3%BC");

        let endless = streamed(Some(Instant::now()), stream::pending());
        let collected = endless.into_body().collect().await.expect("a body");
        assert_eq!(collected.trailers().expect("trailers")["grpc-status"], "4");
    }
}
