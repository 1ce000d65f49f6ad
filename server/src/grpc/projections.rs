//! Projections: the five that every server of this protocol has, and those that users write.
//! Protocol section 10.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::BytesMut;
use daybook_model::Position;
use daybook_script::SOURCE_SIZE_MAX;
use daybook_wire::InvalidRequest;
use daybook_wire::frame::put_message;
use daybook_wire::proto::projections as proto;
use daybook_wire::proto::projections::create_req::options::Mode as CreateMode;
use daybook_wire::proto::projections::statistics_req::options::Mode as Which;
use daybook_wire::proto::projections::statistics_resp::Details;
use daybook_wire::proto::projections::update_req::options::EmitOption;
use daybook_wire::proto::shared::Empty;
use futures_util::stream;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tonic::Status;

use super::call::{self, ASKED_SIZE_MAX, Messages};
use super::status;
use super::streams::shown_position;
use crate::builtin::{Builtin, NAMES, Running};
use crate::node::{Admitted, Context};
use crate::scripted::figures::Figures;
use crate::scripted::host::{Halt, Show};
use crate::scripted::spec::{Mode, Spec};
use crate::scripted::{Change, Leavings};

/// Bytes of a message that brings a program: it, and what it is called.
const PROGRAM_MESSAGE_SIZE_MAX: usize = SOURCE_SIZE_MAX + ASKED_SIZE_MAX;

/// Answers Create.
pub async fn create(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary_up_to(PROGRAM_MESSAGE_SIZE_MAX, request, |asked: proto::CreateReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        let spec = match options.mode.ok_or_else(|| missing("mode"))? {
            // KurrentDB's handler fails on it, and clients know the text.
            CreateMode::Continuous(asked) if asked.track_emitted_streams && !asked.emit_enabled => {
                return Err(Status::unknown("Exception was thrown by handler."));
            }
            CreateMode::Continuous(asked) => Spec {
                emit_enabled: asked.emit_enabled,
                track_emitted_streams: asked.track_emitted_streams,
                ..Spec::new(asked.name, Mode::Continuous, options.query)
            },
            CreateMode::Transient(asked) => Spec::new(asked.name, Mode::Transient, options.query),
            CreateMode::OneTime(_) => Spec::new(String::new(), Mode::OneTime, options.query),
        };
        context.is_about(&spec.name);
        if Builtin::named(&spec.name).is_ok() {
            return Err(Status::already_exists(format!(
                "Projection '{}' exists already",
                spec.name
            )));
        }
        let created = context.scripted().create(spec).await;
        created.map_err(|failed| status::projection(&failed))?;
        Ok(proto::CreateResp {})
    })
    .await
}

/// Answers Update.
pub async fn update(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary_up_to(PROGRAM_MESSAGE_SIZE_MAX, request, |asked: proto::UpdateReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&options.name);
        changeable(&options.name)?;
        let emit_enabled = match options.emit_option {
            Some(EmitOption::EmitEnabled(enabled)) => Some(enabled),
            Some(EmitOption::NoEmitOptions(_)) | None => None,
        };
        let change = Change { query: options.query, emit_enabled };
        let updated = context.scripted().update(&options.name, change).await;
        updated.map_err(|failed| status::projection(&failed))?;
        Ok(proto::UpdateResp {})
    })
    .await
}

/// Answers Delete.
pub async fn delete(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::DeleteReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&options.name);
        changeable(&options.name)?;
        let leavings = Leavings {
            emitted_streams: options.delete_emitted_streams,
            results: options.delete_state_stream,
            checkpoints: options.delete_checkpoint_stream,
        };
        let deleted = context.scripted().delete(&options.name, leavings).await;
        deleted.map_err(|failed| status::projection(&failed))?;
        Ok(proto::DeleteResp {})
    })
    .await
}

/// Answers Enable.
pub async fn enable(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::EnableReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&options.name);
        if Builtin::named(&options.name).is_ok() {
            set(&context, &options.name, Running::Running).await?;
        } else {
            let enabled = context.scripted().enable(&options.name).await;
            enabled.map_err(|failed| status::projection(&failed))?;
        }
        Ok(proto::EnableResp {})
    })
    .await
}

/// Answers Disable, and abort, which is Disable without a checkpoint.
pub async fn disable(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::DisableReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&options.name);
        if Builtin::named(&options.name).is_ok() {
            let how = if options.write_checkpoint { Running::Stopped } else { Running::Aborted };
            set(&context, &options.name, how).await?;
        } else {
            let how = if options.write_checkpoint { Halt::Save } else { Halt::Drop };
            let disabled = context.scripted().disable(&options.name, how).await;
            disabled.map_err(|failed| status::projection(&failed))?;
        }
        Ok(proto::DisableResp {})
    })
    .await
}

/// Answers Reset. What the index holds begins at the first event already.
pub async fn reset(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::ResetReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&options.name);
        if Builtin::named(&options.name).is_err() {
            let reset = context.scripted().reset(&options.name).await;
            reset.map_err(|failed| status::projection(&failed))?;
        }
        Ok(proto::ResetResp {})
    })
    .await
}

/// Answers State.
pub async fn state(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::StateReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        let state = shown(&context, &options.name, &options.partition, Show::State).await?;
        Ok(proto::StateResp { state: Some(state) })
    })
    .await
}

/// Answers Result.
pub async fn result(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::ResultReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        let result = shown(&context, &options.name, &options.partition, Show::Result).await?;
        Ok(proto::ResultResp { result: Some(result) })
    })
    .await
}

