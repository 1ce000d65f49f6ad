//! The built-in views: a script of events and the tables it comes to, and what holds of any.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use daybook_client::Checkpoint;
use daybook_ledger::account::{
    Account, AccountCommand, AccountType, CaptureHold, ChangeLimits, CloseAccount, FlagAccount,
    FreezeAccount, MoveMoney, MoveTransfer, OpenAccount, PlaceHold, RefundTransfer, ReleaseHold,
    UnflagAccount, UnfreezeAccount, account_stream,
};
use daybook_ledger::books::{Books, ContraAccount};
use daybook_ledger::currency::Currency;
use daybook_ledger::saga::Direction;
use daybook_ledger::time::Rfc3339;
use daybook_ledger::transfer::{
    CREDIT_RECEIVER, DEBIT_SENDER, PaymentAbandoned, PaymentCompleted, PaymentEnded,
    PaymentInitiated, PaymentResumed, SagaStepCompleted, SagaStepFailed, TransferEvent,
    transfer_stream,
};
use daybook_model::{
    Aggregate, ContentType, Epoch, Position, RecordedEvent, Revision, StreamName, Timestamp,
};
use daybook_projections::views::accounts::{ACCOUNTS, TRIAL_BALANCE, account, trial_balance};
use daybook_projections::views::history::{STATEMENTS, TRANSACTIONS, statement, transaction};
use daybook_projections::views::{complete, read};
use daybook_projections::{
    ApplyError, ChangeSet, CommitError, Parked, Projection, Row, StoreError, Table, Value, Writer,
};
use proptest::prelude::*;
use rust_decimal::Decimal;
use uuid::Uuid;

/// 2026-02-28 23:00:00 UTC: an hour before a day and a month end.
const START: Timestamp = Timestamp(1_772_319_600_000_000_000);
const MINUTE: i64 = 60_000_000_000;

/// Tables in memory, as committed.
#[derive(Default)]
struct Tables {
    rows: BTreeMap<&'static str, BTreeMap<Vec<Value>, Arc<Row>>>,
    checkpoint: Option<Checkpoint>,
}

impl Writer for Tables {
    fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint
    }

    fn commit_rows_max(&self) -> usize {
        7
    }

    fn load(
        &mut self,
        table: &'static Table,
        key: &[Value],
    ) -> Result<Option<Arc<Row>>, StoreError> {
        Ok(self.rows.get(table.name).and_then(|rows| rows.get(key)).cloned())
    }

    fn commit(
        &mut self,
        changes: &ChangeSet,
        _: &[Parked],
        through: Checkpoint,
    ) -> Result<(), CommitError> {
        for (table, changed) in changes.tables() {
            let rows = self.rows.entry(table.name).or_default();
            for changed in changed.values() {
                match (&changed.before, &changed.after) {
                    (_, Some(after)) => {
                        rows.insert(table.key(after).to_vec(), after.clone());
                    }
                    (Some(before), None) => {
                        rows.remove(table.key(before));
                    }
                    (None, None) => {}
                }
            }
        }
        self.checkpoint = Some(through);
        Ok(())
    }
}

/// Folds `log` into the tables of `view`, committing now and then.
fn fold(view: &dyn Projection, log: &[RecordedEvent]) -> Result<Tables, ApplyError> {
    let mut tables = Tables::default();
    let mut changes = ChangeSet::new(view.tables());
    for event in log {
        if view.interest().wants(event.stream.as_str(), &event.event_type) {
            view.apply(event.view(), &mut changes.over(&mut tables))?;
        }
        if changes.len() >= tables.commit_rows_max() {
            let through = Checkpoint::at(event.position, Epoch(0));
            tables.commit(&changes, &[], through).expect("memory");
            changes.clear();
        }
    }
    let last = Position(log.len() as u64);
    tables.commit(&changes, &[], Checkpoint::at(last, Epoch(0))).expect("memory");
    Ok(tables)
}

