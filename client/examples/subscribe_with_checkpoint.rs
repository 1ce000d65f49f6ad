//! Follows `$all`, and goes on where it stopped when it is started again.
//!
//! The checkpoint is kept in a file beside the program. A real consumer keeps it in the same
//! transaction as the effect of the event: then each event has its effect exactly once.
//!
//! Run it beside a server: `cargo run -p daybook-client --example subscribe_with_checkpoint`.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use daybook_client::{
    Checkpoint, Client, Delivery, EventFilter, FilterTarget, Pattern, RecordedEvent, SubscribeAll,
    SubscribeFrom,
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

/// Gives the events of all accounts to `each`, from the checkpoint at `path` on, until it breaks.
pub(crate) async fn follow(
    client: &Client,
    path: &Path,
    mut each: impl FnMut(&RecordedEvent) -> ControlFlow<()>,
) -> Result<(), Box<dyn Error>> {
    let from = load(path).map_or(SubscribeFrom::Start, SubscribeFrom::After);
    let filter = EventFilter {
        target: FilterTarget::StreamName,
        pattern: Pattern::Prefixes(vec!["account-".to_owned()]),
    };
    let query = SubscribeAll { from, filter: Some(filter), ..SubscribeAll::default() };
    let mut subscription = client.subscribe_all(query).await?;
    loop {
        match subscription.next().await? {
            Delivery::Event(resolved) => {
                let next = resolved.event.as_ref().map_or(ControlFlow::Continue(()), &mut each);
                if let Some(checkpoint) = resolved.checkpoint {
                    keep(path, checkpoint)?;
                }
                if next.is_break() {
                    return Ok(());
                }
            }
            // Nothing wanted for a while: do not look at that part again after a restart.
            Delivery::Checkpoint(checkpoint) => keep(path, checkpoint)?,
            // What follows is live, or not any more.
            Delivery::CaughtUp | Delivery::FellBehind => {}
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::args().nth(1).unwrap_or("daybook://127.0.0.1:2113".to_owned());
    let path = std::env::temp_dir().join("daybook-example.checkpoint");
    println!("following from {:?}; stop with Ctrl-C", load(&path));
    let print = |event: &RecordedEvent| {
        println!("{} {}@{}", event.event_type, event.revision, event.stream);
        ControlFlow::Continue(())
    };
    follow(&Client::new(&server)?, &path, print).await
}
