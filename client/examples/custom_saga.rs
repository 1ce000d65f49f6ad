//! A saga of one's own: it follows the orders, reserves stock for each, and confirms or rejects it.
//!
//! ```text
//!   order-7   OrderPlaced ──> saga ── Reserve, named by the event's id ──> stock-tea   Reserved
//!             OrderConfirmed <──┘ expects that nobody has answered yet
//! ```
//!
//! A subscription delivers at least once: a saga that stops between two steps sees its last event
//! again. So each step can be repeated: a command is named by the event it is a reaction to, and the
//! store recognises it; an answer expects the order to be where the event left it. The checkpoint
//! only spares work, and needs no care.
//!
//! Run it beside a server: `cargo run -p daybook-client --example custom_saga`.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use daybook_client::{
    Aggregate, AppendError, Checkpoint, Client, Context, Delivery, EventFilter, EventView,
    ExecuteError, ExpectedRevision, FilterTarget, NetworkStore, NewEvent, Pattern, RecordedEvent,
    Repository, RepositoryOptions, StreamName, SubscribeAll, SubscribeFrom, Task, Timestamp,
    Transaction, Undecodable,
};
use daybook_model::{EventStore as _, SystemClock, SystemEntropy, SystemTimer};
use serde_json::{Value, json};
use uuid::Uuid;

/// How much of one article there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stock {
    pub(crate) free: u64,
}

/// So many pieces come in, or are set aside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pieces {
    Supplied(u64),
    Reserved(u64),
}

/// There is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutOfStock {
    free: u64,
}

impl fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "only {} in stock", self.free)
    }
}

impl Error for OutOfStock {}

impl Aggregate for Stock {
    const KIND: &'static str = "stock";
    const SCHEMA: u32 = 1;
    type Command = Pieces;
    type Event = Pieces;
    type Rejection = OutOfStock;

    fn decide(&self, command: &Pieces, _now: Timestamp) -> Result<Vec<Pieces>, OutOfStock> {
        match *command {
            Pieces::Reserved(pieces) if pieces > self.free => Err(OutOfStock { free: self.free }),
            happened => Ok(vec![happened]),
        }
    }

    fn evolve(&mut self, event: &Pieces) {
        match *event {
            Pieces::Supplied(pieces) => self.free += pieces,
            Pieces::Reserved(pieces) => self.free -= pieces,
        }
    }

    fn encode(event: &Pieces) -> (&'static str, Bytes) {
        let (name, pieces) = match event {
            Pieces::Supplied(pieces) => ("Supplied", pieces),
            Pieces::Reserved(pieces) => ("Reserved", pieces),
        };
        (name, json!({ "pieces": pieces }).to_string().into())
    }

    fn decode(event: EventView<'_>) -> Result<Pieces, Undecodable> {
        let data: Value = serde_json::from_slice(event.data).unwrap_or_default();
        match (event.event_type, data["pieces"].as_u64()) {
            ("Supplied", Some(pieces)) => Ok(Pieces::Supplied(pieces)),
            ("Reserved", Some(pieces)) => Ok(Pieces::Reserved(pieces)),
            _ => Err(Undecodable {
                event_type: event.event_type.to_owned(),
                reason: "unknown, or without 'pieces'".to_owned(),
            }),
        }
    }

    fn to_snapshot(&self) -> Bytes {
        self.free.to_string().into()
    }

    fn from_snapshot(data: &[u8]) -> Option<Stock> {
        std::str::from_utf8(data).ok()?.parse().ok().map(|free| Stock { free })
    }
}

/// The saga, and what it does things with.
pub(crate) struct Fulfilment {
    client: Client,
    stock: Repository<Stock, NetworkStore>,
}

impl Fulfilment {
    pub(crate) fn new(client: &Client) -> Fulfilment {
        let (clock, timer) = (Arc::new(SystemClock::new()), Arc::new(SystemTimer));
        let options = RepositoryOptions::default();
        let stock = Repository::new(client.store(), clock, timer, Arc::new(SystemEntropy), options);
        Fulfilment { client: client.clone(), stock }
    }

