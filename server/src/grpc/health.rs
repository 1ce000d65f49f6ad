//! The standard gRPC health service: serving while the node is ready, as `/health/ready` says it.
//!
//! Anyone may ask. It is served as our own services are, so that what strangers send to it has their
//! limits of size and time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::BytesMut;
use daybook_wire::frame::put_message;
use futures_util::stream;
use tonic::Status;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::SERVICES;
use super::call::{self, Messages, SMALL_SIZE};
use crate::node::entrance::WithoutEnd;
use crate::node::{Context, Phase};

/// How often a watch looks. Nothing that changes a node's readiness is faster for an operator.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

fn look(context: &Context) -> ServingStatus {
    if context.not_ready().is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || SERVICES.contains(&service)
}

/// Answers Check.
pub async fn check(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary_up_to(SMALL_SIZE, request, |asked: HealthCheckRequest| async move {
        if !is_known(&asked.service) {
            return Err(Status::not_found("this server has no such service"));
        }
        Ok(HealthCheckResponse { status: look(&context).into() })
    })
    .await
}

/// Answers Watch: what it is, and each time that it changes.
pub async fn watch(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    let deadline = call::deadline(request.headers());
    let mut messages = Messages::up_to(SMALL_SIZE, request).in_time();
    let asked = call::within(deadline, async {
        call::decoded::<HealthCheckRequest>(messages.only().await?)
    });
    let known = match asked.await {
        Err(refused) => return call::refused(&refused),
        Ok(asked) => is_known(&asked.service),
    };
    let endless = context.endless();
    let watch = Watch { context, known, said: None, _endless: endless };
    let answers = stream::unfold(watch, |mut watch| async move {
        let status = watch.change().await?;
        let mut answer = BytesMut::new();
        put_message(&HealthCheckResponse { status: status.into() }, &mut answer);
        Some((Ok(answer.freeze()), watch))
    });
    let mut response = call::streamed(deadline, answers);
    // Anyone may watch: it does not end with a proof.
    response.extensions_mut().remove::<WithoutEnd>();
    response
}

struct Watch {
    context: Context,
    known: bool,
    said: Option<ServingStatus>,
    _endless: crate::node::Endless,
}

impl Watch {
    /// The next status that is not what was said last; none once it was said that the node stops.
    async fn change(&mut self) -> Option<ServingStatus> {
        loop {
            let now = if self.known { look(&self.context) } else { ServingStatus::ServiceUnknown };
            if self.said != Some(now) {
                self.said = Some(now);
                return Some(now);
            }
            if self.context.phase() != Phase::Running {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = self.context.reached(Phase::Draining) => {}
            }
        }
    }
}
