//! Good tokens of each kind, and each forged one. The keys in `keys/` were made for these tests.

use std::path::Path;
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use tempfile::TempDir;

use super::*;

const RSA_ONE: &[u8] = include_bytes!("keys/rsa-one.der");
const RSA_TWO: &[u8] = include_bytes!("keys/rsa-two.der");
const RSA_SHORT: &[u8] = include_bytes!("keys/rsa-short.der");
const EC_ONE: &[u8] = include_bytes!("keys/ec-one.der");
const EC_TWO: &[u8] = include_bytes!("keys/ec-two.der");

fn now_s() -> u64 {
    crate::ids::UnixMillis::now().0 / 1000
}

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

fn secret() -> Secret {
    Secret::new(vec![1; 32]).unwrap()
}

fn tokens(secret: u8) -> Tokens {
    Tokens::new(&Secret::new(vec![secret; 32]).unwrap())
}

fn rsa(der: &[u8]) -> EncodingKey {
    EncodingKey::from_rsa_der(der)
}

fn ec(der: &[u8]) -> EncodingKey {
    EncodingKey::from_ec_der(der)
}

/// The public half of a key, as it stands in a set.
fn public(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Value {
    let mut jwk = json!(Jwk::from_encoding_key(key, algorithm).unwrap());
    jwk["kid"] = json!(kid);
    jwk
}

fn rsa_public(der: &[u8], kid: &str) -> Value {
    public(&rsa(der), Algorithm::RS256, kid)
}

fn ec_public(der: &[u8], kid: &str) -> Value {
    public(&ec(der), Algorithm::ES256, kid)
}

fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": now_s() + 60})
}

fn sign(algorithm: Algorithm, kid: Option<&str>, claims: &Value, key: &EncodingKey) -> String {
    let header = Header {
        kid: kid.map(Into::into),
        ..Header::new(algorithm)
    };
    encode(&header, claims, key).unwrap()
}

struct Keys {
    folder: TempDir,
    tokens: Tokens,
}

impl Keys {
    fn file(folder: &TempDir) -> std::path::PathBuf {
        folder.path().join("jwks.json")
    }

    fn of(keys: &[Value], secret: Option<&Secret>) -> Self {
        Self::by(keys, secret, TokenRules::default()).unwrap()
    }

    fn by(keys: &[Value], secret: Option<&Secret>, rules: TokenRules) -> Result<Self, JwksFault> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(Self::file(&folder), set(keys)).unwrap();
        let rules = TokenRules {
            jwks_file: Some(Self::file(&folder)),
            ..rules
        };
        let tokens = Tokens::with(secret, rules)?;
        Ok(Self { folder, tokens })
    }

    fn usual() -> Self {
        Self::of(
            &[rsa_public(RSA_ONE, "r1"), ec_public(EC_ONE, "e1")],
            Some(&secret()),
        )
    }

    fn user(&self, token: &str) -> Result<UserId, TokenFault> {
        self.tokens.verify(token).map(|claimed| claimed.user)
    }

    /// Writes another set, and lets the time pass after which the file is looked at.
    fn rewrite(&self, content: &str) {
        std::fs::write(Self::file(&self.folder), content).unwrap();
        let public = self.tokens.public.as_ref().unwrap();
        let mut looked = public.looked.lock().unwrap();
        looked.at -= limits::JWKS_LOOK + Duration::from_secs(1);
    }
}

#[test]
fn verifies_its_own_tokens_only() {
    let token = tokens(1).issue(&ann(), now_s() + 60).unwrap();
    assert_eq!(tokens(1).verify(&token).unwrap().user, ann());
    assert_eq!(tokens(2).verify(&token), Err(TokenFault::Invalid));
    assert_eq!(tokens(1).verify("nonsense"), Err(TokenFault::Invalid));
    let long = "x".repeat(limits::TOKEN_BYTES_MAX + 1);
    assert_eq!(tokens(1).verify(&long), Err(TokenFault::Invalid));
}

