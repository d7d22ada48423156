//! The command line.

mod assign;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::assign::{AssignError, Command as Assign};
pub use crate::config::resolve::{ConfigFault, SECRET_VARIABLE};
use crate::config::settings::{self, Hidden, Settings, SettingsFault};

/// The variable that holds the database's URL, password included, where no option does.
pub const DATABASE_VARIABLE: &str = "LANDFALL_DATABASE_URL";

/// The reference server of landfall.
///
/// Tokens are JSON Web Tokens, HS256 by a secret of at least 32 bytes (--jwt-secret-file, or the variable
/// LANDFALL_JWT_SECRET), RS256 and ES256 by the public keys of --jwks-file. What is not given here is
/// taken from the environment, then from the file of --config, then from the defaults. The first
/// line on standard output tells the address once the server accepts connections; the log goes to
/// standard error.
#[derive(Debug, Parser)]
#[command(
    name = "landfall-server",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    /// Something else than serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What is set.
    #[command(flatten)]
    pub flags: Flags,
}

/// What else the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration and print what is in force, as a file that would set the same. Secrets
    /// are not shown.
    CheckConfig(Box<Flags>),
    /// Who works with which entity.
    #[command(flatten)]
    Assignments(Assign),
}

/// The options that set something. Each has a variable, and most a key in the file.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "LANDFALL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address and port; port 0 takes a free one. 127.0.0.1:8787 if not given.
    #[arg(long, value_name = "ADDRESS", env = "LANDFALL_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// The database: an SQLite file, created where it does not exist, or `:memory:`.
    #[arg(long, value_name = "PATH", env = "LANDFALL_DB")]
    pub db: Option<PathBuf>,
    /// The database: a PostgreSQL (`postgres://user@host/name`). One with a password is refused here,
    /// since all users of a machine can read a process's arguments: put it into the variable.
    #[arg(long, value_name = "URL", env = DATABASE_VARIABLE, hide_env_values = true)]
    pub database_url: Option<Hidden>,
    /// Serve the files of this folder beside the API.
    #[arg(long = "static", value_name = "DIR", env = "LANDFALL_STATIC")]
    pub static_dir: Option<PathBuf>,
    /// Read the secret of the tokens from this file; a line break at its end is not part of it.
    #[arg(long, value_name = "FILE", env = "LANDFALL_JWT_SECRET_FILE")]
    pub jwt_secret_file: Option<PathBuf>,
    /// Read public keys (a JSON Web Key Set) from this file; a new one takes effect by itself.
    #[arg(long, value_name = "FILE", env = "LANDFALL_JWKS_FILE")]
    pub jwks_file: Option<PathBuf>,
    /// Tokens must name this audience; may be repeated, one of them is enough.
    #[arg(
        long,
        value_name = "NAME",
        env = "LANDFALL_AUDIENCE",
        value_delimiter = ','
    )]
    pub audience: Option<Vec<String>>,
    /// Tokens must come from this issuer.
    #[arg(long, value_name = "NAME", env = "LANDFALL_ISSUER")]
    pub issuer: Option<String>,
    /// How far the clocks of issuer and server may differ.
    #[arg(long, value_name = "SECONDS", env = "LANDFALL_LEEWAY")]
    pub leeway: Option<u64>,
    /// The claim that lists a user's entities: a name, or a JSON pointer. `entities` if not given.
    #[arg(long, value_name = "CLAIM", env = "LANDFALL_ENTITIES_CLAIM")]
    pub entities_claim: Option<String>,
    /// Let pages of this origin call the API; may be repeated; `*` for any.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "LANDFALL_CORS_ORIGIN",
        value_delimiter = ','
    )]
    pub cors_origin: Option<Vec<String>>,
    /// Take records of types that are not listed in the configuration file.
    #[arg(long, value_name = "BOOL", env = "LANDFALL_OPEN_TYPES",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub open_types: Option<bool>,
    /// Requests and changes a second of one user; 0 for no bound.
    #[arg(long, value_name = "N", env = "LANDFALL_USER_RATE")]
    pub user_rate: Option<u32>,
    /// As many at once.
    #[arg(long, value_name = "N", env = "LANDFALL_USER_BURST")]
    pub user_burst: Option<u32>,
    /// Requests a second from one address without a valid token; 0 for no bound.
    #[arg(long, value_name = "N", env = "LANDFALL_PEER_RATE")]
    pub peer_rate: Option<u32>,
    /// As many at once.
    #[arg(long, value_name = "N", env = "LANDFALL_PEER_BURST")]
    pub peer_burst: Option<u32>,
    /// The header in which a proxy in front tells who asks (the last address in it counts).
    #[arg(long, value_name = "NAME", env = "LANDFALL_PROXY_HEADER")]
    pub proxy_header: Option<String>,
    /// Prometheus metrics: `off`, `on` (beside the API, for all), or an address of their own.
    #[arg(long, value_name = "WHERE", env = "LANDFALL_METRICS")]
    pub metrics: Option<String>,
    /// Give out tokens at POST /demo/token, to this machine; a random secret unless one is given.
    #[arg(long, value_name = "BOOL", env = "LANDFALL_DEMO",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub demo: Option<bool>,
    /// Give demo tokens to other machines as well.
    #[arg(long, value_name = "BOOL", env = "LANDFALL_DEMO_ALLOW_REMOTE",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub demo_allow_remote: Option<bool>,
    /// Import this JSON array of records, unless the user has any of the type.
    #[arg(long, value_name = "FILE", env = "LANDFALL_SEED")]
    pub seed: Option<PathBuf>,
    /// The collection of the imported records.
    #[arg(long, value_name = "TYPE", env = "LANDFALL_SEED_TYPE")]
    pub seed_type: Option<String>,
    /// The user of the imported records.
    #[arg(long, value_name = "USER", env = "LANDFALL_SEED_USER")]
    pub seed_user: Option<String>,
    /// Bytes of one file.
    #[arg(long, value_name = "BYTES", env = "LANDFALL_MEDIA_FILE_BYTES_MAX")]
    pub media_file_bytes_max: Option<u64>,
    /// Bytes of all files of one user.
    #[arg(long, value_name = "BYTES", env = "LANDFALL_MEDIA_USER_BYTES_MAX")]
    pub media_user_bytes_max: Option<u64>,
    /// Days that an unfinished upload is kept.
    #[arg(long, value_name = "DAYS", env = "LANDFALL_MEDIA_KEPT_DAYS")]
    pub media_kept_days: Option<u32>,
    /// Between two heartbeats of a stream.
    #[arg(long, value_name = "SECONDS", env = "LANDFALL_STREAM_HEARTBEAT")]
    pub stream_heartbeat: Option<u32>,
    /// Streams at the same time.
    #[arg(long, value_name = "N", env = "LANDFALL_STREAMS_MAX")]
    pub streams_max: Option<usize>,
    /// Streams of one user at the same time.
    #[arg(long, value_name = "N", env = "LANDFALL_STREAMS_USER_MAX")]
    pub streams_user_max: Option<usize>,
    /// Days that tombstones, results of mutations and settled conflicts are kept; 0 for ever.
    #[arg(long, value_name = "DAYS", env = "LANDFALL_RETENTION_DAYS")]
    pub retention_days: Option<u32>,
    /// Days that conflicts are kept which nobody settles, at least as long as the rest; 0 for ever.
    #[arg(
        long,
        value_name = "DAYS",
        env = "LANDFALL_RETENTION_OPEN_CONFLICTS_DAYS"
    )]
    pub retention_open_conflicts_days: Option<u32>,
    /// What to log: `error`, `warn`, `info`, `debug`, `off`, or `target=level,…`. `info` if not given.
    #[arg(long, value_name = "FILTER", env = "LANDFALL_LOG")]
    pub log: Option<String>,
    /// Log as JSON, one object a line.
    #[arg(long, value_name = "BOOL", env = "LANDFALL_LOG_JSON",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub log_json: Option<bool>,
}

