//! The events that a projection follows, in the order of the log.
//!
//! Each stream is read by itself; what they bring is merged by position. An event is given on only
//! when every stream was asked since the log had it, so none can come that belongs before it:
//!
//! ```text
//!   below = committed ─> ask each stream until it has an event or none below ─> lowest < below ?
//!         ^                                                                   yes: that one
//!         └──────────────────── the log went on ────────────────────────────── no: caught up, or
//! ```
//!
//! A program that follows the whole log and names its events' types follows the index of those types
//! instead: the same events, without reading the others.
//!
//! INVARIANT: holds one page of each stream, and what was made of it; an abandoned wait loses nothing.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use daybook_model::metadata::{METADATA_EVENT_TYPE, SOFT_DELETED};
use daybook_model::{EventView, Position, RecordedEvent, Revision, StreamName};
use daybook_script::{Definition, Deleted, Sources};
use daybook_store::virtual_stream::LINK_EVENT_TYPE;
use daybook_store::{
    Delivery, LinkText, Page, ReadError, Store, SubscribeFrom, Subscription, Target,
};
use futures_util::future::select_all;
use tokio::runtime::Handle;

use super::place::Place;
use crate::persistent::feed::owned;

/// Events that are taken from a page at a time.
const UNPACK_MAX: usize = 64;
/// Their bytes, but for the last one's.
const UNPACK_SIZE_MAX: usize = 1024 * 1024;
/// Types that are followed one by one; beyond that the whole log is read.
const TYPES_MAX: usize = 50;

/// What stands at a place.
#[derive(Debug)]
pub struct Input {
    /// Where in the log.
    pub position: Position,
    /// Its number in the stream that brought it.
    number: u64,
    /// The event; none if the program is not to see it.
    pub event: Option<RecordedEvent>,
    /// The metadata of the link through which it was read.
    pub link_metadata: Option<Bytes>,
    /// If it says that a stream was deleted.
    pub deleted: Option<Deletion>,
}

/// An event that says that a stream was deleted.
#[derive(Debug)]
pub struct Deletion {
    /// The stream.
    pub stream: String,
    /// How.
    pub how: Deleted,
    /// The event.
    pub event: RecordedEvent,
}

/// One stream, or the whole log.
struct Followed {
    stream: Option<StreamName>,
    subscription: Subscription,
    /// What lies before it was handled already, when another program followed other streams.
    skip_below: Position,
    /// What was read, and how many of its events were looked at.
    page: Option<(Page, usize)>,
    inputs: VecDeque<Input>,
    /// Whether it had nothing since `below` was set.
    drained: bool,
    /// Whether it has a tombstone.
    ended: bool,
}

/// The events that a projection follows.
pub struct Source {
    store: Store,
    wanted: Wanted,
    followed: Vec<Followed>,
    place: Place,
    /// Up to where all streams were asked.
    below: Position,
    /// Where to stop, if before the end.
    until: Option<Position>,
}

/// Which events a program is to see.
struct Wanted {
    types: Option<BTreeSet<String>>,
    include_links: bool,
    handles_deleted: bool,
    /// Whether the system's streams are left out.
    own_only: bool,
    /// Whether they come from `$ce-…` streams, as those that `fromCategory` names do.
    category: bool,
}

impl Source {
    /// What `definition` follows, from `place` on.
    pub fn new(store: &Store, definition: &Definition, place: Place) -> Source {
        let wanted = Wanted {
            types: definition.types.clone(),
            include_links: definition.include_links,
            handles_deleted: definition.handles_deleted,
            own_only: definition.sources == Sources::All,
            category: matches!(&definition.sources, Sources::Streams(names)
                if names.iter().all(|name| name.starts_with("$ce-"))),
        };
        let from = |next: Option<u64>| {
            let last = next.and_then(|next| next.checked_sub(1));
            last.map_or(SubscribeFrom::Start, SubscribeFrom::After)
        };
        let mut place = place;
        let followed = match followed(definition) {
            None => {
                place.next.clear();
                let log = store.subscribe_all(from(Some(place.position)), None);
                vec![Followed::new(None, log, Position(0))]
            }
            Some(names) => {
                // What was followed once, and is again, is new: its place of then is no place now.
                place.next.retain(|known, _| names.iter().any(|name| name.as_str() == known));
                let follow = |name: StreamName| {
                    let next = place.next.get(name.as_str()).copied();
                    let subscription = store.subscribe_stream(&name, from(next));
                    // The whole log shows what streams hide, so its parts do.
                    let subscription =
                        if wanted.own_only { subscription } else { subscription.following() };
                    let skip_below = if next.is_some() { Position(0) } else { place.position() };
                    Followed::new(Some(name), subscription, skip_below)
                };
                names.into_iter().map(follow).collect()
            }
        };
        Source { store: store.clone(), wanted, followed, place, below: Position(0), until: None }
    }

