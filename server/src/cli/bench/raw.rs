//! The ceiling: a file that is written and synced, and nothing else.
//!
//! What waits is gathered, written with one write, synced with one `fdatasync`, and answered: the
//! same group commit as a store's, without a store. The file is full of zeros beforehand, so that a
//! sync has no metadata to write; at its end it begins again from its start.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context as _;
use daybook_model::NewEvent;
use tokio::sync::oneshot;

/// Bytes of the file. Large enough that a run of some seconds rarely wraps.
const FILE_SIZE: u64 = 256 * 1024 * 1024;
/// Bytes written at a time while the file is prepared.
const ZEROS_SIZE: usize = 1024 * 1024;
/// Bytes after which a group is full.
const GROUP_SIZE_MAX: usize = 8 * 1024 * 1024;

/// A handle of the file's writer; the writer stops when the last one is dropped.
#[derive(Clone, Debug)]
pub struct RawLog {
    queue: Sender<Job>,
}

struct Job {
    events: Vec<NewEvent>,
    done: oneshot::Sender<u64>,
}

impl RawLog {
    /// Prepares the file `path` and starts its writer. Blocks.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: &Path) -> anyhow::Result<RawLog> {
        #[expect(clippy::disallowed_methods, reason = "the ceiling is a plain file")]
        let file = File::options().write(true).create(true).truncate(true).open(path);
        let file = file.with_context(|| format!("cannot make {}", path.display()))?;
        let zeros = vec![0; ZEROS_SIZE];
        for offset in (0..FILE_SIZE).step_by(ZEROS_SIZE) {
            file.write_all_at(&zeros, offset).context("cannot write the raw file")?;
        }
        file.sync_all().context("cannot sync the raw file")?;
        let (queue, jobs) = channel();
        std::thread::Builder::new()
            .name("raw-log".to_owned())
            .spawn(move || write(&file, &jobs))?;
        Ok(RawLog { queue })
    }

    /// Writes `events` durably; the number of the last one.
    ///
    /// # Errors
    /// If the writer has stopped, because the disk failed.
    pub async fn append(&self, events: Vec<NewEvent>) -> anyhow::Result<u64> {
        self.send(events)?.await.context("the raw log has failed")
    }

    /// As [`RawLog::append`], the answer to be awaited apart.
    ///
    /// # Errors
    /// If the writer has stopped.
    pub fn send(&self, events: Vec<NewEvent>) -> anyhow::Result<oneshot::Receiver<u64>> {
        let (done, answer) = oneshot::channel();
        let sent = self.queue.send(Job { events, done });
        sent.ok().context("the raw log has failed")?;
        Ok(answer)
    }
}

fn write(file: &File, jobs: &Receiver<Job>) {
    let mut buffer = Vec::with_capacity(GROUP_SIZE_MAX);
    let mut answers = Vec::new();
    let (mut offset, mut number) = (0, 0);
    while let Ok(first) = jobs.recv() {
        buffer.clear();
        let mut next = Some(first);
        while let Some(job) = next {
            for event in &job.events {
                encode(event, &mut buffer);
            }
            number += job.events.len() as u64;
            answers.push((job.done, number));
            next = if buffer.len() < GROUP_SIZE_MAX { jobs.try_recv().ok() } else { None };
        }
        if offset + buffer.len() as u64 > FILE_SIZE {
            offset = 0;
        }
        let written = file.write_all_at(&buffer, offset).and_then(|()| file.sync_data());
        if let Err(error) = written {
            tracing::error!(%error, "the raw log cannot be written");
            return;
        }
        offset += buffer.len() as u64;
        for (done, number) in answers.drain(..) {
            let _ = done.send(number);
        }
    }
}

/// length | crc32 | id | type | metadata | data
fn encode(event: &NewEvent, buffer: &mut Vec<u8>) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(event.id.as_bytes());
    buffer.extend_from_slice(event.event_type.as_bytes());
    buffer.extend_from_slice(&event.metadata);
    buffer.extend_from_slice(&event.data);
    let body = &buffer[start + 8..];
    let (len, crc) = (body.len() as u32, crc32fast::hash(body));
    buffer[start..start + 4].copy_from_slice(&len.to_le_bytes());
    buffer[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}
