//! Where the database is, and how it is connected to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use aiproxy_config::snapshot::{Database, DatabaseKind};
use aiproxy_core::Secret;
use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::error::StoreError;

/// How long SQLite waits for another writer of the file.
const BUSY: Duration = Duration::from_secs(10);

/// Which database, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What speaks at the URL.
    pub kind: DatabaseKind,
    /// The URL; may hold a password.
    pub url: Secret,
}

impl Options {
    /// A database by its URL.
    #[must_use]
    pub fn new(kind: DatabaseKind, url: Secret) -> Self {
        Self { kind, url }
    }

    /// As `system.database` says; by default the SQLite file `aiproxy.db` in `data_dir`.
    #[must_use]
    pub fn configured(database: &Database, data_dir: &Path) -> Self {
        match &database.url {
            Some(url) => Self::new(database.kind, url.clone()),
            None => Self::sqlite(&data_dir.join("aiproxy.db")),
        }
    }

    /// A SQLite file.
    #[must_use]
    pub fn sqlite(path: &Path) -> Self {
        let mut url = String::from("sqlite:");
        for character in path.to_string_lossy().chars() {
            match character {
                '%' => url.push_str("%25"),
                '?' => url.push_str("%3F"),
                '#' => url.push_str("%23"),
                _ => url.push(character),
            }
        }
        Self::new(DatabaseKind::Sqlite, Secret::from(url))
    }

    /// What is connected to.
    pub(crate) fn target(&self) -> Result<Target, StoreError> {
        let url = self.url.expose();
        // The parsers' own messages may quote the URL.
        let unreadable = |_| {
            StoreError::unavailable(format!(
                "system.database: this is not a URL of {}; expected {}",
                name(self.kind),
                match self.kind {
                    DatabaseKind::Sqlite => "`sqlite:/path`",
                    DatabaseKind::Postgres => "`postgres://user:password@host/name`",
                    DatabaseKind::Mysql => "`mysql://user:password@host/name`",
                }
            ))
        };
        Ok(match self.kind {
            DatabaseKind::Sqlite => {
                let options = SqliteConnectOptions::from_str(url).map_err(unreadable)?;
                Target::Sqlite(Box::new(
                    options
                        .create_if_missing(true)
                        .auto_vacuum(SqliteAutoVacuum::Incremental)
                        .journal_mode(SqliteJournalMode::Wal)
                        .synchronous(SqliteSynchronous::Normal)
                        .busy_timeout(BUSY)
                        .pragma("journal_size_limit", "67108864")
                        .pragma("cache_size", "-16384")
                        .disable_statement_logging(),
                ))
            }
            DatabaseKind::Postgres => {
                let options = PgConnectOptions::from_str(url).map_err(unreadable)?;
                Target::Postgres(Box::new(options.application_name("aiproxy").disable_statement_logging()))
            }
            DatabaseKind::Mysql => {
                let options = MySqlConnectOptions::from_str(url).map_err(unreadable)?;
                Target::Mysql(Box::new(options.disable_statement_logging()))
            }
        })
    }
}

/// What is connected to, and how.
#[derive(Clone)]
pub(crate) enum Target {
    Sqlite(Box<SqliteConnectOptions>),
    Postgres(Box<PgConnectOptions>),
    Mysql(Box<MySqlConnectOptions>),
}

impl Target {
    /// The same without its secret, for messages.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Sqlite(options) => Place {
                kind: DatabaseKind::Sqlite,
                address: options.get_filename().display().to_string(),
                user: String::new(),
                database: String::new(),
            },
            Self::Postgres(options) => Place {
                kind: DatabaseKind::Postgres,
                address: match options.get_socket() {
                    Some(socket) => socket.display().to_string(),
                    None => format!("{}:{}", options.get_host(), options.get_port()),
                },
                user: options.get_username().to_owned(),
                database: options.get_database().unwrap_or(options.get_username()).to_owned(),
            },
            Self::Mysql(options) => Place {
                kind: DatabaseKind::Mysql,
                address: match options.get_socket() {
                    Some(socket) => socket.display().to_string(),
                    None => format!("{}:{}", options.get_host(), options.get_port()),
                },
                user: options.get_username().to_owned(),
                database: options.get_database().unwrap_or_default().to_owned(),
            },
        }
    }

    /// The file, where it is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Sqlite(options) => Some(options.get_filename().to_owned()),
            Self::Postgres(_) | Self::Mysql(_) => None,
        }
    }
}

/// Where a database is, as messages say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: DatabaseKind,
    /// Host and port, path of a socket or of a file.
    pub(crate) address: String,
    pub(crate) user: String,
    pub(crate) database: String,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DatabaseKind::Sqlite => write!(formatter, "the SQLite file {}", self.address),
            kind => write!(formatter, "{} database {} at {}", name(kind), self.database, self.address),
        }
    }
}

/// A kind of database as its makers write it.
pub(crate) fn name(kind: DatabaseKind) -> &'static str {
    match kind {
        DatabaseKind::Sqlite => "SQLite",
        DatabaseKind::Postgres => "PostgreSQL",
        DatabaseKind::Mysql => "MySQL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_without_its_password() {
        let place = |kind, url: &str| Options::new(kind, Secret::new(url)).target().unwrap().place().to_string();
        assert_eq!(
            place(DatabaseKind::Postgres, "postgres://me:canary@db.internal/ledger"),
            "PostgreSQL database ledger at db.internal:5432"
        );
        assert_eq!(
            place(DatabaseKind::Mysql, "mariadb://me:canary@db.internal:3307/ledger"),
            "MySQL database ledger at db.internal:3307"
        );
        let file = Options::sqlite(Path::new("/a 50% ?#/aiproxy.db")).target().unwrap();
        assert_eq!(file.place().to_string(), "the SQLite file /a 50% ?#/aiproxy.db");
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated() {
        let options = Options::new(DatabaseKind::Postgres, Secret::new("postgres://me:canary word@[nonsense"));
        let Err(error) = options.target() else { panic!("it was read") };
        assert!(error.to_string().contains("postgres://user:password@host/name"));
        assert!(!error.to_string().contains("canary"));
    }
}
