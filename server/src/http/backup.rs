//! `GET /admin/backup`: a backup of everything that is durable, as a tar file, while the server
//! runs.
//!
//! ```text
//!   00000000000000000000-0.log   the segments, oldest first, the last one cut at a durable event
//!   …
//!   manifest.json                at the end: a download that broke off is not a backup
//! ```
//!
//! Unpack it into a directory, and that is what `daybook restore` takes. The files are read on a
//! thread that blocks, no faster than the client takes them.

pub mod list;
pub mod segments;
pub mod status;
pub mod verify;

use std::io::{self, BufWriter, Read, Write};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use daybook_log::backup::{Backup, MANIFEST_NAME, Part};
use http::{HeaderName, header};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use utoipa_axum::routes;

use super::problem::{Kind, Problem};
use super::shapes::NotRead;
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Backups taken at a time. Each reads the whole log, and holds a thread.
const BACKUPS_MAX: usize = 2;
/// Bytes that are sent at once.
const CHUNK_SIZE: usize = 256 * 1024;
/// Chunks that wait for a slow client.
const CHUNKS_MAX: usize = 4;
/// Mode of the files in the archive: events are nobody else's business.
const FILE_MODE: u32 = 0o600;
/// Bytes in all of the segments, for whoever shows how far the download has come.
const SIZE: HeaderName = HeaderName::from_static("daybook-size");

static SLOTS: Semaphore = Semaphore::const_new(BACKUPS_MAX);

/// The routes of this room.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Administer, routes!(download))
        .merge(segments::routes())
        .merge(status::routes())
        .merge(list::routes())
        .merge(verify::routes())
}

/// A backup of everything that is durable, as a tar file: segments, and a manifest at the end.
#[utoipa::path(
    get, path = "/admin/backup", tag = "backup",
    operation_id = "download_backup",
    responses(
        (status = 200, description = "It; without `manifest.json` at its end it is not whole",
         body = String, content_type = "application/x-tar",
         headers(("daybook-size" = u64, description = "Bytes in all of the segments"))),
        NotRead,
    )
)]
async fn download(State(context): State<Context>) -> Result<Response, Problem> {
    let Ok(slot) = SLOTS.try_acquire() else {
        let detail = format!("{BACKUPS_MAX} backups are being taken already; try again later");
        return Err(Problem::new(Kind::Overloaded, detail));
    };
    let store = context.works().clone();
    let backup = match tokio::task::spawn_blocking(move || store.backup()).await {
        Ok(Ok(backup)) => backup,
        Ok(Err(error)) => return Err(Problem::new(Kind::Damaged, error.to_string())),
        Err(panicked) => return Err(Problem::new(Kind::Internal, panicked.to_string())),
    };
    let manifest = backup.manifest(&[]);
    let name = format!("daybook-{}-{}-{}.tar", manifest.store, manifest.epoch, manifest.end);
    let size = backup.size();
    let seconds = u64::try_from(context.clock().now().0 / 1_000_000_000).unwrap_or(0);
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    tokio::task::spawn_blocking(move || {
        let _slot = slot;
        let out = BufWriter::with_capacity(CHUNK_SIZE, Chunks { sender: sender.clone() });
        let safeguards = &context.metrics().safeguards;
        let written = write(&backup, seconds, out);
        if let Err(error) = written {
            safeguards.backup_broke_off();
            tracing::warn!(%error, "a backup broke off");
            // The client sees a broken transfer, not a short file. It may be the one who left.
            let _ = sender.blocking_send(Err(error));
        } else {
            safeguards.backup_complete(context.clock().now());
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (SIZE, size.to_string()),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

/// Writes `backup` as a tar file; its files were changed at `seconds` since 1970.
fn write(backup: &Backup, seconds: u64, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    let mut hashes = Vec::new();
    for part in &backup.parts {
        let mut file = PartFile { part, at: 0, hash: blake3::Hasher::new() };
        let mut head = head(part.size, seconds);
        archive.append_data(&mut head, part.name(), &mut file)?;
        hashes.push(daybook_log::backup::hex(file.hash.finalize().as_bytes()));
    }
    let manifest = serde_json::to_vec_pretty(&backup.manifest(&hashes))?;
    let mut head = head(manifest.len() as u64, seconds);
    archive.append_data(&mut head, MANIFEST_NAME, manifest.as_slice())?;
    archive.into_inner()?.flush()
}

fn head(size: u64, seconds: u64) -> tar::Header {
    let mut head = tar::Header::new_gnu();
    head.set_size(size);
    head.set_mode(FILE_MODE);
    head.set_mtime(seconds);
    head
}

/// One file of a backup, read from its beginning and hashed on the way.
struct PartFile<'a> {
    part: &'a Part,
    at: u64,
    hash: blake3::Hasher,
}

impl Read for PartFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.part.size - self.at).unwrap_or(usize::MAX);
        let size = buffer.len().min(left);
        let buffer = &mut buffer[..size];
        self.part.read_at(buffer, self.at).map_err(io::Error::other)?;
        self.hash.update(buffer);
        self.at += size as u64;
        Ok(size)
    }
}

/// Sends what is written to it.
struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.sender.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
