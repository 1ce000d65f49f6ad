//! The header `Authorization`: RFC 7617 (Basic), RFC 6750 (Bearer).
//!
//! An API token may also stand where the password does, with its user's login: clients that know no
//! bearer tokens can send it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;

use super::Refusal;
use crate::users::api_tokens::secret::{PREFIX, Secret};

/// What a caller says to prove who it is. Not shown by `Debug`.
pub enum Credentials {
    /// A user's.
    Password {
        /// By which the user calls.
        login: String,
        /// Its secret.
        password: String,
    },
    /// What an issuer signed.
    Token(String),
    /// What this server made for a user.
    ApiToken {
        /// The user's login, if the caller says it.
        login: Option<String>,
        /// The token's secret.
        secret: Secret,
    },
}

/// The kind of a header's credentials, as a label.
#[must_use]
pub fn proof(value: &HeaderValue) -> &'static str {
    const BEARER: &[u8] = b"Bearer ";
    let bytes = value.as_bytes();
    match bytes.split_at_checked(BEARER.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) => {
            let ours = token.trim_ascii_start().starts_with(PREFIX.as_bytes());
            if ours { "api_token" } else { "token" }
        }
        _ => "password",
    }
}

/// Reads a header.
///
/// # Errors
/// [`Refusal::Malformed`]
pub fn read(value: &HeaderValue) -> Result<Credentials, Refusal> {
    let malformed = |reason| Refusal::Malformed { reason };
    let text = value.to_str().map_err(|_| malformed("it is no text"))?;
    let (scheme, rest) =
        text.split_once(' ').ok_or_else(|| malformed("it has a scheme and nothing else"))?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("Bearer") {
        return match Secret::read(rest) {
            Some(Ok(secret)) => Ok(Credentials::ApiToken { login: None, secret }),
            Some(Err(_)) => Err(Refusal::ApiTokenNotWhole),
            None => Ok(Credentials::Token(rest.to_owned())),
        };
    }
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(malformed("its scheme is neither Basic nor Bearer"));
    }
    let decoded = BASE64_STANDARD.decode(rest).map_err(|_| malformed("it is not in base64"))?;
    let pair = String::from_utf8(decoded).map_err(|_| malformed("it is no text in UTF-8"))?;
    let (login, password) = pair
        .split_once(':')
        .ok_or_else(|| malformed("it has no colon between login and password"))?;
    let login = login.to_owned();
    match Secret::read(password) {
        Some(Ok(secret)) => Ok(Credentials::ApiToken { login: Some(login), secret }),
        // A password may begin as it likes.
        _ => Ok(Credentials::Password { login, password: password.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_or_refused() {
        let of = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        let token = Secret::draw(&daybook_model::SystemEntropy).text();
        let cut = &token[..token.len() - 1];
        let cases = [
            (of("ada:secret"), Some("ada|secret")),
            (of("ada:with:colons"), Some("ada|with:colons")),
            (of("ada:"), Some("ada|")),
            (of(":"), Some("|")),
            (of("ada"), None),
            (of("ada:x").to_lowercase().replacen("basic", "bAsIc", 1), None),
            ("bearer abc.def".to_owned(), Some("abc.def")),
            (format!("Bearer {token}"), Some("any, a token")),
            (format!("bearer  {token} "), Some("any, a token")),
            (of(&format!("ada:{token}")), Some("ada, a token")),
            (format!("Bearer {cut}"), None),
            (of("ada:dbk_is a word"), Some("ada|dbk_is a word")),
            ("Basic !".to_owned(), None),
            ("Basic".to_owned(), None),
            ("Digest abc".to_owned(), None),
            (String::new(), None),
        ];
        for (value, expected) in cases {
            let value = HeaderValue::from_str(&value).expect("a header");
            let found = read(&value).ok().map(|credentials| match credentials {
                Credentials::Password { login, password } => format!("{login}|{password}"),
                Credentials::Token(token) => token,
                Credentials::ApiToken { login, .. } => {
                    format!("{}, a token", login.as_deref().unwrap_or("any"))
                }
            });
            assert_eq!(found.as_deref(), expected, "{value:?}");
        }
        for (value, kind) in [
            ("Basic x", "password"),
            ("Bearer a.b", "token"),
            ("bearer dbk_0", "api_token"),
            ("Bearer", "password"),
        ] {
            assert_eq!(proof(&HeaderValue::from_static(value)), kind, "{value}");
        }
        let not_ascii = HeaderValue::from_bytes(b"Basic \xff").expect("a header");
        assert!(read(&not_ascii).is_err());
    }
}