#[test]
fn each_kind_of_key_verifies_its_own_algorithm() {
    let keys = Keys::usual();
    for token in [
        keys.tokens.issue(&ann(), now_s() + 60).unwrap(),
        sign(Algorithm::RS256, Some("r1"), &claims(), &rsa(RSA_ONE)),
        sign(Algorithm::ES256, Some("e1"), &claims(), &ec(EC_ONE)),
        // One key of its algorithm: no `kid` is needed.
        sign(Algorithm::RS256, None, &claims(), &rsa(RSA_ONE)),
        sign(Algorithm::ES256, None, &claims(), &ec(EC_ONE)),
    ] {
        assert_eq!(keys.user(&token), Ok(ann()), "{token}");
    }
}

/// The classic: the public key is no secret, so whoever takes its text as the key of an HMAC has signed
/// like anybody could.
#[test]
fn a_public_key_is_no_secret() {
    let jwk = rsa_public(RSA_ONE, "r1");
    let text = jwk.to_string();
    let modulus = jwk["n"].as_str().unwrap().to_owned();
    let whole = set(&[rsa_public(RSA_ONE, "r1"), ec_public(EC_ONE, "e1")]);
    for keys in [
        Keys::usual(),
        Keys::of(&[rsa_public(RSA_ONE, "r1"), ec_public(EC_ONE, "e1")], None),
    ] {
        for material in [&text, &modulus, &whole] {
            for hmac in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                for kid in [None, Some("r1"), Some("e1")] {
                    let key = EncodingKey::from_secret(material.as_bytes());
                    let token = sign(hmac, kid, &claims(), &key);
                    assert_eq!(keys.user(&token), Err(TokenFault::Invalid));
                }
            }
        }
    }
}

#[test]
fn the_token_does_not_choose_its_algorithm() {
    let keys = Keys::usual();
    let good = sign(Algorithm::RS256, Some("r1"), &claims(), &rsa(RSA_ONE));
    let mut parts = good.split('.');
    let (_, payload, signature) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
    // {"alg":"none"}, {"alg":"None"}, {"typ":"JWT"}
    for header in [
        "eyJhbGciOiJub25lIn0",
        "eyJhbGciOiJOb25lIn0",
        "eyJ0eXAiOiJKV1QifQ",
    ] {
        for forged in [
            format!("{header}.{payload}."),
            format!("{header}.{payload}.{signature}"),
            format!("{header}.{payload}"),
        ] {
            assert_eq!(keys.user(&forged), Err(TokenFault::Invalid), "{forged}");
        }
    }
    for algorithm in [
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS512,
    ] {
        let token = sign(algorithm, Some("r1"), &claims(), &rsa(RSA_ONE));
        assert_eq!(keys.user(&token), Err(TokenFault::Invalid), "{algorithm:?}");
    }
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(&secret().0);
        let token = sign(algorithm, None, &claims(), &key);
        assert_eq!(keys.user(&token), Err(TokenFault::Invalid), "{algorithm:?}");
    }
}

#[test]
fn a_key_is_the_one_that_the_token_names() {
    let keys = Keys::of(
        &[
            rsa_public(RSA_ONE, "r1"),
            rsa_public(RSA_TWO, "r2"),
            ec_public(EC_ONE, "e1"),
        ],
        None,
    );
    let two = sign(Algorithm::RS256, Some("r2"), &claims(), &rsa(RSA_TWO));
    assert_eq!(keys.user(&two), Ok(ann()));
    for (algorithm, kid, key) in [
        (Algorithm::RS256, Some("r1"), rsa(RSA_TWO)),
        (Algorithm::RS256, Some("r9"), rsa(RSA_ONE)),
        (Algorithm::RS256, Some(""), rsa(RSA_ONE)),
        // Two keys could be meant.
        (Algorithm::RS256, None, rsa(RSA_ONE)),
        (Algorithm::RS256, Some("e1"), rsa(RSA_ONE)),
        (Algorithm::ES256, Some("r1"), ec(EC_ONE)),
        (Algorithm::ES256, Some("e1"), ec(EC_TWO)),
        // There is no secret here.
        (
            Algorithm::HS256,
            None,
            EncodingKey::from_secret(&secret().0),
        ),
    ] {
        let token = sign(algorithm, kid, &claims(), &key);
        assert_eq!(keys.user(&token), Err(TokenFault::Invalid), "{kid:?}");
    }
    // Nor is the only one taken for another.
    let one = Keys::of(&[rsa_public(RSA_ONE, "r1")], None);
    let good = |kid: &str| sign(Algorithm::RS256, Some(kid), &claims(), &rsa(RSA_ONE));
    assert_eq!(one.user(&good("r1")), Ok(ann()));
    assert_eq!(one.user(&good("r9")), Err(TokenFault::Invalid));
}

