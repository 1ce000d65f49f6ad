//! Appends to the store: prepared and resolved by their callers, then handed to the writer.

use daybook_model::append::{Append, AppendError, Appended, Deletion, EndedState, StreamCondition};
use daybook_model::metadata::{METADATA_EVENT_TYPE, TOMBSTONE_EVENT_TYPE};
use daybook_model::watch::{Steps, Watched};
use daybook_model::{ExpectedRevision, NewEvent, Position, StreamMetadata, StreamName};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::Store;
use crate::core;
use crate::index::Access;
use crate::prepare::Prepared;
use crate::read::{ReadError, blocking};
use crate::resolve::{Resolution, resolve};
use crate::status::StreamState;
use crate::virtual_stream;
use crate::writer::{Reply, Request};

/// How often an append is resolved again because something it rests on changed meanwhile. Each time
/// another append was made durable, so only a stream that others never stop writing gets here.
const RESOLVE_ATTEMPTS_MAX: usize = 100;
/// Bytes of an append that are hashed on the caller's own thread: about a tenth of a millisecond.
const PREPARE_INLINE_MAX: usize = 256 * 1024;

/// The order among appends that are in flight together; see [`Store::append_in`].
#[derive(Debug, Default)]
pub struct Lane(tokio::sync::Mutex<()>);

impl Store {
    /// Appends atomically; answers when it is durable.
    ///
    /// # Errors
    /// [`AppendError`]; only [`AppendError::Unknown`] leaves open whether it happened.
    pub async fn append(&self, mut append: Append) -> Result<Appended, AppendError> {
        let watched = self.follow(&mut append);
        let prepared = self.prepare_off_thread(append).await?;
        self.submit_watched(prepared, None, watched).await
    }

    /// As [`Store::append`], and says of all conditions that fail, not of the first alone. What is
    /// expected may be more than a revision: `ended` says of streams, by their index in the append,
    /// how they must have ended.
    ///
    /// # Errors
    /// As [`Store::append`]; [`AppendError::ChecksFailed`] instead of a wrong expected revision,
    /// except where nothing was expected and only a part of the ids is known.
    pub async fn append_checked(
        &self,
        mut append: Append,
        mut ended: Vec<(u32, EndedState)>,
    ) -> Result<Appended, AppendError> {
        let watched = self.follow(&mut append);
        ended.sort_unstable_by_key(|(stream, _)| *stream);
        let mut prepared = self.prepare_off_thread(append).await?;
        prepared.checks = Some(ended.into_boxed_slice());
        self.submit_watched(prepared, None, watched).await
    }

