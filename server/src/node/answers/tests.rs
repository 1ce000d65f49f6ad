use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};

use super::*;

const SIZE: usize = 300_000;
/// Answers that are looked at often, and may stand still for as long as a test lasts.
const PATIENT: Pace =
    Pace { look: Duration::from_millis(1), stalled: Duration::from_secs(24 * 3600) };

/// A user that is disabled at some time.
#[derive(Debug, Default)]
struct User {
    is_disabled: AtomicBool,
    /// How often somebody asked whether it had changed.
    looks: AtomicUsize,
}

impl Standing for User {
    fn at(&self) -> u64 {
        0
    }

    fn now(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::Relaxed);
        u64::from(self.is_disabled.load(Ordering::Relaxed))
    }

    fn holds(&self) -> BoxFuture<'static, bool> {
        let holds = !self.is_disabled.load(Ordering::Relaxed);
        std::future::ready(holds).boxed()
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new())
}

fn reader(login: &str, standing: Option<Arc<dyn Standing>>) -> Reader {
    Reader { holder: Holder::Login(login.to_owned()), standing, tongue: Tongue::Http }
}

fn answer() -> Response {
    vec![7; SIZE].into_response()
}

/// Resolves when nothing is held.
async fn given_back(shares: &'static Shares) {
    while !room(shares) {
        tokio::time::sleep(PATIENT.look).await;
    }
}

fn room(shares: &'static Shares) -> bool {
    shares.hold(Holder::Anybody, 2 * SIZE).is_some()
}

#[tokio::test]
async fn an_answer_that_is_read_is_whole() {
    static SHARES: Shares = Shares::new(2 * SIZE, SIZE);
    let metrics = metrics();
    let kept = held_in((&SHARES, PATIENT), answer(), SIZE as u64, (&metrics, reader("ada", None)));
    assert_eq!(kept.body().size_hint().exact(), Some(SIZE as u64));
    let other = held_in((&SHARES, PATIENT), answer(), SIZE as u64, (&metrics, reader("ada", None)));
    assert_eq!(other.status(), StatusCode::SERVICE_UNAVAILABLE, "she has her share");
    let other = held_in((&SHARES, PATIENT), answer(), SIZE as u64, (&metrics, reader("bob", None)));
    assert_eq!(other.status(), StatusCode::OK, "bob has his");
    let body = kept.into_body().collect().await.expect("all of it").to_bytes();
    assert_eq!(body, vec![7; SIZE]);
    drop(other);
    assert!(room(&SHARES), "what was read is given back");
}

#[tokio::test]
async fn trailers_come_after_the_last_piece() {
    static SHARES: Shares = Shares::new(2 * SIZE, SIZE);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", 0.into());
    let frames = [Frame::data(Bytes::from(vec![7; SIZE])), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, io::Error>));
    let response = Response::new(Body::new(StreamBody::new(frames)));
    let kept =
        held_in((&SHARES, PATIENT), response, SIZE as u64, (&metrics(), reader("ada", None)));
    let collected = kept.into_body().collect().await.expect("all of it");
    assert_eq!(collected.trailers().map(HeaderMap::len), Some(1));
    assert_eq!(collected.to_bytes().len(), SIZE);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_dropped_and_never_passes_for_whole() {
    static SHARES: Shares = Shares::new(2 * SIZE, SIZE);
    let metrics = metrics();
    let pace = Pace { stalled: Duration::ZERO, ..PATIENT };
    let reader = reader("ada", None);
    let mut body = held_in((&SHARES, pace), answer(), SIZE as u64, (&metrics, reader)).into_body();
    let first = body.frame().await.expect("a frame").expect("no error");
    assert_eq!(first.into_data().expect("data").len(), PIECE_SIZE);
    given_back(&SHARES).await;
    assert!(!body.is_end_stream());
    assert!(body.frame().await.expect("a frame").is_err(), "its client is told");
}

#[tokio::test]
async fn what_a_user_holds_is_given_back_when_it_is_disabled() {
    static SHARES: Shares = Shares::new(2 * SIZE, SIZE);
    let metrics = metrics();
    let user = Arc::new(User::default());
    let reader = reader("ada", Some(user.clone()));
    let kept = held_in((&SHARES, PATIENT), answer(), SIZE as u64, (&metrics, reader));
    while user.looks.load(Ordering::Relaxed) < 3 {
        tokio::time::sleep(PATIENT.look).await;
    }
    assert!(!room(&SHARES), "she may have it");
    user.is_disabled.store(true, Ordering::Relaxed);
    given_back(&SHARES).await;
    drop(kept);
}
