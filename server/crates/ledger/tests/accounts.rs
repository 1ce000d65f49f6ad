//! The rules of accounts: the table `testscripts/accounts`, and what does not fit into its lines.

use daybook_ledger::account::{
    Account, AccountCommand, AccountEvent, AccountRejection, AccountType, CaptureHold,
    ChangeLimits, CloseAccount, FlagAccount, FreezeAccount, MoveMoney, MoveTransfer, OpenAccount,
    PlaceHold, RefundTransfer, ReleaseHold, UnflagAccount, UnfreezeAccount,
};
use daybook_ledger::books::{Books, ContraAccount};
use daybook_ledger::currency::Currency;
use daybook_ledger::time;
use daybook_model::{Aggregate, ContentType, EventView, Position, Revision, Timestamp};
use rust_decimal::Decimal;
use uuid::Uuid;

/// The table; how it is written stands at its top.
const RULES: &str = include_str!("testscripts/accounts");

/// Midnight of 2026-03-02, UTC.
const START: i64 = 1_772_409_600_000_000_000;

fn id(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is a decimal"))
}

/// Nanoseconds of `+1d`, `-30m`, `+1ns`.
fn duration(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = text[1..].trim_end_matches(char::is_alphabetic);
    let unit = match &text[1 + digits.len()..] {
        "ns" => 1,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    Some(sign * digits.parse::<i64>().ok()? * unit)
}

/// The arguments of one step: words, and `key=value`.
struct Step<'a>(Vec<&'a str>);

impl<'a> Step<'a> {
    fn word(&self, at: usize) -> Option<&'a str> {
        self.0.iter().filter(|word| !word.contains('=')).nth(at).copied()
    }
    fn option(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
    fn amount(&self, at: usize) -> Decimal {
        decimal(self.word(at).unwrap_or_else(|| panic!("{:?} has an amount at {at}", self.0)))
    }
    fn currency(&self, at: usize) -> Currency {
        Currency::from_code(self.word(at).unwrap_or("USD")).expect("a currency")
    }
    fn time(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        Some(Timestamp(now.0 + duration(self.option(key)?).expect("a duration")))
    }
}

fn money(step: &Step<'_>) -> MoveMoney {
    MoveMoney {
        amount: step.amount(1),
        currency: step.currency(2),
        description: "groceries".to_owned(),
        transaction_id: id("transaction"),
    }
}

fn transfer(step: &Step<'_>) -> MoveTransfer {
    MoveTransfer {
        transfer_id: id("transfer"),
        counterparty_id: id("somebody"),
        amount: step.amount(1),
        currency: step.currency(2),
        contra: ContraAccount::Clearing,
        description: "rent".to_owned(),
        transaction_id: id("transaction"),
    }
}

fn open(step: &Step<'_>) -> OpenAccount {
    let decimal = |key| step.option(key).map(decimal);
    OpenAccount {
        account_id: id("account"),
        account_type: match step.word(1) {
            Some("checking") => AccountType::Checking,
            Some("savings") => AccountType::Savings,
            Some("credit") => AccountType::Credit,
            other => panic!("'{other:?}' is a type of account"),
        },
        currency: step.currency(2),
        owner_id: id("owner"),
        initial_deposit: step.word(3).map(|_| step.amount(3)),
        overdraft_limit: decimal("overdraft"),
        credit_limit: decimal("credit"),
        daily_withdrawal_limit: decimal("daily"),
        transaction_id: id("transaction"),
    }
}

