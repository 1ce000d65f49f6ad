//! The ceiling over gRPC: a server with the same service and the same messages, that writes what it
//! gets to the raw log and checks, numbers, indexes and serves nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use daybook_model::{ContentType, NewEvent};
use daybook_wire::proto::streams::append_req::Content;
use daybook_wire::proto::streams::append_resp::success::{CurrentRevisionOption, PositionOption};
use daybook_wire::proto::streams::streams_server::{Streams, StreamsServer};
use daybook_wire::proto::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq,
    ReadResp, TombstoneReq, TombstoneResp, append_resp, batch_append_resp,
};
use daybook_wire::{UuidForm, proto, uuid};
use futures_util::{Stream, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::raw::RawLog;

/// Bytes of one message; what the real server takes.
const MESSAGE_SIZE_MAX: usize = daybook_model::limits::MESSAGE_SIZE_MAX;
/// Appends of one call without an answer.
const WINDOW: usize = 1024;

/// The server that `daybook bench` measures a store's server by.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT")]
    listen: SocketAddr,

    /// The raw file
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

/// Serves until it is killed.
///
/// # Errors
/// If it cannot listen, or the file cannot be made.
pub fn run(args: LimitArgs) -> anyhow::Result<ExitCode> {
    let log = RawLog::create(&args.file)?;
    crate::cli::runtime(None)?.block_on(async move {
        let listener = TcpListener::bind(args.listen).await.context("cannot listen")?;
        let incoming = TcpListenerStream::new(listener).inspect(|stream| {
            if let Ok(stream) = stream {
                let _ = stream.set_nodelay(true);
            }
        });
        let service = StreamsServer::new(Limit { log }).max_decoding_message_size(MESSAGE_SIZE_MAX);
        tonic::transport::Server::builder()
            .initial_stream_window_size(1024 * 1024)
            .initial_connection_window_size(16 * 1024 * 1024)
            .add_service(service)
            .serve_with_incoming(incoming)
            .await
            .context("cannot serve")?;
        Ok(ExitCode::SUCCESS)
    })
}

struct Limit {
    log: RawLog,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Streams for Limit {
    type ReadStream = Answers<ReadResp>;
    type BatchAppendStream = Answers<BatchAppendResp>;

    async fn append(
        &self,
        request: Request<Streaming<AppendReq>>,
    ) -> Result<Response<AppendResp>, Status> {
        let mut messages = request.into_inner();
        let mut events = Vec::with_capacity(1);
        while let Some(message) = messages.message().await? {
            if let Some(Content::ProposedMessage(event)) = message.content {
                events.push(new_event(
                    event.id,
                    event.metadata,
                    event.custom_metadata,
                    event.data,
                )?);
            }
        }
        let number = self.log.append(events).await.map_err(failed)?;
        let position = append_resp::Position { commit_position: number, prepare_position: number };
        let success = append_resp::Success {
            current_revision_option: Some(CurrentRevisionOption::CurrentRevision(number)),
            position_option: Some(PositionOption::Position(position)),
        };
        Ok(Response::new(AppendResp { result: Some(append_resp::Result::Success(success)) }))
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        let mut messages = request.into_inner();
        let log = self.log.clone();
        let (sender, written) = mpsc::channel(WINDOW);
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                let events = message.proposed_messages.into_iter();
                let events = events
                    .map(|e| new_event(e.id, e.metadata, e.custom_metadata, e.data))
                    .collect::<Result<Vec<_>, Status>>();
                let Ok(answer) = events.and_then(|events| log.send(events).map_err(failed)) else {
                    return;
                };
                let identifier = message.options.and_then(|options| options.stream_identifier);
                if sender.send((message.correlation_id, identifier, answer)).await.is_err() {
                    return;
                }
            }
        });
        // The raw log answers in order, so waiting in order costs nothing.
        let answers =
            ReceiverStream::new(written).then(|(correlation, identifier, answer)| async {
                let number = answer.await.map_err(|_| Status::aborted("the raw log has failed"))?;
                Ok(batch_answer(correlation, identifier, number))
            });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn read(&self, _: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        Err(Status::unimplemented("the limit serves no reads"))
    }

    async fn delete(&self, _: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        Err(Status::unimplemented("the limit deletes nothing"))
    }

    async fn tombstone(&self, _: Request<TombstoneReq>) -> Result<Response<TombstoneResp>, Status> {
        Err(Status::unimplemented("the limit deletes nothing"))
    }
}

fn batch_answer(
    correlation_id: Option<proto::shared::Uuid>,
    stream_identifier: Option<proto::shared::StreamIdentifier>,
    number: u64,
) -> BatchAppendResp {
    use batch_append_resp::success::{CurrentRevisionOption, PositionOption};
    let position =
        proto::shared::AllStreamPosition { commit_position: number, prepare_position: number };
    let success = batch_append_resp::Success {
        current_revision_option: Some(CurrentRevisionOption::CurrentRevision(number)),
        position_option: Some(PositionOption::Position(position)),
    };
    BatchAppendResp {
        correlation_id: correlation_id
            .or(Some(uuid::to_proto(::uuid::Uuid::nil(), UuidForm::Text))),
        stream_identifier,
        expected_stream_position: None,
        result: Some(batch_append_resp::Result::Success(success)),
    }
}

fn new_event(
    id: Option<proto::shared::Uuid>,
    mut metadata: std::collections::BTreeMap<String, String>,
    custom_metadata: bytes::Bytes,
    data: bytes::Bytes,
) -> Result<NewEvent, Status> {
    let id = uuid::from_proto(id.as_ref(), "id");
    Ok(NewEvent {
        id: id.map_err(|error| Status::invalid_argument(error.to_string()))?,
        event_type: metadata.remove(daybook_wire::event::TYPE).unwrap_or_default(),
        content_type: ContentType::Binary,
        metadata: custom_metadata,
        data,
    })
}

fn failed(error: anyhow::Error) -> Status {
    Status::aborted(error.to_string())
}
