//! Who is asking: JSON Web Tokens, HS256, verified with a shared secret. Only `sub` and `exp` mean
//! something here. The algorithm is fixed: a token cannot choose one ("none" is refused).

use std::collections::BTreeSet;
use std::fmt;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::ids::UserId;
use crate::limits;

/// The secret that tokens are signed with. Never shown: its `Debug` is a placeholder.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes a secret that is long enough for HS256.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, SecretTooShort> {
        let bytes = bytes.into();
        if bytes.len() < limits::SECRET_BYTES_MIN {
            Err(SecretTooShort)
        } else {
            Ok(Self(bytes))
        }
    }

    /// A new one from the operating system's randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = vec![0; limits::SECRET_BYTES_MIN];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret of fewer than [`limits::SECRET_BYTES_MIN`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is shorter than {} bytes", limits::SECRET_BYTES_MIN)]
pub struct SecretTooShort;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Not signed by us, not a token, or without `sub` or `exp`.
    #[error("the token is not valid")]
    Invalid,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    entities: BTreeSet<String>,
    #[serde(default)]
    exp: u64,
}

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The user.
    pub user: UserId,
    /// The entities that it names.
    pub entities: BTreeSet<String>,
}

/// Verifies tokens and, for demos and tests, issues them.
#[derive(Clone)]
pub struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    rules: Validation,
}

impl Tokens {
    /// For tokens signed with this secret.
    pub fn new(secret: &Secret) -> Self {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.leeway = limits::TOKEN_LEEWAY_S;
        rules.validate_nbf = true;
        // Providers put their own audience in; who may use this server is who knows the secret.
        rules.validate_aud = false;
        rules.set_required_spec_claims(&["exp", "sub"]);
        Self {
            signing: EncodingKey::from_secret(&secret.0),
            verifying: DecodingKey::from_secret(&secret.0),
            rules,
        }
    }

    /// Whose token it is.
    pub fn verify(&self, token: &str) -> Result<Claimed, TokenFault> {
        let claims = decode::<Claims>(token, &self.verifying, &self.rules)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenFault::Expired,
                _ => TokenFault::Invalid,
            })?
            .claims;
        Ok(Claimed {
            user: UserId::new(claims.sub).map_err(|_| TokenFault::Invalid)?,
            entities: claims.entities,
        })
    }

    /// A token for `user` that expires at `expires_s` (seconds since 1970).
    pub fn issue(&self, user: &UserId, expires_s: u64) -> Result<String, TokenFault> {
        self.issue_for(user, &[], expires_s)
    }

    /// The same, for somebody who is assigned to these entities.
    pub fn issue_for(
        &self,
        user: &UserId,
        entities: &[&str],
        expires_s: u64,
    ) -> Result<String, TokenFault> {
        let claims = Claims {
            sub: user.as_str().to_owned(),
            entities: entities.iter().map(ToString::to_string).collect(),
            exp: expires_s,
        };
        let header = Header::new(Algorithm::HS256);
        encode(&header, &claims, &self.signing).map_err(|_| TokenFault::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now_s() -> u64 {
        crate::ids::UnixMillis::now().0 / 1000
    }

    fn tokens(secret: u8) -> Tokens {
        Tokens::new(&Secret::new(vec![secret; 32]).unwrap())
    }

    #[test]
    fn verifies_its_own_tokens_only() {
        let ann = UserId::new("ann").unwrap();
        let token = tokens(1).issue(&ann, now_s() + 60).unwrap();
        assert_eq!(tokens(1).verify(&token).unwrap().user, ann);
        assert_eq!(tokens(2).verify(&token), Err(TokenFault::Invalid));
        assert_eq!(tokens(1).verify("nonsense"), Err(TokenFault::Invalid));
    }

    #[test]
    fn expiry_has_a_leeway() {
        let ann = UserId::new("ann").unwrap();
        let issue = |ago: u64| tokens(1).issue(&ann, now_s() - ago).unwrap();
        assert!(tokens(1).verify(&issue(limits::TOKEN_LEEWAY_S - 5)).is_ok());
        let late = issue(limits::TOKEN_LEEWAY_S + 5);
        assert_eq!(tokens(1).verify(&late), Err(TokenFault::Expired));
    }

    #[test]
    fn sub_and_exp_are_required() {
        let sign = |claims: serde_json::Value| {
            encode(&Header::new(Algorithm::HS256), &claims, &tokens(1).signing).unwrap()
        };
        for claims in [
            serde_json::json!({"sub": "ann"}),
            serde_json::json!({"exp": now_s() + 60}),
            serde_json::json!({"sub": "", "exp": now_s() + 60}),
            serde_json::json!({"sub": "ann", "exp": now_s() + 60, "nbf": now_s() + 60}),
        ] {
            assert_eq!(
                tokens(1).verify(&sign(claims.clone())),
                Err(TokenFault::Invalid),
                "{claims}"
            );
        }
        let audience = serde_json::json!({"sub": "ann", "exp": now_s() + 60, "aud": "x"});
        assert!(tokens(1).verify(&sign(audience)).is_ok());
    }

    #[test]
    fn other_algorithms_are_refused() {
        let claims = Claims {
            sub: "ann".into(),
            entities: BTreeSet::new(),
            exp: now_s() + 60,
        };
        let token = encode(&Header::new(Algorithm::HS512), &claims, &tokens(1).signing).unwrap();
        assert_eq!(tokens(1).verify(&token), Err(TokenFault::Invalid));
    }

    #[test]
    fn secrets_are_long_and_hidden() {
        assert_eq!(Secret::new("short").unwrap_err(), SecretTooShort);
        assert_eq!(format!("{:?}", Secret::random().unwrap()), "Secret(…)");
    }
}
