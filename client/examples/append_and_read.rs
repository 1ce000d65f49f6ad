//! Appends two events to a new stream, expects the second not to be overtaken, and reads them back.
//!
//! Run it beside a server: `cargo run -p daybook-client --example append_and_read`.

use daybook_client::{
    AppendError, Client, ContentType, ExpectedRevision, NewEvent, ReadStream, StreamName,
};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

fn event(event_type: &str, data: &str) -> NewEvent {
    NewEvent {
        #[expect(clippy::disallowed_methods, reason = "an example is not the core")]
        id: Uuid::new_v4(),
        event_type: event_type.to_owned(),
        content_type: ContentType::Json,
        metadata: "".into(),
        data: data.to_owned().into(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or("daybook://127.0.0.1:2113".to_owned());
    let client = Client::new(&server)?;
    let opened = event("AccountOpened", r#"{"owner":"Ada"}"#);
    let stream = StreamName::new(&format!("account-{}", opened.id))?;

    let first = client.append(&stream, ExpectedRevision::NoStream, vec![opened]).await?;
    println!("opened at revision {:?}", first.revision);

    // Whoever read the stream up to here may go on; whoever did not is told so.
    let expected = first.revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
    let deposited = event("MoneyDeposited", r#"{"amount":"12.50","currency":"EUR"}"#);
    client.append(&stream, expected, vec![deposited.clone()]).await?;

    // The same again with the same id is recognised: a retry is safe.
    let again = client.append(&stream, expected, vec![deposited]).await?;
    println!("a retry is answered with revision {:?}", again.revision);

    // Another event at the same place is not.
    match client.append(&stream, expected, vec![event("MoneyDeposited", "{}")]).await {
        Err(AppendError::WrongExpectedRevision { actual, .. }) => {
            println!("overtaken: the stream is at revision {actual:?}");
        }
        other => println!("unexpected: {other:?}"),
    }

    let mut events = client.read_stream(ReadStream::new(stream)).await?;
    while let Some(resolved) = events.try_next().await? {
        if let Some(event) = resolved.event {
            let data = String::from_utf8_lossy(&event.data);
            println!("{} {} {data}", event.revision, event.event_type);
        }
    }
    Ok(())
}
