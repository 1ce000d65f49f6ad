//! The doors through which clients reach the store and its snapshots.
//!
//! ```text
//!   gRPC, HTTP ─> Admitted ─> Door ─ may the caller? ─┬─ reads, subscriptions ──> store
//!                             │            └─ no: Denied └─ writes ─ reserved? ─ no ─> store
//!                             └─ snapshots                               └─ yes: Reserved
//!   ledger, views over it ──────────────────────────────────────────────────────> store
//! ```
//!
//! A door is its caller's: each act on a stream is asked of `security::rules` first. That costs
//! nothing where nobody is asked and for administrators, and a look into the store's cache of
//! metadata for all others.
//!
//! Streams that have an [`Owner`](daybook_model::Owner) hold what was decided by rules: those of the
//! ledger money that was moved, those of users who may call. What a client could append to them,
//! delete of them, or put beside them as a snapshot, would be believed.
//!
//! INVARIANT: a request never holds a bare [`Store`](daybook_store::Store), nor the store of
//! snapshots, so that no new route can forget to ask. A door therefore lends neither; it repeats
//! what clients may do. What says nothing of any stream is in [`Works`], which needs no caller.

mod guarded;
mod snapshots;
mod works;

use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use daybook_model::limits::APPEND_STREAMS_MAX;
use daybook_model::stream::described_by;
use daybook_model::{
    Act, EventStore as _, ExpectedRevision, Filter, Position, ReadFailed, Revision, StreamName,
};
use daybook_store::{
    AllFrom, AllReader, Append, AppendError, Appended, Deletion, Direction, EndedState, EventTypes,
    IndexKey, IndexReader, Lane as Turns, Page, ReadAll, ReadError, ReadStream, StreamInfo,
    StreamReader, SubscribeFrom, Subscription, SubscriptionFilter,
};
use uuid::Uuid;

use guarded::Guarded;
pub use snapshots::{SnapshotDoor, SnapshotRefused};
pub use works::Works;

use crate::security::acl::{self, ALL, SETTINGS_STREAM};
use crate::security::audit::{ACTION_SIZE_MAX, Asked};
use crate::security::rights::{Refused, tenants};
use crate::security::rules::Rules;
use crate::security::{Caller, Proof};

/// The store, as one caller may use it. A clone is another handle.
#[derive(Clone)]
pub struct Door {
    works: Works,
    rules: Arc<Rules>,
    caller: Caller,
    peer: Option<SocketAddr>,
}

impl Deref for Door {
    type Target = Works;

    fn deref(&self) -> &Works {
        &self.works
    }
}

/// The order among appends that are in flight together; see [`Door::append_in`].
#[derive(Debug, Default)]
pub struct Lane {
    turns: Turns,
    /// Whose caller is being asked for.
    asking: tokio::sync::Mutex<()>,
}

impl Door {
    /// Who uses it.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Asks whether the caller may do `act` with `stream`; `$all` is the whole log.
    ///
    /// # Errors
    /// [`ReadError::Denied`] if not.
    pub async fn ask(&self, act: Act, stream: &str) -> Result<(), ReadError> {
        self.rules.ask(&self.store, self.asked(), (act, stream)).await
    }

    /// Whether the caller may do `act` with `stream`: for what is offered, not for what is done. A
    /// stream of the server's own is not written through any door.
    ///
    /// # Errors
    /// [`ReadError`] if the stream's lists cannot be read.
    pub async fn may(&self, act: Act, stream: &StreamName) -> Result<bool, ReadError> {
        let changes = !matches!(act, Act::Read | Act::ReadMetadata);
        if changes && stream.owner().is_some() {
            return Ok(false);
        }
        self.rules.allow(&self.store, &self.caller, (act, stream.as_str())).await
    }

    /// Records that the caller was not let do `what`.
    pub fn denied(&self, what: &str, why: &Refused) {
        self.rules.audit().denied(Asked { what, ..self.asked() }, &why.to_string());
    }

    /// Records that the caller did `what`, for which it needed no leave.
    pub fn did(&self, what: &str) {
        if self.caller.proof() != Proof::Unasked {
            self.rules.audit().done(Asked { what, ..self.asked() });
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked { caller: &self.caller, peer: self.peer, what: "" }
    }

    /// As [`append`](daybook_store::Store::append).
    ///
    /// # Errors
    /// [`AppendError::Reserved`] if it names a stream that is the ledger's, or another owner's;
    /// [`AppendError::Denied`] if the caller may not write one.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.may_append(&append).await?;
        let settings = sets(&append);
        let action = self.action(&append)?;
        let appended = self.recorded(action, pin!(self.store.append(append))).await?;
        self.look_again(settings).await;
        Ok(appended)
    }