/// Accounts by the ledger's own rules, and a log of all that happens.
struct Bank {
    now: Timestamp,
    accounts: BTreeMap<u128, (Account, u64)>,
    transfers: BTreeMap<Uuid, u64>,
    log: Vec<RecordedEvent>,
}

impl Bank {
    fn new() -> Bank {
        let (accounts, transfers) = (BTreeMap::new(), BTreeMap::new());
        Bank { now: START, accounts, transfers, log: Vec::new() }
    }

    fn wait(&mut self, minutes: i64) {
        self.now.0 += minutes * MINUTE;
    }

    /// Has account `n` do `command`; whether it did.
    fn tries(&mut self, n: u128, command: &AccountCommand) -> bool {
        let now = self.now;
        let (account, _) = self.accounts.entry(n).or_default();
        let Ok(events) = account.decide(command, now) else { return false };
        for event in events {
            let (account, next) = self.accounts.get_mut(&n).expect("it was just used");
            account.evolve(&event);
            let revision = *next;
            *next += 1;
            let (event_type, data) = Account::encode(&event);
            self.record(account_stream(Uuid::from_u128(n)), revision, event_type, data);
        }
        true
    }

    fn does(&mut self, n: u128, command: AccountCommand) {
        assert!(self.tries(n, &command), "account {n} refuses {command:?}");
    }

    fn transfer(&mut self, event: TransferEvent) {
        let id = match &event {
            TransferEvent::Initiated(e) => e.transfer_id,
            TransferEvent::StepCompleted(e) => e.transfer_id,
            TransferEvent::StepFailed(e) => e.transfer_id,
            TransferEvent::Completed(e) => e.transfer_id,
            TransferEvent::Rejected(e) | TransferEvent::Failed(e) => e.transfer_id,
            TransferEvent::Resumed(e) => e.transfer_id,
            TransferEvent::Abandoned(e) => e.transfer_id,
        };
        let next = self.transfers.entry(id).or_default();
        let revision = *next;
        *next += 1;
        self.record(transfer_stream(id), revision, event.event_type(), event.encode());
    }

    fn record(&mut self, stream: StreamName, revision: u64, event_type: &str, data: Bytes) {
        let position = Position(self.log.len() as u64);
        self.log.push(RecordedEvent {
            position,
            revision: Revision(revision),
            // A commit comes a little after its decision.
            time: Timestamp(self.now.0 + 1_000_000),
            id: Uuid::from_u128(u128::from(position.0)),
            stream,
            event_type: event_type.to_owned(),
            content_type: ContentType::Json,
            tombstone: false,
            metadata: Bytes::new(),
            data,
        });
    }
}

fn currency(code: &str) -> Currency {
    Currency::from_code(code).expect("a currency")
}

fn decimal(text: &str) -> Decimal {
    text.parse().expect("a number")
}

fn x() -> String {
    "x".to_owned()
}

fn opening(n: u128, account_type: AccountType, code: &str, money: &str) -> AccountCommand {
    AccountCommand::Open(OpenAccount {
        account_id: Uuid::from_u128(n),
        account_type,
        currency: currency(code),
        owner_id: Uuid::from_u128(0xa0 + n % 2),
        initial_deposit: Some(decimal(money)),
        overdraft_limit: None,
        credit_limit: None,
        daily_withdrawal_limit: None,
        transaction_id: Uuid::from_u128(0x100 + n),
    })
}

fn money(amount: &str, code: &str) -> MoveMoney {
    MoveMoney {
        amount: decimal(amount),
        currency: currency(code),
        description: "groceries \"and\" more".to_owned(),
        transaction_id: Uuid::from_u128(0x200),
    }
}

fn leg(transfer: u128, to: u128, amount: &str, code: &str) -> MoveTransfer {
    MoveTransfer {
        transfer_id: Uuid::from_u128(transfer),
        counterparty_id: Uuid::from_u128(to),
        amount: decimal(amount),
        currency: currency(code),
        contra: ContraAccount::Clearing,
        description: "rent".to_owned(),
        transaction_id: Uuid::from_u128(transfer + 0x300),
    }
}

