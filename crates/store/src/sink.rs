//! The sink that writes the ledger to a database: a batch, what it adds to the statistics and how far it reaches are
//! one transaction. So the database has each record exactly once, whenever whatever breaks.

use std::borrow::Cow;
use std::collections::HashSet;

use aiproxy_core::time;
use aiproxy_ledger::sink::Appetite;
use aiproxy_ledger::{Batch, Bodies, Entry, Item, Position, Sink, SinkError};
use jiff::tz::TimeZone;

use crate::buckets::Periods;
use crate::connect::{connect, file_identity, move_aside};
use crate::connection::{Connection, Value, places};
use crate::error::{StoreError, StoreErrorKind};
use crate::options::{Options, Target};
use crate::record_rows::{BODIES, RECORDS, body_columns, record_columns};
use crate::rollup::{LATENCY, ROLLUPS, Rollup};
use crate::rows::{Column, Repeated, Table};
use crate::series::{Interner, Series};

/// The name of the sink: of its cursor, in logs, in metrics.
pub const SINK: &str = "database";

static CURSORS: Table = Table {
    name: "cursors",
    columns: &["instance", "sink", "position", "updated_at_ms"],
    key: &["instance", "sink"],
    repeated: Repeated::Replaces,
};

/// Ids asked for in one statement.
const ASKED: usize = 500;

/// Bounds of what is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Series whose numbers are remembered. Default 200,000 (about 10 MB).
    pub series: usize,
    /// Different models in the statistics of one process; more are counted as `(other)`. Default 10,000.
    pub models: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { series: 200_000, models: 10_000 }
    }
}

/// Writes batches to a database. It has a connection of its own, opened in [`Sink::resume`] and after each failure.
pub struct SqlSink {
    target: Target,
    instance: String,
    periods: Periods,
    interner: Interner,
    connection: Option<Connection>,
    /// The file that is open.
    file: Option<(u64, u64)>,
    /// The file was found to be broken.
    broken: Option<StoreError>,
}

/// A batch in parts.
struct Parts<'batch> {
    entries: Vec<Entry<'batch>>,
    series: Vec<Series<'batch>>,
    bodies: Vec<Bodies<'batch>>,
}

