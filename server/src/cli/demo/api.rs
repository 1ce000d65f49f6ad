//! The ledger's API as the story uses it.

use anyhow::{Context as _, bail};
use daybook_model::{Entropy as _, SystemEntropy};
use serde_json::Value;
use uuid::Uuid;

use crate::cli::load::http::{Address, Connection, Request};

/// Seconds a transfer may take to its final state.
const WAIT_S: u32 = 20;

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The JSON.
    pub body: Value,
}

impl Answered {
    /// A member of the answer as text.
    ///
    /// # Errors
    /// If it has none.
    pub fn text(&self, name: &str) -> anyhow::Result<&str> {
        text(&self.body, name)
    }
}

/// A member of `value` as text.
///
/// # Errors
/// If it has none.
pub fn text<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    value[name].as_str().with_context(|| format!("the answer has no {name}: {value}"))
}

/// Who asks.
#[derive(Debug)]
pub struct Api {
    connection: Connection,
}

impl Api {
    /// Asks the server at `address`.
    #[must_use]
    pub fn new(address: Address) -> Api {
        Api { connection: Connection::new(address) }
    }

    /// `GET`s JSON.
    ///
    /// # Errors
    /// If the server cannot be asked, or refuses.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        let answer = self.connection.send(Request::get(path)).await?;
        let value = answer.accepted();
        value.map_err(|refusal| anyhow::anyhow!("GET {path}: {}", refusal.detail))
    }

    /// Asks for something to be done, and expects `status`.
    ///
    /// # Errors
    /// If the server cannot be asked, or answers otherwise.
    pub async fn act(
        &mut self,
        method: &'static str,
        path: &str,
        key: Uuid,
        body: &Value,
        status: u16,
    ) -> anyhow::Result<Answered> {
        let body = body.to_string();
        let request = Request { wait_s: Some(WAIT_S), ..Request::act(method, path, key, &body) };
        let answer = self.connection.send(request).await?;
        if answer.status != status {
            let refusal = answer.refusal();
            bail!(
                "{method} {path}: expected {status}, the server answers {} ({}): {}",
                refusal.status,
                refusal.word,
                refusal.detail
            );
        }
        let body = serde_json::from_slice(answer.body);
        let body = body.with_context(|| format!("{method} {path}: the answer is not JSON"))?;
        Ok(Answered { status, body })
    }
}

/// An id that nobody has used.
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::from_bytes(SystemEntropy.bytes())
}