fn hold(n: u128, amount: &str, expires_at: Option<Timestamp>) -> AccountCommand {
    AccountCommand::PlaceHold(PlaceHold {
        hold_id: Uuid::from_u128(n),
        amount: decimal(amount),
        currency: currency("USD"),
        description: "hotel".to_owned(),
        expires_at,
        transaction_id: Uuid::from_u128(0x400),
    })
}

fn initiated(id: u128, amount: &str, code: &str, now: Timestamp) -> TransferEvent {
    TransferEvent::Initiated(Arc::new(PaymentInitiated {
        transfer_id: Uuid::from_u128(id),
        saga: "payment_transfer".into(),
        sender_account_id: Uuid::from_u128(1),
        receiver_account_id: Uuid::from_u128(2),
        amount: decimal(amount),
        currency: currency(code),
        description: "rent".to_owned(),
        fx: None,
        deadline: Timestamp(now.0 + 5 * MINUTE),
        occurred_at: now,
    }))
}

fn done(id: u128, step: usize, direction: Direction, at: Timestamp) -> TransferEvent {
    let transfer_id = Uuid::from_u128(id);
    let velocity = None;
    let attempt = 1;
    let occurred_at = at;
    let event = SagaStepCompleted { transfer_id, step, direction, attempt, velocity, occurred_at };
    TransferEvent::StepCompleted(event)
}

fn failed(
    id: u128,
    step: usize,
    direction: Direction,
    retry_at: Option<Timestamp>,
    at: Timestamp,
) -> TransferEvent {
    TransferEvent::StepFailed(SagaStepFailed {
        transfer_id: Uuid::from_u128(id),
        step,
        direction,
        attempt: 1,
        reason: "account_frozen: it is".to_owned(),
        is_final: retry_at.is_none(),
        retry_at,
        occurred_at: at,
    })
}

fn ended(id: u128, at: Timestamp) -> PaymentEnded {
    let reason = "account_frozen: it is".to_owned();
    PaymentEnded { transfer_id: Uuid::from_u128(id), reason, occurred_at: at }
}

fn resumed(id: u128, at: Timestamp) -> TransferEvent {
    let resumed_by = "ops".to_owned();
    let transfer_id = Uuid::from_u128(id);
    TransferEvent::Resumed(PaymentResumed { transfer_id, resumed_by, occurred_at: at })
}

fn abandoned(id: u128, at: Timestamp) -> TransferEvent {
    TransferEvent::Abandoned(PaymentAbandoned {
        transfer_id: Uuid::from_u128(id),
        reason: "settled by hand".to_owned(),
        abandoned_by: "ops".to_owned(),
        occurred_at: at,
    })
}

fn completed(id: u128, amount: &str, code: &str, at: Timestamp) -> TransferEvent {
    TransferEvent::Completed(PaymentCompleted {
        transfer_id: Uuid::from_u128(id),
        sender_account_id: Uuid::from_u128(1),
        receiver_account_id: Uuid::from_u128(2),
        amount: decimal(amount),
        currency: currency(code),
        credited_amount: decimal(amount),
        credited_currency: currency(code),
        occurred_at: at,
    })
}

