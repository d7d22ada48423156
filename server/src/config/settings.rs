//! The configuration as people write it: a TOML file, variables of the environment, the command line.
//! Each is a [`Settings`] with some of its fields; they are laid over one another, the command line
//! on top, the defaults at the bottom.
//!
//! An unknown key is refused with its line: a limit that was misspelt is a limit that does not hold.
//! There is no key for a secret itself, only for the file that holds it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;

/// What can be set. Every field is optional: a layer has those that it sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port of the API.
    pub listen: Option<SocketAddr>,
    /// A folder whose files are served beside the API.
    pub static_dir: Option<PathBuf>,
    /// `off`, `on` (beside the API), or an address of its own.
    pub metrics: Option<String>,
    /// The header in which a proxy tells the address of who asks.
    pub proxy_header: Option<String>,
    /// What to log.
    pub log: Option<String>,
    /// Whether the log is JSON.
    pub log_json: Option<bool>,
    /// Whether records of types that are not listed are taken.
    pub open_types: Option<bool>,
    /// The database.
    pub database: Database,
    /// Tokens.
    pub tokens: Tokens,
    /// Pages of other origins.
    pub cors: Cors,
    /// How much is asked for.
    pub rates: Rates,
    /// Tokens for the asking.
    pub demo: Demo,
    /// Records to begin with.
    pub seed: Seed,
    /// Bounds on files.
    pub media: Media,
    /// Bounds on streams.
    pub streams: Streams,
    /// What is kept of the past.
    pub retention: Retention,
    /// The collections.
    pub types: BTreeMap<String, Type>,
}

/// `[database]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// An SQLite file, or `:memory:`.
    pub path: Option<PathBuf>,
    /// A PostgreSQL; the file that holds it here is to be readable by the server alone.
    pub url: Option<Hidden>,
}

/// A text that is not shown: neither by `Debug` nor in a message about a wrong option.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub(super) String);

impl Hidden {
    /// Whether it is the URL of a database with a password in it, well-formed or not.
    pub fn has_password(&self) -> bool {
        let (address, parameters) = self.0.split_once('?').unwrap_or((&self.0, ""));
        let address = address.split_once("//").map_or(address, |(_, rest)| rest);
        let user = address.rsplit_once('@').map_or("", |(user, _)| user);
        let password = user.split_once(':').map_or("", |(_, password)| password);
        let named = |pair: &str| pair.split('=').next() == Some("password");
        !password.is_empty() || parameters.split('&').any(named)
    }
}

impl FromStr for Hidden {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

/// `[tokens]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// The file with the secret of HS256.
    pub secret_file: Option<PathBuf>,
    /// The file with the public keys of RS256 and ES256.
    pub jwks_file: Option<PathBuf>,
    /// One of these must be in `aud`.
    pub audience: Option<Vec<String>>,
    /// This must be in `iss`.
    pub issuer: Option<String>,
    /// How far clocks may differ.
    pub leeway_s: Option<u64>,
    /// The claim that lists the user's entities.
    pub entities_claim: Option<String>,
}

/// `[cors]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// `https://app.example`, or `*`.
    pub origins: Option<Vec<String>>,
}

/// `[rates]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Requests and changes a second of one user; 0 for no bound.
    pub user_per_second: Option<u32>,
    /// As many at once.
    pub user_burst: Option<u32>,
    /// Requests a second from one address without a valid token; 0 for no bound.
    pub peer_per_second: Option<u32>,
    /// As many at once.
    pub peer_burst: Option<u32>,
}

/// `[demo]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Demo {
    /// Whether there are demo tokens.
    pub enabled: Option<bool>,
    /// Whether other machines get them.
    pub allow_remote: Option<bool>,
}

/// `[seed]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seed {
    /// A JSON array of records.
    pub file: Option<PathBuf>,
    /// Their collection.
    pub r#type: Option<String>,
    /// Whose they are.
    pub user: Option<String>,
}

/// `[media]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// Bytes of one file.
    pub file_bytes_max: Option<u64>,
    /// Bytes of all files of one user.
    pub user_bytes_max: Option<u64>,
    /// Days that an unfinished upload is kept.
    pub kept_days: Option<u32>,
}

/// `[streams]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Streams {
    /// Seconds between two heartbeats; positive.
    pub heartbeat_s: Option<u32>,
    /// At the same time.
    pub max: Option<usize>,
    /// At the same time for one user.
    pub user_max: Option<usize>,
}

/// `[retention]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Days that tombstones, results of mutations and settled conflicts are kept; 0 for ever.
    pub days: Option<u32>,
    /// Days that conflicts are kept which nobody settles; 0 for ever.
    pub open_conflicts_days: Option<u32>,
}

/// `[types.<name>]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Type {
    /// The field that holds the id of the entity that a record belongs to.
    pub entity: Option<String>,
    /// The file of the JSON Schema that records keep to.
    pub schema: Option<PathBuf>,
}

/// Why a layer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFault {
    /// The file cannot be read.
    #[error("cannot read the configuration {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// More than [`limits::CONFIG_BYTES_MAX`].
    #[error("the configuration {0} is longer than {max} bytes", max = limits::CONFIG_BYTES_MAX)]
    TooLong(PathBuf),
    /// Not TOML, an unknown key, or a value that is none.
    #[error("the configuration {0} is not valid: {1}")]
    Malformed(PathBuf, String),
    /// Two layers do not fit together.
    #[error("the configuration is not valid: {0}")]
    Unfit(String),
}

