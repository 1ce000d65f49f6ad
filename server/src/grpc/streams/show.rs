//! Pages of events as the bytes of gRPC messages: one buffer per page, filled straight from where
//! the events lie.

use bytes::{Bytes, BytesMut};
use daybook_model::{Epoch, EventView, Revision, StreamName};
use daybook_store::virtual_stream::LINK_EVENT_TYPE;
use daybook_store::{LinkText, Links, Page, ReadError, Target};
use daybook_wire::frame::put_message;
use daybook_wire::proto::streams::ReadResp;
use daybook_wire::proto::streams::read_resp::Content;
use daybook_wire::{UuidForm, WireEvent, encode_position, encode_read_event, encode_resolved_link};
use tonic::Status;

use super::shown_position;
use crate::grpc::status;
use crate::node::door::Door;

/// Bytes an event's message takes beside its data, as a first guess.
const ENVELOPE_SIZE: usize = 256;

/// Turns pages into messages.
pub struct Show {
    store: Door,
    form: UuidForm,
    resolve_links: bool,
    /// Bytes an event took on the last page: how much room the next one is given.
    event_size: usize,
}

impl Show {
    /// Shows events of `store` with ids in `form`.
    #[must_use]
    pub fn new(store: Door, form: UuidForm, resolve_links: bool) -> Show {
        Show { store, form, resolve_links, event_size: ENVELOPE_SIZE }
    }

    /// The messages that show the events of `page`.
    ///
    /// # Errors
    /// Why the target of a link could not be read.
    pub async fn page(&mut self, page: &Page) -> Result<Bytes, Status> {
        let mut buf = BytesMut::with_capacity(page.len() * self.event_size);
        let epochs = Epochs::of(&self.store, page);
        match page.links() {
            Some(links) => self.linked(page, links, &epochs, &mut buf).await?,
            None if self.resolve_links => self.resolved(page, &epochs, &mut buf).await?,
            None => {
                for event in page.events() {
                    encode_read_event(&epochs.place(event), self.form, &mut buf);
                }
            }
        }
        // A little more than the average, so that the next page seldom has to grow its buffer.
        let average = buf.len() / page.len().max(1);
        self.event_size = average + average / 16 + 1;
        Ok(buf.freeze())
    }

    async fn resolved(
        &self,
        page: &Page,
        epochs: &Epochs<'_>,
        buf: &mut BytesMut,
    ) -> Result<(), Status> {
        for event in page.events() {
            let placed = epochs.place(event);
            if event.event_type != LINK_EVENT_TYPE {
                encode_read_event(&placed, self.form, buf);
                continue;
            }
            self.follow(&placed, buf).await?;
        }
        Ok(())
    }

    /// Shows the links of a virtual stream. The events that they name are those of the page.
    async fn linked(
        &self,
        page: &Page,
        links: &Links,
        epochs: &Epochs<'_>,
        buf: &mut BytesMut,
    ) -> Result<(), Status> {
        let mut text = LinkText::default();
        for Target { number, event, hidden } in page.targets() {
            let link = epochs.place(links.link(number, &event, &mut text));
            if !self.resolve_links || links.are_references() {
                encode_read_event(&link, self.form, buf);
            } else if links.lead_beyond(&event) {
                self.follow(&link, buf).await?;
            } else {
                let target = (!hidden).then(|| epochs.place(event));
                encode_resolved_link(&link, target.as_ref(), self.form, buf);
            }
        }
        Ok(())
    }

    /// Shows a link that was stored, and the event that it names, if it may be seen.
    async fn follow(&self, link: &WireEvent<'_>, buf: &mut BytesMut) -> Result<(), Status> {
        let target = self.target(link.event.data).await?;
        let target = target.as_ref().and_then(Page::last).map(|event| WireEvent {
            position: shown_position(&self.store, event.position),
            event,
        });
        encode_resolved_link(link, target.as_ref(), self.form, buf);
        Ok(())
    }

    /// The event that a link names, if it is there and the caller may see it: whoever may write a
    /// stream could otherwise read any other through it.
    async fn target(&self, link: &[u8]) -> Result<Option<Page>, Status> {
        let Some((revision, stream)) = parse_link(link) else { return Ok(None) };
        match self.store.read_event(&stream, revision).await {
            Ok(page) => Ok(page),
            Err(
                ReadError::StreamNotFound { .. }
                | ReadError::StreamDeleted { .. }
                | ReadError::Denied(_),
            ) => Ok(None),
            Err(failed) => Err(status::read(failed)),
        }
    }
}

/// A message of its own.
#[must_use]
pub fn message(content: Content) -> Bytes {
    let mut buf = BytesMut::new();
    put_message(&ReadResp { content: Some(content) }, &mut buf);
    buf.freeze()
}

/// A link's data: `<revision>@<stream>`.
fn parse_link(data: &[u8]) -> Option<(Revision, StreamName)> {
    let (revision, stream) = std::str::from_utf8(data).ok()?.split_once('@')?;
    Some((Revision(revision.parse().ok()?), StreamName::new(stream).ok()?))
}

/// The epochs of a page's events: nearly always the same one.
struct Epochs<'a> {
    store: &'a Door,
    same: Option<Epoch>,
}

impl<'a> Epochs<'a> {
    fn of(store: &'a Door, page: &Page) -> Epochs<'a> {
        // Epochs rise with positions: equal at both ends, equal in between.
        let first = page.events().next().and_then(|event| store.epoch_at(event.position));
        let last = page.last().and_then(|event| store.epoch_at(event.position));
        Epochs { store, same: first.filter(|_| first == last) }
    }

    fn place<'e>(&self, event: EventView<'e>) -> WireEvent<'e> {
        let position = match self.same {
            Some(epoch) => encode_position(event.position, epoch),
            None => shown_position(self.store, event.position),
        };
        WireEvent { event, position }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_a_revision_and_a_stream() {
        let parsed = |data: &[u8]| parse_link(data).map(|(r, s)| (r.0, s.as_str().to_owned()));
        assert_eq!(parsed(b"3@account-1"), Some((3, "account-1".to_owned())));
        assert_eq!(parsed(b"0@a@b"), Some((0, "a@b".to_owned())));
        for wrong in [&b"account-1"[..], b"-1@a", b"1@", b"@a", b"\xff@a", b""] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }
}
