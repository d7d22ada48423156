//! The command line.

mod assign;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use self::assign::{AssignError, Command};
use axum::http::HeaderValue;
use clap::Parser;

use crate::config::{Config, Cors, Database, Demo, Seed};
use crate::ids::{InvalidId, RecordType, UserId};
use crate::store::postgres::{DatabaseUrl, InvalidUrl};
use crate::store::sqlite::Location;
use crate::token::{Secret, SecretTooShort};

/// The variable that holds the secret where no file does. There is no option for it: the arguments
/// of a process can be read by all users of a machine.
pub const SECRET_VARIABLE: &str = "LANDFALL_JWT_SECRET";

/// The variable that holds the database's URL, password included, where no option does.
pub const DATABASE_VARIABLE: &str = "LANDFALL_DATABASE_URL";

/// A text that is not shown: neither by `Debug` nor in a message about a wrong option.
#[derive(Clone)]
pub struct Hidden(String);

impl std::str::FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

/// The reference server of landfall.
///
/// Tokens are JSON Web Tokens (HS256); their secret, of at least 32 bytes, comes from
/// --jwt-secret-file or from the variable LANDFALL_JWT_SECRET. The first line on standard output
/// tells the address once the server accepts connections; the log goes to standard error.
#[derive(Debug, Parser)]
#[command(
    name = "landfall-server",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    /// Address and port; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8787")]
    pub listen: SocketAddr,
    /// The database: an SQLite file, created where it does not exist, or `:memory:`.
    #[arg(long, value_name = "PATH", required_unless_present = "database_url")]
    pub db: Option<PathBuf>,
    /// The database: a PostgreSQL (`postgres://user:password@host/name`). Better said by the
    /// variable, since all users of a machine can read a process's arguments.
    #[arg(long, value_name = "URL", env = DATABASE_VARIABLE, hide_env_values = true)]
    pub database_url: Option<Hidden>,
    /// Serve the files of this folder beside the API.
    #[arg(long = "static", value_name = "DIR")]
    pub static_dir: Option<PathBuf>,
    /// Read the secret of the tokens from this file; a line break at its end is not part of it.
    #[arg(long, value_name = "FILE")]
    pub jwt_secret_file: Option<PathBuf>,
    /// Let pages of this origin call the API; may be repeated; `*` for any.
    #[arg(long, value_name = "ORIGIN")]
    pub cors_origin: Vec<String>,
    /// Give out tokens at POST /demo/token, to this machine; a random secret unless one is given.
    #[arg(long)]
    pub demo: bool,
    /// Give demo tokens to other machines as well.
    #[arg(long, requires = "demo")]
    pub demo_allow_remote: bool,
    /// Import this JSON array of records, unless the user has any of the type.
    #[arg(
        long,
        value_name = "FILE",
        requires = "seed_type",
        requires = "seed_user"
    )]
    pub seed: Option<PathBuf>,
    /// The collection of the imported records.
    #[arg(long, value_name = "TYPE", requires = "seed")]
    pub seed_type: Option<String>,
    /// The user of the imported records.
    #[arg(long, value_name = "USER", requires = "seed")]
    pub seed_user: Option<String>,
    /// What to log: `error`, `warn`, `info`, `debug`, `off`, or `target=level,…`.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// Log as JSON, one object a line.
    #[arg(long)]
    pub log_json: bool,
    /// What to do in place of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Why the arguments make no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// No secret was given, and no demo asked for.
    #[error("no secret: give --jwt-secret-file or set {SECRET_VARIABLE} (or use --demo)")]
    NoSecret,
    /// The secret cannot be read.
    #[error("cannot read the secret from {0}: {1}")]
    SecretFile(PathBuf, std::io::Error),
    /// The secret is too short.
    #[error(transparent)]
    SecretTooShort(#[from] SecretTooShort),
    /// No randomness for a demo's secret.
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
    /// Both kinds of database.
    #[error("--db and --database-url (or {DATABASE_VARIABLE}): give one of them")]
    TwoDatabases,
    /// A database's URL that is none.
    #[error(transparent)]
    DatabaseUrl(#[from] InvalidUrl),
    /// An origin that cannot stand in a header.
    #[error("{0:?} is not an origin")]
    Origin(String),
    /// A type or user that cannot be one.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

impl Args {
    /// Makes a configuration; `variable` is the value of [`SECRET_VARIABLE`].
    pub fn into_config(self, variable: Option<String>) -> Result<Config, ArgsError> {
        let secret = match (&self.jwt_secret_file, variable) {
            (Some(file), _) => {
                let bytes = std::fs::read(file)
                    .map_err(|error| ArgsError::SecretFile(file.clone(), error))?;
                Secret::new(bytes.trim_ascii_end())?
            }
            (None, Some(text)) => Secret::new(text)?,
            (None, None) if self.demo => Secret::random()?,
            (None, None) => return Err(ArgsError::NoSecret),
        };
        let database = database(self.db, self.database_url)?;
        let seed = match (self.seed, self.seed_type, self.seed_user) {
            (Some(file), Some(record_type), Some(user)) => Some(Seed {
                file,
                record_type: RecordType::new(record_type)?,
                user: UserId::new(user)?,
            }),
            _ => None,
        };
        Ok(Config {
            static_dir: self.static_dir,
            cors: cors(self.cors_origin)?,
            demo: match (self.demo, self.demo_allow_remote) {
                (false, _) => Demo::Off,
                (true, false) => Demo::Loopback,
                (true, true) => Demo::Anyone,
            },
            seed,
            ..Config::new(database, secret)
        })
    }
}

fn database(file: Option<PathBuf>, url: Option<Hidden>) -> Result<Database, ArgsError> {
    match (file, url) {
        (Some(_), Some(_)) => Err(ArgsError::TwoDatabases),
        (None, Some(Hidden(url))) => Ok(url.parse::<DatabaseUrl>()?.into()),
        (Some(path), None) => Ok(location(path).into()),
        (None, None) => Ok(Location::Memory.into()),
    }
}

/// Where the database is that the argument names.
fn location(path: PathBuf) -> Location {
    match path.to_str() {
        Some(":memory:") => Location::Memory,
        _ => Location::File(path),
    }
}

fn cors(origins: Vec<String>) -> Result<Cors, ArgsError> {
    if origins.is_empty() {
        return Ok(Cors::Off);
    }
    if origins.iter().any(|origin| origin == "*") {
        return Ok(Cors::Any);
    }
    let parse = |origin: String| {
        let shaped = origin.contains("://") && !origin.ends_with('/');
        let value = HeaderValue::from_str(&origin).ok().filter(|_| shaped);
        value.ok_or(ArgsError::Origin(origin))
    };
    Ok(Cors::Origins(
        origins.into_iter().map(parse).collect::<Result<_, _>>()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str], variable: Option<&str>) -> Result<Config, ArgsError> {
        let args = ["landfall-server"].iter().chain(args);
        Args::try_parse_from(args)
            .unwrap()
            .into_config(variable.map(Into::into))
    }

    #[test]
    fn a_secret_is_needed_unless_it_is_a_demo() {
        let long = "s".repeat(32);
        assert!(matches!(
            config(&["--db", ":memory:"], None),
            Err(ArgsError::NoSecret)
        ));
        assert!(matches!(
            config(&["--db", ":memory:"], Some("short")),
            Err(ArgsError::SecretTooShort(_))
        ));
        let plain = config(&["--db", ":memory:"], Some(&long)).unwrap();
        assert_eq!(
            (plain.database, plain.demo),
            (Location::Memory.into(), Demo::Off)
        );
        let demo = config(&["--db", "a.db", "--demo"], None).unwrap();
        assert_eq!(demo.database, Location::File("a.db".into()).into());
        assert_eq!(demo.demo, Demo::Loopback);
    }

    #[test]
    fn a_secret_file_loses_its_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{}\n", "s".repeat(31))).unwrap();
        let args = [
            "--db",
            ":memory:",
            "--jwt-secret-file",
            file.to_str().unwrap(),
        ];
        assert!(matches!(
            config(&args, None),
            Err(ArgsError::SecretTooShort(_))
        ));
        std::fs::write(&file, format!("{}\n", "s".repeat(32))).unwrap();
        assert!(config(&args, None).is_ok());
    }

    #[test]
    fn a_database_is_one_of_two_and_its_password_is_not_shown() {
        let url = "postgres://ann:hush-hush@db.example/landfall";
        let args = ["landfall-server", "--demo", "--database-url", url];
        let args = Args::try_parse_from(args).unwrap();
        assert!(!format!("{args:?}").contains("hush"), "{args:?}");
        let config = args.into_config(None).unwrap();
        assert!(!format!("{config:?}").contains("hush"), "{config:?}");
        assert!(matches!(config.database, Database::Postgres(_)));
        assert!(matches!(
            config_of(&["--demo", "--db", "a.db", "--database-url", url]),
            Err(ArgsError::TwoDatabases)
        ));
        for wrong in ["ann:hush-hush@db", "postgres://ann:hush-hush@db:x/y"] {
            let told = config_of(&["--demo", "--database-url", wrong]).unwrap_err();
            assert!(!format!("{told} {told:?}").contains("hush"), "{told:?}");
        }
        assert!(Args::try_parse_from(["landfall-server", "--demo"]).is_err());
    }

    fn config_of(args: &[&str]) -> Result<Config, ArgsError> {
        config(args, None)
    }

    #[test]
    fn a_seed_needs_its_type_and_user() {
        let parse = |args: &[&str]| {
            Args::try_parse_from(["landfall-server", "--db", "a"].iter().chain(args)).is_ok()
        };
        assert!(!parse(&["--seed", "f.json"]));
        assert!(!parse(&["--seed", "f.json", "--seed-type", "sites"]));
        assert!(!parse(&["--seed-type", "sites", "--seed-user", "demo"]));
        assert!(parse(&[
            "--seed",
            "f.json",
            "--seed-type",
            "sites",
            "--seed-user",
            "demo"
        ]));
        assert!(!parse(&["--demo-allow-remote"]));
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
}
