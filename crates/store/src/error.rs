//! What goes wrong with a database, told so that an administrator knows what to do, and sorted by what a writer does
//! about it.

use std::fmt;
use std::io;

use aiproxy_config::snapshot::DatabaseKind;
use aiproxy_ledger::SinkError;
use sqlx::mysql::MySqlDatabaseError;

use crate::options::{Place, name};

/// Why the database did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// It cannot be used now: not reachable, locked, full, not permitted. Trying again may help.
    Unavailable,
    /// It does not want the data. Trying again does not help.
    Rejected,
    /// What was to be added is there already.
    Duplicate,
    /// It was written by a newer version of this program.
    Newer,
    /// The file is not a database, or broken.
    Corrupt,
}

impl StoreError {
    pub(crate) fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Unavailable, message)
    }

    pub(crate) fn timed_out(place: &Place, seconds: u64) -> Self {
        Self::unavailable(format!(
            "{place} did not answer within {seconds} s: look at its load, and whether the network drops packets"
        ))
    }

    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// What `error` means at `place`.
    pub(crate) fn from_sqlx(place: &Place, error: &sqlx::Error) -> Self {
        let (kind, message) = match error {
            sqlx::Error::Database(error) if error.is_unique_violation() => {
                (StoreErrorKind::Duplicate, error.message().to_owned())
            }
            sqlx::Error::Database(error) => match place.kind {
                DatabaseKind::Sqlite => sqlite(place, error.as_ref()),
                DatabaseKind::Postgres => postgres(place, error.as_ref()),
                DatabaseKind::Mysql => mysql(place, error.as_ref()),
            },
            sqlx::Error::Io(error) => (StoreErrorKind::Unavailable, unreachable(place, error)),
            sqlx::Error::Tls(error) => (StoreErrorKind::Unavailable, format!("TLS with {place}: {error}")),
            sqlx::Error::PoolTimedOut => (
                StoreErrorKind::Unavailable,
                format!("no connection to {place} became free: it does not answer, or all are busy"),
            ),
            sqlx::Error::Encode(error) => (StoreErrorKind::Rejected, error.to_string()),
            error => (StoreErrorKind::Unavailable, format!("{place}: {error}")),
        };
        Self { kind, message }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for SinkError {
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::Rejected | StoreErrorKind::Duplicate => Self::Rejected(error.message),
            StoreErrorKind::Unavailable | StoreErrorKind::Newer | StoreErrorKind::Corrupt => {
                Self::Unavailable(error.message)
            }
        }
    }
}

type Told = (StoreErrorKind, String);

fn unreachable(place: &Place, error: &io::Error) -> String {
    let Place { kind, address, .. } = place;
    let kind = name(*kind);
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("nothing answers at {address}: is {kind} running there, and are host and port right?")
        }
        io::ErrorKind::NotFound => format!("there is no socket {address}: is {kind} running on this machine?"),
        io::ErrorKind::PermissionDenied => format!("{address} must not be opened by this user: {error}"),
        io::ErrorKind::TimedOut => format!("{address} does not answer: is a firewall in between?"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            format!("{kind} at {address} closed the connection: was it restarted, or the connection ended there?")
        }
        _ if error.to_string().contains("lookup address") => {
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            format!("there is no host {host}: is its name right, and does name resolution work? ({error})")
        }
        _ => format!("{kind} at {address}: {error}"),
    }
}

/// Codes: <https://www.sqlite.org/rescode.html>. The low byte is the primary code.
fn sqlite(place: &Place, error: &dyn sqlx::error::DatabaseError) -> Told {
    let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(1) & 0xff;
    let message = error.message();
    let file = &place.address;
    match code {
        5 | 6 => (StoreErrorKind::Unavailable, format!("{file} is locked by another process that writes to it")),
        8 => {
            let why = "it is read-only: give this user the right to write to the file and its directory";
            (StoreErrorKind::Unavailable, format!("{file}: {why}"))
        }
        11 | 26 => (StoreErrorKind::Corrupt, format!("{file} is not a sound SQLite file: {message}")),
        13 => (StoreErrorKind::Unavailable, format!("{file} cannot grow: the disk is full; free some space")),
        14 => {
            let why = "does its directory exist, and may this user write to it?";
            (StoreErrorKind::Unavailable, format!("{file} cannot be opened: {why}"))
        }
        10 => (StoreErrorKind::Unavailable, format!("{file}: {message}; look at the disk and the system's log")),
        18..=20 => (StoreErrorKind::Rejected, message.to_owned()),
        _ => (StoreErrorKind::Unavailable, format!("{file}: {message}")),
    }
}

/// Codes: PostgreSQL's manual, appendix A. Class 22 is data, 23 is constraints.
fn postgres(place: &Place, error: &dyn sqlx::error::DatabaseError) -> Told {
    let code = error.code().unwrap_or_default();
    let message = error.message();
    let Place { user, database, address, .. } = place;
    let told = match code.as_ref() {
        "28P01" | "28000" => {
            format!("PostgreSQL at {address} does not let user {user} in ({message}): look at user and password")
        }
        "3D000" => format!("there is no database {database} at {address}: create it with `createdb {database}`"),
        "42501" => format!("user {user} lacks a right in {place} ({message}): make it the owner of the database"),
        "53300" => format!("PostgreSQL at {address} has no connection left: raise its max_connections"),
        "53100" => format!("the disk of PostgreSQL at {address} is full ({message}): free some space there"),
        "57014" => format!("{place} took too long and the statement was cancelled"),
        "25006" => format!("{place} is read-only, probably a standby: give the address of the primary"),
        "42P01" => format!("a table is missing in {place} ({message}): was it dropped?"),
        other if other.starts_with("22") || other.starts_with("23") => {
            return (StoreErrorKind::Rejected, message.to_owned());
        }
        _ => format!("{place}: {message}"),
    };
    (StoreErrorKind::Unavailable, told)
}

/// Numbers: the MySQL Server Error Reference; MariaDB has the same below 1900 and its own from there.
fn mysql(place: &Place, error: &dyn sqlx::error::DatabaseError) -> Told {
    let number = error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number);
    let message = error.message();
    let Place { user, database, address, .. } = place;
    let told = match number {
        1045 | 1698 => format!("MySQL at {address} does not let user {user} in ({message}): look at user and password"),
        1049 => format!("there is no database {database} at {address}: create it with `CREATE DATABASE {database}`"),
        1044 | 1142 | 1143 | 1227 => {
            let grant = format!("GRANT ALL ON {database}.* TO '{user}'");
            format!("user {user} lacks a right in {place} ({message}): `{grant}`")
        }
        1040 | 1203 => format!("MySQL at {address} has no connection left: raise its max_connections"),
        1021 | 1114 => format!("the disk of MySQL at {address} is full ({message}): free some space there"),
        1290 | 1836 => format!("{place} is read-only, probably a replica: give the address of the primary"),
        // NULL, constraints, out of range, wrong text, too long, too large.
        1048 | 1153 | 1264 | 1265 | 1292 | 1366 | 1406 | 1451 | 1452 | 1690 | 3819 | 4025 => {
            return (StoreErrorKind::Rejected, message.to_owned());
        }
        _ => format!("{place}: {message}"),
    };
    (StoreErrorKind::Unavailable, told)
}
