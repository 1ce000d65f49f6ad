//! What holds of an account whatever is asked of it. The oracle is naive: it recounts an account's
//! figures from its whole history each time.

use std::collections::BTreeMap;

use daybook_ledger::account::{
    Account, AccountCommand, AccountEvent, AccountState, AccountStatus, AccountType, CaptureHold,
    ChangeLimits, CloseAccount, FlagAccount, FreezeAccount, MoveMoney, MoveTransfer, OpenAccount,
    PlaceHold, RefundTransfer, ReleaseHold, UnflagAccount, UnfreezeAccount,
};
use daybook_ledger::books::{Books, ContraAccount};
use daybook_ledger::currency::Currency;
use daybook_ledger::time::{utc_day, utc_hour};
use daybook_model::{Aggregate, ContentType, EventView, Position, Revision, Timestamp};
use proptest::prelude::*;
use rust_decimal::Decimal;
use uuid::Uuid;

/// Midnight of 2026-03-02, UTC.
const START: i64 = 1_772_409_600_000_000_000;
const MINUTE: i64 = 60_000_000_000;

fn currency() -> Currency {
    Currency::from_code("USD").expect("a currency")
}

fn cents(cents: i64) -> Decimal {
    Decimal::new(cents, 2)
}

/// Amounts at which rules turn, among others.
fn amount() -> impl Strategy<Value = Decimal> {
    prop_oneof![
        (1i64..100_000).prop_map(cents),
        prop_oneof![Just(1), Just(9_999), Just(50_000), Just(500_000), Just(500_001)]
            .prop_map(cents),
        prop_oneof![Just(Decimal::ZERO), Just(cents(-1)), Just(Decimal::new(1, 3))],
    ]
}

fn hold_id() -> impl Strategy<Value = Uuid> {
    (0u128..6).prop_map(Uuid::from_u128)
}

fn money() -> impl Strategy<Value = MoveMoney> {
    amount().prop_map(|amount| MoveMoney {
        amount,
        currency: currency(),
        description: String::new(),
        transaction_id: Uuid::nil(),
    })
}

fn transfer() -> impl Strategy<Value = MoveTransfer> {
    (amount(), any::<bool>()).prop_map(|(amount, converts)| MoveTransfer {
        transfer_id: Uuid::nil(),
        counterparty_id: Uuid::max(),
        amount,
        currency: currency(),
        contra: if converts { ContraAccount::FxPosition } else { ContraAccount::Clearing },
        description: String::new(),
        transaction_id: Uuid::nil(),
    })
}

/// A command, and by how many minutes the clock moves before it. Times in commands are in minutes
/// from the clock's.
#[derive(Clone, Debug)]
struct Given {
    minutes: i64,
    command: AccountCommand,
}

fn open() -> impl Strategy<Value = AccountCommand> {
    let types = [AccountType::Checking, AccountType::Savings, AccountType::Credit];
    (0..types.len(), 10_000i64..2_000_000, 0i64..100_000).prop_map(move |(t, deposit, limit)| {
        AccountCommand::Open(OpenAccount {
            account_id: Uuid::from_u128(7),
            account_type: types[t],
            currency: currency(),
            owner_id: Uuid::from_u128(8),
            initial_deposit: Some(cents(deposit)),
            overdraft_limit: (types[t] == AccountType::Checking).then(|| cents(limit)),
            credit_limit: (types[t] == AccountType::Credit).then(|| cents(limit)),
            daily_withdrawal_limit: (limit % 2 == 0).then(|| cents(limit * 10)),
            transaction_id: Uuid::nil(),
        })
    })
}

fn command() -> impl Strategy<Value = AccountCommand> {
    let transaction_id = Uuid::nil();
    let x = || "x".to_owned();
    let place = (hold_id(), amount(), proptest::option::of(-10i64..3_000));
    let refund = (transfer(), 0i64..3_000);
    let close = CloseAccount { reason: x(), closed_by: x(), transaction_id };
    let flag = FlagAccount { reason: x(), flagged_by: x(), transaction_id };
    let limits = (proptest::option::of(amount()), proptest::option::of(amount()));
    prop_oneof![
        6 => money().prop_map(AccountCommand::Deposit),
        6 => money().prop_map(AccountCommand::Withdraw),
        2 => money().prop_map(AccountCommand::ChargeFee),
        6 => place.prop_map(move |(hold_id, amount, minutes)| AccountCommand::PlaceHold(PlaceHold {
            hold_id,
            amount,
            currency: currency(),
            description: String::new(),
            expires_at: minutes.map(|minutes| Timestamp(minutes * MINUTE)),
            transaction_id,
        })),
        5 => (hold_id(), proptest::option::of(amount())).prop_map(move |(hold_id, amount)| {
            AccountCommand::CaptureHold(CaptureHold {
                hold_id,
                amount,
                description: String::new(),
                transaction_id,
            })
        }),
        3 => hold_id().prop_map(move |hold_id| {
            AccountCommand::ReleaseHold(ReleaseHold { hold_id, reason: x(), transaction_id })
        }),
        6 => transfer().prop_map(AccountCommand::DebitTransfer),
        4 => transfer().prop_map(AccountCommand::CreditTransfer),
        3 => refund.prop_map(move |(leg, minutes)| AccountCommand::RefundTransfer(RefundTransfer {
            transfer_id: leg.transfer_id,
            counterparty_id: leg.counterparty_id,
            amount: leg.amount,
            currency: leg.currency,
            contra: leg.contra,
            description: leg.description,
            reason: x(),
            debited_at: Timestamp(-minutes * MINUTE),
            transaction_id,
        })),
        1 => Just(AccountCommand::Freeze(FreezeAccount {
            reason: x(),
            frozen_by: x(),
            transaction_id,
        })),
        2 => Just(AccountCommand::Unfreeze(UnfreezeAccount { unfrozen_by: x(), transaction_id })),
        1 => Just(AccountCommand::Close(close)),
        2 => limits.prop_map(move |(overdraft_limit, daily_withdrawal_limit)| {
            AccountCommand::ChangeLimits(ChangeLimits {
                overdraft_limit,
                daily_withdrawal_limit,
                changed_by: x(),
                reason: x(),
                transaction_id,
            })
        }),
        1 => Just(AccountCommand::Flag(flag)),
        1 => Just(AccountCommand::Unflag(UnflagAccount { unflagged_by: x(), transaction_id })),
    ]
}