impl Args {
    /// Reads the command line and the environment. A password on the command line is an error: what
    /// stands there is in the list of processes, and in the history of a shell.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(line)?;
        let below = matches.subcommand().map(|(_, below)| below);
        if shows_password(&matches) || below.is_some_and(shows_password) {
            let told = format!(
                "--database-url holds a password, which all users of this machine can read there: \
                 put the URL into the variable {DATABASE_VARIABLE}, and change the password"
            );
            return Err(command.error(ErrorKind::ValueValidation, told));
        }
        Self::from_arg_matches(&matches)
    }
}

/// Whether a database's URL was given as an argument, and has a password in it.
fn shows_password(matches: &ArgMatches) -> bool {
    const ID: &str = "database_url";
    // Not every subcommand has the option.
    let Ok(Some(url)) = matches.try_get_one::<Hidden>(ID) else {
        return false;
    };
    matches.value_source(ID) == Some(ValueSource::CommandLine) && url.has_password()
}

impl Flags {
    /// All that is set: these options over the file over the defaults.
    pub fn settings(self) -> Result<Settings, SettingsFault> {
        let file = self.config.as_deref().map(Settings::read).transpose()?;
        let below = file.unwrap_or_default().over(&Settings::defaults())?;
        self.layer().over(&below)
    }

