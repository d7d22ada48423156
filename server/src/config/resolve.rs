//! From [`Settings`] to a [`Config`]: files are read, names checked, and what does not fit together is
//! refused in a sentence.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};

use super::settings::{self, Hidden, Settings, SettingsFault};
use super::{Config, Cors, Database, Demo, MediaLimits, Metrics, Rates, Seed, StreamLimits};
use crate::ids::{InvalidId, RecordType, UserId};
use crate::limits;
use crate::rate::Rate;
use crate::retention::Retention;
use crate::schema::{Schema, SchemaFault};
use crate::store::postgres::{DatabaseUrl, InvalidUrl};
use crate::store::sqlite::Location;
use crate::token::{EntitiesClaim, JwksFault, Secret, SecretTooShort, TokenRules, Tokens};
use crate::types::{TypeRule, TypeRules};

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// The variable that holds the secret where no file does. There is no option for it: the arguments
/// of a process can be read by all users of a machine.
pub const SECRET_VARIABLE: &str = "LANDFALL_JWT_SECRET";

/// Why the settings make no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    /// A layer cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsFault),
    /// No database.
    #[error("no database: give --db or --database-url, or set `path` or `url` in [database]")]
    NoDatabase,
    /// Both kinds of database.
    #[error("--db and --database-url (or LANDFALL_DATABASE_URL): give one of them")]
    TwoDatabases,
    /// A database's URL that is none.
    #[error(transparent)]
    DatabaseUrl(#[from] InvalidUrl),
    /// Nothing to verify tokens with, and no demo asked for.
    #[error(
        "no secret and no keys: give --jwt-secret-file or --jwks-file, or set {SECRET_VARIABLE} \
         (or use --demo)"
    )]
    NoSecret,
    /// The secret cannot be read.
    #[error("cannot read the secret from {0}: {1}")]
    SecretFile(PathBuf, std::io::Error),
    /// The secret is too short.
    #[error(transparent)]
    SecretTooShort(#[from] SecretTooShort),
    /// The key set cannot be used.
    #[error("cannot use the key set {0}: {1}")]
    Jwks(PathBuf, JwksFault),
    /// A leeway that makes expiry meaningless.
    #[error("the leeway is at most {} seconds", limits::TOKEN_LEEWAY_S_MAX)]
    Leeway,
    /// No randomness for a demo's secret.
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
    /// An origin that cannot stand in a header.
    #[error("{0:?} is not an origin")]
    Origin(String),
    /// A type or user that cannot be one.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A seed without its type, or user.
    #[error("a seed needs its file, its type and its user")]
    Seed,
    /// Neither off, nor on, nor an address.
    #[error("{0:?}: the metrics are `off`, `on`, or at an address such as 127.0.0.1:9187")]
    Metrics(String),
    /// A header's name that is none.
    #[error("{0:?} is not the name of a header")]
    ProxyHeader(String),
    /// A bucket that holds nothing.
    #[error("a burst is at least 1")]
    Burst,
    /// Heartbeats without a pause.
    #[error("the heartbeat of streams is at least 1 second")]
    Heartbeat,
    /// No types, and others are not taken.
    #[error("no types: list them as [types.<name>], or take any with --open-types")]
    NoTypes,
    /// The entity's field has no name.
    #[error("the `entity` of type {0} is empty")]
    Entity(String),
    /// A schema that cannot be used.
    #[error("cannot use the schema {1} of type {0}: {2}")]
    Schema(String, PathBuf, SchemaFault),
}

impl Settings {
    /// Makes a configuration; `variable` is the value of [`SECRET_VARIABLE`].
    pub fn into_config(self, variable: Option<String>) -> Result<Config, ConfigFault> {
        let demo = self.is_demo();
        let tokens = Arc::new(tokens(self.tokens, variable, demo)?);
        let types = types(self.types, self.open_types.unwrap_or(demo))?;
        let database = database(self.database.path, self.database.url)?;
        let metrics = metrics(self.metrics.as_deref(), demo)?;
        let proxy_header = self.proxy_header.map(|name| {
            let parsed = HeaderName::try_from(name.as_str());
            parsed.map_err(|_| ConfigFault::ProxyHeader(name))
        });
        Ok(Config {
            database,
            tokens,
            static_dir: self.static_dir,
            cors: cors(self.cors.origins.unwrap_or_default())?,
            demo: match (demo, self.demo.allow_remote.unwrap_or_default()) {
                (false, _) => Demo::Off,
                (true, false) => Demo::Loopback,
                (true, true) => Demo::Anyone,
            },
            seed: seed(self.seed)?,
            types,
            rates: rates(&self.rates)?,
            metrics,
            media: media(&self.media),
            stream: streams(&self.streams)?,
            retention: retention(&self.retention),
            proxy_header: proxy_header.transpose()?,
        })
    }

