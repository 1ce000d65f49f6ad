//! What became durable, read event by event, and checked at every end of a commit.

use std::collections::BTreeMap;

use daybook_ledger::account::{Account, AccountEvent};
use daybook_ledger::saga::State;
use daybook_ledger::transfer::{Transfer, TransferEvent};
use daybook_ledger::{Books, Currency};
use daybook_model::{Aggregate, EventView, Position};
use daybook_store::{AllFrom, Direction, Engine, ReadAll};
use uuid::Uuid;

/// What the accounts' streams say of one transfer.
#[derive(Clone, Copy, Debug, Default)]
struct Legs {
    debits: u32,
    credits: u32,
    refunds: u32,
}

/// The fold of all that is durable.
#[derive(Clone, Default)]
pub struct Audit {
    read: u64,
    books: Books,
    pub accounts: BTreeMap<String, Account>,
    pub transfers: BTreeMap<Uuid, Transfer>,
    legs: BTreeMap<Uuid, Legs>,
}

impl Audit {
    /// Reads on to the durable end, which is the end of a commit.
    pub fn read_on(&mut self, engine: &Engine) -> Result<(), String> {
        let end = engine.committed().0;
        if end < self.read {
            return Err(format!("the log ended at {}, and now at {end}", self.read));
        }
        if end == self.read {
            return Ok(());
        }
        let mut reader = engine.read_all(ReadAll {
            from: AllFrom::Position(Position(self.read)),
            direction: Direction::Forwards,
            count: u64::MAX,
            filter: None,
        });
        let mut touched = Vec::new();
        while let Some(page) = reader.next_page().map_err(|e| e.to_string())? {
            for event in page.events().filter(|event| event.position.0 < end) {
                self.read = event.position.0 + 1;
                touched.extend(self.take(event)?);
            }
        }
        touched.into_iter().try_for_each(|id| self.agree(id))?;
        self.clearing()
    }

    /// Takes in one event; the transfer it belongs to, if it does to one.
    fn take(&mut self, event: EventView<'_>) -> Result<Option<Uuid>, String> {
        let at = |e: &dyn std::fmt::Display| format!("{} at {}: {e}", event.stream, event.position);
        if event.stream.starts_with("ledger.transfer-") {
            let happened = TransferEvent::decode(event).map_err(|e| at(&e))?;
            let id = daybook_ledger::transfer::transfer_of_stream(event.stream);
            let id = id.ok_or_else(|| at(&"no transfer's stream"))?;
            let mut transfer = self.transfers.remove(&id);
            Transfer::fold(&mut transfer, &happened);
            let transfer = transfer.ok_or_else(|| at(&"does not begin with its beginning"))?;
            self.transfers.insert(id, transfer);
            return Ok(Some(id));
        }
        if !event.stream.starts_with("ledger.account-") {
            return Ok(None);
        }
        let happened = Account::decode(event).map_err(|e| at(&e))?;
        self.books.apply_event(&happened).map_err(|e| at(&e))?;
        let account = self.accounts.entry(event.stream.to_owned()).or_default();
        account.evolve(&happened);
        let overdrawn = account.state().is_some_and(|s| s.balance < -s.overdraft_limit);
        if !self.books.is_balanced() || overdrawn {
            return Err(at(&format_args!("{account:?}, {:?}", self.books)));
        }
        let (id, leg): (Uuid, fn(&mut Legs) -> &mut u32) = match &happened {
            AccountEvent::TransferDebited(e) => (e.transfer_id, |legs| &mut legs.debits),
            AccountEvent::TransferCredited(e) => (e.transfer_id, |legs| &mut legs.credits),
            AccountEvent::TransferRefunded(e) => (e.transfer_id, |legs| &mut legs.refunds),
            _ => return Ok(None),
        };
        *leg(self.legs.entry(id).or_default()) += 1;
        Ok(Some(id))
    }

    /// The accounts and the transfer say the same.
    fn agree(&self, id: Uuid) -> Result<(), String> {
        let Legs { debits, credits, refunds } = self.legs.get(&id).copied().unwrap_or_default();
        let transfer = self.transfers.get(&id);
        let transfer = transfer.ok_or_else(|| format!("transfer {id} has legs and no stream"))?;
        let done = transfer.progress.done;
        let expected = match transfer.progress.state {
            State::Running => (1, 0, 0),
            State::Compensating | State::Failed | State::Abandoned => (1, 0, 0),
            State::Completed => (1, 1, 0),
            State::Compensated => match transfer.debited_at {
                Some(_) => (1, 0, 1),
                None => (0, 0, 0),
            },
            State::Absent => (0, 0, 0),
        };
        if (debits, credits, refunds) == expected {
            return Ok(());
        }
        let state = transfer.progress.state.as_str();
        Err(format!(
            "transfer {id} is {state}, {done} steps done, and has {debits} debits, {credits} \
             credits, {refunds} refunds"
        ))
    }

    /// What is in clearing is what is under way.
    fn clearing(&self) -> Result<(), String> {
        let mut under_way = BTreeMap::new();
        for transfer in self.transfers.values() {
            let initiated = transfer.initiated();
            if transfer.progress.state.is_over() || initiated.fx.is_some() {
                continue;
            }
            let sum = under_way.entry(initiated.currency).or_insert_with(Default::default);
            *sum += initiated.amount;
        }
        for (currency, sums) in self.books.currencies() {
            let expected = under_way.get(&currency).copied().unwrap_or_default();
            if sums.clearing != expected {
                return Err(format!("{} {currency} in clearing, not {expected}", sums.clearing));
            }
        }
        Ok(())
    }

    /// The sum of all accounts of a currency.
    pub fn customers(&self, currency: Currency) -> String {
        self.books.sums(currency).map(|sums| sums.customers.to_string()).unwrap_or_default()
    }

    /// Every transfer is over; how many were completed and how many compensated.
    pub fn all_over(&self) -> Result<(u64, u64), String> {
        let mut over = (0, 0);
        for (id, transfer) in &self.transfers {
            match transfer.progress.state {
                State::Completed => over.0 += 1,
                State::Compensated => over.1 += 1,
                state => return Err(format!("transfer {id} is {} for ever", state.as_str())),
            }
        }
        Ok(over)
    }
}
