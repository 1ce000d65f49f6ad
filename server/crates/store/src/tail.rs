//! The newest commits in memory, as they were written: what live readers are served from.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use daybook_log::frame::{RECORD_HEADER_SIZE, RecordSpan};
use daybook_model::Position;
use parking_lot::RwLock;

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
}

impl Tail {
    pub fn push(&self, first: Position, bytes: Vec<u8>, records: Vec<RecordSpan>) {
        let mut inner = self.inner.write();
        let (batches, size) = &mut *inner;
        *size += bytes.len();
        batches.push_back(Arc::new(TailBatch { first, bytes: bytes.into(), records }));
        while *size > TAIL_SIZE && batches.len() > 1 {
            *size -= batches.pop_front().map_or(0, |batch| batch.bytes.len());
        }
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
