//! Where a group's messages come from: a subscription to what it follows, and its parked stream.
//!
//! A link is followed if the group was told so. One whose event is gone, or hidden, is passed over:
//! there is nothing to deliver, and nobody could make anything of it. Not so a message that was
//! parked: that was promised to be kept, so its link is delivered alone.
//!
//! INVARIANT: holds one page, and so much as `UNPACK_MAX` and `UNPACK_SIZE_MAX` say was made of
//! it; an abandoned wait loses nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use daybook_model::{EventView, Position, RecordedEvent, Revision, StreamName};
use daybook_store::persistent::{Bucket, Message, Strategy};
use daybook_store::virtual_stream::LINK_EVENT_TYPE;
use daybook_store::{
    Delivery, LinkText, Links, Page, ReadError, Store, SubscribeFrom, Subscription,
    SubscriptionFilter, Target,
};

use super::definition::Definition;
use super::key::{Source, is_own};
use super::place;

/// Events of the log that a filter passes over before a group notes how far it is.
const CHECKPOINT_INTERVAL: u64 = 1000;
/// Events of a page that are made messages of at a time. Each may be a link to be followed, which is a
/// read.
const UNPACK_MAX: usize = 64;
/// Bytes of messages after which no more of a page is unpacked: links of a few bytes may lead to
/// events of megabytes.
const UNPACK_SIZE_MAX: usize = 256 * 1024;
/// Bytes a message costs beside its events' own: structs, names, entries of maps.
const MESSAGE_OVERHEAD: usize = 512;

/// What a consumer is sent.
#[derive(Debug)]
pub struct Item {
    /// The event, if it is there.
    pub event: Option<Placed>,
    /// The link through which it was read.
    pub link: Option<Placed>,
    /// Its number where the group took it from.
    pub number: u64,
    /// What names it in a parked message, if that is not the event, or else the link, itself.
    pub named: Option<String>,
}

impl Item {
    /// What names the event in a parked message: `<revision>@<stream>`.
    #[must_use]
    pub fn parked_as(&self) -> String {
        let placed = self.event.as_ref().or(self.link.as_ref());
        let own = || placed.map(|placed| parked_as(&placed.event.view()));
        self.named.clone().or_else(own).unwrap_or_default()
    }
}

/// An event, and its position as clients number it.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The event.
    pub event: RecordedEvent,
    /// See [`daybook_wire::encode_position`].
    pub position: u64,
}

/// What a feed brings.
#[derive(Debug)]
pub enum Fed {
    /// A message.
    Message(Message<Arc<Item>>),
    /// Nothing up to this number.
    Passed(u64),
    /// All of history was brought.
    CaughtUp,
}

/// A group's source, from some place on.
pub struct Feed {
    store: Store,
    subscription: Subscription,
    is_all: bool,
    resolve_links: bool,
    strategy: Strategy,
    /// What was read last, and how many of its events were looked at.
    page: Option<(Page, usize)>,
    ready: VecDeque<Fed>,
}

impl Feed {
    /// Messages of `definition` from number `from` on.
    #[must_use]
    pub fn new(store: &Store, definition: &Definition, from: u64) -> Feed {
        let from = from.checked_sub(1).map_or(SubscribeFrom::Start, SubscribeFrom::After);
        let subscription = match &definition.key.source {
            Source::Stream(stream) => store.subscribe_stream(stream, from),
            Source::All => {
                // A filter was compiled when the group was made.
                let filter = definition.filter.as_ref().and_then(|filter| filter.compile().ok());
                let filter = filter.map(|filter| SubscriptionFilter {
                    filter: Arc::new(filter),
                    checkpoint_interval: CHECKPOINT_INTERVAL,
                });
                store.subscribe_all(from, filter)
            }
        };
        let resolve_links = definition.resolve_links;
        Feed {
            store: store.clone(),
            subscription: if resolve_links { subscription.following() } else { subscription },
            is_all: definition.key.source == Source::All,
            resolve_links,
            strategy: definition.settings.strategy,
            page: None,
            ready: VecDeque::new(),
        }
    }

    /// Whether something is here to be taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What is here, at most `count` of it.
    pub fn take(&mut self, count: usize) -> Vec<Fed> {
        let count = count.min(self.ready.len());
        self.ready.drain(..count).collect()
    }

    /// Waits until something is here. May be dropped and called again without loss, but then what it
    /// was reading is read anew.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub async fn fill(&mut self) -> Result<(), ReadError> {
        while self.ready.is_empty() {
            if self.page.is_none() {
                match self.subscription.next().await? {
                    Delivery::Events(page) => self.page = Some((page, 0)),
                    Delivery::Checkpoint { position, .. } => {
                        self.ready.push_back(Fed::Passed(position.0));
                    }
                    Delivery::CaughtUp { .. } => self.ready.push_back(Fed::CaughtUp),
                }
            }
            self.unpack().await?;
        }
        Ok(())
    }

    /// Makes messages of some of the page.
    async fn unpack(&mut self) -> Result<(), ReadError> {
        let Some((page, looked_at)) = &mut self.page else { return Ok(()) };
        let (resolve_links, strategy) = (self.resolve_links, self.strategy);
        let shaping = Shaping { store: &self.store, resolve_links, strategy };
        let mut size = 0;
        for target in page.targets().skip(*looked_at).take(UNPACK_MAX) {
            let fed = if self.is_all && is_own(target.event.stream) {
                Fed::Passed(target.number)
            } else {
                shaping.shape(page.links(), target).await?
            };
            if let Fed::Message(message) = &fed {
                size += message.size;
            }
            self.ready.push_back(fed);
            *looked_at += 1;
            if size >= UNPACK_SIZE_MAX {
                break;
            }
        }
        if *looked_at == page.len() {
            self.page = None;
        }
        Ok(())
    }
}

