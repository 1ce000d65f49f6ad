//! The web console at `/ui/`: pages for people who look after a server.
//!
//! ```text
//!   browser ─> visitor ─────────> gate ─────> page ──────────> api ─> gate ─> http's handlers
//!              cookie -> Caller   its right   what is asked     the same routes that clients use,
//!              CSP, 303, errors               becomes HTML      without the network between
//!
//!   console    what a node has one of: sessions, samples         session   who is logged in
//!   visitor    who looks, and the head of every answer           form      what a form sends
//!   layout     the frame of a page       pieces   what pages are made of       chart   SVG
//!   api        asks the HTTP API         feed     what goes on: server-sent events
//!   overview   streams   ledger   readside   operations           the pages
//! ```
//!
//! A page is whole without JavaScript: links and forms. With it, what changes is put in place as it
//! changes. Everything a page needs comes from this server, and the policy in its head allows
//! nothing else: no script and no style stands in a page.
//!
//! INVARIANTS
//! - Every route is made with the right of what it does, by [`crate::security::gate::Routes`]; what
//!   it asks the API for is checked there once more. Nothing is decided by what is shown.
//! - What a page shows is what the API answers: pages know no second way to it.
//! - Whatever changes something is a `POST` with a token that only a page of the same session has.
//! - The session's cookie means something under `/ui/` alone.
//! - Every list is a page of bounded length, every body is shown up to a bounded size.

pub mod alerts;
pub mod api;
pub mod assets;
pub mod chart;
pub mod console;
pub mod feed;
pub mod form;
pub mod lags;
pub mod layout;
pub mod ledger;
pub mod login;
pub mod operations;
pub mod overview;
pub mod pieces;
pub mod readside;
pub mod samples;
pub mod session;
pub mod streams;
pub mod visitor;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware;
use axum::response::Redirect;

pub use console::Console;

use crate::node::Context;
use crate::security::gate::{Routes, Row, Tongue};
use crate::security::rights::Right;
use api::Trouble;
use visitor::Visit;

/// Where the console is.
pub const ROOT: &str = "/ui/";

/// What pages share. A clone is another handle.
#[derive(Clone)]
pub struct Ui {
    context: Context,
    /// The HTTP API, to ask in process.
    api: Router,
}

impl FromRef<Ui> for Context {
    fn from_ref(ui: &Ui) -> Context {
        ui.context.clone()
    }
}

/// The console of the node of `context`, which asks `api`.
pub fn routes(context: &Context, api: Router) -> Router {
    let ui = Ui { context: context.clone(), api };
    let (routes, _) = guarded(context).into_parts();
    let enter = middleware::from_fn_with_state(ui.clone(), visitor::enter);
    routes.layer(enter).with_state(ui)
}

/// What each page asks of its caller.
#[must_use]
pub fn rights(context: &Context) -> Vec<Row> {
    guarded(context).into_parts().1
}

fn guarded(context: &Context) -> Routes<Ui> {
    let gate = context.gate(Tongue::Http);
    Routes::new(&gate)
        .get("/ui", Right::Anyone, async || Redirect::permanent(ROOT))
        .get("/ui/assets/{name}", Right::Anyone, assets::get)
        .get("/ui/login", Right::Anyone, login::show)
        .post("/ui/login", Right::Anyone, login::begin)
        .post("/ui/logout", Right::Known, login::end)
        .get("/ui/{*rest}", Right::Known, nothing_here)
        .merge(overview::routes(&gate))
        .merge(streams::routes(&gate))
        .merge(ledger::routes(&gate))
        .merge(readside::routes(&gate))
        .merge(operations::routes(&gate))
}

async fn nothing_here(visit: Visit) -> Trouble {
    Trouble::not_found(&format!("there is no page {}", visit.path()))
}
