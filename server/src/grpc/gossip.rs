//! Gossip: a single node that is its own leader. Protocol section 8.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use daybook_wire::proto::gossip::member_info::VNodeState;
use daybook_wire::proto::gossip::{ClusterInfo, EndPoint, MemberInfo};
use daybook_wire::proto::shared::Empty;
use daybook_wire::{UuidForm, time, uuid};
use http::header::HOST;

use super::call::{self, SMALL_SIZE};
use crate::node::Context;

/// Answers Read: this node, at the address the client dialled, because clients connect to exactly
/// what they are told here.
pub async fn read(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str).or(host);
    let (address, port) = context.reached_as(authority);
    let member = MemberInfo {
        instance_id: Some(uuid::to_proto(context.instance(), UuidForm::Structured)),
        time_stamp: time::ticks(context.clock().now()),
        state: VNodeState::Leader.into(),
        is_alive: true,
        http_end_point: Some(EndPoint { address, port: u32::from(port) }),
    };
    let answer = |Empty {}| async { Ok(ClusterInfo { members: vec![member] }) };
    call::unary_up_to(SMALL_SIZE, request, answer).await
}
