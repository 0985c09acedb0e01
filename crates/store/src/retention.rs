//! Deleting what is older than it is kept for: in small transactions with pauses between them, so that nothing else
//! waits, and without reading what is deleted.

use std::time::Duration;

use aiproxy_config::snapshot::{DatabaseKind, Retention};
use aiproxy_core::tasks::Tasks;
use aiproxy_core::time;

use crate::buckets::Granularity;
use crate::connection::{Connection, Value, places};
use crate::error::StoreError;
use crate::ids::id_floor;
use crate::store::Store;

/// Most rows that one call deletes.
pub const MOST_ROWS: u32 = 5_000;

/// Rows that the loop deletes at once, and its rest after that.
const ROWS: u32 = 2_000;
const PAUSE: Duration = Duration::from_millis(100);

/// From one round of the loop to the next; up to a tenth is added, so that instances do not meet.
const ROUND: Duration = Duration::from_secs(3600);

/// Unused series are looked for in one round of this many: it reads all sums.
const SERIES_ROUNDS: u32 = 24;

/// Free pages that SQLite gives back to the file system after each deletion.
const FREE_PAGES: &str = "PRAGMA incremental_vacuum(1000)";

/// What is deleted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Records.
    Records,
    /// Captured bodies.
    Bodies,
    /// Statistics of one granularity, with their histograms.
    Rollups(Granularity),
}

/// Deletes up to `rows` rows ([`MOST_ROWS`] at most) of what began before `before_ms` (Unix time), the oldest first; how
/// many there were. Fewer than asked for means that none are left. A bucket of statistics goes when all of it is older.
///
/// # Errors
/// The database cannot be used now.
pub async fn delete_older(store: &Store, class: Class, before_ms: u64, rows: u32) -> Result<u64, StoreError> {
    let mut connection = store.writer().await?;
    let rows = i64::from(rows.clamp(1, MOST_ROWS));
    let deleted = match class {
        Class::Records => oldest(&mut connection, "records", before_ms, rows).await?,
        Class::Bodies => oldest(&mut connection, "bodies", before_ms, rows).await?,
        Class::Rollups(granularity) => {
            let latency = "granularity, bucket, series_id, kind, bin";
            let deleted = buckets(&mut connection, "rollup_latency", latency, granularity, before_ms, rows).await?;
            let rest = rows - deleted as i64;
            if rest <= 0 {
                deleted
            } else {
                let key = "granularity, bucket, series_id";
                deleted + buckets(&mut connection, "rollups", key, granularity, before_ms, rest).await?
            }
        }
    };
    if deleted > 0 && connection.kind() == DatabaseKind::Sqlite {
        connection.script(FREE_PAGES).await?;
    }
    Ok(deleted)
}

async fn oldest(connection: &mut Connection, table: &str, before_ms: u64, rows: i64) -> Result<u64, StoreError> {
    let sql = match connection.kind() {
        DatabaseKind::Mysql => format!("DELETE FROM {table} WHERE id < ? ORDER BY id LIMIT ?"),
        DatabaseKind::Sqlite | DatabaseKind::Postgres => {
            format!("DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE id < ? ORDER BY id LIMIT ?)")
        }
    };
    connection.run(&sql, &[id_floor(before_ms).into(), rows.into()]).await
}

async fn buckets(
    connection: &mut Connection,
    table: &str,
    key: &str,
    granularity: Granularity,
    before_ms: u64,
    rows: i64,
) -> Result<u64, StoreError> {
    // A bucket is named by its start; the longest day has 25 hours, the longest month one hour more than 31 days.
    let longest = match granularity {
        Granularity::Hour => 3_600,
        Granularity::Day => 25 * 3_600,
        Granularity::Month => 31 * 86_400 + 3_600,
    };
    let before = i64::try_from(before_ms / 1000).unwrap_or(i64::MAX) - longest;
    let old = "granularity = ? AND bucket <= ?";
    let sql = match connection.kind() {
        DatabaseKind::Mysql => format!("DELETE FROM {table} WHERE {old} ORDER BY {key} LIMIT ?"),
        DatabaseKind::Sqlite | DatabaseKind::Postgres => format!(
            "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {old} ORDER BY {key} LIMIT ?)"
        ),
    };
    connection.run(&sql, &[granularity.code().into(), before.into(), rows.into()]).await
}