    fn layer(self) -> Settings {
        Settings {
            listen: self.listen,
            static_dir: self.static_dir,
            metrics: self.metrics,
            proxy_header: self.proxy_header,
            log: self.log,
            log_json: self.log_json,
            open_types: self.open_types,
            database: settings::Database {
                path: self.db,
                url: self.database_url,
            },
            tokens: settings::Tokens {
                secret_file: self.jwt_secret_file,
                jwks_file: self.jwks_file,
                audience: self.audience,
                issuer: self.issuer,
                leeway_s: self.leeway,
                entities_claim: self.entities_claim,
            },
            cors: settings::Cors {
                origins: self.cors_origin,
            },
            rates: settings::Rates {
                user_per_second: self.user_rate,
                user_burst: self.user_burst,
                peer_per_second: self.peer_rate,
                peer_burst: self.peer_burst,
            },
            demo: settings::Demo {
                enabled: self.demo,
                allow_remote: self.demo_allow_remote,
            },
            seed: settings::Seed {
                file: self.seed,
                r#type: self.seed_type,
                user: self.seed_user,
            },
            retention: settings::Retention {
                days: self.retention_days,
                open_conflicts_days: self.retention_open_conflicts_days,
            },
            media: settings::Media {
                file_bytes_max: self.media_file_bytes_max,
                user_bytes_max: self.media_user_bytes_max,
                kept_days: self.media_kept_days,
            },
            streams: settings::Streams {
                heartbeat_s: self.stream_heartbeat,
                max: self.streams_max,
                user_max: self.streams_user_max,
            },
            // What is said of types stands in the file.
            types: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, Demo, MediaLimits, StreamLimits};
    use crate::retention::Retention;
    use crate::store::sqlite::Location;

    fn flags(args: &[&str]) -> Flags {
        let args = ["landfall-server"].iter().chain(args);
        Args::try_parse_from(args).unwrap().flags
    }

    fn config(args: &[&str], variable: Option<&str>) -> Result<Config, ConfigFault> {
        flags(args)
            .settings()?
            .into_config(variable.map(Into::into))
    }

    #[test]
    fn a_secret_is_needed_unless_it_is_a_demo() {
        let long = "s".repeat(32);
        let open = ["--db", ":memory:", "--open-types"];
        assert!(matches!(config(&open, None), Err(ConfigFault::NoSecret)));
        assert!(matches!(
            config(&open, Some("short")),
            Err(ConfigFault::SecretTooShort(_))
        ));
        let plain = config(&open, Some(&long)).unwrap();
        assert_eq!(
            (plain.database, plain.demo),
            (Location::Memory.into(), Demo::Off)
        );
        let demo = config(&["--db", "a.db", "--demo"], None).unwrap();
        assert_eq!(demo.database, Location::File("a.db".into()).into());
        assert_eq!(demo.demo, Demo::Loopback);
        assert!(matches!(
            config(&["--demo"], None),
            Err(ConfigFault::NoDatabase)
        ));
    }

    #[test]
    fn a_secret_file_loses_its_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{}\n", "s".repeat(31))).unwrap();
        let file_name = file.to_str().unwrap();
        let args = [
            "--db",
            ":memory:",
            "--open-types",
            "--jwt-secret-file",
            file_name,
        ];
        assert!(matches!(
            config(&args, None),
            Err(ConfigFault::SecretTooShort(_))
        ));
        std::fs::write(&file, format!("{}\n", "s".repeat(32))).unwrap();
        assert!(config(&args, None).is_ok());
    }

    #[test]
    fn a_database_is_one_of_two_and_its_password_is_not_shown() {
        let url = "postgres://ann:hush-hush@db.example/landfall";
        let given = flags(&["--demo", "--database-url", url]);
        assert!(!format!("{given:?}").contains("hush"), "{given:?}");
        let settings = given.settings().unwrap();
        assert!(!format!("{settings:?}").contains("hush"), "{settings:?}");
        let shown = settings.clone().completed().shown().unwrap();
        assert!(
            !shown.contains("hush") && shown.contains("database.url"),
            "{shown}"
        );
        let config = settings.into_config(None).unwrap();
        assert!(!format!("{config:?}").contains("hush"), "{config:?}");
        let fault = |args: &[&str]| config_of(args).unwrap_err().to_string();
        let both = fault(&["--demo", "--database-url", url, "--db", "a.db"]);
        assert!(both.contains("one of them"), "{both}");
        let wrong = fault(&["--demo", "--database-url", "mysql://ann:hush@db"]);
        assert!(!wrong.contains("hush"), "{wrong}");
    }

