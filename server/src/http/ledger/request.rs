//! What a request of the ledger's API says, checked as strictly as money deserves: every field is
//! known, every amount is a string, and a mistake names its field.

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use daybook_ledger::currency::Currency;
use daybook_ledger::money::parse_amount;
use daybook_model::Timestamp;
use daybook_model::repository::Transaction;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::http::body::Held;
use crate::http::problem::Problem;

/// Bytes of a request. A good one has hundreds; the rest is room for a field that is far too long
/// to be named in the refusal.
pub const REQUEST_SIZE_MAX: usize = 2 * 1024 * 1024;
/// The header that names a command, so that its repetition is recognised.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The space of clients' keys among transaction ids. The steps of sagas have ids of their own on the
/// same accounts, which anybody can work out: no key must pass for one.
const KEY_SPACE: Uuid = Uuid::from_u128(0x7f0c_2a51_9d3e_4b68_8a47_c1d5_06e2_93bf);
/// Bytes of a command's canonical form; longer texts make the buffer grow.
const CANONICAL_SIZE_USUAL: usize = 512;

/// A command: its body, and the id that its client gave it.
pub struct Command<T> {
    /// The id.
    pub key: Uuid,
    /// What it says.
    pub body: T,
}

impl<T: Serialize> Command<T> {
    /// What names this command of `account`, with a digest of all it says.
    #[must_use]
    pub fn transaction(&self, verb: &str, targets: &[Uuid]) -> Transaction {
        let id = Uuid::new_v5(&KEY_SPACE, self.key.as_bytes());
        Transaction { id, digest: digest(verb, targets, &self.body) }
    }
}

/// The digest of a command: BLAKE3 of its canonical form, the first 128 bits. Order and spacing of
/// its JSON, and fields that are null or absent, make no difference.
#[must_use]
pub fn digest(verb: &str, targets: &[Uuid], body: &impl Serialize) -> [u8; 16] {
    let mut canonical = Vec::with_capacity(CANONICAL_SIZE_USUAL);
    canonical.extend_from_slice(verb.as_bytes());
    canonical.push(0);
    for target in targets {
        canonical.extend_from_slice(target.as_bytes());
    }
    serde_json::to_writer(&mut canonical, body).expect("structs of texts, into memory");
    let digest = blake3::hash(&canonical);
    *digest.as_bytes().first_chunk().expect("32 bytes")
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Command<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Command<T>, Problem> {
        let key = idempotency_key(request.headers())?;
        let Said(body) = Said::from_request(request, state).await?;
        Ok(Command { key, body })
    }
}

/// A body without an id of its own. None at all is an empty object.
pub struct Said<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Said<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Said<T>, Problem> {
        let held = Held::<REQUEST_SIZE_MAX>::from_request(request, state).await?;
        parse(&held.bytes).map(Said)
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Uuid, Problem> {
    const FIELD: &str = "Idempotency-Key";
    let Some(value) = headers.get(&IDEMPOTENCY_KEY) else {
        let detail = "give each command a UUID of its own in this header, and the same one when \
                      you repeat it";
        return Err(Problem::field(FIELD, detail));
    };
    let text = value.to_str().map_err(|_| Problem::field(FIELD, "must be a UUID"))?;
    // A string in quotes, as the draft standard has it, or bare, as most send it.
    uuid(FIELD, text.trim_matches('"'))
}

/// A UUID in the form that everybody writes.
///
/// # Errors
/// [`Problem`] names `field`.
pub fn uuid(field: &str, text: &str) -> Result<Uuid, Problem> {
    let parsed = text.parse::<uuid::fmt::Hyphenated>();
    let detail = "must be a UUID, as 7d444840-9dc0-11d1-b245-5ffdce74fad2";
    parsed.map(uuid::fmt::Hyphenated::into_uuid).map_err(|_| Problem::field(field, detail))
}

/// Reads a JSON object.
///
/// # Errors
/// [`Problem`] names the field that is wrong, `body` if it is no JSON object at all.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    // What reads a struct would take its fields from an array, too.
    if first != Some(&b'{') {
        return Err(Problem::field("body", "must be a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|_| mistake::<T>(bytes))
}

/// What is wrong with `bytes`. They are read again: the path to a mistake costs more than a
/// request without any is asked to pay.
fn mistake<T: DeserializeOwned>(bytes: &[u8]) -> Problem {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut json) else {
        return Problem::field("body", "has more after its end");
    };
    // A mistake within a name, or at no place at all, is the body's.
    let path = error.path().to_string().replace('?', ".");
    let reason = error.into_inner().to_string();
    // These name the field themselves, and are met at the object that has it or should.
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|kind| reason.strip_prefix(kind)?.split_once('`'));
    let field = match (path.as_str(), named) {
        (".", None) => "body".to_owned(),
        (".", Some((name, _))) => name.to_owned(),
        (path, Some((name, _))) if path != name && !path.ends_with(&format!(".{name}")) => {
            format!("{path}.{name}")
        }
        (path, _) => path.to_owned(),
    };
    Problem::field(&excerpt(&field), excerpt(&reason))
}

/// As much of a client's own words as is worth repeating to it.
fn excerpt(text: &str) -> String {
    const SIZE_MAX: usize = 300;
    if text.len() <= SIZE_MAX {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(SIZE_MAX)])
}

