//! The read side in this node: the built-in views, kept up with the node's own store.
//!
//! ```text
//!   store ── StoreSource ──> Host, a runner per view ──> ReadModels ──┬─ sled, in <data>/readmodels
//!                                                            ^        └─ PostgreSQL
//!                                             http/readside ─┘
//! ```
//!
//! The node is ready without it: a view that is being built serves what it has, and says how far it
//! is. What goes wrong here is logged and shown, and stops nothing else.
//!
//! INVARIANTS: reads the store, and never writes to it. Stopped before the store is closed.

pub mod postings;
pub mod source;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use daybook_model::{Clock, Entropy, SystemTimer};
use daybook_projections::Seams;
use daybook_projections::host::Host;
use daybook_projections::models::ReadModels;
use daybook_projections::postgres::{Postgres, SCHEMA_DEFAULT, Server, SettingsError};
use daybook_projections::sled::{Memory, SledBackend};
use daybook_store::Store;

use source::StoreSource;

/// Where in the data directory the read models are kept. Disposable: it may be deleted at any time
/// while the server is stopped, and is then built again from the log.
pub const READ_MODELS_DIRECTORY: &str = "readmodels";

/// Where a node keeps its read models.
#[derive(Clone, Default)]
pub enum Place {
    /// Nowhere: there are none.
    Off,
    /// In sled, in the data directory.
    #[default]
    Sled,
    /// In PostgreSQL.
    Postgres(Box<Server>),
}

/// Why a text names no place for read models.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlace {
    /// It is none of the words.
    #[error("give sled, off, or a postgres:// URL")]
    Unknown,
    /// It is a URL that cannot be used.
    #[error(transparent)]
    Postgres(#[from] SettingsError),
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Place, InvalidPlace> {
        match text {
            "off" => Ok(Place::Off),
            "sled" => Ok(Place::Sled),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Place::Postgres(Box::new(Server::parse(url)?)))
            }
            _ => Err(InvalidPlace::Unknown),
        }
    }
}

impl std::fmt::Debug for Place {
    /// Without what a URL may hold of secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Off => f.write_str("off"),
            Place::Sled => f.write_str("sled"),
            Place::Postgres(server) => write!(f, "postgres at {}", server.name()),
        }
    }
}

/// The read side. A clone is another handle to the same.
#[derive(Clone)]
pub struct ReadSide {
    models: ReadModels,
    host: Host,
}

impl ReadSide {
    /// Starts to keep the built-in views of `store` up to date; none if there shall be none.
    /// `files` are where those may be that are kept in files, and with how much memory; none if
    /// none may.
    ///
    /// # Errors
    /// [`SettingsError`]: the PostgreSQL server cannot be used as it was given. One that cannot be
    /// reached is no error, but tried again.
    pub async fn start(
        store: &Store,
        files: Option<(PathBuf, Memory)>,
        place: Place,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
    ) -> Result<Option<ReadSide>, SettingsError> {
        let store_id = store.about().store_id;
        let models = match (place, files) {
            (Place::Off, _) | (Place::Sled, None) => return Ok(None),
            (Place::Sled, Some((directory, memory))) => {
                ReadModels::Sled(open_sled(&directory, store_id, memory).await)
            }
            (Place::Postgres(server), _) => {
                let name = server.name().to_owned();
                tracing::info!(server = name, schema = SCHEMA_DEFAULT, "read models");
                ReadModels::Postgres(Postgres::new(*server, SCHEMA_DEFAULT, Some(store_id))?)
            }
        };
        let timer = Arc::new(SystemTimer);
        let source = StoreSource::new(store.clone(), timer.clone());
        let seams = Seams { clock, timer, entropy };
        let host = Host::start(&source, &models, models.views(), &seams);
        Ok(Some(ReadSide { models, host }))
    }

    /// The tables.
    #[must_use]
    pub fn models(&self) -> &ReadModels {
        &self.models
    }

    /// What keeps them up to date.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Lets go of the store, each view once the batch in hand is committed, and closes the tables.
    pub async fn stop(&self) {
        self.host.stop().await;
        if let ReadModels::Sled(sled) = &self.models {
            let sled = sled.clone();
            if let Err(failed) = tokio::task::spawn_blocking(move || sled.close()).await {
                tracing::warn!(error = %failed, "the read models could not be closed");
            }
        }
    }
}

async fn open_sled(directory: &Path, store_id: uuid::Uuid, memory: Memory) -> SledBackend {
    let at = directory.to_owned();
    let opened = move || SledBackend::open_within(&at, store_id, memory);
    let opened = tokio::task::spawn_blocking(opened).await;
    let sled = match opened {
        Ok(sled) => sled,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    };
    for note in sled.notes() {
        tracing::warn!(note, "read models");
    }
    sled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_or_a_url_and_shows_no_password() {
        for (text, shown) in [
            ("off", Some("off")),
            ("sled", Some("sled")),
            ("postgres://u:secret@127.0.0.1:5432/books", Some("postgres at 127.0.0.1:5432/books")),
            ("", None),
            ("mysql://h/d", None),
            ("postgres://", None),
        ] {
            let found = text.parse::<Place>().ok().map(|place| format!("{place:?}"));
            assert_eq!(found.as_deref(), shown, "{text}");
        }
    }
}