    fn config_of(args: &[&str]) -> Result<Config, ConfigFault> {
        config(args, None)
    }

    /// What [`Args::read`] says of a command line.
    fn refusal(line: &[&str]) -> Option<String> {
        let line = ["landfall-server"].iter().chain(line).map(OsString::from);
        let read = Args::read(line);
        read.err().map(|error| error.render().to_string())
    }

    #[test]
    fn a_password_on_the_command_line_is_refused() {
        let shown = [
            "postgres://ann:hush-hush@db.example/landfall",
            "postgresql://ann:hush/hush@db.example/landfall",
            "postgres://ann@db.example/landfall?sslmode=disable&password=hush",
            "ann:hush-hush@db.example",
        ];
        let assignment = ["assign", "--user", "ann", "--entity", "s1"];
        for url in shown {
            let option = ["--database-url", url];
            let lines = [
                [&["--demo"], &option[..]].concat(),
                [&["check-config", "--demo"], &option[..]].concat(),
                [&assignment[..], &option[..]].concat(),
                vec!["--demo", "--database-url=postgres://ann:hush@db"],
            ];
            for line in lines {
                let told = refusal(&line).unwrap();
                assert!(told.contains(DATABASE_VARIABLE), "{told}");
                assert!(!told.contains("hush"), "{told}");
            }
        }
        for url in [
            "postgres://ann@db.example:5432/landfall",
            "postgres://db.example:5432/landfall?options=-csearch_path%3Dsync",
            "postgres:///landfall?host=/run/pg&user=ann",
            "postgres://ann:@db.example/landfall",
        ] {
            assert_eq!(refusal(&["--demo", "--database-url", url]), None, "{url}");
        }
    }

    #[test]
    fn limits_of_files_and_streams_have_options() {
        let args = [
            ["--media-file-bytes-max", "1000"],
            ["--media-user-bytes-max", "2000"],
            ["--media-kept-days", "3"],
            ["--stream-heartbeat", "4"],
            ["--streams-max", "5"],
            ["--streams-user-max", "6"],
            ["--retention-days", "7"],
            ["--retention-open-conflicts-days", "8"],
        ];
        let needed = ["--db", ":memory:", "--demo"];
        let config = config_of(&[&needed, args.concat().as_slice()].concat()).unwrap();
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        let media = MediaLimits {
            file_bytes_max: 1000,
            user_bytes_max: 2000,
            kept: days(3),
        };
        let stream = StreamLimits {
            heartbeat: Duration::from_secs(4),
            all: 5,
            each: 6,
            ..StreamLimits::default()
        };
        let retention = Retention {
            past: Some(days(7)),
            open_conflicts: Some(days(8)),
        };
        assert_eq!(config.media, media);
        assert_eq!((config.stream, config.retention), (stream, retention));
    }

    #[test]
    fn a_seed_needs_its_type_and_user() {
        let seed = |args: &[&str]| {
            config(&[&["--db", "a", "--demo"], args].concat(), None).map(|config| config.seed)
        };
        let wrong = [
            &["--seed", "f.json"][..],
            &["--seed", "f.json", "--seed-type", "sites"],
            &["--seed-type", "sites", "--seed-user", "demo"],
        ];
        for args in wrong {
            assert!(matches!(seed(args), Err(ConfigFault::Seed)), "{args:?}");
        }
        let whole = [
            "--seed",
            "f.json",
            "--seed-type",
            "sites",
            "--seed-user",
            "demo",
        ];
        assert!(seed(&whole).unwrap().is_some());
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("landfall.toml");
        let text = "log = \"debug\"\ndemo.enabled = true\ndatabase.path = \"here.db\"\n\
                    cors.origins = [\"https://a.example\"]";
        std::fs::write(&file, text).unwrap();
        let args = [
            "--config",
            file.to_str().unwrap(),
            "--log",
            "warn",
            "--demo=false",
        ];
        let settings = flags(&args).settings().unwrap();
        assert_eq!(settings.log.as_deref(), Some("warn"));
        assert_eq!(settings.demo.enabled, Some(false));
        assert_eq!(settings.database.path, Some(folder.path().join("here.db")));
        assert_eq!(settings.cors.origins.unwrap().len(), 1);
        assert_eq!(settings.rates.user_burst, Some(crate::limits::USER_BURST));
    }
}
