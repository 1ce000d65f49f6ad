//! Commands on an account, which all go the same way: the account in the path, the key and the body
//! are read, what they say becomes a command, and the answer is the account after it.

use axum::RequestExt;
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use daybook_ledger::account::AccountCommand;
use daybook_ledger::currency::Currency;
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;
use uuid::Uuid;

use super::request::{Command, InAccount};
use super::view::{AccountView, account_after, json, marked};
use crate::http::problem::{Kind, Problem};
use crate::node::{Admitted, Context};

/// A command on the account in the path.
pub struct OnAccount<T> {
    /// The account.
    pub account_id: Uuid,
    /// The node whose ledger it is in, and who asks.
    pub context: Admitted,
    command: Command<T>,
}

/// What a command did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Done)]
pub struct DoneView {
    /// The command's Idempotency-Key.
    transaction_id: Uuid,
    /// The number of its last event in the account's stream.
    revision: u64,
    /// The same in the whole log.
    position: u64,
    /// The account after it.
    account: AccountView,
}

impl<T: DeserializeOwned> FromRequest<Context> for OnAccount<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, context: &Context) -> Result<Self, Problem> {
        let InAccount(account_id) = request.extract_parts().await?;
        let admitted = request.extract_parts_with_state::<Admitted, _>(context).await;
        let unsaid = |_| Problem::new(Kind::Unauthenticated, "the request says no caller");
        let admitted = admitted.map_err(unsaid)?;
        let command = Command::from_request(request, context).await?;
        Ok(OnAccount { account_id, context: admitted, command })
    }
}

impl<T: Serialize> OnAccount<T> {
    /// The account's currency, for amounts that name none.
    ///
    /// # Errors
    /// [`Problem`]: nobody opened the account, or it cannot be read.
    pub async fn currency(&self) -> Result<Currency, Problem> {
        let account = self.context.ledger().account(self.account_id).await?;
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
        let OnAccount { account_id, context, command } = self;
        let transaction = command.transaction(verb, &[&[account_id], targets].concat());
        let Command { key, body } = command;
        let command = read(body, key)?;
        context.is_about(&account_id.to_string());
        let by = context.caller().context();
        let done = context.ledger().execute(account_id, command, transaction, by).await?;
        let view = DoneView {
            transaction_id: key,
            revision: done.revision.0,
            position: done.position.0,
            account: account_after(&done)?,
        };
        Ok(marked(json(StatusCode::CREATED, &view), done.repeated))
    }
}
