//! The hand-written decoders of appends: they never panic, whatever comes.
//!
//! ```text
//!   rustup toolchain install nightly && cargo install cargo-fuzz
//!   cd tests/fuzz && cargo +nightly fuzz run append -- -max_total_time=60
//! ```
#![no_main]

use bytes::Bytes;
use daybook_wire::{append_part, batch_part};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    let message = Bytes::copy_from_slice(message);
    let _ = append_part(&message);
    let _ = batch_part(&message);
});