impl Settings {
    /// What holds where nothing else is said.
    pub fn defaults() -> Self {
        let rates = super::Rates::default();
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 8787))),
            log: Some("info".into()),
            log_json: Some(false),
            tokens: Tokens {
                audience: Some(Vec::new()),
                leeway_s: Some(limits::TOKEN_LEEWAY_S),
                entities_claim: Some("entities".into()),
                ..Tokens::default()
            },
            cors: Cors {
                origins: Some(Vec::new()),
            },
            rates: Rates {
                user_per_second: rates.user.map(|rate| rate.per_second),
                user_burst: rates.user.map(|rate| rate.burst),
                peer_per_second: rates.peer.map(|rate| rate.per_second),
                peer_burst: rates.peer.map(|rate| rate.burst),
            },
            demo: Demo {
                enabled: Some(false),
                allow_remote: Some(false),
            },
            media: Media {
                file_bytes_max: Some(limits::MEDIA_BYTES_MAX),
                user_bytes_max: Some(limits::MEDIA_USER_BYTES_MAX),
                kept_days: Some(7),
            },
            streams: Streams {
                heartbeat_s: Some(20),
                max: Some(limits::STREAMS_MAX),
                user_max: Some(limits::STREAMS_PER_USER_MAX),
            },
            retention: Retention {
                days: Some(90),
                open_conflicts_days: Some(365),
            },
            ..Self::default()
        }
    }

    /// Reads a file. Relative paths in it start at its folder.
    pub fn read(file: &Path) -> Result<Self, SettingsFault> {
        let unreadable = |error| SettingsFault::Unreadable(file.into(), error);
        let mut text = String::new();
        std::fs::File::open(file)
            .map_err(unreadable)?
            .take(limits::CONFIG_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > limits::CONFIG_BYTES_MAX {
            return Err(SettingsFault::TooLong(file.into()));
        }
        let mut settings: Self = toml::from_str(&text)
            .map_err(|error| SettingsFault::Malformed(file.into(), error.to_string()))?;
        settings.start_at(file.parent().unwrap_or(Path::new("")));
        Ok(settings)
    }

    fn start_at(&mut self, folder: &Path) {
        let schemas = self.types.values_mut().map(|rule| &mut rule.schema);
        let paths = [
            &mut self.static_dir,
            &mut self.database.path,
            &mut self.tokens.secret_file,
            &mut self.tokens.jwks_file,
            &mut self.seed.file,
        ];
        for path in paths.into_iter().chain(schemas).flatten() {
            if path.as_os_str() != ":memory:" {
                *path = folder.join(&path);
            }
        }
    }

    /// This layer over another one.
    pub fn over(&self, below: &Self) -> Result<Self, SettingsFault> {
        let mut below = below.clone();
        if self.database != Database::default() {
            // Of the two kinds of database, the upper layer's is meant.
            below.database = Database::default();
        }
        let unfit = |error: &dyn std::fmt::Display| SettingsFault::Unfit(error.to_string());
        let mut table = toml::Table::try_from(&below).map_err(|error| unfit(&error))?;
        let above = toml::Table::try_from(self).map_err(|error| unfit(&error))?;
        lay(&mut table, above);
        table.try_into().map_err(|error| unfit(&error))
    }

    /// As a file that would set the same, but for what is not to be shown.
    pub fn shown(&self) -> Result<String, SettingsFault> {
        let mut shown = self.clone();
        let head = match shown.database.url.take() {
            Some(_) => "# database.url is set, and not shown.\n",
            None => "",
        };
        let text = toml::to_string(&shown);
        let text = text.map_err(|error| SettingsFault::Unfit(error.to_string()))?;
        Ok(format!("{head}{text}"))
    }
}

fn lay(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(table)) => lay(inner, table),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("landfall.toml");
        std::fs::write(&file, text).unwrap();
        Settings::read(&file).map_err(|fault| fault.to_string())
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        for (text, key, line) in [
            ("listne = \"127.0.0.1:1\"", "listne", "line 1"),
            (
                "\n[rates]\nuser_pre_second = 5",
                "user_pre_second",
                "line 3",
            ),
            ("[types.sites]\nshema = \"x\"", "shema", "line 2"),
            ("[tokens]\nsecret = \"x\"", "secret", "line 2"),
            ("[rates]\nuser_burst = \"many\"", "user_burst", "line 2"),
            ("listen = \"here\"", "listen", "line 1"),
            ("[rates", "[rates", "line 1"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(key) && told.contains(line), "{told}");
        }
    }

    #[test]
    fn layers_lie_over_one_another() {
        let file = read("log = \"debug\"\n[rates]\nuser_burst = 5\n[types.a]\n[types.b]").unwrap();
        let flags = Settings {
            log: Some("warn".into()),
            ..Settings::default()
        };
        let all = flags
            .over(&file.over(&Settings::defaults()).unwrap())
            .unwrap();
        assert_eq!(all.log.as_deref(), Some("warn"), "the flag wins");
        assert_eq!(all.rates.user_burst, Some(5), "then the file");
        assert_eq!(all.rates.user_per_second, Some(limits::USER_PER_SECOND));
        assert_eq!(all.types.len(), 2);
        let again: Settings = toml::from_str(&all.shown().unwrap()).unwrap();
        assert_eq!(again, all, "what is shown can be used");
    }

    #[test]
    fn paths_of_a_file_start_at_its_folder() {
        let text = "[database]\npath = \"a.db\"\n[types.s]\nschema = \"s.json\"";
        let settings = read(text).unwrap();
        assert!(settings.database.path.unwrap().is_absolute());
        assert!(settings.types["s"].schema.as_ref().unwrap().is_absolute());
        let memory = read("[database]\npath = \":memory:\"").unwrap();
        assert_eq!(memory.database.path, Some(":memory:".into()));
    }
}