fn command(step: &Step<'_>, now: Timestamp) -> AccountCommand {
    let transaction_id = id("transaction");
    let text = |text: &str| text.to_owned();
    let hold_id = id(step.word(1).unwrap_or_default());
    match step.word(0).expect("a step begins with its command") {
        "open" => AccountCommand::Open(open(step)),
        "deposit" => AccountCommand::Deposit(money(step)),
        "withdraw" => AccountCommand::Withdraw(money(step)),
        "fee" => AccountCommand::ChargeFee(money(step)),
        "debit" => AccountCommand::DebitTransfer(transfer(step)),
        "credit" => AccountCommand::CreditTransfer(transfer(step)),
        "refund" => AccountCommand::RefundTransfer(RefundTransfer {
            transfer_id: id("transfer"),
            counterparty_id: id("somebody"),
            amount: step.amount(1),
            currency: step.currency(2),
            contra: ContraAccount::Clearing,
            description: text("rent"),
            reason: text("risk_check_failed"),
            debited_at: step.time("debited", now).unwrap_or(now),
            transaction_id,
        }),
        "hold" => AccountCommand::PlaceHold(PlaceHold {
            hold_id,
            amount: step.amount(2),
            currency: step.currency(3),
            description: text("hotel"),
            expires_at: step.time("expires", now),
            transaction_id,
        }),
        "capture" => AccountCommand::CaptureHold(CaptureHold {
            hold_id,
            amount: step.word(2).map(|_| step.amount(2)),
            description: text("hotel"),
            transaction_id,
        }),
        "release" => {
            AccountCommand::ReleaseHold(ReleaseHold { hold_id, reason: text(""), transaction_id })
        }
        "freeze" => AccountCommand::Freeze(FreezeAccount {
            reason: text("lost card"),
            frozen_by: text("support"),
            transaction_id,
        }),
        "unfreeze" => AccountCommand::Unfreeze(UnfreezeAccount {
            unfrozen_by: text("support"),
            transaction_id,
        }),
        "close" => AccountCommand::Close(CloseAccount {
            reason: text(""),
            closed_by: text("owner"),
            transaction_id,
        }),
        "limits" => AccountCommand::ChangeLimits(ChangeLimits {
            overdraft_limit: step.option("overdraft").map(decimal),
            daily_withdrawal_limit: step.option("daily").map(decimal),
            changed_by: text("support"),
            reason: text("asked for it"),
            transaction_id,
        }),
        "flag" => AccountCommand::Flag(FlagAccount {
            reason: text("suspicious"),
            flagged_by: text("support"),
            transaction_id,
        }),
        "unflag" => {
            AccountCommand::Unflag(UnflagAccount { unflagged_by: text("support"), transaction_id })
        }
        other => panic!("'{other}' is a command"),
    }
}

/// An account whose every step is also replayed from bytes, and entered into the books.
#[derive(Default)]
struct Live {
    account: Account,
    stored: Account,
    books: Books,
    last: Vec<&'static str>,
}

impl Live {
    fn execute(
        &mut self,
        command: &AccountCommand,
        now: Timestamp,
    ) -> Result<(), AccountRejection> {
        let events = self.account.decide(command, now)?;
        self.last = events.iter().map(AccountEvent::event_type).collect();
        for event in &events {
            self.account.evolve(event);
            let balance = self.account.state().map(|state| state.balance);
            let told = event.balance().or(balance);
            assert_eq!(told.map(|b| b.to_string()), balance.map(|b| b.to_string()), "{event:?}");
            let (event_type, data) = Account::encode(event);
            let view = stored(event_type, &data);
            let decoded = Account::decode(view).expect("what was encoded can be decoded");
            assert_eq!(&decoded, event, "{}", String::from_utf8_lossy(&data));
            self.stored.evolve(&decoded);
            self.books.apply(view).expect("small figures");
        }
        assert_eq!(self.stored, self.account, "a replay gives another state");
        let snapshot = self.account.to_snapshot();
        let restored = Account::from_snapshot(&snapshot).expect("a snapshot can be read");
        assert_eq!(restored, self.account, "a snapshot gives another state");
        assert_eq!(restored.to_snapshot(), snapshot, "digits were lost in a snapshot");
        assert!(self.books.is_balanced(), "{:?}", self.books);
        Ok(())
    }

    fn figure(&self, key: &str, now: Timestamp) -> String {
        let state = self.account.state().expect("the account is open");
        let customers = self.books.sums(state.currency).map(|sums| sums.customers);
        assert_eq!(customers.unwrap_or_default(), state.balance, "the books and the balance");
        match key {
            "balance" => state.balance.to_string(),
            "available" => state.available(now).to_string(),
            "held" => state.held(now).to_string(),
            "holds" => state.holds(now).count().to_string(),
            "withdrawn" => state.withdrawn_today(now).to_string(),
            "overdraft" => state.overdraft_limit.to_string(),
            "daily" => state.daily_withdrawal_limit.to_string(),
            "status" => state.status.as_str().to_owned(),
            "flagged" => if state.flag.is_some() { "yes" } else { "no" }.to_owned(),
            "hour" => state.transfers_this_hour(now).to_string(),
            "day" => state.transfers_today(now).to_string(),
            "events" => self.last.join(","),
            "updated" => match state.updated_at.0 - START {
                0 => "+0s".to_owned(),
                3_600_000_000_000 => "+1h".to_owned(),
                86_400_000_000_000 => "+1d".to_owned(),
                _ => time::Rfc3339(state.updated_at).to_string(),
            },
            _ => panic!("'{key}' is a figure"),
        }
    }
}

