//! Projections as KurrentDB's older HTTP API makes them. Clients use it where a server does not say
//! that it tracks the streams that a projection writes to.
//!
//! ```text
//!   /projections/continuous    POST   ?name=…&type=js&enabled=…&emit=…&trackemittedstreams=…
//!                                     the program is the body
//! ```

use daybook_script::SOURCE_SIZE_MAX;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::body::Held;
use super::ledger::schema::Rejections;
use super::problem::{Kind, Problem};
use super::query::{Params, parsed};
use crate::node::{Admitted, Context};
use crate::scripted::error::ProjectionError;
use crate::scripted::spec::{Mode, Spec};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file. A program sees the whole log, whoever wrote it.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::Administer, routes!(create))
}

/// What stands after the `?`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CreateParams {
    /// What it is called.
    name: String,
    /// js
    r#type: Option<String>,
    /// Whether it begins at once; true if absent.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<bool>)]
    enabled: Option<bool>,
    /// Whether it may write events.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<bool>)]
    emit: Option<bool>,
    /// Whether the streams that it writes to are noted, to be deleted with it.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<bool>)]
    trackemittedstreams: Option<bool>,
    /// Places are always saved.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<bool>)]
    #[expect(dead_code, reason = "clients send it")]
    checkpoints: Option<bool>,
}

/// Creates a projection that follows the log, as KurrentDB's older clients do.
#[utoipa::path(
    post, path = "/projections/continuous", tag = "projections",
    operation_id = "create_continuous_projection", params(CreateParams),
    request_body(content = String, content_type = "application/javascript",
                 description = "The program"),
    responses((status = 201, description = "It is there"), Rejections)
)]
async fn create(
    context: Admitted,
    Params(params): Params<CreateParams>,
    program: Held<SOURCE_SIZE_MAX>,
) -> Result<StatusCode, Problem> {
    if params.r#type.as_deref().is_some_and(|kind| !kind.eq_ignore_ascii_case("js")) {
        return Err(Problem::field("type", "projections are written in JavaScript: js"));
    }
    if params.trackemittedstreams == Some(true) && params.emit != Some(true) {
        return Err(Problem::field("trackemittedstreams", "needs emit=true"));
    }
    let query = String::from_utf8(program.bytes.to_vec())
        .map_err(|_| Problem::new(Kind::InvalidRequest, "the program is not UTF-8"))?;
    let spec = Spec {
        enabled: params.enabled.unwrap_or(true),
        emit_enabled: params.emit.unwrap_or(false),
        track_emitted_streams: params.trackemittedstreams.unwrap_or(false),
        ..Spec::new(params.name, Mode::Continuous, query)
    };
    context.is_about(&spec.name);
    context.scripted().create(spec).await?;
    Ok(StatusCode::CREATED)
}

impl From<ProjectionError> for Problem {
    fn from(error: ProjectionError) -> Problem {
        let kind = match &error {
            ProjectionError::NotFound { .. } => Kind::ProjectionNotFound,
            ProjectionError::Exists { .. } => Kind::Conflict,
            ProjectionError::Runs { .. } => Kind::ProjectionState,
            ProjectionError::Invalid { .. } | ProjectionError::Script(_) => Kind::InvalidRequest,
            ProjectionError::TooMany => Kind::Overloaded,
            ProjectionError::Append(_) | ProjectionError::Read(_) | ProjectionError::Stopping => {
                Kind::Unavailable
            }
            ProjectionError::Panicked(_) => Kind::Internal,
        };
        Problem::new(kind, error.to_string())
    }
}