fn given() -> impl Strategy<Value = Given> {
    let minutes = prop_oneof![4 => 0i64..90, 1 => 600i64..2_000, 1 => -300i64..0];
    (minutes, command()).prop_map(|(minutes, command)| Given { minutes, command })
}

/// The command with the times it names counted from `now`.
fn at(command: AccountCommand, now: Timestamp) -> AccountCommand {
    let from_now = |time: Timestamp| Timestamp(now.0 + time.0);
    match command {
        AccountCommand::PlaceHold(mut command) => {
            command.expires_at = command.expires_at.map(from_now);
            AccountCommand::PlaceHold(command)
        }
        AccountCommand::RefundTransfer(mut command) => {
            command.debited_at = from_now(command.debited_at);
            AccountCommand::RefundTransfer(command)
        }
        other => other,
    }
}

fn view<'a>(event_type: &'a str, data: &'a [u8]) -> EventView<'a> {
    EventView {
        position: Position(1),
        revision: Revision(0),
        time: Timestamp(0),
        id: Uuid::nil(),
        stream: "ledger.account-7",
        event_type,
        content_type: ContentType::Json,
        tombstone: false,
        metadata: b"",
        data,
    }
}

/// What an account's history says of it at some time, counted from the beginning.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    balance: Decimal,
    held: Decimal,
    withdrawn_today: Decimal,
    transfers_this_hour: u32,
    transfers_today: u32,
}

fn count(history: &[AccountEvent], now: Timestamp) -> Counted {
    let mut balance = Decimal::ZERO;
    let mut withdrawn = Decimal::ZERO;
    let (mut this_hour, mut today) = (0, 0);
    // What each open hold reserves, when it was placed, and when it ends.
    let mut holds: BTreeMap<Uuid, (Decimal, Timestamp, Option<Timestamp>)> = BTreeMap::new();
    let is_today = |time: Timestamp| utc_day(time) == utc_day(now);
    for event in history {
        let counts = is_today(event.occurred_at());
        balance += event.legs().map_or(Decimal::ZERO, |[customer, _]| customer.amount);
        match event {
            AccountEvent::MoneyWithdrawn(e) if counts => withdrawn += e.amount,
            AccountEvent::TransferDebited(e) => {
                withdrawn += if counts { e.amount } else { Decimal::ZERO };
                today += u32::from(counts);
                this_hour += u32::from(utc_hour(e.occurred_at) == utc_hour(now));
            }
            AccountEvent::HoldPlaced(e) => {
                withdrawn += if counts { e.amount } else { Decimal::ZERO };
                holds.insert(e.hold_id, (e.amount, e.occurred_at, e.expires_at));
            }
            AccountEvent::TransferRefunded(e) if counts && is_today(e.debited_at) => {
                withdrawn = (withdrawn - e.amount).max(Decimal::ZERO);
            }
            AccountEvent::HoldCaptured(e) => {
                holds.get_mut(&e.hold_id).expect("only open holds are captured").0 = e.remaining;
            }
            AccountEvent::HoldReleased(e) => {
                let (remaining, placed_at, _) = holds.remove(&e.hold_id).expect("an open hold");
                assert_eq!(remaining, e.amount);
                withdrawn -= if is_today(placed_at) { remaining } else { Decimal::ZERO };
            }
            AccountEvent::HoldExpired(e) => {
                let (remaining, placed_at, _) = holds.remove(&e.hold_id).expect("an open hold");
                assert_eq!(remaining, e.amount);
                withdrawn -= if is_today(placed_at) { remaining } else { Decimal::ZERO };
            }
            _ => {}
        }
        withdrawn = withdrawn.max(Decimal::ZERO);
    }
    let (expired, open): (Vec<_>, Vec<_>) = holds
        .into_values()
        .partition(|(_, _, expires_at)| expires_at.is_some_and(|expires_at| expires_at <= now));
    for (remaining, placed_at, _) in expired {
        withdrawn -= if is_today(placed_at) { remaining } else { Decimal::ZERO };
    }
    Counted {
        balance,
        held: open.into_iter().map(|(remaining, _, _)| remaining).sum(),
        withdrawn_today: withdrawn.max(Decimal::ZERO),
        transfers_this_hour: this_hour,
        transfers_today: today,
    }
}

