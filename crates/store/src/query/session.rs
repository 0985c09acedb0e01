//! One question's connection: a read-only transaction, so that every statement of it sees the same rows, with one
//! deadline for all of them.
//!
//! A connection that is not given back in order (deadline, error, a caller who left) is cut off, never reused. SQLite,
//! which would go on by itself, is told to stop by its progress handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aiproxy_config::snapshot::DatabaseKind;
use aiproxy_core::time::{self, Instant};
use tokio::time::timeout_at;

use super::DEADLINE;
use super::error::QueryError;
use super::sql::Sql;
use crate::connection::{Connection, Held, Link, Row};
use crate::error::{StoreError, StoreErrorKind};
use crate::store::Store;

/// How often SQLite asks whether to go on, in instructions of its virtual machine: some 100 µs.
const SQLITE_STEPS: i32 = 10_000;

/// A connection for one question.
pub(super) struct Session {
    connection: Connection,
    deadline: Instant,
    given_up: Arc<AtomicBool>,
    is_finished: bool,
}

impl Session {
    /// A connection of `store`, in a transaction.
    pub(super) async fn open(store: &Store) -> Result<Self, QueryError> {
        Self::open_for(store, DEADLINE).await
    }

    /// The same for as long as `limit`.
    async fn open_for(store: &Store, limit: Duration) -> Result<Self, QueryError> {
        let deadline = time::now() + limit;
        let connection = timeout_at(deadline, store.reader()).await.map_err(|_| QueryError::Timeout)?;
        let connection = connection.map_err(|error| told(&error))?;
        let given_up = Arc::new(AtomicBool::new(false));
        let mut session = Self { connection, deadline, given_up, is_finished: false };
        session.begin().await?;
        Ok(session)
    }

    async fn begin(&mut self) -> Result<(), QueryError> {
        if let Link::Sqlite(connection) = &mut self.connection.link {
            let (given_up, deadline) = (self.given_up.clone(), self.deadline);
            let go_on = move || !given_up.load(Ordering::Relaxed) && time::now() < deadline;
            let handle = timeout_at(self.deadline, connection.lock_handle()).await.map_err(|_| QueryError::Timeout)?;
            let mut handle = handle.map_err(|error| QueryError::Unavailable(error.to_string()))?;
            handle.set_progress_handler(SQLITE_STEPS, go_on);
        }
        let statements: &[&'static str] = match self.connection.kind() {
            DatabaseKind::Sqlite => &["BEGIN"],
            DatabaseKind::Postgres => &["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"],
            DatabaseKind::Mysql => &[
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            ],
        };
        for statement in statements {
            self.script(statement).await?;
        }
        Ok(())
    }

    async fn script(&mut self, statement: &'static str) -> Result<(), QueryError> {
        let done = timeout_at(self.deadline, self.connection.script(statement)).await;
        self.outcome(done.ok())
    }

    /// An empty statement for this database.
    pub(super) fn sql(&self) -> Sql {
        Sql::new(self.connection.kind())
    }

    /// Every row of `sql`. Its text bounds how many there are.
    pub(super) async fn rows(&mut self, sql: Sql) -> Result<Vec<Row>, QueryError> {
        let (text, values) = sql.into_parts();
        let rows = timeout_at(self.deadline, self.connection.rows(&text, &values)).await;
        self.outcome(rows.ok())
    }

    /// What an outcome means; `None` is one that did not come in time.
    fn outcome<T>(&self, outcome: Option<Result<T, StoreError>>) -> Result<T, QueryError> {
        match outcome {
            Some(Ok(done)) => Ok(done),
            // SQLite is interrupted at the very deadline, and says so with an error of its own.
            _ if time::now() >= self.deadline => Err(QueryError::Timeout),
            Some(Err(error)) => Err(told(&error)),
            None => Err(QueryError::Timeout),
        }
    }

    /// Ends the transaction and gives the connection back.
    pub(super) async fn finish(mut self) -> Result<(), QueryError> {
        self.script("COMMIT").await?;
        if let Link::Sqlite(connection) = &mut self.connection.link {
            let handle = timeout_at(self.deadline, connection.lock_handle()).await.map_err(|_| QueryError::Timeout)?;
            let mut handle = handle.map_err(|error| QueryError::Unavailable(error.to_string()))?;
            handle.remove_progress_handler();
        }
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        self.given_up.store(true, Ordering::Relaxed);
        match std::mem::replace(&mut self.connection.link, Link::Closed) {
            Link::Sqlite(Held::Pooled(connection)) => drop(connection.detach()),
            Link::Postgres(Held::Pooled(connection)) => drop(connection.detach()),
            Link::Mysql(Held::Pooled(connection)) => drop(connection.detach()),
            Link::Sqlite(_) | Link::Postgres(_) | Link::Mysql(_) | Link::Closed => {}
        }
    }
}

fn told(error: &StoreError) -> QueryError {
    match error.kind() {
        StoreErrorKind::Unavailable | StoreErrorKind::Newer | StoreErrorKind::Corrupt => {
            QueryError::Unavailable(error.to_string())
        }
        StoreErrorKind::Rejected | StoreErrorKind::Duplicate => QueryError::Failed(error.to_string()),
    }
}

/// A value that is not of the type this program wrote.
#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
pub(super) fn unreadable(error: sqlx::Error) -> QueryError {
    QueryError::Failed(format!("a row cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[tokio::test]
    async fn a_question_that_takes_too_long_is_stopped_and_the_next_one_answered() {
        let directory = std::env::temp_dir().join(format!("aiproxy-session-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&directory).unwrap();
        let store = Store::connect(&Options::sqlite(&directory.join("aiproxy.db"))).await.unwrap();
        // More of them than there are connections: each must be given up, not only waited for.
        for _ in 0..6 {
            let mut session = Session::open_for(&store, Duration::from_millis(50)).await.unwrap();
            let mut sql = session.sql();
            sql.push("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n");
            assert!(matches!(session.rows(sql).await, Err(QueryError::Timeout)));
        }
        let mut session = Session::open(&store).await.unwrap();
        let mut sql = session.sql();
        sql.push("SELECT COUNT(*) FROM records");
        assert_eq!(session.rows(sql).await.unwrap()[0].int(0).unwrap(), 0);
        // Nothing can be written here.
        let mut sql = session.sql();
        sql.push("DELETE FROM records");
        assert!(session.rows(sql).await.is_err());
        drop(session);
        // A connection that was given back is without its deadline.
        Session::open_for(&store, Duration::from_millis(500)).await.unwrap().finish().await.unwrap();
        drop(store);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
