//! `daybook read`: events of a stream, or of the whole log.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use daybook_client::{
    AllFrom, Client, Direction, EventFilter, Events, FilterTarget, Links, Pattern, ReadAll,
    ReadStream, Revision, StreamFrom,
};
use futures_util::TryStreamExt as _;

use super::place::{Place, Subject};
use super::remote::Remote;
use super::report::{Column, Json, Style, write_event};

/// Events shown unless told otherwise: what a screen holds.
const COUNT_DEFAULT: u64 = 20;

/// Reads events.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  daybook read account-1
  daybook read --all --from end --backwards --count 5
  daybook read --all --stream-prefix account- --json | jq .data")]
pub struct ReadArgs {
    /// The stream to read; '$all' or --all for the whole log
    stream: Option<String>,

    /// Read the whole log
    #[arg(long)]
    all: bool,

    /// Where to begin: start, end, or a revision (of a stream) or position (of the log)
    /// [default: start, or end with --backwards]
    #[arg(long, value_name = "PLACE")]
    from: Option<Place>,

    /// From newer to older
    #[arg(long)]
    backwards: bool,

    /// At most so many events; 0 for all [default: 20, or all with --json]
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,

    /// Follow links to the events they name
    #[arg(long)]
    resolve_links: bool,

    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// Which events of the whole log are wanted.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only streams whose name begins so; may be given several times
    #[arg(long, value_name = "PREFIX", group = "filter")]
    stream_prefix: Vec<String>,

    /// Only event types that begin so; may be given several times
    #[arg(long, value_name = "PREFIX", group = "filter")]
    type_prefix: Vec<String>,

    /// Only streams whose name matches
    #[arg(long, value_name = "REGEX", group = "filter")]
    stream_regex: Option<String>,

    /// Only event types that match
    #[arg(long, value_name = "REGEX", group = "filter")]
    type_regex: Option<String>,
}

impl FilterArgs {
    /// The filter, if there is one.
    ///
    /// # Errors
    /// If there is one and `subject` is not the whole log.
    pub fn filter(&self, subject: &Subject) -> anyhow::Result<Option<EventFilter>> {
        let prefixes = |target, prefixes: &Vec<String>| {
            let pattern = Pattern::Prefixes(prefixes.clone());
            (!prefixes.is_empty()).then_some(EventFilter { target, pattern })
        };
        let regex = |target, regex: &Option<String>| {
            let pattern = Pattern::Regex(regex.clone()?);
            Some(EventFilter { target, pattern })
        };
        let filter = prefixes(FilterTarget::StreamName, &self.stream_prefix)
            .or_else(|| prefixes(FilterTarget::EventType, &self.type_prefix))
            .or_else(|| regex(FilterTarget::StreamName, &self.stream_regex))
            .or_else(|| regex(FilterTarget::EventType, &self.type_regex));
        if filter.is_some() && *subject != Subject::All {
            bail!("a filter applies to the whole log; say --all and leave STREAM out");
        }
        Ok(filter)
    }
}

/// Reads.
///
/// # Errors
/// Why it could not be read.
pub fn run(args: ReadArgs) -> anyhow::Result<ExitCode> {
    super::runtime(Some(1))?.block_on(async {
        let subject = Subject::of(args.stream.as_deref(), args.all, None)?;
        let client = args.remote.client()?;
        let mut events = begin(&client, &args, &subject).await?;
        let stream = if subject == Subject::All { Column::Shown } else { Column::Hidden };
        let style = if args.json.wanted() { Style::Json } else { Style::People { stream } };
        let mut out = args.json.open()?;
        while let Some(resolved) = events.try_next().await? {
            if let Some(event) = resolved.event.as_ref().or(resolved.original()) {
                write_event(&mut out, event, style)?;
            }
        }
        out.flush().context("cannot write the answer")?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn begin(client: &Client, args: &ReadArgs, subject: &Subject) -> anyhow::Result<Events> {
    let filter = args.filter.filter(subject)?;
    let direction = if args.backwards { Direction::Backwards } else { Direction::Forwards };
    let from = args.from.unwrap_or(if args.backwards { Place::End } else { Place::Start });
    let count = match args.count {
        Some(0) => u64::MAX,
        Some(count) => count,
        None if args.json.wanted() => u64::MAX,
        None => COUNT_DEFAULT,
    };
    let links = if args.resolve_links { Links::Resolve } else { Links::Keep };
    Ok(match subject {
        Subject::Stream(stream) => {
            let from = match from {
                Place::Start => StreamFrom::Start,
                Place::End => StreamFrom::End,
                Place::Number(revision) => StreamFrom::Revision(Revision(revision)),
            };
            let stream = stream.clone();
            client.read_stream(ReadStream { stream, from, direction, count, links }).await?
        }
        Subject::All => {
            let from = match from {
                Place::Start => AllFrom::Start,
                Place::End => AllFrom::End,
                Place::Number(position) => {
                    let at = args.remote.checkpoint(client, daybook_client::Position(position));
                    AllFrom::At(at.await?)
                }
            };
            client.read_all(ReadAll { from, direction, count, filter, links }).await?
        }
    })
}