/// What holds after every command.
fn check(state: &AccountState, history: &[AccountEvent], now: Timestamp) {
    let counted = Counted {
        balance: state.balance,
        held: state.held(now),
        withdrawn_today: state.withdrawn_today(now),
        transfers_this_hour: state.transfers_this_hour(now),
        transfers_today: state.transfers_today(now),
    };
    assert_eq!(counted, count(history, now), "against its history");
    assert!(state.balance >= -state.overdraft_limit, "{state:?}");
    assert!(state.available(now) >= Decimal::ZERO, "{state:?}");
    assert!(state.held(now) >= Decimal::ZERO, "{state:?}");
    assert_eq!(state.held(now), state.holds(now).map(|hold| hold.remaining).sum::<Decimal>());
    if state.status == AccountStatus::Closed {
        assert!(state.balance.is_zero() && state.held(now).is_zero(), "{state:?}");
    }
}

/// What holds of a command's events, given the state before and after them.
fn check_step(before: &AccountState, events: &[AccountEvent], after: &AccountState) {
    let Some((last, expiries)) = events.split_last() else { panic!("nothing happened") };
    assert!(expiries.iter().all(|event| matches!(event, AccountEvent::HoldExpired(_))));
    assert!(!matches!(last, AccountEvent::HoldExpired(_)), "its own event is missing");
    assert!(events.iter().all(|event| event.occurred_at() >= before.updated_at));
    assert_ne!(before.status, AccountStatus::Closed, "a closed account changed");
    if before.status == AccountStatus::Frozen {
        assert!(after.balance >= before.balance, "money left a frozen account");
        assert!(after.held(after.updated_at) <= before.held(after.updated_at));
    }
    let counts = matches!(
        last,
        AccountEvent::MoneyWithdrawn(_)
            | AccountEvent::TransferDebited(_)
            | AccountEvent::HoldPlaced(_)
    );
    if counts {
        let now = last.occurred_at();
        assert!(after.withdrawn_today(now) <= after.daily_withdrawal_limit, "{after:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn any_commands_keep_the_rules_and_a_replay_gives_the_same(
        opening in open(),
        commands in proptest::collection::vec(given(), 1..60),
        snapshot_after in 0usize..60,
    ) {
        let mut live = Account::default();
        let mut replayed = Account::default();
        let mut books = Books::default();
        let mut history: Vec<AccountEvent> = Vec::new();
        let mut now = Timestamp(START);
        let opening = Given { minutes: 0, command: opening };
        for (n, given) in std::iter::once(opening).chain(commands).enumerate() {
            now.0 += given.minutes * MINUTE;
            let before = live.clone();
            let Ok(events) = live.decide(&at(given.command, now), now) else { continue };
            for event in &events {
                live.evolve(event);
                if let Some(balance) = event.balance() {
                    prop_assert_eq!(Some(balance), live.state().map(|state| state.balance));
                }
                let (event_type, data) = Account::encode(event);
                books.apply(view(event_type, &data)).expect("small figures");
                let decoded = Account::decode(view(event_type, &data)).expect("as it was written");
                prop_assert_eq!(&decoded, event);
                replayed.evolve(&decoded);
                history.push(decoded);
            }
            if n == snapshot_after {
                replayed = Account::from_snapshot(&replayed.to_snapshot()).expect("a snapshot");
            }
            prop_assert_eq!(&replayed, &live);
            prop_assert!(books.is_balanced());
            let state = live.state().expect("an open account");
            for minutes in [0, 30, 300, 1_440] {
                check(state, &history, Timestamp(state.updated_at.0 + minutes * MINUTE));
            }
            if let Some(before) = before.state() {
                check_step(before, &events, state);
            }
        }
        if let Some(state) = live.state() {
            let customers = books.sums(currency()).map(|sums| sums.customers);
            prop_assert_eq!(customers, Some(state.balance));
        }
    }

    #[test]
    fn what_is_refused_is_refused_again_and_changes_nothing(
        opening in open(),
        commands in proptest::collection::vec(given(), 1..30),
    ) {
        let mut account = Account::default();
        let mut now = Timestamp(START);
        for event in account.decide(&opening, now).unwrap_or_default() {
            account.evolve(&event);
        }
        for given in commands {
            now.0 += given.minutes * MINUTE;
            let command = at(given.command, now);
            let first = account.decide(&command, now);
            prop_assert_eq!(&account.decide(&command, now), &first);
            match first {
                Ok(events) => events.iter().for_each(|event| account.evolve(event)),
                Err(rejection) => {
                    let word = rejection.word();
                    prop_assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
                    prop_assert!(!rejection.to_string().chars().any(char::is_control));
                }
            }
        }
    }
}