/// Deletes up to `rows` series that neither records nor statistics use any more; how many there were. It reads all
/// statistics to find them.
///
/// # Errors
/// The database cannot be used now.
pub async fn delete_unused_series(store: &Store, rows: u32) -> Result<u64, StoreError> {
    let mut reader = store.reader().await?;
    let sql = "SELECT id FROM series WHERE id NOT IN (SELECT series_id FROM rollups) \
               AND NOT EXISTS (SELECT 1 FROM records WHERE records.series_id = series.id) ORDER BY id LIMIT ?";
    let mut unused = Vec::new();
    for row in reader.rows(sql, &[i64::from(rows.clamp(1, MOST_ROWS)).into()]).await? {
        unused.push(Value::Int(row.int(0).map_err(|error| reader.unreadable(error))?));
    }
    drop(reader);
    let mut deleted = 0;
    for part in unused.chunks(500) {
        deleted += delete_series(store, part).await?;
    }
    Ok(deleted)
}

/// While this counts a deletion, no batch is written; and a batch that begins after it looks its series up again. What
/// has used one of them since it was found has left a record.
async fn delete_series(store: &Store, unused: &[Value]) -> Result<u64, StoreError> {
    let mut connection = store.writer().await?;
    connection.begin().await?;
    connection.run("UPDATE series_deletions SET times = times + 1 WHERE id = 0", &[]).await?;
    let sql = format!(
        "DELETE FROM series WHERE id IN ({}) \
         AND NOT EXISTS (SELECT 1 FROM records WHERE records.series_id = series.id)",
        places(unused.len())
    );
    let deleted = connection.run(&sql, unused).await?;
    connection.commit().await?;
    Ok(deleted)
}

/// Deletes every hour what `retention` (asked anew each time) no longer keeps, until `tasks` are stopped.
pub async fn run(store: Store, retention: impl Fn() -> Retention + Send, tasks: Tasks) {
    let mut round = 0_u32;
    loop {
        // The first time is within six minutes of the start.
        let jitter = ROUND.as_millis() as u64 * u64::from(random_byte()) / 2560;
        let wait = Duration::from_millis(jitter) + if round == 0 { Duration::ZERO } else { ROUND };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = tasks.stopped() => return,
        }
        round = round.wrapping_add(1);
        let mut outcome = sweep(&store, &retention(), &tasks).await;
        if round.is_multiple_of(SERIES_ROUNDS) && outcome.is_ok() && !tasks.is_stopped() {
            outcome = delete_unused_series(&store, MOST_ROWS).await.map(drop);
        }
        if let Err(error) = outcome {
            tracing::warn!(%error, "old records could not be deleted; trying again in an hour");
        }
    }
}

/// Deletes all that `retention` no longer keeps, with pauses, or until `tasks` are stopped.
///
/// # Errors
/// The database cannot be used now.
pub async fn sweep(store: &Store, retention: &Retention, tasks: &Tasks) -> Result<(), StoreError> {
    let Retention { records, bodies, hours, days, months } = *retention;
    let classes = [
        (Class::Bodies, shorter(bodies, records)),
        (Class::Records, records),
        (Class::Rollups(Granularity::Hour), hours),
        (Class::Rollups(Granularity::Day), days),
        (Class::Rollups(Granularity::Month), months),
    ];
    for (class, kept) in classes {
        let Some(kept) = kept else { continue };
        let before = time::unix_ms().saturating_sub(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX));
        let deleted = delete_all(store, class, before, tasks).await?;
        if deleted > 0 {
            tracing::info!(?class, rows = deleted, "deleted what was older than it is kept for");
        }
    }
    Ok(())
}

async fn delete_all(store: &Store, class: Class, before: u64, tasks: &Tasks) -> Result<u64, StoreError> {
    let mut all = 0;
    while !tasks.is_stopped() {
        let deleted = delete_older(store, class, before, ROWS).await?;
        all += deleted;
        if deleted < u64::from(ROWS) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(all)
}

/// The shorter of two times to keep something; `None` is for ever.
fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn random_byte() -> u8 {
    uuid::Uuid::new_v4().as_bytes()[0]
}