/// Everything that can happen to accounts, over the end of a month.
fn play_accounts(bank: &mut Bank) {
    let transaction_id = Uuid::from_u128(0x500);
    bank.does(1, opening(1, AccountType::Checking, "USD", "1000.00"));
    bank.does(2, opening(2, AccountType::Savings, "USD", "100.00"));
    bank.does(3, opening(3, AccountType::Checking, "JPY", "0"));
    bank.wait(30);
    bank.does(1, AccountCommand::Deposit(money("25.50", "USD")));
    bank.does(1, hold(0xb1, "100.00", None));
    bank.does(1, hold(0xb2, "10.00", Some(Timestamp(bank.now.0 + MINUTE))));
    bank.does(3, AccountCommand::Deposit(money("5000", "JPY")));
    bank.wait(60);
    bank.does(1, AccountCommand::Withdraw(money("20.00", "USD")));
    bank.does(
        1,
        AccountCommand::CaptureHold(CaptureHold {
            hold_id: Uuid::from_u128(0xb1),
            amount: Some(decimal("40.00")),
            description: "two nights".to_owned(),
            transaction_id,
        }),
    );
    bank.does(1, AccountCommand::ChargeFee(money("1.25", "USD")));
    bank.does(1, AccountCommand::DebitTransfer(leg(0x71, 2, "300.00", "USD")));
    bank.does(2, AccountCommand::CreditTransfer(leg(0x71, 1, "300.00", "USD")));
    bank.does(1, AccountCommand::DebitTransfer(leg(0x72, 3, "50.00", "USD")));
    bank.does(
        1,
        AccountCommand::RefundTransfer(RefundTransfer {
            transfer_id: Uuid::from_u128(0x72),
            counterparty_id: Uuid::from_u128(3),
            amount: decimal("50.00"),
            currency: currency("USD"),
            contra: ContraAccount::Clearing,
            description: "rent".to_owned(),
            reason: "refused".to_owned(),
            debited_at: bank.now,
            transaction_id,
        }),
    );
    let limits = ChangeLimits {
        overdraft_limit: Some(decimal("750.00")),
        daily_withdrawal_limit: Some(decimal("5000.00")),
        changed_by: x(),
        reason: x(),
        transaction_id,
    };
    bank.does(1, AccountCommand::ChangeLimits(limits));
    let flag = FlagAccount { reason: "odd".to_owned(), flagged_by: x(), transaction_id };
    bank.does(1, AccountCommand::Flag(flag));
    let freeze = FreezeAccount { reason: "court".to_owned(), frozen_by: x(), transaction_id };
    bank.does(2, AccountCommand::Freeze(freeze));
    bank.does(3, AccountCommand::Withdraw(money("5000", "JPY")));
    let close = CloseAccount { reason: "moved".to_owned(), closed_by: x(), transaction_id };
    bank.does(3, AccountCommand::Close(close));
}

/// Every way a transfer can go.
fn play_transfers(bank: &mut Bank) {
    use Direction::{Action, Compensation};
    let now = bank.now;
    let later = Timestamp(now.0 + MINUTE);
    let tomorrow = Timestamp(now.0 + 24 * 60 * MINUTE);
    let events = [
        // 1 is completed.
        initiated(0xc1, "10.00", "USD", now),
        done(0xc1, DEBIT_SENDER, Action, now),
        done(0xc1, 1, Action, now),
        done(0xc1, CREDIT_RECEIVER, Action, now),
        completed(0xc1, "10.00", "USD", now),
        // 2 is refused by its sender, the next day.
        initiated(0xc2, "20.00", "USD", now),
        failed(0xc2, DEBIT_SENDER, Action, None, tomorrow),
        TransferEvent::Rejected(ended(0xc2, tomorrow)),
        // 3 waits for its second attempt at the receiver.
        initiated(0xc3, "30.00", "USD", now),
        done(0xc3, DEBIT_SENDER, Action, now),
        done(0xc3, 1, Action, now),
        failed(0xc3, CREDIT_RECEIVER, Action, Some(later), now),
        // 4 is being undone.
        initiated(0xc4, "40", "JPY", now),
        done(0xc4, DEBIT_SENDER, Action, now),
        done(0xc4, 1, Action, now),
        failed(0xc4, CREDIT_RECEIVER, Action, None, now),
        // 5 failed.
        initiated(0xc5, "50.00", "USD", now),
        done(0xc5, DEBIT_SENDER, Action, now),
        failed(0xc5, 1, Action, None, now),
        failed(0xc5, DEBIT_SENDER, Compensation, None, now),
        TransferEvent::Failed(ended(0xc5, now)),
        // 6 failed, was resumed, and undone.
        initiated(0xc6, "60.00", "USD", now),
        done(0xc6, DEBIT_SENDER, Action, now),
        failed(0xc6, 1, Action, None, now),
        failed(0xc6, DEBIT_SENDER, Compensation, None, now),
        TransferEvent::Failed(ended(0xc6, now)),
        resumed(0xc6, now),
        done(0xc6, DEBIT_SENDER, Compensation, now),
        TransferEvent::Rejected(ended(0xc6, now)),
        // 7 failed, and was abandoned.
        initiated(0xc7, "70.00", "USD", now),
        done(0xc7, DEBIT_SENDER, Action, now),
        failed(0xc7, 1, Action, None, now),
        failed(0xc7, DEBIT_SENDER, Compensation, None, now),
        TransferEvent::Failed(ended(0xc7, now)),
        abandoned(0xc7, now),
        // 8 has just begun, 9 was resumed.
        initiated(0xc8, "80.00", "USD", now),
        initiated(0xc9, "90.00", "USD", now),
        done(0xc9, DEBIT_SENDER, Action, now),
        failed(0xc9, 1, Action, None, now),
        failed(0xc9, DEBIT_SENDER, Compensation, None, now),
        TransferEvent::Failed(ended(0xc9, now)),
        resumed(0xc9, now),
    ];
    for event in events {
        bank.transfer(event);
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Text(text) if text.is_empty() => "''".to_owned(),
        Value::Text(text) => text.replace(' ', "_"),
        Value::Integer(number) => number.to_string(),
        Value::Decimal(number) => number.to_string(),
        Value::Uuid(id) => format!("#{:x}", id.as_u128()),
        Value::Time(time) => Rfc3339(*time).to_string().replace(".000000000Z", "Z"),
        Value::Flag(flag) => flag.to_string(),
    }
}

