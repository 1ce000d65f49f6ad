//! The segments of a running server, as files that are read over HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use daybook_log::backup::Extent;
use daybook_log::disk::{DiskError, DiskFile};
use daybook_log::segment::{SEGMENT_HEADER_SIZE, Segment, SegmentHeader};
use daybook_model::{Position, Timestamp};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};

use super::BackupArgs;
use crate::cli::remote::{Remote, accepted, percent_encode};
use crate::http::backup::segments::{BYTES_MAX, Listing};

/// Answers that are kept: a piece is looked through while it comes, and then copied.
const KEPT: usize = 6;

/// What the server has that is durable, and when that was by its clock.
///
/// # Errors
/// If it cannot be asked, or does not answer so.
pub fn extent(remote: &Remote, runtime: &Handle) -> anyhow::Result<(Extent, Timestamp)> {
    let listing = runtime.block_on(remote.get("/admin/backup/segments"))?;
    let listing: Listing =
        serde_json::from_value(listing).context("the server does not list its segments")?;
    let mut segments = Vec::with_capacity(listing.segments.len());
    let kept = Arc::new(Mutex::new(Kept::default()));
    for listed in listing.segments {
        let header = header(&listed.header)
            .with_context(|| format!("{} has no header that is known here", listed.name))?;
        let file = RemoteFile {
            name: listed.name.clone(),
            size: header.size,
            remote: remote.clone(),
            runtime: runtime.clone(),
            kept: kept.clone(),
        };
        segments.push(Arc::new(Segment { header, name: listed.name, file: Arc::new(file) }));
    }
    let committed = Position(listing.committed);
    Ok((Extent { segments, committed }, Timestamp(listing.now)))
}

/// Whether the server's segments are not those of `extent` any more: a scavenge rewrote some.
pub fn has_changed(before: &Extent, args: &BackupArgs, runtime: &Runtime) -> bool {
    let now = extent(&args.remote, runtime.handle());
    let gone = |now: &Extent| {
        let there = |name: &String| now.segments.iter().any(|segment| segment.name == *name);
        !before.segments.iter().all(|segment| there(&segment.name))
    };
    now.is_ok_and(|(now, _)| gone(&now))
}

fn header(text: &str) -> Option<SegmentHeader> {
    let mut bytes = [0; SEGMENT_HEADER_SIZE];
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    SegmentHeader::decode(&bytes).ok()
}

/// A segment of a server.
struct RemoteFile {
    name: String,
    size: u64,
    remote: Remote,
    runtime: Handle,
    kept: Arc<Mutex<Kept>>,
}

/// What the server answered last, of one segment: they are read one after the other, and a store
/// has more of them than fit into memory.
#[derive(Default)]
struct Kept {
    segment: String,
    /// By their number: answers of [`BYTES_MAX`], the newest few.
    answers: BTreeMap<u64, Bytes>,
    /// The memory of an answer that is not kept any more, for the next one.
    spare: BytesMut,
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RemoteFile {
    /// The `number`-th answer's worth of bytes.
    fn chunk(&self, number: u64) -> anyhow::Result<Bytes> {
        let mut kept = self.kept.lock();
        if kept.segment != self.name {
            (kept.segment, kept.answers) = (self.name.clone(), BTreeMap::new());
        }
        if let Some(bytes) = kept.answers.get(&number) {
            return Ok(bytes.clone());
        }
        let from = number * BYTES_MAX;
        let size = BYTES_MAX.min(self.size - from);
        let name = percent_encode(&self.name);
        let path = format!("/admin/backup/segments/{name}?from={from}&size={size}");
        let mut bytes = std::mem::take(&mut kept.spare);
        bytes.clear();
        let (status, bytes) = self.runtime.block_on(async {
            let answer = self.remote.begin("GET", &path, Bytes::new()).await?;
            let (status, mut body) = (answer.status(), answer.into_body());
            while let Some(frame) = body.frame().await {
                let frame = frame.context("the answer broke off")?;
                if let Some(data) = frame.data_ref() {
                    if (bytes.len() + data.len()) as u64 > BYTES_MAX {
                        bail!("the server sent more of {} than was asked for", self.name);
                    }
                    bytes.extend_from_slice(data);
                }
            }
            anyhow::Ok((status, bytes.freeze()))
        })?;
        if !status.is_success() {
            accepted(status, &bytes)?;
        }
        if bytes.len() as u64 != size {
            bail!("the server sent {} bytes of {}, not {size}", bytes.len(), self.name);
        }
        if kept.answers.len() >= KEPT
            && let Some((_, oldest)) = kept.answers.pop_first()
            && let Ok(spare) = oldest.try_into_mut()
        {
            kept.spare = spare;
        }
        kept.answers.insert(number, bytes.clone());
        Ok(bytes)
    }

    fn refuse(&self, action: &'static str, source: io::Error) -> DiskError {
        let path = format!("{} of {}", self.name, "the server");
        DiskError { action, path, source }
    }
}

impl DiskFile for RemoteFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.size) {
            return Err(self.refuse("read", io::ErrorKind::UnexpectedEof.into()));
        }
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let bytes = self.chunk(at / BYTES_MAX);
            let bytes =
                bytes.map_err(|e| self.refuse("read", io::Error::other(format!("{e:#}"))))?;
            let part = &bytes[(at % BYTES_MAX) as usize..];
            let size = part.len().min(buffer.len() - done);
            buffer[done..done + size].copy_from_slice(&part[..size]);
            done += size;
        }
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<(), DiskError> {
        Err(self.refuse("write to", io::ErrorKind::ReadOnlyFilesystem.into()))
    }

    fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.size)
    }
}
