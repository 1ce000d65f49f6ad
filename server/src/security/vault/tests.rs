//! The keeper before a server that plays Vault, with every fault that it may have.

use std::sync::atomic::{AtomicU64, Ordering};

use daybook_model::{Clock, Entropy, Timer, Timestamp};
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::call::ANSWER_SIZE_MAX;
use super::*;
use crate::security::source::Source;

const SECRET: &str = "canary-4b1d";
const TOKEN: &str = "s.canary-token";
const NOW: i64 = 1_800_000_000;

/// A clock that is moved by hand, and by whoever waits.
#[derive(Debug, Default)]
struct Hands(AtomicU64);

impl Hands {
    fn forward(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).expect("not for ever");
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        let since = i64::try_from(self.0.load(Ordering::Relaxed)).expect("not for ever");
        Timestamp(NOW * 1_000_000_000 + since)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Waits(Arc<Hands>);

impl Timer for Waits {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.forward(duration);
        Box::pin(std::future::ready(()))
    }
}

/// No chance at all.
#[derive(Debug)]
struct Even;

impl Entropy for Even {
    fn bytes(&self) -> [u8; 16] {
        [0; 16]
    }
}

/// What is answered, and what was asked.
#[derive(Default)]
struct Script {
    /// What is answered to a path: a status, and a body.
    answers: Vec<(&'static str, u16, String)>,
    /// Method, path and headers with body of each question.
    asked: Vec<(String, String)>,
    /// Whether it says nothing at all.
    is_mute: bool,
}

/// A server that plays Vault.
struct Play {
    script: Arc<Mutex<Script>>,
    port: u16,
    directory: TempDir,
    hands: Arc<Hands>,
}

impl Play {
    async fn begin() -> Play {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let script = Arc::new(Mutex::new(Script::default()));
        let reading = script.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(answer(stream, reading.clone()));
            }
        });
        let directory = TempDir::new().expect("a directory");
        let play = Play { script, port, directory, hands: Arc::default() };
        play.write("token", TOKEN);
        play.says("auth/token/lookup-self", 200, &json!({"data": {"ttl": 0, "renewable": false}}));
        play
    }

    /// From now on that path is answered so.
    fn says(&self, path: &'static str, status: u16, body: &Value) {
        self.says_text(path, status, body.to_string());
    }

    fn says_text(&self, path: &'static str, status: u16, body: String) {
        let mut script = self.script.lock();
        script.answers.retain(|(known, _, _)| *known != path);
        script.answers.push((path, status, body));
    }

    /// A secret's version.
    fn holds(&self, version: u64, data: &Value) {
        let metadata = json!({"version": version, "created_time": "then"});
        let body = json!({"data": {"data": data, "metadata": metadata}});
        self.says("secret/data/daybook", 200, &body);
    }

    /// How often a path was asked.
    fn times(&self, path: &str) -> usize {
        let line = format!(" /v1/{path} ");
        self.script.lock().asked.iter().filter(|(head, _)| head.contains(&line)).count()
    }

    #[expect(clippy::disallowed_methods, reason = "a test arranges files")]
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).expect("a file");
    }

    fn settings(&self) -> Settings {
        let url = format!("http://127.0.0.1:{}", self.port);
        Settings {
            url: VaultUrl::parse(&url, None).expect("a URL"),
            namespace: Some("bank".to_owned()),
            auth: Auth::TokenFile(self.directory.path().join("token")),
            poll: Duration::from_secs(60),
            timeout: TIMEOUT,
        }
    }

    fn kubernetes(&self) -> Settings {
        self.write("account", "eyJ.canary-account");
        let token_file = self.directory.path().join("account");
        let (mount, role) = ("kubernetes".to_owned(), "daybook".to_owned());
        Settings { auth: Auth::Kubernetes { mount, role, token_file }, ..self.settings() }
    }

    async fn start(&self, settings: &Settings, wanted: &[&Source]) -> Result<Keeper, StartError> {
        let held: Vec<_> = wanted.iter().filter_map(|source| source.held().cloned()).collect();
        let (clock, timer) = (self.hands.clone(), Arc::new(Waits(self.hands.clone())));
        let seams = Seams { clock, timer, entropy: Arc::new(Even) };
        Keeper::start(settings, &held, seams).await
    }
}

