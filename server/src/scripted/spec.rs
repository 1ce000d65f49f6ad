//! What is kept of a projection, and the streams that are its own.
//!
//! ```text
//!   $projections-$all                        $ProjectionCreated, $ProjectionDeleted   the names
//!   $projections-<name>                      $ProjectionUpdated                       the spec
//!   $projections-<name>-checkpoint           $ProjectionCheckpoint                    state, place
//!   $projections-<name>::<partition>-checkpoint   $Checkpoint                         its state
//!   $projections-<name>-result               Result, or links to those of partitions
//!   $projections-<name>-<partition>-result   Result
//!   $projections-<name>-emittedstreams       $StreamTracked                           a name
//! ```
//!
//! Names and types are KurrentDB's, but for the `::`: its `-` cannot tell a partition of one
//! projection from another projection.

use daybook_model::stream::PROJECTION_PREFIX;
use daybook_model::{InvalidStreamName, StreamName};
use daybook_script::{Definition, Sources};
use daybook_store::virtual_stream::is_virtual;
use serde::{Deserialize, Serialize};

use super::Run;
use super::error::ProjectionError;

/// Bytes of a projection's name: far below a stream's, which holds it and a partition's.
pub const NAME_SIZE_MAX: usize = 200;
/// Between a projection's name and a partition's.
const PARTITION: &str = "::";
/// With what a name may not end: such a stream is another's.
const SUFFIXES: [&str; 3] = ["-checkpoint", "-result", "-emittedstreams"];

/// For how long a projection is there, and how far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// To the end of the log; in memory alone.
    OneTime,
    /// Follows the log until the server stops; in memory alone.
    Transient,
    /// Follows the log, and is kept.
    Continuous,
}

impl Mode {
    /// The protocol's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::OneTime => "OneTime",
            Mode::Transient => "Transient",
            Mode::Continuous => "Continuous",
        }
    }
}

/// A projection, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// Its program.
    pub query: String,
    /// For how long it is there.
    pub mode: Mode,
    /// Whether it runs.
    pub enabled: bool,
    /// Whether its program may write.
    pub emit_enabled: bool,
    /// Whether the streams it writes to are noted.
    pub track_emitted_streams: bool,
    /// How often its program was changed.
    pub version: i64,
    /// How often it began anew.
    pub epoch: i64,
    /// What is saved of another run is not its own.
    pub run: Run,
}

impl Spec {
    /// A projection that runs.
    #[must_use]
    pub fn new(name: String, mode: Mode, query: String) -> Spec {
        Spec {
            name,
            query,
            mode,
            enabled: true,
            emit_enabled: false,
            track_emitted_streams: false,
            version: 0,
            epoch: 0,
            run: Run::nil(),
        }
    }
}

/// Checks the name of a projection.
///
/// # Errors
/// [`ProjectionError::Invalid`]
pub fn check_name(name: &str) -> Result<(), ProjectionError> {
    let refuse = |reason: String| Err(ProjectionError::Invalid { reason });
    if name.is_empty() || name.len() > NAME_SIZE_MAX {
        let size = name.len();
        return refuse(format!("a projection's name has 1 to {NAME_SIZE_MAX} bytes, not {size}"));
    }
    if name.starts_with('$') || name.contains(PARTITION) || name.chars().any(char::is_control) {
        return refuse(format!(
            "'{}' cannot name a projection: leave out '$' at its beginning, '{PARTITION}' and \
             control characters",
            name.escape_debug()
        ));
    }
    if let Some(suffix) = SUFFIXES.iter().find(|suffix| name.ends_with(**suffix)) {
        return refuse(format!("a projection's name cannot end with '{suffix}'"));
    }
    Ok(())
}

/// Where the names of all are.
#[must_use]
pub fn list_stream() -> StreamName {
    named(&format!("{PROJECTION_PREFIX}$all"))
}

/// Where the spec of `name` is.
#[must_use]
pub fn spec_stream(name: &str) -> StreamName {
    named(&format!("{PROJECTION_PREFIX}{name}"))
}

/// Where the place of `name` is, and its state.
#[must_use]
pub fn checkpoint_stream(name: &str) -> StreamName {
    named(&format!("{PROJECTION_PREFIX}{name}-checkpoint"))
}