    /// What holds where a default depends on other settings, written out.
    pub fn completed(mut self) -> Self {
        let demo = self.is_demo();
        self.open_types.get_or_insert(demo);
        let metrics = if demo { "on" } else { "off" };
        self.metrics.get_or_insert_with(|| metrics.into());
        self
    }

    fn is_demo(&self) -> bool {
        self.demo.enabled.unwrap_or_default()
    }

    /// Where the API is to be.
    pub fn address(&self) -> SocketAddr {
        let usual = SocketAddr::from(([127, 0, 0, 1], 8787));
        self.listen.unwrap_or(usual)
    }
}

/// The database, which is one of two kinds.
pub(crate) fn database(
    path: Option<PathBuf>,
    url: Option<Hidden>,
) -> Result<Database, ConfigFault> {
    match (path, url) {
        (Some(_), Some(_)) => Err(ConfigFault::TwoDatabases),
        (None, Some(Hidden(url))) => Ok(url.parse::<DatabaseUrl>()?.into()),
        (Some(path), None) => Ok(location(path).into()),
        (None, None) => Err(ConfigFault::NoDatabase),
    }
}

/// Where the database is that a path means.
fn location(path: PathBuf) -> Location {
    match path.to_str() {
        Some(":memory:") => Location::Memory,
        _ => Location::File(path),
    }
}

fn tokens(
    settings: settings::Tokens,
    variable: Option<String>,
    demo: bool,
) -> Result<Tokens, ConfigFault> {
    let secret = match (&settings.secret_file, variable) {
        (Some(file), _) => {
            let bytes = std::fs::read(file)
                .map_err(|error| ConfigFault::SecretFile(file.clone(), error))?;
            Some(Secret::new(bytes.trim_ascii_end())?)
        }
        (None, Some(text)) => Some(Secret::new(text)?),
        (None, None) if demo => Some(Secret::random()?),
        (None, None) if settings.jwks_file.is_some() => None,
        (None, None) => return Err(ConfigFault::NoSecret),
    };
    let leeway_s = settings.leeway_s.unwrap_or(limits::TOKEN_LEEWAY_S);
    if leeway_s > limits::TOKEN_LEEWAY_S_MAX {
        return Err(ConfigFault::Leeway);
    }
    let jwks_file = settings.jwks_file.clone();
    let rules = TokenRules {
        jwks_file: settings.jwks_file,
        audience: settings.audience.unwrap_or_default(),
        issuer: settings.issuer,
        leeway_s,
        entities_claim: settings
            .entities_claim
            .map_or_else(EntitiesClaim::default, EntitiesClaim),
    };
    Tokens::with(secret.as_ref(), rules)
        .map_err(|fault| ConfigFault::Jwks(jwks_file.unwrap_or_default(), fault))
}

fn types(listed: BTreeMap<String, settings::Type>, open: bool) -> Result<TypeRules, ConfigFault> {
    if listed.is_empty() && !open {
        return Err(ConfigFault::NoTypes);
    }
    let rule = |(name, rule): (String, settings::Type)| {
        let name = RecordType::new(name)?;
        if rule.entity.as_deref() == Some("") {
            return Err(ConfigFault::Entity(name.as_str().into()));
        }
        let schema = rule.schema.map(|file| {
            let schema = Schema::read(&file).map(Arc::new);
            schema.map_err(|fault| ConfigFault::Schema(name.as_str().into(), file, fault))
        });
        let rule = TypeRule {
            entity: rule.entity.map(Into::into),
            schema: schema.transpose()?,
        };
        Ok((name, rule))
    };
    let listed = listed.into_iter().map(rule).collect::<Result<_, _>>()?;
    Ok(TypeRules::new(open, listed))
}

