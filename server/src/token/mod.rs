//! Who is asking: JSON Web Tokens.
//!
//! The algorithm belongs to the key and is never the token's choice: the secret verifies HS256, an
//! RSA key RS256, a P-256 key ES256. The header of a token (`alg`, `kid`) only picks one of these
//! keys; that key then accepts its own algorithm and no other. So a token "signed" with HS256 and the
//! text of a public key meets the secret, and one with `none` meets nothing.
//!
//! Public keys come from a file that is looked at again at most once a second, when a token asks for
//! one. A new file takes effect without a restart; one that is broken is logged, and the keys from
//! before go on.

mod jwks;
mod rules;
mod secret;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, decode, decode_header, encode};
use serde_json::{Value, json};

pub use self::jwks::JwksFault;
use self::jwks::KeySet;
pub use self::rules::{EntitiesClaim, TokenRules};
pub use self::secret::{Secret, SecretTooShort};
use crate::ids::UserId;
use crate::limits;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    Early,
    /// It is meant for another server.
    #[error("the token is for another audience")]
    Audience,
    /// It comes from somebody who is not trusted here.
    #[error("the token is from another issuer")]
    Issuer,
    /// Its list of entities is none, or too long.
    #[error(
        "the token's entities are not a list of at most {} ids",
        limits::ENTITIES_MAX
    )]
    Entities,
    /// Not signed with one of our keys, not a token, or without `sub` or `exp`.
    #[error("the token is not valid")]
    Invalid,
}

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Whose it is: `sub`.
    pub user: UserId,
    /// The entities that it names.
    pub entities: BTreeSet<String>,
}

/// Verifies tokens and, for demos and tests, issues them.
pub struct Tokens {
    secret: Option<(EncodingKey, DecodingKey)>,
    public: Option<PublicKeys>,
    rules: TokenRules,
}

/// The key set of a file, as it was last read.
struct PublicKeys {
    keys: RwLock<Arc<KeySet>>,
    looked: Mutex<Looked>,
}

struct Looked {
    at: Instant,
    content: Vec<u8>,
}

impl Tokens {
    /// For tokens signed with this secret, by the usual rules.
    pub fn new(secret: &Secret) -> Self {
        Self {
            secret: Some(keys_of(secret)),
            public: None,
            rules: TokenRules::default(),
        }
    }

    /// For tokens signed with the secret or with a key of the rules' key set.
    pub fn with(secret: Option<&Secret>, rules: TokenRules) -> Result<Self, JwksFault> {
        let public = rules.jwks_file.as_deref().map(PublicKeys::open);
        Ok(Self {
            secret: secret.map(keys_of),
            public: public.transpose()?,
            rules,
        })
    }

    /// What a token says, if it is valid.
    pub fn verify(&self, token: &str) -> Result<Claimed, TokenFault> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(TokenFault::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenFault::Invalid)?;
        if header.crit.is_some() {
            // Extensions that must be understood (RFC 7515, section 4.1.11); none is.
            return Err(TokenFault::Invalid);
        }
        let claims = match (header.alg, &self.secret, &self.public) {
            (Algorithm::HS256, Some((_, verifying)), _) => {
                self.claims(token, Algorithm::HS256, verifying)?
            }
            (asked @ (Algorithm::RS256 | Algorithm::ES256), _, Some(public)) => {
                public.refresh(&self.rules);
                let keys = public.current();
                let key = keys.find(asked, header.kid.as_deref());
                let key = key.ok_or(TokenFault::Invalid)?;
                self.claims(token, key.algorithm, &key.verifying)?
            }
            _ => return Err(TokenFault::Invalid),
        };
        let user = claims["sub"].as_str().ok_or(TokenFault::Invalid)?;
        Ok(Claimed {
            user: UserId::new(user).map_err(|_| TokenFault::Invalid)?,
            entities: self.rules.entities_claim.read(&claims)?,
        })
    }

    fn claims(
        &self,
        token: &str,
        algorithm: Algorithm,
        key: &DecodingKey,
    ) -> Result<Value, TokenFault> {
        let decoded = decode::<Value>(token, key, &self.rules.validation(algorithm));
        let claims = decoded.map(|data| data.claims);
        claims.map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenFault::Expired,
            ErrorKind::ImmatureSignature => TokenFault::Early,
            ErrorKind::InvalidAudience => TokenFault::Audience,
            ErrorKind::InvalidIssuer => TokenFault::Issuer,
            ErrorKind::MissingRequiredClaim(name) if name == "aud" => TokenFault::Audience,
            ErrorKind::MissingRequiredClaim(name) if name == "iss" => TokenFault::Issuer,
            _ => TokenFault::Invalid,
        })
    }

    /// A token for `user` that expires at `expires_s` (seconds since 1970) and is valid by these
    /// rules; [`TokenFault::Invalid`] where there is no secret to sign it with.
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
        let (signing, _) = self.secret.as_ref().ok_or(TokenFault::Invalid)?;
        let mut claims = json!({"sub": user.as_str(), "exp": expires_s});
        if let Some(audience) = self.rules.audience.first() {
            claims["aud"] = json!(audience);
        }
        if let Some(issuer) = &self.rules.issuer {
            claims["iss"] = json!(issuer);
        }
        if !entities.is_empty() {
            self.rules.entities_claim.write(&mut claims, entities);
        }
        let header = Header::new(Algorithm::HS256);
        encode(&header, &claims, signing).map_err(|_| TokenFault::Invalid)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("secret", &self.secret.is_some())
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

fn keys_of(secret: &Secret) -> (EncodingKey, DecodingKey) {
    (
        EncodingKey::from_secret(&secret.0),
        DecodingKey::from_secret(&secret.0),
    )
}

impl PublicKeys {
    fn open(file: &std::path::Path) -> Result<Self, JwksFault> {
        let content = jwks::read(file)?;
        let keys = KeySet::parse(&content)?;
        let at = Instant::now();
        Ok(Self {
            keys: RwLock::new(Arc::new(keys)),
            looked: Mutex::new(Looked { at, content }),
        })
    }

    fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again where the last look is old enough. Contents are compared, not times:
    /// those of two writes can be the same. Who finds another one looking goes on with what is there.
    fn refresh(&self, rules: &TokenRules) {
        let (Some(file), Ok(mut looked)) = (&rules.jwks_file, self.looked.try_lock()) else {
            return;
        };
        if looked.at.elapsed() < limits::JWKS_LOOK {
            return;
        }
        looked.at = Instant::now();
        let read = jwks::read(file).and_then(|content| {
            if content == looked.content {
                return Ok(None);
            }
            let keys = KeySet::parse(&content);
            looked.content = content;
            keys.map(Some)
        });
        match read {
            Ok(None) => {}
            Ok(Some(keys)) => {
                tracing::info!(keys = keys.len(), "the key set was read anew");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            Err(error) => {
                tracing::error!(%error, "the new key set cannot be used: keeping the keys from before");
            }
        }
    }
}
