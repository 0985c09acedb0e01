//! Questions to the ledger in SQLite, PostgreSQL and MariaDB: whatever is asked, the answer is what adding up the
//! entries by hand gives, to the unit.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

#[path = "../servers/mod.rs"]
mod servers;

mod calls;
mod pages;
mod retention;
mod speed;
mod sums;

/// Runs each test with each kind of database.
macro_rules! with_each_database {
    ($($name:ident,)+) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::servers::TestDatabase::sqlite().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::servers::TestDatabase::postgres().await).await;
            })+
        }
        mod mariadb {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::servers::TestDatabase::mariadb().await).await;
            })+
        }
    };
}
use with_each_database;
