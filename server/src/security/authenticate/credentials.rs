//! The header `Authorization`: RFC 7617 (Basic), RFC 6750 (Bearer).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;

use super::Refusal;

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
}

/// The kind of a header's credentials, as a label.
#[must_use]
pub fn proof(value: &HeaderValue) -> &'static str {
    let is_token = value.as_bytes().get(..7).is_some_and(|s| s.eq_ignore_ascii_case(b"Bearer "));
    if is_token { "token" } else { "password" }
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
        return Ok(Credentials::Token(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(malformed("its scheme is neither Basic nor Bearer"));
    }
    let decoded = BASE64_STANDARD.decode(rest).map_err(|_| malformed("it is not in base64"))?;
    let pair = String::from_utf8(decoded).map_err(|_| malformed("it is no text in UTF-8"))?;
    let (login, password) = pair
        .split_once(':')
        .ok_or_else(|| malformed("it has no colon between login and password"))?;
    Ok(Credentials::Password { login: login.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_or_refused() {
        let of = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        let cases = [
            (of("ada:secret"), Some("ada|secret")),
            (of("ada:with:colons"), Some("ada|with:colons")),
            (of("ada:"), Some("ada|")),
            (of(":"), Some("|")),
            (of("ada"), None),
            (of("ada:x").to_lowercase().replacen("basic", "bAsIc", 1), None),
            ("bearer abc.def".to_owned(), Some("abc.def")),
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
            });
            assert_eq!(found.as_deref(), expected, "{value:?}");
        }
        let not_ascii = HeaderValue::from_bytes(b"Basic \xff").expect("a header");
        assert!(read(&not_ascii).is_err());
    }
}
