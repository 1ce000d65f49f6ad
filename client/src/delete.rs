//! Deleting streams.

use daybook_model::{ExpectedRevision, StreamName, TraceContext};
use daybook_wire::proto::streams::{
    DeleteReq, TombstoneReq, delete_req, delete_resp, tombstone_req, tombstone_resp,
};
use daybook_wire::stream;

use crate::connection::Client;
use crate::error::AppendError;
use crate::event::Checkpoint;
use crate::within::traced;

impl Client {
    /// Soft-deletes `stream`: its events are hidden; it can be written again and its revisions
    /// continue. Returns the place in `$all` of the record that did it.
    ///
    /// # Errors
    /// [`AppendError`]; only after [`AppendError::Unknown`] it may have been done.
    pub async fn delete(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
    ) -> Result<Option<Checkpoint>, AppendError> {
        self.delete_traced(stream, expected, None).await
    }

    /// As [`Client::delete`], as a part of `trace`.
    pub(crate) async fn delete_traced(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        trace: Option<&TraceContext>,
    ) -> Result<Option<Checkpoint>, AppendError> {
        let options = delete_req::Options {
            stream_identifier: Some(stream::to_proto(stream)),
            expected_stream_revision: Some(expected.into()),
        };
        let request = traced(self.call(DeleteReq { options: Some(options) }), trace);
        let answer =
            self.streams().delete(request).await.map_err(|status| {
                AppendError::from_status(&status, self.server(), stream, expected)
            })?;
        Ok(match answer.into_inner().position_option {
            Some(delete_resp::PositionOption::Position(at)) => Some(Checkpoint(at.commit_position)),
            _ => None,
        })
    }

    /// Ends `stream` for ever: nobody can read or write it again. Returns the place in `$all` of
    /// its tombstone.
    ///
    /// # Errors
    /// [`AppendError`]; only after [`AppendError::Unknown`] it may have been done.
    pub async fn tombstone(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
    ) -> Result<Option<Checkpoint>, AppendError> {
        self.tombstone_traced(stream, expected, None).await
    }

    /// As [`Client::tombstone`], as a part of `trace`.
    pub(crate) async fn tombstone_traced(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        trace: Option<&TraceContext>,
    ) -> Result<Option<Checkpoint>, AppendError> {
        let options = tombstone_req::Options {
            stream_identifier: Some(stream::to_proto(stream)),
            expected_stream_revision: Some(expected.into()),
        };
        let request = traced(self.call(TombstoneReq { options: Some(options) }), trace);
        let answer =
            self.streams().tombstone(request).await.map_err(|status| {
                AppendError::from_status(&status, self.server(), stream, expected)
            })?;
        Ok(match answer.into_inner().position_option {
            Some(tombstone_resp::PositionOption::Position(at)) => {
                Some(Checkpoint(at.commit_position))
            }
            _ => None,
        })
    }
}
