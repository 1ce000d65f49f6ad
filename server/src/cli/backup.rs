//! `daybook backup` and `daybook restore`.
//!
//! A backup is a directory. From a running server it comes over HTTP as a tar file and is unpacked
//! here; from a stopped store it is copied. Either way it is read back and compared with its
//! manifest before the command says that it succeeded: a backup that was never read is a hope.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bytes::{Buf as _, Bytes};
use clap::Args;
use daybook_log::Sizes;
use daybook_log::backup::{
    Backup, BackupError, MANIFEST_NAME, Manifest, check, restore, save, write_manifest,
};
use daybook_log::disk::Disk;
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::SystemEntropy;
use http_body_util::BodyExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc;

use super::remote::Remote;
use super::report::{Json, facts};
use crate::config::DATA_DEFAULT;

/// Pieces of the answer that wait for the disk.
const PIECES_MAX: usize = 16;
/// Bytes written at a time.
const STEP: usize = 1024 * 1024;
/// The header in which the server tells how large the backup will be.
const SIZE_HEADER: &str = "daybook-size";

/// Takes a full backup, of a running server (--url) or of a stopped store (--data).
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Where to; an empty directory, or one that is made
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// Take it from a stopped store instead of a server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// Restores a backup into an empty data directory and raises the store's epoch.
#[derive(Debug, Args)]
#[command(after_help = "The restored store is in its next epoch: a consumer that comes with a \
    position which was committed after the backup is told that its history is gone.")]
pub struct RestoreArgs {
    /// The backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,

    /// The data directory; empty, or made
    #[arg(long, env = "DAYBOOK_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,

    #[command(flatten)]
    json: Json,
}

/// Takes a backup.
///
/// # Errors
/// Why there is none now; what was written is not a backup then.
pub fn run(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let to = OsDisk::open(&args.to, Access::Write)?;
    let bar = bar();
    let manifest = match &args.data {
        Some(data) => {
            let disk = OsDisk::open_read_only(data)?;
            let backup = Backup::of_disk(&disk)?;
            save(&backup, &to, &mut |done, all| show(&bar, done, all))?
        }
        None => super::runtime(Some(1))?.block_on(download(&args.remote, to, &bar))?,
    };
    bar.finish_and_clear();
    let value = json!({ "to": args.to, "verified": true, "manifest": manifest });
    let rows = [("backup", args.to.display().to_string()), ("verified", "yes".to_owned())];
    args.json.answer(&value, &format!("{}{}", facts(&rows), of_manifest(&manifest)))?;
    Ok(ExitCode::SUCCESS)
}

/// Restores a backup.
///
/// # Errors
/// Why nothing was restored.
pub fn run_restore(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let from = OsDisk::open_read_only(&args.from)?;
    let to = OsDisk::open(&args.data, Access::Write)?;
    let bar = bar();
    let restored = restore(&from, &to, &SystemEntropy, Sizes::default(), &mut |done, all| {
        show(&bar, done, all);
    })?;
    bar.finish_and_clear();
    let value = json!({
        "data": args.data,
        "epoch": restored.epoch.0,
        "manifest": restored.manifest,
    });
    let rows = [
        ("restored to", args.data.display().to_string()),
        ("new epoch", restored.epoch.to_string()),
    ];
    args.json.answer(&value, &format!("{}{}", facts(&rows), of_manifest(&restored.manifest)))?;
    Ok(ExitCode::SUCCESS)
}

fn of_manifest(manifest: &Manifest) -> String {
    facts(&[
        ("store", manifest.store.to_string()),
        ("epoch", manifest.epoch.to_string()),
        ("events", manifest.end.to_string()),
        ("files", manifest.files.len().to_string()),
        ("bytes", manifest.files.iter().map(|file| file.size).sum::<u64>().to_string()),
        ("chain", manifest.chain.clone()),
    ])
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, done: u64, all: u64) {
    bar.set_length(all);
    bar.set_position(done);
}

async fn download(remote: &Remote, to: OsDisk, bar: &ProgressBar) -> anyhow::Result<Manifest> {
    let answer = remote.begin("GET", "/admin/backup", Bytes::new()).await?;
    if !answer.status().is_success() {
        let status = answer.status();
        let body = answer.into_body().collect().await.context("the answer broke off")?.to_bytes();
        super::remote::accepted(status, &body)?;
        bail!("the server sent no backup");
    }
    let size = answer.headers().get(SIZE_HEADER).and_then(|size| size.to_str().ok()?.parse().ok());
    bar.set_length(size.unwrap_or(0));
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let progress = bar.clone();
    let unpacked = tokio::task::spawn_blocking(move || {
        let source = Pieces { pieces, now: Bytes::new(), progress };
        unpack(source, &to)
    });
    let mut body = answer.into_body();
    let mut broken = None;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let Ok(piece) = frame.into_data() else { continue };
                // If nobody takes it, unpacking has failed and says why.
                if sender.send(Ok(piece)).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                let _ = sender.send(Err(io::Error::other(error.to_string()))).await;
                broken = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let unpacked = unpacked.await.context("unpacking panicked")?;
    match broken {
        Some(error) => Err(error).context("the backup broke off"),
        None => unpacked,
    }
}

/// Writes the files of a tar archive to `to`, checks them, and writes the manifest last.
fn unpack(source: impl Read, to: &OsDisk) -> anyhow::Result<Manifest> {
    if let Some(file) = to.list()?.into_iter().next() {
        return Err(BackupError::NotEmpty { location: to.location(), file }.into());
    }
    let mut archive = tar::Archive::new(source);
    let mut manifest: Option<Manifest> = None;
    for entry in archive.entries().context("the server's answer is not a tar file")? {
        let mut entry = entry.context("the backup broke off")?;
        let path = entry.path().context("a file of the backup has no name")?.into_owned();
        let name = file_name(&path)?;
        if name == MANIFEST_NAME {
            let mut text = Vec::new();
            entry.read_to_end(&mut text).context("the backup broke off")?;
            manifest = Some(serde_json::from_slice(&text).context("its manifest cannot be read")?);
        } else {
            write_file(&mut entry, to, name)?;
        }
    }
    let manifest = manifest.context("the backup broke off: it has no manifest")?;
    write_manifest(to, &manifest)?;
    Ok(check(to, &mut |_, _| {})?)
}

/// The name of a file that lies in the directory itself.
fn file_name(path: &Path) -> anyhow::Result<&str> {
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(name)), None) => {
            name.to_str().context("a file of the backup has a strange name")
        }
        _ => bail!("the backup holds {}, which is no file of a store", path.display()),
    }
}

fn write_file(source: &mut impl Read, to: &OsDisk, name: &str) -> anyhow::Result<()> {
    let file = to.create(name)?;
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    loop {
        let size = source.read(&mut buffer).context("the backup broke off")?;
        if size == 0 {
            break;
        }
        file.write_at(&buffer[..size], at)?;
        at += size as u64;
    }
    file.sync()?;
    Ok(())
}

/// The body of an answer, read by a thread that blocks.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    now: Bytes,
    progress: ProgressBar,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.now = piece?,
                None => return Ok(0),
            }
        }
        let size = buffer.len().min(self.now.len());
        self.now.copy_to_slice(&mut buffer[..size]);
        self.progress.inc(size as u64);
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_cannot_write_elsewhere() {
        for (path, safe) in [
            ("00000000000000000000-0.log", true),
            ("../00000000000000000000-0.log", false),
            ("/etc/passwd", false),
            ("a/b", false),
            ("..", false),
            ("", false),
        ] {
            assert_eq!(file_name(Path::new(path)).is_ok(), safe, "{path}");
        }
    }
}
