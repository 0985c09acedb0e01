//! Bringing a database to the schema that this program knows: versioned, one instance at a time, safe to repeat.

use aiproxy_config::snapshot::DatabaseKind;
use aiproxy_core::time;

use crate::connection::{Connection, Value};
use crate::error::{StoreError, StoreErrorKind};

/// What leads from one version of the schema to the next: for SQLite, PostgreSQL, MySQL. A script that was released
/// never changes. MySQL cannot take back a script that ended half-way, so its scripts can be repeated.
const MIGRATIONS: [[&str; 3]; 1] = [[
    include_str!("../migrations/sqlite/0001_ledger.sql"),
    include_str!("../migrations/postgres/0001_ledger.sql"),
    include_str!("../migrations/mysql/0001_ledger.sql"),
]];

/// The version of the schema that this program writes.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// Who holds this lock migrates: PostgreSQL's locks have numbers.
const LOCK: i64 = 0x6169_7072_6f78_7931;

/// Brings the database up to date.
pub(crate) async fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    if has_versions(connection).await? && version(connection).await? == SCHEMA_VERSION {
        return Ok(());
    }
    lock(connection).await?;
    let outcome = apply(connection).await;
    unlock(connection, outcome.is_ok()).await?;
    outcome
}

async fn apply(connection: &mut Connection) -> Result<(), StoreError> {
    connection
        .script(
            "CREATE TABLE IF NOT EXISTS schema_versions (version INT NOT NULL PRIMARY KEY, applied_at_ms BIGINT NOT NULL)",
        )
        .await?;
    let found = version(connection).await?;
    for (index, scripts) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let number = index as i64 + 1;
        connection.script(scripts[column(connection.kind())]).await?;
        let now = time::unix_ms() as i64;
        connection
            .run(
                "INSERT INTO schema_versions (version, applied_at_ms) VALUES (?, ?)",
                &[Value::Int(number), Value::Int(now)],
            )
            .await?;
        tracing::info!(database = %connection.place, version = number, "the database's schema was brought up to date");
    }
    Ok(())
}

fn column(kind: DatabaseKind) -> usize {
    match kind {
        DatabaseKind::Sqlite => 0,
        DatabaseKind::Postgres => 1,
        DatabaseKind::Mysql => 2,
    }
}

/// The version found, unless it is none of ours.
async fn version(connection: &mut Connection) -> Result<i64, StoreError> {
    let rows = connection.rows("SELECT COALESCE(MAX(version), 0) FROM schema_versions", &[]).await?;
    let found = rows.first().map_or(Ok(0), |row| row.int(0)).map_err(|error| connection.unreadable(error))?;
    if found > SCHEMA_VERSION {
        let message = format!(
            "the database was written by a newer AIProxy (schema {found}, this binary knows {SCHEMA_VERSION}); update \
             the binary"
        );
        return Err(StoreError::new(StoreErrorKind::Newer, message));
    }
    Ok(found)
}

async fn has_versions(connection: &mut Connection) -> Result<bool, StoreError> {
    let sql = match connection.kind() {
        DatabaseKind::Sqlite => "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'schema_versions'",
        DatabaseKind::Postgres => "SELECT COUNT(*) FROM pg_catalog.pg_class WHERE oid = to_regclass('schema_versions')",
        DatabaseKind::Mysql => {
            "SELECT COUNT(*) FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = 'schema_versions'"
        }
    };
    let rows = connection.rows(sql, &[]).await?;
    let count = rows.first().map_or(Ok(0), |row| row.int(0)).map_err(|error| connection.unreadable(error))?;
    Ok(count > 0)
}

/// Waits until no other instance migrates. In SQLite and PostgreSQL all that follows is one transaction.
async fn lock(connection: &mut Connection) -> Result<(), StoreError> {
    match connection.kind() {
        DatabaseKind::Sqlite => connection.begin().await,
        DatabaseKind::Postgres => {
            connection.begin().await?;
            connection.run("SELECT pg_advisory_xact_lock(?)", &[Value::Int(LOCK)]).await.map(drop)
        }
        DatabaseKind::Mysql => {
            let sql = "SELECT GET_LOCK(CONCAT('aiproxy-', MD5(DATABASE())), 20)";
            let rows = connection.rows(sql, &[]).await?;
            let got = rows.first().map_or(Ok(None), |row| row.maybe_int(0));
            if got.map_err(|error| connection.unreadable(error))? != Some(1) {
                return Err(StoreError::unavailable("another instance is changing the schema; waiting for it"));
            }
            Ok(())
        }
    }
}

async fn unlock(connection: &mut Connection, is_done: bool) -> Result<(), StoreError> {
    match connection.kind() {
        DatabaseKind::Mysql => {
            connection.rows("SELECT RELEASE_LOCK(CONCAT('aiproxy-', MD5(DATABASE())))", &[]).await.map(drop)
        }
        DatabaseKind::Sqlite | DatabaseKind::Postgres if is_done => connection.commit().await,
        // The connection is dropped, and the transaction with it.
        DatabaseKind::Sqlite | DatabaseKind::Postgres => Ok(()),
    }
}
