//! Streams and events: found, read, followed, appended, deleted.
//!
//! ```text
//!   /ui/streams                          names by prefix                    list
//!   /ui/categories                       categories and types, with counts  kinds
//!   /ui/streams/{name}                   events, newest first               stream
//!   /ui/streams/{name}/{revision}        one event: tree, text, bytes       event, tree
//!   /ui/chain/{correlation}              what belongs together, in time     chain
//!   /ui/tail                             what is appended, as it is         tail
//!   /ui/streams/{name}/{append|…}        POST                               change
//! ```

pub mod chain;
pub mod change;
pub mod event;
pub mod kinds;
pub mod list;
pub mod shown;
pub mod stream;
pub mod tail;
pub mod tree;

use super::Ui;
use crate::security::gate::{Gate, Routes};
use crate::security::rights::Right;

/// The routes of this room. What may be done with a stream, its lists say.
pub fn routes(gate: &Gate) -> Routes<Ui> {
    use Right::Known;
    Routes::new(gate)
        .get("/ui/streams", Known, list::show)
        .get("/ui/categories", Known, kinds::show)
        .get("/ui/streams/", Known, stream::open)
        .get("/ui/streams/{name}", Known, stream::show)
        .get("/ui/streams/{name}/{revision}", Known, event::show)
        .get("/ui/streams/{name}/{revision}/{part}", Known, event::download)
        .get("/ui/chain/{correlation}", Known, chain::show)
        .get("/ui/tail", Known, tail::show)
        .get("/ui/tail/feed", Known, tail::follow)
        .post("/ui/streams/{name}/append", Known, change::append)
        .post("/ui/streams/{name}/metadata", Known, change::set_metadata)
        .post("/ui/streams/{name}/delete", Known, change::delete)
}
