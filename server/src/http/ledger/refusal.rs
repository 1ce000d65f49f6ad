//! Why the ledger refuses, as problems. Their statuses stand in [`crate::http::problem`].

use daybook_ledger::AccountRejection;
use daybook_ledger::orchestrator::{ControlError, StartError};
use daybook_ledger::risk::InvalidRules;
use daybook_ledger::transfer::InvalidTransfer;
use daybook_model::append::AppendError;
use daybook_model::repository::{ExecuteError, LoadError};

use crate::http::problem::{Kind, Problem};
use crate::ledger::books::SumError;

impl Problem {
    /// Nobody opened the account.
    #[must_use]
    pub fn account_not_found() -> Problem {
        Problem::account_not_found_as("there is no such account; open it first")
    }

    /// As [`Problem::account_not_found`], in other words.
    #[must_use]
    pub fn account_not_found_as(detail: &str) -> Problem {
        Problem::new(Kind::AccountNotFound, detail)
    }
}

impl From<AccountRejection> for Problem {
    fn from(rejection: AccountRejection) -> Problem {
        if let Some(field) = rejection.field() {
            return Problem::new(Kind::InvalidRequest, rejection.to_string()).with("field", field);
        }
        let kind = match rejection {
            AccountRejection::AccountNotFound => Kind::AccountNotFound,
            AccountRejection::HoldNotFound { .. } => Kind::HoldNotFound,
            _ => Kind::Rejected(rejection.word()),
        };
        let problem = Problem::new(kind, rejection.to_string());
        match rejection {
            AccountRejection::CurrencyMismatch { .. } => problem.with("field", "currency"),
            AccountRejection::HoldExpiryInPast { .. } => problem.with("field", "expires_at"),
            _ => problem,
        }
    }
}

impl<R: Into<Problem> + std::error::Error> From<ExecuteError<R>> for Problem {
    fn from(error: ExecuteError<R>) -> Problem {
        match error {
            ExecuteError::Rejected(rejection) => rejection.into(),
            ExecuteError::TransactionReused { id, .. } => Problem::key_reused(id),
            ExecuteError::CompanionMoved { .. } | ExecuteError::Conflict { .. } => {
                Problem::new(Kind::Conflict, error.to_string())
            }
            ExecuteError::Append(error) => error.into(),
            ExecuteError::Load(error) => error.into(),
        }
    }
}

impl Problem {
    /// The key `id` names another request.
    #[must_use]
    pub fn key_reused(id: uuid::Uuid) -> Problem {
        let detail =
            format!("{id} was the key of another request; use a new key for a new request");
        Problem::new(Kind::IdempotencyKeyReused, detail).with("field", "Idempotency-Key")
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Problem {
        tracing::error!(%error, "an aggregate cannot be loaded");
        Problem::new(Kind::Damaged, error.to_string())
    }
}

impl From<InvalidTransfer> for Problem {
    fn from(invalid: InvalidTransfer) -> Problem {
        Problem::field(invalid.field, invalid.reason)
    }
}

impl From<InvalidRules> for Problem {
    fn from(invalid: InvalidRules) -> Problem {
        Problem::field(invalid.field, invalid.reason)
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Problem {
        match error {
            StartError::Invalid(invalid) => invalid.into(),
            StartError::Reused { id } => Problem::key_reused(id),
            StartError::Overloaded => Problem::new(Kind::Overloaded, error.to_string()),
            StartError::Conflict { .. } => Problem::new(Kind::Conflict, error.to_string()),
            StartError::Append(error) => error.into(),
            StartError::Load(error) => error.into(),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Problem {
        let detail = error.to_string();
        match error {
            ControlError::NotFound { .. } => Problem::new(Kind::TransferNotFound, detail),
            ControlError::NotFailed { state, .. } => {
                Problem::new(Kind::Rejected("saga_not_failed"), detail)
                    .with("state", state.as_str())
            }
            ControlError::Invalid { field } => {
                Problem::new(Kind::InvalidRequest, detail).with("field", field)
            }
            ControlError::Append(AppendError::WrongExpectedRevision { .. }) => {
                Problem::new(Kind::Conflict, "somebody else was faster; look at it again")
            }
            ControlError::Append(error) => error.into(),
            ControlError::Load(error) => error.into(),
        }
    }
}

impl From<SumError> for Problem {
    fn from(error: SumError) -> Problem {
        match error {
            SumError::Busy => Problem::new(Kind::Overloaded, error.to_string()),
            SumError::Stopping => Problem::new(Kind::Unavailable, error.to_string()),
            SumError::Read(_) | SumError::Entry { .. } => {
                tracing::error!(%error, "the books cannot be summed up");
                Problem::new(Kind::Damaged, error.to_string())
            }
        }
    }
}