impl SqlSink {
    /// A sink for the journal of `instance` (a UUID as text) into the database at `options`. Hours, days and months
    /// begin in `timezone`. Nothing is connected yet.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn new(options: &Options, instance: &str, timezone: TimeZone, limits: Limits) -> Result<Self, StoreError> {
        Ok(Self {
            target: options.target()?,
            instance: instance.to_owned(),
            periods: Periods::new(timezone),
            interner: Interner::new(limits.series, limits.models),
            connection: None,
            file: None,
            broken: None,
        })
    }

    async fn read_cursor(&mut self) -> Result<Option<Position>, StoreError> {
        if let Some(why) = &self.broken
            && let Some(file) = self.target.file()
        {
            move_aside(&file, why)?;
            self.broken = None;
        }
        let mut connection = connect(&self.target).await?;
        self.file = file_identity(&self.target);
        // Another database may be there by now.
        self.interner.forget();
        let sql = "SELECT position FROM cursors WHERE instance = ? AND sink = ?";
        let rows = connection.rows(sql, &[self.instance.as_str().into(), SINK.into()]).await?;
        let Some(row) = rows.first() else {
            self.connection = Some(connection);
            return Ok(None);
        };
        let text = row.text(0).map_err(|error| connection.unreadable(error))?;
        let position = Position::from_json(&text).map_err(|error| {
            StoreError::unavailable(format!("the cursor in {} cannot be read: {error}", connection.place))
        })?;
        self.connection = Some(connection);
        Ok(Some(position))
    }

    async fn write_batch(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let Some(mut connection) = self.connection.take() else {
            return Err(StoreError::unavailable("the database is not connected"));
        };
        if self.file != file_identity(&self.target) {
            return Err(StoreError::unavailable(format!("{} was replaced; opening it again", connection.place)));
        }
        let parts = self.parts(batch);
        let mut left_out = HashSet::new();
        loop {
            match self.write_parts(&mut connection, &parts, &left_out, &batch.position).await {
                Ok(()) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                // A part of the batch was written before: by this instance, in a transaction whose end it did not see.
                Err(error) if error.kind() == StoreErrorKind::Duplicate && left_out.is_empty() => {
                    connection.rollback().await?;
                    left_out = known(&mut connection, &parts.entries).await?;
                    if left_out.is_empty() {
                        return Err(StoreError::new(StoreErrorKind::Rejected, error.to_string()));
                    }
                }
                Err(error) if error.kind() == StoreErrorKind::Rejected => {
                    connection.rollback().await?;
                    self.connection = Some(connection);
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn parts<'batch>(&mut self, batch: &'batch Batch) -> Parts<'batch> {
        let mut parts = Parts { entries: Vec::with_capacity(batch.len()), series: Vec::new(), bodies: Vec::new() };
        let mut ids = HashSet::with_capacity(batch.len());
        for item in batch.items() {
            match item {
                Item::Record(entry) if ids.insert(entry.id) => {
                    parts.series.push(self.interner.series(&entry));
                    parts.entries.push(entry);
                }
                Item::Record(_) => {}
                Item::Bodies(bodies) => parts.bodies.push(bodies),
            }
        }
        parts
    }

    async fn write_parts(
        &mut self,
        connection: &mut Connection,
        parts: &Parts<'_>,
        left_out: &HashSet<[u8; 16]>,
        position: &Position,
    ) -> Result<(), StoreError> {
        connection.begin().await?;
        self.interner.hold(connection).await?;
        let (numbers, found) = self.interner.numbers(connection, &parts.series).await?;
        let mut rollup = Rollup::default();
        let mut entries = Vec::with_capacity(parts.entries.len());
        let mut series = Vec::with_capacity(parts.entries.len());
        for (entry, number) in parts.entries.iter().zip(numbers).filter(|(entry, _)| !left_out.contains(&entry.id)) {
            rollup.add(entry, number, self.periods.at(crate::record_rows::count(entry.started_unix_ms)));
            entries.push(entry);
            series.push(number);
        }
        connection.insert(&RECORDS, &record_columns(&entries, &series)).await?;
        connection.insert(&BODIES, &body_columns(&parts.bodies)).await?;
        connection.insert(&ROLLUPS, &rollup.columns()).await?;
        connection.insert(&LATENCY, &rollup.latency_columns()).await?;
        connection.insert(&CURSORS, &self.cursor_columns(position)).await?;
        connection.commit().await?;
        self.interner.remember(found);
        Ok(())
    }

    fn cursor_columns(&self, position: &Position) -> Vec<Column<'_>> {
        vec![
            Column::Text(vec![Cow::Borrowed(&*self.instance)]),
            Column::Text(vec![Cow::Borrowed(SINK)]),
            Column::Text(vec![Cow::Owned(position.to_json())]),
            Column::Int(vec![time::unix_ms() as i64]),
        ]
    }
}

/// Which of `entries` are there already.
async fn known(connection: &mut Connection, entries: &[Entry<'_>]) -> Result<HashSet<[u8; 16]>, StoreError> {
    let mut known = HashSet::new();
    for part in entries.chunks(ASKED) {
        let sql = format!("SELECT id FROM records WHERE id IN ({})", places(part.len()));
        let ids: Vec<Value> = part.iter().map(|entry| entry.id.into()).collect();
        for row in connection.rows(&sql, &ids).await? {
            known.insert(row.id(0).map_err(|error| connection.unreadable(error))?);
        }
    }
    Ok(known)
}

impl Sink for SqlSink {
    fn name(&self) -> &str {
        SINK
    }

    /// Larger batches than others like: what many records add to the same sum is written once.
    fn appetite(&self) -> Appetite {
        Appetite { frames: 10_000, bytes: 8 << 20, linger_ms: 250, bodies: true }
    }

    async fn resume(&mut self) -> Result<Option<Position>, SinkError> {
        self.connection = None;
        Ok(self.read_cursor().await?)
    }

    async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let outcome = self.write_batch(batch).await;
        if let Err(error) = &outcome
            && error.kind() == StoreErrorKind::Corrupt
        {
            self.broken = Some(error.clone());
        }
        Ok(outcome?)
    }
}
