//! `daybook tail`: follows a stream, or the whole log, until Ctrl-C.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use daybook_client::{
    Client, Delivery, Links, Position, Revision, SubscribeAll, SubscribeFrom, SubscribeStream,
    Subscription,
};

use super::place::{Place, Subject};
use super::read::FilterArgs;
use super::remote::Remote;
use super::report::{Column, Json, Style, write_event};

/// Follows events as they are committed, until Ctrl-C.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// The stream to follow; it need not exist yet [default: the whole log]
    stream: Option<String>,

    /// Follow the whole log
    #[arg(long)]
    all: bool,

    /// Where to begin: start, end, or a revision (of a stream) or position (of the log)
    #[arg(long, value_name = "PLACE", default_value = "end")]
    from: Place,

    /// Stop after so many events
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

/// Follows.
///
/// # Errors
/// Why it cannot be followed.
pub fn run(args: TailArgs) -> anyhow::Result<ExitCode> {
    super::runtime(Some(1))?.block_on(async {
        tokio::select! {
            done = follow(&args) => done.map(|()| ExitCode::SUCCESS),
            stop = tokio::signal::ctrl_c() => {
                stop.context("cannot listen for Ctrl-C")?;
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

async fn follow(args: &TailArgs) -> anyhow::Result<()> {
    let subject = Subject::of(args.stream.as_deref(), args.all, Some(Subject::All))?;
    let client = args.remote.client()?;
    let mut subscription = begin(&client, args, &subject).await?;
    let stream = if subject == Subject::All { Column::Shown } else { Column::Hidden };
    let style = if args.json.wanted() { Style::Json } else { Style::People { stream } };
    let mut out = args.json.open()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut live = false;
    while left > 0 {
        match subscription.next().await? {
            Delivery::Event(resolved) => {
                if let Some(event) = resolved.event.as_ref().or(resolved.original()) {
                    write_event(&mut out, event, style)?;
                    left -= 1;
                }
                // History is written in large pieces, what is live at once.
                if live {
                    out.flush().context("cannot write the answer")?;
                }
            }
            Delivery::CaughtUp => {
                live = true;
                out.flush().context("cannot write the answer")?;
            }
            Delivery::FellBehind => live = false,
            Delivery::Checkpoint(_) => {}
        }
    }
    out.flush().context("cannot write the answer")
}

async fn begin(
    client: &Client,
    args: &TailArgs,
    subject: &Subject,
) -> anyhow::Result<Subscription> {
    let filter = args.filter.filter(subject)?;
    let links = if args.resolve_links { Links::Resolve } else { Links::Keep };
    Ok(match subject {
        Subject::Stream(stream) => {
            let from = match args.from {
                Place::Start | Place::Number(0) => SubscribeFrom::Start,
                Place::End => SubscribeFrom::End,
                Place::Number(revision) => SubscribeFrom::After(Revision(revision - 1)),
            };
            let stream = stream.clone();
            client.subscribe_stream(SubscribeStream { stream, from, links }).await?
        }
        Subject::All => {
            let from = match args.from {
                Place::Start | Place::Number(0) => SubscribeFrom::Start,
                Place::End => SubscribeFrom::End,
                Place::Number(position) => {
                    let before = args.remote.checkpoint(client, Position(position - 1));
                    SubscribeFrom::After(before.await?)
                }
            };
            let query = SubscribeAll { from, filter, links, ..SubscribeAll::default() };
            client.subscribe_all(query).await?
        }
    })
}