    /// As [`append_checked`](daybook_store::Store::append_checked).
    ///
    /// # Errors
    /// As [`Door::append`].
    pub async fn append_checked(
        &self,
        append: Append,
        ended: Vec<(u32, EndedState)>,
    ) -> Result<Appended, AppendError> {
        self.may_append(&append).await?;
        let settings = sets(&append);
        let action = self.action(&append)?;
        let appending = pin!(self.store.append_checked(append, ended));
        let appended = self.recorded(action, appending).await?;
        self.look_again(settings).await;
        Ok(appended)
    }

    /// As [`append_in`](daybook_store::Store::append_in). Callers are asked for one after the other, too, so that an append
    /// whose stream's lists are on the disk is not overtaken.
    ///
    /// # Errors
    /// As [`Door::append`].
    pub async fn append_in(&self, lane: &Lane, append: Append) -> Result<Appended, AppendError> {
        let mut asking = None;
        if !acl::is_above(&self.caller) {
            asking = Some(lane.asking.lock().await);
        }
        self.may_append(&append).await?;
        let settings = sets(&append);
        let action = self.action(&append)?;
        let mut appending = pin!(self.store.append_in(&lane.turns, append));
        // What is recorded first is rare: who comes behind it waits until it is done.
        if asking.is_some() && action.is_none() {
            // Its first poll gives it its turn.
            if let Poll::Ready(appended) = futures_util::poll!(appending.as_mut()) {
                return appended;
            }
            drop(asking.take());
        }
        let appended = self.recorded(action, appending).await?;
        self.look_again(settings).await;
        Ok(appended)
    }

    /// As [`delete`](daybook_store::Store::delete).
    ///
    /// # Errors
    /// As [`Door::append`].
    pub async fn delete(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        how: Deletion,
    ) -> Result<Option<Position>, AppendError> {
        guarded::owned(stream)?;
        self.ask(Act::Delete, stream.as_str()).await.map_err(refused)?;
        self.guard(guarded::delete(stream, how))?;
        let action = self.deletion(stream, how);
        let deleted = self.recorded(action, pin!(self.store.delete(stream, expected, how))).await?;
        self.look_again(stream.as_str() == SETTINGS_STREAM).await;
        Ok(deleted)
    }

    async fn may_append(&self, append: &Append) -> Result<(), AppendError> {
        append.streams.iter().try_for_each(|part| guarded::owned(&part.stream))?;
        // The store refuses more, and asking for each would take as long.
        if !acl::is_above(&self.caller) && append.streams.len() <= APPEND_STREAMS_MAX {
            for (part, written) in append.streams.iter().zip(written(append)) {
                // What is only checked says where a stream is, and no more: that is a read.
                let act = if written { Act::Write } else { Act::Read };
                self.ask(act, part.stream.as_str()).await.map_err(refused)?;
            }
        }
        self.guard(guarded::append(append))
    }

    /// Refuses what nobody may do.
    fn guard(&self, found: Option<Guarded<'_>>) -> Result<(), AppendError> {
        let Some((act, stream, hint)) = found else { return Ok(()) };
        Err(self.rules.denied(self.asked(), (act, stream), hint).into())
    }

    /// What is to be recorded of an append: each stream of it that decides about others, in the
    /// order in which they are written.
    ///
    /// # Errors
    /// [`AppendError::Malformed`] if these are more than a record has room for.
    fn action(&self, append: &Append) -> Result<Option<String>, AppendError> {
        let decides = |name: &str| name == SETTINGS_STREAM || described_by(name).is_some();
        if self.caller.proof() == Proof::Unasked
            || !append.streams.iter().any(|part| decides(part.stream.as_str()))
        {
            return Ok(None);
        }
        let mut action = String::new();
        for (part, written) in append.streams.iter().zip(written(append)) {
            let name = part.stream.as_str();
            if written && decides(name) {
                let (act, name) = acl::meant(Act::Write, name);
                let apart = if action.is_empty() { "" } else { ", " };
                action.push_str(&format!("{apart}{act} {name}"));
            }
        }
        if action.len() > ACTION_SIZE_MAX {
            let reason = "it sets more streams' metadata than one record of the audit log names; \
                          split it";
            return Err(AppendError::Malformed { reason });
        }
        Ok(Some(action).filter(|action| !action.is_empty()))
    }

