//! A node, as a caller sees it who was let in.
//!
//! INVARIANT: the only way from a request to what the store holds, and it always has the caller with
//! it.

use std::net::SocketAddr;
use std::ops::Deref;

use axum::extract::{FromRef, FromRequestParts};
use daybook_model::{Act, StreamName};
use daybook_store::ReadError;
use http::StatusCode;
use http::request::Parts;

use super::Context;
use super::door::{Door, SnapshotDoor};
use crate::security::gate::{Subject, peer_of};
use crate::security::rights::{Refused, Right};
use crate::security::{Caller, Proof};

/// A caller, and what it may use of the node. A clone is another handle.
#[derive(Clone)]
pub struct Admitted {
    context: Context,
    door: Door,
    subject: Option<Subject>,
}

impl Admitted {
    /// `caller`, who asks from `peer`.
    #[must_use]
    pub fn new(context: Context, caller: Caller, peer: Option<SocketAddr>) -> Admitted {
        let door = context.door(caller, peer);
        Admitted { context, door, subject: None }
    }

    /// Who it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        self.door.caller()
    }

    /// The event store, as the caller may use it.
    #[must_use]
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// The snapshots of `stream`, if the caller may do `act` with it; none if the node keeps none.
    ///
    /// # Errors
    /// [`ReadError::Denied`] if it may not.
    pub async fn snapshots(
        &self,
        act: Act,
        stream: &StreamName,
    ) -> Result<Option<SnapshotDoor>, ReadError> {
        self.door.ask(act, stream.as_str()).await?;
        let snapshots = self.context.snapshot_store();
        Ok(snapshots.map(|snapshots| SnapshotDoor::new(snapshots.clone(), stream.clone())))
    }

    /// Says what the call is about, for the audit log.
    pub fn is_about(&self, name: &str) {
        if let Some(subject) = &self.subject {
            subject.is(name);
        }
    }

    /// Asks that the caller is the user `login`, by whatever proof of ours, or an administrator. An
    /// issuer's token only says a login that may be a user's.
    ///
    /// # Errors
    /// [`Refused`] if it is neither.
    pub fn is_user(&self, login: &str) -> Result<(), Refused> {
        match self.caller().proof() {
            Proof::Token => self.administers(login),
            _ => self.is_itself(login),
        }
    }

    /// Asks that the caller is `login` itself, or an administrator.
    ///
    /// # Errors
    /// [`Refused`] if it is neither.
    pub fn is_itself(&self, login: &str) -> Result<(), Refused> {
        let caller = self.caller();
        let itself = caller.proof() != Proof::None && caller.login() == Some(login);
        if itself { Ok(()) } else { self.administers(login) }
    }

    /// Asks that the caller may do what the user `login` may, though it is another's.
    fn administers(&self, login: &str) -> Result<(), Refused> {
        let asked = Right::Administer.check(self.caller());
        asked.inspect_err(|refused| self.door.denied(&format!("act for user '{login}'"), refused))
    }
}

impl Deref for Admitted {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Admitted
where
    Context: FromRef<S>,
{
    /// The gate in front of the route has refused a request without a caller.
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Admitted, StatusCode> {
        let caller = parts.extensions.get::<Caller>().ok_or(StatusCode::UNAUTHORIZED)?.clone();
        let context = Context::from_ref(state);
        let subject = parts.extensions.get::<Subject>().cloned();
        Ok(Admitted { subject, ..Admitted::new(context, caller, peer_of(&parts.extensions)) })
    }
}
