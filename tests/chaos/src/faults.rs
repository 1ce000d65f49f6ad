//! The faults: each begins, lasts, and ends.
//!
//! | Fault | What really happens |
//! |---|---|
//! | [`Fault::Weather`] | the proxy's network gets bad |
//! | [`Fault::Cuts`], [`Fault::HalfCloses`] | every connection is reset, or half closed, again and again |
//! | [`Fault::Stop`] | SIGSTOP, then SIGCONT: it hangs, its connections stay |
//! | [`Fault::Kill`], [`Fault::Terminate`] | SIGKILL, or SIGTERM, then a start on the same data |
//! | [`Fault::SlowSync`] | `strace` holds every `fdatasync` of the server up |
//! | [`Fault::FailedSync`] | `strace` has the next `fdatasync` fail (EIO), then a restart |
//! | [`Fault::FullDisk`] | its file system, a small one of its own, is filled to the last byte |
//! | [`Fault::Processor`] | a control group gives it a part of one processor |
//! | [`Fault::Partition`] | its network interface is down: packets are lost, nobody is told |
//! | [`Fault::Netem`] | the kernel delays and loses its packets |
//!
//! INVARIANT: what a fault holds is in [`Held`], and undone when that is dropped, also when an
//! experiment is broken off.

pub mod limit;
pub mod namespace;
pub mod volume;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use self::limit::Group;
use crate::http::Connection;
use crate::needs::Need;
use crate::proxy::{Door, Proxy, Silence, Weather};
use crate::server::tied;
use crate::stage::Stage;

/// How long it may take until a fault shows that must show: the store has to come to its next sync,
/// or to its next segment.
const SHOW_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a server that could not write may take to be ready again by itself.
const HEAL_TIMEOUT: Duration = Duration::from_secs(10);

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The network is like this.
    Weather(Weather),
    /// All connections are reset, so often.
    Cuts(Duration),
    /// All clients are told that nothing more comes, so often.
    HalfCloses(Duration),
    /// The process hangs.
    Stop,
    /// The process is killed, and started again after so long.
    Kill(Duration),
    /// The process is asked to stop, and started again so long after its end.
    Terminate(Duration),
    /// Each `fdatasync` takes so much longer.
    SlowSync(Duration),
    /// An `fdatasync` fails.
    FailedSync,
    /// The file system is full.
    FullDisk,
    /// The process has so many percent of one processor.
    Processor(u32),
    /// No packet passes.
    Partition,
    /// Packets are delayed by this, with this jitter, and so many percent are lost.
    Netem(Duration, Duration, u32),
}

/// What lasts as long as the fault.
#[derive(Debug)]
#[expect(dead_code, reason = "held to be dropped: that is what ends it")]
pub enum Held {
    /// Nothing that would have to be undone.
    Nothing,
    /// A tracer that is attached to the server.
    Tracer(Tracer),
    /// Something that is done again and again.
    Repeating(Repeating),
    /// A control group with the server in it.
    Group(Group),
    /// A file that takes all the room.
    Filler(PathBuf),
}

/// `strace` at work; it lets go when it is dropped.
#[derive(Debug)]
pub struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        // SIGTERM has it let go of the server first; SIGKILL does the same less politely.
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// A task that ends when it is dropped.
#[derive(Debug)]
pub struct Repeating(JoinHandle<()>);

