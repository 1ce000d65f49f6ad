//! The accept loop and its connections: HTTP/1.1 and HTTP/2 with prior knowledge on one port.
//!
//! Nothing a stranger does to the socket may cost more than a bounded amount of memory and time:
//! every limit below has one kind of misbehaviour as its reason. A failed accept (no file
//! descriptor left) is waited out; the loop ends only when the node stops.
//!
//! ```text
//!   accept ─> slot ─> too many of this address? ─ closed
//!               └──> Prompt ──────────────────────────> Heard ─> HTTP ─> entrance
//!                     └─ TLS: handshake, in 10 s ──────^
//!                        └─ client certificate ─> the extensions of each request
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::acks::{Acks, Prompt};
use super::entrance::Entrance;
use super::tls::{HANDSHAKE_TIMEOUT, shake_hands};
use super::{Life, Phase};
use crate::http::body::{BODY_TIMEOUT, BodyWait};
use crate::security::lockout::{Address, network};
use crate::security::tls::{ClientCertificate, Tls};

/// Connections open at a time; others wait in the kernel's queue. Bounds the memory of strangers.
pub const CONNECTIONS_MAX: usize = 4096;
/// Connections of one address at a time, so that one host does not keep all others out. Proxies and
/// networks behind one address seldom have so many; those that do can be given more. This machine
/// itself has no such limit: what comes from it is as often a proxy's.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1024;
/// Time a connection has to send what begins HTTP/2, or a whole head of an HTTP/1.1 request.
/// Against clients that connect and say nothing, or a byte a minute.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which an idle HTTP/2 connection is pinged, as KurrentDB does; in as much time again it
/// must answer the ping, or it is dead.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Time after which a connection is closed on which nobody has proved anything, if no call was begun
/// in it and none is open. Its client may be alive, and answer pings: it keeps others out.
pub const UNUSED_MAX: Duration = Duration::from_secs(60);
/// Calls open at a time on one connection. A client keeps all its subscriptions on one.
pub const CALLS_PER_CONNECTION_MAX: u32 = 1024;
/// Calls a client may reset before they were begun; above, the connection is closed ("rapid
/// reset").
pub const PENDING_RESETS_MAX: usize = 64;
/// Calls we may reset because of a client's mistakes before the connection is closed.
pub const ERROR_RESETS_MAX: usize = 256;
/// Bytes of all headers of one HTTP/2 request. A stream name of 1 KiB, percent-encoded, and a
/// token fit many times over.
pub const HEADERS_SIZE_MAX: u32 = 32 * 1024;
/// Bytes buffered of an HTTP/1.1 connection; a request's head must fit.
pub const HTTP1_BUFFER_SIZE_MAX: usize = 64 * 1024;
/// Bytes a client may send ahead on one call. At 10 ms of round trip this is 100 MB/s.
pub const CALL_WINDOW: u32 = 1024 * 1024;
/// Bytes a client may send ahead on one connection, unread: bounds the memory of its calls.
pub const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Bytes of one HTTP/2 frame a client may send. Larger frames cost fewer turns per large event.
pub const FRAME_SIZE_MAX: u32 = 64 * 1024;
/// Bytes buffered of one call's answer before its producer waits.
pub const SEND_BUFFER_SIZE_MAX: usize = 512 * 1024;
/// Pause after a failed accept. Long enough not to spin, short enough to recover at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Bytes of HTTP/2's connection preface; every HTTP/1.1 request with a `Host` is longer.
const PREFACE_SIZE: usize = 24;

const _: () = assert!(CALL_WINDOW <= CONNECTION_WINDOW);
const _: () = assert!(CONNECTIONS_PER_ADDRESS_MAX < CONNECTIONS_MAX);

/// What one client may take, and how long it may take for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections of one address at a time.
    pub per_address: usize,
    /// Time for a head, or what begins HTTP/2.
    pub head: Duration,
    /// Time for TLS' handshake.
    pub handshake: Duration,
    /// Time after which an idle HTTP/2 connection is pinged, and again that it has to answer.
    pub ping: Duration,
    /// Time for a body that is held whole.
    pub body: Duration,
    /// Time for a stranger's connection without a call.
    pub unused: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            per_address: CONNECTIONS_PER_ADDRESS_MAX,
            head: HEADER_READ_TIMEOUT,
            handshake: HANDSHAKE_TIMEOUT,
            ping: KEEP_ALIVE_INTERVAL,
            body: BODY_TIMEOUT,
            unused: UNUSED_MAX,
        }
    }
}

/// Where a request's connection comes from; among the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How many connections each address has that has any.
type Addresses = Arc<Mutex<BTreeMap<Address, usize>>>;

/// The connections of a node, counted.
#[derive(Clone)]
pub struct Connections {
    slots: Arc<Semaphore>,
    max: usize,
    bounds: Bounds,
    /// How many each address has that has any; at most `max` of them.
    addresses: Addresses,
}

