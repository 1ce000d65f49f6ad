//! The rules as a table, and how they are changed and stored.

use daybook_model::{Aggregate, ContentType, EventView, Position, Revision, Timestamp};

use super::*;

fn currency(code: &str) -> Currency {
    Currency::from_code(code).expect("a currency")
}

fn request() -> RiskRequest {
    RiskRequest {
        transfer_id: Uuid::from_u128(1),
        sender_account_id: Uuid::from_u128(2),
        receiver_account_id: Uuid::from_u128(3),
        amount: Decimal::new(1_000_000, 2),
        currency: currency("USD"),
        sender_flag: None,
        receiver_flag: None,
        sender_transfers_hour: 1,
        sender_transfers_day: 1,
    }
}

fn strict() -> Rules {
    Rules {
        maximum_amount: [(currency("USD"), Decimal::new(1_000_000, 2))].into(),
        transfers_per_hour: Some(3),
        transfers_per_day: Some(5),
        reject_flagged: true,
    }
}

#[test]
fn the_first_broken_rule_is_named_with_its_figures() {
    let flag = || Some("suspicious_activity".to_owned());
    let with = |change: fn(&mut RiskRequest)| {
        let mut request = request();
        change(&mut request);
        request
    };
    let approved = "";
    let cases: Vec<(Rules, RiskRequest, &str, &str)> = vec![
        (strict(), request(), approved, ""),
        (Rules::default(), with(|r| r.amount = Decimal::MAX), approved, ""),
        (
            strict(),
            with(|r| r.amount = Decimal::new(1_000_001, 2)),
            "maximum_amount",
            "10000.01 USD is more than 10000.00",
        ),
        (
            strict(),
            with(|r| {
                r.amount = Decimal::new(1_000_001, 2);
                r.currency = currency("EUR");
            }),
            approved,
            "",
        ),
        (strict(), with(|r| r.sender_transfers_hour = 3), approved, ""),
        (
            strict(),
            with(|r| r.sender_transfers_hour = 4),
            "transfers_per_hour",
            "this is transfer 4 of at most 3",
        ),
        (strict(), with(|r| r.sender_transfers_day = 5), approved, ""),
        (
            strict(),
            with(|r| r.sender_transfers_day = 6),
            "transfers_per_day",
            "this is transfer 6 of at most 5",
        ),
        (
            Rules::default(),
            RiskRequest { sender_flag: flag(), ..request() },
            "sender_flagged",
            "account 00000000-0000-0000-0000-000000000002 is flagged: suspicious_activity",
        ),
        (
            Rules::default(),
            RiskRequest { receiver_flag: flag(), ..request() },
            "receiver_flagged",
            "account 00000000-0000-0000-0000-000000000003 is flagged: suspicious_activity",
        ),
        (
            Rules { reject_flagged: false, ..strict() },
            RiskRequest { sender_flag: flag(), receiver_flag: flag(), ..request() },
            approved,
            "",
        ),
    ];
    for (rules, request, expected_rule, expected_detail) in cases {
        let (rule, detail) = match assess(&rules, &request) {
            Assessment::Approved => (String::new(), String::new()),
            Assessment::Rejected { rule, detail } => (rule, detail),
        };
        assert_eq!((rule.as_str(), detail.as_str()), (expected_rule, expected_detail));
    }
}

#[test]
fn rules_are_checked_before_they_hold() {
    let change = |rules: Rules, by: &str| {
        let command = RulesCommand { rules, changed_by: by.to_owned() };
        RulesState::default().decide(&command, Timestamp(7)).map_err(|e| e.field)
    };
    let amount = |amount| Rules { maximum_amount: [(currency("JPY"), amount)].into(), ..strict() };
    let cases = [
        (strict(), "ops", None),
        (amount(Decimal::new(1_5, 1)), "ops", Some("maximum_amount")),
        (amount(Decimal::new(-1, 0)), "ops", Some("maximum_amount")),
        (Rules { transfers_per_hour: Some(0), ..strict() }, "ops", Some("transfers_per_hour")),
        (Rules { transfers_per_day: Some(0), ..strict() }, "ops", Some("transfers_per_day")),
        (strict(), "", Some("changed_by")),
        (strict(), "o\nps", Some("changed_by")),
        (strict(), &"x".repeat(201), Some("changed_by")),
    ];
    for (rules, by, expected) in cases {
        assert_eq!(change(rules.clone(), by).err(), expected, "{rules:?} {by}");
    }
    let scaled = change(amount(Decimal::new(5_0, 1)), "ops").expect("5.0 yen is 5 yen");
    assert_eq!(scaled[0].rules.maximum_amount[&currency("JPY")].to_string(), "5");
}

#[test]
fn rules_survive_storing_and_snapshots() {
    let command = RulesCommand { rules: strict(), changed_by: "ops".to_owned() };
    let mut state = RulesState { changed_at: Some(Timestamp(9)), ..RulesState::default() };
    let events = state.decide(&command, Timestamp(7)).expect("good rules");
    let (event_type, data) = RulesState::encode(&events[0]);
    let text = std::str::from_utf8(&data).expect("JSON is text");
    assert_eq!(
        text,
        r#"{"maximum_amount":{"USD":"10000.00"},"transfers_per_hour":3,"transfers_per_day":5,"#
            .to_owned()
            + r#""reject_flagged":true,"changed_by":"ops","#
            + r#""occurred_at":"1970-01-01T00:00:00.000000009Z"}"#
    );
    let view = |event_type| EventView {
        position: Position(1),
        revision: Revision(0),
        time: Timestamp(7),
        id: Uuid::nil(),
        stream: "ledger.risk",
        event_type,
        content_type: ContentType::Json,
        tombstone: false,
        metadata: b"",
        data: &data,
    };
    assert_eq!(RulesState::decode(view(event_type)).as_ref(), Ok(&events[0]));
    assert!(RulesState::decode(view("AccountOpened")).is_err());
    state.evolve(&events[0]);
    assert_eq!((*state.rules).clone(), strict());
    for state in [state, RulesState::default()] {
        assert_eq!(RulesState::from_snapshot(&state.to_snapshot()), Some(state));
    }
    assert_eq!(RulesState::from_snapshot(b"{"), None);
}