fn stored<'a>(event_type: &'a str, data: &'a [u8]) -> EventView<'a> {
    EventView {
        position: Position(1),
        revision: Revision(0),
        time: Timestamp(0),
        id: Uuid::nil(),
        stream: "ledger.account-1",
        event_type,
        content_type: ContentType::Json,
        tombstone: false,
        metadata: b"",
        data,
    }
}

/// What comes of a line's last step, as the line would say it.
fn outcome(steps: &str, expected: &str) -> String {
    let mut live = Live::default();
    let mut now = Timestamp(START);
    let mut steps = steps.split(';').map(str::trim).peekable();
    while let Some(text) = steps.next() {
        if let Some(duration) = duration(text) {
            now.0 += duration;
            continue;
        }
        if text == "look" {
            continue;
        }
        let step = Step(text.split_whitespace().collect());
        let result = live.execute(&command(&step, now), now);
        match (result, steps.peek()) {
            (Ok(()), _) => {}
            (Err(rejection), None) => return rejection.word().to_owned(),
            (Err(rejection), Some(_)) => return format!("{text}: {rejection}"),
        }
    }
    let keys =
        expected.split_whitespace().map(|pair| pair.split_once('=').map_or("balance", |p| p.0));
    let figures: Vec<String> = keys.map(|key| format!("{key}={}", live.figure(key, now))).collect();
    figures.join(" ")
}

