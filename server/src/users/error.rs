//! Why a user could not be shown or changed.

use daybook_store::{AppendError, ReadError};

/// Why a user could not be shown or changed. Nothing was written, unless it was an append whose
/// outcome is not known.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// There is no such user.
    #[error("there is no user '{login}'; create it first")]
    NotFound {
        /// The login.
        login: String,
    },
    /// There is such a user already.
    #[error("there is a user '{login}' already; choose another login, or delete that one")]
    Conflict {
        /// The login.
        login: String,
    },
    /// Others changed the same user meanwhile, again and again.
    #[error("the user '{login}' is being changed by others; try again")]
    TryAgain {
        /// The login.
        login: String,
    },
    /// The current password that was given is not that of the user.
    #[error("that is not the password of '{login}'; give the one it has, or reset it")]
    WrongPassword {
        /// The login.
        login: String,
    },
    /// What was given breaks a rule.
    #[error("'{what}' {reason}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// As many were created as may be.
    #[error("there were {} users already, as many as there may be", super::USERS_MAX)]
    TooMany,
    /// There is no such token, or no more.
    #[error("there is no API token '{id}'; it may be revoked already")]
    TokenNotFound {
        /// Its id.
        id: String,
    },
    /// The user has as many tokens as it may.
    #[error(
        "'{login}' has {} API tokens, as many as one user may; revoke those that nothing uses",
        super::api_tokens::TOKENS_PER_USER_MAX
    )]
    TooManyTokens {
        /// The login.
        login: String,
    },
    /// As many passwords are being hashed, or wait for it, as may.
    #[error("too many passwords are being checked; try again in a moment")]
    Busy,
    /// What is stored of the user is no record of one.
    #[error("what is stored of the user '{login}' cannot be read: {reason}")]
    Damaged {
        /// The login.
        login: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store did not take the change.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl UsersError {
    /// Whether somebody else changed the same user between the read and the write.
    #[must_use]
    pub fn is_race(&self) -> bool {
        matches!(self, UsersError::Append(AppendError::WrongExpectedRevision { .. }))
    }
}
