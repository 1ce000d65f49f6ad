//! Every limit a client can meet, in one place, with its unit and its reason.

/// Bytes of one event's data and metadata together. KurrentDB's default since 25.1.
pub const EVENT_SIZE_MAX: usize = 16 * 1024 * 1024;
/// Bytes of all events of one append as stored. One append is one frame, and one frame is read
/// into memory whole by recovery.
pub const APPEND_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one gRPC message a client may send; KurrentDB's value.
pub const MESSAGE_SIZE_MAX: usize = 16 * 1024 * 1024 - 10_000;
/// Bytes of one gRPC message of an append to several streams, which carries whole events and more
/// beside them. In KurrentDB, too, it is half as much again as what it carries may have.
pub const RECORDS_MESSAGE_SIZE_MAX: usize = EVENT_SIZE_MAX / 2 * 3;
/// Bytes of a stream name. Long enough for three UUIDs and their labels many times over; it
/// bounds every key of the index.
pub const STREAM_NAME_SIZE_MAX: usize = 1024;
/// Bytes of an event type. As a stream name: `$et-<type>` must itself be nameable.
pub const EVENT_TYPE_SIZE_MAX: usize = 1000;
/// Streams that one append may write or check.
pub const APPEND_STREAMS_MAX: usize = 10_000;
/// Events of one append. Bounds the work of one decision.
pub const APPEND_EVENTS_MAX: usize = 100_000;
/// Bytes of a filter's regular expression, or of all its prefixes together.
pub const FILTER_SIZE_MAX: usize = 64 * 1024;
/// Steps a filter's regular expression may backtrack on one name before it counts as not matching:
/// a hostile pattern must not hold a reader.
pub const FILTER_BACKTRACK_MAX: usize = 100_000;

const _: () = assert!(EVENT_SIZE_MAX < APPEND_SIZE_MAX);
const _: () = assert!(MESSAGE_SIZE_MAX < APPEND_SIZE_MAX);
const _: () = assert!(RECORDS_MESSAGE_SIZE_MAX < APPEND_SIZE_MAX);
const _: () = assert!(EVENT_TYPE_SIZE_MAX + "$et-".len() <= STREAM_NAME_SIZE_MAX);
