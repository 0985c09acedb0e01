//! Many rows of one table, column by column, and the statements that insert them.
//!
//! PostgreSQL takes all rows in one statement, a column as an array each. SQLite and MySQL take several rows per
//! statement: few sizes only, so that the prepared statements are used again.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use aiproxy_config::snapshot::DatabaseKind;
use sqlx::mysql::MySqlArguments;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe};

use crate::connection::{Connection, Link, STATEMENT};
use crate::error::{StoreError, StoreErrorKind};

/// A table, as far as rows are added to it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
    /// The columns that make a row the same as another.
    pub(crate) key: &'static [&'static str],
    pub(crate) repeated: Repeated,
}

/// What happens to a row whose key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeated {
    /// The statement fails.
    Fails,
    /// The row that is there stays.
    Stays,
    /// The columns beside the key are added to those that are there.
    Adds,
    /// The columns beside the key take the place of those that are there.
    Replaces,
}

/// A column's values, one for each row.
#[derive(Debug)]
pub(crate) enum Column<'a> {
    Id(Vec<[u8; 16]>),
    Int(Vec<i64>),
    MaybeInt(Vec<Option<i64>>),
    Text(Vec<Cow<'a, str>>),
    MaybeText(Vec<Option<Cow<'a, str>>>),
}

/// Values of a full SQLite or MySQL statement: more make it hardly faster, and SQLite keeps the program of each.
const VALUES: usize = 2_560;

/// Most rows of a PostgreSQL statement.
const POSTGRES_ROWS: usize = 20_000;

/// Most bytes of text in one statement, unless one row has more.
const STATEMENT_BYTES: usize = 4 << 20;

type Bound = Result<(), sqlx::error::BoxDynError>;

impl Column<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Id(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::MaybeInt(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::MaybeText(values) => values.len(),
        }
    }

    /// The length of a text; numbers hardly count.
    fn size(&self, row: usize) -> usize {
        match self {
            Self::Text(values) => values[row].len(),
            Self::MaybeText(values) => values[row].as_deref().map_or(0, str::len),
            Self::Id(_) | Self::Int(_) | Self::MaybeInt(_) => 16,
        }
    }

    fn bind_sqlite(&self, row: usize, arguments: &mut SqliteArguments) -> Bound {
        match self {
            Self::Id(values) => arguments.add(values[row].to_vec()),
            Self::Int(values) => arguments.add(values[row]),
            Self::MaybeInt(values) => arguments.add(values[row]),
            // An Arc is what the driver keeps; anything else would be copied once more.
            Self::Text(values) => arguments.add(Arc::<str>::from(&*values[row])),
            Self::MaybeText(values) => arguments.add(values[row].as_deref().map(Arc::<str>::from)),
        }
    }

    fn bind_mysql(&self, row: usize, arguments: &mut MySqlArguments) -> Bound {
        match self {
            Self::Id(values) => arguments.add(values[row].as_slice()),
            Self::Int(values) => arguments.add(values[row]),
            Self::MaybeInt(values) => arguments.add(values[row]),
            Self::Text(values) => arguments.add(&*values[row]),
            Self::MaybeText(values) => arguments.add(values[row].as_deref()),
        }
    }

    fn bind_postgres(&self, rows: Range<usize>, arguments: &mut PgArguments) -> Bound {
        match self {
            Self::Id(values) => arguments.add(&values[rows]),
            Self::Int(values) => arguments.add(&values[rows]),
            Self::MaybeInt(values) => arguments.add(&values[rows]),
            Self::Text(values) => arguments.add(&values[rows]),
            Self::MaybeText(values) => arguments.add(&values[rows]),
        }
    }

    fn postgres_type(&self) -> &'static str {
        match self {
            Self::Id(_) => "bytea[]",
            Self::Int(_) | Self::MaybeInt(_) => "bigint[]",
            Self::Text(_) | Self::MaybeText(_) => "text[]",
        }
    }
}

