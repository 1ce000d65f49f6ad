//! The numbers of a server: what `/metrics` shows, what is written about it, and what is built on it.
//!
//! ```text
//!   /metrics of a server that has done everything
//!      ├── = docs/operations.md     each family, with its type, its labels and its unit
//!      └── ⊇ server/deploy/**       what rules, alerts and dashboards ask for
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daybook_client::persistent::{Group, GroupSettings, GroupStart};
use daybook_client::{Client, ExpectedRevision};
use daybook_log::disk::sim::{Fault, Operation, Repeat, SimDisk};
use daybook_store::Append;
use tempfile::TempDir;

use crate::support::daemon::{Daemon, daybook, run, said};
use crate::support::events::{event, name};
use crate::support::http::{get, post};
use crate::support::ledger::{Ledger, id, payment};
use crate::support::node::{Server, client};
use crate::support::{PATIENCE, soon, until};

/// A family of metrics: its type, and its labels without those of the format.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
}

/// The families of a page, by name.
type Page = BTreeMap<String, Family>;

/// A file of the repository.
fn file(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A server that calls a risk service, which is not there, relays to a file, and archives.
fn serve(directory: &Path) -> Daemon {
    let connectors = directory.join("connectors.toml");
    let relayed = directory.join("relayed.jsonl");
    let text =
        format!("[[connector]]\nname = 'books'\nkind = 'file'\npath = '{}'\n", relayed.display());
    std::fs::write(&connectors, text).expect("a file");
    let mut command = daybook(&["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(directory.join("data")).arg("--connectors").arg(connectors);
    command.args(["--risk-url", "http://127.0.0.1:1/nobody"]);
    command.arg("--archive").arg(directory.join("archive"));
    command.args(["--trace-otlp", "grpc://127.0.0.1:1", "--trace-ratio", "1"]);
    Daemon::spawn(command, PATIENCE).unwrap_or_else(|said| panic!("no server: {said}"))
}

/// Has a message consumed, so that its group has a checkpoint.
async fn consume(client: &Client) {
    let group = Group::of_stream(name("orders-1"), "mail");
    let settings =
        GroupSettings { min_checkpoint_count: 1, max_checkpoint_count: 1, ..Default::default() };
    client
        .append(&name("orders-1"), ExpectedRevision::Any, vec![event(1)])
        .await
        .expect("appended");
    let groups = client.persistent();
    groups.create(&group, &settings, GroupStart::Start).await.expect("a group");
    let mut consumer = groups.consume(&group, 10).await.expect("a consumer");
    let message = soon("a message", consumer.next()).await.expect("a message");
    message.ack().await.expect("sent");
    until("a checkpoint", || async {
        groups.info(&group).await.expect("a group").checkpoint.is_some()
    })
    .await;
}

/// Has transfers wait for the risk service until its breaker opens.
async fn wait_in_vain(address: SocketAddr) {
    let ledger = Ledger { address };
    let (sender, receiver) = (id(1), id(2));
    for account in [sender, receiver] {
        ledger.open(account, "100.00").await;
    }
    for number in 10..16 {
        ledger.post("/v1/transfers", id(number), &payment(sender, receiver, "1.00")).await;
    }
    until("the breaker to open", || async {
        get(address, "/metrics").await.body.contains("\ndaybook_breaker_transitions_total{")
    })
    .await;
}

/// Has a projection of a user's run.
async fn project(address: SocketAddr) {
    let program = "fromAll().when({ $init: () => ({}), Happened: (state) => state })";
    let created = post(address, "/projections/continuous?name=orders&type=js", program).await;
    assert_eq!(created.status, 201, "{created:?}");
    until("the projection to be shown", || async {
        get(address, "/metrics").await.body.contains("\ndaybook_script_running{")
    })
    .await;
}

/// The page of a server that has done everything that makes a family.
async fn page() -> String {
    let directory = TempDir::new().expect("a directory");
    let server = serve(directory.path());
    consume(&client(server.address)).await;
    wait_in_vain(server.address).await;
    project(server.address).await;
    let page = get(server.address, "/metrics").await;
    assert_eq!(page.status, 200);
    page.body
}

/// The families of a page in Prometheus' text format.
fn families(page: &str) -> Page {
    let mut families = Page::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(said) = line.strip_prefix("# TYPE ") {
            let (name, kind) = said.split_once(' ').expect("a name and a type");
            current = name.to_owned();
            let family = Family { kind: kind.to_owned(), labels: BTreeSet::new() };
            assert!(families.insert(current.clone(), family).is_none(), "{name} is there twice");
        } else if !line.starts_with('#') {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            let Some((labels, _)) = labels else { continue };
            let names = labels.split("=\"").map(|text| text.rsplit([',', '"']).next());
            // What follows the last is a value.
            let names = names.take(labels.matches("=\"").count()).flatten();
            let family = families.get_mut(&current).expect("a type before a value");
            family.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    families
}

/// The families that a document describes, with their units: rows of `| names | type | unit | … |`.
fn described(text: &str) -> BTreeMap<String, (Family, String)> {
    let mut described = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [names, kind, unit, ..] = cells[..] else { continue };
        let kind = match kind {
            "c" => "counter",
            "g" => "gauge",
            "h" => "histogram",
            "s" => "summary",
            _ => continue,
        };
        for name in names.split('`').skip(1).step_by(2) {
            let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            let labels = labels.map(str::to_owned).collect();
            let family = Family { kind: kind.to_owned(), labels };
            let before = described.insert(name.to_owned(), (family, unit.to_owned()));
            assert!(before.is_none(), "{name} is described twice");
        }
    }
    described
}

/// The metrics that a file of rules or panels names, recording rules' own left out.
fn named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with("daybook_") || word.starts_with("process_")).collect()
}

/// All files below `directory` whose names end so.
fn files_below(directory: &Path, endings: [&str; 2], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, endings, found);
        } else if path.extension().is_some_and(|is| endings.iter().any(|ending| is == *ending)) {
            found.push(path);
        }
    }
}

