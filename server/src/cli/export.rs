//! `daybook export`: events as JSON lines, so that `daybook import` gives back every byte.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use daybook_client::{Client, EventFilter, Links, Pattern, ReadAll, ReadStream};
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::filter::InvalidFilter;
use daybook_model::{EventView, Filter, Revision, StreamName, SystemClock, SystemEntropy};
use daybook_store::{AllFrom, Direction, Environment, From, Options, Store};
use daybook_wire::event::TOMBSTONE_REVISION;
use futures_util::TryStreamExt as _;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use serde_json::json;

use super::place::Subject;
use super::read::FilterArgs;
use super::remote::Remote;
use super::report::Json;
use crate::http::event;

/// Bytes written at a time.
const BUFFER_SIZE: usize = 1024 * 1024;
/// Events after which the progress is shown anew.
const SHOWN_EACH: u64 = 1_000;

/// Writes events as JSON lines, of a running server (--url) or of a stopped store (--data).
#[derive(Debug, Args)]
#[command(
    after_help = "Each line is an event as /v1 shows it; data that would not come back byte \
    for byte stands as base64. `daybook import --from FILE` reads them.

Examples:
  daybook export --to events.jsonl
  daybook export --to events.jsonl --json           how many there were
  daybook export account-1 | jq .type
  daybook export --stream-prefix account- --data ./data --to accounts.jsonl"
)]
pub struct ExportArgs {
    /// One stream; the whole log if none is named
    stream: Option<String>,

    /// The file to write; standard output if none is named
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,

    /// Read a stopped store instead of a server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// Exports.
///
/// # Errors
/// Why not all was written; a file that was to be written is not there then.
pub fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let subject = Subject::of(args.stream.as_deref(), args.stream.is_none(), None)?;
    let filter = args.filter.filter(&subject)?;
    if args.to.is_none() && args.json.wanted() && !args.json.leaves_output_to_people() {
        bail!("the events are JSON, and go to standard output: give --to FILE, or --json=FILE");
    }
    let mut lines = Lines::to(args.to.as_deref())?;
    super::runtime(None)?.block_on(async {
        match &args.data {
            Some(data) => {
                let filter = filter.map(compiled).transpose()?.map(Arc::new);
                from_store(data, subject, filter, &mut lines).await
            }
            None => {
                let client = args.remote.client()?;
                let query = ReadAll { filter, ..ReadAll::default() };
                from_server(&client, subject, query, &mut lines).await
            }
        }
    })?;
    let (events, bytes) = lines.finish()?;
    let to = args.to.as_ref().map(|path| path.display().to_string());
    if args.json.wanted() {
        args.json.answer(&json!({ "to": to, "events": events, "bytes": bytes }), "")?;
    } else if let Some(to) = to {
        eprintln!("{} events, {} in {to}", HumanCount(events), HumanBytes(bytes));
    }
    Ok(ExitCode::SUCCESS)
}

async fn from_server(
    client: &Client,
    subject: Subject,
    query: ReadAll,
    lines: &mut Lines,
) -> anyhow::Result<()> {
    let mut events = match subject {
        Subject::Stream(stream) => {
            let all = ReadStream { links: Links::Keep, ..ReadStream::new(stream) };
            client.read_stream(ReadStream { count: u64::MAX, ..all }).await?
        }
        Subject::All => client.read_all(ReadAll { count: u64::MAX, ..query }).await?,
    };
    while let Some(resolved) = events.try_next().await? {
        if let Some(event) = resolved.original() {
            lines.write(&event.view())?;
        }
    }
    Ok(())
}

