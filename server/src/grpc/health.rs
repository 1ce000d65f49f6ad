//! The standard gRPC health service: serving while the node is ready, as `/health/ready` says it.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::SERVICES;
use crate::node::{Context, Phase};

/// How often a watch looks. Nothing that changes a node's readiness is faster for an operator.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The health of a node, asked each time.
pub struct HealthService {
    context: Context,
}

impl HealthService {
    /// The health of the node that `context` belongs to.
    #[must_use]
    pub fn new(context: Context) -> HealthService {
        HealthService { context }
    }
}

fn look(context: &Context) -> ServingStatus {
    if context.not_ready().is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || SERVICES.contains(&service)
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("this server has no such service"));
        }
        Ok(Response::new(HealthCheckResponse { status: look(&self.context).into() }))
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.get_ref().service);
        let endless = self.context.endless();
        let watch = Watch { context: self.context.clone(), known, said: None, _endless: endless };
        let answers = stream::unfold(watch, |mut watch| async move {
            let status = watch.change().await?;
            Some((Ok(HealthCheckResponse { status: status.into() }), watch))
        });
        Ok(Response::new(Box::pin(answers)))
    }
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