/// All tables of `views`, a row a line, columns side by side.
fn printed(log: &[RecordedEvent]) -> String {
    let mut out = String::new();
    for view in complete() {
        let tables = fold(view.as_ref(), log).expect("events of the ledger");
        for table in view.tables() {
            let _ = writeln!(out, "{} {}", view.name(), table.name);
            let header = table.columns.iter().map(|column| column.name.to_owned()).collect();
            let mut lines: Vec<Vec<String>> = vec![header];
            let rows = tables.rows.get(table.name).into_iter().flatten();
            lines.extend(rows.map(|(_, row)| row.iter().map(shown).collect()));
            let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or(0);
            let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
            for line in &lines {
                let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
                let _ = writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
            }
            out.push('\n');
        }
    }
    out
}

#[test]
fn a_script_of_events_comes_to_these_tables() {
    let mut bank = Bank::new();
    play_accounts(&mut bank);
    play_transfers(&mut bank);
    let found = printed(&bank.log);
    let expected = include_str!("testscripts/views");
    assert!(found == expected, "the tables differ from testscripts/views:\n{found}");
}

#[test]
fn an_event_that_cannot_be_read_or_has_no_beginning_is_poison() {
    let mut bank = Bank::new();
    play_accounts(&mut bank);
    play_transfers(&mut bank);
    for view in complete() {
        let wanted = |event: &&RecordedEvent| {
            view.interest().wants(event.stream.as_str(), &event.event_type)
        };
        let mut broken = bank.log.iter().find(wanted).expect("it wants some").clone();
        broken.data = Bytes::from_static(b"{}");
        let found = fold(view.as_ref(), &[broken]).err();
        assert!(matches!(found, Some(ApplyError::Poison { .. })), "{}: {found:?}", view.name());
        if view.name() == "history" {
            continue; // Its rows stand for themselves.
        }
        let orphan = bank.log.iter().filter(wanted).find(|event| event.revision.0 == 2);
        let orphan = orphan.expect("some stream has three").clone();
        let found = fold(view.as_ref(), &[orphan]).err();
        assert!(matches!(found, Some(ApplyError::Poison { .. })), "{}: {found:?}", view.name());
    }
}

fn amount() -> impl Strategy<Value = String> {
    (1i64..200_000).prop_map(|cents| Decimal::new(cents, 2).to_string())
}