    /// Stops before `position`.
    pub fn stop_before(&mut self, position: Position) {
        self.until = Some(position);
    }

    /// How far it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Events that were read and not given on.
    pub fn buffered(&self) -> usize {
        self.followed.iter().map(|followed| followed.inputs.len()).sum()
    }

    /// The next event; none if there is none now. May read the disk: on a thread that may wait.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn next(&mut self) -> Result<Option<Input>, ReadError> {
        loop {
            for followed in &mut self.followed {
                followed.fill(&self.store, &self.wanted)?;
            }
            let heads = self.followed.iter().enumerate();
            let heads = heads.filter_map(|(at, f)| Some((f.inputs.front()?.position, at)));
            let lowest = heads.min();
            if let Some((position, at)) = lowest
                && position < self.below
            {
                if self.until.is_some_and(|until| position >= until) {
                    return Ok(None);
                }
                return Ok(self.taken(at));
            }
            let committed = self.store.committed();
            if committed == self.below {
                return Ok(None);
            }
            self.below = committed;
            self.followed.iter_mut().for_each(|followed| followed.drained = false);
        }
    }

    /// Takes what the `at`-th stream has next.
    fn taken(&mut self, at: usize) -> Option<Input> {
        let followed = &mut self.followed[at];
        let mut input = followed.inputs.pop_front()?;
        if let Some(stream) = &followed.stream {
            // Only one name a stream is ever inserted.
            match self.place.next.get_mut(stream.as_str()) {
                Some(next) => *next = input.number + 1,
                None => {
                    self.place.next.insert(stream.as_str().to_owned(), input.number + 1);
                }
            }
        }
        if input.position < followed.skip_below {
            input.event = None;
            input.deleted = None;
        }
        self.place.position = self.place.position.max(input.position.0 + 1);
        Some(input)
    }

    /// Notes that all before the end that was looked at is handled.
    pub fn at_end(&mut self) {
        if self.until.is_none() {
            self.place.position = self.place.position.max(self.below.0);
        }
    }

    /// Waits until there may be more.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn wait(&mut self) -> Result<(), ReadError> {
        let open = self.followed.iter_mut().filter(|followed| !followed.ended);
        let waits: Vec<_> = open.map(|followed| Box::pin(followed.wait())).collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        select_all(waits).await.0
    }
}

impl Followed {
    fn new(
        stream: Option<StreamName>,
        subscription: Subscription,
        skip_below: Position,
    ) -> Followed {
        Followed {
            stream,
            subscription,
            skip_below,
            page: None,
            inputs: VecDeque::new(),
            drained: false,
            ended: false,
        }
    }

    async fn wait(&mut self) -> Result<(), ReadError> {
        if self.page.is_some() {
            return Ok(());
        }
        match self.subscription.next().await {
            Ok(Delivery::Events(page)) => self.page = Some((page, 0)),
            Ok(Delivery::Checkpoint { .. } | Delivery::CaughtUp { .. }) => {}
            Err(ReadError::StreamDeleted { .. }) => self.ended = true,
            Err(failed) => return Err(failed),
        }
        Ok(())
    }