    /// What is to be recorded of a deletion.
    fn deletion(&self, stream: &StreamName, how: Deletion) -> Option<String> {
        let for_ever = if how == Deletion::Tombstone { " for ever" } else { "" };
        let is_asked = self.caller.proof() != Proof::Unasked;
        is_asked.then(|| format!("{} {stream}{for_ever}", Act::Delete))
    }

    /// Does `work`, which is recorded as `action`, if it is one. Pinned by its caller, so that there
    /// is one room for it and not one for each way through here.
    async fn recorded<T>(
        &self,
        action: Option<String>,
        work: Pin<&mut impl Future<Output = Result<T, AppendError>>>,
    ) -> Result<T, AppendError> {
        match action {
            None => work.await,
            // In a box: it is rare, and every append has room for it.
            Some(what) => Box::pin(self.acted(what, work)).await,
        }
    }

    async fn acted<T>(
        &self,
        what: String,
        work: Pin<&mut impl Future<Output = Result<T, AppendError>>>,
    ) -> Result<T, AppendError> {
        let mut action = self.rules.audit().action(Asked { what: &what, ..self.asked() });
        action.begin().await?;
        let done = work.await;
        action.end(done.as_ref().err().map_or("done".to_owned(), AppendError::to_string));
        done
    }

    /// Takes the defaults for streams from the store, if they were written.
    async fn look_again(&self, settings: bool) {
        if settings && let Err(error) = Box::pin(self.rules.reload(&self.store)).await {
            tracing::error!(%error, "cannot read $settings; what held before holds on");
        }
    }

    /// As [`stream_info`](daybook_store::Store::stream_info).
    ///
    /// # Errors
    /// As there, and if the caller may not read it.
    pub async fn stream_info(&self, stream: &StreamName) -> Result<StreamInfo, ReadError> {
        self.ask(Act::Read, stream.as_str()).await?;
        self.store.stream_info(stream).await
    }

    /// As the store's [`daybook_model::EventStore::transaction`].
    ///
    /// # Errors
    /// As there, and if the caller may not read the stream.
    pub async fn transaction(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> Result<Result<Option<Revision>, ReadFailed>, ReadError> {
        self.ask(Act::Read, stream.as_str()).await?;
        Ok(self.store.transaction(stream, transaction).await)
    }

    /// As [`streams`](daybook_store::Store::streams). Whoever may list all names may read `$streams`; a tenant's caller may
    /// list those of its tenant.
    ///
    /// # Errors
    /// As there, and if the caller may not list them.
    pub async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        let own = self.caller.proof() != Proof::None
            && tenants(&self.caller).any(|tenant| prefix.starts_with(tenant));
        if !own {
            self.ask(Act::ReadMetadata, "$streams").await?;
        }
        self.store.streams(prefix, after, limit).await
    }

    /// As [`event_types`](daybook_store::Store::event_types): whoever may read the log may.
    ///
    /// # Errors
    /// As there, and if the caller may not read the log.
    pub async fn event_types(&self) -> Result<EventTypes, ReadError> {
        self.ask(Act::Read, ALL).await?;
        self.store.event_types().await
    }

    /// As [`read_stream`](daybook_store::Store::read_stream).
    ///
    /// # Errors
    /// As there, and if the caller may not read it.
    pub async fn read_stream(&self, query: ReadStream) -> Result<StreamReader, ReadError> {
        self.ask(Act::Read, query.stream.as_str()).await?;
        self.store.read_stream(query).await
    }

    /// As [`read_all`](daybook_store::Store::read_all).
    ///
    /// # Errors
    /// If the caller may not read that.
    pub async fn read_all(&self, query: ReadAll) -> Result<AllReader, ReadError> {
        let filter = self.of_log(query.filter).await?;
        Ok(self.store.read_all(ReadAll { filter, ..query }))
    }

    /// As [`read_event`](daybook_store::Store::read_event).
    ///
    /// # Errors
    /// As there, and if the caller may not read the stream.
    pub async fn read_event(
        &self,
        stream: &StreamName,
        revision: Revision,
    ) -> Result<Option<Page>, ReadError> {
        self.ask(Act::Read, stream.as_str()).await?;
        self.store.read_event(stream, revision).await
    }