fn command() -> impl Strategy<Value = AccountCommand> {
    let transaction_id = Uuid::from_u128(0x500);
    let usd = |amount: String| money(&amount, "USD");
    let moved = |amount: String| leg(0x71, 2, &amount, "USD");
    let holds = (1u128..5, amount(), proptest::option::of(0i64..3_000));
    let refund = amount().prop_map(move |amount| RefundTransfer {
        transfer_id: Uuid::from_u128(0x71),
        counterparty_id: Uuid::from_u128(2),
        amount: decimal(&amount),
        currency: currency("USD"),
        contra: ContraAccount::Clearing,
        description: x(),
        reason: x(),
        debited_at: START,
        transaction_id,
    });
    let capture =
        (1u128..5, proptest::option::of(amount())).prop_map(move |(n, amount)| CaptureHold {
            hold_id: Uuid::from_u128(n),
            amount: amount.map(|amount| decimal(&amount)),
            description: x(),
            transaction_id,
        });
    let release = (1u128..5).prop_map(move |n| ReleaseHold {
        hold_id: Uuid::from_u128(n),
        reason: x(),
        transaction_id,
    });
    let limits = amount().prop_map(move |amount| ChangeLimits {
        overdraft_limit: Some(decimal(&amount)),
        daily_withdrawal_limit: Some(decimal("90000.00")),
        changed_by: x(),
        reason: x(),
        transaction_id,
    });
    let freeze = FreezeAccount { reason: x(), frozen_by: x(), transaction_id };
    let flag = FlagAccount { reason: x(), flagged_by: x(), transaction_id };
    let unflag = UnflagAccount { unflagged_by: x(), transaction_id };
    let unfreeze = UnfreezeAccount { unfrozen_by: x(), transaction_id };
    prop_oneof![
        6 => amount().prop_map(move |amount| AccountCommand::Deposit(usd(amount))),
        6 => amount().prop_map(move |amount| AccountCommand::Withdraw(usd(amount))),
        2 => amount().prop_map(move |amount| AccountCommand::ChargeFee(usd(amount))),
        4 => amount().prop_map(move |amount| AccountCommand::DebitTransfer(moved(amount))),
        4 => amount().prop_map(move |amount| AccountCommand::CreditTransfer(moved(amount))),
        2 => refund.prop_map(AccountCommand::RefundTransfer),
        5 => holds.prop_map(|(n, amount, minutes)| {
            hold(n, &amount, minutes.map(|minutes| Timestamp(START.0 + minutes * MINUTE)))
        }),
        4 => capture.prop_map(AccountCommand::CaptureHold),
        3 => release.prop_map(AccountCommand::ReleaseHold),
        1 => limits.prop_map(AccountCommand::ChangeLimits),
        1 => Just(AccountCommand::Freeze(freeze)),
        2 => Just(AccountCommand::Unfreeze(unfreeze)),
        1 => Just(AccountCommand::Flag(flag)),
        1 => Just(AccountCommand::Unflag(unflag)),
    ]
}

fn table_of<'a>(tables: &'a [Tables], table: &Table) -> Vec<&'a Row> {
    let found = tables.iter().find_map(|tables| tables.rows.get(table.name));
    found.into_iter().flatten().map(|(_, row)| row.as_ref()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_tables_say_what_the_accounts_say(
        given in proptest::collection::vec((0u128..3, 0i64..900, command()), 1..120),
    ) {
        let mut bank = Bank::new();
        for n in 0..3 {
            bank.does(n, opening(n, AccountType::Checking, "USD", "500.00"));
        }
        for (n, minutes, command) in &given {
            bank.wait(*minutes);
            bank.tries(*n, command);
        }
        let folded = complete().into_iter().map(|view| fold(view.as_ref(), &bank.log));
        let tables = folded.collect::<Result<Vec<_>, _>>().expect("events of the ledger");
        let mut books = Books::default();
        for event in &bank.log {
            books.apply(event.view()).expect("small figures");
        }
        check_sums(&table_of(&tables, TRIAL_BALANCE), &books)?;
        let transactions = table_of(&tables, TRANSACTIONS);
        prop_assert_eq!(transactions.len(), bank.log.len());
        for row in table_of(&tables, ACCOUNTS) {
            let id = read::uuid(row, account::ACCOUNT_ID).expect("a key");
            let (known, next) = &bank.accounts[&id.as_u128()];
            check_account(row, known, *next)?;
            let of = |rows: &[&Row]| -> Vec<Row> {
                rows.iter().filter(|row| row[0] == Value::Uuid(id)).map(|row| (*row).clone()).collect()
            };
            let balance = read::decimal(row, account::BALANCE);
            let sum: Decimal = of(&transactions)
                .iter()
                .filter_map(|row| read::decimal(row, transaction::AMOUNT))
                .sum();
            prop_assert_eq!(Some(sum), balance);
            check_statements(&of(&table_of(&tables, STATEMENTS)), *next, balance)?;
        }
    }
}

