//! What all answers from tables have in common: how fresh they are, and how large.

use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use daybook_model::{Position, Timestamp};
use daybook_projections::models::ReadModels;
use daybook_projections::query::PAGE_ROWS_MAX;
use daybook_projections::{Backend, Page, Query, QueryError, StoreError, Value};
use http::HeaderName;
use http::request::Parts;
use utoipa::IntoResponses;

use super::cursor;
use crate::http::ledger::schema::ProblemShape;
use crate::http::page::LIMIT_MAX;
use crate::http::problem::{Kind, Problem};

/// The header that says what an answer must reflect at least, as `min_position=` does.
pub const MIN_POSITION: HeaderName = HeaderName::from_static("daybook-min-position");
/// How long an answer waits for its view to come by that position. A view that is alive is some
/// milliseconds behind; one that is being built, or paused, is not worth a longer wait.
pub const MIN_POSITION_WAIT_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(LIMIT_MAX as usize <= PAGE_ROWS_MAX);

/// What a question about a view may be answered with that wants more than there is yet.
#[derive(IntoResponses)]
pub enum Late {
    /// The view did not come by `min_position` in time; `reached` says how far it is.
    #[response(status = 504, content_type = "application/problem+json")]
    NotThereYet(ProblemShape),
}

/// The tables there are; none if they are off. What a state must have for these routes.
#[derive(Clone)]
pub struct Tables(pub Option<ReadModels>);

/// The tables of a request.
pub struct Models(pub ReadModels);

impl<S: Send + Sync> FromRequestParts<S> for Models
where
    Tables: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Models, Problem> {
        Tables::from_ref(state).0.map(Models).ok_or_else(models_are_off)
    }
}

/// This node keeps no read models.
#[must_use]
pub fn models_are_off() -> Problem {
    let detail = "this node keeps no read models; start it with --read-models sled";
    Problem::new(Kind::ReadModelsOff, detail)
}

/// What an answer must reflect at least, if its request has the header.
pub struct AtLeast(Option<Position>);

impl<S: Send + Sync> FromRequestParts<S> for AtLeast {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<AtLeast, Problem> {
        const FIELD: &str = "Daybook-Min-Position";
        let Some(value) = parts.headers.get(&MIN_POSITION) else { return Ok(AtLeast(None)) };
        let number = value.to_str().ok().and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| Problem::field(FIELD, "give a position: a number"))?;
        Ok(AtLeast(Some(Position(number))))
    }
}

impl AtLeast {
    /// With what the query string says of it.
    #[must_use]
    pub fn or(self, min_position: Option<u64>) -> Option<Position> {
        min_position.map(Position).max(self.0)
    }
}

/// A page that reflects `at_least`.
///
/// # Errors
/// [`Problem`]: it is not there yet, or cannot be read.
pub async fn page(
    models: &ReadModels,
    query: &Query,
    at_least: Option<Position>,
) -> Result<Page, Problem> {
    let Some(position) = at_least else {
        return models.query(query).await.map_err(Problem::from);
    };
    let reflecting = async {
        loop {
            models.wait(query.projection, position).await?;
            let page = models.query(query).await?;
            // Another generation may have come to serve in between, and be less far.
            if page.as_of.is_some_and(|at| at.position() >= position) {
                return Ok(page);
            }
        }
    };
    match tokio::time::timeout(MIN_POSITION_WAIT_MAX, reflecting).await {
        Ok(page) => page.map_err(|error: QueryError| error.into()),
        Err(_) => Err(not_there_yet(models, query.projection, position).await),
    }
}

/// What is said when [`MIN_POSITION_WAIT_MAX`] has passed.
async fn not_there_yet(
    models: &ReadModels,
    projection: &'static str,
    position: Position,
) -> Problem {
    let reached = models.reached(projection).await.ok().flatten();
    late(projection, reached.map(|reached| reached.position().0), position)
        .with("projection", projection)
}

/// What is said of `what`, which has only `reached` what it should reflect.
pub fn late(what: &str, reached: Option<u64>, position: Position) -> Problem {
    let place = reached.map_or("nothing yet".to_owned(), |at| format!("position {at}"));
    let detail = format!(
        "{what} reflects {place}, not position {position}; ask again, or without min_position"
    );
    Problem::new(Kind::NotThereYet, detail)
        .with("min_position", position.0)
        .with("reached", reached)
}

/// `page` as the last one if all that follows is of `to` or later: column `at` of its order is a
/// time, and those before it are the same in all rows.
#[must_use]
pub fn ending_at(mut page: Page, at: usize, to: Option<Timestamp>) -> Page {
    let goes_on = |place: &Vec<Value>| to.is_none_or(|to| place[at] < Value::Time(to));
    page.next = page.next.filter(goes_on);
    page
}

/// What a page shows of each of its rows.
///
/// # Errors
/// [`Problem`] if a row has not the columns it should have.
pub fn entries<'a, T>(
    page: &'a Page,
    of: impl Fn(&'a [Value]) -> Option<T>,
) -> Result<Vec<T>, Problem> {
    page.rows.iter().map(|row| of(row).ok_or_else(bad_row)).collect()
}

/// What leads from a page of `order` to the next one; none from the last.
#[must_use]
pub fn next(order: &str, page: &Page) -> Option<String> {
    page.next.as_ref().map(|place| cursor::encode(order, place))
}

/// The position that a page's rows reflect.
#[must_use]
pub fn as_of(page: &Page) -> Option<u64> {
    page.as_of.map(|checkpoint| checkpoint.position().0)
}

/// A row that has not the columns it should have.
#[must_use]
pub fn bad_row() -> Problem {
    tracing::error!("a row of a read model has not the columns of its table");
    Problem::new(Kind::Internal, "a row of the read models has other columns; rebuild them")
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Problem {
        let detail = error.to_string();
        match error {
            QueryError::NotReady { projection, .. } => {
                Problem::new(Kind::Unavailable, detail).with("projection", projection)
            }
            QueryError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let kind = if error.transient { Kind::Unavailable } else { Kind::Internal };
        Problem::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_header_and_the_parameter_say_the_same() {
        for (header, param, expected) in [
            (None, None, Some(None)),
            (Some("7"), None, Some(Some(7))),
            (None, Some(8), Some(Some(8))),
            (Some("7"), Some(8), Some(Some(8))),
            (Some("9"), Some(8), Some(Some(9))),
            (Some("-1"), None, None),
            (Some("soon"), None, None),
        ] {
            let mut request = http::Request::builder();
            if let Some(value) = header {
                request = request.header(MIN_POSITION, value);
            }
            let (mut parts, ()) = request.body(()).expect("a request").into_parts();
            let found = AtLeast::from_request_parts(&mut parts, &()).await.ok();
            let found = found.map(|header| header.or(param).map(|position| position.0));
            assert_eq!(found, expected, "{header:?} {param:?}");
        }
    }

    #[test]
    fn a_list_ends_with_its_period() {
        let place = |time| Some(vec![Value::from("running"), Value::Time(Timestamp(time))]);
        let page = |time| Page { rows: Vec::new(), next: place(time), as_of: None };
        for (time, to, goes_on) in
            [(9, None, true), (9, Some(10), true), (10, Some(10), false), (11, Some(10), false)]
        {
            let ended = ending_at(page(time), 1, to.map(Timestamp));
            assert_eq!(ended.next.is_some(), goes_on, "{time} to {to:?}");
        }
    }
}
