//! Projections: the five that every server of this protocol has. Protocol section 10.
//!
//! Those that users write are JavaScript, and not run here: Create says so.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::BytesMut;
use daybook_model::Position;
use daybook_wire::InvalidRequest;
use daybook_wire::frame::put_message;
use daybook_wire::proto::projections as proto;
use daybook_wire::proto::projections::create_req::options::Mode as CreateMode;
use daybook_wire::proto::projections::statistics_req::options::Mode;
use daybook_wire::proto::projections::statistics_resp::Details;
use daybook_wire::proto::shared::Empty;
use futures_util::stream;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::Status;

use super::call::{self, Messages};
use super::status;
use super::streams::shown_position;
use crate::builtin::{Builtin, NAMES, Running};
use crate::node::Context;

/// Answers Create.
pub async fn create(State(_context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::CreateReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        let name = match options.mode.ok_or_else(|| missing("mode"))? {
            // KurrentDB's handler fails on it, and clients know the text.
            CreateMode::Continuous(asked) if asked.track_emitted_streams && !asked.emit_enabled => {
                return Err(Status::unknown("Exception was thrown by handler."));
            }
            CreateMode::Continuous(asked) => asked.name,
            CreateMode::Transient(asked) => asked.name,
            CreateMode::OneTime(_) => String::new(),
        };
        if Builtin::named(&name).is_ok() {
            return Err(Status::already_exists(format!("Projection '{name}' exists already")));
        }
        let refused: Result<proto::CreateResp, Status> = Err(Status::unimplemented(
            "projections in JavaScript are not run by this server; read $ce-…, $et-… and $bc-… \
             streams, or follow $all with a filter",
        ));
        refused
    })
    .await
}

/// Answers Update: none of the five can be.
pub async fn update(State(_context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::UpdateReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        let refused: Result<proto::UpdateResp, Status> = Err(unchangeable(&options.name));
        refused
    })
    .await
}

/// Answers Delete: none of the five can be.
pub async fn delete(State(_context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::DeleteReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        let refused: Result<proto::DeleteResp, Status> = Err(unchangeable(&options.name));
        refused
    })
    .await
}

/// Answers Enable.
pub async fn enable(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::EnableReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        set(&context, &options.name, Running::Running).await?;
        Ok(proto::EnableResp {})
    })
    .await
}

/// Answers Disable, and abort, which is Disable without a checkpoint.
pub async fn disable(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::DisableReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        let how = if options.write_checkpoint { Running::Stopped } else { Running::Aborted };
        set(&context, &options.name, how).await?;
        Ok(proto::DisableResp {})
    })
    .await
}

/// Answers Reset: what the index holds begins at the first event already.
pub async fn reset(State(_context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::ResetReq| async move {
        named(&asked.options.ok_or_else(no_options)?.name)?;
        Ok(proto::ResetResp {})
    })
    .await
}

/// Answers State: they have none.
pub async fn state(State(_context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::StateReq| async move {
        named(&asked.options.ok_or_else(no_options)?.name)?;
        Ok(proto::StateResp { state: Some(nothing()) })
    })
    .await
}

/// Answers Result: they have none.
pub async fn result(State(_context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::ResultReq| async move {
        named(&asked.options.ok_or_else(no_options)?.name)?;
        Ok(proto::ResultResp { result: Some(nothing()) })
    })
    .await
}

/// Answers RestartSubsystem: there is nothing that could have to begin again.
pub async fn restart(State(_context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |Empty {}| async { Ok(Empty {}) }).await
}

/// Answers Statistics.
pub async fn statistics(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    let deadline = call::deadline(request.headers());
    let mut messages = Messages::new(request.into_body());
    let told = call::within(deadline, async {
        let asked: proto::StatisticsReq = call::decoded(messages.only().await?)?;
        let mode = asked.options.ok_or_else(no_options)?.mode.ok_or_else(|| missing("mode"))?;
        let names = match mode {
            Mode::Name(name) => vec![named(&name)?],
            Mode::All(_) | Mode::Continuous(_) => NAMES.to_vec(),
            Mode::Transient(_) | Mode::OneTime(_) => Vec::new(),
        };
        let mut answers = BytesMut::new();
        for name in names {
            let running = context.builtin().running(name).await;
            let running = running.map_err(|failed| status::builtin(&failed))?;
            let details = Some(details(&context, name, running));
            put_message(&proto::StatisticsResp { details }, &mut answers);
        }
        Ok(answers.freeze())
    });
    match told.await {
        Err(refused) => call::refused(&refused),
        Ok(answers) => {
            let answers = (!answers.is_empty()).then_some(Ok(answers));
            call::streamed(deadline, stream::iter(answers))
        }
    }
}

/// What is true of one that is the index: it is at the end of the log, and nothing waits.
fn details(context: &Context, name: &str, running: Running) -> Details {
    let store = context.store();
    let last = Position(store.committed().0.saturating_sub(1));
    let number = shown_position(store, last);
    let place = format!("C:{number}/P:{number}");
    Details {
        effective_name: name.to_owned(),
        name: name.to_owned(),
        status: running.as_str().to_owned(),
        mode: "Continuous".to_owned(),
        position: place.clone(),
        last_checkpoint: place,
        progress: 100.0,
        ..Details::default()
    }
}

async fn set(context: &Context, name: &str, running: Running) -> Result<(), Status> {
    context.builtin().set(name, running).await.map_err(|failed| status::builtin(&failed))
}

fn named(name: &str) -> Result<&'static str, Status> {
    Builtin::named(name).map_err(|failed| status::builtin(&failed))
}

fn unchangeable(name: &str) -> Status {
    match named(name) {
        Ok(name) => Status::failed_precondition(format!(
            "projection '{name}' is a part of the server: it can be stopped and started, and \
             nothing else"
        )),
        Err(missing) => missing,
    }
}

fn nothing() -> Value {
    Value { kind: Some(Kind::StructValue(Struct::default())) }
}

fn no_options() -> Status {
    missing("options")
}

fn missing(field: &'static str) -> Status {
    status::invalid(&InvalidRequest::Missing { field })
}
