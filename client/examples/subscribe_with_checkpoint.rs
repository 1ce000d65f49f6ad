//! Follows `$all`, and goes on where it stopped when it is started again.
//!
//! The checkpoint is kept in a file beside the program. A real consumer keeps it in the same
//! transaction as the effect of the event: then each event has its effect exactly once.
//!
//! Run it beside a server: `cargo run -p daybook-client --example subscribe_with_checkpoint`.

use std::path::Path;

use daybook_client::{
    Checkpoint, Client, Delivery, EventFilter, FilterTarget, Pattern, SubscribeAll, SubscribeFrom,
};

#[expect(clippy::disallowed_methods, reason = "an example is not the core")]
fn load(path: &Path) -> Option<Checkpoint> {
    std::fs::read(path).ok().and_then(|text| String::from_utf8_lossy(&text).trim().parse().ok())
}

#[expect(clippy::disallowed_methods, reason = "an example is not the core")]
fn keep(path: &Path, checkpoint: Checkpoint) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, checkpoint.to_string())?;
    std::fs::rename(new, path)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or("daybook://127.0.0.1:2113".to_owned());
    let path = std::env::temp_dir().join("daybook-example.checkpoint");
    let from = load(&path).map_or(SubscribeFrom::Start, SubscribeFrom::After);
    println!("following from {from:?}; stop with Ctrl-C");

    let client = Client::new(&server)?;
    let filter = EventFilter {
        target: FilterTarget::StreamName,
        pattern: Pattern::Prefixes(vec!["account-".to_owned()]),
    };
    let query = SubscribeAll { from, filter: Some(filter), ..SubscribeAll::default() };
    let mut subscription = client.subscribe_all(query).await?;
    loop {
        match subscription.next().await? {
            Delivery::Event(resolved) => {
                if let Some(event) = &resolved.event {
                    println!("{} {}@{}", event.event_type, event.revision, event.stream);
                }
                if let Some(checkpoint) = resolved.checkpoint {
                    keep(&path, checkpoint)?;
                }
            }
            // Nothing wanted for a while: do not look at that part again after a restart.
            Delivery::Checkpoint(checkpoint) => keep(&path, checkpoint)?,
            Delivery::CaughtUp => println!("what follows is live"),
            Delivery::FellBehind => {}
        }
    }
}
