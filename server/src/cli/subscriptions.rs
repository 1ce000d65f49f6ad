//! `daybook subscriptions`: groups of consumers that share one place.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use daybook_client::persistent::{
    Group, GroupInfo, GroupSettings, GroupSource, GroupStart, Persistent, Strategy,
};
use daybook_client::{Revision, StreamName};
use serde_json::{Value, json};

use super::remote::Remote;
use super::report::{Json, escaped, facts, table};

/// Persistent subscriptions: the server keeps the place, and shares the messages among consumers.
#[derive(Debug, Args)]
#[command(
    mut_arg("url", |arg| arg.global(true)),
    mut_arg("json", |arg| arg.global(true)),
)]
pub struct SubscriptionsArgs {
    #[command(subcommand)]
    command: Option<SubscriptionsCommand>,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Subcommand)]
enum SubscriptionsCommand {
    /// List them (what is done if nothing else is said)
    List,
    /// Show one
    Info(Named),
    /// Make one
    Create(CreateArgs),
    /// Delete one, with its place and its parked messages
    Delete(Named),
    /// Deliver parked messages again
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
struct Named {
    /// The stream, or $all
    stream: String,
    /// The group
    group: String,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    #[command(flatten)]
    named: Named,

    /// At most so many; all if nothing is said
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

#[derive(Debug, Args)]
struct CreateArgs {
    #[command(flatten)]
    named: Named,

    /// Where it begins: start, end, or a revision of the stream
    #[arg(long, value_name = "WHERE", default_value = "start")]
    from: String,

    /// How messages are spread over the consumers
    #[arg(long, value_enum, default_value_t = StrategyName::RoundRobin)]
    strategy: StrategyName,

    /// Follow links to the events that they name
    #[arg(long)]
    resolve_links: bool,

    /// Seconds a consumer may have a message; 0 for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,

    /// How often a message is delivered again before it is parked
    #[arg(long, value_name = "N", default_value_t = 10)]
    retries: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StrategyName {
    RoundRobin,
    DispatchToSingle,
    Pinned,
    PinnedByCorrelation,
}

/// Does it.
///
/// # Errors
/// If the server cannot be asked, or refuses.
pub fn run(args: SubscriptionsArgs) -> anyhow::Result<ExitCode> {
    let SubscriptionsArgs { command, remote, json } = args;
    super::runtime(Some(1))?.block_on(async {
        let groups = remote.client()?.persistent();
        match command.unwrap_or(SubscriptionsCommand::List) {
            SubscriptionsCommand::List => list(&groups, &json).await?,
            SubscriptionsCommand::Info(named) => info(&groups, &named.group()?, &json).await?,
            SubscriptionsCommand::Create(args) => {
                let group = args.named.group()?;
                groups.create(&group, &args.settings(), args.start()?).await?;
                info(&groups, &group, &json).await?;
            }
            SubscriptionsCommand::Delete(named) => {
                groups.delete(&named.group()?).await?;
                json.answer(&json!({ "deleted": true }), "deleted\n")?;
            }
            SubscriptionsCommand::Replay(args) => {
                groups.replay_parked(&args.named.group()?, args.count).await?;
                json.answer(
                    &json!({ "replaying": true }),
                    "parked messages are delivered again\n",
                )?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

impl Named {
    fn group(&self) -> anyhow::Result<Group> {
        if self.stream == "$all" {
            return Ok(Group::of_all(&self.group));
        }
        Ok(Group::of_stream(StreamName::new(&self.stream)?, &self.group))
    }
}

impl CreateArgs {
    fn start(&self) -> anyhow::Result<GroupStart> {
        match self.from.as_str() {
            "start" => Ok(GroupStart::Start),
            "end" => Ok(GroupStart::End),
            revision => Ok(GroupStart::Revision(Revision(revision.parse().map_err(|_| {
                anyhow::anyhow!("--from is start, end or a revision, and not '{revision}'")
            })?))),
        }
    }

    fn settings(&self) -> GroupSettings {
        GroupSettings {
            strategy: match self.strategy {
                StrategyName::RoundRobin => Strategy::RoundRobin,
                StrategyName::DispatchToSingle => Strategy::DispatchToSingle,
                StrategyName::Pinned => Strategy::Pinned,
                StrategyName::PinnedByCorrelation => Strategy::PinnedByCorrelation,
            },
            resolve_links: self.resolve_links,
            message_timeout: (self.timeout > 0).then(|| Duration::from_secs(self.timeout)),
            max_retry_count: self.retries,
            ..GroupSettings::default()
        }
    }
}

async fn list(groups: &Persistent, json: &Json) -> anyhow::Result<()> {
    let found = groups.list().await?;
    let header =
        ["stream", "group", "status", "consumers", "in flight", "parked", "checkpoint", "last"];
    let mut rows = table(&header);
    for info in &found {
        rows.add_row([
            escaped(source(info)),
            escaped(&info.group.name),
            info.status.clone(),
            info.connections.to_string(),
            info.in_flight.to_string(),
            info.parked.to_string(),
            place(info.checkpoint.as_ref()),
            place(info.last_known.as_ref()),
        ]);
    }
    let shown = match found.is_empty() {
        true => "there are no groups\n".to_owned(),
        false => format!("{rows}\n"),
    };
    let values: Vec<Value> = found.iter().map(value).collect();
    json.answer(&json!({ "subscriptions": values }), &shown)
}

async fn info(groups: &Persistent, group: &Group, json: &Json) -> anyhow::Result<()> {
    let info = groups.info(group).await?;
    let rows = [
        ("stream", escaped(source(&info))),
        ("group", escaped(&info.group.name)),
        ("status", info.status.clone()),
        ("strategy", info.strategy.clone()),
        ("consumers", info.connections.to_string()),
        ("in flight", info.in_flight.to_string()),
        ("processed", info.total.to_string()),
        ("parked", info.parked.to_string()),
        ("checkpoint", place(info.checkpoint.as_ref())),
        ("last event", place(info.last_known.as_ref())),
    ];
    json.answer(&value(&info), &facts(&rows))
}

fn value(info: &GroupInfo) -> Value {
    json!({
        "stream": source(info),
        "group": info.group.name,
        "status": info.status,
        "strategy": info.strategy,
        "connections": info.connections,
        "in_flight": info.in_flight,
        "processed": info.total,
        "parked": info.parked,
        "checkpoint": info.checkpoint,
        "last_known": info.last_known,
    })
}

fn source(info: &GroupInfo) -> &str {
    match &info.group.source {
        GroupSource::Stream(stream) => stream.as_str(),
        GroupSource::All => "$all",
    }
}

fn place(place: Option<&String>) -> String {
    place.cloned().unwrap_or_else(|| "-".to_owned())
}
