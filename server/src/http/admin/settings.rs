//! `/admin/config`: what the server was told at its start, and by whom.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::config::Setting;
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
}

impl From<&Setting> for SettingView {
    fn from(setting: &Setting) -> SettingView {
        let Setting { name, value, from } = setting.clone();
        SettingView { name, value, from }
    }
}

/// Every setting of the server, and where each comes from.
#[utoipa::path(
    get, path = "/admin/config", tag = "admin",
    operation_id = "get_config",
    responses((status = 200, description = "They", body = SettingsView))
)]
async fn list(State(context): State<Context>) -> Json<SettingsView> {
    Json(SettingsView { settings: context.told().iter().map(SettingView::from).collect() })
}
