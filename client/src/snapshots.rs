//! Snapshots of aggregates, kept by the server beside their streams.
//!
//! A snapshot is a cache: the server may lose it at any time, and a reader that finds none replays
//! the stream. A server that keeps none at all (KurrentDB, or a Daybook before it had them) is one
//! that always loses them: nothing here fails because of it, and it is asked once only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daybook_model::{Revision, Snapshot, StreamName};
use daybook_wire::proto::snapshots as proto;
use daybook_wire::proto::snapshots::snapshots_client::SnapshotsClient;
use tonic::Status;

use crate::connection::{Client, Route};
use crate::error::CallError;

/// The snapshots of a server. A clone is another handle; it shares what is known of the server.
#[derive(Clone, Debug)]
pub struct Snapshots {
    client: Client,
    /// Whether the server has said that it keeps none.
    absent: Arc<AtomicBool>,
}

impl Client {
    /// The snapshots of the server. Each new handle asks anew whether it keeps any.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        Snapshots { client: self.clone(), absent: Arc::default() }
    }
}

impl Snapshots {
    /// Keeps `snapshot`, in place of one of the same revision. Of a stream's snapshots the server
    /// keeps the last few.
    ///
    /// # Errors
    /// [`CallError`]: one is that the stream has no such event, another that the snapshot is too
    /// large.
    pub async fn put(&self, stream: &StreamName, snapshot: &Snapshot) -> Result<(), CallError> {
        if self.absent() {
            return Ok(());
        }
        let Snapshot { revision, schema, kind, data } = snapshot.clone();
        let request = proto::PutSnapshotRequest {
            stream: stream.as_str().to_owned(),
            snapshot: Some(proto::Snapshot { revision: revision.0, schema, r#type: kind, data }),
        };
        let answer = self.calls().put(self.client.call(request)).await;
        self.taken(answer).map(|_| ())
    }

    /// The newest snapshot of `stream`, or the newest at or before a revision.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn latest(
        &self,
        stream: &StreamName,
        at_or_before: Option<Revision>,
    ) -> Result<Option<Snapshot>, CallError> {
        if self.absent() {
            return Ok(None);
        }
        let request = proto::GetLatestSnapshotRequest {
            stream: stream.as_str().to_owned(),
            at_or_before: at_or_before.map(|revision| revision.0),
        };
        let answer = self.calls().get_latest(self.client.call(request)).await;
        let found = self.taken(answer)?.and_then(|answer| answer.snapshot);
        Ok(found.map(|found| Snapshot {
            revision: Revision(found.revision),
            schema: found.schema,
            kind: found.r#type,
            data: found.data,
        }))
    }

    /// Forgets all snapshots of `stream`.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn delete(&self, stream: &StreamName) -> Result<(), CallError> {
        if self.absent() {
            return Ok(());
        }
        let request = proto::DeleteSnapshotsRequest { stream: stream.as_str().to_owned() };
        let answer = self.calls().delete(self.client.call(request)).await;
        self.taken(answer).map(|_| ())
    }

    fn absent(&self) -> bool {
        self.absent.load(Ordering::Relaxed)
    }

    fn calls(&self) -> SnapshotsClient<Route> {
        SnapshotsClient::new(self.client.channel())
    }

    /// An answer; none from a server that keeps no snapshots.
    fn taken<T>(&self, answer: Result<tonic::Response<T>, Status>) -> Result<Option<T>, CallError> {
        match answer {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) => match self.client.call_error(&status) {
                CallError::Unsupported { reason } => {
                    self.absent.store(true, Ordering::Relaxed);
                    let server = self.client.server();
                    tracing::info!(server, reason, "the server keeps no snapshots");
                    Ok(None)
                }
                error => Err(error),
            },
        }
    }
}
