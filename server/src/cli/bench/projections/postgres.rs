//! The same history into PostgreSQL: a server that is there already, with a schema made for this
//! and dropped afterwards. Its processor time is its own; what is shown is this process's.

use std::sync::Arc;

use anyhow::Context as _;
use daybook_model::Position;
use daybook_projections::postgres::{Postgres, Server};
use daybook_projections::views;
use daybook_projections::{Host, Projection, Seams};
use daybook_store::Store;

use super::{Against, Bench, CaughtUp, Goal, MIB, Row, measured, visible};
use crate::readside::source::StoreSource;

/// Events a second that are wanted.
const RATE_GOAL: f64 = 15_000.0;
/// The schema; what a run that was killed has left in it is dropped.
const SCHEMA: &str = "daybook_bench";

impl Bench {
    /// Builds the views in PostgreSQL from the first event on: each alone, then all at once.
    pub(super) async fn postgres(
        &self,
        url: &str,
        store: &Store,
        ceiling: f64,
    ) -> anyhow::Result<Vec<Row>> {
        let server = Server::parse(url)?;
        let mut rows = Vec::new();
        let mut groups: Vec<_> =
            views::complete().into_iter().map(|view| (view.name(), vec![view])).collect();
        groups.push(("all built-in views", views::complete()));
        for (name, views) in groups {
            let name = format!("{name} into PostgreSQL, catching up");
            self.say(&name);
            let postgres = Postgres::new(server.clone(), SCHEMA, None)?;
            postgres.drop_schema().await?;
            let caught_up = built(&postgres, store, views).await?;
            postgres.drop_schema().await?;
            rows.extend(shown(&name, &caught_up, store.committed().0, ceiling));
        }
        Ok(rows)
    }
}

async fn built(
    postgres: &Postgres,
    store: &Store,
    views: Vec<Arc<dyn Projection>>,
) -> anyhow::Result<CaughtUp> {
    let last = store.committed().0.checked_sub(1).context("an empty history")?;
    let names: Vec<_> = views.iter().map(|view| view.name()).collect();
    measured(async {
        let seams = Seams::system();
        let source = StoreSource::new(store.clone(), seams.timer.clone());
        let host = Host::start(&source, postgres, views, &seams);
        for view in names {
            visible(postgres, view, Position(last)).await?;
        }
        host.stop().await;
        Ok(())
    })
    .await
}

fn shown(name: &str, caught_up: &CaughtUp, events: u64, ceiling: f64) -> [Row; 3] {
    let rate = events as f64 / caught_up.elapsed.as_secs_f64();
    let goal = Some(Goal::AtLeast(RATE_GOAL));
    let mut row = Row::with_goal(name.to_owned(), rate, "events/s", goal);
    row.cpu_us = Some(caught_up.cpu.as_micros() as f64 / events as f64);
    let mut of_feed = row.clone();
    let feed = Against { name: "the feed alone", figure: ceiling, cpu_us: None, goal: None };
    of_feed.against = Some(feed);
    let memory = caught_up.memory as f64 / MIB;
    let memory = Row::with_goal(format!("{name}, memory grown by"), memory, "MiB", None);
    [row, of_feed, memory]
}
