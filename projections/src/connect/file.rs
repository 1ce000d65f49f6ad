//! A file of JSON lines: one message a line, appended and synced before it counts as delivered.
//!
//! ```text
//!   orders.jsonl            what is being written
//!   orders.jsonl.000001 …   full ones, oldest first; the connector never deletes them
//! ```
//!
//! A crash can leave a torn last line; it is cut when the file is opened again. The messages since
//! the connector's place was last written come again, so a reader keeps the `id`s of the last lines
//! (as many as `checkpoint.every` and [`DELIVERY_MESSAGES_MAX`] together) and skips a line whose id
//! is among them.
//!
//! INVARIANT: after a failed sync nothing more is written in this process: what the system says of
//! the file from then on is not to be believed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use daybook_model::ContentType;

use super::config::FileSettings;
use super::sink::{DELIVERY_MESSAGES_MAX, Message, Outcome, Sink, SinkStopped};

/// Bytes that are read at a time, from the end backwards, to find the last whole line.
const STEP: u64 = 64 * 1024;
/// Full files that are numbered at most.
const FULL_FILES_MAX: u32 = 999_999;

const _: () = assert!(DELIVERY_MESSAGES_MAX > 0);

/// Appends lines.
pub struct FileSink {
    settings: FileSettings,
    open: Option<Lines>,
    stopped: Option<SinkStopped>,
}

/// A file that ends with a whole line, all of it durable.
struct Lines {
    file: File,
    size: u64,
}

/// Why lines were not written.
enum WriteError {
    /// Nothing of it remains; it may succeed later.
    Undone(io::Error),
    /// Nobody knows what remains.
    Unsure(io::Error),
}

impl FileSink {
    /// Nothing is opened before the first message.
    #[must_use]
    pub fn new(settings: FileSettings) -> FileSink {
        FileSink { settings, open: None, stopped: None }
    }
}

impl Sink for FileSink {
    async fn deliver(&mut self, messages: &[Message]) -> Result<Vec<Outcome>, SinkStopped> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut lines = Vec::new();
        for message in messages {
            if message.content_type == ContentType::Json {
                lines.extend_from_slice(&message.body);
                lines.push(b'\n');
                outcomes.push(Outcome::Confirmed);
            } else {
                let reason = "its data is not JSON and cannot be a line; map it to an envelope";
                outcomes.push(Outcome::refused(reason));
            }
        }
        if lines.is_empty() {
            return Ok(outcomes);
        }
        let (settings, open) = (self.settings.clone(), self.open.take());
        let path = settings.path.display().to_string();
        let written = tokio::task::spawn_blocking(move || append(&settings, open, &lines)).await;
        match written {
            Ok(Ok(open)) => {
                self.open = Some(open);
                Ok(outcomes)
            }
            Ok(Err(WriteError::Undone(error))) => {
                let failed = Outcome::failed(format!("cannot write {path}: {error}"));
                for outcome in &mut outcomes {
                    if *outcome == Outcome::Confirmed {
                        *outcome = failed.clone();
                    }
                }
                Ok(outcomes)
            }
            Ok(Err(WriteError::Unsure(error))) => Err(self.stop(format!(
                "{path} could not be made durable: {error}; check the disk, then restart"
            ))),
            Err(panicked) => Err(self.stop(format!("writing {path} panicked: {panicked}"))),
        }
    }
}

impl FileSink {
    fn stop(&mut self, reason: String) -> SinkStopped {
        let stopped = SinkStopped { reason };
        self.stopped = Some(stopped.clone());
        stopped
    }
}

fn append(settings: &FileSettings, open: Option<Lines>, lines: &[u8]) -> Result<Lines, WriteError> {
    let mut open = match open {
        Some(open) => open,
        None => Lines::open(&settings.path).map_err(WriteError::Undone)?,
    };
    if open.size > 0 && open.size + lines.len() as u64 > settings.size_max {
        drop(open);
        set_aside(&settings.path).map_err(WriteError::Undone)?;
        open = Lines::open(&settings.path).map_err(WriteError::Undone)?;
    }
    if let Err(error) = open.file.write_all(lines) {
        // Cut what was written of it, so that the file goes on ending with a whole line.
        let cut = open.file.set_len(open.size).and_then(|()| open.file.sync_data());
        return Err(cut.map_or_else(WriteError::Unsure, |()| WriteError::Undone(error)));
    }
    open.file.sync_data().map_err(WriteError::Unsure)?;
    open.size += lines.len() as u64;
    Ok(open)
}

impl Lines {
    /// Opens the file, alone, and cuts a torn last line.
    #[expect(clippy::disallowed_methods, reason = "a file of the user, not of the store")]
    fn open(path: &Path) -> io::Result<Lines> {
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true);
        let mut file = options.open(path)?;
        file.try_lock().map_err(|_| io::Error::other("another process writes it"))?;
        let size = file.metadata()?.len();
        let whole = whole_lines(&mut file, size)?;
        if whole < size {
            tracing::warn!(path = %path.display(), cut = size - whole, "cut a torn last line");
            file.set_len(whole)?;
        }
        file.sync_all()?;
        sync_directory(path)?;
        Ok(Lines { file, size: whole })
    }
}

/// Bytes up to the end of the last whole line.
fn whole_lines(file: &mut File, size: u64) -> io::Result<u64> {
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        Read::by_ref(file).take(end - start).read_to_end(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Gives the full file the next number.
#[expect(clippy::disallowed_methods, reason = "a file of the user, not of the store")]
fn set_aside(path: &Path) -> io::Result<()> {
    for number in 1..=FULL_FILES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number:06}"));
        let full = PathBuf::from(name);
        if !full.try_exists()? {
            std::fs::rename(path, &full)?;
            return sync_directory(path);
        }
    }
    Err(io::Error::other("there is no number left for another full file; move some away"))
}

#[expect(clippy::disallowed_methods, reason = "a file of the user, not of the store")]
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
#[path = "file/tests.rs"]
mod tests;
