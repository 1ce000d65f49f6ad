//! A TCP proxy that makes the network as bad as it is told, between the clients and the server.
//!
//! ```text
//!            ┌ door: open, or each new connection is reset
//!   client ──┤  read ──> held back for latency + jitter ──> bandwidth ──> slices ──┐
//!            │                                                                     ├──> server
//!            └<── the same, the other way; each way may be silent ─────────────────┘
//!   cut()         all connections are reset (RST)
//!   half_close()  their clients are told "no more" (FIN), and go on being read
//! ```
//!
//! What is silent is held back, not thrown away: so does TCP when packets are lost, for a while.
//! Bytes are never lost, changed or reordered within a connection, because TCP never does that.
//! The server's place may change while the proxy stands: a restarted server has another port.
//!
//! INVARIANTS: one connection holds at most [`CHUNKS_MAX`] times [`CHUNK_SIZE`] bytes each way.
//! What chance decides is decided by a seed and a connection's number.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daybook_log::disk::sim::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// Bytes read at a time.
const CHUNK_SIZE: usize = 16 * 1024;
/// Bytes written at a time where bandwidth is short, as a network's packets have them.
const PACKET_SIZE: usize = 1460;
/// Chunks of one way that wait for their time: 4 MiB, more than a latency of 250 ms holds at
/// 10 MiB/s.
const CHUNKS_MAX: usize = 256;
/// How long the server may take to be connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Requests.
    ToServer,
    /// Answers.
    ToClient,
}

/// Which ways are silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Silence {
    /// None.
    #[default]
    None,
    /// Nothing passes.
    Both,
    /// Requests pass, answers do not: what was done is not told.
    Answers,
}

/// What becomes of new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// They are carried.
    #[default]
    Open,
    /// They are reset.
    Refusing,
}

/// How bad the network is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Every chunk takes so long, each way …
    pub latency: Duration,
    /// … and up to so much longer.
    pub jitter: Duration,
    /// Bytes a second of each way of each connection at most.
    pub bandwidth: Option<u64>,
    /// Bytes of one write at most.
    pub slice_size: Option<usize>,
    /// What is held back.
    pub silence: Silence,
    /// Whether new connections are carried.
    pub door: Door,
}

impl Weather {
    fn holds(&self, way: Way) -> bool {
        match self.silence {
            Silence::None => false,
            Silence::Both => true,
            Silence::Answers => way == Way::ToClient,
        }
    }
}

/// A running proxy. Ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: Arc<Control>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Control {
    weather: watch::Sender<Weather>,
    server: watch::Sender<SocketAddr>,
    /// How often all connections were cut, and half closed.
    cuts: watch::Sender<u64>,
    half_closes: watch::Sender<u64>,
    seed: u64,
}

