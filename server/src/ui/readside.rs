//! The read side: projections, groups of consumers, connectors; how far each is, and what it can be
//! told.
//!
//! ```text
//!   /ui/projections[/{name}[/{order}]]                        projections
//!   /ui/programs/{name}[/{order}]                             those that users wrote
//!   /ui/subscriptions[/{stream}/{group}[/{replay|discard}]]   subscriptions
//!   /ui/connectors[/{name}[/…]]                               connectors
//! ```

pub mod connectors;
pub mod programs;
pub mod projections;
pub mod subscriptions;

use maud::Markup;

use super::Ui;
use super::chart::{Chart, Line};
use super::lags::Behind;
use super::visitor::Visit;
use crate::security::gate::{Gate, Routes};
use crate::security::rights::Right;

/// The routes of this room.
pub fn routes(gate: &Gate) -> Routes<Ui> {
    use Right::{Inspect, Monitor, Operate};
    Routes::new(gate)
        .get("/ui/projections", Monitor, projections::show)
        .get("/ui/projections/{name}", Inspect, projections::one)
        .post("/ui/projections/{name}/{order}", Operate, projections::order)
        .get("/ui/programs/{name}", Inspect, programs::one)
        .post("/ui/programs/{name}/{order}", Operate, programs::order)
        .get("/ui/subscriptions", Inspect, subscriptions::show)
        .get("/ui/subscriptions/{stream}/{group}", Inspect, subscriptions::one)
        .post("/ui/subscriptions/{stream}/{group}/replay", Operate, subscriptions::replay)
        .post("/ui/subscriptions/{stream}/{group}/discard", Operate, subscriptions::discard)
        .get("/ui/connectors", Monitor, connectors::show)
        .get("/ui/connectors/{name}", Inspect, connectors::one)
        .post("/ui/connectors/{name}/{order}", Operate, connectors::order)
        .post("/ui/connectors/{name}/parked/retry", Operate, connectors::retry_all)
        .post("/ui/connectors/{name}/parked/{position}/retry", Operate, connectors::retry)
        .post("/ui/connectors/{name}/parked/{position}/discard", Operate, connectors::discard)
}

/// How far something was behind, lately.
fn lag(visit: &Visit, behind: Behind, labels: &[(&str, &str)]) -> Markup {
    let (values, every) = visit.node().console().lag(behind, labels);
    let count = values.len();
    let ago = |i: usize| match (count - 1 - i) as u64 * every.as_secs() {
        0 => "now".to_owned(),
        seconds => format!("{}:{:02} min ago", seconds / 60, seconds % 60),
    };
    let labels = (0..count).map(ago).collect();
    let lines = vec![Line { name: "behind", values: values.into_iter().map(Some).collect() }];
    Chart { title: "Lag", unit: "events", lines, labels }.draw()
}
