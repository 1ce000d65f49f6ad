//! Public keys of issuers, each for one algorithm.

use std::path::Path;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::security::files::{self, FileError};

/// The algorithms that are believed.
pub const ALGORITHMS: [Algorithm; 3] = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256];
/// Keys of an issuer: those in use and those before, many times over.
pub const KEYS_MAX: usize = 100;
/// The setting, as messages name it.
const WHAT: &str = "the key file";

/// A public key.
#[derive(Clone)]
pub struct Key {
    /// By which tokens name it.
    pub kid: Option<String>,
    /// What it is for.
    pub algorithm: Algorithm,
    /// The key itself.
    pub key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Key");
        shown.field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The one key of that algorithm which a token with this id may mean; none if there are several.
pub fn find(keys: &[Key], kid: Option<&str>, algorithm: Algorithm) -> Option<Key> {
    let means = |key: &&Key| match (&key.kid, kid) {
        (Some(own), Some(kid)) => own == kid,
        _ => true,
    };
    let mut found = keys.iter().filter(|key| key.algorithm == algorithm).filter(means);
    let key = found.next()?;
    found.next().is_none().then(|| key.clone())
}

/// Reads a public key in PEM form.
///
/// # Errors
/// [`FileError`]
pub fn from_pem(path: &Path, algorithm: Algorithm, kid: Option<String>) -> Result<Key, FileError> {
    let pem = files::read(WHAT, path)?;
    let key = match algorithm {
        Algorithm::EdDSA => DecodingKey::from_ed_pem(&pem),
        Algorithm::ES256 => DecodingKey::from_ec_pem(&pem),
        Algorithm::RS256 => DecodingKey::from_rsa_pem(&pem),
        _ => {
            let reason = "its algorithm is none of EdDSA, ES256 and RS256";
            return Err(FileError::new(WHAT, path, reason));
        }
    };
    let key = key.map_err(|error| {
        let reason = format!("{error}; it must hold a public key for {algorithm:?} in PEM form");
        FileError::new(WHAT, path, reason)
    })?;
    Ok(Key { kid, algorithm, key })
}

/// The usable keys of a JSON Web Key Set. Others, such as those to encrypt with, are left out.
///
/// # Errors
/// What is wrong with it, if it is none or has no such key.
pub fn from_jwks(json: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_slice(json)
        .map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
    let keys: Vec<Key> = set.keys.iter().filter_map(of_jwk).take(KEYS_MAX).collect();
    if keys.is_empty() {
        return Err("it has no key for EdDSA, ES256 or RS256".to_owned());
    }
    Ok(keys)
}

fn of_jwk(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        _ => return None,
    };
    let said = match jwk.common.key_algorithm {
        None => algorithm,
        Some(KeyAlgorithm::EdDSA) => Algorithm::EdDSA,
        Some(KeyAlgorithm::ES256) => Algorithm::ES256,
        Some(KeyAlgorithm::RS256) => Algorithm::RS256,
        Some(_) => return None,
    };
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    if said != algorithm || !signs {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { kid: jwk.common.key_id.clone(), algorithm, key })
}