/// Makes messages of events.
pub struct Shaping<'a> {
    /// Where the targets of links are.
    pub store: &'a Store,
    /// Whether links are followed.
    pub resolve_links: bool,
    /// What messages are pinned with.
    pub strategy: Strategy,
}

impl Shaping<'_> {
    async fn shape(&self, links: Option<&Links>, target: Target<'_>) -> Result<Fed, ReadError> {
        let Target { number, event, hidden } = target;
        let Some(links) = links else {
            let event = self.placed(&event);
            if !self.resolve_links || event.event.event_type != LINK_EVENT_TYPE {
                return Ok(Fed::Message(self.message(Some(event), None, number)));
            }
            let followed = self.follow(event, number).await?;
            return Ok(followed.map_or(Fed::Passed(number), Fed::Message));
        };
        let mut text = LinkText::default();
        let link = self.placed(&links.link(number, &event, &mut text));
        if !self.resolve_links || links.are_references() {
            let mut item = self.item(Some(link), None, number);
            item.named = Some(parked_as(&event));
            return Ok(Fed::Message(self.of_item(item)));
        }
        if links.lead_beyond(&event) {
            let followed = self.follow(link, number).await?;
            return Ok(followed.map_or(Fed::Passed(number), Fed::Message));
        }
        if hidden {
            return Ok(Fed::Passed(number));
        }
        Ok(Fed::Message(self.message(Some(self.placed(&event)), Some(link), number)))
    }

    /// The message of a parked link: with the event that it names, or alone if that is not there any
    /// more.
    ///
    /// # Errors
    /// [`ReadError`] if the event cannot be read.
    pub async fn replayed(
        &self,
        link: Placed,
        number: u64,
    ) -> Result<Message<Arc<Item>>, ReadError> {
        if let Some(message) = self.follow(link.clone(), number).await? {
            return Ok(message);
        }
        // Parked again, it must name what it named before, and not itself.
        let named = String::from_utf8_lossy(&link.event.data).into_owned();
        let mut item = self.item(None, Some(link), number);
        item.named = Some(named);
        Ok(self.of_item(item))
    }

    /// The message of a stored link, with the event that it names; none if that is not there.
    async fn follow(
        &self,
        link: Placed,
        number: u64,
    ) -> Result<Option<Message<Arc<Item>>>, ReadError> {
        let Some((revision, stream)) = parse_link(&link.event.data) else { return Ok(None) };
        let page = match self.store.read_event(&stream, revision).await {
            Ok(page) => page,
            Err(ReadError::StreamNotFound { .. } | ReadError::StreamDeleted { .. }) => None,
            Err(failed) => return Err(failed),
        };
        let Some(event) = page.as_ref().and_then(Page::last) else { return Ok(None) };
        Ok(Some(self.message(Some(self.placed(&event)), Some(link), number)))
    }

    fn message(
        &self,
        event: Option<Placed>,
        link: Option<Placed>,
        number: u64,
    ) -> Message<Arc<Item>> {
        self.of_item(self.item(event, link, number))
    }

    fn item(&self, event: Option<Placed>, link: Option<Placed>, number: u64) -> Item {
        Item { event, link, number, named: None }
    }

    fn of_item(&self, item: Item) -> Message<Arc<Item>> {
        let parts = [&item.link, &item.event].into_iter().flatten();
        let size = parts.map(|part| size_of(&part.event)).sum::<usize>() + MESSAGE_OVERHEAD;
        let original = item.link.as_ref().or(item.event.as_ref());
        let id = original.map(|placed| placed.event.id).unwrap_or_default();
        let subject = item.event.as_ref().or(item.link.as_ref()).map(|placed| &placed.event);
        let bucket = subject.map_or_else(|| Bucket::of(""), |event| self.bucket(event));
        Message { id, number: item.number, bucket, size, payload: Arc::new(item) }
    }

    fn bucket(&self, event: &RecordedEvent) -> Bucket {
        if self.strategy == Strategy::PinnedByCorrelation
            && let Ok(metadata) = serde_json::from_slice::<serde_json::Value>(&event.metadata)
            && let Some(id) = metadata.get("$correlationId").and_then(serde_json::Value::as_str)
        {
            return Bucket::of(id);
        }
        Bucket::of(event.stream.as_str())
    }

    /// `event`, with its position as clients number it.
    #[must_use]
    pub fn placed(&self, event: &EventView<'_>) -> Placed {
        let position = place::shown(self.store, Position(event.position.0));
        Placed { event: owned(event), position }
    }
}

/// A link's data: `<revision>@<stream>`.
fn parse_link(data: &[u8]) -> Option<(Revision, StreamName)> {
    let (revision, stream) = std::str::from_utf8(data).ok()?.split_once('@')?;
    Some((Revision(revision.parse().ok()?), StreamName::new(stream).ok()?))
}

fn parked_as(event: &EventView<'_>) -> String {
    format!("{}@{}", event.revision, event.stream)
}

fn size_of(event: &RecordedEvent) -> usize {
    event.data.len() + event.metadata.len() + event.event_type.len() + event.stream.as_str().len()
}

/// `event`, owning its bytes.
#[must_use]
pub fn owned(event: &EventView<'_>) -> RecordedEvent {
    RecordedEvent {
        position: event.position,
        revision: event.revision,
        time: event.time,
        id: event.id,
        stream: StreamName::new(event.stream).expect("a stored event's stream has a name"),
        event_type: event.event_type.to_owned(),
        content_type: event.content_type,
        tombstone: event.tombstone,
        metadata: event.metadata.to_vec().into(),
        data: event.data.to_vec().into(),
    }
}
