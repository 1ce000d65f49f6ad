//! Daybook as a whole, met from outside: what it refuses, what it survives, what it promises.
//!
//! ```text
//!   access       what each caller may do, with routes and streams  HTTP, gRPC
//!   fuzz_grpc    what no client sends, at random                  gRPC
//!   requests     what no good client sends                          every door: gRPC, HTTP, store
//!   reads        streams, the log, subscriptions, to the letter  gRPC
//!   limits       events, appends, messages that are too large
//!   malformed    what is no HTTP, or too much of it               sockets
//!   strangers    a thousand clients that begin and never end       sockets
//!   management   users, operations and numbers over gRPC
//!   metrics      what /metrics shows, what is said about it, what asks for it
//!   multi_append several streams at once, and checks of others, over gRPC
//!   directory    data directories that are not a sound store's own
//!   faults       a disk that fails or is full; a clock that leaps
//!   pressure     more appends, subscribers, slowness than there is room for
//!   tls          who gets a secure connection, and who does not; certificates that change
//!   authentication  who is believed; the first administrator; what protects a server
//!   client…      the client's typed layer, its bulk writer, and its examples
//!   ledger…      accounts and transfers: input, doors, history, crashes, risk
//!   connectors   what is relayed to elsewhere
//!   console      the web console: sessions, forms, what its pages may use and show
//!   readside…    lists from views, their freshness, pauses and rebuilds; views over the network
//!   backup       repositories of backups, archiving, restores to a position or a time
//!   backup_kept  what the server says of the backups in its archive, and one of them verified
//!   lifecycle    signals, restarts, index files that are gone
//!   moving       what another server or a file holds, brought in, and written out
//!   scripted     projections that users write
//!   scavenge     what retention gives back, and what stays
//!   traces       what requests bring about, as collectors are told of it
//!   virtual_streams  what the index lists, as streams of links and parts of the log
//!   format       a store of each format version, kept for ever
//! ```
//!
//! Killing it under load is a test of its own: `crash/`, `cargo crash`.
//!
//! INVARIANT: no test rests on how long something takes, and none on another test.
#![allow(clippy::disallowed_methods, reason = "a test arranges files and asks the machine")]

mod access;
mod admin;
mod authentication;
mod backup;
mod backup_kept;
mod client_bulk;
mod client_examples;
mod client_proxy;
mod client_traces;
mod client_typed;
mod commands;
mod connectors;
mod console;
mod directory;
mod faults;
mod format;
mod fronts;
mod fuzz_grpc;
mod ledger;
mod ledger_cli;
mod ledger_digests;
mod ledger_doors;
mod ledger_input;
mod ledger_risk;
mod lifecycle;
mod limits;
mod listeners;
mod malformed;
mod management;
mod metrics;
mod moving;
mod multi_append;
mod openapi;
mod persistent;
mod persistent_durable;
mod persistent_seen;
mod pressure;
mod reads;
mod readside;
mod readside_cli;
mod readside_feed;
mod requests;
mod restored;
mod scavenge;
mod scripted;
mod strangers;
mod support;
mod tls;
mod traces;
mod virtual_streams;
