//! Risk: whether a transfer should go through, asked after the sender was debited and before the
//! receiver is credited.
//!
//! ```text
//!   orchestrator ── RiskRequest ──> RiskService ── Approved | Rejected ──> orchestrator
//!                                     │   └ cannot say: Unreachable, and OnUnreachable decides
//!                                     └ RuleEngine: assess(rules, request), in process
//! ```
//!
//! The built-in engine's [`Rules`] are an aggregate of their own, on one stream: a change is an
//! event, and holds from the next assessment on. Flags stand on the accounts, and come with the
//! request.
//!
//! INVARIANT: [`assess`] is pure; what it knows of time, the counts of the last hour and day, was
//! taken from the sender's recorded events.

mod rules;

use std::pin::Pin;
use std::sync::Arc;

use daybook_model::repository::{ExecuteError, Executed, Task};
use daybook_model::{EventStore, Repository};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::currency::Currency;

pub use rules::{InvalidRules, Rules, RulesChanged, RulesCommand, RulesState, rules_stream};

/// What is asked about one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiskRequest {
    /// The transfer.
    pub transfer_id: Uuid,
    /// Who pays.
    pub sender_account_id: Uuid,
    /// Who is paid.
    pub receiver_account_id: Uuid,
    /// How much, in the sender's currency.
    pub amount: Decimal,
    /// The sender's currency.
    pub currency: Currency,
    /// Why the sender is flagged, if it is.
    pub sender_flag: Option<String>,
    /// Why the receiver is flagged, if it is.
    pub receiver_flag: Option<String>,
    /// Transfers that the sender made lately, in the last hour, with this one.
    pub sender_transfers_hour: u32,
    /// As above, in the last day.
    pub sender_transfers_day: u32,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assessment {
    /// It may go through.
    Approved,
    /// It may not.
    Rejected {
        /// The rule, as one word.
        rule: String,
        /// The figures, for a person.
        detail: String,
    },
}

/// The service gave no answer. Not the same as a rejection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the risk service gave no answer: {reason}")]
pub struct Unreachable {
    /// Why.
    pub reason: String,
}

/// What happens to a transfer when the risk service gives no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnreachable {
    /// It is undone at once.
    Reject,
    /// The service is asked again, less and less often, until the transfer's deadline.
    #[default]
    Park,
}

/// A pending [`Assessment`].
pub type Assessing<'a> = Pin<Box<dyn Future<Output = Result<Assessment, Unreachable>> + Send + 'a>>;

/// The port to whoever assesses transfers.
pub trait RiskService: Send + Sync {
    /// Assesses one transfer. May be asked more than once about the same one.
    ///
    /// # Errors
    /// [`Unreachable`] if there is no answer. The caller sets the time limit.
    fn assess<'a>(&'a self, request: &'a RiskRequest) -> Assessing<'a>;
}

/// The built-in risk service.
#[derive(Clone)]
pub struct RuleEngine<S: EventStore> {
    rules: Repository<RulesState, S>,
}

impl<S: EventStore> RuleEngine<S> {
    /// An engine with the rules kept in `rules`.
    #[must_use]
    pub fn new(rules: Repository<RulesState, S>) -> RuleEngine<S> {
        RuleEngine { rules }
    }

    /// The rules that hold now.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn rules(&self) -> Result<Arc<Rules>, daybook_model::repository::LoadError> {
        let loaded = self.rules.load(&rules_stream()).await?;
        Ok(loaded.map(|(state, _)| state.rules).unwrap_or_default())
    }

    /// Changes the rules.
    ///
    /// # Errors
    /// The rules make no sense, or cannot be written.
    pub async fn change(
        &self,
        task: Task<RulesState>,
    ) -> Result<Executed<RulesState>, ExecuteError<InvalidRules>> {
        self.rules.execute(&rules_stream(), task).await
    }
}

impl<S: EventStore> RiskService for RuleEngine<S> {
    fn assess<'a>(&'a self, request: &'a RiskRequest) -> Assessing<'a> {
        Box::pin(async move {
            match self.rules().await {
                Ok(rules) => Ok(assess(&rules, request)),
                Err(e) => Err(Unreachable { reason: e.to_string() }),
            }
        })
    }
}

/// What `rules` say of `request`: the first rule that it breaks.
#[must_use]
pub fn assess(rules: &Rules, request: &RiskRequest) -> Assessment {
    let broken = |rule: &str, detail| Assessment::Rejected { rule: rule.to_owned(), detail };
    let RiskRequest { amount, currency, .. } = *request;
    let flags = [
        ("sender_flagged", request.sender_account_id, &request.sender_flag),
        ("receiver_flagged", request.receiver_account_id, &request.receiver_flag),
    ];
    for (rule, account, flag) in flags {
        if let Some(flag) = flag.as_ref().filter(|_| rules.reject_flagged) {
            return broken(rule, format!("account {account} is flagged: {flag}"));
        }
    }
    if let Some(maximum) = rules.maximum_amount.get(&currency).filter(|max| amount > **max) {
        let detail = format!("{amount} {currency} is more than {maximum}");
        return broken("maximum_amount", detail);
    }
    let velocities = [
        ("transfers_per_hour", request.sender_transfers_hour, rules.transfers_per_hour),
        ("transfers_per_day", request.sender_transfers_day, rules.transfers_per_day),
    ];
    for (rule, count, limit) in velocities {
        if let Some(limit) = limit.filter(|limit| count > *limit) {
            return broken(rule, format!("this is transfer {count} of at most {limit}"));
        }
    }
    Assessment::Approved
}

#[cfg(test)]
mod tests;
