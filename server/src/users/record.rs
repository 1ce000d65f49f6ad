//! What is stored of a user: one JSON object, whole in each event.

use daybook_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::User;
use super::error::UsersError;
use super::password::PasswordHash;

/// Bytes of a login. Together with what stands before it, far below a stream's name.
pub const LOGIN_SIZE_MAX: usize = 256;
/// Bytes of a full name.
pub const FULL_NAME_SIZE_MAX: usize = 1024;
/// Groups of one user.
pub const GROUPS_MAX: usize = 100;
/// Bytes of a group's name.
pub const GROUP_SIZE_MAX: usize = 256;

/// What happened to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was created.
    Created,
    /// It has another name, or other groups.
    Updated,
    /// It may call again.
    Enabled,
    /// It may not call any more.
    Disabled,
    /// It has another password.
    PasswordChanged,
    /// It is no more.
    Deleted,
}

impl Kind {
    /// The type of the event that says so.
    #[must_use]
    pub fn event_type(self) -> &'static str {
        match self {
            Kind::Created => "$UserCreated",
            Kind::Updated => "$UserUpdated",
            Kind::Enabled => "$UserEnabled",
            Kind::Disabled => "$UserDisabled",
            Kind::PasswordChanged => "$PasswordChanged",
            Kind::Deleted => "$UserDeleted",
        }
    }
}

/// A user as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// By which it calls.
    pub login_name: String,
    /// For people.
    pub full_name: String,
    /// What it belongs to.
    pub groups: Vec<String>,
    /// Whether it may not call.
    pub disabled: bool,
    /// By which its password is known.
    pub password: PasswordHash,
}

impl Record {
    /// The event's data.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record of texts and numbers is JSON")
    }

    /// The data of the event that ends the user: without the password, because it is the newest event
    /// of its stream and no scavenge removes it.
    #[must_use]
    pub fn to_json_of_deleted(&self) -> String {
        let Record { login_name, full_name, groups, .. } = self;
        serde_json::json!({ "loginName": login_name, "fullName": full_name, "groups": groups })
            .to_string()
    }

    /// The record that an event of the user `login` holds.
    ///
    /// # Errors
    /// [`UsersError::Damaged`] if it holds none.
    pub fn from_json(login: &str, data: &[u8]) -> Result<Record, UsersError> {
        serde_json::from_slice(data).map_err(|error| UsersError::Damaged {
            login: login.to_owned(),
            reason: error.to_string(),
        })
    }

    /// The user, last changed at `updated`.
    #[must_use]
    pub fn shown(self, updated: Timestamp) -> User {
        let Record { login_name, full_name, groups, disabled, password: _ } = self;
        User { login: login_name, full_name, groups, disabled, updated }
    }
}

/// Checks what is said of a user, but for the password.
///
/// # Errors
/// [`UsersError::Invalid`] names the part and the rule.
pub fn check(login: &str, full_name: &str, groups: &[String]) -> Result<(), UsersError> {
    let invalid = |what, reason: String| Err(UsersError::Invalid { what, reason });
    // Basic credentials end the login at the first colon; `$` begins what is the server's own.
    let printable = |text: &str| !text.chars().any(char::is_control);
    if !(1..=LOGIN_SIZE_MAX).contains(&login.len()) {
        let reason = format!("has {} bytes; give 1 to {LOGIN_SIZE_MAX}", login.len());
        return invalid("login_name", reason);
    }
    if !printable(login) || login.contains(':') || login.starts_with('$') {
        let reason = "has a colon or a control character, or begins with '$'; leave that out";
        return invalid("login_name", reason.to_owned());
    }
    if full_name.len() > FULL_NAME_SIZE_MAX || !printable(full_name) {
        let reason = format!("is no text of at most {FULL_NAME_SIZE_MAX} bytes; shorten it");
        return invalid("full_name", reason);
    }
    if groups.len() > GROUPS_MAX {
        return invalid("groups", format!("are {}; give at most {GROUPS_MAX}", groups.len()));
    }
    // People write several groups with commas between them: none of them may be in a name.
    let sound = |group: &String| {
        (1..=GROUP_SIZE_MAX).contains(&group.len()) && printable(group) && !group.contains(',')
    };
    if !groups.iter().all(sound) {
        let reason = format!(
            "has one that is no text of 1 to {GROUP_SIZE_MAX} bytes without a comma; mend it"
        );
        return invalid("groups", reason);
    }
    Ok(())
}
