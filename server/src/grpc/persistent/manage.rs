//! The unary calls. Protocol sections 7.1 and 7.3.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use daybook_wire::proto::persistent::{
    CreateReq, CreateResp, DeleteReq, DeleteResp, GetInfoReq, GetInfoResp, ListReq, ListResp,
    ReplayParkedReq, ReplayParkedResp, TruncateParkedReq, TruncateParkedResp, UpdateReq,
    UpdateResp, delete_req, get_info_req, list_req, replay_parked_req,
};
use daybook_wire::proto::shared::{Empty, StreamIdentifier};
use tonic::Status;

use super::decode::{definition, source_of};
use super::show;
use crate::grpc::{call, status};
use crate::node::{Admitted, Context};
use crate::persistent::error::GroupError;
use crate::persistent::key::{GroupKey, Source};

/// Answers Create.
pub async fn create(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |request: CreateReq| async {
        let wanted = definition(request.options)?;
        context.is_about(&shown(&wanted.key));
        context.persistent().create(wanted).await.map_err(refuse)?;
        Ok(CreateResp {})
    })
    .await
}

/// Answers Update.
pub async fn update(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |request: UpdateReq| async {
        let wanted = definition(request.options)?;
        context.is_about(&shown(&wanted.key));
        context.persistent().update(wanted).await.map_err(refuse)?;
        Ok(UpdateResp {})
    })
    .await
}

/// Answers Delete.
pub async fn delete(context: Admitted, request: Request<Body>) -> Response<Body> {
    use delete_req::options::StreamOption;
    call::unary(request, |request: DeleteReq| async {
        let options = request.options.ok_or_else(status::handler_failed)?;
        let source = match options.stream_option {
            Some(StreamOption::StreamIdentifier(name)) => source_of(Some(&name))?,
            Some(StreamOption::All(_)) => Source::All,
            None => return Err(status::handler_failed()),
        };
        let key = GroupKey { source, group: options.group_name };
        context.is_about(&shown(&key));
        context.persistent().delete(&key).await.map_err(refuse)?;
        Ok(DeleteResp {})
    })
    .await
}

/// Answers GetInfo.
pub async fn get_info(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    use get_info_req::options::StreamOption;
    call::unary(request, |request: GetInfoReq| async {
        let options = request.options.ok_or_else(status::handler_failed)?;
        let source = match options.stream_option {
            Some(StreamOption::StreamIdentifier(name)) => source_of(Some(&name))?,
            Some(StreamOption::All(_)) => Source::All,
            None => return Err(status::handler_failed()),
        };
        let key = GroupKey { source, group: options.group_name };
        let info = context.persistent().info(&key).await.map_err(refuse)?;
        Ok(GetInfoResp { subscription_info: Some(show::info(info)) })
    })
    .await
}

/// Answers List.
pub async fn list(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    use list_req::options::ListOption;
    use list_req::stream_option::StreamOption;
    call::unary(request, |request: ListReq| async {
        let options = request.options.ok_or_else(status::handler_failed)?;
        let source = match options.list_option.ok_or_else(status::handler_failed)? {
            ListOption::ListAllSubscriptions(_) => None,
            ListOption::ListForStream(wanted) => match wanted.stream_option {
                Some(StreamOption::Stream(name)) => Some(source_of(Some(&name))?),
                Some(StreamOption::All(_)) => Some(Source::All),
                None => return Err(status::handler_failed()),
            },
        };
        let found = context.persistent().list(source.as_ref()).await;
        if let (Some(source), true) = (source, found.is_empty()) {
            let key = GroupKey { source, group: String::new() };
            return Err(refuse(GroupError::Missing(key)));
        }
        Ok(ListResp { subscriptions: found.into_iter().map(show::info).collect() })
    })
    .await
}

/// Answers ReplayParked.
pub async fn replay_parked(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |request: ReplayParkedReq| async {
        let (key, limit) = parked(request.options)?;
        context.is_about(&shown(&key));
        context.persistent().replay(&key, limit).await.map_err(refuse)?;
        Ok(ReplayParkedResp {})
    })
    .await
}

/// Answers TruncateParked.
pub async fn truncate_parked(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |request: TruncateParkedReq| async {
        let (key, limit) = parked(request.options)?;
        context.is_about(&shown(&key));
        context.persistent().truncate(&key, limit).await.map_err(refuse)?;
        Ok(TruncateParkedResp {})
    })
    .await
}

/// Answers RestartSubsystem.
pub async fn restart(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |Empty {}| async {
        context.persistent().restart().await.map_err(refuse)?;
        Ok(Empty {})
    })
    .await
}

/// Whose parked messages, and how many at most.
fn parked(options: Option<replay_parked_req::Options>) -> Result<(GroupKey, Option<u64>), Status> {
    use replay_parked_req::options::{StopAtOption, StreamOption};
    let options = options.ok_or_else(status::handler_failed)?;
    let named = |name: &StreamIdentifier| source_of(Some(name));
    let source = match &options.stream_option {
        Some(StreamOption::StreamIdentifier(name)) => named(name)?,
        Some(StreamOption::All(_)) => Source::All,
        None => return Err(status::handler_failed()),
    };
    let key = GroupKey { source, group: options.group_name };
    let limit = match options.stop_at_option {
        Some(StopAtOption::StopAt(count)) => Some(u64::try_from(count).map_err(|_| {
            refuse(GroupError::failed(&key, format!("stop_at is negative: {count}")))
        })?),
        Some(StopAtOption::NoLimit(_)) | None => None,
    };
    Ok((key, limit))
}

/// A group in a line of the audit log.
fn shown(key: &GroupKey) -> String {
    format!("{}::{}", key.source.name(), key.group)
}

fn refuse(error: GroupError) -> Status {
    status::group(&error)
}
