use daybook_model::NewEvent;
use serde_json::json;

use super::*;

/// A world in which all is well: two appends, one completed and one compensated transfer, and one
/// that was compensated before anything moved.
#[derive(Clone)]
struct World {
    memory: Memory,
    log: Vec<Entry>,
    followed: Followed,
    books: Books,
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn event(number: u128) -> NewEvent {
    NewEvent::json(id(number), "Happened", format!("{{\"n\":{number}}}"))
}

fn sound() -> World {
    let mut log = Vec::new();
    let mut add = |stream: &str, number: u128, event_type: &str, data: String| {
        let revision = log.iter().filter(|entry: &&Entry| entry.stream == stream).count() as u64;
        log.push(Entry {
            position: log.len() as u64,
            stream: stream.to_owned(),
            revision,
            id: id(number),
            event_type: event_type.to_owned(),
            data: data.into(),
        });
    };
    add("$store", 0, "Begun", String::new());
    for number in 1..=3 {
        add("chaos-1", number, "Happened", format!("{{\"n\":{number}}}"));
    }
    let legs = [
        (1, "ledger.account-0", "TransferDebited"),
        (1, "ledger.account-1", "TransferCredited"),
        (1, "ledger.transfer-1", "PaymentCompleted"),
        (2, "ledger.account-1", "TransferDebited"),
        (2, "ledger.account-1", "TransferRefunded"),
        (2, "ledger.transfer-2", "PaymentRejected"),
        (3, "ledger.transfer-3", "PaymentRejected"),
    ];
    for (number, (transfer, stream, event_type)) in (10_u128..).zip(legs) {
        let data = json!({ "transfer_id": id(0x100 + transfer) }).to_string();
        add(stream, number, event_type, data);
    }
    let append = |events: &[u128], told| Append {
        user: 1,
        stream: "chaos-1".to_owned(),
        events: events.iter().map(|number| event(*number)).collect(),
        told: Some(told),
    };
    let transfer = |number: u128, from, told| Transfer {
        id: id(0x100 + number),
        from,
        to: 1 - from,
        cents: 250,
        told: Some(told),
    };
    let memory = Memory {
        accounts: vec![id(0x200), id(0x201)],
        opened_cents: 1_000,
        appends: vec![append(&[1, 2], (1, 2)), append(&[3], (2, 3))],
        transfers: vec![
            transfer(1, 0, End::Completed),
            transfer(2, 1, End::Compensated),
            transfer(3, 0, End::Compensated),
        ],
        oddities: Findings::default(),
    };
    let ids = log.iter().map(|entry| entry.id).collect();
    let followed = Followed { name: "subscriber", ids, ..Followed::default() };
    let sums = json!({
        "customers": "20.00", "cash": "-20.00", "clearing": "0.00", "fees": "0.00",
        "fx_position": "0.00", "total": "0.00",
    });
    let trial_balance =
        json!({ "balanced": true, "currencies": [sums], "verified": { "equal": true } });
    let balances = vec![Some(750), Some(1_250)];
    World { memory, log, followed, books: Books { balances, trial_balance, sagas: Vec::new() } }
}

/// The names of the checks that find something.
fn found(world: &World) -> Vec<&'static str> {
    let checks =
        all(&world.memory, &world.log, std::slice::from_ref(&world.followed), &world.books);
    checks.iter().filter(|check| !check.passed()).map(|check| check.name).collect()
}

#[test]
fn a_sound_history_passes() {
    assert_eq!(found(&sound()), Vec::<&str>::new());
}

