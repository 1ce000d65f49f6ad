//! Where a process of its own gets the feed from.
//!
//! The server's own feed, without a network between, is the server's: this crate knows no store.

pub mod client;

pub use client::{ClientFeed, ClientSource};