#[test]
fn a_token_is_bounded() {
    let issue = |padding: usize| {
        let claims = json!({"sub": "ann", "exp": now_s() + 60, "pad": "x".repeat(padding)});
        let key = EncodingKey::from_secret(&secret().0);
        sign(Algorithm::HS256, None, &claims, &key)
    };
    let (most, more) = (
        issue(limits::TOKEN_BYTES_MAX / 2),
        issue(limits::TOKEN_BYTES_MAX),
    );
    assert!(tokens(1).verify(&most).is_ok());
    assert_eq!(tokens(1).verify(&more), Err(TokenFault::Invalid));
}

#[test]
fn keys_that_a_token_brings_along_are_not_used() {
    let keys = Keys::usual();
    let own = Jwk::from_encoding_key(&rsa(RSA_TWO), Algorithm::RS256).unwrap();
    let header = |kid: Option<&str>| Header {
        jwk: Some(own.clone()),
        jku: Some("https://attacker.example/jwks.json".into()),
        x5u: Some("https://attacker.example/key.pem".into()),
        kid: kid.map(Into::into),
        ..Header::new(Algorithm::RS256)
    };
    for kid in [
        None,
        Some("r1"),
        Some("../../../dev/null"),
        Some("' OR 1=1"),
    ] {
        let token = encode(&header(kid), &claims(), &rsa(RSA_TWO)).unwrap();
        assert_eq!(keys.user(&token), Err(TokenFault::Invalid), "{kid:?}");
    }
    let critical = Header {
        crit: Some(vec!["exp".into()]),
        ..Header::new(Algorithm::HS256)
    };
    let token = encode(&critical, &claims(), &EncodingKey::from_secret(&secret().0)).unwrap();
    assert_eq!(keys.user(&token), Err(TokenFault::Invalid));
}

#[test]
fn what_was_signed_is_what_is_read() {
    let keys = Keys::usual();
    let of = |sub: &str| {
        let claims = json!({"sub": sub, "exp": now_s() + 60});
        sign(Algorithm::ES256, Some("e1"), &claims, &ec(EC_ONE))
    };
    let (ann, bob) = (of("ann"), of("bob"));
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (ann, bob) = (parts(&ann), parts(&bob));
    for forged in [
        [&ann[0], &bob[1], &ann[2]],
        [&ann[0], &ann[1], &bob[2]],
        [&ann[0], &ann[1], &String::new()],
    ] {
        let forged = forged.map(String::as_str).join(".");
        assert_eq!(keys.user(&forged), Err(TokenFault::Invalid));
    }
}

#[test]
fn times_have_a_leeway() {
    let issue = |ago: u64| tokens(1).issue(&ann(), now_s() - ago).unwrap();
    assert!(tokens(1).verify(&issue(limits::TOKEN_LEEWAY_S - 5)).is_ok());
    let late = issue(limits::TOKEN_LEEWAY_S + 5);
    assert_eq!(tokens(1).verify(&late), Err(TokenFault::Expired));

    let rules = TokenRules {
        leeway_s: 300,
        ..TokenRules::default()
    };
    let patient = Tokens::with(Some(&Secret::new(vec![1; 32]).unwrap()), rules).unwrap();
    assert!(patient.verify(&late).is_ok());
    let early = json!({"sub": "ann", "exp": now_s() + 600, "nbf": now_s() + 60});
    let key = EncodingKey::from_secret(&secret().0);
    let early = sign(Algorithm::HS256, None, &early, &key);
    assert_eq!(tokens(1).verify(&early), Err(TokenFault::Early));
    assert!(patient.verify(&early).is_ok());
}