#[test]
fn every_broken_history_is_found() {
    type Break = fn(&mut World);
    let cases: [(&str, &[&str], Break); 22] = [
        ("an acknowledged event is lost", &["acknowledged"], |w| {
            w.log.pop();
            w.followed.ids.pop();
            w.memory.transfers.pop();
            w.memory.appends[1].events[0].id = id(99);
        }),
        ("an acknowledged append is somewhere else", &["acknowledged"], |w| {
            w.memory.appends[1].told = Some((2, 7));
        }),
        ("its bytes changed", &["acknowledged"], |w| {
            w.log[2].data = Bytes::from_static(b"other");
        }),
        ("an append was never settled", &["acknowledged"], |w| w.memory.appends[1].told = None),
        ("a user was told what cannot be", &["acknowledged"], |w| {
            w.memory.oddities.add(|| "wrong revision".to_owned());
        }),
        ("an event is there twice", &["once"], |w| w.log[5].id = w.log[4].id),
        ("half of an append is there", &["acknowledged", "once"], |w| {
            w.log[2].id = id(77);
        }),
        ("an event that nobody sent", &["once"], |w| {
            let stray = Entry { revision: 3, position: 11, id: id(88), ..w.log[3].clone() };
            w.followed.ids.push(stray.id);
            w.log.push(stray);
        }),
        ("positions have a gap", &["order"], |w| w.log[10].position = 11),
        ("revisions have a gap", &["order"], |w| w.log[10].revision = 1),
        ("a user's appends are reordered", &["order"], |w| {
            w.memory.appends.swap(0, 1);
        }),
        ("a subscriber missed the last event", &["subscriber"], |w| {
            w.followed.ids.pop();
        }),
        ("a subscriber missed one on the way", &["subscriber"], |w| {
            w.followed.ids.remove(4);
        }),
        ("a subscriber saw one twice", &["subscriber"], |w| {
            w.followed.ids.insert(4, w.log[4].id);
        }),
        ("a subscriber saw two in the wrong order", &["subscriber"], |w| {
            w.followed.ids.swap(4, 5);
        }),
        ("a subscriber was told of a gap", &["subscriber"], |w| {
            w.followed.findings.add(|| "a gap".to_owned());
        }),
        ("a credit is missing", &["transfers", "money"], |w| {
            w.log[5].event_type = "Noted".to_owned();
        }),
        ("a debit is there twice", &["transfers"], |w| {
            w.log[8].event_type = "TransferDebited".to_owned();
        }),
        ("a transfer was told otherwise", &["transfers"], |w| {
            w.memory.transfers[1].told = Some(End::Completed);
        }),
        ("money is lost", &["money"], |w| w.books.balances[1] = Some(1_249)),
        ("money is made by the books alone", &["money"], |w| {
            w.books.trial_balance["currencies"][0]["customers"] = json!("20.01");
        }),
        ("a saga hangs", &["sagas"], |w| w.books.sagas.push("it is running".to_owned())),
    ];
    for (name, expected, break_it) in cases {
        let mut world = sound();
        break_it(&mut world);
        // What breaks one promise may break its neighbours: the named ones must be among them.
        let found = found(&world);
        for expected in expected {
            assert!(found.contains(expected), "{name}: {found:?} without {expected}");
        }
    }
}

#[test]
fn what_could_not_be_asked_has_not_passed() {
    type Break = fn(&mut World);
    let cases: [Break; 4] = [
        |w| w.books.trial_balance = Value::Null,
        |w| w.books.balances.clear(),
        |w| w.books.balances[0] = None,
        |w| w.books.trial_balance["currencies"][0]["fees"] = json!("0"),
    ];
    for break_it in cases {
        let mut world = sound();
        break_it(&mut world);
        assert_eq!(found(&world), ["money"]);
    }
}

#[test]
fn amounts_are_read_exactly_or_not_at_all() {
    for (text, expected) in [
        ("12.34", Some(1234)),
        ("-0.05", Some(-5)),
        ("-12.34", Some(-1234)),
        ("1.5", None),
        ("15", None),
        ("+1.00", None),
        ("--1.00", None),
        (".50", None),
    ] {
        // Two signs are no amount: the rest after them is parsed as a whole.
        assert_eq!(cents(&json!(text)), expected, "{text}");
    }
}
