//! A network that misbehaves, between a client and a server: a TCP proxy whose connections are
//! each cut after a number of bytes, in one of the ways in which connections end.
//!
//! ```text
//!   client ──> connection n ── up: so many bytes, then ─┐
//!          <──              ── down: so many bytes ─────┴─> delayed, then cut as planned
//! ```
//!
//! The direction whose bytes are spent first decides. Bytes are counted, not frames or time, so a
//! cut comes anywhere: in a handshake, between frames, in the middle of one. What happens to
//! connection n is a function of the seed and n.
//!
//! INVARIANT: what passes is passed on unchanged, in order and without a hole: a connection may end
//! anywhere, but it never lies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Bytes moved at once.
const BUFFER_SIZE: usize = 16 * 1024;
/// The longest that bytes are held up before a cut.
const DELAY_MAX_MS: u64 = 8;

/// How a connection ends, once the bytes of one direction are spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Both sides are closed.
    Close,
    /// Both sides are told that it was broken off.
    Reset,
    /// The receiver of that direction is told that nothing more comes; the other direction goes on.
    Half,
    /// Nobody is told anything, and nothing arrives at the client any more.
    Stall,
}

/// What becomes of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes from the client to the server before the cut.
    pub up: u64,
    /// Bytes from the server to the client before the cut.
    pub down: u64,
    /// How long the last of them are held up.
    pub delay: Duration,
    /// How it ends.
    pub cut: Cut,
}

impl Plan {
    /// The plan of connection `number`.
    fn of(seed: u64, number: u64) -> Plan {
        let mut chance = Chance(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Of every size the same: a connection's greeting, a few events, many of them.
        let size = |chance: &mut Chance| {
            let bits = 6 + chance.below(9);
            (1 << bits) + chance.below(1 << bits)
        };
        let (up, down) = (size(&mut chance), size(&mut chance));
        let delay = match chance.below(4) {
            0 => Duration::from_millis(chance.below(DELAY_MAX_MS + 1)),
            _ => Duration::ZERO,
        };
        let cut = match chance.below(64) {
            0 => Cut::Stall,
            1..24 => Cut::Half,
            24..44 => Cut::Reset,
            _ => Cut::Close,
        };
        Plan { up, down, delay, cut }
    }
}

/// Numbers that look random and are not (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What becomes of which connection.
#[derive(Clone, Copy, Debug)]
enum Plans {
    /// Each has the plan that this seed makes of its number.
    Seed(u64),
    /// The first has this one, the others none.
    First(Plan),
}

impl Plans {
    fn of(self, number: u64) -> Option<Plan> {
        match self {
            Plans::Seed(seed) => Some(Plan::of(seed, number)),
            Plans::First(plan) => (number == 0).then_some(plan),
        }
    }
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    plans: Plans,
    /// Connections that were let in.
    connections: AtomicU64,
    cuts: AtomicU64,
    healthy: AtomicBool,
}

impl Proxy {
    /// A proxy before `server` that cuts every connection. Says its seed.
    pub async fn start(server: SocketAddr, seed: u64) -> Proxy {
        println!("proxy before {server}: seed {seed}");
        Proxy::planned(server, Plans::Seed(seed)).await
    }

    /// A proxy before `server` that cuts the first connection so, and no other.
    pub async fn cutting_first(server: SocketAddr, plan: Plan) -> Proxy {
        Proxy::planned(server, Plans::First(plan)).await
    }

    async fn planned(server: SocketAddr, plans: Plans) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            server,
            plans,
            connections: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            healthy: AtomicBool::new(false),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Proxy { address, shared, accepting }
    }

    /// Connections that were cut.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// Connections are not cut any more if they begin from now on.
    pub fn heal(&self) {
        self.shared.healthy.store(true, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        let plan = match shared.healthy.load(Ordering::SeqCst) {
            true => None,
            false => shared.plans.of(number),
        };
        tokio::spawn(carry(client, plan, Arc::clone(&shared)));
    }
}

/// Carries one connection to its end.
async fn carry(client: TcpStream, plan: Option<Plan>, shared: Arc<Shared>) {
    // A server that is gone is like one that hangs up.
    let Ok(server) = TcpStream::connect(shared.server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (up, down) = plan.map_or((u64::MAX, u64::MAX), |plan| (plan.up, plan.down));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Neither is dropped while the other may go on: a byte that was read is written, or the
    // connection has ended.
    let mut upwards = Box::pin(pass(from_client, to_server, up));
    let mut downwards = Box::pin(pass(from_server, to_client, down));
    tokio::select! {
        (ended, mut from_client, mut to_server) = &mut upwards => {
            let Some(cut) = shared.cut(ended, plan).await else { return };
            match cut {
                Cut::Close => {}
                Cut::Reset => reset(&from_client, &to_server),
                Cut::Half => {
                    let _ = to_server.shutdown().await;
                    // Until the server has said all, or the client has had enough.
                    tokio::select! {
                        _ = downwards => {}
                        () = swallow(&mut from_client) => {}
                    }
                }
                Cut::Stall => swallow(&mut from_client).await,
            }
        }
        (ended, from_server, mut to_client) = &mut downwards => {
            let Some(cut) = shared.cut(ended, plan).await else { return };
            match cut {
                Cut::Close => {}
                Cut::Reset => reset(&from_server, &to_client),
                Cut::Half => {
                    let _ = to_client.shutdown().await;
                    upwards.await;
                }
                Cut::Stall => _ = upwards.await,
            }
        }
    }
}

impl Shared {
    /// Counts a cut and holds it up as planned; none if the connection ended of itself.
    async fn cut(&self, ended: Ended, plan: Option<Plan>) -> Option<Cut> {
        let plan = plan.filter(|_| ended == Ended::Spent)?;
        tokio::time::sleep(plan.delay).await;
        self.cuts.fetch_add(1, Ordering::SeqCst);
        Some(plan.cut)
    }
}

/// Makes the end of both connections, of which these are halves, a breach.
fn reset(from: &OwnedReadHalf, to: &OwnedWriteHalf) {
    let _ = (from.as_ref().set_zero_linger(), to.as_ref().set_zero_linger());
}

/// Why nothing more is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The bytes of the plan were.
    Spent,
    /// One of both sides hung up.
    HungUp,
}

/// Passes so many bytes on.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    bytes: u64,
) -> (Ended, OwnedReadHalf, OwnedWriteHalf) {
    let mut buffer = vec![0; BUFFER_SIZE];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match from.read(&mut buffer[..most]).await {
            Ok(read) if read > 0 && to.write_all(&buffer[..read]).await.is_ok() => {
                left -= read as u64;
            }
            _ => return (Ended::HungUp, from, to),
        }
    }
    (Ended::Spent, from, to)
}

/// Reads until the other side has hung up.
async fn swallow(from: &mut OwnedReadHalf) {
    let mut buffer = vec![0; BUFFER_SIZE];
    while matches!(from.read(&mut buffer).await, Ok(read) if read > 0) {}
}