    /// As [`Store::append`], for one of several appends that are in flight together: they reach
    /// the writer in the order in which their futures were first polled, so that each may expect
    /// what the one before leaves.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub async fn append_in(
        &self,
        lane: &Lane,
        mut append: Append,
    ) -> Result<Appended, AppendError> {
        let watched = self.follow(&mut append);
        let prepared = self.prepare_off_thread(append).await?;
        self.submit_watched(prepared, Some(lane), watched).await
    }

    /// Tells who follows the work of this task, if anybody does, that an append begins.
    fn follow(&self, append: &mut Append) -> Option<Box<dyn Watched>> {
        self.core().watch.get().and_then(|watch| watch.append(append))
    }

    async fn submit_watched(
        &self,
        mut prepared: Box<Prepared>,
        lane: Option<&Lane>,
        watched: Option<Box<dyn Watched>>,
    ) -> Result<Appended, AppendError> {
        let Some(mut watched) = watched else { return self.submit(prepared, lane).await };
        prepared.steps = Some(Box::default());
        match self.run(prepared, lane).await {
            Ok((appended, steps)) => {
                if let Some(steps) = steps {
                    watched.stored(&steps);
                }
                Ok(appended)
            }
            Err(error) => {
                watched.failed(&error);
                Err(error)
            }
        }
    }

    /// Prepares an append where hashing it does not hold up other tasks.
    async fn prepare_off_thread(&self, append: Append) -> Result<Box<Prepared>, AppendError> {
        let size: usize = append.events.iter().map(|(_, event)| event.data.len()).sum();
        if size < PREPARE_INLINE_MAX {
            return self.prepare(&append, None);
        }
        let store = self.clone();
        let prepared = tokio::task::spawn_blocking(move || store.prepare(&append, None));
        prepared
            .await
            .unwrap_or_else(|_| Err(AppendError::Closed { reason: "it is stopping".to_owned() }))
    }

    fn prepare(
        &self,
        append: &Append,
        deletion: Option<Deletion>,
    ) -> Result<Box<Prepared>, AppendError> {
        let core = self.core();
        let salt = core.environment.entropy.bytes();
        Ok(Box::new(Prepared::new(&core.hasher, salt, append, deletion)?))
    }

    pub(crate) async fn submit(
        &self,
        prepared: Box<Prepared>,
        lane: Option<&Lane>,
    ) -> Result<Appended, AppendError> {
        self.run(prepared, lane).await.map(|(appended, _)| appended)
    }

    async fn run(
        &self,
        mut prepared: Box<Prepared>,
        lane: Option<&Lane>,
    ) -> Result<(Appended, Option<Box<Steps>>), AppendError> {
        let core = self.core();
        for _ in 0..RESOLVE_ATTEMPTS_MAX {
            if let Some(reason) = core.stop_reason() {
                core::count(&core.counters.failures, 1);
                return Err(AppendError::Closed { reason });
            }
            let turn = match lane {
                Some(lane) => Some(lane.0.lock().await),
                None => None,
            };
            let resolved;
            (prepared, resolved) = self.resolve(prepared).await?;
            let resolved = match resolved {
                Resolution::Write(resolved) => resolved,
                Resolution::Answer(answer) => {
                    self.count_answer(&answer);
                    return answer.map(|appended| (appended, None));
                }
            };
            let refusals = *core.refusals.borrow();
            let (answer, reply) = oneshot::channel();
            let queued = core.environment.clock.monotonic();
            let request = Request { prepared, resolved, answer, queued };
            if let Err((_, waiting)) = self.inner.pipeline.submit(request) {
                if self.inner.pipeline.is_closing() {
                    return Err(AppendError::Closed { reason: "it is stopping".to_owned() });
                }
                core::count(&core.counters.overloads, 1);
                return Err(AppendError::Overloaded { waiting });
            }
            drop(turn);
            match reply.await {
                Ok(Reply::Written(appended, prepared)) => return Ok((appended, prepared.steps)),
                Ok(Reply::Done(answer)) => return answer.map(|appended| (appended, None)),
                Ok(Reply::Again { prepared: back, until }) => {
                    prepared = back;
                    // Rare: room for it would make every append's future twice as large.
                    Box::pin(self.wait_for(until, refusals)).await?;
                }
                Err(_) => {
                    let reason = "the store stopped before it was durable".to_owned();
                    return Err(AppendError::Unknown { reason });
                }
            }
        }
        Err(AppendError::Overloaded { waiting: self.inner.pipeline.depth() })
    }

    async fn resolve(
        &self,
        mut prepared: Box<Prepared>,
    ) -> Result<(Box<Prepared>, Resolution), AppendError> {
        let unreadable = |e: ReadError| AppendError::Read { reason: e.to_string() };
        match resolve(self.core(), &mut prepared, Access::Memory) {
            Err(ReadError::NotInMemory) => {}
            other => return Ok((prepared, other.map_err(unreadable)?)),
        }
        let core = self.core().clone();
        blocking(move || {
            let resolution = resolve(&core, &mut prepared, Access::Disk)?;
            Ok((prepared, resolution))
        })
        .await
        .map_err(unreadable)
    }

    fn count_answer(&self, answer: &Result<Appended, AppendError>) {
        let counters = &self.core().counters;
        match answer {
            Ok(_) => core::count(&counters.duplicates, 1),
            Err(_) => core::count(&counters.rejections, 1),
        }
    }

    /// Waits until everything below `until` is committed, or a group was refused since `refusals`
    /// were: what was waited for may never come then.
    async fn wait_for(&self, until: Position, refusals: u64) -> Result<(), AppendError> {
        let core = self.core();
        let (mut committed, mut closed) = (core.committed.subscribe(), core.closed.subscribe());
        let mut refused = core.refusals.subscribe();
        tokio::select! {
            _ = refused.wait_for(|count| *count != refusals) => Ok(()),
            _ = committed.wait_for(|committed| *committed >= until) => Ok(()),
            _ = closed.wait_for(|closed| *closed) => {
                let reason = self.core().stop_reason().unwrap_or_default();
                Err(AppendError::Closed { reason })
            }
        }
    }

    /// Deletes a stream. Answers with the position of what was written for it, if anything was.
    ///
    /// # Errors
    /// [`AppendError`], as for an append. A stream that never was cannot be soft-deleted.
    pub async fn delete(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        how: Deletion,
    ) -> Result<Option<Position>, AppendError> {
        virtual_stream::refuse(stream)?;
        let core = self.core();
        let id = core.environment.entropy.bytes();
        let id = uuid::Builder::from_random_bytes(id).into_uuid();
        let append = match how {
            Deletion::Tombstone => {
                let event = NewEvent::json(id, TOMBSTONE_EVENT_TYPE, Vec::new());
                Append::to_stream(stream.clone(), expected, [event])
            }
            Deletion::Soft => {
                if self.soft_delete_is_done(stream, expected).await? {
                    return Ok(None);
                }
                let data = StreamMetadata::soft_delete_data();
                let event = NewEvent::json(id, METADATA_EVENT_TYPE, data);
                let checked = StreamCondition { stream: stream.clone(), expected };
                let written = StreamCondition {
                    stream: stream.metastream(),
                    expected: ExpectedRevision::Any,
                };
                let streams = SmallVec::from_vec(vec![checked, written]);
                Append { streams, events: vec![(1, event)] }
            }
        };
        let prepared = self.prepare(&append, Some(how))?;
        Ok(self.submit(prepared, None).await?.position)
    }

    /// Whether the stream is soft-deleted already. A stream that cannot be is an error.
    async fn soft_delete_is_done(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
    ) -> Result<bool, AppendError> {
        let info = self.stream_info(stream).await;
        let info = info.map_err(|e| AppendError::Read { reason: e.to_string() })?;
        let wrong = Err(AppendError::WrongExpectedRevision {
            index: 0,
            stream: stream.clone(),
            expected,
            actual: info.head,
        });
        match (info.state, expected) {
            (StreamState::Tombstoned, _) => Err(AppendError::StreamDeleted {
                index: 0,
                stream: stream.clone(),
                tombstoned: true,
            }),
            (StreamState::Missing, ExpectedRevision::NoStream) if info.has_metadata => Ok(false),
            (StreamState::Missing, _) => wrong,
            (_, ExpectedRevision::NoStream) => wrong,
            (StreamState::SoftDeleted, ExpectedRevision::Exact(r)) if Some(r) != info.head => wrong,
            (StreamState::SoftDeleted, _) => Ok(true),
            (StreamState::Live, _) => Ok(false),
        }
    }
}