/// An amount of `currency`.
///
/// # Errors
/// [`Problem`] names `field`.
pub fn amount(field: &str, text: &str, currency: Currency) -> Result<Decimal, Problem> {
    parse_amount(text, currency).map_err(|error| Problem::field(field, error))
}

/// As [`amount`], if it is there.
///
/// # Errors
/// [`Problem`] names `field`.
pub fn amount_if_given(
    field: &str,
    text: Option<&str>,
    currency: Currency,
) -> Result<Option<Decimal>, Problem> {
    text.map(|text| amount(field, text, currency)).transpose()
}

/// A time in RFC 3339.
///
/// # Errors
/// [`Problem`] names `field`.
pub fn time(field: &str, text: &str) -> Result<Timestamp, Problem> {
    daybook_ledger::time::parse(text).map_err(|error| Problem::field(field, error))
}

/// The account in the path.
pub struct InAccount(pub Uuid);

/// The hold in the path, after its account.
pub struct InHold(pub Uuid);

/// The transfer in the path.
pub struct InTransfer(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for InAccount {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<InAccount, Problem> {
        in_path(parts, "account_id").await.map(InAccount)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InHold {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<InHold, Problem> {
        // If both are wrong, the first is named.
        in_path(parts, "account_id").await?;
        in_path(parts, "hold_id").await.map(InHold)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InTransfer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<InTransfer, Problem> {
        in_path(parts, "transfer_id").await.map(InTransfer)
    }
}

async fn in_path(parts: &mut Parts, name: &str) -> Result<Uuid, Problem> {
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|error| Problem::field(name, error.body_text()))?;
    let found = params.iter().find(|(found, _)| *found == name);
    uuid(name, found.map_or("", |(_, text)| text))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Paid {
        amount: String,
        currency: Currency,
        description: Option<String>,
        fx: Option<Rate>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rate {
        rate: String,
    }

    #[test]
    fn a_mistake_names_its_field() {
        for (body, field) in [
            ("", "amount"),
            ("{", "body"),
            ("[\"1.00\",\"USD\",null,null]", "body"),
            ("null", "body"),
            ("{\"amount\":\"1.00\",\"currency\":\"USD\"} {}", "body"),
            (r#"{"currency":"USD"}"#, "amount"),
            (r#"{"amount":1.00,"currency":"USD"}"#, "amount"),
            (r#"{"amount":null,"currency":"USD"}"#, "amount"),
            (r#"{"amount":"1.00","currency":"usd"}"#, "currency"),
            (r#"{"amount":"1.00","currency":"USD","description":7}"#, "description"),
            (r#"{"amount":"1.00","currency":"USD","note":"x"}"#, "note"),
            (r#"{"amount":"1.00","amount":"1.00","currency":"USD"}"#, "amount"),
            (r#"{"amount":"1.00","currency":"USD","fx":{"rate":1}}"#, "fx.rate"),
            (r#"{"amount":"1.00","currency":"USD","fx":{}}"#, "fx.rate"),
            (r#"{"amount":"1.00","currency":"USD","fx":{"rate":"1","x":1}}"#, "fx.x"),
        ] {
            let problem = parse::<Paid>(body.as_bytes()).expect_err(body).to_json();
            let problem: serde_json::Value = serde_json::from_str(&problem).expect("JSON");
            assert_eq!(problem["field"], field, "{body}: {problem}");
        }
    }

    #[test]
    fn the_same_request_has_the_same_digest_however_it_is_written() {
        let read = |body: &str| {
            let body: Paid = parse(body.as_bytes()).expect("a request");
            let key = Uuid::nil();
            Command { key, body }.transaction("deposit", &[Uuid::from_u128(1)]).digest
        };
        let first = read(r#"{"amount":"1.00","currency":"USD"}"#);
        assert_eq!(first, read(r#"{ "currency":"USD", "amount":"1.00", "description":null }"#));
        assert_ne!(first, read(r#"{"amount":"1.01","currency":"USD"}"#));
        assert_ne!(first, read(r#"{"amount":"1.00","currency":"USD","description":""}"#));
        let body: Paid = parse(br#"{"amount":"1.00","currency":"USD"}"#).expect("a request");
        assert_ne!(first, digest("deposit", &[Uuid::from_u128(2)], &body), "another account");
        assert_ne!(first, digest("withdraw", &[Uuid::from_u128(1)], &body), "another verb");
    }

    #[test]
    fn an_idempotency_key_is_a_uuid_with_or_without_quotes() {
        let id = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
        for (value, good) in [
            (id.to_owned(), true),
            (format!("\"{id}\""), true),
            (id.to_uppercase(), true),
            (id.replace('-', ""), false),
            (format!("{{{id}}}"), false),
            (String::new(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IDEMPOTENCY_KEY, value.parse().expect("a header"));
            assert_eq!(idempotency_key(&headers).is_ok(), good, "{value}");
        }
        let missing = idempotency_key(&HeaderMap::new()).expect_err("missing").to_json();
        assert!(missing.contains(r#""field":"Idempotency-Key""#), "{missing}");
    }
}
