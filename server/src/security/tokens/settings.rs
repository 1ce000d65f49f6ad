//! The file that describes an issuer of tokens.
//!
//! ```toml
//! issuer = "https://login.bank.example"   # iss, to the letter
//! audience = "daybook"                    # aud
//! login_claim = "sub"                     # by default
//! roles_claim = "roles"                   # by default; "realm_access.roles" for a claim in a claim
//! leeway_s = 10                           # by default; what clocks may differ, up to 30
//! jwks = "https://login.bank.example/keys"   # or a file of that form (RFC 7517)
//! jwks_ca = "login-ca.crt"                # who may vouch for that server
//!
//! [[keys]]                                # or, and, keys one by one
//! kid = "2026-11"                         # left out: for tokens without one, too
//! algorithm = "EdDSA"                     # ES256, RS256
//! file = "2026-11.pub.pem"
//!
//! [groups]                                # what the issuer's roles are called here
//! "daybook-admin" = "$admins"
//! ```
//!
//! Files are looked for beside this one; where the server was started, if this is kept in Vault.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::fetch::JwksUrl;
use super::keys::{self, KEYS_MAX, Key};
use crate::security::files::{self, FileError};
use crate::security::source::Source;

/// The setting, as messages name it.
pub const WHAT: &str = "--jwt";
/// Seconds that clocks may differ, unless told otherwise.
const LEEWAY_DEFAULT: u32 = 10;
/// And at most: a stolen token lives so much longer.
const LEEWAY_MAX: u32 = 30;
/// Names of roles that are translated.
const GROUPS_MAX: usize = 1000;

/// Whose tokens are believed, and what they say of their callers.
#[derive(Debug)]
pub struct Issuer {
    /// Its name.
    pub name: String,
    /// For whom tokens must be.
    pub audience: String,
    /// The claim that has the login.
    pub login_claim: String,
    /// The claim that has the roles; a path with dots.
    pub roles_claim: String,
    /// What its roles are called here.
    pub groups: BTreeMap<String, String>,
    /// Nanoseconds that clocks may differ.
    pub leeway: i64,
    /// Its keys, as far as files have them.
    pub keys: Vec<Key>,
    /// Where it shows its keys.
    pub source: Option<JwksUrl>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    issuer: String,
    audience: String,
    #[serde(default = "sub")]
    login_claim: String,
    #[serde(default = "roles")]
    roles_claim: String,
    leeway_s: Option<u32>,
    jwks: Option<String>,
    jwks_ca: Option<PathBuf>,
    #[serde(default)]
    keys: Vec<KeyFile>,
    #[serde(default)]
    groups: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    kid: Option<String>,
    algorithm: Algorithm,
    file: PathBuf,
}

fn sub() -> String {
    "sub".to_owned()
}

fn roles() -> String {
    "roles".to_owned()
}

/// Reads the file, and those that it names.
///
/// # Errors
/// [`FileError`]
pub fn load(place: &Source) -> Result<Issuer, FileError> {
    let path = place.place();
    let wrong = |reason: String| FileError::new(WHAT, path, reason);
    let bytes = place.read(WHAT)?;
    let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if file.issuer.is_empty() || file.audience.is_empty() {
        return Err(wrong("issuer and audience must say something".to_owned()));
    }
    let leeway = file.leeway_s.unwrap_or(LEEWAY_DEFAULT);
    if leeway > LEEWAY_MAX {
        return Err(wrong(format!("leeway_s is more than {LEEWAY_MAX}; correct the clocks")));
    }
    if file.groups.len() > GROUPS_MAX {
        return Err(wrong(format!("[groups] has more than {GROUPS_MAX} names")));
    }
    let directory = match place {
        Source::File(path) => path.parent().unwrap_or(Path::new("")),
        Source::Vault(_) => Path::new(""),
    };
    let beside = |named: &Path| directory.join(named);
    let mut keys = Vec::new();
    for key in &file.keys {
        keys.push(keys::from_pem(&beside(&key.file), key.algorithm, key.kid.clone())?);
    }
    let mut source = None;
    match &file.jwks {
        Some(url) if url.contains("://") => {
            let url = JwksUrl::parse(url, file.jwks_ca.as_deref().map(beside));
            source = Some(url.map_err(|reason| wrong(format!("jwks: {reason}")))?);
        }
        Some(named) => {
            let named = beside(Path::new(named));
            let found = keys::from_jwks(&files::read("jwks", &named)?);
            keys.extend(found.map_err(|reason| FileError::new("jwks", &named, reason))?);
        }
        None => {}
    }
    if keys.is_empty() && source.is_none() {
        return Err(wrong("it has no keys; give [[keys]] or jwks".to_owned()));
    }
    if keys.len() > KEYS_MAX {
        return Err(wrong(format!("it has more than {KEYS_MAX} keys")));
    }
    Ok(Issuer {
        name: file.issuer,
        audience: file.audience,
        login_claim: file.login_claim,
        roles_claim: file.roles_claim,
        groups: file.groups,
        leeway: i64::from(leeway) * super::SECOND,
        keys,
        source,
    })
}
