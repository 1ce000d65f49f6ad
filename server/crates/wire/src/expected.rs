//! What an append or a delete expects of its stream, in each request that can say so.

use daybook_model::{ExpectedRevision, Revision};

use crate::proto::shared::Empty;
use crate::proto::streams::{
    append_req, batch_append_req, batch_append_resp, delete_req, tombstone_req,
};

/// Both ways between [`ExpectedRevision`] and one request's choice of revision, no stream, any,
/// stream exists: they differ only in their names and in which empty message they use.
macro_rules! expectation {
    ($choice:path, $revision:ident, $empty:expr) => {
        const _: () = {
            use $choice as Choice;

            impl From<ExpectedRevision> for Choice {
                fn from(expected: ExpectedRevision) -> Choice {
                    match expected {
                        ExpectedRevision::Any => Choice::Any($empty),
                        ExpectedRevision::NoStream => Choice::NoStream($empty),
                        ExpectedRevision::StreamExists => Choice::StreamExists($empty),
                        ExpectedRevision::Exact(revision) => Choice::$revision(revision.0),
                    }
                }
            }

            impl From<Choice> for ExpectedRevision {
                fn from(choice: Choice) -> ExpectedRevision {
                    match choice {
                        Choice::Any(_) => ExpectedRevision::Any,
                        Choice::NoStream(_) => ExpectedRevision::NoStream,
                        Choice::StreamExists(_) => ExpectedRevision::StreamExists,
                        Choice::$revision(n) => ExpectedRevision::Exact(Revision(n)),
                    }
                }
            }
        };
    };
}

expectation!(append_req::options::ExpectedStreamRevision, Revision, Empty {});
expectation!(delete_req::options::ExpectedStreamRevision, Revision, Empty {});
expectation!(tombstone_req::options::ExpectedStreamRevision, Revision, Empty {});
expectation!(batch_append_req::options::ExpectedStreamPosition, StreamPosition, ());
expectation!(batch_append_resp::ExpectedStreamPosition, StreamPosition, ());
