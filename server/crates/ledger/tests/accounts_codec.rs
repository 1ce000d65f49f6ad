//! Events of accounts as they are stored. These texts are read for ever: a test that fails here
//! says that a released server's events would not be understood any more.

use daybook_ledger::account::{Account, AccountEvent, account_stream};
use daybook_ledger::books::{AccountClass, Books, Leg};
use daybook_ledger::time;
use daybook_model::{Aggregate, ContentType, EventView, Position, Revision, Timestamp, stream};
use uuid::Uuid;

/// One event of each type, byte for byte.
const STORED: &str = r#"
AccountOpened {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","account_type":"checking","currency":"USD","owner_id":"4f7f9b86-18a5-4b62-8a5c-95b7a16d6f02","initial_balance":"1000.00","contra":"cash","overdraft_limit":"500.00","daily_withdrawal_limit":"5000.00","transaction_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","occurred_at":"2026-03-02T00:00:00.000000000Z"}
MoneyDeposited {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","amount":"10.50","currency":"USD","contra":"cash","balance":"1010.50","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","description":"salary","occurred_at":"2026-03-02T00:00:00.000000001Z"}
MoneyWithdrawn {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","amount":"0.01","currency":"USD","contra":"cash","balance":"1010.49","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","description":"","occurred_at":"2026-03-02T00:00:00.000000001Z"}
FeeCharged {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","amount":"7","currency":"JPY","contra":"fees","balance":"-7","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","description":"Überweisung „eilig“","occurred_at":"2026-03-02T00:00:00.000000001Z"}
TransferDebited {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","transfer_id":"d2719a3f-1c6b-4a53-9a52-1df3a4b5c604","counterparty_id":"4f7f9b86-18a5-4b62-8a5c-95b7a16d6f02","amount":"250.00","currency":"USD","contra":"clearing","balance":"-250.00","description":"rent","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
TransferCredited {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","transfer_id":"d2719a3f-1c6b-4a53-9a52-1df3a4b5c604","counterparty_id":"4f7f9b86-18a5-4b62-8a5c-95b7a16d6f02","amount":"230.33","currency":"EUR","contra":"fx_position","balance":"1000000000000000230.33","description":"rent","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
TransferRefunded {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","transfer_id":"d2719a3f-1c6b-4a53-9a52-1df3a4b5c604","counterparty_id":"4f7f9b86-18a5-4b62-8a5c-95b7a16d6f02","amount":"250.00","currency":"USD","contra":"clearing","balance":"0.00","description":"rent","reason":"risk_check_failed: flagged","debited_at":"2026-03-01T23:59:59.999999999Z","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
HoldPlaced {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","hold_id":"a5b1c2d3-0e4f-4a6b-8c7d-9e0f1a2b3c05","amount":"40.000","currency":"KWD","description":"hotel","expires_at":"2026-03-09T00:00:00.000000000Z","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
HoldPlaced {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","hold_id":"a5b1c2d3-0e4f-4a6b-8c7d-9e0f1a2b3c05","amount":"40.00","currency":"USD","description":"hotel","expires_at":null,"transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
HoldCaptured {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","hold_id":"a5b1c2d3-0e4f-4a6b-8c7d-9e0f1a2b3c05","amount":"15.00","currency":"USD","contra":"cash","balance":"995.49","remaining":"25.00","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","description":"hotel","occurred_at":"2026-03-02T00:00:00.000000001Z"}
HoldReleased {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","hold_id":"a5b1c2d3-0e4f-4a6b-8c7d-9e0f1a2b3c05","amount":"25.00","currency":"USD","reason":"left early","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
HoldExpired {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","hold_id":"a5b1c2d3-0e4f-4a6b-8c7d-9e0f1a2b3c05","amount":"25.00","currency":"USD","occurred_at":"2026-03-02T00:00:00.000000001Z"}
AccountFrozen {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","reason":"lost card","frozen_by":"support","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
AccountUnfrozen {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","unfrozen_by":"support","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
AccountClosed {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","reason":"","closed_by":"owner","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
LimitsChanged {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","currency":"USD","overdraft_limit":"0.00","daily_withdrawal_limit":"10000.00","changed_by":"support","reason":"asked for it","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
AccountFlagged {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","reason":"suspicious \"activity\"","flagged_by":"support","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
AccountUnflagged {"account_id":"0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01","unflagged_by":"support","transaction_id":"7c1f0a52-3a7e-4c0d-8f55-0c6f9a1b2c03","occurred_at":"2026-03-02T00:00:00.000000001Z"}
"#;

fn stored() -> impl Iterator<Item = (&'static str, &'static str)> {
    STORED.lines().filter_map(|line| line.split_once(' '))
}

fn view<'a>(event_type: &'a str, data: &'a str) -> EventView<'a> {
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
        data: data.as_bytes(),
    }
}

fn decode(event_type: &str, data: &str) -> Result<AccountEvent, String> {
    Account::decode(view(event_type, data)).map_err(|e| e.to_string())
}

#[test]
fn stored_events_are_read_and_written_byte_for_byte() {
    for (event_type, json) in stored() {
        let event = decode(event_type, json).unwrap_or_else(|e| panic!("{json}: {e}"));
        let (written_type, written) = Account::encode(&event);
        assert_eq!(event.event_type(), event_type);
        assert_eq!((written_type, String::from_utf8_lossy(&written).as_ref()), (event_type, json));
    }
}

#[test]
fn an_event_tells_whose_it_is_and_when_it_happened() {
    for (event_type, json) in stored() {
        let event = decode(event_type, json).expect("as above");
        assert_eq!(event.account_id().to_string(), "0b9d2b43-5a5d-4f0e-9f34-6a2c7d1e8f01");
        let field = |name: &str| {
            let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
            value.get(name).and_then(|value| value.as_str().map(str::to_owned))
        };
        let occurred_at = time::Rfc3339(event.occurred_at()).to_string();
        assert_eq!(Some(occurred_at), field("occurred_at"), "{event_type}");
        let transaction = event.transaction_id().map(|id| id.to_string());
        assert_eq!(transaction, field("transaction_id"), "{event_type}");
    }
}

#[test]
fn fields_of_newer_versions_are_ignored() {
    for (event_type, json) in stored() {
        let newer = json.replacen('{', r#"{"added_later":{"x":[1,2]},"#, 1);
        assert_eq!(decode(event_type, &newer), decode(event_type, json), "{event_type}");
    }
}

#[test]
fn what_the_ledger_cannot_have_written_is_refused() {
    let deposit = stored().nth(1).expect("a deposit").1;
    let opened = stored().next().expect("an opening").1;
    let limits = stored().nth(15).expect("limits").1;
    let captured = stored().nth(9).expect("a capture").1;
    let cases = [
        ("MoneyDeposited", deposit.replace(r#""10.50""#, r#""10.5""#)),
        ("MoneyDeposited", deposit.replace(r#""10.50""#, r#""10.500""#)),
        ("MoneyDeposited", deposit.replace(r#""10.50""#, r#""-10.50""#)),
        ("MoneyDeposited", deposit.replace(r#""10.50""#, r#""1000000000000000.01""#)),
        ("MoneyDeposited", deposit.replace(r#""10.50""#, "10.50")),
        ("MoneyDeposited", deposit.replace(r#""10.50""#, r#""ten""#)),
        ("MoneyDeposited", deposit.replace("1010.50", "1010.5")),
        ("MoneyDeposited", deposit.replace("1010.50", "-1010.500")),
        ("MoneyDeposited", deposit.replace("1010.50", "all")),
        ("MoneyDeposited", deposit.replace("balance", "left")),
        ("MoneyDeposited", deposit.replace("USD", "JPY")),
        ("MoneyDeposited", deposit.replace("USD", "XAU")),
        ("MoneyDeposited", deposit.replace("cash", "customers")),
        ("MoneyDeposited", deposit.replace("amount", "sum")),
        ("MoneyDeposited", deposit.replace("2026-03-02T", "2026-03-32T")),
        ("MoneyDeposited", deposit.replace("7c1f0a52", "7c1f0a5")),
        ("MoneyDeposited", deposit[..deposit.len() - 1].to_owned()),
        ("MoneyDeposited", String::new()),
        ("AccountOpened", opened.replace("1000.00", "1000.0")),
        ("AccountOpened", opened.replace("500.00", "500.0")),
        ("AccountOpened", opened.replace("5000.00", "5000.000")),
        ("AccountOpened", opened.replace("checking", "current")),
        ("LimitsChanged", limits.replace("0.00\",\"daily", "-1.00\",\"daily")),
        ("LimitsChanged", limits.replace("10000.00", "10000")),
        ("HoldCaptured", captured.replace("25.00", "25")),
        ("HoldCaptured", captured.replace("995.49", "995")),
        ("MoneyBurnt", deposit.to_owned()),
        ("PaymentInitiated", "{}".to_owned()),
    ];
    for (event_type, json) in cases {
        let error = decode(event_type, &json).expect_err(&json);
        assert!(error.contains(event_type), "the message names the event: {error}");
    }
}

#[test]
fn what_can_move_money_says_the_balance_after_it() {
    for (event_type, json) in stored() {
        let event = decode(event_type, json).expect("as above");
        let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let field = value.get("balance").or(value.get("initial_balance"));
        let found = event.balance().map(|balance| serde_json::Value::from(balance.to_string()));
        assert_eq!(found.as_ref(), field, "{event_type}");
        assert_eq!(event.balance().is_some(), event.legs().is_some(), "{event_type}");
    }
}

#[test]
fn each_event_has_the_legs_its_name_says() {
    let found: Vec<(&str, Option<String>)> = stored()
        .map(|(event_type, json)| {
            let legs = decode(event_type, json).expect("as above").legs();
            (event_type, legs.map(|legs| legs.map(show).join(", ")))
        })
        .filter(|(_, legs)| legs.is_some())
        .collect();
    let expected = [
        ("AccountOpened", "Customers +1000.00 USD, Cash -1000.00 USD"),
        ("MoneyDeposited", "Customers +10.50 USD, Cash -10.50 USD"),
        ("MoneyWithdrawn", "Customers -0.01 USD, Cash +0.01 USD"),
        ("FeeCharged", "Customers -7 JPY, Fees +7 JPY"),
        ("TransferDebited", "Customers -250.00 USD, Clearing +250.00 USD"),
        ("TransferCredited", "Customers +230.33 EUR, FxPosition -230.33 EUR"),
        ("TransferRefunded", "Customers +250.00 USD, Clearing -250.00 USD"),
        ("HoldCaptured", "Customers -15.00 USD, Cash +15.00 USD"),
    ]
    .map(|(event_type, legs)| (event_type, Some(legs.to_owned())));
    assert_eq!(found, expected);
}

fn show(leg: Leg) -> String {
    format!("{:?} {:+} {}", leg.class, leg.amount, leg.currency)
}

#[test]
fn the_books_sum_the_legs_by_currency_and_class() {
    let mut books = Books::default();
    for (event_type, json) in stored() {
        books.apply(view(event_type, json)).expect("small figures");
        assert!(books.is_balanced(), "after {event_type}: {books:?}");
    }
    let json = serde_json::to_string(&books).expect("texts");
    assert_eq!(
        json,
        concat!(
            r#"{"EUR":{"customers":"230.33","cash":"0.00","clearing":"0.00","fees":"0.00","#,
            r#""fx_position":"-230.33"},"#,
            r#""JPY":{"customers":"-7","cash":"0","clearing":"0","fees":"7","fx_position":"0"},"#,
            r#""USD":{"customers":"995.49","cash":"-995.49","clearing":"0.00","fees":"0.00","#,
            r#""fx_position":"0.00"}}"#
        )
    );
    let restored: Books = serde_json::from_str(&json).expect("what was written");
    assert_eq!(restored, books);
    for (currency, sums) in books.currencies() {
        assert!(sums.total().is_zero());
        assert_eq!(books.sums(currency).map(|s| s.of(AccountClass::Fees)), Some(sums.fees));
    }
}

#[test]
fn books_that_do_not_add_up_say_so() {
    let made = r#"{"USD":{"customers":"0.01","cash":"0.00","clearing":"0.00","fees":"0.00",
        "fx_position":"0.00"}}"#;
    let books: Books = serde_json::from_str(made).expect("books");
    assert!(!books.is_balanced());
}

#[test]
fn books_refuse_what_they_cannot_count_and_stay_as_they_were() {
    let full = r#"{"USD":{"customers":"792281625142643375935439503.35","cash":"0.00",
        "clearing":"0.00","fees":"0.00","fx_position":"-792281625142643375935439503.35"}}"#;
    let full: Books = serde_json::from_str(full).expect("books");
    let (event_type, deposit) = stored().nth(1).expect("a deposit");
    let mut books = full.clone();
    let error = books.apply(view(event_type, deposit)).expect_err("an overflow").to_string();
    assert!(error.contains("USD") && error.contains("overflow"), "{error}");
    assert_eq!(books, full);
    let error = books.apply(view(event_type, "{}")).expect_err("no deposit").to_string();
    assert!(error.contains("MoneyDeposited"), "{error}");
    assert_eq!(books, full);
}

#[test]
fn an_account_s_stream_belongs_to_the_ledger() {
    let name = account_stream(Uuid::nil());
    assert_eq!(name.as_str(), "ledger.account-00000000-0000-0000-0000-000000000000");
    assert_eq!(stream::category(name.as_str()), Some("ledger.account"));
    assert!(name.is_reserved());
}

#[test]
fn snapshots_that_cannot_be_read_are_none() {
    for data in ["", "null2", "{}", "[]", r#"{"balance":"1.00"}"#] {
        assert_eq!(Account::from_snapshot(data.as_bytes()), None, "{data:?}");
    }
    let empty = Account::default();
    assert_eq!(Account::from_snapshot(&empty.to_snapshot()), Some(empty));
}
