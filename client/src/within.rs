//! Calls made within a context: a correlation, a cause, a trace.
//!
//! ```text
//!   Context ── within ──┬── traceparent, tracestate ──────────> headers of the call
//!                       └── $correlationId, $causationId,
//!                           traceparent, tracestate ──────────> metadata of each event
//! ```
//!
//! A context is a value that is handed over; a call that is given none carries none. For the
//! events that an aggregate's command makes, give it with the command: [`crate::Task::context`].

use daybook_model::trace::{TRACEPARENT, TRACESTATE};
use daybook_model::{Context, ExpectedRevision, NewEvent, StreamName, TraceContext};
use tonic::Request;
use tonic::metadata::MetadataMap;

use crate::append::Appended;
use crate::connection::Client;
use crate::error::{AppendError, ReadError};
use crate::event::Checkpoint;
use crate::read::{Events, ReadAll, ReadStream};

/// A [`Client`] whose calls, and the events it appends, are part of a [`Context`].
#[derive(Clone, Debug)]
pub struct Within {
    client: Client,
    context: Context,
}

impl Client {
    /// This client, within `context`.
    ///
    /// ```no_run
    /// use daybook_client::{Client, Context, ExpectedRevision, NewEvent, RecordedEvent, StreamName};
    /// use daybook_model::SystemEntropy;
    ///
    /// # async fn example(client: Client, cause: RecordedEvent, reaction: NewEvent)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// // It belongs to what its cause belongs to, and says what caused it.
    /// let context = Context::after(&cause.view(), &SystemEntropy);
    /// let stream = StreamName::new("shipment-7")?;
    /// client.within(&context).append(&stream, ExpectedRevision::Any, vec![reaction]).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn within(&self, context: &Context) -> Within {
        Within { client: self.clone(), context: context.clone() }
    }
}

impl Within {
    /// As [`Client::append`]; the context is added to each event's metadata, where an event does
    /// not say otherwise itself.
    ///
    /// # Errors
    /// As there, and [`daybook_model::InvalidEvent::MetadataNotObject`].
    pub async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        mut events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        for event in &mut events {
            self.context.add_to(event)?;
        }
        self.client.append_traced(stream, expected, events, self.trace()).await
    }

    /// As [`Client::read_stream`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_stream(&self, query: ReadStream) -> Result<Events, ReadError> {
        self.client.read_stream_traced(query, self.trace()).await
    }

    /// As [`Client::read_all`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_all(&self, query: ReadAll) -> Result<Events, ReadError> {
        self.client.read_all_traced(query, self.trace()).await
    }

    /// As [`Client::delete`].
    ///
    /// # Errors
    /// As there.
    pub async fn delete(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
    ) -> Result<Option<Checkpoint>, AppendError> {
        self.client.delete_traced(stream, expected, self.trace()).await
    }

    /// As [`Client::tombstone`].
    ///
    /// # Errors
    /// As there.
    pub async fn tombstone(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
    ) -> Result<Option<Checkpoint>, AppendError> {
        self.client.tombstone_traced(stream, expected, self.trace()).await
    }

    fn trace(&self) -> Option<&TraceContext> {
        self.context.trace.as_ref()
    }
}

/// `request` as a part of `trace`.
pub(crate) fn traced<T>(mut request: Request<T>, trace: Option<&TraceContext>) -> Request<T> {
    if let Some(trace) = trace {
        put(request.metadata_mut(), trace);
    }
    request
}

fn put(headers: &mut MetadataMap, trace: &TraceContext) {
    // Both are printable ASCII: a context that is not is never made.
    if let Ok(parent) = trace.to_string().parse() {
        headers.insert(TRACEPARENT, parent);
    }
    if let Some(state) = trace.tracestate().and_then(|state| state.parse().ok()) {
        headers.insert(TRACESTATE, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_into_the_headers_and_none_goes_nowhere() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (state, keys) in [(Some("a=1,b=2"), 2), (None, 1)] {
            let trace = TraceContext::parse(parent, state).expect("valid");
            let request = traced(Request::new(()), Some(&trace));
            assert_eq!(request.metadata().get(TRACEPARENT).expect("a header"), parent);
            let found = request.metadata().get(TRACESTATE);
            assert_eq!(found.map(|value| value.to_str().expect("ASCII")), state);
            assert_eq!(request.metadata().len(), keys);
        }
        assert!(traced(Request::new(()), None).metadata().is_empty());
    }
}
