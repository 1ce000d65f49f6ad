//! API tokens: by which machines call as users.
//!
//! ```text
//!   /v1/tokens        POST   {"name": …, "user": …, "groups": […], "expires": …}   shows it, once
//!                     GET    ?user=&cursor=&limit=    one's own; all, for administrators
//!   /v1/tokens/{id}   DELETE
//! ```
//!
//! Who makes or revokes one is the user itself, by password or certificate, or an administrator:
//! see [`Right::Delegate`].
//!
//! INVARIANT: a secret is in the answer that shows it and in no other.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use daybook_model::Timestamp;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::body::Held;
use super::event::rfc3339;
use super::ledger::request::{parse, time};
use super::ledger::schema::Time;
use super::page::limit;
use super::problem::{Kind, Problem};
use super::query::{Params, parsed};
use super::shapes::{NotRead, NotWritten};
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::{Refused, Right};
use crate::users::UsersError;
use crate::users::api_tokens::secret::id_in;
use crate::users::api_tokens::{ApiToken, NewApiToken};

/// Bytes of a request: a name, a login and a hundred groups, as long as they may be.
const REQUEST_SIZE_MAX: usize = 64 * 1024;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Known, routes!(list))
        .routes(Right::Delegate, routes!(create))
        .routes(Right::Delegate, routes!(revoke))
}

/// A token, but for its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiToken)]
pub struct TokenView {
    id: String,
    user: String,
    name: String,
    /// Null: all that the user has.
    groups: Option<Vec<String>>,
    #[schema(value_type = Time)]
    created: String,
    created_by: Option<String>,
    #[schema(value_type = Time)]
    expires: String,
}

impl TokenView {
    fn new(token: ApiToken) -> TokenView {
        TokenView {
            id: token.id,
            user: token.login,
            name: token.name,
            groups: token.groups,
            created: rfc3339(token.created),
            created_by: token.created_by,
            expires: rfc3339(token.expires),
        }
    }
}

/// A token to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewApiToken)]
struct CreateRequest {
    /// What it is for.
    name: String,
    /// Whose it will be; the caller's own if nothing is said.
    user: Option<String>,
    /// Which of the user's groups it has; all if nothing is said.
    groups: Option<Vec<String>>,
    /// When it ends.
    #[schema(value_type = Option<Time>)]
    expires: Option<String>,
}

/// A token with its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedApiToken)]
struct Created {
    #[serde(flatten)]
    about: TokenView,
    token: String,
}

/// Makes a token for a machine, and shows it this once.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "access", operation_id = "create_token",
    request_body = CreateRequest,
    responses((status = 201, description = "It, with its secret", body = Created), NotWritten)
)]
async fn create(context: Admitted, body: Held<REQUEST_SIZE_MAX>) -> Result<Response, Problem> {
    let CreateRequest { name, user, groups, expires } = parse(&body.bytes)?;
    let caller = context.caller().login().map(str::to_owned);
    let login = user.or_else(|| caller.clone());
    let login = login.ok_or_else(|| Problem::field("user", "say whose it will be"))?;
    let expires = expires.map(|text| time("expires", &text)).transpose()?;
    if let Err(refused) = context.is_user(&login) {
        context.is_about(&login);
        return Err(forbidden(refused));
    }
    let now = context.clock().now();
    let new = NewApiToken { login: login.clone(), name, groups, created_by: caller, expires };
    let made = context.users().create_token(new, now).await;
    let (token, secret) = made.inspect_err(|_| context.is_about(&login))?;
    context.is_about(&named(&token));
    let created = Created { about: TokenView::new(token), token: secret.text() };
    let mut response = (StatusCode::CREATED, Json(created)).into_response();
    let kept_nowhere = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, kept_nowhere);
    Ok(response)
}

/// Which tokens.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Whose; one's own, or for administrators all, if nothing is said.
    user: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many.
    #[serde(default, deserialize_with = "parsed")]
    limit: Option<u64>,
}

/// A part of the tokens, by their users' logins.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiTokens)]
pub struct Listed {
    tokens: Vec<TokenView>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
}

/// Tokens of one user, or for administrators of all. A page ends between users, so it may have some
/// more than were asked for.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "access", operation_id = "list_tokens", params(ListParams),
    responses((status = 200, description = "A page", body = Listed), NotRead)
)]
async fn list(
    context: Admitted,
    Params(params): Params<ListParams>,
) -> Result<Json<Listed>, Problem> {
    let limit = limit(params.limit)?;
    let caller = context.caller();
    let is_admin = Right::Administer.check(caller).is_ok();
    let own = caller.login().filter(|_| !is_admin).map(str::to_owned);
    if let Some(login) = params.user.or(own) {
        context.is_user(&login).map_err(forbidden)?;
        let tokens = context.users().tokens(&login).await?;
        let tokens = tokens.into_iter().map(TokenView::new).collect();
        return Ok(Json(Listed { tokens, next: None }));
    }
    let tokens = context.users().all_tokens(params.cursor.as_deref(), limit).await?;
    let last = tokens.last().filter(|_| tokens.len() >= limit);
    let next = last.map(|token| token.login.clone());
    Ok(Json(Listed { tokens: tokens.into_iter().map(TokenView::new).collect(), next }))
}

/// Ends a token. What is another user's is not there for who may not end it.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "access", operation_id = "revoke_token",
    params(("id" = String, Path, description = "The token's id, or all of the token")),
    responses((status = 200, description = "It has ended", body = TokenView), NotWritten)
)]
async fn revoke(context: Admitted, Path(id): Path<String>) -> Result<Json<TokenView>, Problem> {
    let id = id_in(&id);
    let token = context.users().token(&id).await?;
    let Some(token) = token.filter(|token| context.is_user(&token.login).is_ok()) else {
        return Err(UsersError::TokenNotFound { id }.into());
    };
    context.is_about(&named(&token));
    Ok(Json(TokenView::new(context.users().revoke_token(&id).await?)))
}

/// What the audit log calls a token.
fn named(ApiToken { id, login, name, .. }: &ApiToken) -> String {
    format!("token {id} of {login}: {name}")
}

fn forbidden(refused: Refused) -> Problem {
    Problem::new(Kind::Forbidden, refused.to_string())
}

impl From<UsersError> for Problem {
    fn from(error: UsersError) -> Problem {
        let detail = error.to_string();
        let kind = match error {
            UsersError::Invalid { what, reason } => return Problem::field(what, reason),
            UsersError::Append(error) => return error.into(),
            UsersError::Read(error) => return error.into(),
            UsersError::NotFound { .. } => Kind::UserNotFound,
            UsersError::TokenNotFound { .. } => Kind::TokenNotFound,
            UsersError::Conflict { .. } | UsersError::TryAgain { .. } => Kind::Conflict,
            UsersError::WrongPassword { .. } => Kind::Forbidden,
            UsersError::TooMany | UsersError::TooManyTokens { .. } => Kind::InvalidRequest,
            UsersError::Busy => Kind::Overloaded,
            UsersError::Damaged { .. } => Kind::Damaged,
        };
        Problem::new(kind, detail)
    }
}

/// The end of a token that is to live for `life` from `now` on, as requests say it.
#[must_use]
pub fn end_of(now: Timestamp, life: std::time::Duration) -> String {
    let life = i64::try_from(life.as_nanos()).unwrap_or(i64::MAX);
    rfc3339(Timestamp(now.0.saturating_add(life)))
}
