//! What a token must say, whichever key it is signed with, and where it says which entities its
//! user is assigned to.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Value, json};

use super::TokenFault;
use crate::limits;

/// What is expected of tokens.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// The file with the public keys of RS256 and ES256.
    pub jwks_file: Option<PathBuf>,
    /// A token must name one of these in `aud`; none is asked for where there are none.
    pub audience: Vec<String>,
    /// A token must name this in `iss`.
    pub issuer: Option<String>,
    /// How far the clocks of issuer and server may differ, in seconds.
    pub leeway_s: u64,
    /// Where the user's entities are.
    pub entities_claim: EntitiesClaim,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self {
            jwks_file: None,
            audience: Vec::new(),
            issuer: None,
            leeway_s: limits::TOKEN_LEEWAY_S,
            entities_claim: EntitiesClaim::default(),
        }
    }
}

impl TokenRules {
    pub(super) fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut rules = Validation::new(algorithm);
        rules.leeway = self.leeway_s.min(limits::TOKEN_LEEWAY_S_MAX);
        rules.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        // Without an audience of its own a server asks for none: providers put in theirs, and who
        // may use the server is who has the key.
        rules.validate_aud = !self.audience.is_empty();
        if rules.validate_aud {
            rules.set_audience(&self.audience);
            required.push("aud");
        }
        if let Some(issuer) = &self.issuer {
            rules.set_issuer(&[issuer]);
            required.push("iss");
        }
        rules.set_required_spec_claims(&required);
        rules
    }
}

/// The claim that lists a user's entities: a name (`entities`, `https://app.example/entities`), or,
/// with a leading `/`, a JSON pointer (`/app_metadata/entities`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntitiesClaim(pub String);

impl Default for EntitiesClaim {
    fn default() -> Self {
        Self("entities".into())
    }
}

impl EntitiesClaim {
    /// The entities; none where the claim is absent. A claim of another form refuses the token:
    /// guessing at permissions is worse than none.
    pub(super) fn read(&self, claims: &Value) -> Result<BTreeSet<String>, TokenFault> {
        let claim = match self.0.starts_with('/') {
            true => claims.pointer(&self.0),
            false => claims.get(&self.0),
        };
        let list = match claim {
            None | Some(Value::Null) => return Ok(BTreeSet::new()),
            Some(Value::Array(list)) if list.len() <= limits::ENTITIES_MAX => list,
            Some(_) => return Err(TokenFault::Entities),
        };
        let ids = list.iter().map(|id| match id.as_str() {
            Some(id) if (1..=limits::RECORD_ID_BYTES_MAX).contains(&id.len()) => Ok(id.to_owned()),
            _ => Err(TokenFault::Entities),
        });
        ids.collect()
    }

    pub(super) fn write(&self, claims: &mut Value, entities: &[&str]) {
        match self.0.strip_prefix('/') {
            None => claims[&self.0] = json!(entities),
            Some(path) => {
                let inner = json!(entities);
                let names: Vec<_> = path.split('/').collect();
                let nested = names
                    .iter()
                    .skip(1)
                    .rev()
                    .fold(inner, |value, name| json!({*name: value}));
                claims[names[0]] = nested;
            }
        }
    }
}
