//! A payment provider that breaks down, behind a guard; what its circuit breaker does becomes events
//! in a stream, where others can read when and why it was not asked.
//!
//! Run it beside a server: `cargo run -p daybook-client --example breaker_with_events`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use daybook_client::resilience::{
    BreakerSettings, CircuitBreaker, Guard, GuardError, Retry, RetrySettings, State, Subscription,
    Told, Verdict, Wiring, classify,
};
use daybook_client::{AppendError, Client, ExpectedRevision, ReadStream, StreamName};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

/// Why the provider made no payment.
#[derive(Debug)]
enum ProviderError {
    Declined,
    Down,
}

impl std::fmt::Display for ProviderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ProviderError::Declined => "there is no cover",
            ProviderError::Down => "the provider is down",
        })
    }
}

/// A provider that is down from its 3rd to its 7th call, and declines its 2nd.
#[derive(Default)]
struct Provider {
    calls: AtomicU32,
}

impl Provider {
    async fn pay(&self) -> Result<&'static str, ProviderError> {
        match self.calls.fetch_add(1, Ordering::Relaxed) + 1 {
            2 => Err(ProviderError::Declined),
            3..=7 => Err(ProviderError::Down),
            _ => Ok("paid"),
        }
    }
}

/// Writes every change of state to `stream`, until the circuit is closed again.
async fn record(
    mut changes: Subscription,
    client: Client,
    stream: StreamName,
) -> Result<(), GuardError<AppendError>> {
    // The way to the store has a guard of its own. An append is safe to try again: the event's id
    // is the change's, so a repetition is recognised.
    let breaker = CircuitBreaker::new("event-store", BreakerSettings::default(), Wiring::system());
    let guard = Guard::new(breaker.expect("the defaults are valid"))
        .classify(classify::append)
        .timeout(Duration::from_secs(5))
        .retry(Retry::new(RetrySettings::default()).expect("the defaults are valid"), |error| {
            matches!(error, GuardError::Inner(error) if classify::may_append_again(error))
                || matches!(error, GuardError::TimedOut { .. })
        });
    while let Some(told) = changes.next().await {
        let Told::Changed(change) = told else { continue };
        let event = change.to_event();
        let append = || client.append(&stream, ExpectedRevision::Any, vec![event.clone()]);
        guard.call(append).await?;
        if change.to == State::Closed {
            break;
        }
    }
    Ok(())
}

/// The example; answers with the types of the events that it wrote.
///
/// # Errors
/// Whatever goes wrong between here and the server.
pub(crate) async fn run(client: &Client) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    #[expect(clippy::disallowed_methods, reason = "an example is not the core")]
    let stream = StreamName::new(&format!("circuit-provider-{}", Uuid::new_v4()))?;

    let settings = BreakerSettings {
        failures_in_a_row: Some(3),
        successes_to_close: 2,
        open_first: Duration::from_millis(50),
        ..BreakerSettings::default()
    };
    let wiring = Wiring::system();
    let changes = wiring.changes.subscribe();
    let recording = tokio::spawn(record(changes, client.clone(), stream.clone()));

    let guard = Guard::new(CircuitBreaker::new("provider", settings, wiring)?)
        .timeout(Duration::from_secs(1))
        .classify(|error| match error {
            ProviderError::Declined => Verdict::Success, // it works, and says no
            ProviderError::Down => Verdict::Failure,
        });
    let provider = Provider::default();
    let mut paid = 0;
    while paid < 3 {
        match guard.call(|| provider.pay()).await {
            Ok(_) => paid += 1,
            Err(GuardError::Open(refusal)) => {
                println!("not asked: {refusal}");
                tokio::time::sleep(refusal.retry_after.unwrap_or_default()).await;
            }
            Err(error) => println!("asked: {error}"),
        }
    }
    recording.await??;

    let mut recorded = Vec::new();
    let mut events = client.read_stream(ReadStream::new(stream)).await?;
    while let Some(resolved) = events.try_next().await? {
        if let Some(event) = resolved.event {
            println!("{} {} {}", event.revision, event.event_type, event.data.escape_ascii());
            recorded.push(event.event_type);
        }
    }
    Ok(recorded)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or("daybook://127.0.0.1:2113".to_owned());
    run(&Client::new(&server)?).await?;
    Ok(())
}