impl Connections {
    /// Room for `max` connections, at least one. One address has three quarters of them at most,
    /// whatever is said of it: it keeps not all others out.
    #[must_use]
    pub fn new(max: usize, bounds: Bounds) -> Connections {
        let max = max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let per_address = bounds.per_address.min(max - max.div_ceil(4));
        let bounds = Bounds { per_address, ..bounds };
        let slots = Arc::new(Semaphore::new(max));
        Connections { slots, max, bounds, addresses: Arc::default() }
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.max - self.slots.available_permits()
    }

    /// Resolves when none is open.
    pub async fn all_closed(&self) {
        let all = u32::try_from(self.max).expect("clamped in `new`");
        drop(self.slots.acquire_many(all).await);
    }

    async fn slot(&self) -> OwnedSemaphorePermit {
        self.slots.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// A place among those of an address, until it is dropped; none if it has too many.
    fn place(&self, peer: IpAddr) -> Option<Place> {
        if peer.to_canonical().is_loopback() {
            return Some(Place(None));
        }
        let address = network(peer);
        let mut addresses = self.addresses.lock();
        let open = addresses.entry(address).or_default();
        if *open >= self.bounds.per_address.max(1) {
            return None;
        }
        *open += 1;
        Some(Place(Some((self.addresses.clone(), address))))
    }
}

/// A place among the connections of an address, if it is counted.
struct Place(Option<(Addresses, Address)>);

impl Drop for Place {
    fn drop(&mut self) {
        let Some((addresses, address)) = &self.0 else { return };
        let mut addresses = addresses.lock();
        if let Some(open) = addresses.get_mut(address) {
            *open -= 1;
            if *open == 0 {
                addresses.remove(address);
            }
        }
    }
}

/// Accepts connections until the node stops, and serves each on a task of its own.
pub async fn serve(
    listener: TcpListener,
    entrance: Entrance,
    connections: Connections,
    tls: Option<Tls>,
    life: Life,
) {
    let bounds = connections.bounds;
    let builder = Arc::new(builder(bounds));
    let house = House { builder, bounds, entrance, tls, life: life.clone() };
    let mut stopping = pin!(life.reached(Phase::Draining));
    loop {
        let slot = tokio::select! {
            slot = connections.slot() => slot,
            () = &mut stopping => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopping => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                life.metrics().connections_total.inc();
                let Some(place) = connections.place(peer.ip()) else {
                    life.metrics().security.connection_refused();
                    continue;
                };
                let serving = connection(stream, Peer(peer), house.clone());
                tokio::spawn(async move {
                    serving.await;
                    drop((place, slot));
                });
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                life.metrics().accept_errors.inc();
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Whether an accept failed only because the client had gone already.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

fn builder(bounds: Bounds) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(HTTP1_BUFFER_SIZE_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(bounds.ping)
        .keep_alive_timeout(bounds.ping)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .max_header_list_size(HEADERS_SIZE_MAX)
        .adaptive_window(false)
        .initial_stream_window_size(CALL_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE_MAX)
        .max_send_buf_size(SEND_BUFFER_SIZE_MAX);
    builder
}

/// Where connections lead.
#[derive(Clone)]
struct House {
    builder: Arc<Builder<TokioExecutor>>,
    bounds: Bounds,
    entrance: Entrance,
    tls: Option<Tls>,
    life: Life,
}

/// Serves one connection to its end, or until the node's stop cuts it.
async fn connection(stream: TcpStream, peer: Peer, house: House) {
    // An answer of a few bytes must not wait for the next one.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let _open = Open::new(&house.life);
    let stream = Prompt { stream, acks: Acks::new(house.life.clock().clone()) };
    let Some(tls) = &house.tls else {
        return converse(stream, peer, None, &house).await;
    };
    let within = house.bounds.handshake;
    if let Some((stream, certificate)) = shake_hands(tls, stream, within, &house.life).await {
        converse(stream, peer, certificate, &house).await;
    }
}

/// Speaks HTTP on a connection, with who has this certificate.
async fn converse<S>(
    stream: S,
    peer: Peer,
    certificate: Option<Arc<ClientCertificate>>,
    house: &House,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let House { builder, bounds, entrance, life, .. } = house;
    let heard = Arc::new(AtomicUsize::new(0));
    let io = TokioIo::new(Heard { stream, heard: heard.clone() });
    let wait = Some(BodyWait(bounds.body)).filter(|wait| wait.0 != BODY_TIMEOUT);
    let calls = Arc::new(Calls::default());
    if certificate.is_some() {
        calls.proved();
    }
    let begun = calls.clone();
    let scheme = if house.tls.is_some() { "https" } else { "http" };
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        if let Some(wait) = wait {
            request.extensions_mut().insert(wait);
        }
        entrance.enter(request, Call::begin(&begun), scheme)
    });
    let mut serving = pin!(builder.serve_connection(io, service));
    let mut greeting = pin!(tokio::time::sleep(bounds.head));
    let mut unused = pin!(tokio::time::sleep(bounds.unused));
    let mut draining = pin!(life.reached(Phase::Draining));
    let mut cut = pin!(life.reached(Phase::Cut));
    let (mut greeted, mut told, mut parting, mut seen) = (false, false, false, 0);
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = &mut greeting, if !greeted => {
                if heard.load(Ordering::Relaxed) < PREFACE_SIZE {
                    life.metrics().silent_connections.inc();
                    return;
                }
                greeted = true;
            }
            () = &mut unused, if parting || !calls.is_proved() => {
                if parting {
                    return;
                }
                let is_used = calls.is_used_since(&mut seen);
                let next = if is_used { bounds.unused } else { bounds.head };
                unused.as_mut().reset(tokio::time::Instant::now() + next);
                if !is_used {
                    // A call that comes now is not lost: its client is told that it was not begun.
                    life.metrics().silent_connections.inc();
                    serving.as_mut().graceful_shutdown();
                    (told, parting) = (true, true);
                }
            }
            () = &mut draining, if !told => {
                serving.as_mut().graceful_shutdown();
                told = true;
            }
            () = &mut cut => return,
        }
    }
}

