//! UmaDB's side: its server with its defaults, in a process of its own, and its Rust client.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;
use umadb::{CliOptions, start_server_with_cli_options};
use umadb_client::{AsyncUmaDbClient, UmaDbClient};
use umadb_dcb::{DcbAppendCondition, DcbEvent, DcbEventStoreAsync as _, DcbQuery, DcbQueryItem};
use uuid::Uuid;

use crate::load::{self, Measured, Phase, Shape};
use crate::process::Server;

/// Serves until it is killed: what UmaDB's own program does without options.
pub fn serve(listen: &str, data: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(data)?;
    let options = CliOptions {
        listen_addr: listen.to_owned(),
        db_path: data.to_string_lossy().into_owned(),
        ..CliOptions::default()
    };
    start_server_with_cli_options(options).map_err(|error| anyhow!("UmaDB: {error}"))
}

/// Measures a server of its own on the new directory `data`.
pub async fn measure(data: &Path, shape: Shape) -> anyhow::Result<Measured> {
    let server = Server::start(&std::env::current_exe()?, |listen| {
        vec!["umadb-server".into(), "--listen".into(), listen.into(), "--data".into(), data.into()]
    })
    .await?;
    let url = format!("http://{}", server.address());
    let mut clients = Vec::new();
    for _ in 0..shape.scenario.connections {
        let client = UmaDbClient::new(url.clone()).connect_async().await;
        clients.push(Arc::new(client.map_err(|error| anyhow!("UmaDB: {error}"))?));
    }
    let bytes = load::data(shape.size).to_vec();
    let writer = |number: u64, phase| {
        let client = Arc::clone(&clients[number as usize % clients.len()]);
        write(client, number, shape.scenario.events, bytes.clone(), phase)
    };
    load::measure(shape, || server.cpu_us(), writer).await
}

async fn write(
    client: Arc<AsyncUmaDbClient>,
    number: u64,
    count: u64,
    data: Vec<u8>,
    mut phase: Phase,
) -> anyhow::Result<Phase> {
    let tag = format!("bench-{number}");
    let mine = DcbQuery::new().item(DcbQueryItem::new().tags([tag.as_str()]));
    let (mut next, mut after) = (0, None);
    while !phase.is_over() {
        let event = |id| {
            DcbEvent::default()
                .event_type("BenchEvent")
                .tags([tag.as_str()])
                .data(data.as_slice())
                .uuid(Uuid::from_u64_pair(number, id))
        };
        let events: Vec<DcbEvent> = (next..next + count).map(event).collect();
        next += count;
        let condition = DcbAppendCondition { fail_if_events_match: mine.clone(), after };
        let sent = Instant::now();
        let position = client.append(events, Some(condition), None).await;
        after = Some(position.map_err(|error| anyhow!("UmaDB: {error}"))?);
        phase.answered(sent);
    }
    Ok(phase)
}
