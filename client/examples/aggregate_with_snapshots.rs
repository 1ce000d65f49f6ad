//! A shopping cart as an aggregate over the network: commands are decided here, events are kept by
//! the server, and so are the snapshots that spare a replay from the beginning.
//!
//! Run it beside a server: `cargo run -p daybook-client --example aggregate_with_snapshots`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use daybook_client::{
    Aggregate, Change, Client, Context, EventView, ExecuteError, NetworkStore, Repository,
    RepositoryOptions, Step, StreamName, Task, Timestamp, Transaction, Undecodable, Upcasters,
};
use daybook_model::{SystemClock, SystemEntropy, SystemTimer};
use serde_json::{Value, json};
use uuid::Uuid;

/// What is in the cart. Its default is the cart that nobody has touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cart {
    pub(crate) items: BTreeMap<String, u64>,
    pub(crate) ordered: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Add { article: String, quantity: u64 },
    Order,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    ItemAdded { article: String, quantity: u64 },
    Ordered,
}

/// Why a cart refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Empty,
    AlreadyOrdered,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Empty => "the cart is empty; add something first",
            Refusal::AlreadyOrdered => "the cart is ordered; begin another one",
        })
    }
}

impl Error for Refusal {}

impl Aggregate for Cart {
    const KIND: &'static str = "cart";
    const SCHEMA: u32 = 1;
    /// The first version had one item per event, without its quantity.
    const UPCASTERS: Upcasters = Upcasters::new(&[Step {
        event_type: "ItemAdded",
        from: 1,
        change: Change::Json(|data| {
            data.insert("quantity".to_owned(), 1.into());
            Ok(())
        }),
    }]);
    type Command = Command;
    type Event = Event;
    type Rejection = Refusal;

    fn decide(&self, command: &Command, _now: Timestamp) -> Result<Vec<Event>, Refusal> {
        match command {
            _ if self.ordered => Err(Refusal::AlreadyOrdered),
            Command::Add { article, quantity } => {
                Ok(vec![Event::ItemAdded { article: article.clone(), quantity: *quantity }])
            }
            Command::Order if self.items.is_empty() => Err(Refusal::Empty),
            Command::Order => Ok(vec![Event::Ordered]),
        }
    }

    fn evolve(&mut self, event: &Event) {
        match event {
            Event::ItemAdded { article, quantity } => {
                *self.items.entry(article.clone()).or_default() += quantity;
            }
            Event::Ordered => self.ordered = true,
        }
    }

    fn encode(event: &Event) -> (&'static str, Bytes) {
        match event {
            Event::ItemAdded { article, quantity } => {
                let data = json!({ "article": article, "quantity": quantity });
                ("ItemAdded", data.to_string().into())
            }
            Event::Ordered => ("Ordered", "{}".into()),
        }
    }

    fn decode(event: EventView<'_>) -> Result<Event, Undecodable> {
        let wrong = |reason: &str| Undecodable {
            event_type: event.event_type.to_owned(),
            reason: reason.to_owned(),
        };
        let data: Value = serde_json::from_slice(event.data).map_err(|_| wrong("no JSON"))?;
        match (event.event_type, data["article"].as_str(), data["quantity"].as_u64()) {
            ("ItemAdded", Some(article), Some(quantity)) => {
                Ok(Event::ItemAdded { article: article.to_owned(), quantity })
            }
            ("Ordered", ..) => Ok(Event::Ordered),
            _ => Err(wrong("unknown, or a field is missing")),
        }
    }

    fn to_snapshot(&self) -> Bytes {
        json!({ "items": self.items, "ordered": self.ordered }).to_string().into()
    }

    fn from_snapshot(data: &[u8]) -> Option<Cart> {
        let data: Value = serde_json::from_slice(data).ok()?;
        let items = data["items"].as_object()?.iter();
        Some(Cart {
            items: items.filter_map(|(k, v)| Some((k.clone(), v.as_u64()?))).collect(),
            ordered: data["ordered"].as_bool()?,
        })
    }
}

/// All carts, with a snapshot every ten events.
pub(crate) fn carts(client: &Client) -> Repository<Cart, NetworkStore> {
    let (clock, timer) = (Arc::new(SystemClock::new()), Arc::new(SystemTimer));
    let options = RepositoryOptions { snapshot_every: 10, ..RepositoryOptions::default() };
    Repository::new(client.store(), clock, timer, Arc::new(SystemEntropy), options)
}

/// `command`, named by `id`: the same task again is recognised, and not done twice.
pub(crate) fn task(id: Uuid, command: Command) -> Task<Cart> {
    let digest = Uuid::new_v5(&id, format!("{command:?}").as_bytes()).into_bytes();
    let transaction = Transaction { id, digest };
    Task { command, transaction, context: Some(Context::correlated(id)), record: None }
}

/// Fills a cart and orders it; gives what another process finds in it.
pub(crate) async fn run(client: &Client) -> Result<Cart, Box<dyn Error>> {
    #[expect(clippy::disallowed_methods, reason = "an example is not the core")]
    let new_id = Uuid::new_v4;
    let carts = carts(client);
    let stream = StreamName::new(&format!("cart-{}", new_id()))?;

    let empty = carts.execute(&stream, task(new_id(), Command::Order)).await;
    assert!(matches!(empty, Err(ExecuteError::Rejected(Refusal::Empty))));

    for article in ["tea", "cup", "tea"].iter().cycle().take(24) {
        let add = Command::Add { article: (*article).to_owned(), quantity: 2 };
        let id = new_id();
        carts.execute(&stream, task(id, add.clone())).await?;
        // As after an answer that was lost.
        let again = carts.execute(&stream, task(id, add)).await?;
        assert!(again.repeated);
    }
    carts.execute(&stream, task(new_id(), Command::Order)).await?;

    // Another process begins with the newest snapshot and replays what came after it.
    let elsewhere = self::carts(client);
    let (cart, _revision) = elsewhere.load(&stream).await?.ok_or("the cart is gone")?;
    Ok(cart)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::args().nth(1).unwrap_or("daybook://127.0.0.1:2113".to_owned());
    println!("{:?}", run(&Client::new(&server)?).await?);
    Ok(())
}