/// The calls of one connection.
#[derive(Debug, Default)]
struct Calls {
    open: AtomicUsize,
    begun: AtomicUsize,
    is_proved: AtomicBool,
}

impl Calls {
    /// Somebody has proved who it is, or nobody is asked.
    fn proved(&self) {
        if !self.is_proved() {
            self.is_proved.store(true, Ordering::Relaxed);
        }
    }

    fn is_proved(&self) -> bool {
        self.is_proved.load(Ordering::Relaxed)
    }

    /// Whether a call is open, or was begun since there were `seen` of them; counts them anew.
    fn is_used_since(&self, seen: &mut usize) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        let is_used = begun != *seen || self.open.load(Ordering::Relaxed) > 0 || self.is_proved();
        *seen = begun;
        is_used
    }
}

/// A call of a connection, until it is dropped.
#[derive(Debug)]
pub struct Call(Arc<Calls>);

impl Call {
    fn begin(calls: &Arc<Calls>) -> Call {
        calls.open.fetch_add(1, Ordering::Relaxed);
        calls.begun.fetch_add(1, Ordering::Relaxed);
        Call(calls.clone())
    }

    /// Who makes it has proved who it is, or is not asked.
    pub fn proved(&self) {
        self.0.proved();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a connection while it is open.
struct Open(prometheus::IntGauge);

impl Open {
    fn new(life: &Life) -> Open {
        let gauge = life.metrics().connections.clone();
        gauge.inc();
        Open(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A stream that counts the first bytes it hears, of those within TLS if there is any: hyper sets
/// no time limit on the bytes that tell HTTP/1.1 from HTTP/2.
struct Heard<S> {
    stream: S,
    heard: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(task, buffer))?;
        let heard = self.heard.load(Ordering::Relaxed);
        if heard < PREFACE_SIZE {
            self.heard.store(heard + buffer.filled().len() - before, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(task, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_never_has_all_connections() {
        for (max, per_address, has) in [(4096, 1024, 1024), (500, 1024, 375), (1, 1024, 1)] {
            let bounds = Bounds { per_address, ..Bounds::default() };
            let connections = Connections::new(max, bounds);
            let peer = "10.0.0.1".parse().expect("an address");
            let places: Vec<_> = (0..=has).map_while(|_| connections.place(peer)).collect();
            assert_eq!(places.len(), has, "{per_address} of {max}");
        }
    }

    #[test]
    fn a_connection_is_used_while_a_call_is_open_or_once_somebody_has_proved_something() {
        let (calls, mut seen) = (Arc::new(Calls::default()), 0);
        assert!(!calls.is_used_since(&mut seen), "nobody called");
        let call = Call::begin(&calls);
        assert!(calls.is_used_since(&mut seen) && calls.is_used_since(&mut seen), "it is open");
        drop(call);
        assert!(!calls.is_used_since(&mut seen), "it is over, and no other was begun");
        drop(Call::begin(&calls));
        assert!(calls.is_used_since(&mut seen), "another was");
        Call::begin(&calls).proved();
        seen = 3;
        assert!(calls.is_used_since(&mut seen));
    }

    #[test]
    fn one_address_does_not_keep_all_others_out() {
        let bounds = Bounds { per_address: 2, ..Bounds::default() };
        let connections = Connections::new(10, bounds);
        let place = |peer: &str| connections.place(peer.parse().expect("an address"));
        let (one, two) = (place("10.0.0.1"), place("::ffff:10.0.0.1"));
        assert!(one.is_some() && two.is_some());
        assert!(place("10.0.0.1").is_none(), "it has as many as it may");
        assert!(place("10.0.0.2").is_some(), "another has none");
        drop(one);
        assert!(place("10.0.0.1").is_some(), "one was closed");
        let network = (place("2001:db8::1"), place("2001:db8::2"));
        assert!(network.0.is_some() && network.1.is_some());
        assert!(place("2001:db8::3").is_none(), "a network of IPv6 is one");
        assert!(place("2001:db8:0:1::1").is_some());
        let own: Vec<_> = (0..10).map(|_| place("127.0.0.1")).collect();
        assert!(own.iter().all(Option::is_some), "what comes from this machine may be a proxy's");
        drop((two, network, own));
        assert!(connections.addresses.lock().is_empty(), "who has none takes no memory");
    }
}