    /// As [`read_index`](daybook_store::Store::read_index).
    ///
    /// # Errors
    /// If the caller may not read the stream that lists the same.
    pub async fn read_index(
        &self,
        key: &IndexKey,
        from: u64,
        direction: Direction,
        count: u64,
    ) -> Result<IndexReader, ReadError> {
        self.ask_for(key).await?;
        Ok(self.store.read_index(key, from, direction, count))
    }

    /// As [`read_all_of`](daybook_store::Store::read_all_of).
    ///
    /// # Errors
    /// As [`Door::read_index`].
    pub async fn read_all_of(
        &self,
        key: &IndexKey,
        from: AllFrom,
        direction: Direction,
        count: u64,
    ) -> Result<AllReader, ReadError> {
        self.ask_for(key).await?;
        Ok(self.store.read_all_of(key, from, direction, count))
    }

    /// As [`subscribe_all_of`](daybook_store::Store::subscribe_all_of).
    ///
    /// # Errors
    /// As [`Door::read_index`].
    pub async fn subscribe_all_of(
        &self,
        key: &IndexKey,
        from: SubscribeFrom,
        checkpoint_interval: u64,
    ) -> Result<Subscription, ReadError> {
        self.ask_for(key).await?;
        Ok(self.store.subscribe_all_of(key, from, checkpoint_interval))
    }

    /// As [`subscribe_stream`](daybook_store::Store::subscribe_stream).
    ///
    /// # Errors
    /// If the caller may not read it.
    pub async fn subscribe_stream(
        &self,
        stream: &StreamName,
        from: SubscribeFrom,
    ) -> Result<Subscription, ReadError> {
        self.ask(Act::Read, stream.as_str()).await?;
        Ok(self.store.subscribe_stream(stream, from))
    }

    /// As [`subscribe_all`](daybook_store::Store::subscribe_all).
    ///
    /// # Errors
    /// If the caller may not read that.
    pub async fn subscribe_all(
        &self,
        from: SubscribeFrom,
        filter: Option<SubscriptionFilter>,
    ) -> Result<Subscription, ReadError> {
        let interval = filter.as_ref().map_or(u64::MAX, |filter| filter.checkpoint_interval);
        let filter = self.of_log(filter.map(|filter| filter.filter)).await?;
        let filter =
            filter.map(|filter| SubscriptionFilter { filter, checkpoint_interval: interval });
        Ok(self.store.subscribe_all(from, filter))
    }

    async fn ask_for(&self, key: &IndexKey) -> Result<(), ReadError> {
        if acl::is_above(&self.caller) {
            return Ok(());
        }
        self.ask(Act::Read, &acl::stream_of(key)).await
    }

    /// What of the log the caller may read of what `wanted` wants: all of it, without what is the
    /// administrators' alone; or, of a tenant, nothing unless it lies within.
    async fn of_log(&self, wanted: Option<Arc<Filter>>) -> Result<Option<Arc<Filter>>, ReadError> {
        if acl::is_above(&self.caller) {
            return Ok(wanted);
        }
        let own: Vec<&str> = tenants(&self.caller).collect();
        if own.is_empty() || self.caller.proof() == Proof::None {
            self.ask(Act::Read, ALL).await?;
        } else if !wanted.as_ref().is_some_and(|wanted| wanted.lies_within(&own)) {
            let hint = "a tenant's caller filters by prefixes of stream names within its tenant";
            return Err(self.rules.denied(self.asked(), (Act::Read, ALL), hint).into());
        }
        Ok(Some(Arc::new(Filter::sparing_secrets(wanted))))
    }
}

/// Whether an append sets the defaults for streams.
fn sets(append: &Append) -> bool {
    append.streams.iter().any(|part| part.stream.as_str() == SETTINGS_STREAM)
}

/// That a caller may not read is why it may not append.
fn refused(error: ReadError) -> AppendError {
    match error {
        ReadError::Denied(denied) => AppendError::Denied(denied),
        error => AppendError::Read { reason: error.to_string() },
    }
}

/// Which of its streams an append writes; the others it only checks.
fn written(append: &Append) -> Vec<bool> {
    let mut written = vec![false; append.streams.len()];
    for (stream, _) in &append.events {
        if let Some(written) = written.get_mut(*stream as usize) {
            *written = true;
        }
    }
    written
}
