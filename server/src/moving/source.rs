//! Where events come from: a server that speaks KurrentDB's protocol, or a file of JSON lines.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use daybook_client::{
    AllFrom, Checkpoint, Client, Delivery, Direction, ReadAll, Settings, SubscribeAll,
    SubscribeFrom, Subscription,
};
use daybook_model::RecordedEvent;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lines::Lines;

/// What names standard input.
const STANDARD_INPUT: &str = "-";
/// What a file's events are read into at a time, in bytes.
const BUFFER_SIZE: usize = 1024 * 1024;

/// How long an event that was seen before may take to come again.
const RESUME_WAIT: Duration = Duration::from_secs(30);

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// An event, and the place after it.
    Event(Box<RecordedEvent>, String),
    /// No event for so long as was given.
    Quiet,
    /// All there was is delivered, and what follows is live.
    CaughtUp,
    /// There is nothing more, and there will not be.
    End,
}

/// Where a source goes on: a place in it, which several events may share (what an old client wrote
/// in one transaction has one place), and how many of them were seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The place before, if there was one.
    pub before: Option<String>,
    /// The place of the last event that was seen.
    pub place: String,
    /// How many events of that place were seen.
    pub seen: u64,
    /// The id of the last of them: another one there means another history.
    pub id: Uuid,
}

impl Mark {
    /// The mark after an event at `place` that follows what `mark` stands for.
    #[must_use]
    pub fn after(mark: Option<Mark>, place: String, id: Uuid) -> Mark {
        match mark {
            Some(mark) if mark.place == place => Mark { seen: mark.seen + 1, id, ..mark },
            mark => Mark { before: mark.map(|mark| mark.place), place, seen: 1, id },
        }
    }
}

/// Where events come from.
pub enum Source {
    /// A server's `$all`.
    Server(Box<Server>),
    /// A file.
    File(Box<Lines<Box<dyn io::BufRead + Send>>>, u64),
}

/// A server's `$all`.
pub struct Server {
    client: Client,
    subscription: Option<Subscription>,
    /// The last place there was when it was looked.
    end: u64,
    /// The place after the last event delivered.
    at: u64,
}

impl Source {
    /// How `from` is written down: without credentials.
    ///
    /// # Errors
    /// If it is neither a connection string nor a file.
    pub fn name(from: &str) -> anyhow::Result<String> {
        if is_server(from) {
            return Ok(Settings::parse(from).context("--from cannot be used")?.name());
        }
        Ok(from.to_owned())
    }

    /// Opens what `from` names, from after `mark` on; from its first event if there is none. Must
    /// be called within a runtime.
    ///
    /// # Errors
    /// If it cannot be reached or read, or is not what the mark was made in.
    pub async fn open(from: &str, mark: Option<&Mark>) -> anyhow::Result<Source> {
        let mut source = Source::begin(from, mark).await?;
        let Some(mark) = mark else { return Ok(source) };
        let mut left = mark.seen;
        while left > 0 {
            match source.next(RESUME_WAIT).await? {
                Step::Event(event, place) if place == mark.place => {
                    left -= 1;
                    if left == 0 && event.id == mark.id {
                        return Ok(source);
                    }
                }
                _ => break,
            }
        }
        bail!(
            "{} is not what was taken up to now: there is no event {} at {}; import it into an \
             empty directory",
            Source::name(from)?,
            mark.id,
            mark.place
        )
    }

    /// Opens it where the events of the mark's place begin.
    async fn begin(from: &str, mark: Option<&Mark>) -> anyhow::Result<Source> {
        if is_server(from) {
            let client = Client::new(from).context("--from cannot be used")?;
            let before = mark.and_then(|mark| mark.before.as_deref());
            let before = before.map(str::parse::<Checkpoint>).transpose();
            let before = before.context("the place noted in the target is not one of a server")?;
            return Ok(Source::Server(Box::new(Server::open(client, before).await?)));
        }
        let line = mark.map(|mark| mark.place.parse::<u64>()).transpose();
        let line = line.context("the place noted in the target is not a line of a file")?;
        let (from, size): (Box<dyn io::BufRead + Send>, u64) = if from == STANDARD_INPUT {
            (Box::new(BufReader::with_capacity(BUFFER_SIZE, io::stdin())), 0)
        } else {
            let file = open_file(Path::new(from))?;
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            (Box::new(BufReader::with_capacity(BUFFER_SIZE, file)), size)
        };
        let mut lines = Lines::new(from);
        lines.skip_to(line.map_or(0, |line| line.saturating_sub(1)))?;
        Ok(Source::File(Box::new(lines), size))
    }