/// Whether a page has the series `name`.
fn has(page: &Page, name: &str) -> bool {
    let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|end| name.strip_suffix(end));
    let whole = |part: &str| page.get(part).map(|family| family.kind.as_str());
    page.contains_key(name)
        || parts.into_iter().any(|part| matches!(whole(part), Some("histogram" | "summary")))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_is_described_and_what_is_asked_for_is_shown() {
    let page = families(&page().await);
    let described = described(&file("docs/operations.md"));
    let mut wrong = Vec::new();
    for (name, family) in &page {
        match described.get(name) {
            None => wrong.push(format!("{name} is not described: {family:?}")),
            Some((said, _)) if said != family => {
                wrong.push(format!("{name} is {family:?}, and described as {said:?}"));
            }
            Some((_, unit)) => {
                let units = [("_seconds", "s"), ("_bytes", "bytes")];
                let stem = name.trim_end_matches("_total");
                let by_name = units.iter().find(|(end, _)| stem.ends_with(end));
                if unit.is_empty() || by_name.is_some_and(|(_, is)| !unit.starts_with(is)) {
                    wrong.push(format!("{name} is not in '{unit}'"));
                }
            }
        }
    }
    for name in described.keys().filter(|name| !page.contains_key(*name)) {
        wrong.push(format!("{name} is described, and not shown"));
    }

    let mut files = Vec::new();
    files_below(&root().join("server/deploy"), ["yml", "json"], &mut files);
    assert!(files.len() >= 8, "{files:?}");
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a text");
        for name in named(&text).into_iter().filter(|name| !has(&page, name)) {
            wrong.push(format!("{} asks for {name}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_alert_has_its_section_in_the_runbook() {
    let (alerts, runbook) =
        (file("server/deploy/prometheus/alerts.yml"), file("docs/operations.md"));
    let field = |name: &str| -> Vec<String> {
        let fields = alerts.lines().filter_map(|line| {
            let line = line.trim().trim_start_matches("- ");
            line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned)
        });
        fields.collect()
    };
    let names = field("alert");
    let links = names.iter().map(|name| format!("docs/operations.md#{}", name.to_lowercase()));
    assert!(names.len() > 20, "{names:?}");
    assert_eq!(field("runbook"), links.collect::<Vec<_>>());
    for part in ["severity", "summary", "description"] {
        assert_eq!(field(part).len(), names.len(), "each alert has its {part}");
    }
    let headings = runbook.lines().filter_map(|line| line.strip_prefix("#### "));
    let headings: Vec<&str> = headings.filter(|title| title.starts_with("Daybook")).collect();
    assert_eq!(headings, names, "sections as alerts, in their order");
}

/// The value of a line of the server's page.
async fn value(address: SocketAddr, line: &str) -> f64 {
    let page = get(address, "/metrics").await.body;
    let mut lines = page.lines().filter_map(|found| found.strip_prefix(line));
    let value = lines.next().unwrap_or_else(|| panic!("there is no {line} in {page}"));
    value.trim().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_and_trial_balances_leave_their_time_and_outcome() {
    const BACKUP: &str = "daybook_backup_last_success_timestamp_seconds ";
    const COMPARED: &str = "daybook_trial_balance_verified_timestamp_seconds ";
    let directory = TempDir::new().expect("a directory");
    let server = serve(directory.path());
    let address = server.address;
    Ledger { address }.open(id(1), "100.00").await;
    let started = value(address, "daybook_start_time_seconds ").await;
    assert_eq!(value(address, BACKUP).await, 0.0);
    assert_eq!(value(address, COMPARED).await, 0.0);

    // A plain look compares nothing.
    assert_eq!(get(address, "/v1/trial-balance").await.status, 200);
    assert_eq!(value(address, COMPARED).await, 0.0);
    assert_eq!(get(address, "/v1/trial-balance?verify=true").await.status, 200);
    assert!(value(address, COMPARED).await >= started);
    assert_eq!(value(address, "daybook_trial_balance_off ").await, 0.0);

    let (to, url) = (directory.path().join("backup"), format!("http://{address}"));
    let backup = run(&["backup", "--to", &to.display().to_string(), "--url", &url]);
    assert!(backup.status.success(), "{}", said(&backup));
    until("the backup to be counted", || async { value(address, BACKUP).await >= started }).await;
    let outcome = "daybook_backups_total{outcome=\"complete\"}";
    assert_eq!(value(address, outcome).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_were_not_written_are_counted_as_failed() {
    let disk = SimDisk::new(7);
    let server = Server::on_disk(Arc::new(disk.clone())).await;
    let address = server.address();
    let failed = "daybook_appends_total{outcome=\"failed\"}";
    assert_eq!(value(address, failed).await, 0.0);
    disk.fail_after(Operation::Sync, Some(".log"), 1, Fault::Eio, Repeat::Always);
    // The first is in doubt, the others are refused, because nothing is written any more.
    for number in 1..=3 {
        let append = Append::to_stream(name("a-1"), ExpectedRevision::Any, [event(number)]);
        server.store().append(append).await.expect_err("a failing disk");
    }
    assert_eq!(value(address, failed).await, 3.0);
    assert_eq!(value(address, "daybook_store_state{state=\"poisoned\"}").await, 1.0);
    assert_eq!(value(address, "daybook_ready ").await, 0.0);
    server.stop().await;
}