impl Proxy {
    /// A proxy before `server`, at a port of the kernel's choice.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn start(server: SocketAddr, seed: u64) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let control = Arc::new(Control {
            weather: watch::Sender::new(Weather::default()),
            server: watch::Sender::new(server),
            cuts: watch::Sender::new(0),
            half_closes: watch::Sender::new(0),
            seed,
        });
        let task = tokio::spawn(accept(listener, control.clone()));
        Ok(Proxy { address, control, task })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the network is like this, for all connections.
    pub fn set(&self, weather: Weather) {
        self.control.weather.send_replace(weather);
    }

    /// From now on new connections go to `server`.
    pub fn lead_to(&self, server: SocketAddr) {
        self.control.server.send_replace(server);
    }

    /// Resets all connections.
    pub fn cut(&self) {
        self.control.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Tells the client of each connection that nothing more will come.
    pub fn half_close(&self) {
        self.control.half_closes.send_modify(|closes| *closes += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    let mut number = 0_u64;
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of files: a pause, and again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        number += 1;
        tokio::spawn(carry(client, number, control.clone()));
    }
}

/// Carries one connection to its end, however it ends.
async fn carry(mut client: TcpStream, number: u64, control: Arc<Control>) {
    let (mut cuts, server) = (control.cuts.subscribe(), *control.server.borrow());
    // Who is turned away, and whose server is not there, is reset.
    let turned_away = control.weather.borrow().door == Door::Refusing;
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(server));
    let connected = if turned_away { None } else { connecting.await.ok().and_then(Result::ok) };
    let Some(mut server) = connected else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let requests = Pump::new(Way::ToServer, number, &control);
        let answers = Pump::new(Way::ToClient, number, &control);
        tokio::select! {
            done = async {
                tokio::try_join!(requests.run(from_client, to_server),
                                 answers.run(from_server, to_client))
            } => done.is_ok(),
            _ = cuts.changed() => false,
        }
    };
    if !ended {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// One way of one connection.
struct Pump {
    way: Way,
    weather: watch::Receiver<Weather>,
    half_closes: watch::Receiver<u64>,
    rng: Rng,
}

/// Bytes, and when they may arrive.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

impl Pump {
    fn new(way: Way, number: u64, control: &Control) -> Pump {
        Pump {
            way,
            weather: control.weather.subscribe(),
            half_closes: control.half_closes.subscribe(),
            rng: Rng::new(control.seed ^ (number << 1 | u64::from(way == Way::ToClient))),
        }
    }

    async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        let (chunks, queue) = mpsc::channel(CHUNKS_MAX);
        let Pump { way, weather, half_closes, rng } = self;
        let reading = take(from, chunks, weather.clone(), rng);
        tokio::try_join!(reading, give(to, queue, way, weather, half_closes)).map(|_| ())
    }
}

/// Reads until the end, and notes of each chunk when it may arrive: after the one before.
async fn take(
    mut from: ReadHalf<'_>,
    chunks: mpsc::Sender<Chunk>,
    weather: watch::Receiver<Weather>,
    mut rng: Rng,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_SIZE];
    let mut last = Instant::now();
    loop {
        let size = from.read(&mut buffer).await?;
        if size == 0 {
            return Ok(());
        }
        let wait = {
            let weather = weather.borrow();
            let jitter_us = u64::try_from(weather.jitter.as_micros()).unwrap_or(u64::MAX);
            weather.latency + Duration::from_micros(rng.below(jitter_us.saturating_add(1)))
        };
        last = last.max(Instant::now() + wait);
        let chunk = Chunk { due: last, bytes: buffer[..size].to_vec() };
        if chunks.send(chunk).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes what is due, as the weather lets it; tells the end when there is no more.
async fn give(
    mut to: WriteHalf<'_>,
    mut queue: mpsc::Receiver<Chunk>,
    way: Way,
    mut weather: watch::Receiver<Weather>,
    mut half_closes: watch::Receiver<u64>,
) -> io::Result<()> {
    loop {
        let chunk = tokio::select! {
            chunk = queue.recv() => chunk,
            Ok(()) = half_closes.changed(), if way == Way::ToClient => None,
        };
        let Some(chunk) = chunk else { break };
        tokio::time::sleep_until(chunk.due).await;
        let (slice_size, bandwidth) = {
            let weather = weather.borrow();
            let most = if weather.bandwidth.is_some() { PACKET_SIZE } else { CHUNK_SIZE };
            (weather.slice_size.unwrap_or(most).clamp(1, most), weather.bandwidth)
        };
        for slice in chunk.bytes.chunks(slice_size) {
            if let Some(bandwidth) = bandwidth {
                let time_on_wire = slice.len() as f64 / bandwidth.max(1) as f64;
                tokio::time::sleep(Duration::from_secs_f64(time_on_wire)).await;
            }
            // The sender lives as long as the proxy; without it nothing is held any more.
            let _ = weather.wait_for(|weather| !weather.holds(way)).await;
            to.write_all(slice).await?;
            if slice.len() < chunk.bytes.len() {
                // So that the other side may see the slice alone.
                tokio::task::yield_now().await;
            }
        }
    }
    to.shutdown().await?;
    // After a half close the other side may go on to speak: it is listened to, for nothing.
    while queue.recv().await.is_some() {}
    Ok(())
}
