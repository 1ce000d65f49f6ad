//! States, made of snapshot and events.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::slot::Loaded;
use super::{LoadError, Repository, count};
use crate::aggregate::Aggregate;
use crate::{EventStore, EventView, Revision, StreamName};

impl<A: Aggregate, S: EventStore> Repository<A, S> {
    /// The aggregate now, with the revision of its last event; none if it has no events.
    ///
    /// # Errors
    /// [`LoadError`]: the store cannot read it, or an event is not understood.
    pub async fn load(&self, stream: &StreamName) -> Result<Option<(A, Revision)>, LoadError> {
        let slot = self.slot(stream);
        let head = self.inner.store.head(stream).await?;
        let cached = slot.loaded();
        let loaded = match cached {
            // Others may have appended since `head` was asked: newer is as good.
            Some(loaded) if loaded.revision >= head => {
                count(&self.inner.counters.hits, 1);
                loaded
            }
            cached => self.refresh(stream, cached).await?,
        };
        Ok(loaded.revision.map(|revision| (loaded.state.clone(), revision)))
    }

    /// The aggregate as it was after the event of `revision`, or after its last one before that.
    ///
    /// # Errors
    /// As [`Repository::load`].
    pub async fn load_at(&self, stream: &StreamName, revision: Revision) -> Result<A, LoadError> {
        let loaded = self.replay(stream, None, revision).await?;
        Ok(loaded.state.clone())
    }

    /// Brings `cached`, or a snapshot, up to the stream's end, and keeps it.
    pub(super) async fn refresh(
        &self,
        stream: &StreamName,
        cached: Option<Arc<Loaded<A>>>,
    ) -> Result<Arc<Loaded<A>>, LoadError> {
        count(&self.inner.counters.loads, 1);
        let loaded = self.replay(stream, cached, Revision(u64::MAX)).await?;
        self.slot(stream).keep(loaded.clone());
        Ok(loaded)
    }

    /// The state after the event of revision `to`, from `base` or a snapshot on.
    async fn replay(
        &self,
        stream: &StreamName,
        base: Option<Arc<Loaded<A>>>,
        to: Revision,
    ) -> Result<Arc<Loaded<A>>, LoadError> {
        let base = match base.filter(|base| base.revision.is_some_and(|at| at <= to)) {
            Some(base) => base,
            None => Arc::new(self.newest_snapshot(stream, to).await?),
        };
        let mut state = base.state.clone();
        let mut revision = base.revision;
        let from = Revision(revision.map_or(0, |revision| revision.0 + 1));
        let mut wrong = None;
        let each = |event: EventView<'_>| {
            if event.revision > to {
                return ControlFlow::Break(());
            }
            match A::read(event) {
                Ok(event) => state.evolve(&event),
                Err(reason) => {
                    wrong = Some((event.revision, reason));
                    return ControlFlow::Break(());
                }
            }
            revision = Some(event.revision);
            ControlFlow::Continue(())
        };
        if from <= to {
            self.inner.store.replay(stream, from, each).await?;
        }
        match wrong {
            Some((revision, reason)) => {
                Err(LoadError::Undecodable { stream: stream.clone(), revision, reason })
            }
            None => Ok(Arc::new(Loaded { state, revision })),
        }
    }

    /// The newest snapshot at or before `to` that can be read; the beginning if there is none.
    async fn newest_snapshot(
        &self,
        stream: &StreamName,
        to: Revision,
    ) -> Result<Loaded<A>, LoadError> {
        let every = self.inner.snapshot_every;
        let head = self.inner.store.head(stream).await?;
        // A stream this short has none.
        if every == 0 || head.is_none_or(|head| head.0 + 1 < every) {
            return Ok(Loaded::default());
        }
        let snapshot = self.inner.store.snapshot(stream, to).await;
        let known = snapshot.filter(|snapshot| {
            snapshot.schema == A::SCHEMA
                && snapshot.kind == A::KIND
                && Some(snapshot.revision) <= head
                && snapshot.revision <= to
        });
        let state = known.and_then(|snapshot| {
            let state = A::from_snapshot(&snapshot.data)?;
            Some(Loaded { state, revision: Some(snapshot.revision) })
        });
        Ok(state.unwrap_or_default())
    }
}