/// Answers one question as the script says.
async fn answer(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    let mut read = Vec::new();
    let mut part = [0; 4096];
    let (head, body) = loop {
        let size = stream.read(&mut part).await.expect("a request");
        read.extend_from_slice(&part[..size]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let line = head.lines().next().unwrap_or_default().to_owned();
    let path = line.split(' ').nth(1).unwrap_or_default();
    let found = {
        let mut script = script.lock();
        script.asked.push((line.clone(), format!("{head}\n{body}")));
        let named = |(known, _, _): &&(&str, u16, String)| path == format!("/v1/{known}");
        let found = script.answers.iter().find(named).map(|(_, s, body)| (*s, body.clone()));
        (!script.is_mute).then(|| found.unwrap_or((404, r#"{"errors":[]}"#.to_owned())))
    };
    let Some((status, body)) = found else { return std::future::pending().await };
    let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n", body.len());
    // Whoever asked may have gone before the end of a long answer.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
}

fn secret(field: &str) -> Source {
    let place = format!("vault:secret/daybook#{field}");
    Source::given("--file", Path::new(&place)).expect("a secret")
}

fn text(source: &Source) -> String {
    source.read_secret("--file").expect("fetched")
}

#[tokio::test]
async fn a_secret_that_is_changed_is_taken_up_with_the_next_look() {
    let play = Play::begin().await;
    play.holds(1, &json!({"key": SECRET, "other": "1"}));
    let (key, other) = (secret("key"), secret("other"));
    let mut keeper = play.start(&play.settings(), &[&key, &other]).await.expect("started");
    assert_eq!((text(&key).as_str(), text(&other).as_str()), (SECRET, "1"));
    assert_eq!(play.times("secret/data/daybook"), 1, "one question for both fields");
    let asked = play.script.lock().asked.last().expect("a question").1.to_lowercase();
    for header in [format!("x-vault-token: {TOKEN}"), "x-vault-namespace: bank".to_owned()] {
        assert!(asked.contains(&header), "{asked}");
    }
    play.holds(2, &json!({"key": "new", "other": "1"}));
    let (changed, ended) = keeper.round().await;
    assert!(!changed && ended.is_ok(), "it is not time to look again");
    play.hands.forward(Duration::from_secs(60));
    let (changed, ended) = keeper.round().await;
    assert!(changed && ended.is_ok());
    assert_eq!((text(&key).as_str(), text(&other).as_str()), ("new", "1"));
    // A version without one of them is not taken up in part.
    play.holds(3, &json!({"key": "newer"}));
    play.hands.forward(Duration::from_secs(60));
    let (changed, ended) = keeper.round().await;
    let wrong = ended.expect_err("a field is missing").to_string();
    assert!(!changed && wrong.contains("no field 'other'"), "{wrong}");
    assert_eq!(text(&key), "new");
}

#[tokio::test]
async fn what_does_not_come_at_the_start_is_named_with_what_to_do() {
    let gone = json!({"data": {"data": null, "metadata": {"deletion_time": "then"}}});
    let denied = json!({"errors": ["1 error occurred:\n\t* permission denied\n\n"]});
    let cases: [(u16, String, &[&str], bool); 10] = [
        (403, denied.to_string(), &["403: 1 error occurred: * permission denied", "policy"], false),
        (404, r#"{"errors":[]}"#.into(), &["check mount and path", "KV version 2"], false),
        (404, r#"{"errors":["no handler"]}"#.into(), &["no handler"], false),
        (404, gone.to_string(), &["is deleted"], false),
        (503, r#"{"errors":["Vault is sealed"]}"#.into(), &["Vault is sealed", "unseal"], true),
        (500, "<html>".into(), &["it answers 500"], true),
        (307, String::new(), &["it answers 307"], false),
        (200, format!(r#"{{"data": {{"data": "{SECRET}"}}}}"#), &["cannot be read"], false),
        (200, format!("{{\"data\": \"{SECRET}"), &["cannot be read"], false),
        (200, " ".repeat(ANSWER_SIZE_MAX + 1), &["larger than"], false),
    ];
    for (status, body, said, is_tried_again) in cases {
        let play = Play::begin().await;
        play.says_text("secret/data/daybook", status, body);
        let key = secret("key");
        let wrong = play.start(&play.settings(), &[&key]).await.err().expect("it does not come");
        let wrong = format!("{wrong} {wrong:?}");
        let place = format!("http://127.0.0.1:{}: secret/data/daybook: ", play.port);
        for part in said.iter().chain([&place.as_str()]) {
            assert!(wrong.contains(part), "{status}: '{part}' is not in {wrong}");
        }
        assert!(!wrong.contains("canary"), "{wrong}");
        let times = play.times("secret/data/daybook");
        assert_eq!(times, if is_tried_again { 5 } else { 1 }, "{wrong}");
        assert!(play.hands.monotonic() < Duration::from_secs(30));
    }
}

#[tokio::test]
async fn a_field_that_is_missing_is_told_with_those_that_are_there() {
    let play = Play::begin().await;
    play.holds(1, &json!({"password": SECRET, "user": "u"}));
    let wrong = play.start(&play.settings(), &[&secret("key")]).await.err().expect("no field");
    let wrong = wrong.to_string();
    assert!(wrong.contains("no field 'key'") && wrong.contains("password, user"), "{wrong}");
    assert!(!wrong.contains("canary"), "{wrong}");
}

#[tokio::test]
async fn nobody_there_ends_the_start_after_a_few_tries() {
    let play = Play::begin().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let url = VaultUrl::parse(&format!("http://127.0.0.1:{port}"), None).expect("a URL");
    let settings = Settings { url, ..play.settings() };
    let wrong = play.start(&settings, &[&secret("key")]).await.err().expect("nobody").to_string();
    for part in ["cannot be reached", "--vault-url", "after 5 tries"] {
        assert!(wrong.contains(part), "{wrong}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let play = Play::begin().await;
    play.script.lock().is_mute = true;
    let settings = Settings { timeout: Duration::ZERO, ..play.settings() };
    let wrong = play.start(&settings, &[&secret("key")]).await.err().expect("no answer");
    assert!(wrong.to_string().contains("no answer within"), "{wrong}");
}

#[tokio::test]
async fn what_was_fetched_stays_while_vault_is_away_and_is_renewed_when_it_is_back() {
    let play = Play::begin().await;
    play.holds(1, &json!({"key": SECRET}));
    let key = secret("key");
    let mut keeper = play.start(&play.settings(), &[&key]).await.expect("started");
    for status in [503, 403, 404, 500] {
        play.says("secret/data/daybook", status, &json!({"errors": ["away"]}));
        play.hands.forward(Duration::from_secs(60));
        let (changed, ended) = keeper.round().await;
        assert!(!changed && ended.is_err(), "{status}");
        assert_eq!(text(&key), SECRET, "{status}");
    }
    // It is not waited for the next time to look: what failed is still to be done.
    play.holds(2, &json!({"key": "new"}));
    let (changed, ended) = keeper.round().await;
    assert!(changed && ended.is_ok());
    assert_eq!(text(&key), "new");
}

#[tokio::test]
async fn another_token_in_the_file_is_taken_up() {
    let play = Play::begin().await;
    play.holds(1, &json!({"key": SECRET}));
    let key = secret("key");
    let mut keeper = play.start(&play.settings(), &[&key]).await.expect("started");
    play.write("token", "s.another\n");
    play.hands.forward(Duration::from_secs(60));
    keeper.round().await.1.expect("a round");
    let asked = play.script.lock().asked.last().expect("a question").1.clone();
    assert!(asked.contains("x-vault-token: s.another"), "{asked}");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_one_that_cannot_be_is_told() {
    let play = Play::begin().await;
    let renew = "auth/token/renew-self";
    play.says("auth/token/lookup-self", 200, &json!({"data": {"ttl": 90, "renewable": true}}));
    play.says(
        renew,
        200,
        &json!({"auth": {
            "client_token": TOKEN, "lease_duration": 90, "renewable": true,
        }}),
    );
    play.holds(1, &json!({"key": SECRET}));
    let mut keeper = play.start(&play.settings(), &[&secret("key")]).await.expect("started");
    play.hands.forward(Duration::from_secs(59));
    keeper.round().await.1.expect("a round");
    assert_eq!(play.times(renew), 0, "it holds 31 s more");
    play.hands.forward(Duration::from_secs(1));
    keeper.round().await.1.expect("a round");
    assert_eq!(play.times(renew), 1);
    // Its longest life comes near: less is granted.
    play.says(
        renew,
        200,
        &json!({"auth": {
            "client_token": TOKEN, "lease_duration": 30, "renewable": true,
        }}),
    );
    play.hands.forward(Duration::from_secs(60));
    keeper.round().await.1.expect("a round");
    play.hands.forward(Duration::from_secs(20));
    let wrong = keeper.round().await.1.expect_err("it ends").to_string();
    assert!(wrong.contains("within 10 s") && wrong.contains("--vault-token-file"), "{wrong}");
    // Another one ends that.
    play.write("token", "s.another");
    keeper.round().await.1.expect("a round");
}

#[tokio::test]
async fn kubernetes_logs_in_with_the_accounts_token_and_again_when_it_must() {
    let play = Play::begin().await;
    let (login, renew) = ("auth/kubernetes/login", "auth/token/renew-self");
    let granted = json!({"auth": {
        "client_token": "s.canary-1", "lease_duration": 600, "renewable": true,
    }});
    play.says(login, 200, &granted);
    play.says(renew, 403, &json!({"errors": ["permission denied"]}));
    play.holds(1, &json!({"key": SECRET}));
    let mut keeper = play.start(&play.kubernetes(), &[&secret("key")]).await.expect("started");
    let asked = play.script.lock().asked[0].1.clone();
    assert!(asked.ends_with(r#"{"jwt":"eyJ.canary-account","role":"daybook"}"#), "{asked}");
    assert!(!asked.to_lowercase().contains("x-vault-token"), "{asked}");
    play.hands.forward(Duration::from_secs(400));
    keeper.round().await.1.expect("a round");
    assert_eq!((play.times(renew), play.times(login)), (1, 2), "it is not renewed: log in anew");
    // A token that was taken back is found out by a refusal.
    play.says("secret/data/daybook", 403, &json!({"errors": ["permission denied"]}));
    play.hands.forward(Duration::from_secs(301));
    keeper.round().await.1.expect_err("refused");
    // It may be good for all others: until there is another one, it is used.
    play.says(login, 403, &json!({"errors": ["permission denied"]}));
    play.holds(2, &json!({"key": "another"}));
    let (changed, ended) = keeper.round().await;
    assert!(changed && ended.is_err(), "{ended:?}");
    play.says(login, 200, &granted);
    keeper.round().await.1.expect("a round");
    assert_eq!(play.times(login), 4);
}

/// A certificate that ends so long after the clock's beginning, as Vault's PKI answers it.
fn certificate(life: i64) -> Value {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let at = |seconds| rcgen::date_time_ymd(2027, 1, 15) + (Duration::from_secs(seconds));
    // 2027-01-15 08:00:00 is where the clock begins.
    let begins = 8 * 3600;
    params.not_before = at(begins - 30);
    params.not_after = at(begins + u64::try_from(life).expect("in the future"));
    let certificate = params.self_signed(&key).expect("a certificate");
    json!({"data": {
        "certificate": certificate.pem(), "private_key": key.serialize_pem(),
        "issuing_ca": certificate.pem(),
    }})
}

#[tokio::test]
async fn a_certificate_is_renewed_within_its_life_and_the_one_before_stays_until_then() {
    let play = Play::begin().await;
    let issue = "pki/issue/daybook";
    let names = vec!["localhost".to_owned()];
    let wish = CertificateWish::new("pki/daybook", names, None).expect("a wish");
    let source = Source::Vault(Arc::new(Held::certificate(wish)));
    play.says(issue, 200, &certificate(1000));
    let mut keeper = play.start(&play.settings(), &[&source]).await.expect("started");
    let first = source.read("--tls-cert").expect("issued");
    play.hands.forward(Duration::from_secs(599));
    assert!(!keeper.round().await.0, "three fifths are not over");
    play.says(issue, 400, &json!({"errors": ["unknown role: daybook"]}));
    play.hands.forward(Duration::from_secs(1));
    let (changed, ended) = keeper.round().await;
    let wrong = ended.expect_err("no such role").to_string();
    assert!(!changed && wrong.contains("it answers 400: unknown role: daybook"), "{wrong}");
    assert_eq!(source.read("--tls-cert").expect("issued"), first);
    play.says(issue, 200, &certificate(2000));
    assert!(keeper.round().await.0, "it is still due");
    assert_ne!(source.read("--tls-cert").expect("issued"), first);
    // One that has ended when it comes is of no use, and asking on would be a flood.
    play.says(issue, 200, &certificate(1));
    play.hands.forward(Duration::from_secs(1000));
    let wrong = keeper.round().await.1.expect_err("it has ended").to_string();
    assert!(wrong.contains("clocks"), "{wrong}");
}
