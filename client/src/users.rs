//! Who may call a server: users, their groups, passwords and standing.

use daybook_model::Timestamp;
use daybook_wire::proto::users as proto;
use daybook_wire::proto::users::users_client::UsersClient;
use tonic::Status;

use crate::connection::{Client, Route};
use crate::error::CallError;

/// Nanoseconds of one of the protocol's ticks.
const TICK: i64 = 100;

/// A user, without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// By which it calls.
    pub login: String,
    /// For people.
    pub full_name: String,
    /// What it belongs to: `$admins`, `$ops`, and others.
    pub groups: Vec<String>,
    /// Whether it may not call just now.
    pub disabled: bool,
    /// When any of this was last changed, if the server says so.
    pub updated: Option<Timestamp>,
}

/// A user to be. Its `Debug` form does not show the password.
#[derive(Clone)]
pub struct NewUser {
    /// By which it will call.
    pub login: String,
    /// For people.
    pub full_name: String,
    /// What it belongs to.
    pub groups: Vec<String>,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser").field("login", &self.login).finish_non_exhaustive()
    }
}

/// The users of a server. A clone is another handle.
#[derive(Clone, Debug)]
pub struct Users {
    client: Client,
}

impl Client {
    /// The users of the server.
    #[must_use]
    pub fn users(&self) -> Users {
        Users { client: self.clone() }
    }
}

impl Users {
    /// All users, in the server's order.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn all(&self) -> Result<Vec<User>, CallError> {
        self.details(None).await
    }

    /// One user.
    ///
    /// # Errors
    /// [`CallError`]: one is that there is none.
    pub async fn user(&self, login: &str) -> Result<User, CallError> {
        let found = self.details(Some(login)).await?;
        let none = || Status::not_found(format!("there is no user '{login}'"));
        found.into_iter().next().ok_or_else(|| self.client.call_error(&none()))
    }

    /// Creates a user.
    ///
    /// # Errors
    /// [`CallError`]: one is that there is one of that login.
    pub async fn create(&self, user: NewUser) -> Result<(), CallError> {
        let NewUser { login, full_name, groups, password } = user;
        let options = proto::create_req::Options { login_name: login, password, full_name, groups };
        let request = proto::CreateReq { options: Some(options) };
        self.done(self.calls().create(self.client.call(request)).await)
    }

    /// Gives a user another name and other groups.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn update(
        &self,
        login: &str,
        full_name: &str,
        groups: &[String],
    ) -> Result<(), CallError> {
        let options = proto::update_req::Options {
            login_name: login.to_owned(),
            full_name: full_name.to_owned(),
            groups: groups.to_owned(),
            ..proto::update_req::Options::default()
        };
        let request = proto::UpdateReq { options: Some(options) };
        self.done(self.calls().update(self.client.call(request)).await)
    }

    /// Lets a user call again.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn enable(&self, login: &str) -> Result<(), CallError> {
        let options = proto::enable_req::Options { login_name: login.to_owned() };
        let request = proto::EnableReq { options: Some(options) };
        self.done(self.calls().enable(self.client.call(request)).await)
    }

    /// Lets a user call no more, from now on.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn disable(&self, login: &str) -> Result<(), CallError> {
        let options = proto::disable_req::Options { login_name: login.to_owned() };
        let request = proto::DisableReq { options: Some(options) };
        self.done(self.calls().disable(self.client.call(request)).await)
    }

    /// Ends a user.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn delete(&self, login: &str) -> Result<(), CallError> {
        let options = proto::delete_req::Options { login_name: login.to_owned() };
        let request = proto::DeleteReq { options: Some(options) };
        self.done(self.calls().delete(self.client.call(request)).await)
    }

    /// Gives a user another password, if `current` is the one it has.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn change_password(
        &self,
        login: &str,
        current: &str,
        new: &str,
    ) -> Result<(), CallError> {
        let options = proto::change_password_req::Options {
            login_name: login.to_owned(),
            current_password: current.to_owned(),
            new_password: new.to_owned(),
        };
        let request = proto::ChangePasswordReq { options: Some(options) };
        self.done(self.calls().change_password(self.client.call(request)).await)
    }

    /// Gives a user another password, whatever it was: for administrators.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn reset_password(&self, login: &str, new: &str) -> Result<(), CallError> {
        let options = proto::reset_password_req::Options {
            login_name: login.to_owned(),
            new_password: new.to_owned(),
        };
        let request = proto::ResetPasswordReq { options: Some(options) };
        self.done(self.calls().reset_password(self.client.call(request)).await)
    }

    async fn details(&self, login: Option<&str>) -> Result<Vec<User>, CallError> {
        let options =
            login.map(|login| proto::details_req::Options { login_name: login.to_owned() });
        let request = self.client.call(proto::DetailsReq { options });
        let failed = |status: Status| self.client.call_error(&status);
        let mut answer = self.calls().details(request).await.map_err(failed)?.into_inner();
        let mut users = Vec::new();
        while let Some(details) = answer.message().await.map_err(failed)? {
            users.extend(details.user_details.map(|user| {
                User {
                    login: user.login_name,
                    full_name: user.full_name,
                    groups: user.groups,
                    disabled: user.disabled,
                    updated: user
                        .last_updated
                        .map(|time| Timestamp(time.ticks_since_epoch.saturating_mul(TICK))),
                }
            }));
        }
        Ok(users)
    }

    fn calls(&self) -> UsersClient<Route> {
        UsersClient::new(self.client.channel())
    }

    fn done<T>(&self, answer: Result<T, Status>) -> Result<(), CallError> {
        answer.map(|_| ()).map_err(|status| self.client.call_error(&status))
    }
}
