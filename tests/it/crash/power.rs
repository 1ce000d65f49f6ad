//! A power cut, as the kernel can play it: ext4 on a loop device is shut down without writing its
//! journal, so that everything that was not synced is gone; then it is mounted again and recovers.

use std::path::{Path, PathBuf};
use std::process::Command;

use daybook_log::disk::sim::Rng;
use tempfile::TempDir;

use crate::history::History;
use crate::kill::{Totals, blocking, finish, free_address, start};
use crate::load::{Load, Shape};
use crate::support::node::client;
use crate::support::{is_root, skipped};
use crate::{cycles, seed};

/// Bytes of the volume: room for segments of every size up to 64 MiB.
const VOLUME_SIZE: u64 = 512 * 1024 * 1024;
/// Acknowledged appends after which the power is cut, at most.
const APPENDS_MAX: u64 = 800;
/// Cycles after which a new store begins, and the old one makes room for it.
const STORE_CYCLES: u64 = 10;
/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: no code of ours may be unsafe, and a
/// system call by number is.
const CUT: &str = "import fcntl, os, struct, sys\n\
    volume = os.open(sys.argv[1], os.O_RDONLY)\n\
    fcntl.ioctl(volume, 0x8004587D, struct.pack('I', 2))\n";

/// An ext4 of its own, for as long as this lives.
struct Volume {
    image: PathBuf,
    mounted: PathBuf,
    _directory: TempDir,
}

fn done(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Volume {
    fn new() -> Result<Volume, String> {
        if !is_root() {
            return Err("only root can mount a volume".to_owned());
        }
        let directory = TempDir::new().expect("a directory");
        let (image, mounted) = (directory.path().join("image"), directory.path().join("volume"));
        std::fs::create_dir(&mounted).expect("a directory");
        let file = std::fs::File::create(&image).expect("a file");
        file.set_len(VOLUME_SIZE).map_err(|error| error.to_string())?;
        done(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let volume = Volume { image, mounted, _directory: directory };
        volume.mount()?;
        // Once without load, to see whether this kernel can.
        volume.cut()?;
        volume.unmount()?;
        volume.mount()?;
        Ok(volume)
    }

    fn mount(&self) -> Result<(), String> {
        done(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mounted))
    }

    fn unmount(&self) -> Result<(), String> {
        done(Command::new("umount").arg(&self.mounted))
    }

    fn cut(&self) -> Result<(), String> {
        done(Command::new("python3").args(["-c", CUT]).arg(&self.mounted))
    }

    fn data(&self, store: u64) -> PathBuf {
        self.mounted.join(format!("data-{store}"))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.mounted).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_power_at_any_time_it_keeps_every_promise() {
    let volume = match blocking(Volume::new) {
        Ok(volume) => volume,
        Err(reason) => return skipped("power cuts", &reason),
    };
    let seed = seed();
    let mut rng = Rng::new(seed);
    let mut totals = Totals::default();
    let address = free_address();
    let mut history = History::default();
    for cycle in 0..(cycles() / 2).max(1) {
        let data = volume.data(cycle / STORE_CYCLES);
        if cycle > 0 && cycle.is_multiple_of(STORE_CYCLES) {
            let last = volume.data(cycle / STORE_CYCLES - 1);
            finish(&last, address, &mut history, &mut totals).await;
            history = History::default();
            blocking(|| std::fs::remove_dir_all(&last)).expect("a directory");
        }
        cut_under_load(&volume, &data, cycle, &mut rng, (seed, address), &mut history, &mut totals)
            .await;
    }
    let last = volume.data(((cycles() / 2).max(1) - 1) / STORE_CYCLES);
    finish(&last, address, &mut history, &mut totals).await;
    totals.print("power cut under load", seed);
}

async fn cut_under_load(
    volume: &Volume,
    data: &Path,
    cycle: u64,
    rng: &mut Rng,
    (seed, address): (u64, std::net::SocketAddr),
    history: &mut History,
    totals: &mut Totals,
) {
    let (daemon, checked) = start(data, address, history).await;
    totals.add(&checked);
    let shape = Shape { cycle, writers: 8 + rng.below(25), seed };
    let load = Load::begin(shape, || client(address));
    load.acknowledged(rng.below(APPENDS_MAX)).await;
    blocking(|| volume.cut()).expect("it could before");
    // Its disk fails now, and it must say so, or say nothing.
    load.writers_gave_up().await;
    blocking(|| daemon.kill());
    load.end(history).await;
    blocking(|| volume.unmount().and_then(|()| volume.mount())).expect("the volume recovers");
    totals.cycles += 1;
}
