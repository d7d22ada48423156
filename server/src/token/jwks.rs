//! A JSON Web Key Set (RFC 7517): the public keys of RS256 and ES256, from a file.
//!
//! Each key has one algorithm, which follows from the key itself. What the set holds besides (keys
//! for encryption, of other algorithms, shared secrets) is left out: a set is often shared with
//! programs that need more. A set without one key that can be used is refused.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use crate::limits;

/// A key and the one algorithm that it verifies.
#[derive(Clone)]
pub(super) struct PublicKey {
    pub(super) algorithm: Algorithm,
    pub(super) verifying: DecodingKey,
}

/// The usable keys of a set.
#[derive(Clone, Default)]
pub(super) struct KeySet {
    named: HashMap<String, PublicKey>,
    nameless: Vec<PublicKey>,
}

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwksFault {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// More bytes or keys than [`limits::JWKS_BYTES_MAX`] and [`limits::JWKS_KEYS_MAX`].
    #[error(
        "it has more than {} bytes or {} keys",
        limits::JWKS_BYTES_MAX,
        limits::JWKS_KEYS_MAX
    )]
    TooLarge,
    /// Not a JSON object with a list `keys`.
    #[error("it is not a JSON Web Key Set: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Two keys have one `kid`: which one is meant cannot be told.
    #[error("two keys have the `kid` {0:?}")]
    Repeated(String),
    /// No key for RS256 or ES256.
    #[error("it has no key for RS256 (2048 to 8192 bits) or ES256")]
    NoKey,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// The key that a token's header names. A token without a `kid` is verified only where there is
    /// no choice: a single key of its algorithm.
    pub(super) fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&PublicKey> {
        match kid {
            Some(kid) => self.named.get(kid).filter(|key| key.algorithm == algorithm),
            None => {
                let all = self.named.values().chain(&self.nameless);
                let mut fitting = all.filter(|key| key.algorithm == algorithm);
                fitting.next().filter(|_| fitting.next().is_none())
            }
        }
    }

    /// How many keys can be used.
    pub(super) fn len(&self) -> usize {
        self.named.len() + self.nameless.len()
    }

    /// Reads a set from JSON.
    pub(super) fn parse(json: &[u8]) -> Result<Self, JwksFault> {
        let set: Set = serde_json::from_slice(json)?;
        if set.keys.len() > limits::JWKS_KEYS_MAX {
            return Err(JwksFault::TooLarge);
        }
        let mut keys = Self::default();
        for value in set.keys {
            let Some((kid, key)) = usable(value) else {
                continue;
            };
            match kid {
                Some(kid) if keys.named.contains_key(&kid) => {
                    return Err(JwksFault::Repeated(kid));
                }
                Some(kid) => {
                    keys.named.insert(kid, key);
                }
                None => keys.nameless.push(key),
            }
        }
        if keys.len() == 0 {
            return Err(JwksFault::NoKey);
        }
        Ok(keys)
    }
}

/// A file's content, within its limit.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, JwksFault> {
    let mut bytes = Vec::new();
    let limit = limits::JWKS_BYTES_MAX + 1;
    std::fs::File::open(file)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 == limit {
        return Err(JwksFault::TooLarge);
    }
    Ok(bytes)
}

fn usable(value: serde_json::Value) -> Option<(Option<String>, PublicKey)> {
    let key: Key = serde_json::from_value(value).ok()?;
    let signs = key.r#use.as_deref().is_none_or(|usage| usage == "sig");
    let verifies = key
        .key_ops
        .as_ref()
        .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let (algorithm, name, verifying) = match (key.kty.as_str(), key.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (key.n?, key.e?);
            let bits = decoded_bits(&n)?;
            let long = (limits::RSA_BITS_MIN..=limits::RSA_BITS_MAX).contains(&bits);
            let verifying = DecodingKey::from_rsa_components(&n, &e).ok()?;
            (Algorithm::RS256, "RS256", Some(verifying).filter(|_| long)?)
        }
        ("EC", Some("P-256")) => {
            let verifying = DecodingKey::from_ec_components(&key.x?, &key.y?).ok()?;
            (Algorithm::ES256, "ES256", verifying)
        }
        _ => return None,
    };
    let named_so = key.alg.as_deref().is_none_or(|alg| alg == name);
    let key_made = PublicKey {
        algorithm,
        verifying,
    };
    (signs && verifies && named_so).then_some((key.kid, key_made))
}

/// Bits of a number in unpadded base64url, rounded up to whole bytes; leading zero bytes, which some
/// libraries write, do not count.
fn decoded_bits(text: &str) -> Option<usize> {
    let text = text.trim_end_matches('=');
    let zeros = text.bytes().take_while(|byte| *byte == b'A').count();
    text.is_ascii().then_some((text.len() - zeros) * 6 / 8 * 8)
}
