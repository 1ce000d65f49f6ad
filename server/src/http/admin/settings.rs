//! `/admin/config`: what the server was told at its start, and by whom; and what it made of the
//! memory it found.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::config::Setting;
use crate::memory::Memory;
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::Inspect, routes!(list))
}

/// A setting, as it was at the start.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Setting)]
pub struct SettingView {
    /// The flag's name, which is the key in a settings file, too.
    #[schema(example = "drain-timeout")]
    name: String,
    /// null if it is not set; `(not shown)` if it may hold a secret.
    value: Option<String>,
    /// default, flag, the variable's name, or the file's.
    from: String,
}

/// What the server was told at its start. A change of what is logged is at /admin/log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Settings)]
pub struct SettingsView {
    settings: Vec<SettingView>,
    memory: MemoryView,
}

/// How much memory the server may take, and what it keeps within.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Memory)]
pub struct MemoryView {
    /// null if nobody says.
    limit_bytes: Option<u64>,
    /// machine, or the control group's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    limited_by: Option<String>,
    /// Bytes by what they are for.
    budgets: BTreeMap<&'static str, u64>,
}

impl From<&Memory> for MemoryView {
    fn from(memory: &Memory) -> MemoryView {
        MemoryView {
            limit_bytes: memory.limit.as_ref().map(|limit| limit.bytes),
            limited_by: memory.limit.as_ref().map(|limit| limit.by.to_string()),
            budgets: memory.budgets.named().into_iter().collect(),
        }
    }
}

impl From<&Setting> for SettingView {
    fn from(setting: &Setting) -> SettingView {
        let Setting { name, value, from } = setting.clone();
        SettingView { name, value, from }
    }
}

/// Every setting of the server, and where each comes from; its limit of memory, and what it keeps within.
#[utoipa::path(
    get, path = "/admin/config", tag = "admin",
    operation_id = "get_config",
    responses((status = 200, description = "They", body = SettingsView))
)]
async fn list(State(context): State<Context>) -> Json<SettingsView> {
    let settings = context.told().iter().map(SettingView::from).collect();
    Json(SettingsView { settings, memory: context.memory().into() })
}
