//! The rules of the built-in engine, as an aggregate: one stream, one kind of event, each with the
//! whole set.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use daybook_model::{Aggregate, EventView, StreamName, Timestamp, Undecodable};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::currency::Currency;
use crate::{money, time};

/// Bytes of the name of who changes the rules.
pub const CHANGED_BY_SIZE_MAX: usize = 200;
const RULES_CHANGED: &str = "RiskRulesChanged";

/// The rules. Those of a new store reject transfers of flagged accounts and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The largest transfer in each currency; one that is not named has no limit.
    pub maximum_amount: BTreeMap<Currency, Decimal>,
    /// Transfers that an account may make in an hour; none: any number.
    pub transfers_per_hour: Option<u32>,
    /// As above, in a day.
    pub transfers_per_day: Option<u32>,
    /// Whether transfers from and to flagged accounts are rejected.
    pub reject_flagged: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            maximum_amount: BTreeMap::new(),
            transfers_per_hour: None,
            transfers_per_day: None,
            reject_flagged: true,
        }
    }
}

/// Why a set of rules is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidRules {
    /// Which rule.
    pub field: &'static str,
    /// What is wrong with it, and what to give instead.
    pub reason: String,
}

/// The stream of the rules.
#[must_use]
pub fn rules_stream() -> StreamName {
    StreamName::new("ledger.risk").expect("a valid name")
}

/// The command: these rules hold from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesCommand {
    /// All of them.
    pub rules: Rules,
    /// Who says so.
    pub changed_by: String,
}

/// The event `RiskRulesChanged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesChanged {
    /// The rules from then on.
    #[serde(flatten)]
    pub rules: Rules,
    /// Who said so.
    pub changed_by: String,
    /// When.
    #[serde(with = "time::rfc3339")]
    pub occurred_at: Timestamp,
}

/// The rules that hold, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesState {
    /// The rules.
    pub rules: Arc<Rules>,
    /// Who said so last; empty if nobody ever did.
    pub changed_by: String,
    /// When; none if nobody ever did.
    pub changed_at: Option<Timestamp>,
}

impl Rules {
    /// The same, with each amount at its currency's scale.
    fn checked(&self) -> Result<Rules, InvalidRules> {
        let mut rules = self.clone();
        for (currency, amount) in &mut rules.maximum_amount {
            let field = "maximum_amount";
            *amount = money::exact(*amount, *currency)
                .map_err(|e| InvalidRules { field, reason: e.to_string() })?;
        }
        let velocities = [
            ("transfers_per_hour", self.transfers_per_hour),
            ("transfers_per_day", self.transfers_per_day),
        ];
        for (field, limit) in velocities {
            if limit == Some(0) {
                let reason = "must be at least 1; give null for no limit".to_owned();
                return Err(InvalidRules { field, reason });
            }
        }
        Ok(rules)
    }
}

impl Aggregate for RulesState {
    const KIND: &'static str = "ledger.risk";
    const SCHEMA: u32 = 1;

    type Command = RulesCommand;
    type Event = RulesChanged;
    type Rejection = InvalidRules;

    fn decide(
        &self,
        command: &RulesCommand,
        now: Timestamp,
    ) -> Result<Vec<RulesChanged>, InvalidRules> {
        let RulesCommand { rules, changed_by } = command;
        let bad = changed_by.is_empty()
            || changed_by.len() > CHANGED_BY_SIZE_MAX
            || changed_by.chars().any(char::is_control);
        if bad {
            let reason = format!(
                "must have 1 to {CHANGED_BY_SIZE_MAX} bytes of text without control characters"
            );
            return Err(InvalidRules { field: "changed_by", reason });
        }
        let rules = rules.checked()?;
        let occurred_at = self.changed_at.map_or(now, |last| now.max(last));
        Ok(vec![RulesChanged { rules, changed_by: changed_by.clone(), occurred_at }])
    }

    fn evolve(&mut self, event: &RulesChanged) {
        self.rules = Arc::new(event.rules.clone());
        self.changed_by.clone_from(&event.changed_by);
        self.changed_at = Some(event.occurred_at);
    }

    fn encode(event: &RulesChanged) -> (&'static str, Bytes) {
        let data = serde_json::to_vec(event).expect("numbers and texts are JSON");
        (RULES_CHANGED, data.into())
    }

    fn decode(event: EventView<'_>) -> Result<RulesChanged, Undecodable> {
        let wrong = |reason| Undecodable { event_type: event.event_type.to_owned(), reason };
        if event.event_type != RULES_CHANGED {
            return Err(wrong(format!("the only event of rules is {RULES_CHANGED}")));
        }
        serde_json::from_slice(event.data).map_err(|e| wrong(e.to_string()))
    }

    fn to_snapshot(&self) -> Bytes {
        let event = self.changed_at.map(|occurred_at| RulesChanged {
            rules: (*self.rules).clone(),
            changed_by: self.changed_by.clone(),
            occurred_at,
        });
        serde_json::to_vec(&event).expect("numbers and texts are JSON").into()
    }

    fn from_snapshot(data: &[u8]) -> Option<RulesState> {
        let event: Option<RulesChanged> = serde_json::from_slice(data).ok()?;
        let mut state = RulesState::default();
        if let Some(event) = event {
            state.evolve(&event);
        }
        Some(state)
    }
}
