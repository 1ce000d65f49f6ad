//! A history like the ledger's: accounts that are opened, and transfers between them.
//!
//! A transfer is seven events, as the ledger writes them: a debit and a credit on two accounts, and
//! five records of its own stream. The ledger's own rules decide what the accounts' events say.

use std::sync::Arc;

use bytes::Bytes;
use daybook_ledger::account::{
    Account, AccountCommand, AccountType, MoveMoney, MoveTransfer, OpenAccount, account_stream,
};
use daybook_ledger::books::ContraAccount;
use daybook_ledger::currency::Currency;
use daybook_ledger::saga::Direction;
use daybook_ledger::transfer::{
    CREDIT_RECEIVER, DEBIT_SENDER, PaymentCompleted, PaymentInitiated, SagaStepCompleted,
    TransferEvent, transfer_stream,
};
use daybook_model::{Aggregate as _, ExpectedRevision, NewEvent, StreamName, Timestamp};
use daybook_store::{Append, Store, StreamCondition};
use rust_decimal::Decimal;
use uuid::Uuid;

/// Events of one append while the history is written, about.
const EVENTS_PER_APPEND: usize = 2_000;
/// When the first account is opened, and how far events are apart: 2026, ten milliseconds.
const START: Timestamp = Timestamp(1_767_225_600_000_000_000);
const STEP: i64 = 10_000_000;

/// Accounts by the ledger's rules, and what is still to be appended.
pub(super) struct Bank {
    accounts: Vec<Account>,
    now: Timestamp,
    transfers: u64,
    events: u64,
    chance: u64,
    pending: Append,
}

impl Default for Bank {
    fn default() -> Bank {
        Bank {
            accounts: Vec::new(),
            now: START,
            transfers: 0,
            events: 0,
            chance: 0x9E37_79B9_7F4A_7C15,
            pending: empty(),
        }
    }
}

impl Bank {
    /// Writes a history of about `events` events of `accounts` accounts.
    pub(super) async fn fill(
        &mut self,
        store: &Store,
        events: u64,
        accounts: u64,
    ) -> anyhow::Result<()> {
        for number in 0..accounts {
            self.open(number)?;
            self.flush(store, EVENTS_PER_APPEND).await?;
        }
        while self.events < events {
            self.transfer()?;
            self.flush(store, EVENTS_PER_APPEND).await?;
        }
        self.flush(store, 1).await
    }

    /// One append with deposits on so many accounts.
    pub(super) fn deposits(&mut self, events: u64) -> anyhow::Result<Append> {
        for _ in 0..events {
            let at = self.any();
            let money = MoveMoney {
                amount: Decimal::from(1),
                currency: currency(),
                description: "cash".to_owned(),
                transaction_id: id(self.events),
            };
            self.does(at, &AccountCommand::Deposit(money))?;
        }
        Ok(std::mem::replace(&mut self.pending, empty()))
    }

    fn open(&mut self, number: u64) -> anyhow::Result<()> {
        self.accounts.push(Account::default());
        let open = OpenAccount {
            account_id: id(number),
            account_type: AccountType::Checking,
            currency: currency(),
            owner_id: id(number / 2),
            initial_deposit: Some(Decimal::from(1_000_000)),
            overdraft_limit: None,
            credit_limit: None,
            daily_withdrawal_limit: None,
            transaction_id: id(self.events),
        };
        self.does(self.accounts.len() - 1, &AccountCommand::Open(open))
    }

    fn transfer(&mut self) -> anyhow::Result<()> {
        use Direction::Action;
        let (from, mut to) = (self.any(), self.any());
        if from == to {
            to = (to + 1) % self.accounts.len();
        }
        let transfer_id = id(u64::MAX / 2 + self.transfers);
        self.transfers += 1;
        let amount = Decimal::from_i128_with_scale(i128::from(self.transfers % 100) + 1, 2);
        let at = self.now;
        let stream = transfer_stream(transfer_id);
        let leg = |counterparty: usize| MoveTransfer {
            transfer_id,
            counterparty_id: id(counterparty as u64),
            amount,
            currency: currency(),
            contra: ContraAccount::Clearing,
            description: "rent".to_owned(),
            transaction_id: transfer_id,
        };
        let step = |step| {
            let (direction, attempt, velocity) = (Action, 1, None);
            let occurred_at = at;
            TransferEvent::StepCompleted(SagaStepCompleted {
                transfer_id,
                step,
                direction,
                attempt,
                velocity,
                occurred_at,
            })
        };
        let (sender_account_id, receiver_account_id) = (id(from as u64), id(to as u64));
        let initiated = TransferEvent::Initiated(Arc::new(PaymentInitiated {
            transfer_id,
            saga: "payment_transfer".into(),
            sender_account_id,
            receiver_account_id,
            amount,
            currency: currency(),
            description: "rent".to_owned(),
            fx: None,
            deadline: Timestamp(at.0 + 300_000_000_000),
            occurred_at: at,
        }));
        let completed = TransferEvent::Completed(PaymentCompleted {
            transfer_id,
            sender_account_id,
            receiver_account_id,
            amount,
            currency: currency(),
            credited_amount: amount,
            credited_currency: currency(),
            occurred_at: at,
        });
        self.does(from, &AccountCommand::DebitTransfer(leg(to)))?;
        for event in [initiated, step(DEBIT_SENDER), step(DEBIT_SENDER + 1)] {
            self.record(stream.clone(), event.event_type(), event.encode());
        }
        self.does(to, &AccountCommand::CreditTransfer(leg(from)))?;
        for event in [step(CREDIT_RECEIVER), completed] {
            self.record(stream.clone(), event.event_type(), event.encode());
        }
        Ok(())
    }

    fn does(&mut self, at: usize, command: &AccountCommand) -> anyhow::Result<()> {
        let events = self.accounts[at].decide(command, self.now);
        let events = events.map_err(|refused| anyhow::anyhow!("account {at}: {refused}"))?;
        for event in events {
            self.accounts[at].evolve(&event);
            let (event_type, data) = Account::encode(&event);
            self.record(account_stream(id(at as u64)), event_type, data);
        }
        Ok(())
    }

    fn record(&mut self, stream: StreamName, event_type: &str, data: Bytes) {
        self.events += 1;
        self.now.0 += STEP;
        let index = self.pending.streams.len();
        let last = self.pending.streams.last();
        let index = if last.is_some_and(|last| last.stream == stream) {
            index - 1
        } else {
            let known = self.pending.streams.iter().position(|known| known.stream == stream);
            known.unwrap_or_else(|| {
                let expected = ExpectedRevision::Any;
                self.pending.streams.push(StreamCondition { stream, expected });
                index
            })
        };
        let index = u32::try_from(index).expect("an append has few streams");
        let event = NewEvent::json(id(u64::MAX - self.events), event_type, data);
        self.pending.events.push((index, event));
    }

    async fn flush(&mut self, store: &Store, at_least: usize) -> anyhow::Result<()> {
        if self.pending.events.len() >= at_least {
            store.append(std::mem::replace(&mut self.pending, empty())).await?;
        }
        Ok(())
    }

    /// The number of any account.
    fn any(&mut self) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        usize::try_from(self.chance % self.accounts.len() as u64).expect("fewer than that")
    }
}

fn empty() -> Append {
    Append { streams: Default::default(), events: Vec::new() }
}

fn currency() -> Currency {
    Currency::from_code("USD").expect("a currency")
}

/// An id like any other, of a number.
fn id(number: u64) -> Uuid {
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Uuid::from_u64_pair(spread, number)
}