fn seed(seed: settings::Seed) -> Result<Option<Seed>, ConfigFault> {
    match (seed.file, seed.r#type, seed.user) {
        (None, None, None) => Ok(None),
        (Some(file), Some(record_type), Some(user)) => Ok(Some(Seed {
            file,
            record_type: RecordType::new(record_type)?,
            user: UserId::new(user)?,
        })),
        _ => Err(ConfigFault::Seed),
    }
}

fn rates(rates: &settings::Rates) -> Result<Rates, ConfigFault> {
    let usual = Rates::default();
    let rate = |per_second: Option<u32>, burst: Option<u32>, usual: Option<Rate>| {
        let usual_of = |part: fn(Rate) -> u32| usual.map_or(1, part);
        let per_second = per_second.unwrap_or_else(|| usual_of(|rate| rate.per_second));
        let burst = burst.unwrap_or_else(|| usual_of(|rate| rate.burst));
        match (per_second, burst) {
            (0, _) => Ok(None),
            (_, 0) => Err(ConfigFault::Burst),
            (per_second, burst) => Ok(Some(Rate { per_second, burst })),
        }
    };
    Ok(Rates {
        user: rate(rates.user_per_second, rates.user_burst, usual.user)?,
        peer: rate(rates.peer_per_second, rates.peer_burst, usual.peer)?,
    })
}

fn media(media: &settings::Media) -> MediaLimits {
    let usual = MediaLimits::default();
    let kept = media.kept_days.map(|days| u64::from(days) * SECONDS_A_DAY);
    MediaLimits {
        file_bytes_max: media.file_bytes_max.unwrap_or(usual.file_bytes_max),
        user_bytes_max: media.user_bytes_max.unwrap_or(usual.user_bytes_max),
        kept: kept.map_or(usual.kept, Duration::from_secs),
    }
}

fn streams(streams: &settings::Streams) -> Result<StreamLimits, ConfigFault> {
    let usual = StreamLimits::default();
    let heartbeat = match streams.heartbeat_s {
        Some(0) => return Err(ConfigFault::Heartbeat),
        seconds => seconds.map(|seconds| Duration::from_secs(seconds.into())),
    };
    Ok(StreamLimits {
        heartbeat: heartbeat.unwrap_or(usual.heartbeat),
        debounce: usual.debounce,
        all: streams.max.unwrap_or(usual.all),
        each: streams.user_max.unwrap_or(usual.each),
    })
}

fn retention(retention: &settings::Retention) -> Retention {
    let usual = Retention::default();
    let kept = |days: Option<u32>, usual: Option<Duration>| match days {
        None => usual,
        Some(0) => None,
        Some(days) => Some(Duration::from_secs(u64::from(days) * SECONDS_A_DAY)),
    };
    Retention {
        past: kept(retention.days, usual.past),
        open_conflicts: kept(retention.open_conflicts_days, usual.open_conflicts),
    }
}

fn metrics(text: Option<&str>, demo: bool) -> Result<Metrics, ConfigFault> {
    match text {
        None if demo => Ok(Metrics::Beside),
        None | Some("off") => Ok(Metrics::Off),
        Some("on") => Ok(Metrics::Beside),
        Some(text) => {
            let address = text.parse().map(Metrics::Apart);
            address.map_err(|_| ConfigFault::Metrics(text.into()))
        }
    }
}

