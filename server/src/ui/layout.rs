//! The frame of every page: head, navigation, what it says of the server and of the visitor.

use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::api::Trouble;
use super::assets;
use super::form::TOKEN;
use super::visitor::Visitor;
use crate::security::rights::Right;

/// What was done, as the page after it says; a link can choose one of these and nothing else.
const DONE: &[(&str, &str)] = &[
    ("appended", "The event was appended."),
    ("deleted", "The stream was deleted."),
    ("metadata", "The stream's settings were saved."),
    ("done", "Done."),
    ("started", "It has begun."),
    ("running", "It was under way already."),
    ("stopped", "It was told to stop."),
    ("revoked", "The token was revoked: who calls with it is refused."),
    ("released", "The hold was released."),
];

/// Where pages are, their names, and what they ask for.
type Links = &'static [(&'static str, &'static str, Right)];

/// A group of the navigation, and what its pages ask for.
const PAGES: &[(&str, Links)] = &[
    ("", &[("/ui/", "Overview", Right::Known)]),
    (
        "Events",
        &[
            ("/ui/streams", "Streams", Right::Known),
            ("/ui/categories", "Categories and types", Right::Known),
            ("/ui/tail", "Live tail", Right::Known),
        ],
    ),
    (
        "Ledger",
        &[
            ("/ui/accounts", "Accounts", Right::ReadLedger),
            ("/ui/transfers", "Transfers", Right::ReadLedger),
            ("/ui/books", "Trial balance", Right::AuditLedger),
            ("/ui/risk", "Rules of risk", Right::ReadLedger),
        ],
    ),
    (
        "Read side",
        &[
            ("/ui/projections", "Projections", Right::Monitor),
            ("/ui/subscriptions", "Subscriptions", Right::Inspect),
            ("/ui/connectors", "Connectors", Right::Monitor),
        ],
    ),
    (
        "Operations",
        &[
            ("/ui/operations", "Upkeep", Right::Monitor),
            ("/ui/users", "Users", Right::Administer),
            ("/ui/tokens", "API tokens", Right::Known),
            ("/ui/audit", "Audit log", Right::ReadAudit),
            ("/ui/config", "Configuration", Right::Inspect),
            ("/ui/api", "API", Right::Known),
        ],
    ),
];

/// A page being made.
pub struct Page {
    visitor: Visitor,
    title: String,
    crumbs: Vec<(String, String)>,
    aside: Option<Markup>,
}

impl Page {
    /// One of this title.
    #[must_use]
    pub fn new(visitor: &Visitor, title: impl Into<String>) -> Page {
        Page { visitor: visitor.clone(), title: title.into(), crumbs: Vec::new(), aside: None }
    }

    /// Below this one.
    #[must_use]
    pub fn below(mut self, path: impl Into<String>, name: impl Into<String>) -> Page {
        self.crumbs.push((path.into(), name.into()));
        self
    }

    /// With this beside its title.
    #[must_use]
    pub fn with(mut self, aside: Markup) -> Page {
        self.aside = Some(aside);
        self
    }

    /// With this in it.
    #[must_use]
    pub fn show(self, body: &Markup) -> Response {
        Html(self.render(body).into_string()).into_response()
    }

    /// Where it is in the menu: an answer to a form is where the form was.
    fn place(&self) -> &str {
        self.crumbs.first().map_or(self.visitor.path(), |(path, _)| path)
    }

    fn render(&self, body: &Markup) -> Markup {
        let heading = html! {
            @if !self.crumbs.is_empty() {
                nav.crumbs aria-label="Where this is" {
                    @for (path, name) in &self.crumbs { a href=(path) { (name) } " / " }
                }
            }
            div.heading { h1 { (self.title) } @if let Some(aside) = &self.aside { (aside) } }
            @if let Some(done) = done(self.visitor.path()) {
                p.notice.good role="status" { (done) }
            }
        };
        document(
            &self.title,
            &html! {
                a.skip href="#main" { "Skip to the content" }
                (banner(&self.visitor))
                div.frame {
                    (navigation(&self.visitor, self.place()))
                    main #main tabindex="-1" { (heading) (body) }
                }
            },
        )
    }
}

/// A whole document.
#[must_use]
pub fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Daybook" }
                link rel="icon" href=(assets::link("icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(assets::link("style.css"));
                script src=(assets::link("theme.js")) {}
                script type="module" src=(assets::link("app.js")) {}
            }
            body { (body) }
        }
    }
}

fn banner(visitor: &Visitor) -> Markup {
    html! {
        header.banner {
            a.brand href="/ui/" { (mark()) span { "Daybook" } }
            div.who {
                button.theme type="button" hidden data-theme-switch aria-label="Dark or light" {
                    "◐"
                }
                @if let Some(login) = visitor.caller().login() {
                    @if visitor.session().is_none() { span.login { (login) } }
                    @else {
                        a.login href="/ui/password" title="Change your password" { (login) }
                        form method="post" action="/ui/logout" {
                            (token(visitor))
                            button.quiet type="submit" { "Log out" }
                        }
                    }
                }
            }
        }
        @if !visitor.is_asked() {
            p.open role="note" {
                "This server asks nobody who they are: whoever reaches it may do everything. \
                 Keep it on loopback, or start it with users and TLS."
            }
        }
    }
}

fn navigation(visitor: &Visitor, here: &str) -> Markup {
    let here = here.split('?').next().unwrap_or_default();
    let is_here =
        |path: &str| here == path || (path != "/ui/" && here.starts_with(&format!("{path}/")));
    html! {
        nav.menu aria-label="Pages" {
            details open data-menu {
                summary { "Menu" }
                @for (group, pages) in PAGES {
                    @if pages.iter().any(|(_, _, right)| visitor.may(*right)) {
                        @if !group.is_empty() { h2 { (group) } }
                        ul {
                            @for (path, name, _) in pages.iter().filter(|p| visitor.may(p.2)) {
                                li {
                                    a href=(path) aria-current=[is_here(path).then_some("page")] {
                                        (name)
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What the path says was done.
fn done(path: &str) -> Option<&'static str> {
    let (_, query) = path.split_once('?')?;
    let (_, said) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "done")?;
    DONE.iter().find(|(name, _)| *name == said).map(|(_, text)| *text)
}

/// The field that says whose form it is.
#[must_use]
pub fn token(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name=(TOKEN) value=(visitor.token()); }
}

/// A page that says what went wrong.
#[must_use]
pub fn trouble(visitor: &Visitor, trouble: &Trouble) -> Markup {
    let page = Page::new(visitor, trouble.title.clone());
    page.render(&html! {
        div.notice.bad role="alert" {
            p { (trouble.detail) }
            p.muted { (trouble.status.as_u16()) " · " code { (trouble.word) } }
        }
        p { a.button href="/ui/" { "To the overview" } }
    })
}

/// The sign of the house: a ruled book.
#[must_use]
pub fn mark() -> Markup {
    PreEscaped(include_str!("assets/icon.svg").to_owned())
}
