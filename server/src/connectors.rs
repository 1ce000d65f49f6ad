//! Connectors in this program: in a node beside its store, or in a process of their own.
//!
//! ```text
//!   daybook serve --connectors FILE       Running ── StoreSource, Store      http/connectors on the
//!                                                                           node's own listener
//!   daybook connectors run --config FILE  Running ── ClientSource, Client    Front: http/connectors,
//!                                                                           health and metrics
//! ```
//!
//! What a connector is, and what it promises: [`daybook_projections::connect`].
//!
//! INVARIANT: stopped before the store is closed, so that the places can still be written.

pub mod front;
pub mod metrics;

use std::sync::Arc;

use daybook_client::resilience::{Changes, Metrics as Resilience, Wiring};
use daybook_client::{Client, ExpectedRevision, NewEvent, RecordedEvent, Revision, StreamName};
use daybook_model::{Clock, Entropy, SystemTimer};
use daybook_projections::connect::{
    ConnectorSettings, Connectors, OverClient, OverStore, StartError, Streams, StreamsError,
};
use daybook_projections::source::ClientSource;
use daybook_store::Store;

use crate::readside::source::StoreSource;

/// Connectors that run. A clone is another handle.
pub type Running = Connectors<OwnStreams>;

/// Where connectors keep their own state: in the store they follow.
#[derive(Clone)]
pub enum OwnStreams {
    /// The store is in this process.
    Store(OverStore<Store>),
    /// The store is a server's.
    Client(OverClient),
}

impl Streams for OwnStreams {
    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        event: NewEvent,
    ) -> Result<Option<Revision>, StreamsError> {
        match self {
            OwnStreams::Store(streams) => streams.append(stream, expected, event).await,
            OwnStreams::Client(streams) => streams.append(stream, expected, event).await,
        }
    }

    async fn last(&self, stream: &StreamName) -> Result<Option<RecordedEvent>, StreamsError> {
        match self {
            OwnStreams::Store(streams) => streams.last(stream).await,
            OwnStreams::Client(streams) => streams.last(stream).await,
        }
    }

    async fn read(
        &self,
        stream: &StreamName,
        from: Revision,
        count: usize,
    ) -> Result<Vec<RecordedEvent>, StreamsError> {
        match self {
            OwnStreams::Store(streams) => streams.read(stream, from, count).await,
            OwnStreams::Client(streams) => streams.read(stream, from, count).await,
        }
    }
}

/// Starts connectors beside `store`; none if there are no settings. `resilience` counts their calls.
///
/// # Errors
/// [`StartError`] names the connector and the reason.
pub fn start(
    settings: Vec<ConnectorSettings>,
    store: &Store,
    (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
    resilience: Resilience,
) -> Result<Option<Running>, StartError> {
    if settings.is_empty() {
        return Ok(None);
    }
    let (timer, changes) = (Arc::new(SystemTimer), Changes::new());
    let source = StoreSource::new(store.clone(), timer.clone());
    let wiring = Wiring { clock, timer, entropy, metrics: resilience, changes };
    let streams = OwnStreams::Store(OverStore(store.clone()));
    Connectors::start(settings, source, streams, &wiring).map(Some)
}

/// Starts connectors that follow the server of `client`. Must be called within a runtime.
///
/// # Errors
/// [`StartError`] names the connector and the reason.
pub fn start_over(
    settings: Vec<ConnectorSettings>,
    client: &Client,
    wiring: &Wiring,
) -> Result<Running, StartError> {
    let streams = OwnStreams::Client(OverClient(client.clone()));
    Connectors::start(settings, ClientSource::new(client.clone()), streams, wiring)
}
