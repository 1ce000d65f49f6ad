//! What a program says of itself.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::error::{Doing, ScriptError};

/// Streams one program may follow.
pub const STREAMS_MAX: usize = 100;

/// Where a program's events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// The whole log, without the system's streams.
    All,
    /// These streams, in the order of the log; each once.
    Streams(Vec<String>),
}

/// Which events share a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioning {
    /// All of them.
    #[default]
    None,
    /// Those of a stream.
    ByStream,
    /// Those that the program's function gives the same name.
    ByFunction,
}

/// What a program says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Where its events come from.
    pub sources: Sources,
    /// The category it follows, if it is one.
    pub category: Option<String>,
    /// The types it has handlers for; none if it takes all.
    pub types: Option<BTreeSet<String>>,
    /// Which events share a state.
    pub partitioning: Partitioning,
    /// Whether partitions share a second state.
    pub bi_state: bool,
    /// Whether it wants to be told of streams that were deleted.
    pub handles_deleted: bool,
    /// Whether its results are written.
    pub output_state: bool,
    /// Whether events that were read through links are events to it.
    pub include_links: bool,
    /// Where its results are written, if it says that.
    pub result_stream: Option<String>,
    /// Where those of partitions are, if it says that; `{0}` is the partition.
    pub partition_result_stream: Option<String>,
}

impl Default for Definition {
    fn default() -> Definition {
        Definition {
            sources: Sources::All,
            category: None,
            types: None,
            partitioning: Partitioning::None,
            bi_state: false,
            handles_deleted: false,
            output_state: false,
            include_links: false,
            result_stream: None,
            partition_result_stream: None,
        }
    }
}

/// As the prelude says it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    all: bool,
    streams: Vec<String>,
    category: Option<String>,
    by_stream: bool,
    by_function: bool,
    fold: bool,
    any: bool,
    types: Vec<String>,
    deleted: bool,
    bi_state: bool,
    output_state: bool,
    include_links: bool,
    result_stream: Option<String>,
    partition_result_stream: Option<String>,
}

impl Definition {
    /// Reads what the prelude says.
    pub(crate) fn parse(said: &str) -> Result<Definition, ScriptError> {
        let text: Text = serde_json::from_str(said).map_err(|error| ScriptError::Threw {
            doing: Doing::Compile,
            message: error.to_string(),
            place: String::new(),
        })?;
        let mut streams = text.streams;
        let mut seen = BTreeSet::new();
        streams.retain(|stream| seen.insert(stream.clone()));
        let refused = |reason| Err(ScriptError::Meaningless { reason });
        if !text.all && streams.is_empty() {
            return refused(
                "it follows nothing; begin with fromAll(), fromStream(…) or fromCategory(…)",
            );
        }
        if streams.len() > STREAMS_MAX {
            return refused(
                "it follows more than 100 streams; follow their category, or fromAll()",
            );
        }
        if text.deleted && !text.by_stream {
            return refused("$deleted needs foreachStream()");
        }
        if text.deleted && text.bi_state {
            return refused("$deleted cannot be used with $initShared");
        }
        let partitioning = match (text.by_stream, text.by_function) {
            (true, true) => {
                return refused("foreachStream() and partitionBy(…) exclude each other");
            }
            (true, false) => Partitioning::ByStream,
            (false, true) => Partitioning::ByFunction,
            (false, false) => Partitioning::None,
        };
        Ok(Definition {
            sources: if text.all { Sources::All } else { Sources::Streams(streams) },
            category: text.category,
            // A program without handlers takes each event's data for its state.
            types: (text.fold && !text.any).then(|| text.types.into_iter().collect()),
            partitioning,
            bi_state: text.bi_state,
            handles_deleted: text.deleted,
            output_state: text.output_state,
            include_links: text.include_links,
            result_stream: text.result_stream,
            partition_result_stream: text.partition_result_stream,
        })
    }
}
