//! Operations: what keeps a server running, who may use it, what was done, what it can be asked.
//!
//! ```text
//!   /ui/operations                    backups, scavenges, verification, certificates    upkeep
//!   /ui/operations/backups            those that are there; one verified             backups
//!   /ui/users[/{login}[/…]]           who may call                                      users
//!   /ui/tokens[/{id}/revoke]          by what machines call                           tokens
//!   /ui/password                      one's own                                     password
//!   /ui/audit                         what was done, and denied                         audit
//!   /ui/config[/log]                  what the server was told, and what it logs    settings
//!   /ui/api                           the API, from its own description                 reference
//! ```

pub mod audit;
pub mod backups;
pub mod password;
pub mod reference;
pub mod settings;
pub mod tokens;
pub mod upkeep;
pub mod users;

use super::Ui;
use crate::security::gate::{Gate, Routes};
use crate::security::rights::Right;

/// The routes of this room.
pub fn routes(gate: &Gate) -> Routes<Ui> {
    use Right::{Administer, Delegate, Inspect, Known, Monitor, Operate, Rescue};
    Routes::new(gate)
        .get("/ui/operations", Monitor, upkeep::show)
        .post("/ui/operations/backup", Operate, upkeep::back_up)
        .get("/ui/operations/backups", Monitor, backups::show)
        .post("/ui/operations/backups/verify", Operate, backups::verify)
        .post("/ui/operations/scavenge", Operate, upkeep::scavenge)
        .post("/ui/operations/scavenge/stop", Rescue, upkeep::stop_scavenge)
        .post("/ui/operations/verify", Operate, upkeep::verify)
        .post("/ui/operations/reload", Rescue, upkeep::reload)
        .post("/ui/operations/clock", Rescue, upkeep::accept_clock)
        .get("/ui/users", Administer, users::show)
        .post("/ui/users", Administer, users::create)
        .get("/ui/users/{login}", Administer, users::one)
        .post("/ui/users/{login}/enable", Administer, users::enable)
        .post("/ui/users/{login}/disable", Administer, users::disable)
        .post("/ui/users/{login}/password", Administer, users::reset_password)
        .post("/ui/users/{login}/groups", Administer, users::set_groups)
        .post("/ui/users/{login}/delete", Administer, users::delete)
        .get("/ui/tokens", Known, tokens::show)
        .post("/ui/tokens", Delegate, tokens::issue)
        .post("/ui/tokens/{id}/revoke", Delegate, tokens::revoke)
        .get("/ui/password", Known, password::show)
        .post("/ui/password", Known, password::change)
        .get("/ui/audit", Known, audit::show)
        .get("/ui/config", Inspect, settings::show)
        .post("/ui/config/log", Operate, settings::set_log)
        .get("/ui/api", Known, reference::show)
}