impl Connection {
    /// Inserts rows into `table`; `columns` are in the table's order.
    pub(crate) async fn insert(&mut self, table: &'static Table, columns: &[Column<'_>]) -> Result<(), StoreError> {
        let length = columns.first().map_or(0, Column::len);
        debug_assert_eq!(columns.len(), table.columns.len());
        let mut start = 0;
        while start < length {
            let rows = self.next(columns, start..length)?;
            start = rows.end;
            self.insert_rows(table, columns, rows).await?;
        }
        Ok(())
    }

    /// The first of `rows` that one statement takes.
    fn next(&self, columns: &[Column<'_>], rows: Range<usize>) -> Result<Range<usize>, StoreError> {
        let most = STATEMENT_BYTES.min(self.packet / 2);
        let full = match self.kind() {
            DatabaseKind::Postgres => POSTGRES_ROWS,
            DatabaseKind::Sqlite | DatabaseKind::Mysql => (VALUES / columns.len()).max(1),
        };
        let mut bytes = 0;
        let fits = |row: &usize| {
            bytes += columns.iter().map(|column| column.size(*row)).sum::<usize>();
            bytes <= most
        };
        let count = rows.clone().take(full).take_while(fits).count();
        if count == 0 && bytes > self.packet.saturating_sub(64 << 10) {
            // The server would close the connection, and again each time it is tried.
            let message = format!("a row of {bytes} bytes is more than the server's max_allowed_packet");
            return Err(StoreError::new(StoreErrorKind::Rejected, message));
        }
        let count = match self.kind() {
            DatabaseKind::Postgres => count.max(1),
            // Three sizes, so that few statements are prepared.
            DatabaseKind::Sqlite | DatabaseKind::Mysql if count == full => full,
            DatabaseKind::Sqlite | DatabaseKind::Mysql if count >= full.div_ceil(8) => full.div_ceil(8),
            DatabaseKind::Sqlite | DatabaseKind::Mysql => 1,
        };
        Ok(rows.start..rows.start + count)
    }

    async fn insert_rows(
        &mut self,
        table: &'static Table,
        columns: &[Column<'_>],
        rows: Range<usize>,
    ) -> Result<(), StoreError> {
        let kind = self.kind();
        let count = if kind == DatabaseKind::Postgres { 0 } else { rows.len() };
        let sql = self.inserts.entry((table.name, count)).or_insert_with(|| insert_sql(kind, table, columns, count));
        let sql = AssertSqlSafe(sql.clone());
        let work = async |link: &mut Link| match link {
            Link::Sqlite(connection) => {
                let mut arguments = SqliteArguments::default();
                arguments.reserve(rows.len() * columns.len(), 0);
                for row in rows {
                    for column in columns {
                        column.bind_sqlite(row, &mut arguments).map_err(sqlx::Error::Encode)?;
                    }
                }
                sqlx::query_with(sql, arguments).execute(&mut **connection).await.map(drop)
            }
            Link::Postgres(connection) => {
                let mut arguments = PgArguments::default();
                for column in columns {
                    column.bind_postgres(rows.clone(), &mut arguments).map_err(sqlx::Error::Encode)?;
                }
                sqlx::query_with(sql, arguments).execute(&mut **connection).await.map(drop)
            }
            Link::Mysql(connection) => {
                let mut arguments = MySqlArguments::default();
                for row in rows {
                    for column in columns {
                        column.bind_mysql(row, &mut arguments).map_err(sqlx::Error::Encode)?;
                    }
                }
                sqlx::query_with(sql, arguments).execute(&mut **connection).await.map(drop)
            }
            Link::Closed => Err(sqlx::Error::WorkerCrashed),
        };
        self.within(STATEMENT, work).await
    }
}

/// The statement that inserts `count` rows; in PostgreSQL any number.
fn insert_sql(kind: DatabaseKind, table: &Table, columns: &[Column<'_>], count: usize) -> Arc<str> {
    let mut sql = format!("INSERT INTO {} ({}) ", table.name, table.columns.join(", "));
    if kind == DatabaseKind::Postgres {
        sql.push_str("SELECT * FROM unnest(");
        for (index, column) in columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            // Writing into a String does not fail.
            write!(sql, "{comma}${}::{}", index + 1, column.postgres_type()).unwrap_or_default();
        }
        sql.push(')');
    } else {
        let row = format!("({})", crate::connection::places(columns.len()));
        sql.push_str("VALUES ");
        sql.push_str(&vec![row; count].join(", "));
    }
    sql.push_str(&repeated_sql(kind, table));
    sql.into()
}

/// What is said of rows that are there already.
fn repeated_sql(kind: DatabaseKind, table: &Table) -> String {
    let others = || table.columns.iter().filter(|column| !table.key.contains(column));
    let is_mysql = kind == DatabaseKind::Mysql;
    let sets: Vec<String> = match table.repeated {
        Repeated::Fails => return String::new(),
        Repeated::Stays if is_mysql => table.key.iter().map(|column| format!("{column} = {column}")).collect(),
        Repeated::Stays => return format!(" ON CONFLICT ({}) DO NOTHING", table.key.join(", ")),
        Repeated::Adds if is_mysql => {
            others().map(|column| format!("{column} = {column} + VALUES({column})")).collect()
        }
        Repeated::Adds => {
            let name = table.name;
            others().map(|column| format!("{column} = {name}.{column} + excluded.{column}")).collect()
        }
        Repeated::Replaces if is_mysql => others().map(|column| format!("{column} = VALUES({column})")).collect(),
        Repeated::Replaces => others().map(|column| format!("{column} = excluded.{column}")).collect(),
    };
    if is_mysql {
        return format!(" ON DUPLICATE KEY UPDATE {}", sets.join(", "));
    }
    format!(" ON CONFLICT ({}) DO UPDATE SET {}", table.key.join(", "), sets.join(", "))
}
