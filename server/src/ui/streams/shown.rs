//! An event as the API shows it, and as a row of a table.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ui::api::Trouble;
use crate::ui::pieces::{self, excerpt, time};

/// Bytes of an event's data that a row shows.
const PREVIEW_SIZE: usize = 140;

/// One event. Its data stands as it came.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown<'a> {
    /// In the log.
    pub position: u64,
    /// In its stream.
    pub revision: u64,
    /// Its stream.
    pub stream: String,
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When it was committed.
    pub time: String,
    /// What its data is.
    pub content_type: String,
    /// Its data.
    #[serde(borrow)]
    pub data: &'a RawValue,
    /// How that stands.
    pub data_encoding: Option<String>,
    /// Its metadata, if it has any.
    #[serde(borrow)]
    pub metadata: Option<&'a RawValue>,
    /// How that stands.
    pub metadata_encoding: Option<String>,
    /// Through which link it was read.
    pub link: Option<Link>,
}

/// A link.
#[derive(Debug, Deserialize)]
pub struct Link {
    /// Its number in the stream that was read.
    pub revision: u64,
}

/// A page of events.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Events<'a> {
    /// Events, in the order they were asked for.
    #[serde(borrow)]
    pub events: Vec<Shown<'a>>,
    /// The stream's last revision.
    #[serde(default)]
    pub head: Option<u64>,
    /// The stream's first revision that is shown.
    #[serde(default)]
    pub first: Option<u64>,
    /// Where to go on.
    pub next: Option<u64>,
    /// Whether there is no more.
    #[serde(default)]
    pub at_end: bool,
}

impl<'a> Events<'a> {
    /// Reads an answer of the API.
    ///
    /// # Errors
    /// [`Trouble`] if it is none.
    pub fn read(bytes: &'a [u8]) -> Result<Events<'a>, Trouble> {
        serde_json::from_slice(bytes).map_err(|_| Trouble::internal("no page of events came back"))
    }
}

/// Data or metadata, as it was stored.
pub enum Content<'a> {
    /// JSON.
    Json(&'a str),
    /// Anything else.
    Binary(Bytes),
}

impl<'a> Content<'a> {
    fn of(raw: &'a RawValue, encoding: Option<&str>) -> Content<'a> {
        if encoding != Some("base64") {
            return Content::Json(raw.get());
        }
        let text = raw.get().trim_matches('"');
        Content::Binary(BASE64_STANDARD.decode(text).unwrap_or_default().into())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Content::Json(text) => text.as_bytes(),
            Content::Binary(bytes) => bytes,
        }
    }
}

impl Shown<'_> {
    /// Its data.
    #[must_use]
    pub fn content(&self) -> Content<'_> {
        Content::of(self.data, self.data_encoding.as_deref())
    }

    /// Its metadata.
    #[must_use]
    pub fn about(&self) -> Option<Content<'_>> {
        self.metadata.map(|raw| Content::of(raw, self.metadata_encoding.as_deref()))
    }

    /// What it belongs together with, if its metadata says so.
    #[must_use]
    pub fn correlation(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Names {
            #[serde(rename = "$correlationId")]
            correlation: Option<String>,
        }
        let metadata = self.metadata.filter(|_| self.metadata_encoding.is_none())?;
        serde_json::from_str::<Names>(metadata.get()).ok()?.correlation
    }

    /// Where it is shown.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", pieces::stream_path(&self.stream), self.revision)
    }

    /// The beginning of its data.
    #[must_use]
    pub fn preview(&self) -> Markup {
        match self.content() {
            Content::Json(text) => html! {
                code.preview {
                    (excerpt(text, PREVIEW_SIZE)) @if text.len() > PREVIEW_SIZE { "…" }
                }
            },
            Content::Binary(bytes) => match text_of(&bytes) {
                Some(text) => html! { code.preview { (text) } },
                None => html! {
                    span.muted { "not text, " (pieces::bytes(bytes.len() as u64)) }
                },
            },
        }
    }

    /// A row of a list of one stream.
    #[must_use]
    pub fn row(&self) -> Markup {
        html! { tr {
            td.right { a href=(self.path()) { (self.revision) } }
            td { (self.event_type) }
            td.when { (time(&self.time)) }
            td.wide { (self.preview()) }
        } }
    }

    /// A row of a list of several streams.
    #[must_use]
    pub fn row_of_log(&self) -> Markup {
        html! { tr {
            td.right { a href=(self.path()) { (self.position) } }
            td { (pieces::stream(&self.stream)) }
            td { (self.event_type) }
            td.when { (time(&self.time)) }
            td.wide { (self.preview()) }
        } }
    }
}

/// Bytes that are a short text, as it is.
fn text_of(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= PREVIEW_SIZE)?;
    (!text.contains(char::is_control)).then_some(text)
}

/// The columns of [`Shown::row`].
pub const COLUMNS: &[&str] = &[">Revision", "Type", "Time", "Data"];
/// The columns of [`Shown::row_of_log`].
pub const COLUMNS_OF_LOG: &[&str] = &[">Position", "Stream", "Type", "Time", "Data"];
