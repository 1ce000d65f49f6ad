//! Commands on an account, which all go the same way: the account in the path, the key and the body
//! are read, what they say becomes a command, and the answer is the account after it.

use axum::RequestExt;
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use daybook_ledger::account::AccountCommand;
use daybook_ledger::currency::Currency;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::request::{Command, InAccount};
use super::view::done;
use crate::http::problem::Problem;
use crate::ledger::Ledger;
use crate::node::Context;

/// A command on the account in the path.
pub struct OnAccount<T> {
    /// The account.
    pub account_id: Uuid,
    command: Command<T>,
    context: Context,
}

impl<T: DeserializeOwned> FromRequest<Context> for OnAccount<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, context: &Context) -> Result<Self, Problem> {
        let InAccount(account_id) = request.extract_parts().await?;
        let command = Command::from_request(request, context).await?;
        Ok(OnAccount { account_id, command, context: context.clone() })
    }
}

impl<T: Serialize> OnAccount<T> {
    /// The ledger that the account is in.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        self.context.ledger()
    }

    /// The account's currency, for amounts that name none.
    ///
    /// # Errors
    /// [`Problem`]: nobody opened the account, or it cannot be read.
    pub async fn currency(&self) -> Result<Currency, Problem> {
        let account = self.ledger().account(self.account_id).await?;
        let state = account.as_ref().and_then(|(account, _)| account.state());
        Ok(state.ok_or_else(Problem::account_not_found)?.currency)
    }

    /// Does what `read` makes of the body and the key. A repetition is recognised by `verb` and by
    /// `targets`, the things of the account that it is about: neither may ever change.
    ///
    /// # Errors
    /// [`Problem`]: `read`'s, or why the account did not do it.
    pub async fn execute(
        self,
        verb: &str,
        targets: &[Uuid],
        read: impl FnOnce(T, Uuid) -> Result<AccountCommand, Problem>,
    ) -> Result<Response, Problem> {
        let OnAccount { account_id, command, context } = self;
        let transaction = command.transaction(verb, &[&[account_id], targets].concat());
        let Command { key, body } = command;
        let command = read(body, key)?;
        done(key, &context.ledger().execute(account_id, command, transaction).await?)
    }
}