    /// What comes next; waits for it no longer than `wait`.
    ///
    /// # Errors
    /// Why there is nothing to be had.
    pub async fn next(&mut self, wait: Duration) -> anyhow::Result<Step> {
        match self {
            Source::Server(server) => {
                // A wait that is given up loses nothing: the subscription keeps it.
                match tokio::time::timeout(wait, server.next()).await {
                    Ok(step) => step,
                    Err(_) => Ok(Step::Quiet),
                }
            }
            Source::File(lines, _) => Ok(match lines.next_event()? {
                Some(event) => Step::Event(Box::new(event), lines.number().to_string()),
                None => Step::End,
            }),
        }
    }

    /// Looks where the end is now. Of a file it is where it was.
    ///
    /// # Errors
    /// If the source cannot be read.
    pub async fn look_for_end(&mut self) -> anyhow::Result<()> {
        if let Source::Server(server) = self {
            server.end = end_of(&server.client).await?.max(server.at);
        }
        Ok(())
    }

    /// How far this is, and where the end is, in a unit of its own; the end is 0 if nobody knows.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        match self {
            Source::Server(server) => (server.at.min(server.end), server.end),
            Source::File(lines, size) => (lines.read(), *size),
        }
    }
}

impl Server {
    async fn open(client: Client, place: Option<Checkpoint>) -> anyhow::Result<Server> {
        let end = end_of(&client).await?;
        let from = place.map_or(SubscribeFrom::Start, SubscribeFrom::After);
        let query = SubscribeAll { from, ..SubscribeAll::default() };
        let subscription = client.subscribe_all(query).await;
        let subscription = subscription.context("the source cannot be followed")?;
        let at = place.map_or(0, |place| place.0);
        Ok(Server { client, subscription: Some(subscription), end, at })
    }

    async fn next(&mut self) -> anyhow::Result<Step> {
        let Some(subscription) = &mut self.subscription else { return Ok(Step::End) };
        loop {
            let delivery = subscription.next().await;
            match delivery.with_context(|| format!("{} was lost", self.client.settings().name()))? {
                Delivery::Event(resolved) => {
                    let place = resolved.checkpoint.map_or(self.at, |place| place.0);
                    self.at = place;
                    self.end = self.end.max(place);
                    let Some(event) = resolved.event else { continue };
                    return Ok(Step::Event(Box::new(event), place.to_string()));
                }
                Delivery::CaughtUp => return Ok(Step::CaughtUp),
                Delivery::Checkpoint(_) | Delivery::FellBehind => {}
            }
        }
    }
}

/// The place of the last event that a server has.
async fn end_of(client: &Client) -> anyhow::Result<u64> {
    let (from, direction) = (AllFrom::End, Direction::Backwards);
    let last = ReadAll { from, direction, count: 1, ..ReadAll::default() };
    let mut last = client.read_all(last).await.context("the source cannot be read")?;
    let last = last.next().await.transpose().context("the source cannot be read")?;
    Ok(last.and_then(|event| event.checkpoint).map_or(0, |place| place.0))
}

/// Whether `from` is a connection string: a file of such a name is named with a path. One with a
/// scheme that nobody knows is none that works, and still no file: a file's name is shown, and it
/// may hold a password.
fn is_server(from: &str) -> bool {
    let scheme = from.split_once("://").map(|(scheme, _)| scheme);
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    scheme.is_some_and(|scheme| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(is_letter)
    })
}

#[expect(clippy::disallowed_methods, reason = "it is somebody's file, and not the store's")]
fn open_file(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_counts_the_events_of_its_place() {
        let (a, b, c) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let mark = Mark::after(None, "7".to_owned(), a);
        assert_eq!((mark.before.as_deref(), mark.seen), (None, 1));
        let mark = Mark::after(Some(mark), "9".to_owned(), b);
        let mark = Mark::after(Some(mark), "9".to_owned(), c);
        assert_eq!((mark.before.as_deref(), mark.seen, mark.id), (Some("7"), 2, c));
    }

    #[test]
    fn a_source_is_named_without_its_secrets() {
        for (from, name) in [
            ("kurrentdb://ada:secret@db.example:2113?tls=false", "http://db.example:2113"),
            ("esdb+discover://a:1,b:2?tls=true", "https://a:1,b:2"),
            ("events.jsonl", "events.jsonl"),
            ("-", "-"),
        ] {
            assert_eq!(Source::name(from).expect(from), name);
        }
        assert!(Source::name("kurrentdb://").is_err());
        let error = Source::name("kurentdb://ada:secret@db.example:2113").expect_err("misspelled");
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        assert_eq!(Source::name("./kurentdb://odd").expect("a file"), "./kurentdb://odd");
    }
}