fn check_account(row: &Row, known: &Account, next: u64) -> Result<(), TestCaseError> {
    let state = known.state().expect("an open account");
    // At the beginning of time no hold had expired: what is held is what events say.
    let held = state.held(Timestamp(i64::MIN));
    let is = [
        (account::OWNER_ID, Value::from(state.owner_id)),
        (account::ACCOUNT_TYPE, state.account_type.as_str().into()),
        (account::STATUS, state.status.as_str().into()),
        (account::CURRENCY, state.currency.code().into()),
        (account::BALANCE, state.balance.into()),
        (account::HELD, held.into()),
        (account::OVERDRAFT_LIMIT, state.overdraft_limit.into()),
        (account::DAILY_WITHDRAWAL_LIMIT, state.daily_withdrawal_limit.into()),
        (account::FLAGGED, state.flag.is_some().into()),
        (account::OPENED_AT, state.opened_at.into()),
        (account::UPDATED_AT, state.updated_at.into()),
        (account::REVISION, Value::Integer(next as i64 - 1)),
    ];
    for (column, value) in is {
        prop_assert_eq!(&row[column], &value, "{}", ACCOUNTS.columns[column].name);
    }
    Ok(())
}

fn check_sums(rows: &[&Row], books: &Books) -> Result<(), TestCaseError> {
    prop_assert_eq!(rows.len(), books.currencies().count());
    for ((currency, sums), row) in books.currencies().zip(rows) {
        prop_assert_eq!(read::text(row, trial_balance::CURRENCY), Some(currency.code()));
        let of = |column| read::decimal(row, column).expect("a sum");
        prop_assert_eq!(of(trial_balance::CUSTOMERS), sums.customers);
        prop_assert_eq!(of(trial_balance::CASH), sums.cash);
        prop_assert_eq!(of(trial_balance::CLEARING), sums.clearing);
        prop_assert_eq!(of(trial_balance::FEES), sums.fees);
        prop_assert_eq!(of(trial_balance::FX_POSITION), sums.fx_position);
        let total: Decimal = (trial_balance::CUSTOMERS..=trial_balance::FX_POSITION).map(of).sum();
        prop_assert!(total.is_zero(), "{total} {currency} out of nothing");
    }
    Ok(())
}

/// An account's statements, in the order of the months, follow from one another and leave nothing
/// out.
fn check_statements(
    rows: &[Row],
    events: u64,
    balance: Option<Decimal>,
) -> Result<(), TestCaseError> {
    let (mut next, mut last) = (0, Decimal::ZERO);
    for row in rows {
        let number = |column| read::integer(row, column).expect("a number");
        prop_assert_eq!(number(statement::FIRST_REVISION), next);
        next = number(statement::LAST_REVISION) + 1;
        prop_assert_eq!(number(statement::EVENTS), next - number(statement::FIRST_REVISION));
        let Some(closing) = read::decimal(row, statement::CLOSING_BALANCE) else { continue };
        let of = |column| read::decimal(row, column).expect("a sum");
        prop_assert_eq!(of(statement::OPENING_BALANCE), last);
        prop_assert_eq!(last + of(statement::CREDITS) - of(statement::DEBITS), closing);
        last = closing;
    }
    prop_assert_eq!(next, events as i64);
    prop_assert_eq!(Some(last), balance);
    Ok(())
}
