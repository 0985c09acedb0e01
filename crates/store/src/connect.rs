//! Opening a connection: within a deadline, set up alike everywhere, with a schema that is up to date. A SQLite file
//! that is broken is moved aside, and a new one begun.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_core::time;
use sqlx::{ConnectOptions, MySqlConnection, PgConnection};
use tokio::sync::Mutex;

use crate::connection::{Connection, Held, Link};
use crate::error::{StoreError, StoreErrorKind};
use crate::migrate::migrate;
use crate::options::Target;

/// How long connecting may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// One at a time opens files: two that find a broken one would both move one aside.
static OPENING: Mutex<()> = Mutex::const_new(());

/// A connection of its own, to a database whose schema is up to date.
pub(crate) async fn connect(target: &Target) -> Result<Connection, StoreError> {
    let Some(file) = target.file() else { return open_and_migrate(target).await };
    let _guard = OPENING.lock().await;
    match open_and_migrate(target).await {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {
            move_aside(&file, &error)?;
            open_and_migrate(target).await
        }
        outcome => outcome,
    }
}

async fn open_and_migrate(target: &Target) -> Result<Connection, StoreError> {
    let mut connection = open(target).await?;
    migrate(&mut connection).await?;
    Ok(connection)
}

async fn open(target: &Target) -> Result<Connection, StoreError> {
    let place = Arc::new(target.place());
    let opening = async {
        Ok(match target {
            Target::Sqlite(options) => Link::Sqlite(Held::Own(Box::new(options.connect().await?))),
            Target::Postgres(options) => {
                let mut connection = options.connect().await?;
                set_up_postgres(&mut connection).await?;
                Link::Postgres(Held::Own(Box::new(connection)))
            }
            Target::Mysql(options) => {
                let mut connection = options.connect().await?;
                set_up_mysql(&mut connection).await?;
                Link::Mysql(Held::Own(Box::new(connection)))
            }
        })
    };
    // Boxed, because it holds three drivers' ways to connect.
    let link = match tokio::time::timeout(CONNECT, Box::pin(opening)).await {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => return Err(StoreError::from_sqlx(&place, &error)),
        Err(_) => return Err(StoreError::timed_out(&place, CONNECT.as_secs())),
    };
    let mut connection = Connection::new(link, place);
    connection.learn_packet().await?;
    Ok(connection)
}

impl Connection {
    /// Asks MySQL how large a statement may be.
    pub(crate) async fn learn_packet(&mut self) -> Result<(), StoreError> {
        if self.kind() == aiproxy_config::snapshot::DatabaseKind::Mysql {
            let rows = self.rows("SELECT CAST(@@max_allowed_packet AS SIGNED)", &[]).await?;
            let bytes = rows.first().map_or(Ok(1 << 20), |row| row.int(0)).map_err(|error| self.unreadable(error))?;
            self.packet = usize::try_from(bytes).unwrap_or(1 << 20);
        }
        Ok(())
    }
}

/// Bounds for what a connection that hangs may hold up on the server.
pub(crate) async fn set_up_postgres(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = "SET statement_timeout = 30000; SET lock_timeout = 15000; \
               SET idle_in_transaction_session_timeout = 120000";
    sqlx::raw_sql(sql).execute(connection).await.map(drop)
}

/// The same; errors instead of cut values; and each statement sees what is committed when it begins.
pub(crate) async fn set_up_mysql(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let sql = "SET SESSION innodb_lock_wait_timeout = 15, sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')";
    sqlx::raw_sql(sql).execute(&mut *connection).await?;
    let sql = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
    sqlx::raw_sql(sql).execute(connection).await.map(drop)
}

/// Moves a broken file and its companions to `<name>.corrupt-<time>`; nothing is deleted.
pub(crate) fn move_aside(file: &Path, why: &StoreError) -> Result<(), StoreError> {
    let time = time::timestamp().strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let named = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        std::path::PathBuf::from(name)
    };
    let aside = named(file, &format!(".corrupt-{time}"));
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (named(file, suffix), named(&aside, suffix));
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(StoreError::unavailable(format!(
                    "{why}, and it cannot be moved to {}: {error}; move it away yourself",
                    to.display()
                )));
            }
        }
    }
    tracing::error!(
        file = %file.display(),
        moved_to = %aside.display(),
        why = %why,
        "the database file is broken and was moved aside; a new one is begun, without the records of the old one"
    );
    Ok(())
}

/// Which file is open under a path: it changes when the file is replaced.
pub(crate) fn file_identity(target: &Target) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let file = target.file()?;
    std::fs::metadata(file).ok().map(|found| (found.dev(), found.ino()))
}
