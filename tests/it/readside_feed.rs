//! A projection that follows a server over the network: what it is sent, and how it knows where it is.

use std::sync::Arc;

use daybook_model::{EventView, Position};
use daybook_projections::query::Order;
use daybook_projections::sled::SledBackend;
use daybook_projections::source::ClientSource;
use daybook_projections::{
    ApplyError, Backend, Changes, Column, Host, Interest, Kind, Projection, Query, Seams, Table,
    Value,
};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::PATIENCE;
use crate::support::http::post;
use crate::support::node::Server;

const NAME: &str = "counts";

static TABLES: [Table; 1] = [Table {
    name: "counts",
    columns: &[
        Column { name: "type", kind: Kind::Text },
        Column { name: "count", kind: Kind::Integer },
    ],
    key_len: 1,
    indexes: &[],
}];

/// Counts the events it is interested in, by type.
struct Counts(Interest);

impl Projection for Counts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    fn interest(&self) -> Interest {
        self.0.clone()
    }

    fn apply(&self, event: EventView<'_>, changes: &mut Changes<'_>) -> Result<(), ApplyError> {
        let key = [Value::from(event.event_type)];
        let count = match changes.get(&TABLES[0], &key)?.map(Vec::as_slice) {
            Some([_, Value::Integer(count)]) => count + 1,
            _ => 1,
        };
        let [name] = key;
        changes.put(&TABLES[0], vec![name, count.into()])
    }
}

/// A server, and a projection of it in tables of its own.
struct Stage {
    server: Server,
    backend: SledBackend,
    interest: Interest,
}

impl Stage {
    fn host(&self) -> Host {
        let source = ClientSource::new(self.server.client.clone());
        let counts = Arc::new(Counts(self.interest.clone()));
        Host::start(&source, &self.backend, vec![counts], &Seams::system())
    }

    /// Appends an event; its position.
    async fn append(&self, stream: &str, event_type: &str) -> Position {
        let body = json!({ "type": event_type, "data": {} }).to_string();
        let path = format!("/v1/streams/{stream}");
        let appended = post(self.server.address(), &path, body).await;
        assert_eq!(appended.status, 200, "{appended:?}");
        Position(appended.json()["position"].as_u64().expect("a position"))
    }

    /// Waits until the tables reflect `position`, as whoever reads its own writes does.
    async fn there(&self, position: Position, what: &str) {
        let there = tokio::time::timeout(PATIENCE, self.backend.wait(NAME, position)).await;
        there.unwrap_or_else(|_| panic!("{what} was not passed in time")).expect("it waits");
    }

    async fn counted(&self) -> Vec<Vec<Value>> {
        let query = Query {
            projection: NAME,
            table: &TABLES[0],
            index: None,
            prefix: Vec::new(),
            filters: Vec::new(),
            order: Order::Ascending,
            after: None,
            limit: 10,
        };
        self.backend.query(&query).await.expect("a page").rows
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_the_server_filters_comes_by_what_it_does_not_want() {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    for (streams, types) in
        [(&["wanted-"][..], &[][..]), (&[], &["Wanted"]), (&["wanted-"], &["Wanted"])]
    {
        let (data, own) = (TempDir::new().expect("a place"), TempDir::new().expect("a place"));
        let server = Server::start(data.path()).await;
        let backend = SledBackend::open(own.path(), Uuid::from_u128(7));
        let interest = Interest { streams: list(streams), types: list(types) };
        let what = format!("{interest:?}");
        let stage = Stage { server, backend, interest };
        let mut wanted = 0_i64;
        let mut last = Position(0);
        for _ in 0..30 {
            stage.append("wanted-1", "Wanted").await;
            last = stage.append("other-1", "Other").await;
            wanted += 1;
        }
        // History, which ends with what is not wanted.
        let host = stage.host();
        stage.there(last, &format!("{what}: history")).await;
        // Live, one after the other, in both orders.
        for round in 0..5 {
            let position = stage.append("other-2", "Other").await;
            stage.there(position, &format!("{what}: live, unwanted, {round}")).await;
            let position = stage.append("wanted-2", "Wanted").await;
            stage.there(position, &format!("{what}: live, wanted, {round}")).await;
            wanted += 1;
        }
        host.stop().await;
        // A restart in whose history nothing is wanted.
        let position = stage.append("other-3", "Other").await;
        let host = stage.host();
        stage.there(position, &format!("{what}: after a restart")).await;
        assert_eq!(stage.counted().await, [["Wanted".into(), wanted.into()]], "{what}");
        host.stop().await;
        let Stage { server, backend, .. } = stage;
        backend.close();
        server.stop().await;
    }
}
