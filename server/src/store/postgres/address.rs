//! Where a PostgreSQL is, as a URL. It holds a password, so it can be turned into options for a
//! connection and into nothing else: what it shows is host and database.

use std::fmt;
use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// What a URL may say after the `?`. Others are refused rather than passed on: the library would
/// write them to the log with their values, and a misspelt `password` is one.
const PARAMETERS: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
];

/// A database's address with all that it takes to get in.
#[derive(Clone)]
pub struct DatabaseUrl(Box<PgConnectOptions>);

/// Why a text is no address. Never quotes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Another scheme, or none.
    #[error("the database's URL begins with postgres:// or postgresql://")]
    Scheme,
    /// A parameter that means nothing here.
    #[error("the database's URL has a parameter that is none of {}", PARAMETERS.join(", "))]
    Parameter,
    /// It cannot be read.
    #[error("the database's URL cannot be read; write special characters as %XX")]
    Form,
}

impl DatabaseUrl {
    /// For a connection that does not write statements to the log.
    pub(super) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::clone(&self.0)
            .application_name("landfall-server")
            .disable_statement_logging()
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .ok_or(InvalidUrl::Scheme)?;
        let parameters = rest.split_once('?').map_or("", |(_, after)| after);
        let known = |pair: &str| {
            let name = pair.split('=').next().unwrap_or_default();
            PARAMETERS.contains(&name)
        };
        if !parameters.is_empty() && !parameters.split('&').all(known) {
            return Err(InvalidUrl::Parameter);
        }
        // The library's own error may quote what it could not read.
        let options = text.parse().map_err(|_| InvalidUrl::Form)?;
        Ok(Self(Box::new(options)))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.get_socket().map_or_else(
            || self.0.get_host().to_owned(),
            |folder| folder.display().to_string(),
        );
        let database = self.0.get_database().unwrap_or_default();
        write!(f, "{host}/{database}")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

impl PartialEq for DatabaseUrl {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_url_lossy() == other.0.to_url_lossy()
    }
}

impl Eq for DatabaseUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_neither_password_nor_user() {
        for text in [
            "postgres://ann:hush-hush@db.example:5433/landfall",
            "postgresql://ann@db.example/landfall?password=hush-hush&sslmode=disable",
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), "db.example/landfall");
            assert_eq!(format!("{url:?}"), "DatabaseUrl(db.example/landfall)");
        }
        let socket: DatabaseUrl = "postgres:///landfall?host=/run/pg".parse().unwrap();
        assert_eq!(socket.to_string(), "/run/pg/landfall");
    }

    #[test]
    fn faults_quote_nothing() {
        for (text, fault) in [
            ("mysql://ann:hush@h/d", InvalidUrl::Scheme),
            ("postgres://h/d?passwort=hush", InvalidUrl::Parameter),
            ("postgres://h/d?sslmode=hush", InvalidUrl::Form),
            ("postgres://ann:hush@h:port/d", InvalidUrl::Form),
        ] {
            let told = text.parse::<DatabaseUrl>().unwrap_err();
            assert_eq!(told, fault, "{text}");
            assert!(!format!("{told} {told:?}").contains("hush"));
        }
    }
}
