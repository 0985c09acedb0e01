//! One connection to any of the databases: statements with a deadline, transactions, rows by their column's number.
//!
//! SQL is written with `?` for values. A connection that was left in the middle of something is closed, never used
//! again: what it may still hold is then taken back by the database.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use aiproxy_config::snapshot::DatabaseKind;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Database, MySql, Postgres, Row as _, Sqlite};

use crate::error::StoreError;
use crate::options::Place;

/// How long one statement may take.
pub(crate) const STATEMENT: Duration = Duration::from_secs(30);

/// A connection.
pub(crate) struct Connection {
    pub(crate) link: Link,
    pub(crate) place: Arc<Place>,
    /// In a transaction, or in the middle of a statement.
    is_busy: bool,
    in_transaction: bool,
    /// What MySQL takes in one packet.
    pub(crate) packet: usize,
    /// Statements that insert a number of rows, by table and number.
    pub(crate) inserts: HashMap<(&'static str, usize), Arc<str>>,
}

/// What it goes over.
pub(crate) enum Link {
    Sqlite(Held<Sqlite>),
    Postgres(Held<Postgres>),
    Mysql(Held<MySql>),
    Closed,
}

/// A connection of a pool, or one of its own.
pub(crate) enum Held<D: Database> {
    Pooled(PoolConnection<D>),
    Own(Box<D::Connection>),
}

impl<D: Database> Deref for Held<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Own(connection) => connection,
        }
    }
}

impl<D: Database> DerefMut for Held<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Own(connection) => connection,
        }
    }
}

impl<D: Database> Held<D> {
    /// Cuts it off without a word to the other side, which may be gone.
    fn cut(self) {
        if let Self::Pooled(connection) = self {
            drop(connection.detach());
        }
    }
}

/// A value of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<[u8; 16]> for Value {
    fn from(id: [u8; 16]) -> Self {
        Self::Bytes(id.to_vec())
    }
}

/// A row that was read.
pub(crate) enum Row {
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
    Mysql(sqlx::mysql::MySqlRow),
}

macro_rules! of_any {
    ($row:expr, $name:ident => $read:expr) => {
        match $row {
            Row::Sqlite($name) => $read,
            Row::Postgres($name) => $read,
            Row::Mysql($name) => $read,
        }
    };
}

impl Row {
    pub(crate) fn int(&self, column: usize) -> Result<i64, sqlx::Error> {
        of_any!(self, row => row.try_get_unchecked(column))
    }

    pub(crate) fn maybe_int(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        of_any!(self, row => row.try_get_unchecked(column))
    }

    pub(crate) fn text(&self, column: usize) -> Result<String, sqlx::Error> {
        of_any!(self, row => row.try_get_unchecked(column))
    }

    pub(crate) fn maybe_text(&self, column: usize) -> Result<Option<String>, sqlx::Error> {
        of_any!(self, row => row.try_get_unchecked(column))
    }

    /// Sixteen bytes: an id or a digest.
    pub(crate) fn id(&self, column: usize) -> Result<[u8; 16], sqlx::Error> {
        let bytes: Vec<u8> = of_any!(self, row => row.try_get_unchecked(column))?;
        bytes.try_into().map_err(|_| sqlx::Error::Decode("an id is not 16 bytes long".into()))
    }
}

/// Does the same on whichever link it is.
macro_rules! on_link {
    ($link:expr, $connection:ident => $work:expr) => {
        match $link {
            Link::Sqlite($connection) => $work,
            Link::Postgres($connection) => $work,
            Link::Mysql($connection) => $work,
            Link::Closed => Err(sqlx::Error::WorkerCrashed),
        }
    };
}

macro_rules! query {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql));
        for value in $values {
            query = match value {
                Value::Int(number) => query.bind(*number),
                Value::Text(text) => query.bind(text.as_str()),
                Value::Bytes(bytes) => query.bind(bytes.as_slice()),
            };
        }
        query
    }};
}