#[test]
fn claims_must_be_there_and_be_what_they_are() {
    let key = EncodingKey::from_secret(&secret().0);
    let exp = now_s() + 60;
    for wrong in [
        json!({"sub": "ann"}),
        json!({"exp": exp}),
        json!({"sub": "", "exp": exp}),
        json!({"sub": 7, "exp": exp}),
        json!({"sub": ["ann"], "exp": exp}),
        json!({"sub": "a\u{0}nn", "exp": exp}),
        json!({"sub": "a".repeat(limits::USER_ID_BYTES_MAX + 1), "exp": exp}),
        json!({"sub": "ann", "exp": "never"}),
        json!({"sub": "ann", "exp": null}),
        json!({"sub": "ann", "exp": -1}),
        json!({"sub": "ann", "exp": exp, "nbf": "now"}),
        json!(["ann", exp]),
    ] {
        let token = sign(Algorithm::HS256, None, &wrong, &key);
        assert_eq!(
            tokens(1).verify(&token),
            Err(TokenFault::Invalid),
            "{wrong}"
        );
    }
    let audience = json!({"sub": "ann", "exp": exp, "aud": "x"});
    let token = sign(Algorithm::HS256, None, &audience, &key);
    assert!(tokens(1).verify(&token).is_ok(), "no audience is asked for");
}

#[test]
fn audience_and_issuer_are_required_when_set() {
    let rules = TokenRules {
        audience: vec!["landfall".into(), "other".into()],
        issuer: Some("https://id.example".into()),
        ..TokenRules::default()
    };
    let keys = Keys::by(&[ec_public(EC_ONE, "e1")], Some(&secret()), rules).unwrap();
    let verify = |extra: Value| {
        let mut all = claims();
        for (name, value) in extra.as_object().unwrap() {
            all[name] = value.clone();
        }
        keys.user(&sign(Algorithm::ES256, Some("e1"), &all, &ec(EC_ONE)))
    };
    let iss = "https://id.example";
    assert_eq!(verify(json!({"aud": "landfall", "iss": iss})), Ok(ann()));
    let several = json!({"aud": ["x", "other"], "iss": iss});
    assert_eq!(verify(several), Ok(ann()));
    for wrong in [json!({"iss": iss}), json!({"aud": "x", "iss": iss})] {
        assert_eq!(verify(wrong), Err(TokenFault::Audience));
    }
    for wrong in [
        json!([]),
        json!(7),
        json!(["landfall", 7]),
        json!("Landfall"),
    ] {
        assert_eq!(
            verify(json!({"aud": wrong, "iss": iss})),
            Err(TokenFault::Audience),
            "{wrong}"
        );
    }
    for wrong in [
        json!({"aud": "landfall"}),
        json!({"aud": "landfall", "iss": "https://id.example.attacker.example"}),
    ] {
        assert_eq!(verify(wrong), Err(TokenFault::Issuer));
    }
    let own = keys.tokens.issue(&ann(), now_s() + 60).unwrap();
    assert_eq!(keys.user(&own), Ok(ann()), "what it issues it accepts");
}

#[test]
fn entities_come_from_their_claim() {
    let key = EncodingKey::from_secret(&secret().0);
    let read = |name: &str, mut extra: Value| {
        let rules = TokenRules {
            entities_claim: EntitiesClaim(name.into()),
            ..TokenRules::default()
        };
        extra["sub"] = json!("ann");
        extra["exp"] = json!(now_s() + 60);
        let token = sign(Algorithm::HS256, None, &extra, &key);
        let tokens = Tokens::with(Some(&secret()), rules).unwrap();
        tokens.verify(&token).map(|claimed| claimed.entities)
    };
    let two = Ok(BTreeSet::from(["s1".to_owned(), "s2".to_owned()]));
    assert_eq!(
        read("entities", json!({"entities": ["s2", "s1", "s2"]})),
        two
    );
    assert_eq!(read("a/b", json!({"a/b": ["s1", "s2"]})), two);
    let nested = json!({"app_metadata": {"sites": ["s1", "s2"]}});
    assert_eq!(read("/app_metadata/sites", nested), two);
    for none in [
        json!({}),
        json!({"entities": []}),
        json!({"entities": null}),
    ] {
        assert_eq!(read("entities", none), Ok(BTreeSet::new()));
    }
    let many: Vec<_> = (0..=limits::ENTITIES_MAX).map(|n| n.to_string()).collect();
    for wrong in [
        json!("s1"),
        json!({"s1": true}),
        json!(["s1", 2]),
        json!([""]),
        json!(["s".repeat(limits::RECORD_ID_BYTES_MAX + 1)]),
        json!(many),
    ] {
        let answer = read("entities", json!({"entities": wrong}));
        assert_eq!(answer, Err(TokenFault::Entities));
    }
    for name in ["entities", "/app_metadata/sites"] {
        let rules = TokenRules {
            entities_claim: EntitiesClaim(name.into()),
            ..TokenRules::default()
        };
        let tokens = Tokens::with(Some(&secret()), rules).unwrap();
        let token = tokens
            .issue_for(&ann(), &["s1", "s2"], now_s() + 60)
            .unwrap();
        assert_eq!(tokens.verify(&token).map(|claimed| claimed.entities), two);
    }
}

