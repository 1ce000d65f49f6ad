//! Login and logout.

use axum::extract::{FromRequestParts, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use maud::{Markup, html};
use serde::Deserialize;

use super::api::Trouble;
use super::form::Fields;
use super::layout::{document, mark};
use super::visitor::{Visit, Visitor, safe_next, set_cookie};
use super::{ROOT, Ui};
use crate::http::body::Held;
use crate::node::listener::Peer;
use crate::security::authenticate::{Asked, Refusal};
use crate::security::{Proof, audit};

/// Bytes of a login: names and passwords are short.
const LOGIN_SIZE_MAX: usize = 8 * 1024;

/// Where to go on to.
#[derive(Debug, Default, Deserialize)]
pub struct Next {
    #[serde(default)]
    next: String,
}

/// `GET /ui/login`
pub async fn show(Query(next): Query<Next>, visitor: axum::Extension<Visitor>) -> Response {
    if visitor.session().is_some() || !visitor.is_asked() {
        return Redirect::to(safe_next(&next.next)).into_response();
    }
    (StatusCode::OK, axum::response::Html(form(safe_next(&next.next), None).into_string()))
        .into_response()
}

/// From where a request comes.
pub struct From(pub Peer);

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<From, Trouble> {
        let peer = parts.extensions.get::<Peer>().copied();
        peer.map(From).ok_or_else(|| Trouble::internal("the caller has no address"))
    }
}

/// `POST /ui/login`: the same credentials, limits and lock-out as for any request.
///
/// # Errors
/// [`Trouble`] if the server asks nobody. Wrong credentials show the form again.
pub async fn begin(
    State(ui): State<Ui>,
    From(Peer(peer)): From,
    before: axum::Extension<Visitor>,
    body: Held<LOGIN_SIZE_MAX>,
) -> Result<Response, Trouble> {
    let fields = Fields::read(&body.bytes);
    let next = safe_next(fields.text("next"));
    let Some(asks) = ui.context.security().authentication() else {
        return Ok(Redirect::to(ROOT).into_response());
    };
    let pair = format!("{}:{}", fields.text("login"), fields.exact("password"));
    let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let authorization = HeaderValue::try_from(value).ok();
    let asked = Asked { authorization, peer: peer.ip(), certificate: None };
    let caller = match asks.identify(asked).await {
        Ok(caller) => caller,
        Err(refusal) => return Ok(refused(next, &refusal)),
    };
    if caller.proof() == Proof::ApiToken {
        let said = "An API token is for machines. Log in with your password.";
        return Ok(again(next, StatusCode::FORBIDDEN, said));
    }
    let sessions = ui.context.console().sessions();
    // A session that somebody else may have begun in this browser is not gone on with.
    if let Some(session) = before.session() {
        sessions.end(session);
    }
    tracing::info!(login = caller.login(), %peer, "logged in to the console");
    let what = "log in to the console";
    ui.context.audit().done(audit::Asked { caller: &caller, peer: Some(peer), what });
    let id = sessions.begin(caller);
    let cookie = [(header::SET_COOKIE, set_cookie(&ui, Some(&id)))];
    Ok((cookie, Redirect::to(next)).into_response())
}

/// `POST /ui/logout`
pub async fn end(visit: Visit, _own: Fields) -> Response {
    if let Some(session) = visit.visitor().session() {
        visit.ui().context.console().sessions().end(session);
        visit.node().door().did("log out of the console");
    }
    let cookie = [(header::SET_COOKIE, set_cookie(visit.ui(), None))];
    (cookie, Redirect::to("/ui/login")).into_response()
}

fn refused(next: &str, refusal: &Refusal) -> Response {
    let status = refusal.to_http().status();
    // 401 would have the browser ask for itself.
    let status = if status == StatusCode::UNAUTHORIZED { StatusCode::FORBIDDEN } else { status };
    let said = match refusal {
        Refusal::Wrong => "No user who may log in has this name and password.".to_owned(),
        other => other.to_string(),
    };
    again(next, status, &said)
}

fn again(next: &str, status: StatusCode, said: &str) -> Response {
    (status, axum::response::Html(form(next, Some(said)).into_string())).into_response()
}

fn form(next: &str, trouble: Option<&str>) -> Markup {
    document(
        "Log in",
        &html! {
            main.login #main {
                div.card {
                    div.brand { (mark()) span { "Daybook" } }
                    h1 { "Log in" }
                    @if let Some(trouble) = trouble { p.notice.bad role="alert" { (trouble) } }
                    form method="post" action="/ui/login" {
                        input type="hidden" name="next" value=(next);
                        label for="login" { "User" }
                        input #login name="login" autocomplete="username" required autofocus
                            autocapitalize="none" spellcheck="false";
                        label for="password" { "Password" }
                        input #password name="password" type="password" required
                            autocomplete="current-password";
                        button type="submit" { "Log in" }
                    }
                    p.muted { "The same users as for the API; an administrator makes them." }
                }
            }
        },
    )
}
