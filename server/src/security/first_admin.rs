//! The first administrator: made when a server that asks everyone who they are has no user.
//!
//! INVARIANT: there is no password that anybody could know beforehand, and none is ever logged. It
//! exists before the server listens: nobody finds one that is ready and lets nobody in.

use daybook_model::Entropy;

use super::caller::ADMINS;
use super::files::hex;
use crate::users::{NewUser, Users, UsersError};

/// The login of the first administrator, as in KurrentDB.
pub const FIRST_ADMIN: &str = "admin";
/// Bytes of chance in a password that is made: 160 bits, 40 digits.
const PASSWORD_SIZE: usize = 20;

/// Whom a server begins with.
#[derive(Clone, Default)]
pub struct FirstAdmin {
    /// The password; one of chance if none is given.
    pub password: Option<String>,
}

impl std::fmt::Debug for FirstAdmin {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.password.is_some() { "given a password" } else { "of chance" })
    }
}

/// Creates the first administrator, unless there is a user already. With the password that is
/// `given`, or one of chance. Answers the password if it was made here: it is nowhere else.
///
/// # Errors
/// [`UsersError`] if it cannot be created.
pub async fn ensure(
    users: &Users,
    entropy: &dyn Entropy,
    FirstAdmin { password: given }: FirstAdmin,
) -> Result<Option<String>, UsersError> {
    if !users.all().await?.is_empty() {
        return Ok(None);
    }
    let made = given.is_none();
    let password = given.unwrap_or_else(|| password(entropy));
    let admin = NewUser {
        login: FIRST_ADMIN.to_owned(),
        full_name: "Administrator".to_owned(),
        groups: vec![ADMINS.to_owned()],
        password: password.clone(),
    };
    users.create(admin).await?;
    Ok(made.then_some(password))
}

/// A password that nobody can guess.
#[must_use]
pub fn password(entropy: &dyn Entropy) -> String {
    let key = super::verified::key(entropy);
    hex(&key[..PASSWORD_SIZE])
}