impl Connection {
    pub(crate) fn new(link: Link, place: Arc<Place>) -> Self {
        Self { link, place, is_busy: false, in_transaction: false, packet: usize::MAX, inserts: HashMap::new() }
    }

    pub(crate) fn kind(&self) -> DatabaseKind {
        self.place.kind
    }

    /// Runs a statement; the number of rows it changed.
    pub(crate) async fn run(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        let sql = self.placed(sql);
        let work = async |link: &mut Link| {
            on_link!(link, connection => {
                query!(sql, values).execute(&mut **connection).await.map(|done| done.rows_affected())
            })
        };
        self.within(STATEMENT, work).await
    }

    /// Runs a query; all of its rows.
    pub(crate) async fn rows(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let sql = self.placed(sql);
        let work = async |link: &mut Link| match link {
            Link::Sqlite(connection) => {
                let rows = query!(sql, values).fetch_all(&mut **connection).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Link::Postgres(connection) => {
                let rows = query!(sql, values).fetch_all(&mut **connection).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
            Link::Mysql(connection) => {
                let rows = query!(sql, values).fetch_all(&mut **connection).await?;
                Ok(rows.into_iter().map(Row::Mysql).collect())
            }
            Link::Closed => Err(sqlx::Error::WorkerCrashed),
        };
        self.within(STATEMENT, work).await
    }

    /// Runs statements without values, separated by `;`.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let work = async |link: &mut Link| on_link!(link, connection => sqlx::raw_sql(sql).execute(&mut **connection).await.map(drop));
        self.within(STATEMENT, work).await
    }

    /// Begins a transaction; in SQLite as the only writer.
    pub(crate) async fn begin(&mut self) -> Result<(), StoreError> {
        self.script(if self.kind() == DatabaseKind::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" }).await?;
        self.in_transaction = true;
        self.is_busy = true;
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<(), StoreError> {
        self.script("COMMIT").await?;
        self.in_transaction = false;
        self.is_busy = false;
        Ok(())
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), StoreError> {
        self.script("ROLLBACK").await?;
        self.in_transaction = false;
        self.is_busy = false;
        Ok(())
    }

    /// Does `work` before a deadline, and tells errors in words.
    pub(crate) async fn within<T>(
        &mut self,
        deadline: Duration,
        work: impl AsyncFnOnce(&mut Link) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        self.is_busy = true;
        let outcome = tokio::time::timeout(deadline, work(&mut self.link)).await;
        match outcome {
            Ok(Ok(done)) => {
                self.is_busy = self.in_transaction;
                Ok(done)
            }
            Ok(Err(error)) => Err(StoreError::from_sqlx(&self.place, &error)),
            Err(_) => Err(StoreError::timed_out(&self.place, deadline.as_secs())),
        }
    }

    /// What an unreadable row means.
    pub(crate) fn unreadable(&self, error: sqlx::Error) -> StoreError {
        StoreError::from_sqlx(&self.place, &error)
    }

    /// With the placeholders of this database.
    fn placed(&self, sql: &str) -> String {
        if self.kind() != DatabaseKind::Postgres {
            return sql.to_owned();
        }
        let mut numbered = String::with_capacity(sql.len() + 16);
        for (number, part) in sql.split('?').enumerate() {
            if number > 0 {
                numbered.push('$');
                numbered.push_str(&number.to_string());
            }
            numbered.push_str(part);
        }
        numbered
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.is_busy {
            return;
        }
        match std::mem::replace(&mut self.link, Link::Closed) {
            Link::Sqlite(held) => held.cut(),
            Link::Postgres(held) => held.cut(),
            Link::Mysql(held) => held.cut(),
            Link::Closed => {}
        }
    }
}

/// `?, ?, ?`: `count` places for values.
pub(crate) fn places(count: usize) -> String {
    let mut text = "?, ".repeat(count);
    text.truncate(text.len().saturating_sub(2));
    text
}
