//! Appends two events to a new stream, expects the second not to be overtaken, and reads them back.
//!
//! Run it beside a server: `cargo run -p daybook-client --example append_and_read`.

use std::error::Error;

use daybook_client::{
    AppendError, Client, ExpectedRevision, NewEvent, ReadStream, Revision, StreamName,
};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

/// What was read, and where the stream was when a third event came too late.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) lines: Vec<String>,
    pub(crate) overtaken_at: Option<Revision>,
}

fn event(event_type: &str, data: &str) -> NewEvent {
    #[expect(clippy::disallowed_methods, reason = "an example is not the core")]
    let id = Uuid::new_v4();
    NewEvent::json(id, event_type, data.to_owned())
}

pub(crate) async fn run(client: &Client) -> Result<Read, Box<dyn Error>> {
    let opened = event("AccountOpened", r#"{"owner":"Ada"}"#);
    let stream = StreamName::new(&format!("account-{}", opened.id))?;
    let first = client.append(&stream, ExpectedRevision::NoStream, vec![opened]).await?;

    // Whoever read the stream up to here may go on; whoever did not is told so.
    let expected = first.revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
    let deposited = event("MoneyDeposited", r#"{"amount":"12.50","currency":"EUR"}"#);
    let second = client.append(&stream, expected, vec![deposited.clone()]).await?;

    // The same again with the same id is recognised: a retry is safe.
    let again = client.append(&stream, expected, vec![deposited]).await?;
    assert_eq!(again, second);

    // Another event at the same place is not.
    let late = event("MoneyDeposited", "{}");
    let overtaken_at = match client.append(&stream, expected, vec![late]).await {
        Err(AppendError::WrongExpectedRevision { actual, .. }) => actual,
        Err(error) => return Err(error.into()),
        Ok(_) => None,
    };

    let mut lines = Vec::new();
    let mut events = client.read_stream(ReadStream::new(stream)).await?;
    while let Some(resolved) = events.try_next().await? {
        if let Some(event) = resolved.event {
            let data = String::from_utf8_lossy(&event.data);
            lines.push(format!("{} {} {data}", event.revision, event.event_type));
        }
    }
    Ok(Read { lines, overtaken_at })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::args().nth(1).unwrap_or("daybook://127.0.0.1:2113".to_owned());
    let Read { lines, overtaken_at } = run(&Client::new(&server)?).await?;
    println!("{}", lines.join("\n"));
    println!("overtaken: the stream was at revision {overtaken_at:?}");
    Ok(())
}
