//! Credentials that are not accepted, as answers: 401, 429 or 503 with a problem; for gRPC
//! UNAUTHENTICATED, RESOURCE_EXHAUSTED or UNAVAILABLE.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, header};
use tonic::{Code, Status};

use crate::grpc::call;
use crate::http::problem::{Kind, Problem};

/// Why a caller is not who it says it is, as it may know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The header cannot be read.
    #[error("the header Authorization cannot be used: {reason}")]
    Malformed {
        /// Why.
        reason: &'static str,
    },
    /// There is no such user, it has another password, or it may not call.
    #[error("no user who may call has this login and password; correct them")]
    Wrong,
    /// The server believes no tokens.
    #[error("this server takes no tokens (--jwt); use a login and a password")]
    TokensOff,
    /// The token is not believed.
    #[error("the token is not accepted: {reason}")]
    Token {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The certificate has ended since the connection was made.
    #[error("the client certificate has expired; renew it and connect again")]
    CertificateExpired,
    /// The certificate is of nobody who may call.
    #[error(
        "no user who may call has the client certificate's common name as login; create that \
         user, or send credentials"
    )]
    CertificateUnknown,
    /// The certificate does not say who it is of, in a process that has no users.
    #[error("the client certificate has no common name that could be a login; use another one")]
    CertificateNameless,
    /// The process has no users, and does not believe such credentials.
    #[error(
        "this process has no users: it asks for a client certificate (--tls-client-ca), or for a \
         token of its issuer (--jwt)"
    )]
    NoUsers,
    /// Too many were wrong; these were not looked at.
    #[error(
        "too many wrong passwords came for this login or from this address; try again in {} s",
        retry_after.as_secs().max(1)
    )]
    LockedOut {
        /// When the next one is looked at.
        retry_after: Duration,
    },
    /// It cannot be found out now.
    #[error("credentials cannot be checked now: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

impl Refusal {
    /// The answer to an HTTP request.
    #[must_use]
    pub fn to_http(&self) -> Response<Body> {
        let kind = match self {
            Refusal::LockedOut { .. } => Kind::LockedOut,
            Refusal::Unavailable { .. } => Kind::Overloaded,
            _ => Kind::Unauthenticated,
        };
        let mut response = Problem::new(kind, self.to_string()).into_response();
        if let Refusal::LockedOut { retry_after } = self {
            let seconds = HeaderValue::from(retry_after.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }

    /// The answer to a gRPC call.
    #[must_use]
    pub fn to_grpc(&self) -> Response<Body> {
        call::refused(&self.status())
    }

    /// The same, as its status.
    #[must_use]
    pub fn status(&self) -> Status {
        let (code, said) = match self {
            Refusal::LockedOut { .. } => (Code::ResourceExhausted, "Locked out"),
            Refusal::Unavailable { .. } => (Code::Unavailable, "Unavailable"),
            // KurrentDB's own word, for clients that look at it.
            _ => (Code::Unauthenticated, "Unauthenticated"),
        };
        Status::new(code, format!("{said}: {self}"))
    }
}
