//! The newest commits in memory, as they were written: what live readers are served from.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use daybook_log::frame::{RECORD_HEADER_SIZE, RecordSpan};
use daybook_model::Position;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::page::{Located, Page};

/// Bytes of commits that are kept. Readers further behind read files.
const TAIL_SIZE: usize = 32 * 1024 * 1024;

/// One batch.
#[derive(Debug)]
struct TailBatch {
    first: Position,
    bytes: Bytes,
    records: Vec<RecordSpan>,
}

/// The newest commits.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    inner: RwLock<(VecDeque<Arc<TailBatch>>, usize)>,
    /// Buffers of batches that nobody reads any more.
    free: Mutex<Vec<Vec<u8>>>,
}

/// Buffers that are kept for the next batches: fresh memory costs more to clear than to fill.
const FREE_LEN: usize = 4;
/// A larger buffer is not kept.
const FREE_SIZE_MAX: usize = 16 * 1024 * 1024;

impl Tail {
    pub fn push(&self, first: Position, bytes: Vec<u8>, records: Vec<RecordSpan>) {
        let mut inner = self.inner.write();
        let (batches, size) = &mut *inner;
        *size += bytes.len();
        batches.push_back(Arc::new(TailBatch { first, bytes: bytes.into(), records }));
        let mut old = SmallVec::<[Arc<TailBatch>; 4]>::new();
        while *size > TAIL_SIZE && batches.len() > 1 {
            if let Some(batch) = batches.pop_front() {
                *size -= batch.bytes.len();
                old.push(batch);
            }
        }
        drop(inner);
        for batch in old {
            self.recycle(batch);
        }
    }

    fn recycle(&self, batch: Arc<TailBatch>) {
        let Some(batch) = Arc::into_inner(batch) else { return };
        let Ok(bytes) = batch.bytes.try_into_mut() else { return };
        let buffer = Vec::from(bytes);
        let mut free = self.free.lock();
        if free.len() < FREE_LEN && buffer.capacity() <= FREE_SIZE_MAX {
            free.push(buffer);
        }
    }

    /// A buffer for a batch.
    pub fn buffer(&self) -> Vec<u8> {
        self.free.lock().pop().unwrap_or_default()
    }

    /// The first position held; none if nothing is.
    pub fn first(&self) -> Option<Position> {
        self.inner.read().0.front().map(|batch| batch.first)
    }

    /// Adds the event at `position` to `page`. False if it is not held.
    pub fn add(&self, position: Position, page: &mut Page) -> bool {
        let Some(batch) = self.batch_of(position) else { return false };
        let index = (position.0 - batch.first.0) as usize;
        let Some(span) = batch.records.get(index) else { return false };
        // Neighbours are usually in one batch: its bytes are one chunk of the page.
        let same =
            page.chunks.last().is_some_and(|c| std::ptr::eq(c.as_ptr(), batch.bytes.as_ptr()));
        if !same {
            page.chunks.push(batch.bytes.clone());
        }
        page.push(Located {
            position,
            chunk: page.chunks.len() as u32 - 1,
            start: (span.start + RECORD_HEADER_SIZE) as u32,
            len: (span.size - RECORD_HEADER_SIZE) as u32,
        });
        true
    }

    fn batch_of(&self, position: Position) -> Option<Arc<TailBatch>> {
        let inner = self.inner.read();
        let at = inner.0.partition_point(|batch| batch.first <= position);
        inner.0.get(at.checked_sub(1)?).cloned()
    }
}
