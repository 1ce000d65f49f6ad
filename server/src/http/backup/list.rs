//! `/admin/backup/list`: the backups in the repository that the server archives to.

use axum::Json;
use axum::extract::State;
use daybook_backup::list::Page;
use daybook_backup::{Kind as BackupKind, Manifest, Name};
use daybook_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::status::archive;
use crate::backup::kept::Unanswered;
use crate::http::event::rfc3339;
use crate::http::ledger::schema::Time;
use crate::http::page::limit_of;
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Params, parsed};
use crate::http::shapes::NotAsked;
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Backups of one page, unless the request says otherwise.
const LIMIT_DEFAULT: u64 = 20;
/// Backups of one page at most: each manifest is a request to the repository.
const LIMIT_MAX: u64 = 100;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::Monitor, routes!(list))
}

/// A backup: its manifest, without the pieces, of which there may be thousands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackupManifest)]
pub struct ManifestView {
    /// backup, which somebody took, or archive, which archiving replaces by the next one.
    #[schema(value_type = String, example = "archive")]
    kind: BackupKind,
    /// The store.
    store: Uuid,
    /// The epoch it was in.
    epoch: u32,
    /// How many events it holds: the position of the next one.
    end: u64,
    /// The chain at its end, in hexadecimal.
    chain: String,
    /// When it was taken.
    #[schema(value_type = Time)]
    taken: String,
    /// Bytes of all of its segments; backups share what they have in common.
    size: u64,
    /// The newest format among its segments.
    format: u32,
    /// Whom it is encrypted to; empty: it is not.
    recipients: Vec<String>,
}

impl ManifestView {
    /// That of `manifest`.
    #[must_use]
    pub fn new(manifest: &Manifest) -> ManifestView {
        ManifestView {
            kind: manifest.kind,
            store: manifest.store,
            epoch: manifest.epoch,
            end: manifest.end,
            chain: manifest.chain.clone(),
            taken: rfc3339(Timestamp(manifest.taken)),
            size: manifest.size,
            format: manifest.format,
            recipients: manifest.recipients.clone(),
        }
    }
}

/// A backup that is there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backup)]
pub struct BackupView {
    /// The object that makes it one: what --backup takes.
    name: String,
    manifest: ManifestView,
}

impl BackupView {
    /// The backup of this name, which says this.
    #[must_use]
    pub fn new((name, manifest): &(Name, Manifest)) -> BackupView {
        BackupView { name: name.key.clone(), manifest: ManifestView::new(manifest) }
    }
}

/// A part of the backups in the repository.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backups)]
pub struct Listed {
    /// The repository: what --from takes.
    from: String,
    /// The store's epoch: of another one are backups of a history that a restore left.
    epoch: u32,
    /// The newest first.
    backups: Vec<BackupView>,
    /// What is wrong with manifests of this page that cannot be read.
    problems: Vec<String>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
}

/// Which backups.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many, up to 100; 20 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
}

/// The backups in the repository that this server archives to, whoever took them.
#[utoipa::path(
    get, path = "/admin/backup/list", tag = "backup",
    operation_id = "list_backups", params(ListParams),
    responses((status = 200, description = "A page", body = Listed), NotAsked)
)]
async fn list(
    State(context): State<Context>,
    Params(params): Params<ListParams>,
) -> Result<Json<Listed>, Problem> {
    let limit = limit_of(params.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = params.cursor.map(|cursor| {
        let unknown = || Problem::field("cursor", "give the `next` of a page, as it is");
        Name::parse(&cursor).ok_or_else(unknown)
    });
    let archive = archive(&context)?;
    let Page { backups, problems, next } = archive.kept().page(after.transpose()?, limit).await?;
    Ok(Json(Listed {
        from: archive.status().location,
        epoch: context.works().about().epoch.0,
        backups: backups.iter().map(BackupView::new).collect(),
        problems,
        next: next.map(|name| name.key),
    }))
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Problem {
        let kind = match unanswered {
            Unanswered::Busy => Kind::Overloaded,
            Unanswered::TooSlow { .. } => Kind::TimedOut,
            Unanswered::Refused(_) => Kind::ArchiveUnread,
            Unanswered::Panicked(_) => Kind::Internal,
        };
        Problem::new(kind, unanswered.to_string())
    }
}
