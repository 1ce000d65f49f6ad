//! Users: who there is, and their passwords. Protocol section 11.
//!
//! Administrators may make all of these calls; others change their own password and see themselves.

use std::net::{IpAddr, Ipv6Addr};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::BytesMut;
use daybook_wire::frame::put_message;
use daybook_wire::proto::users as proto;
use daybook_wire::proto::users::details_resp::UserDetails;
use daybook_wire::proto::users::details_resp::user_details::DateTime;
use daybook_wire::{InvalidRequest, time};
use futures_util::stream;
use tonic::Status;

use super::call::{self, ASKED_SIZE_MAX, Messages};
use super::status;
use crate::node::Admitted;
use crate::security::audit::user_in;
use crate::security::gate::peer_of;
use crate::security::rights::Refused;
use crate::users::{NewUser, Standing, User};

/// Answers Create.
pub async fn create(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::CreateReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&user_in(&options.login_name, &options.groups));
        let new = NewUser {
            login: options.login_name,
            full_name: options.full_name,
            groups: options.groups,
            password: options.password,
        };
        context.users().create(new).await.map_err(|failed| status::users(&failed))?;
        Ok(proto::CreateResp {})
    })
    .await
}

/// Answers Update. The password that clients send with it stays what it is, as in KurrentDB.
pub async fn update(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::UpdateReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&user_in(&options.login_name, &options.groups));
        let done = context.users().update(&options.login_name, &options.full_name, &options.groups);
        done.await.map_err(|failed| status::users(&failed))?;
        Ok(proto::UpdateResp {})
    })
    .await
}

/// Answers Delete.
pub async fn delete(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::DeleteReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&options.login_name);
        let done = context.users().delete(&options.login_name).await;
        done.map_err(|failed| status::users(&failed))?;
        Ok(proto::DeleteResp {})
    })
    .await
}

/// Answers Enable.
pub async fn enable(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::EnableReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&options.login_name);
        let done = context.users().set_standing(&options.login_name, Standing::Enabled).await;
        done.map_err(|failed| status::users(&failed))?;
        Ok(proto::EnableResp {})
    })
    .await
}

/// Answers Disable.
pub async fn disable(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::DisableReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&options.login_name);
        let done = context.users().set_standing(&options.login_name, Standing::Disabled).await;
        done.map_err(|failed| status::users(&failed))?;
        Ok(proto::DisableResp {})
    })
    .await
}

/// Answers ChangePassword.
pub async fn change_password(context: Admitted, request: Request<Body>) -> Response<Body> {
    let peer = peer_of(request.extensions());
    let peer = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.ip());
    call::unary(request, |asked: proto::ChangePasswordReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&options.login_name);
        context.is_itself(&options.login_name).map_err(refused)?;
        let (login, current, new) =
            (options.login_name, options.current_password, options.new_password);
        let done = match context.security().authentication() {
            Some(asks) => {
                let changed = asks.change_password(&login, peer, (current, new)).await;
                changed.map_err(|refused| refused.status())?
            }
            None => context.users().change_password(&login, current, new).await,
        };
        done.map_err(|failed| status::users(&failed))?;
        Ok(proto::ChangePasswordResp {})
    })
    .await
}

/// Answers ResetPassword.
pub async fn reset_password(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |asked: proto::ResetPasswordReq| async move {
        let options = asked.options.ok_or_else(no_options)?;
        context.is_about(&options.login_name);
        let done = context.users().reset_password(&options.login_name, options.new_password).await;
        done.map_err(|failed| status::users(&failed))?;
        Ok(proto::ResetPasswordResp {})
    })
    .await
}

/// Answers Details: one user, or all of them.
pub async fn details(context: Admitted, request: Request<Body>) -> Response<Body> {
    let deadline = call::end(request.headers());
    let mut messages = Messages::up_to(ASKED_SIZE_MAX, request);
    let found = call::within(deadline, async {
        let asked: proto::DetailsReq = call::decoded(messages.only().await?)?;
        let login = asked.options.map_or_else(String::new, |options| options.login_name);
        context.is_itself(&login).map_err(refused)?;
        let users = context.users();
        let found = match login.as_str() {
            "" => users.all().await,
            login => users.user(login).await.map(|user| vec![user]),
        };
        found.map_err(|failed| status::users(&failed))
    });
    match found.await {
        Err(refused) => call::refused(&refused),
        Ok(users) => {
            let mut answers = BytesMut::new();
            for user in users {
                put_message(&shown(user), &mut answers);
            }
            let answers = (!answers.is_empty()).then(|| Ok(answers.freeze()));
            call::streamed(deadline, stream::iter(answers))
        }
    }
}

fn shown(user: User) -> proto::DetailsResp {
    let updated = DateTime { ticks_since_epoch: time::ticks(user.updated) };
    let details = UserDetails {
        login_name: user.login,
        full_name: user.full_name,
        groups: user.groups,
        last_updated: Some(updated),
        disabled: user.disabled,
    };
    proto::DetailsResp { user_details: Some(details) }
}

/// Neither the user itself nor an administrator asks.
fn refused(refused: Refused) -> Status {
    status::access_denied(&refused)
}

fn no_options() -> Status {
    status::invalid(&InvalidRequest::Missing { field: "options" })
}