    /// Sees to it that there is an event, or that it is known that there is none.
    fn fill(&mut self, store: &Store, wanted: &Wanted) -> Result<(), ReadError> {
        while self.inputs.is_empty() && !self.drained && !self.ended {
            if self.page.is_some() {
                self.unpack(store, wanted)?;
                continue;
            }
            match self.subscription.try_next() {
                Ok(Some(Delivery::Events(page))) => self.page = Some((page, 0)),
                Ok(Some(_)) => {}
                Ok(None) => self.drained = true,
                Err(ReadError::StreamDeleted { .. }) => self.ended = true,
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    /// Makes inputs of a part of the page: a link of a few bytes may lead to an event of many.
    fn unpack(&mut self, store: &Store, wanted: &Wanted) -> Result<(), ReadError> {
        let Some((page, looked_at)) = &mut self.page else { return Ok(()) };
        let mut text = LinkText::default();
        let last = page.len().saturating_sub(1);
        let (begin, mut size) = (*looked_at, 0);
        for (at, Target { number, event, hidden }) in page.targets().enumerate().skip(begin) {
            if self.inputs.len() >= UNPACK_MAX || size >= UNPACK_SIZE_MAX {
                return Ok(());
            }
            *looked_at = at + 1;
            let mut input = Input {
                position: event.position,
                number,
                event: None,
                link_metadata: None,
                deleted: None,
            };
            match page.links() {
                None if self.stream.is_some() && event.event_type == LINK_EVENT_TYPE => {
                    input.follow(&event, store, wanted)?;
                }
                None => input.see(&event, wanted),
                Some(links) => {
                    let link = links.link(number, &event, &mut text);
                    if links.are_references() {
                        input.see(&link, wanted);
                    } else if hidden && !event.tombstone {
                        // A tombstone hides all of its stream but itself.
                    } else if wanted.category && event.stream.starts_with("$$") {
                        // A category has the news that a stream was deleted until it is opened
                        // again: what may or may not be there is nothing to fold.
                    } else if links.lead_beyond(&event) {
                        input.follow(&link, store, wanted)?;
                    } else {
                        input.see(&event, wanted);
                        input.link_metadata = Some(Bytes::copy_from_slice(link.metadata));
                    }
                }
            }
            // What nobody sees only says how far it is; the page's last says that for all.
            size += input.event.as_ref().map_or(0, |event| event.data.len() + event.metadata.len());
            if input.event.is_some() || input.deleted.is_some() || at == last {
                self.inputs.push_back(input);
            }
        }
        self.page = None;
        Ok(())
    }
}

impl Input {
    /// Takes up `event`, if the program is to see it.
    fn see(&mut self, event: &EventView<'_>, wanted: &Wanted) {
        if wanted.handles_deleted
            && let Some((stream, how)) = deleted(event)
        {
            self.deleted = Some(Deletion { stream, how, event: owned(event) });
        }
        if wanted.sees(event) {
            self.event = Some(owned(event));
        }
    }

    /// Takes up the event that `link` names, if it is there and the program is to see it.
    fn follow(
        &mut self,
        link: &EventView<'_>,
        store: &Store,
        wanted: &Wanted,
    ) -> Result<(), ReadError> {
        let Some((revision, stream)) = parse_link(link.data) else { return Ok(()) };
        let page = Handle::current().block_on(store.read_event(&stream, revision))?;
        if let Some(event) = page.as_ref().and_then(Page::last) {
            self.see(&event, wanted);
            self.link_metadata = Some(Bytes::copy_from_slice(link.metadata));
        }
        Ok(())
    }
}

impl Wanted {
    fn sees(&self, event: &EventView<'_>) -> bool {
        let of_interest = self.types.as_ref().is_none_or(|types| types.contains(event.event_type));
        of_interest && !event.tombstone && (!self.own_only || self.is_own(event))
    }

    /// Whether an event of the log is not the system's: metadata of users' streams is theirs.
    fn is_own(&self, event: &EventView<'_>) -> bool {
        if event.event_type == LINK_EVENT_TYPE && !self.include_links {
            return false;
        }
        let of = event.stream.strip_prefix("$$").unwrap_or(event.stream);
        !of.starts_with('$')
    }
}

/// The streams to follow; none if it is the whole log.
fn followed(definition: &Definition) -> Option<Vec<StreamName>> {
    let names: Vec<String> = match (&definition.sources, &definition.types) {
        (Sources::Streams(names), _) => names.clone(),
        (Sources::All, Some(types))
            if types.len() <= TYPES_MAX
                && !types.is_empty()
                && !definition.handles_deleted
                && !types.contains(LINK_EVENT_TYPE) =>
        {
            types.iter().map(|name| format!("$et-{name}")).collect()
        }
        (Sources::All, _) => return None,
    };
    // Those of streams were checked; a type that no event can have has no events.
    Some(names.iter().filter_map(|name| StreamName::new(name).ok()).collect())
}

/// The stream that `event` says was deleted.
fn deleted(event: &EventView<'_>) -> Option<(String, Deleted)> {
    if event.tombstone {
        return Some((event.stream.to_owned(), Deleted::ForEver));
    }
    let described = event.stream.strip_prefix("$$")?;
    if event.event_type != METADATA_EVENT_TYPE {
        return None;
    }
    let metadata: serde_json::Value = serde_json::from_slice(event.data).ok()?;
    let hidden = metadata.get("$tb")?.as_u64()?;
    (hidden == SOFT_DELETED).then(|| (described.to_owned(), Deleted::Softly))
}

/// A link's data: `<revision>@<stream>`.
fn parse_link(data: &[u8]) -> Option<(Revision, StreamName)> {
    let (revision, stream) = std::str::from_utf8(data).ok()?.split_once('@')?;
    Some((Revision(revision.parse().ok()?), StreamName::new(stream).ok()?))
}
