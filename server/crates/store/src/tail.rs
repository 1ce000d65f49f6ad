//! The newest commits in memory, as they were written: what live readers are served from.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use daybook_log::frame::{RECORD_HEADER_SIZE, Spans};
use daybook_model::Position;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::page::{Located, Page};

/// Bytes of commits that are kept unless the options say otherwise. Readers further behind read
/// files.
pub(crate) const TAIL_SIZE_DEFAULT: usize = 32 * 1024 * 1024;

/// Bytes of a batch whose pages share it; of a larger one they copy what they show.
const SHARED_SIZE_MAX: usize = 1024 * 1024;

/// One batch.
#[derive(Debug)]
struct TailBatch {
    first: Position,
    bytes: Bytes,
    spans: Spans,
}

/// The newest commits.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Bytes of commits that are kept.
    size_max: usize,
    inner: RwLock<(VecDeque<Arc<TailBatch>>, usize)>,
    /// Buffers of batches that nobody reads any more.
    free: Mutex<Vec<(Vec<u8>, Spans)>>,
}

/// Buffers that are kept for the next batches: fresh memory costs more to clear than to fill.
const FREE_LEN: usize = 4;
/// A larger buffer than this part of the tail is not kept.
const FREE_PART: usize = 2;

impl Tail {
    /// One that keeps `size_max` bytes of commits.
    pub fn new(size_max: usize) -> Tail {
        Tail { size_max, inner: RwLock::default(), free: Mutex::default() }
    }

    pub fn push(&self, first: Position, bytes: Vec<u8>, spans: Spans) {
        let mut inner = self.inner.write();
        let (batches, size) = &mut *inner;
        *size += bytes.len();
        batches.push_back(Arc::new(TailBatch { first, bytes: bytes.into(), spans }));
        let mut old = SmallVec::<[Arc<TailBatch>; 4]>::new();
        while *size > self.size_max && batches.len() > 1 {
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
        if free.len() < FREE_LEN && buffer.capacity() <= self.size_max / FREE_PART {
            free.push((buffer, batch.spans));
        }
    }

    /// Lets go of what lies below `end`, where a segment ends: it is to be read from the disk.
    pub fn forget_below(&self, end: Position) {
        let mut inner = self.inner.write();
        let (batches, size) = &mut *inner;
        while let Some(batch) = batches.pop_front_if(|batch| batch.first < end) {
            *size -= batch.bytes.len();
        }
    }

    /// Buffers for a batch.
    pub fn buffers(&self) -> (Vec<u8>, Spans) {
        self.free.lock().pop().unwrap_or_default()
    }

    /// The first position held; none if nothing is.
    pub fn first(&self) -> Option<Position> {
        self.inner.read().0.front().map(|batch| batch.first)
    }

    /// Adds the events at the first of `positions` to `page`, as many as one batch holds and the
    /// page takes. Answers how many; none if the first is not held.
    pub fn add(&self, positions: &[Position], page: &mut Page) -> usize {
        let Some(batch) = positions.first().and_then(|first| self.batch_of(*first)) else {
            return 0;
        };
        let mut chunk = None;
        let mut count = 0;
        for &position in positions {
            let index = position.0.checked_sub(batch.first.0);
            let Some(span) = index.and_then(|index| batch.spans.records().get(index as usize))
            else {
                break;
            };
            if page.is_full() {
                break;
            }
            let (start, len) = (span.start + RECORD_HEADER_SIZE, span.size - RECORD_HEADER_SIZE);
            let (chunk, start) = if batch.bytes.len() > SHARED_SIZE_MAX {
                // A page of a small event must not keep a large batch in memory.
                (page.add_chunk(Bytes::copy_from_slice(&batch.bytes[start..start + len])), 0)
            } else {
                (*chunk.get_or_insert_with(|| page.add_chunk(batch.bytes.clone())), start)
            };
            page.push(Located::new(position, chunk, start as u32, len as u32));
            count += 1;
        }
        count
    }

    fn batch_of(&self, position: Position) -> Option<Arc<TailBatch>> {
        let inner = self.inner.read();
        let at = inner.0.partition_point(|batch| batch.first <= position);
        inner.0.get(at.checked_sub(1)?).cloned()
    }
}
