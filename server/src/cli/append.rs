//! `daybook append`: one event from the command line, or many from a file.

use std::io::{BufRead, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use daybook_client::{Appended, Client, ContentType, ExpectedRevision, NewEvent, StreamName};
use daybook_model::limits::APPEND_SIZE_MAX;
use daybook_model::{Entropy as _, SystemEntropy};
use owo_colors::OwoColorize as _;
use serde_json::json;
use uuid::Uuid;

use super::place::expected_revision;
use super::remote::Remote;
use super::report::{Json, colours, escaped};
use crate::http::event::read_one_or_many;

/// Events of a file that are appended together: many enough that a file is not one sync an event,
/// few enough that a refusal names a place in it.
const FILE_BATCH_EVENTS: usize = 500;
/// Bytes of a file's events that are appended together.
const FILE_BATCH_SIZE: usize = 4 * 1024 * 1024;

/// Appends events to a stream.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  daybook append account-1 AccountOpened '{\"owner\":\"Ada\"}' --expected no_stream
  echo '{\"amount\":5}' | daybook append account-1 MoneyPaid -
  daybook append account-1 --file events.jsonl     one event a line: {\"type\":…,\"data\":…}")]
pub struct AppendArgs {
    /// The stream to append to
    stream: String,

    /// What happened, in the past tense
    #[arg(value_name = "TYPE", required_unless_present = "file", conflicts_with = "file")]
    event_type: Option<String>,

    /// The event's data; '-' reads standard input
    #[arg(conflicts_with = "file", default_value = "{}", hide_default_value = true)]
    data: String,

    /// The event's id; give the same again to retry safely [default: a new one]
    #[arg(long, value_name = "UUID", conflicts_with = "file")]
    id: Option<Uuid>,

    /// Metadata of the event, JSON by convention
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    metadata: Option<String>,

    /// How the data is to be read [default: json if it is]
    #[arg(long, value_name = "TYPE", value_enum, conflicts_with = "file")]
    content_type: Option<Content>,

    /// What must hold of the stream: any, no_stream, stream_exists, or its last revision
    #[arg(long, value_name = "REVISION", default_value = "any", value_parser = expected_revision)]
    expected: ExpectedRevision,

    /// Append the events of a file, one JSON object a line; '-' reads standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Content {
    Json,
    Binary,
}

/// Appends.
///
/// # Errors
/// Why nothing was appended; for a file, how much of it was.
pub fn run(args: AppendArgs) -> anyhow::Result<ExitCode> {
    super::runtime(Some(1))?.block_on(async {
        let stream = StreamName::new(&args.stream).context("STREAM cannot be used")?;
        let client = args.remote.client()?;
        let (events, last) = match &args.file {
            Some(path) => append_file(&client, &stream, &args, path).await?,
            None => {
                let event = event(&args)?;
                (1, Some(client.append(&stream, args.expected, vec![event]).await?))
            }
        };
        report(&args, &stream, events, last)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn report(
    args: &AppendArgs,
    stream: &StreamName,
    events: usize,
    last: Option<Appended>,
) -> anyhow::Result<()> {
    let revision = last.and_then(|last| last.revision).map(|revision| revision.0);
    let position = last.and_then(|last| last.checkpoint).map(|at| at.position().0);
    let value = json!({
        "stream": stream.as_str(),
        "events": events,
        "revision": revision,
        "position": position,
    });
    let number = |number: Option<u64>| number.map_or("none".to_owned(), |n| n.to_string());
    let (mut revision, mut position) = (number(revision), number(position));
    if colours() {
        revision = revision.bold().to_string();
        position = position.bold().to_string();
    }
    let what = if events == 1 { String::new() } else { format!("{events} events ") };
    let text = format!(
        "appended {what}to {}: revision {revision}, position {position}\n",
        escaped(stream.as_str())
    );
    args.json.answer(&value, &text)
}

fn event(args: &AppendArgs) -> anyhow::Result<NewEvent> {
    let data: Bytes = if args.data == "-" {
        let mut data = Vec::new();
        // One byte more than is allowed, so that too much is noticed and not cut off.
        let limit = APPEND_SIZE_MAX as u64 + 1;
        std::io::stdin()
            .take(limit)
            .read_to_end(&mut data)
            .context("cannot read standard input")?;
        data.into()
    } else {
        args.data.clone().into()
    };
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&data).is_ok();
    let content_type = match args.content_type {
        Some(Content::Json) if !is_json => bail!("the data is not JSON; say --content-type binary"),
        Some(Content::Json) => ContentType::Json,
        None if is_json => ContentType::Json,
        Some(Content::Binary) | None => ContentType::Binary,
    };
    Ok(NewEvent {
        id: args.id.unwrap_or_else(new_id),
        event_type: args.event_type.clone().unwrap_or_default(),
        content_type,
        metadata: args.metadata.clone().unwrap_or_default().into(),
        data,
    })
}

fn new_id() -> Uuid {
    uuid::Builder::from_random_bytes(SystemEntropy.bytes()).into_uuid()
}

/// Appends a file in batches. The expectation holds for the first; unless it is `any`, each further
/// one expects to follow the one before, so that nobody else's event comes between.
async fn append_file(
    client: &Client,
    stream: &StreamName,
    args: &AppendArgs,
    path: &PathBuf,
) -> anyhow::Result<(usize, Option<Appended>)> {
    let mut expected = args.expected;
    let (mut done, mut last) = (0, None);
    let mut batch: Vec<NewEvent> = Vec::new();
    let mut size = 0;
    let mut lines = open(path)?.lines().enumerate();
    loop {
        let line = lines.next();
        let end = line.is_none();
        if let Some((number, line)) = line {
            let line = line.with_context(|| format!("cannot read {}", path.display()))?;
            if !line.trim().is_empty() {
                let events = parse(&line).with_context(|| {
                    format!("line {} of {} ({done} events done)", number + 1, path.display())
                })?;
                size += line.len();
                batch.extend(events);
            }
        }
        let full = batch.len() >= FILE_BATCH_EVENTS || size >= FILE_BATCH_SIZE;
        if !batch.is_empty() && (full || end) {
            let events = std::mem::take(&mut batch);
            let count = events.len();
            let appended = client.append(stream, expected, events).await.with_context(|| {
                format!("the first {done} events of {} were appended, no more", path.display())
            })?;
            done += count;
            size = 0;
            if let (Some(revision), false) =
                (appended.revision, args.expected == ExpectedRevision::Any)
            {
                expected = ExpectedRevision::Exact(revision);
            }
            last = Some(appended);
        }
        if end {
            return Ok((done, last));
        }
    }
}

fn parse(line: &str) -> anyhow::Result<Vec<NewEvent>> {
    read_one_or_many(line.as_bytes(), new_id).map_err(|problem| anyhow::anyhow!("{problem}"))
}

fn open(path: &PathBuf) -> anyhow::Result<Box<dyn BufRead>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    #[expect(clippy::disallowed_methods, reason = "a file of the user, not of the store")]
    let file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Box::new(std::io::BufReader::new(file)))
}
