//! What a Read asks for: its filter is made, or refused, and matches without panic.
//!
//! ```text
//!   cd tests/fuzz && cargo +nightly fuzz run read -- -max_total_time=60
//! ```
#![no_main]

use daybook_wire::filter;
use daybook_wire::proto::streams::ReadReq;
use daybook_wire::proto::streams::read_req::options::{FilterOption, StreamOption};
use daybook_wire::stream;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|message: &[u8]| {
    let Some(options) = ReadReq::decode(message).ok().and_then(|request| request.options) else {
        return;
    };
    if let Some(StreamOption::Stream(target)) = &options.stream_option {
        let _ = stream::from_proto(target.stream_identifier.as_ref());
    }
    if let Some(FilterOption::Filter(wanted)) = &options.filter_option {
        let _ = filter::index_name(wanted).and_then(filter::secondary_index);
        let _ = filter::from_proto(wanted);
    }
});
