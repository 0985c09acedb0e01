//! The writing side of the store against SQLite, PostgreSQL and MariaDB.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

#[path = "../servers/mod.rs"]
mod servers;

mod ingest;
mod sample;
mod schema;
mod speed;
mod upkeep;

/// Runs each test against each kind of database.
macro_rules! in_every_database {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(crate::servers::TestDatabase::sqlite().await).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(crate::servers::TestDatabase::postgres().await).await; })*
        }
        mod mariadb {
            $(#[tokio::test] async fn $name() { super::$name(crate::servers::TestDatabase::mariadb().await).await; })*
        }
    };
}
use in_every_database;
