//! One look at the log on behalf of a subscription: what there is from its place on.
//!
//! INVARIANT: a look changes nothing, so it may be dropped and taken again.

use std::sync::Arc;

use daybook_log::planted::{self, Bug};
use daybook_model::{Filter, Position, StreamName};

use crate::Page;
use crate::core::Core;
use crate::index::{Access, Key, View};
use crate::page::PAGE_EVENTS_MAX;
use crate::read::{Direction, ReadError, read_span};
use crate::resolve::settings;
use crate::virtual_stream::{self, Links};

/// How far a look came.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// The revision or position that is next.
    pub next: u64,
    /// How many events it considered.
    pub considered: u64,
}

impl Reach {
    /// What is left of it behind `part`.
    pub fn after(self, part: Reach) -> Reach {
        Reach { considered: self.considered.saturating_sub(part.considered), ..self }
    }
}

/// What one look at the log brought.
pub(super) enum Look {
    Deliver(Page, Reach),
    /// Nothing wanted up to here.
    Nothing(Reach),
    Deleted(StreamName),
}

impl Look {
    /// `page` is what is wanted of everything before the `reach`.
    pub fn of(page: Page, reach: Reach) -> Look {
        if page.is_empty() { Look::Nothing(reach) } else { Look::Deliver(page, reach) }
    }
}

/// What a stream is found under.
#[derive(Clone, Copy)]
pub(super) struct StreamKeys {
    pub events: Key,
    pub settings: Key,
}

/// What is looked for.
pub(super) enum What {
    Stream {
        name: StreamName,
        keys: StreamKeys,
        links: Option<Arc<Links>>,
        following: bool,
    },
    All {
        filter: Option<Arc<Filter>>,
    },
    /// The events of a key that are not the system's, and at most so many of the key.
    Indexed {
        key: Key,
        limit: u64,
    },
}

/// One look at the log, from `next` on.
pub(super) struct Looker {
    pub core: Arc<Core>,
    pub what: What,
    pub next: u64,
    pub from_end: Option<(Position, Arc<View>)>,
}

impl Looker {
    pub fn look(&self, access: Access) -> Result<Look, ReadError> {
        match &self.what {
            What::Stream { name, keys, links, following } => {
                let mut look = self.stream(name, *keys, links.as_deref(), access)?;
                if let (Look::Deliver(page, _), Some(links)) = (&mut look, links) {
                    page.links = Some(links.clone());
                    if *following {
                        virtual_stream::hide(&self.core, links, page, access)?;
                    }
                }
                Ok(look)
            }
            What::All { filter } => self.all(filter.as_deref(), access),
            What::Indexed { key, limit } => self.indexed(*key, *limit, access),
        }
    }

    fn stream(
        &self,
        name: &StreamName,
        keys: StreamKeys,
        links: Option<&Links>,
        access: Access,
    ) -> Result<Look, ReadError> {
        let core = &self.core;
        let committed = core.committed();
        let view = core.view.load();
        let settings = settings(core, &view, keys.settings, committed, access)?;
        if settings.tombstoned {
            return Ok(Look::Deleted(name.clone()));
        }
        let key = keys.events;
        let count = view.count(key, committed, access)?;
        if let Some((end, then)) = &self.from_end {
            let view = if planted::is(Bug::FeedFromEndForgets) { &view } else { then };
            return Ok(Look::Nothing(self.reach(view.count(key, *end, access)?)));
        }
        let visible = crate::read::Visible::of(name, &settings.metadata, count, core);
        let from = self.next.max(visible.first.min(count));
        if from >= count {
            return Ok(Look::Nothing(self.reach(self.next.max(from))));
        }
        let limit = PAGE_EVENTS_MAX;
        let positions = view.positions(key, from, limit, committed, access)?;
        let mut page = crate::fetch::fetch(core, &view, &positions, access)?;
        let next = from + page.considered as u64;
        if links.is_some_and(Links::list_streams) {
            page.show_births(Direction::Forwards);
        }
        page.number(&positions, from..);
        visible.retain(&mut page);
        Ok(Look::of(page, self.reach(next)))
    }

    fn all(&self, filter: Option<&Filter>, access: Access) -> Result<Look, ReadError> {
        let core = &self.core;
        let committed = if planted::is(Bug::ReaderSeesUncommitted) {
            core.view.load().active().next()
        } else {
            core.committed()
        };
        let view = core.view.load();
        let start = if planted::is(Bug::FeedSkipsAtRoll) && view.active().first().0 == self.next {
            self.next + 1
        } else {
            self.next
        };
        let limit = PAGE_EVENTS_MAX as u64;
        let mut page = read_span(core, &view, Position(start), committed, limit, access)?;
        let mut next = start + page.considered as u64;
        if planted::is(Bug::FeedRepeatsAtRoll)
            && view.active().first().0 == next
            && !page.is_empty()
        {
            next -= 1;
        }
        if let Some(filter) = filter {
            page.retain(|event| filter.wants(event));
        }
        Ok(Look::of(page, self.reach(next)))
    }

    /// The events of a key. Who follows them stands at a position, as who follows the log does.
    fn indexed(&self, key: Key, limit: u64, access: Access) -> Result<Look, ReadError> {
        let core = &self.core;
        let committed = core.committed();
        let view = core.view.load();
        let number = view.rank(key, Position(self.next), committed, access)?;
        let limit = limit.min(PAGE_EVENTS_MAX as u64) as usize;
        let positions = view.positions(key, number, limit, committed, access)?;
        if positions.is_empty() {
            let next = committed.0.max(self.next);
            return Ok(Look::Nothing(Reach { next, considered: 0 }));
        }
        let mut page = crate::fetch::fetch(core, &view, &positions, access)?;
        let considered = page.considered as u64;
        let last = positions[page.considered - 1];
        page.retain(|event| !crate::read::is_system(event));
        Ok(Look::of(page, Reach { next: last.0 + 1, considered }))
    }

    /// Everything before `next` was considered.
    fn reach(&self, next: u64) -> Reach {
        Reach { next, considered: next.saturating_sub(self.next) }
    }
}