    /// Takes in so many pieces of `article`.
    pub(crate) async fn supply(&self, article: &str, pieces: u64) -> Result<(), Box<dyn Error>> {
        #[expect(clippy::disallowed_methods, reason = "an example is not the core")]
        let id = Uuid::new_v4();
        self.stock.execute(&stock(article)?, task(id, Pieces::Supplied(pieces), None)).await?;
        Ok(())
    }

    /// Follows the orders from `from` on, until it has seen so many placed.
    pub(crate) async fn follow(
        &self,
        from: SubscribeFrom<Checkpoint>,
        mut orders: u64,
    ) -> Result<Option<Checkpoint>, Box<dyn Error>> {
        let filter = EventFilter {
            target: FilterTarget::StreamName,
            pattern: Pattern::Prefixes(vec!["order-".to_owned()]),
        };
        let query = SubscribeAll { from, filter: Some(filter), ..SubscribeAll::default() };
        let mut subscription = self.client.subscribe_all(query).await?;
        let mut seen = None;
        while orders > 0 {
            let Delivery::Event(resolved) = subscription.next().await? else { continue };
            seen = resolved.checkpoint;
            if let Some(event) = resolved.event.filter(|event| event.event_type == "OrderPlaced") {
                self.react(&event).await?;
                orders -= 1;
            }
        }
        Ok(seen)
    }

    /// Answers one order.
    async fn react(&self, placed: &RecordedEvent) -> Result<(), Box<dyn Error>> {
        // Answered before the saga was stopped: there is nothing left to do.
        if self.stock.store().head(&placed.stream).await? != Some(placed.revision) {
            return Ok(());
        }
        let order: Value = serde_json::from_slice(&placed.data)?;
        let article = order["article"].as_str().ok_or("an order without an article")?;
        let pieces = order["pieces"].as_u64().ok_or("an order without pieces")?;
        let context = Context::after(&placed.view(), &SystemEntropy);
        let reserve = task(placed.id, Pieces::Reserved(pieces), Some(context.clone()));
        let (answer, data) = match self.stock.execute(&stock(article)?, reserve).await {
            Ok(_) => ("OrderConfirmed", json!({})),
            Err(ExecuteError::Rejected(why)) => {
                ("OrderRejected", json!({ "reason": why.to_string() }))
            }
            Err(error) => return Err(error.into()),
        };
        let id = Uuid::new_v5(&placed.id, answer.as_bytes());
        let answer = NewEvent::json(id, answer, data.to_string());
        let expected = ExpectedRevision::Exact(placed.revision);
        let order = self.client.within(&context);
        match order.append(&placed.stream, expected, vec![answer]).await {
            // Somebody else answered meanwhile, for example the customer who cancelled it. A real
            // saga would set the pieces free again.
            Ok(_) | Err(AppendError::WrongExpectedRevision { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn stock(article: &str) -> Result<StreamName, Box<dyn Error>> {
    Ok(StreamName::new(&format!("stock-{article}"))?)
}

fn task(id: Uuid, command: Pieces, context: Option<Context>) -> Task<Stock> {
    let digest = Uuid::new_v5(&id, format!("{command:?}").as_bytes()).into_bytes();
    Task { command, transaction: Transaction { id, digest }, context, record: None }
}

/// Places an order.
pub(crate) async fn place(
    client: &Client,
    article: &str,
    pieces: u64,
) -> Result<StreamName, Box<dyn Error>> {
    #[expect(clippy::disallowed_methods, reason = "an example is not the core")]
    let id = Uuid::new_v4();
    let stream = StreamName::new(&format!("order-{id}"))?;
    let data = json!({ "article": article, "pieces": pieces }).to_string();
    let placed = NewEvent::json(id, "OrderPlaced", data);
    client.append(&stream, ExpectedRevision::NoStream, vec![placed]).await?;
    Ok(stream)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::args().nth(1).unwrap_or("daybook://127.0.0.1:2113".to_owned());
    let client = Client::new(&server)?;
    let saga = Fulfilment::new(&client);
    saga.supply("tea", 10).await?;
    for pieces in [4, 5, 6] {
        println!("{} wants {pieces}", place(&client, "tea", pieces).await?);
    }
    println!("answering orders; stop with Ctrl-C");
    saga.follow(SubscribeFrom::Start, u64::MAX).await?;
    Ok(())
}