/// Where the streams that `name` wrote to are noted.
#[must_use]
pub fn emitted_stream(name: &str) -> StreamName {
    named(&format!("{PROJECTION_PREFIX}{name}-emittedstreams"))
}

/// Where the state of a partition of `name` is.
///
/// # Errors
/// [`InvalidStreamName`] if the partition's name cannot be a part of a stream's.
pub fn partition_stream(name: &str, partition: &str) -> Result<StreamName, InvalidStreamName> {
    StreamName::new(&format!("{PROJECTION_PREFIX}{name}{PARTITION}{partition}-checkpoint"))
}

/// Where the results of `name` are: of a program without partitions, or links to those of them.
///
/// # Errors
/// [`InvalidStreamName`] if the program names another that cannot be.
pub fn result_stream(name: &str, definition: &Definition) -> Result<StreamName, InvalidStreamName> {
    match &definition.result_stream {
        Some(stream) => StreamName::new(stream),
        None => StreamName::new(&format!("{PROJECTION_PREFIX}{name}-result")),
    }
}

/// Where the results of a partition of `name` are.
///
/// # Errors
/// [`InvalidStreamName`] if the partition's name cannot be a part of a stream's.
pub fn partition_result_stream(
    name: &str,
    definition: &Definition,
    partition: &str,
) -> Result<StreamName, InvalidStreamName> {
    match &definition.partition_result_stream {
        Some(pattern) => StreamName::new(&pattern.replace("{0}", partition)),
        None => StreamName::new(&format!("{PROJECTION_PREFIX}{name}-{partition}-result")),
    }
}

/// Whether a projection called `name` may write results to `stream`: to its own, and to those that
/// no part of the server writes alone.
#[must_use]
pub fn may_have_results(name: &str, stream: &StreamName) -> bool {
    let of_name = stream.as_str().strip_prefix(PROJECTION_PREFIX);
    match of_name.and_then(|rest| rest.strip_prefix(name)) {
        Some(rest) => rest.starts_with('-') && rest.ends_with("-result"),
        None => stream.owner().is_none() && !is_virtual(stream),
    }
}

/// Checks what a program says of itself.
///
/// # Errors
/// [`ProjectionError::Invalid`]
pub fn check_definition(name: &str, definition: &Definition) -> Result<(), ProjectionError> {
    let invalid = |reason: String| ProjectionError::Invalid { reason };
    if let Sources::Streams(streams) = &definition.sources {
        for stream in streams {
            StreamName::new(stream)
                .map_err(|why| invalid(format!("the program cannot follow '{stream}': {why}")))?;
        }
    }
    let example = partition_result_stream(name, definition, "x");
    for stream in [result_stream(name, definition), example] {
        let stream = stream.map_err(|why| invalid(format!("results cannot be written: {why}")))?;
        if !may_have_results(name, &stream) {
            return Err(invalid(format!(
                "results cannot be written to '{stream}', which a part of the server writes alone; \
                 choose another stream"
            )));
        }
    }
    Ok(())
}

fn named(name: &str) -> StreamName {
    StreamName::new(name).expect("a checked name is a part of a stream's")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_meet_others_streams_are_refused() {
        for name in ["orders", "orders-by-customer", "a:b", "größe"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "x".repeat(NAME_SIZE_MAX + 1);
        for name in ["", "$by_category", "a::b", "a\nb", "a-checkpoint", "a-result", &long] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn results_go_nowhere_that_is_anothers() {
        let stream = |name: &str| StreamName::new(name).expect("a name");
        for own in ["$projections-a-result", "$projections-a-p-result", "totals"] {
            assert!(may_have_results("a", &stream(own)), "{own}");
        }
        for others in [
            "$projections-a",
            "$projections-a-checkpoint",
            "$projections-b-checkpoint",
            "$projections-ab-result",
            "$projections-$all",
            "ledger.account-1",
            "$users",
            "$ce-a",
        ] {
            assert!(!may_have_results("a", &stream(others)), "{others}");
        }
    }

    #[test]
    fn a_partition_of_one_is_not_another() {
        let partition = partition_stream("a", "b").expect("a name");
        assert_ne!(partition, checkpoint_stream("a-b"));
    }
}