/// Answers RestartSubsystem.
pub async fn restart(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |Empty {}| async move {
        let restarted = context.scripted().restart().await;
        restarted.map_err(|failed| status::projection(&failed))?;
        Ok(Empty {})
    })
    .await
}

/// Answers Statistics.
pub async fn statistics(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    let deadline = call::end(request.headers());
    let mut messages = Messages::up_to(ASKED_SIZE_MAX, request);
    let told = call::within(deadline, async {
        let asked: proto::StatisticsReq = call::decoded(messages.only().await?)?;
        let which = asked.options.ok_or_else(no_options)?.mode.ok_or_else(|| missing("mode"))?;
        let mut answers = BytesMut::new();
        for details in chosen(&context, which).await? {
            put_message(&proto::StatisticsResp { details: Some(details) }, &mut answers);
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

/// How those that were asked for stand.
async fn chosen(context: &Context, which: Which) -> Result<Vec<Details>, Status> {
    let mode = match which {
        Which::Name(name) if Builtin::named(&name).is_err() => {
            let found = context.scripted().figures(&name);
            let (spec, figures) = found.map_err(|failed| status::projection(&failed))?;
            return Ok(vec![details(context, &spec, &figures)]);
        }
        Which::Name(name) => {
            let name = Builtin::named(&name).map_err(|failed| status::builtin(&failed))?;
            return Ok(vec![builtin_details(context, name).await?]);
        }
        Which::All(_) => None,
        Which::Continuous(_) => Some(Mode::Continuous),
        Which::Transient(_) => Some(Mode::Transient),
        Which::OneTime(_) => Some(Mode::OneTime),
    };
    let mut chosen = Vec::new();
    if mode.is_none_or(|mode| mode == Mode::Continuous) {
        for name in NAMES {
            chosen.push(builtin_details(context, name).await?);
        }
    }
    let users = context.scripted().list();
    let users = users.iter().filter(|(spec, _)| mode.is_none_or(|mode| mode == spec.mode));
    chosen.extend(users.map(|(spec, figures)| details(context, spec, figures)));
    Ok(chosen)
}

/// What is true of one that is the index: it is at the end of the log, and nothing waits.
async fn builtin_details(context: &Context, name: &str) -> Result<Details, Status> {
    let running = context.builtin().running(name).await;
    let running = running.map_err(|failed| status::builtin(&failed))?;
    let place = place(context, context.works().committed());
    Ok(Details {
        effective_name: name.to_owned(),
        name: name.to_owned(),
        status: running.as_str().to_owned(),
        mode: "Continuous".to_owned(),
        position: place.clone(),
        last_checkpoint: place,
        progress: 100.0,
        ..Details::default()
    })
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a per cent")]
fn details(context: &Context, spec: &Spec, figures: &Figures) -> Details {
    let committed = context.works().committed().0;
    let part = figures.place.min(committed) as f64 / committed.max(1) as f64;
    let progress = if figures.caught_up { 100.0 } else { part * 100.0 };
    Details {
        version: spec.version,
        epoch: spec.epoch,
        effective_name: spec.name.clone(),
        writes_in_progress: i32::from(figures.unwritten > 0),
        partitions_cached: signed(figures.partitions),
        status: figures.status.as_str().to_owned(),
        state_reason: figures.reason.clone(),
        name: spec.name.clone(),
        mode: spec.mode.as_str().to_owned(),
        position: place(context, Position(figures.place)),
        progress: progress as f32,
        last_checkpoint: place(context, Position(figures.saved)),
        events_processed_after_restart: figures.handled.cast_signed(),
        buffered_events: i64::from(signed(figures.buffered)),
        write_pending_events_before_checkpoint: signed(figures.unwritten),
        ..Details::default()
    }
}

fn signed(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The last event before `end`, as clients name places in the log.
fn place(context: &Context, end: Position) -> String {
    let number = shown_position(context.works(), Position(end.0.saturating_sub(1)));
    format!("C:{number}/P:{number}")
}

async fn set(context: &Context, name: &str, running: Running) -> Result<(), Status> {
    context.builtin().set(name, running).await.map_err(|failed| status::builtin(&failed))
}

/// The five have neither states nor results.
async fn shown(
    context: &Context,
    name: &str,
    partition: &str,
    show: Show,
) -> Result<Value, Status> {
    if Builtin::named(name).is_ok() {
        return Ok(nothing());
    }
    let shown = context.scripted().show(name, partition, show).await;
    let shown = shown.map_err(|failed| status::projection(&failed))?;
    let json = shown.and_then(|text| serde_json::from_str(&text).ok());
    // What is null is shown as what is not there.
    Ok(json.filter(|json: &serde_json::Value| !json.is_null()).map_or_else(nothing, value))
}

fn value(json: serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(flag),
        // The protocol has no other number.
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(value).collect() })
        }
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, of)| (name, value(of)));
            Kind::StructValue(Struct { fields: fields.collect() })
        }
    };
    Value { kind: Some(kind) }
}

/// Refuses what can be done only to a projection that somebody wrote.
fn changeable(name: &str) -> Result<(), Status> {
    match Builtin::named(name) {
        Ok(name) => Err(Status::failed_precondition(format!(
            "projection '{name}' is a part of the server: it can be stopped and started, and \
             nothing else"
        ))),
        Err(_) => Ok(()),
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
