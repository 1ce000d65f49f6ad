//! What may be asked, what it comes to, how it is stored, and what its records mean.

use daybook_model::{ContentType, EventView, ExpectedRevision, Position, Revision};
use rust_decimal::Decimal;

use super::*;
use crate::currency::Currency;
use crate::saga::{Next, State};

fn currency(code: &str) -> Currency {
    Currency::from_code(code).expect("a currency")
}

fn decimal(text: &str) -> Decimal {
    text.parse().expect("a number")
}

fn s(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000_000)
}

fn request(amount: &str, code: &str, fx: Option<(&str, &str, Rounding)>) -> TransferRequest {
    TransferRequest {
        transfer_id: Uuid::from_u128(7),
        sender_account_id: Uuid::from_u128(1),
        receiver_account_id: Uuid::from_u128(2),
        amount: decimal(amount),
        currency: currency(code),
        description: "rent".to_owned(),
        fx: fx.map(|(rate, code, rounding)| FxRequest {
            rate: decimal(rate),
            currency: currency(code),
            rounding,
        }),
    }
}

fn initiated(request: &TransferRequest) -> Result<PaymentInitiated, InvalidTransfer> {
    request.initiate(s(0), Duration::from_secs(300))
}

#[test]
fn what_the_receiver_gets_is_reckoned_exactly_and_rounded_once_as_asked() {
    use Rounding::{Down, HalfEven, HalfUp, Up};
    let cases = [
        ("100.00", "USD", Some(("0.9213", "EUR", HalfEven)), "92.13 EUR"),
        ("100", "USD", None, "100.00 USD"),
        ("0.01", "USD", None, "0.01 USD"),
        ("0.10", "USD", Some(("0.25", "EUR", HalfEven)), "0.02 EUR"),
        ("0.30", "USD", Some(("0.25", "EUR", HalfEven)), "0.08 EUR"),
        ("0.10", "USD", Some(("0.25", "EUR", HalfUp)), "0.03 EUR"),
        ("0.10", "USD", Some(("0.29", "EUR", Down)), "0.02 EUR"),
        ("0.10", "USD", Some(("0.21", "EUR", Up)), "0.03 EUR"),
        ("1.00", "USD", Some(("155.499", "JPY", HalfUp)), "155 JPY"),
        ("1", "JPY", Some(("0.002", "KWD", HalfEven)), "0.002 KWD"),
        ("1000000000000000", "JPY", Some(("0.000000000001", "USD", HalfEven)), "1000.00 USD"),
    ];
    for (amount, code, fx, expected) in cases {
        let (credited, currency) =
            initiated(&request(amount, code, fx)).expect("a good request").credited();
        assert_eq!(format!("{credited} {currency}"), expected, "{amount} {code} {fx:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_field_s_name() {
    use Rounding::{Down, HalfEven};
    let fx = |rate, code| Some((rate, code, HalfEven));
    let with = |change: fn(&mut TransferRequest)| {
        let mut request = request("1.00", "USD", None);
        change(&mut request);
        request
    };
    let cases = [
        (request("0", "USD", None), "amount"),
        (request("-1", "USD", None), "amount"),
        (request("10.001", "USD", None), "amount"),
        (request("1.5", "JPY", None), "amount"),
        (request("1000000000000000.01", "USD", None), "amount"),
        (with(|r| r.receiver_account_id = r.sender_account_id), "receiver_account_id"),
        (with(|r| r.description = "x".repeat(1_001)), "description"),
        (with(|r| r.description = "a\nb".to_owned()), "description"),
        (request("1.00", "USD", fx("0", "EUR")), "fx.rate"),
        (request("1.00", "USD", fx("-1", "EUR")), "fx.rate"),
        (request("1.00", "USD", fx("1000000000.1", "EUR")), "fx.rate"),
        (request("1.00", "USD", fx("0.1234567890123", "EUR")), "fx.rate"),
        (request("1.00", "USD", fx("1.1", "USD")), "fx.currency"),
        // The receiver would get nothing.
        (request("0.01", "USD", fx("0.4", "EUR")), "fx.rate"),
        (request("0.01", "USD", Some(("0.99", "EUR", Down))), "fx.rate"),
        // More than may be moved at once, and more digits than can be multiplied exactly.
        (request("1000000000000", "USD", fx("1001", "JPY")), "fx.rate"),
        (request("999999999.99", "USD", fx("999999.123456789012", "EUR")), "fx.rate"),
    ];
    for (request, field) in cases {
        let found = initiated(&request).map_err(|e| e.field);
        assert_eq!(found, Err(field), "{request:?}");
    }
}

#[test]
fn rates_are_read_exactly_or_refused() {
    let cases = [
        ("0.9213", Some("0.9213")),
        ("1", Some("1")),
        ("1000000000", Some("1000000000")),
        ("0.000000000001", Some("0.000000000001")),
        ("0.0000000000001", None),
        ("1000000001", None),
        ("0", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        (".5", None),
        ("5.", None),
        ("", None),
        (" 1", None),
        ("NaN", None),
        ("1_0", None),
        ("99999999999999999999999999999", None),
    ];
    for (text, expected) in cases {
        let found = parse_rate(text).ok().map(|rate| rate.to_string());
        assert_eq!(found.as_deref(), expected, "{text:?}");
    }
}

#[test]
fn the_same_request_at_another_time_is_the_same() {
    let first = initiated(&request("1.00", "USD", None)).expect("a good request");
    let later = request("1", "USD", None).initiate(s(9), Duration::from_secs(1));
    assert!(first.is_same_request(&later.expect("a good request")));
    for other in [
        request("1.01", "USD", None),
        request("1.00", "EUR", None),
        request("1.00", "USD", Some(("2", "EUR", Rounding::Up))),
        TransferRequest { description: String::new(), ..request("1.00", "USD", None) },
        TransferRequest { receiver_account_id: Uuid::nil(), ..request("1.00", "USD", None) },
    ] {
        assert!(!first.is_same_request(&initiated(&other).expect("a good request")), "{other:?}");
    }
}

/// Every event, and its JSON.
fn samples() -> Vec<(TransferEvent, &'static str)> {
    let id = Uuid::from_u128(7);
    let plain = initiated(&request("1.00", "USD", None)).expect("a good request");
    let fx = request("1.00", "USD", Some(("0.9213", "EUR", Rounding::HalfEven)));
    let converting = initiated(&fx).expect("a good request");
    let ended = || PaymentEnded {
        transfer_id: id,
        reason: "account_closed: the receiver".to_owned(),
        occurred_at: s(1),
    };
    vec![
        (
            TransferEvent::Initiated(Arc::new(plain)),
            r#"{"transfer_id":"ID","saga":"payment_transfer","sender_account_id":"00000000-0000-0000-0000-000000000001","receiver_account_id":"00000000-0000-0000-0000-000000000002","amount":"1.00","currency":"USD","description":"rent","fx":null,"deadline":"1970-01-01T00:05:00.000000000Z","occurred_at":"1970-01-01T00:00:00.000000000Z"}"#,
        ),
        (
            TransferEvent::Initiated(Arc::new(converting)),
            r#"{"transfer_id":"ID","saga":"payment_transfer","sender_account_id":"00000000-0000-0000-0000-000000000001","receiver_account_id":"00000000-0000-0000-0000-000000000002","amount":"1.00","currency":"USD","description":"rent","fx":{"rate":"0.9213","currency":"EUR","amount":"0.92","rounding":"half_even"},"deadline":"1970-01-01T00:05:00.000000000Z","occurred_at":"1970-01-01T00:00:00.000000000Z"}"#,
        ),
        (
            TransferEvent::StepCompleted(SagaStepCompleted {
                velocity: None,
                transfer_id: id,
                step: DEBIT_SENDER,
                direction: Direction::Compensation,
                attempt: 1,
                occurred_at: s(1),
            }),
            r#"{"transfer_id":"ID","step":"debit_sender","direction":"compensation","attempt":1,"occurred_at":"1970-01-01T00:00:01.000000000Z"}"#,
        ),
        (
            TransferEvent::StepFailed(SagaStepFailed {
                transfer_id: id,
                step: CHECK_RISK,
                direction: Direction::Action,
                attempt: 2,
                reason: "risk_unreachable: no route".to_owned(),
                is_final: false,
                retry_at: Some(s(2)),
                occurred_at: s(1),
            }),
            r#"{"transfer_id":"ID","step":"check_risk","direction":"action","attempt":2,"reason":"risk_unreachable: no route","is_final":false,"retry_at":"1970-01-01T00:00:02.000000000Z","occurred_at":"1970-01-01T00:00:01.000000000Z"}"#,
        ),
        (
            TransferEvent::StepFailed(SagaStepFailed {
                transfer_id: id,
                step: CREDIT_RECEIVER,
                direction: Direction::Action,
                attempt: 1,
                reason: "receiver_not_found: no".to_owned(),
                is_final: true,
                retry_at: None,
                occurred_at: s(1),
            }),
            r#"{"transfer_id":"ID","step":"credit_receiver","direction":"action","attempt":1,"reason":"receiver_not_found: no","is_final":true,"occurred_at":"1970-01-01T00:00:01.000000000Z"}"#,
        ),
        (
            TransferEvent::Completed(PaymentCompleted {
                transfer_id: id,
                sender_account_id: Uuid::from_u128(1),
                receiver_account_id: Uuid::from_u128(2),
                amount: decimal("1.00"),
                currency: currency("USD"),
                credited_amount: decimal("0.92"),
                credited_currency: currency("EUR"),
                occurred_at: s(1),
            }),
            r#"{"transfer_id":"ID","sender_account_id":"00000000-0000-0000-0000-000000000001","receiver_account_id":"00000000-0000-0000-0000-000000000002","amount":"1.00","currency":"USD","credited_amount":"0.92","credited_currency":"EUR","occurred_at":"1970-01-01T00:00:01.000000000Z"}"#,
        ),
        (TransferEvent::Rejected(ended()), ENDED),
        (TransferEvent::Failed(ended()), ENDED),
        (
            TransferEvent::Resumed(PaymentResumed {
                transfer_id: id,
                resumed_by: "ops".to_owned(),
                occurred_at: s(1),
            }),
            r#"{"transfer_id":"ID","resumed_by":"ops","occurred_at":"1970-01-01T00:00:01.000000000Z"}"#,
        ),
        (
            TransferEvent::Abandoned(PaymentAbandoned {
                transfer_id: id,
                reason: "paid by hand".to_owned(),
                abandoned_by: "ops".to_owned(),
                occurred_at: s(1),
            }),
            r#"{"transfer_id":"ID","reason":"paid by hand","abandoned_by":"ops","occurred_at":"1970-01-01T00:00:01.000000000Z"}"#,
        ),
    ]
}

const ENDED: &str = r#"{"transfer_id":"ID","reason":"account_closed: the receiver","occurred_at":"1970-01-01T00:00:01.000000000Z"}"#;

fn view<'a>(event_type: &'a str, data: &'a [u8]) -> EventView<'a> {
    EventView {
        position: Position(1),
        revision: Revision(0),
        time: s(0),
        id: Uuid::nil(),
        stream: "ledger.transfer-7",
        event_type,
        content_type: ContentType::Json,
        tombstone: false,
        metadata: b"",
        data,
    }
}

#[test]
fn events_are_stored_as_documented_and_read_back() {
    for (event, expected) in samples() {
        let expected = expected.replace("ID", "00000000-0000-0000-0000-000000000007");
        let data = event.encode();
        assert_eq!(std::str::from_utf8(&data), Ok(expected.as_str()));
        assert_eq!(TransferEvent::decode(view(event.event_type(), &data)), Ok(event));
        // A newer version may know more fields.
        let newer = expected.replacen('{', r#"{"news":[1],"#, 1);
        let event = samples().into_iter().map(|(event, _)| event).find(|e| e.encode() == data);
        let event = event.expect("it is a sample");
        assert!(TransferEvent::decode(view(event.event_type(), newer.as_bytes())).is_ok());
    }
    for (event_type, data) in [
        ("PaymentTeleported", "{}"),
        ("PaymentRejected", "{}"),
        ("PaymentRejected", "not json"),
        (
            "SagaStepCompleted",
            r#"{"transfer_id":"00000000-0000-0000-0000-000000000007","step":"dance","direction":"action","attempt":1,"occurred_at":"1970-01-01T00:00:01Z"}"#,
        ),
    ] {
        let wrong = TransferEvent::decode(view(event_type, data.as_bytes()));
        assert_eq!(wrong.map_err(|e| e.event_type), Err(event_type.to_owned()));
    }
}

fn draft() -> Draft {
    Draft::birth(Arc::new(initiated(&request("1.00", "USD", None)).expect("a good request")))
}

fn types(draft: &Draft) -> Vec<String> {
    draft.companion().events.into_iter().map(|event| event.event_type).collect()
}

#[test]
fn a_draft_collects_what_the_next_commit_says() {
    let mut draft = draft();
    draft.done(DEBIT_SENDER, Direction::Action, s(1));
    assert_eq!(types(&draft), ["PaymentInitiated", "SagaStepCompleted"]);
    assert_eq!(draft.companion().expected, ExpectedRevision::NoStream);
    draft.written();
    assert_eq!(draft.revision(), Some(Revision(1)));
    assert_eq!(draft.transfer().debited_at, Some(s(1)));
    draft.done(CHECK_RISK, Direction::Action, s(2));
    draft.done(CREDIT_RECEIVER, Direction::Action, s(2));
    let completed = ["SagaStepCompleted", "SagaStepCompleted", "PaymentCompleted"];
    assert_eq!(types(&draft), completed);
    assert_eq!(draft.companion().expected, ExpectedRevision::Exact(Revision(1)));
    draft.written();
    assert_eq!(draft.revision(), Some(Revision(4)));
    assert_eq!(draft.transfer().progress.state, State::Completed);
    assert_eq!(draft.next(s(3)), Next::Finished);
}

#[test]
fn a_sender_that_refuses_ends_the_transfer_at_once() {
    let mut draft = draft();
    draft.failed(DEBIT_SENDER, Direction::Action, "insufficient_funds: x".to_owned(), None, s(1));
    assert_eq!(types(&draft), ["PaymentInitiated", "SagaStepFailed", "PaymentRejected"]);
    assert_eq!(draft.transfer().progress.state, State::Compensated);
    assert_eq!(draft.transfer().reason.as_deref(), Some("insufficient_funds: x"));
}

#[test]
fn a_transfer_that_cannot_be_undone_waits_for_somebody() {
    let mut draft = draft();
    draft.done(DEBIT_SENDER, Direction::Action, s(1));
    draft.failed(CHECK_RISK, Direction::Action, "risk_check_failed: x".to_owned(), None, s(2));
    let undo = Direction::Compensation;
    assert!(matches!(draft.next(s(2)), Next::Act { step: DEBIT_SENDER, direction, .. }
        if direction == undo));
    draft.failed(DEBIT_SENDER, undo, "account_closed: y".to_owned(), None, s(3));
    let last = types(&draft).split_off(3);
    assert_eq!(last, ["SagaStepFailed", "PaymentFailed"]);
    assert_eq!(draft.transfer().progress.state, State::Failed);
    assert_eq!(draft.transfer().reason.as_deref(), Some("account_closed: y"));
    draft.push(TransferEvent::Resumed(PaymentResumed {
        transfer_id: Uuid::from_u128(7),
        resumed_by: "ops".to_owned(),
        occurred_at: s(4),
    }));
    draft.done(DEBIT_SENDER, undo, s(5));
    assert_eq!(draft.transfer().progress.state, State::Compensated);
    assert_eq!(draft.transfer().ended_at, Some(s(5)));
}

#[test]
fn a_replay_gives_the_live_transfer() {
    let mut draft = draft();
    draft.done(DEBIT_SENDER, Direction::Action, s(1));
    draft.failed(CHECK_RISK, Direction::Action, "risk_unreachable: x".to_owned(), Some(s(3)), s(2));
    draft.failed(CHECK_RISK, Direction::Action, "risk_check_failed: y".to_owned(), None, s(4));
    draft.done(DEBIT_SENDER, Direction::Compensation, s(5));
    let mut replayed = None;
    for event in draft.companion().events {
        let event = TransferEvent::decode(view(&event.event_type, &event.data));
        Transfer::fold(&mut replayed, &event.expect("what was encoded"));
    }
    assert_eq!(replayed.as_ref(), Some(draft.transfer()));
    assert_eq!(draft.transfer().steps.len(), 4);
}

#[test]
fn times_never_go_back_and_ids_depend_on_what_happened() {
    let mut first = draft();
    first.done(DEBIT_SENDER, Direction::Action, s(-5));
    assert_eq!(first.transfer().debited_at, Some(s(0)));
    let mut second = draft();
    second.failed(DEBIT_SENDER, Direction::Action, "x".to_owned(), None, s(0));
    let ids = |draft: &Draft| -> Vec<Uuid> {
        draft.companion().events.iter().map(|event| event.id).collect()
    };
    assert_eq!(ids(&first), ids(&first.clone()));
    assert_eq!(ids(&first)[0], ids(&second)[0]);
    assert_ne!(ids(&first)[1], ids(&second)[1]);
}

#[test]
fn a_timeline_is_bounded() {
    let mut draft = draft();
    draft.done(DEBIT_SENDER, Direction::Action, s(0));
    for n in 0..1_000 {
        let retry_at = Some(s(n + 1));
        draft.failed(CHECK_RISK, Direction::Action, "risk_unreachable".to_owned(), retry_at, s(n));
    }
    let steps = &draft.transfer().steps;
    assert_eq!(steps.len(), TIMELINE_LEN_MAX);
    assert_eq!((steps[0].step, steps[TIMELINE_LEN_MAX - 1].attempt), ("debit_sender", 1_000));
}

#[test]
fn reasons_fit_and_forge_no_lines() {
    assert_eq!(reason("account_closed", "it is"), "account_closed: it is");
    assert_eq!(reason("a", "b\nc\u{7f}"), "a: b c ");
    let long = reason("a", "ü".repeat(500));
    assert!(long.len() <= REASON_SIZE_MAX && long.ends_with("ü…"), "{long}");
}

#[test]
fn streams_and_steps_have_names_that_never_change() {
    let id = Uuid::from_u128(7);
    let stream = transfer_stream(id);
    assert_eq!(stream.as_str(), "ledger.transfer-00000000-0000-0000-0000-000000000007");
    assert_eq!(stream.category(), Some(TRANSFER_CATEGORY));
    assert_eq!(transfer_of_stream(stream.as_str()), Some(id));
    assert_eq!(transfer_of_stream("ledger.account-1"), None);
    let debit = step_transaction(id, DEBIT_SENDER, Direction::Action);
    assert_eq!(debit, Uuid::new_v5(&id, b"debit_sender/action"));
    let refund = step_transaction(id, DEBIT_SENDER, Direction::Compensation);
    assert_eq!(refund, Uuid::new_v5(&id, b"debit_sender/compensation"));
}
