//! The trailers that carry an error's facts beside its status, and the values of [`EXCEPTION`].
//! Protocol sections 3.1 and 3.2.

/// Names the kind of error.
pub const EXCEPTION: &str = "exception";
/// The stream an error is about.
pub const STREAM_NAME: &str = "stream-name";
/// What a delete expected, as [`daybook_model::ExpectedRevision::code`].
pub const EXPECTED_VERSION: &str = "expected-version";
/// Where the stream is; -1 if it has no events.
pub const ACTUAL_VERSION: &str = "actual-version";
/// The limit of one append in bytes.
pub const MAXIMUM_APPEND_SIZE: &str = "maximum-append-size";
/// The limit of one event in bytes.
pub const MAXIMUM_APPEND_EVENT_SIZE: &str = "maximum-append-event-size";
/// The event that is too large.
pub const EVENT_ID: &str = "event-id";
/// Its bytes.
pub const PROPOSED_APPEND_EVENT_SIZE: &str = "proposed-append-event-size";
/// The metadata every proposed event must have.
pub const REQUIRED_METADATA_PROPERTIES: &str = "required-metadata-properties";
/// The secondary index that does not exist.
pub const INDEX_NAME: &str = "index-name";

/// The group of a persistent subscription that an error is about.
pub const GROUP_NAME: &str = "group-name";
/// Why an operation on a persistent subscription failed.
pub const REASON: &str = "reason";

/// [`EXCEPTION`]: there is no such group.
pub const PERSISTENT_SUBSCRIPTION_DOES_NOT_EXIST: &str = "persistent-subscription-does-not-exist";
/// [`EXCEPTION`]: there is such a group already.
pub const PERSISTENT_SUBSCRIPTION_EXISTS: &str = "persistent-subscription-exists";
/// [`EXCEPTION`]: an operation on a group failed.
pub const PERSISTENT_SUBSCRIPTION_FAILED: &str = "persistent-subscription-failed";
/// [`EXCEPTION`]: a consumer was dropped by its group.
pub const PERSISTENT_SUBSCRIPTION_DROPPED: &str = "persistent-subscription-dropped";
/// [`EXCEPTION`]: the group has as many consumers as it may.
pub const MAXIMUM_SUBSCRIBERS_REACHED: &str = "maximum-subscribers-reached";
/// [`EXCEPTION`]: nobody may do this.
pub const ACCESS_DENIED: &str = "access-denied";
/// [`EXCEPTION`]: the stream has a tombstone.
pub const STREAM_DELETED: &str = "stream-deleted";
/// [`EXCEPTION`]: a delete found the stream elsewhere.
pub const WRONG_EXPECTED_VERSION: &str = "wrong-expected-version";
/// [`EXCEPTION`]: an append is too large.
pub const MAXIMUM_APPEND_SIZE_EXCEEDED: &str = "maximum-append-size-exceeded";
/// [`EXCEPTION`]: an event is too large.
pub const MAXIMUM_APPEND_EVENT_SIZE_EXCEEDED: &str = "maximum-append-event-size-exceeded";
/// [`EXCEPTION`]: an event lacks `type` or `content-type`.
pub const MISSING_REQUIRED_METADATA_PROPERTY: &str = "missing-required-metadata-property";
/// [`EXCEPTION`]: there is no such secondary index.
pub const INDEX_NOT_FOUND: &str = "index-not-found";
/// The user that an error is about.
pub const LOGIN_NAME: &str = "login-name";
/// The scavenge that an error is about.
pub const SCAVENGE_ID: &str = "scavenge-id";

/// [`EXCEPTION`]: there is no such user.
pub const USER_NOT_FOUND: &str = "user-not-found";
/// [`EXCEPTION`]: there is such a user already, or it was changed meanwhile.
pub const USER_CONFLICT: &str = "user-conflict";
/// [`EXCEPTION`]: no such scavenge is running.
pub const SCAVENGE_NOT_FOUND: &str = "scavenge-not-found";