#[test]
fn a_new_key_set_takes_effect_and_a_broken_one_does_not() {
    let keys = Keys::of(&[rsa_public(RSA_ONE, "r1")], None);
    let old = sign(Algorithm::RS256, Some("r1"), &claims(), &rsa(RSA_ONE));
    let new = sign(Algorithm::RS256, Some("r2"), &claims(), &rsa(RSA_TWO));
    assert_eq!(
        (keys.user(&old), keys.user(&new)),
        (Ok(ann()), Err(TokenFault::Invalid))
    );

    for broken in ["", "{", "{\"keys\": []}", "{\"keys\": 7}"] {
        keys.rewrite(broken);
        assert_eq!(keys.user(&old), Ok(ann()), "{broken}");
    }
    keys.rewrite(&"x".repeat(limits::JWKS_BYTES_MAX as usize + 1));
    assert_eq!(keys.user(&old), Ok(ann()));

    keys.rewrite(&set(&[
        rsa_public(RSA_ONE, "r1"),
        rsa_public(RSA_TWO, "r2"),
    ]));
    assert_eq!((keys.user(&old), keys.user(&new)), (Ok(ann()), Ok(ann())));
    keys.rewrite(&set(&[rsa_public(RSA_TWO, "r2")]));
    assert_eq!(
        (keys.user(&old), keys.user(&new)),
        (Err(TokenFault::Invalid), Ok(ann()))
    );

    std::fs::remove_file(Keys::file(&keys.folder)).unwrap();
    let public = keys.tokens.public.as_ref().unwrap();
    public.looked.lock().unwrap().at -= limits::JWKS_LOOK * 2;
    assert_eq!(
        keys.user(&new),
        Ok(ann()),
        "the file is gone, the keys stay"
    );
}

#[test]
fn sets_hold_only_what_can_be_used() {
    let with = |name: &str, value: Value| {
        let mut key = rsa_public(RSA_ONE, "r1");
        key[name] = value;
        key
    };
    let short = public(&rsa(RSA_SHORT), Algorithm::RS256, "r1");
    let oct = json!({"kty": "oct", "kid": "o1", "alg": "HS256", "k": "c2VjcmV0"});
    for useless in [
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("RS512")),
        with("alg", json!("HS256")),
        with("kty", json!("oct")),
        with("n", json!("!")),
        with("n", json!("AQAB")),
        short,
        oct,
        json!(7),
    ] {
        let opened = Keys::by(std::slice::from_ref(&useless), None, TokenRules::default());
        assert!(matches!(opened.err(), Some(JwksFault::NoKey)), "{useless}");
        // Beside a good key it does no harm.
        let keys = Keys::of(&[useless, ec_public(EC_ONE, "e1")], None);
        assert_eq!(keys.tokens.public.as_ref().unwrap().current().len(), 1);
    }
    let twice = [rsa_public(RSA_ONE, "k"), rsa_public(RSA_TWO, "k")];
    let opened = Keys::by(&twice, None, TokenRules::default());
    assert!(matches!(opened.err(), Some(JwksFault::Repeated(_))));
    let absent = TokenRules {
        jwks_file: Some(Path::new("/nonexistent/jwks.json").into()),
        ..TokenRules::default()
    };
    let opened = Tokens::with(None, absent);
    assert!(matches!(opened.err(), Some(JwksFault::Unreadable(_))));
}

#[test]
fn secrets_are_long_and_hidden() {
    assert_eq!(Secret::new("short").unwrap_err(), SecretTooShort);
    assert_eq!(format!("{:?}", Secret::random().unwrap()), "Secret(…)");
    let shown = format!("{:?}", tokens(7));
    assert!(
        shown.contains("secret: true") && !shown.contains("7, 7"),
        "{shown}"
    );
}
