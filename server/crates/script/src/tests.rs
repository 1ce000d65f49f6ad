//! Programs as users write them.

use super::*;

fn event<'a>(stream: &'a str, revision: u64, event_type: &'a str, data: &'a str) -> Event<'a> {
    Event {
        stream,
        revision,
        event_type,
        id: "6e65f1b0-3d1c-4b2e-9a54-8c2f7d0b1a11",
        is_json: true,
        data: Some(data),
        metadata: Some(r#"{"$correlationId":"c-1"}"#),
        link_metadata: None,
        category: None,
    }
}

fn compiled(source: &str) -> Script {
    let mut script = Script::compile(source).expect("the program is sound");
    if script.definition().bi_state {
        script.load_shared(None).expect("it has a first shared state");
    }
    script
}

#[test]
fn a_state_is_folded_from_events() {
    let mut script = compiled(
        "fromStream('account-1').when({
            $init: function () { return { total: 0 } },
            Paid(s, e) { s.total += e.data.amount; },
            Cleared(s) { return { total: 0, cleared: true } },
        }).transformBy(s => ({ Total: s.total })).filterBy(s => s.Total > 1).outputState()",
    );
    let definition = script.definition().clone();
    assert_eq!(definition.sources, Sources::Streams(vec!["account-1".to_owned()]));
    assert_eq!(definition.types.map(|types| types.len()), Some(2));
    assert!(definition.output_state);
    script.load("", None).unwrap();
    assert_eq!(script.result("").unwrap(), None);
    for (number, amount) in [2, 3].into_iter().enumerate() {
        let data = format!(r#"{{"amount":{amount}}}"#);
        let said = script.handle("", &event("account-1", number as u64, "Paid", &data)).unwrap();
        assert_eq!(said, Said::default());
    }
    assert_eq!(script.state("").unwrap().as_deref(), Some(r#"{"total":5}"#));
    assert_eq!(script.result("").unwrap().as_deref(), Some(r#"{"Total":5}"#));
    script.handle("", &event("account-1", 2, "Cleared", "{}")).unwrap();
    assert_eq!(script.state("").unwrap().as_deref(), Some(r#"{"total":0,"cleared":true}"#));
    assert_eq!(script.result("").unwrap(), None);
}

#[test]
fn a_program_writes_in_order_and_logs() {
    let mut script = compiled(
        "fromAll().when({ $any: function (s, e) {
            emit('copy', 'Seen', { id: e.eventId, of: e.metadata.$correlationId }, { by: 'me' });
            linkTo('links', e);
            linkStreamTo('streams', e.streamId, { a: 1 });
            copyTo('copies', e);
            log('seen', { n: e.sequenceNumber });
        } })",
    );
    script.load("", None).unwrap();
    let said = script.handle("", &event("s-1", 7, "T", r#"{"x":1}"#)).unwrap();
    let shown: Vec<_> = said
        .writes
        .iter()
        .map(|w| format!("{} {} {} {} {:?}", w.stream, w.event_type, w.is_json, w.data, w.metadata))
        .collect();
    assert_eq!(
        shown,
        [
            r#"copy Seen true {"id":"6e65f1b0-3d1c-4b2e-9a54-8c2f7d0b1a11","of":"c-1"} Some("{\"by\":\"me\"}")"#,
            "links $> false 7@s-1 None",
            r#"streams $@ false s-1 Some("{\"a\":1}")"#,
            r#"copies T true {"x":1} None"#,
        ]
    );
    assert_eq!(said.lines, [r#"seen, {"n":7}"#]);
}

#[test]
fn partitions_have_states_of_their_own_and_may_share_one() {
    let mut script = compiled(
        "fromCategory('order').partitionBy(e => e.body.customer).when({
            $init: () => ({ n: 0 }),
            $initShared: () => ({ all: 0 }),
            Placed(s, e) { s[0].n += 1; s[1].all += 1; return s; },
        })",
    );
    assert_eq!(script.definition().partitioning, Partitioning::ByFunction);
    assert_eq!(script.definition().category.as_deref(), Some("order"));
    for (stream, customer) in [("order-1", "ada"), ("order-2", "bob"), ("order-3", "ada")] {
        let data = format!(r#"{{"customer":"{customer}"}}"#);
        let event = event(stream, 0, "Placed", &data);
        let partition = script.partition(&event).unwrap().expect("a name");
        assert_eq!(partition, customer);
        if script.state(&partition).unwrap().is_none() {
            script.load(&partition, None).unwrap();
        }
        script.handle(&partition, &event).unwrap();
    }
    assert_eq!(script.state("ada").unwrap().as_deref(), Some(r#"{"n":2}"#));
    assert_eq!(script.state("bob").unwrap().as_deref(), Some(r#"{"n":1}"#));
    assert_eq!(script.shared().unwrap().as_deref(), Some(r#"{"all":3}"#));
    script.forget("ada").unwrap();
    assert_eq!(script.state("ada").unwrap(), None);
    assert_eq!(script.partition(&event("o", 0, "Placed", "{}")).unwrap(), None);
}

#[test]
fn an_event_shows_all_that_it_has() {
    let mut script = compiled(
        "fromAll().foreachStream().when({
            $created(s, e) { s.created = e.streamId; },
            $deleted(s, e, partition, softly) { s.gone = [partition, softly]; },
            T(s, e) { s.seen = JSON.parse(JSON.stringify(e)); e.data.a = 2; s.same = e.body.a; },
        })",
    );
    script.load("s-1", None).unwrap();
    let event = Event { link_metadata: Some(r#"{"l":1}"#), ..event("s-1", 3, "T", r#"{"a":1}"#) };
    script.created("s-1", &event).unwrap();
    script.handle("s-1", &event).unwrap();
    script.deleted("s-1", Deleted::Softly).unwrap();
    let state: serde_json::Value =
        serde_json::from_str(&script.state("s-1").unwrap().expect("a state")).unwrap();
    assert_eq!(state["created"], "s-1");
    assert_eq!(state["gone"], serde_json::json!(["s-1", true]));
    assert_eq!(state["same"], 2);
    let seen = &state["seen"];
    for (name, value) in [
        ("streamId", serde_json::json!("s-1")),
        ("sequenceNumber", serde_json::json!(3)),
        ("eventType", serde_json::json!("T")),
        ("isJson", serde_json::json!(true)),
        ("bodyRaw", serde_json::json!(r#"{"a":1}"#)),
        ("body", serde_json::json!({"a": 1})),
        ("data", serde_json::json!({"a": 1})),
        ("metadata", serde_json::json!({"$correlationId": "c-1"})),
        ("linkMetadata", serde_json::json!({"l": 1})),
        ("partition", serde_json::json!("s-1")),
    ] {
        assert_eq!(seen[name], value, "{name}");
    }
}

#[test]
fn a_program_without_handlers_keeps_the_last_event() {
    let mut script = compiled("fromStream('s').outputState()");
    assert_eq!(script.definition().types, None);
    script.load("", None).unwrap();
    script.handle("", &event("s", 0, "T", r#"{"last":true}"#)).unwrap();
    assert_eq!(script.result("").unwrap().as_deref(), Some(r#"{"last":true}"#));
}

#[test]
fn what_cannot_be_compiled_says_why() {
    let rows: [(&str, &str); 12] = [
        ("fromAll(", "could not compile: "),
        ("1 + 1", "it follows nothing"),
        ("fromStream(7)", "fromStream: a text that is not empty is needed, not 7"),
        ("fromStream('')", "fromStream: a text that is not empty"),
        ("fromAll().when(1)", "when: an object is needed, not 1"),
        ("fromStream('a').foreachStream()", "not a function"),
        ("options({ color: 1 })", "options: there is no option 'color'"),
        ("options({ biState: 1 })", "biState is true or false, not 1"),
        ("fromAll().when({ $deleted() {} })", "$deleted needs foreachStream()"),
        ("fromAll().partitionBy('x')", "partitionBy: a function is needed, not x"),
        ("throw new Error('no')", "could not compile: no"),
        ("for (;;) {}", "took too long to compile"),
    ];
    for (source, reason) in rows {
        let refused = Script::compile(source).expect_err(source).to_string();
        assert!(refused.contains(reason), "{source}: {refused}");
    }
    let large = " ".repeat(SOURCE_SIZE_MAX + 1);
    assert!(matches!(Script::compile(&large), Err(ScriptError::TooLarge { .. })));
    let many = format!("fromStreams({:?})", (0..101).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(matches!(Script::compile(&many), Err(ScriptError::Meaningless { .. })));
}

#[test]
fn a_handler_is_bounded_in_time_memory_and_depth() {
    type Row = (&'static str, fn(&ScriptError) -> bool);
    let rows: [Row; 5] = [
        ("for (;;) {}", |error| matches!(error, ScriptError::TooLong { .. })),
        ("try { for (;;) {} } catch (e) {} for (;;) {}", |error| {
            matches!(error, ScriptError::TooLong { .. })
        }),
        ("const a = []; for (;;) a.push('x'.repeat(1000000) + a.length)", |error| {
            matches!(error, ScriptError::Memory { .. })
        }),
        ("(function f() { f() })()", |error| error.to_string().contains("stack")),
        ("throw new Error('bad ' + e.eventType)", |error| {
            let text = error.to_string();
            text.contains("bad T") && text.contains(":1:")
        }),
    ];
    for (body, is_expected) in rows {
        let mut script = compiled(&format!("fromAll().when({{ T(s, e) {{ {body} }} }})"));
        script.load("", None).unwrap();
        let failed = script.handle("", &event("s", 0, "T", "{}")).expect_err(body);
        assert!(is_expected(&failed), "{body}: {failed}");
    }
}

#[test]
fn what_a_handler_does_wrong_is_told() {
    let rows = [
        ("emit('s', 'T')", "emit: the body: an object is needed, not undefined"),
        ("emit('', 'T', {})", "emit: the stream: a text that is not empty"),
        ("emit('s', 'T', {}, 7)", "emit: the metadata: an object is needed, not 7"),
        ("linkTo('s', {})", "linkTo: no event is undefined@undefined"),
        ("e.metadata.no.such", "cannot read property"),
        ("fromAll()", "fromAll"),
        ("emit('s', 'T', {}, [])", "emit: the metadata: an object is needed, not an array"),
        ("return Promise.resolve({})", "cannot be async"),
    ];
    for (body, reason) in rows {
        let mut script = compiled(&format!("fromAll().when({{ T(s, e) {{ {body} }} }})"));
        script.load("", None).unwrap();
        let failed = script.handle("", &event("s", 0, "T", "{}")).expect_err(body).to_string();
        assert!(failed.contains(reason), "{body}: {failed}");
    }
}

#[test]
fn only_handlers_write() {
    let mut script = compiled(
        "fromAll().when({ $init() { emit('s', 'T', {}); return {} }, T() {} })
            .transformBy(s => { linkTo('s', { sequenceNumber: 1, streamId: 'x' }) })",
    );
    let refused = script.load("", None).expect_err("it writes").to_string();
    assert!(refused.contains("only a handler of events writes"), "{refused}");
    script.load("", Some("{}")).unwrap();
    let refused = script.result("").expect_err("it writes").to_string();
    assert!(refused.contains("only a handler of events writes"), "{refused}");
}

#[test]
fn a_script_can_be_used_by_one_thread_after_the_other() {
    let mut script = compiled("fromAll().when({ $init: () => ({n: 0}), T(s) { s.n += 1; } })");
    script.load("", None).unwrap();
    for _ in 0..3 {
        script = std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    script.handle("", &event("s", 0, "T", "{}")).unwrap();
                    script
                })
                .join()
                .expect("no panic")
        });
    }
    assert_eq!(script.state("").unwrap().as_deref(), Some(r#"{"n":3}"#));
}