async fn from_store(
    data: &Path,
    subject: Subject,
    filter: Option<Arc<Filter>>,
    lines: &mut Lines,
) -> anyhow::Result<()> {
    let disk = OsDisk::open(data, Access::Write)?;
    let environment = Environment {
        disk: Arc::new(disk),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    let opening = tokio::task::spawn_blocking(move || Store::open(environment, Options::default()));
    let store = opening.await.context("opening the store panicked")??;
    let written = read_store(&store, subject, filter, lines).await;
    store.close().await;
    written
}

async fn read_store(
    store: &Store,
    subject: Subject,
    filter: Option<Arc<Filter>>,
    lines: &mut Lines,
) -> anyhow::Result<()> {
    let direction = Direction::Forwards;
    match subject {
        Subject::All => {
            let (from, count) = (AllFrom::Start, u64::MAX);
            let query = daybook_store::ReadAll { from, direction, count, filter };
            lines.expect(store.committed().0);
            let mut reader = store.read_all(query);
            while let Some(page) = reader.next().await? {
                page.events().try_for_each(|event| lines.write(&event))?;
            }
        }
        Subject::Stream(stream) => {
            let mut reader = store.read_stream(of_stream(stream)).await?;
            while let Some(page) = reader.next().await? {
                page.events().try_for_each(|event| lines.write(&event))?;
            }
        }
    }
    Ok(())
}

/// The filter, for a store of our own.
fn compiled(filter: EventFilter) -> Result<Filter, InvalidFilter> {
    match filter.pattern {
        Pattern::Prefixes(prefixes) => Filter::prefixes(filter.target, prefixes),
        Pattern::Regex(expression) => Filter::regex(filter.target, &expression),
    }
}

fn of_stream(stream: StreamName) -> daybook_store::ReadStream {
    let (from, direction) = (From::Start, Direction::Forwards);
    daybook_store::ReadStream { stream, from, direction, count: u64::MAX }
}

/// Where the lines go.
struct Lines {
    out: Box<dyn Write + Send>,
    /// The file under its last name, and the one it has until it is complete.
    file: Option<(PathBuf, PathBuf)>,
    line: Vec<u8>,
    bar: ProgressBar,
    events: u64,
    bytes: u64,
}

impl Lines {
    /// Lines to `file`, which gets its name when it is complete; or to standard output.
    fn to(file: Option<&Path>) -> anyhow::Result<Lines> {
        let (out, file): (Box<dyn Write + Send>, _) = match file {
            None => (Box::new(std::io::stdout()), None),
            Some(path) => {
                let mut name = path.as_os_str().to_owned();
                name.push(".tmp");
                let unfinished = PathBuf::from(name);
                #[expect(clippy::disallowed_methods, reason = "an export is not the store's")]
                let file = std::fs::File::create(&unfinished)
                    .with_context(|| format!("cannot write {}", unfinished.display()))?;
                (Box::new(file), Some((path.to_owned(), unfinished)))
            }
        };
        // Beside lines on the terminal a bar would be in the way.
        let bar = if file.is_some() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let out = Box::new(BufWriter::with_capacity(BUFFER_SIZE, out));
        Ok(Lines { out, file, line: Vec::new(), bar, events: 0, bytes: 0 })
    }

    /// Shows the progress as a share of `events`.
    fn expect(&mut self, events: u64) {
        self.bar.set_length(events);
        if let Ok(style) =
            ProgressStyle::with_template("exporting {bar:30} {percent:>3} % {msg} {eta}")
        {
            self.bar.set_style(style);
        }
    }

    fn write(&mut self, event: &EventView<'_>) -> anyhow::Result<()> {
        self.line.clear();
        // A server shows a tombstone at the revision that no other event can have.
        let revision = if event.tombstone { TOMBSTONE_REVISION } else { event.revision.0 };
        let shown = EventView { revision: Revision(revision), ..*event };
        event::write_exactly(&shown, &mut self.line);
        self.line.push(b'\n');
        self.out.write_all(&self.line).context("cannot write")?;
        self.events += 1;
        self.bytes += self.line.len() as u64;
        if self.events.is_multiple_of(SHOWN_EACH) {
            self.bar.set_position(event.position.0);
            let (events, bytes) = (HumanCount(self.events), HumanBytes(self.bytes));
            self.bar.set_message(format!("{events} events, {bytes}"));
        }
        Ok(())
    }

    /// Answers with how many events there were, and bytes.
    fn finish(mut self) -> anyhow::Result<(u64, u64)> {
        self.out.flush().context("cannot write")?;
        self.bar.finish_and_clear();
        if let Some((path, unfinished)) = self.file {
            #[expect(clippy::disallowed_methods, reason = "an export is not the store's")]
            std::fs::rename(&unfinished, &path)
                .with_context(|| format!("cannot name {}", path.display()))?;
        }
        Ok((self.events, self.bytes))
    }
}