fn cors(origins: Vec<String>) -> Result<Cors, ConfigFault> {
    if origins.is_empty() {
        return Ok(Cors::Off);
    }
    if origins.iter().any(|origin| origin == "*") {
        return Ok(Cors::Any);
    }
    let parse = |origin: String| {
        let shaped = origin.contains("://") && !origin.ends_with('/');
        let value = HeaderValue::from_str(&origin).ok().filter(|_| shaped);
        value.ok_or(ConfigFault::Origin(origin))
    };
    Ok(Cors::Origins(
        origins.into_iter().map(parse).collect::<Result<_, _>>()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Sharing;

    fn resolve(text: &str) -> Result<Config, ConfigFault> {
        let settings: Settings = toml::from_str(text).unwrap();
        let all = settings.over(&Settings::defaults()).unwrap();
        all.into_config(Some("s".repeat(32)))
    }

    const DB: &str = "open_types = true\ndatabase.path = \":memory:\"\n";

    #[test]
    fn defaults_are_those_of_the_code() {
        let config = resolve(DB).unwrap();
        assert_eq!(config.rates, Rates::default());
        assert_eq!((config.metrics, config.demo), (Metrics::Off, Demo::Off));
        assert_eq!(config.media, MediaLimits::default());
        assert_eq!(config.stream, StreamLimits::default());
        assert_eq!(config.retention, Retention::default());
        let kept = resolve(&format!(
            "{DB}retention.days = 0\nretention.open_conflicts_days = 3"
        ));
        let days = |days: u64| Some(Duration::from_secs(days * SECONDS_A_DAY));
        let expected = Retention {
            past: None,
            open_conflicts: days(3),
        };
        assert_eq!(kept.unwrap().retention, expected);
        assert_eq!(Retention::default().open_conflicts, days(365));
        let demo = resolve(&format!("{DB}demo.enabled = true")).unwrap();
        assert_eq!((demo.metrics, demo.demo), (Metrics::Beside, Demo::Loopback));
    }

    #[test]
    fn origins_are_origins() {
        assert_eq!(cors(vec![]).unwrap(), Cors::Off);
        assert_eq!(cors(vec!["*".into()]).unwrap(), Cors::Any);
        assert!(matches!(
            cors(vec!["https://a.example".into()]),
            Ok(Cors::Origins(_))
        ));
        assert!(cors(vec!["a.example".into()]).is_err());
        assert!(cors(vec!["https://a.example/".into()]).is_err());
    }

    #[test]
    fn rates_can_be_set_and_taken_away() {
        let rates = |text: &str| resolve(&format!("{DB}{text}")).map(|config| config.rates);
        let own = rates("rates.user_per_second = 5\nrates.user_burst = 7").unwrap();
        let rate = Rate {
            per_second: 5,
            burst: 7,
        };
        assert_eq!(own.user, Some(rate));
        assert_eq!(own.peer, Rates::default().peer);
        assert_eq!(rates("rates.user_per_second = 0").unwrap().user, None);
        assert!(matches!(
            rates("rates.peer_burst = 0"),
            Err(ConfigFault::Burst)
        ));
    }

    #[test]
    fn types_are_listed_or_open() {
        let closed = "database.path = \":memory:\"\n";
        assert!(matches!(resolve(closed), Err(ConfigFault::NoTypes)));
        let sites = RecordType::new("sites").unwrap();
        let other = RecordType::new("other").unwrap();
        let rules = "[types.sites]\nentity = \"id\"";
        let config = resolve(&format!("{closed}{rules}")).unwrap();
        assert_eq!(config.types.sharing(&sites), Sharing::Entity("id".into()));
        assert!(config.types.knows(&sites) && !config.types.knows(&other));
        let config = resolve(&format!("{DB}{rules}")).unwrap();
        assert!(config.types.knows(&other));
        assert_eq!(config.types.sharing(&other), Sharing::Private);
        let wrong = format!("{DB}[types.\"a,b\"]");
        assert!(matches!(resolve(&wrong), Err(ConfigFault::Id(_))));
        let wrong = format!("{DB}[types.sites]\nschema = \"/nonexistent.json\"");
        assert!(matches!(resolve(&wrong), Err(ConfigFault::Schema(..))));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for text in [
            "tokens.leeway_s = 4000",
            "metrics = \"9187\"",
            "proxy_header = \"a b\"",
            "tokens.jwks_file = \"/nonexistent.json\"",
            "tokens.secret_file = \"/nonexistent\"",
            "seed.file = \"seed.json\"",
        ] {
            assert!(resolve(&format!("{DB}{text}")).is_err(), "{text}");
        }
        let apart = resolve(&format!("{DB}metrics = \"127.0.0.1:9187\"")).unwrap();
        assert!(matches!(apart.metrics, Metrics::Apart(_)));
    }
}