#[test]
fn every_rule_of_the_table_holds() {
    let lines = RULES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut wrong = Vec::new();
    for line in lines {
        let (steps, expected) = line.split_once("=>").expect("a line has an outcome");
        let found = outcome(steps, expected.trim());
        if found != expected.trim() {
            wrong.push(format!("{line}\n   but: {found}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// An account with this much in it, in US dollars.
fn opened(deposit: &str) -> Live {
    let mut live = Live::default();
    let step = format!("open checking USD {deposit}");
    let step = Step(step.split(' ').collect());
    live.execute(&command(&step, Timestamp(START)), Timestamp(START)).expect("a good opening");
    live
}

/// What is wrong with `command` of an account with 10 USD: the word and the field.
fn fault(command: &AccountCommand) -> Option<(&'static str, Option<&'static str>)> {
    let rejection = opened("10").execute(command, Timestamp(START)).err()?;
    Some((rejection.word(), rejection.field()))
}

#[test]
fn descriptions_are_short_and_printable() {
    let cases = [
        (String::new(), None),
        ("x".repeat(1_000), None),
        ("x".repeat(1_001), Some("text_too_long")),
        ("é".repeat(500), None),
        ("é".repeat(500) + "x", Some("text_too_long")),
        ("x".repeat(1_000_000), Some("text_too_long")),
        ("a\nb".to_owned(), Some("text_not_printable")),
        ("a\u{85}b".to_owned(), Some("text_not_printable")),
    ];
    for (text, word) in cases {
        for step in ["deposit 1", "withdraw 1", "fee 1", "debit 1", "hold a 1"] {
            let mut command = command(&Step(step.split(' ').collect()), Timestamp(START));
            match &mut command {
                AccountCommand::Deposit(c)
                | AccountCommand::Withdraw(c)
                | AccountCommand::ChargeFee(c) => c.description = text.clone(),
                AccountCommand::DebitTransfer(c) => c.description = text.clone(),
                AccountCommand::PlaceHold(c) => c.description = text.clone(),
                other => panic!("{other:?} has no description"),
            }
            let expected = word.map(|word| (word, Some("description")));
            assert_eq!(fault(&command), expected, "{step} {} bytes", text.len());
        }
    }
}

#[test]
fn names_and_reasons_are_short_and_printable_and_say_something() {
    let cases = [
        (String::new(), Some("text_missing")),
        ("  ".to_owned(), Some("text_missing")),
        ("x".repeat(200), None),
        ("x".repeat(201), Some("text_too_long")),
        ("a\0b".to_owned(), Some("text_not_printable")),
    ];
    for (text, word) in cases {
        let (x, transaction_id) = ("x".to_owned(), id("transaction"));
        let frozen_by = AccountCommand::Freeze(FreezeAccount {
            reason: x.clone(),
            frozen_by: text.clone(),
            transaction_id,
        });
        let reason = AccountCommand::Freeze(FreezeAccount {
            reason: text.clone(),
            frozen_by: x.clone(),
            transaction_id,
        });
        let flagged_by = AccountCommand::Flag(FlagAccount {
            reason: x,
            flagged_by: text.clone(),
            transaction_id,
        });
        for (command, field) in
            [(frozen_by, "frozen_by"), (reason, "reason"), (flagged_by, "flagged_by")]
        {
            assert_eq!(fault(&command), word.map(|word| (word, Some(field))), "{field} {text:?}");
        }
    }
}

#[test]
fn no_formality_keeps_a_refund_or_a_credit_from_arriving() {
    let long = "x\n".repeat(2_000);
    let mut live = opened("10");
    let step = |text: &'static str| Step(text.split(' ').collect());
    for text in ["credit 1", "refund 1"] {
        let mut command = command(&step(text), Timestamp(START));
        match &mut command {
            AccountCommand::CreditTransfer(c) => c.description = long.clone(),
            AccountCommand::RefundTransfer(c) => {
                (c.description, c.reason) = (long.clone(), long.clone());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(live.execute(&command, Timestamp(START)), Ok(()), "{text}");
    }
}

#[test]
fn a_balance_and_the_number_of_holds_are_bounded() {
    let mut live = opened("1000000000000000");
    let run = |live: &mut Live, text: &str| {
        let step = Step(text.split(' ').collect());
        live.execute(&command(&step, Timestamp(START)), Timestamp(START)).map_err(|r| r.word())
    };
    for _ in 1..1_000 {
        run(&mut live, "deposit 1000000000000000").expect("below the largest balance");
    }
    assert_eq!(live.figure("balance", Timestamp(START)), "1000000000000000000.00");
    for text in ["deposit 0.01", "credit 0.01", "refund 0.01"] {
        assert_eq!(run(&mut live, text), Err("balance_limit_exceeded"), "{text}");
    }
    run(&mut live, "withdraw 0.01").expect("it is there");
    run(&mut live, "deposit 0.01").expect("there is room");

    let mut account = opened("1000").account;
    let place = |account: &Account, n: u32| {
        let step = format!("hold {n} 0.01");
        account
            .decide(&command(&Step(step.split(' ').collect()), Timestamp(START)), Timestamp(START))
    };
    for n in 0..1_000 {
        for event in place(&account, n).expect("below the limit") {
            account.evolve(&event);
        }
    }
    assert_eq!(place(&account, 1_000).map_err(|r| r.word()), Err("too_many_holds"));
    assert!(account.to_snapshot().len() < 300 * 1024, "{}", account.to_snapshot().len());
}

#[test]
fn rejections_name_the_figures() {
    let live = opened("100");
    let cases = [
        ("withdraw 600.01", "600.01 USD are more than the 600.00 available: balance 100.00"),
        ("withdraw 1 EUR", "the account is in USD, the amount in EUR"),
        ("deposit 0.001", "amount: USD has 2 digits after the point, '0.001' has more"),
        ("hold a 1 expires=-1s", "2026-03-01T23:59:59.000000000Z is not after"),
        ("limits overdraft=0.001", "overdraft_limit: USD has 2 digits"),
        ("close", "the balance is 100.00 USD"),
        ("capture a", "no hold "),
    ];
    for (text, expected) in cases {
        let step = Step(text.split(' ').collect());
        let command = command(&step, Timestamp(START));
        let rejection = live.account.decide(&command, Timestamp(START)).expect_err(text);
        assert!(rejection.to_string().contains(expected), "{text}: {rejection}");
    }
}
