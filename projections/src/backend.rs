//! Where read models are kept: sled in this process, or PostgreSQL for any number of them.
//!
//! INVARIANT: at any moment at most one generation of a projection serves, and at most one writer
//! may change a generation.

use daybook_client::Checkpoint;
use daybook_model::Position;

use crate::projection::Projection;
use crate::query::{Page, Query, QueryError};
use crate::store::{Generation, Parked, StoreError, Writer};

/// Parked events of one answer at most.
pub const PARKED_PAGE_MAX: usize = 1000;

/// Keeps the tables of projections. A clone is another handle.
pub trait Backend: Clone + Send + Sync + 'static {
    /// What changes a generation's tables.
    type Writer: Writer;

    /// The generations of a projection, ascending.
    ///
    /// # Errors
    /// [`StoreError`].
    fn generations(
        &self,
        projection: &str,
    ) -> impl Future<Output = Result<Vec<Generation>, StoreError>> + Send;

    /// Makes a generation with empty tables, by the projection's version. It serves if none
    /// does; else [`Backend::serve`] says when. Its number, above all others of the projection.
    ///
    /// # Errors
    /// [`StoreError`].
    fn create(
        &self,
        projection: &dyn Projection,
    ) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Takes over the writing of a generation, and fences whoever had it.
    ///
    /// # Errors
    /// [`StoreError`]: there is none of this number, or it cannot be opened.
    fn write(
        &self,
        projection: &dyn Projection,
        generation: u32,
    ) -> impl Future<Output = Result<Self::Writer, StoreError>> + Send;

    /// Lets queries see this generation, and removes all older ones.
    ///
    /// # Errors
    /// [`StoreError`].
    fn serve(
        &self,
        projection: &str,
        generation: u32,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes a generation with its tables, its writer fenced. None of this number is no error.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remove(
        &self,
        projection: &str,
        generation: u32,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Remembers whether the projection was told to pause: of all its generations, those that are
    /// made later included.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_paused(
        &self,
        projection: &str,
        paused: bool,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A page, all of whose rows reflect one place in the feed.
    ///
    /// # Errors
    /// [`QueryError`].
    fn query(&self, query: &Query) -> impl Future<Output = Result<Page, QueryError>> + Send;

    /// How far the generation that serves is.
    ///
    /// # Errors
    /// [`QueryError::NotReady`] if none serves.
    fn reached(
        &self,
        projection: &str,
    ) -> impl Future<Output = Result<Option<Checkpoint>, QueryError>> + Send;

    /// Waits until the generation that serves reflects `position`, without limit: the caller has
    /// one.
    ///
    /// # Errors
    /// [`QueryError`].
    fn wait(
        &self,
        projection: &str,
        position: Position,
    ) -> impl Future<Output = Result<(), QueryError>> + Send;

    /// What the generation that serves has parked after `after`, oldest first; at most
    /// [`PARKED_PAGE_MAX`].
    ///
    /// # Errors
    /// [`QueryError`].
    fn parked(
        &self,
        projection: &str,
        after: Option<Position>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Parked>, QueryError>> + Send;
}