impl Drop for Repeating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Fault {
    /// What it needs of the machine.
    #[must_use]
    pub fn needs(&self) -> &'static [Need] {
        match self {
            Fault::SlowSync(_) | Fault::FailedSync => &[Need::Strace],
            Fault::FullDisk => &[Need::LoopDevice],
            Fault::Processor(_) => &[Need::ProcessorGroup],
            Fault::Partition => &[Need::Namespace],
            Fault::Netem(..) => &[Need::Netem],
            _ => &[],
        }
    }

    /// Whether recovery is counted from its beginning: it ends by itself as fast as it can.
    #[must_use]
    pub fn is_a_blow(&self) -> bool {
        matches!(self, Fault::Kill(_) | Fault::Terminate(_))
    }

    /// It in words, with its figures.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Fault::Weather(weather) => describe(weather),
            Fault::Cuts(every) => format!("all connections are reset every {every:?}"),
            Fault::HalfCloses(every) => format!("all connections are half closed every {every:?}"),
            Fault::Stop => "SIGSTOP, then SIGCONT".to_owned(),
            Fault::Kill(down) => format!("SIGKILL, {down:?} of nothing, a start on the same data"),
            Fault::Terminate(down) => {
                format!("SIGTERM, its end, {down:?} of nothing, a start on the same data")
            }
            Fault::SlowSync(delay) => format!("each fdatasync takes {delay:?} longer"),
            Fault::FailedSync => "an fdatasync fails with EIO, then a restart".to_owned(),
            Fault::FullDisk => "the file system is full, then has room again".to_owned(),
            Fault::Processor(percent) => format!("{percent} % of one processor"),
            Fault::Partition => "the network interface is down, then up".to_owned(),
            Fault::Netem(delay, jitter, loss) => {
                format!("netem: packets take {delay:?} ± {jitter:?}, {loss} % are lost")
            }
        }
    }

    /// Has it begin.
    ///
    /// # Errors
    /// If it cannot be brought about.
    pub async fn begin(&self, stage: &mut Stage) -> anyhow::Result<Held> {
        match self {
            Fault::Weather(weather) => {
                stage.proxy.set(weather.clone());
                if weather.door == Door::Refusing {
                    stage.proxy.cut();
                }
            }
            Fault::Cuts(every) => return Ok(repeat(&stage.proxy, *every, Proxy::cut)),
            Fault::HalfCloses(every) => {
                return Ok(repeat(&stage.proxy, *every, Proxy::half_close));
            }
            Fault::Stop => stage.server()?.signal(Signal::STOP)?,
            Fault::Kill(_) => stage.take_server()?.kill(),
            Fault::Terminate(_) => {
                let status = stage.take_server()?.terminate().await?;
                if status.code() != Some(0) {
                    bail!("a server that was asked to stop ended with {status}");
                }
            }
            Fault::SlowSync(delay) => {
                let inject = format!("inject=fdatasync:delay_enter={}", delay.as_micros());
                return Ok(Held::Tracer(attach(stage.server()?.id(), &inject)?));
            }
            Fault::FailedSync => {
                let tracer = attach(stage.server()?.id(), "inject=fdatasync:error=EIO")?;
                stage.until_ready(false, SHOW_TIMEOUT).await?;
                // It has failed: whatever it would sync now must be refused by itself.
                drop(tracer);
            }
            Fault::FullDisk => {
                let filler = stage.volume()?.fill().map_err(|error| anyhow!(error))?;
                stage.site.ballast.store(true, Ordering::Relaxed);
                let shown = stage.until_ready(false, SHOW_TIMEOUT).await;
                stage.site.ballast.store(false, Ordering::Relaxed);
                shown.context("the store did not notice that its disk is full")?;
                stage.note_state().await;
                return Ok(Held::Filler(filler));
            }
            Fault::Processor(percent) => {
                let group = Group::new("server").map_err(|error| anyhow!(error))?;
                group.limit(*percent, stage.server()?.id()).map_err(|error| anyhow!(error))?;
                return Ok(Held::Group(group));
            }
            Fault::Partition => stage.namespace()?.down().map_err(|error| anyhow!(error))?,
            Fault::Netem(delay, jitter, loss) => {
                let ms = |time: &Duration| format!("{}ms", time.as_millis());
                let done = stage.namespace()?.delay(&ms(delay), &ms(jitter), &format!("{loss}%"));
                done.map_err(|error| anyhow!(error))?;
            }
        }
        Ok(Held::Nothing)
    }

    /// Has it end.
    ///
    /// # Errors
    /// If what it did cannot be undone, or a server does not start.
    pub async fn end(&self, held: Held, stage: &mut Stage) -> anyhow::Result<()> {
        if let Held::Filler(path) = &held {
            std::fs::remove_file(path).context("the file that fills the disk")?;
        }
        drop(held);
        match self {
            Fault::Weather(_) => stage.proxy.set(Weather::default()),
            Fault::Stop => stage.server()?.signal(Signal::CONT)?,
            Fault::Kill(_) | Fault::Terminate(_) => stage.start_server().await?,
            Fault::FailedSync => {
                stage.note_state().await;
                stage.take_server()?.terminate().await?;
                stage.start_server().await?;
            }
            Fault::FullDisk => {
                if stage.until_ready(true, HEAL_TIMEOUT).await.is_err() {
                    stage.notes.push("it did not heal by itself and was restarted".to_owned());
                    stage.take_server()?.terminate().await?;
                    stage.start_server().await?;
                }
            }
            Fault::Partition => stage.namespace()?.up().map_err(|error| anyhow!(error))?,
            Fault::Netem(..) => stage.namespace()?.still().map_err(|error| anyhow!(error))?,
            Fault::Cuts(_) | Fault::HalfCloses(_) | Fault::SlowSync(_) | Fault::Processor(_) => {}
        }
        Ok(())
    }
}

fn repeat(proxy: &Arc<Proxy>, every: Duration, act: fn(&Proxy)) -> Held {
    let proxy = proxy.clone();
    Held::Repeating(Repeating(tokio::spawn(async move {
        let mut tick = tokio::time::interval(every);
        loop {
            tick.tick().await;
            act(&proxy);
        }
    })))
}

fn attach(server: u32, inject: &str) -> anyhow::Result<Tracer> {
    let mut command = tied(Path::new("strace"));
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject]);
    command.args(["-p", &server.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Tracer(command.spawn().context("strace does not run")?))
}

fn describe(weather: &Weather) -> String {
    let mut words = Vec::new();
    if weather.latency + weather.jitter > Duration::ZERO {
        let (latency, jitter) = (weather.latency, weather.jitter);
        words.push(format!("{latency:?} more each way, and up to {jitter:?} by chance"));
    }
    if let Some(bandwidth) = weather.bandwidth {
        words.push(format!("{} KiB/s each way of a connection", bandwidth / 1024));
    }
    if let Some(size) = weather.slice_size {
        words.push(format!("writes of {size} bytes"));
    }
    match weather.silence {
        Silence::None => {}
        Silence::Both => words.push("nothing passes, connections stay".to_owned()),
        Silence::Answers => words.push("requests pass, answers do not".to_owned()),
    }
    if weather.door == Door::Refusing {
        words.push("connections are cut, new ones refused".to_owned());
    }
    words.join("; ")
}

/// Whether the server at the other end of `connection` says that it is ready, and what it says.
pub async fn readiness(connection: &mut Connection) -> Option<(bool, String)> {
    let asked = tokio::time::timeout(Duration::from_secs(1), connection.get("/health/ready")).await;
    let answer = asked.ok()?.ok()?;
    Some((answer.status == 200, answer.body["parts"]["store"].as_str().unwrap_or("").to_owned()))
}

/// How often the readiness is looked at that is waited for.
pub async fn look() {
    tokio::time::sleep(LOOK_INTERVAL).await;
}
