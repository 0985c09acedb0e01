//! What is kept of calls and where: quotas, captured bodies, the journal, the sinks behind it, retention.

use std::path::PathBuf;
use std::time::Duration;

use aiproxy_core::Secret;

const DAY: Duration = Duration::from_secs(86_400);

/// How much may be used in a calendar period of [`System::timezone`](super::System::timezone).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What is counted.
    pub unit: QuotaUnit,
    /// The period it is counted over.
    pub per: QuotaPeriod,
    /// Calls, tokens, or millionths of the base currency; at least 1.
    pub amount: u64,
    /// Reports the excess, but lets calls through. Default false.
    pub soft: bool,
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuotaUnit {
    /// Calls.
    Requests,
    /// Tokens, input and output together.
    Tokens,
    /// Money, in millionths of the base currency.
    Cost,
}

impl QuotaUnit {
    /// As written in the config and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
        }
    }
}

/// Over which time a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuotaPeriod {
    /// One hour of the clock.
    Hour,
    /// One day of the calendar.
    Day,
    /// One month of the calendar.
    Month,
    /// For good.
    Total,
}

impl QuotaPeriod {
    /// As written in the config and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }
}

/// Which bodies of calls are stored: `capture` of a proxy key or a channel. What the key says comes before what its
/// channel says; switched off in so many words is a share of 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// Share of calls, from 0 to 1. Default 1.
    pub share: f64,
    /// More of one body is cut off. Default 64 KiB, at most 16 MiB.
    pub max_bytes: u64,
    /// Whether the request's body is stored. Default true.
    pub request: bool,
    /// Whether the response's body is stored. Default true.
    pub response: bool,
}

impl Default for Capture {
    fn default() -> Self {
        Self { share: 1.0, max_bytes: 64 << 10, request: true, response: true }
    }
}

/// What happens upstream when the client goes away: `system.client_abort`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAbort {
    /// The upstream call is ended at once.
    #[default]
    Cancel,
    /// The rest of the response is read, within [`Drain`], so that its usage is known.
    Drain,
}

/// Bounds of reading on for clients that went away: `system.client_abort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long one response is read on. Default 60 s.
    pub timeout: Duration,
    /// How many responses are read on at once; beyond that calls are cancelled. Default 100.
    pub concurrent: usize,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), concurrent: 100 }
    }
}

/// Where the ledger's tables are: `system.database`; needs a restart. Whether records go there is [`Log::database`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// `None` is the SQLite file `aiproxy.db` in the data directory. Any other path of SQLite has the data directory in
    /// front where it was relative, and is percent-encoded: `sqlite:/srv/data/x.db`.
    pub url: Option<Secret>,
    /// What speaks at that URL.
    pub kind: DatabaseKind,
}

/// A kind of database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DatabaseKind {
    /// SQLite: `sqlite:`.
    #[default]
    Sqlite,
    /// PostgreSQL: `postgres://`, `postgresql://`.
    Postgres,
    /// MySQL or MariaDB: `mysql://`, `mariadb://`.
    Mysql,
}

impl DatabaseKind {
    /// As said in messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        }
    }
}

/// The local journal that every record passes: `system.journal`; needs a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journal {
    /// A larger segment is followed by a new one. Default 64 MiB.
    pub segment_bytes: u64,
    /// Records that wait in memory while the disk does not take them. Default 64 MiB.
    pub memory_bytes: u64,
    /// How often what was written is forced to the disk, against a loss of power. `None` leaves it to the system.
    pub fsync: Option<Duration>,
    /// What happens to calls once that memory is full, too.
    pub on_full: OnJournalFull,
}

impl Default for Journal {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, memory_bytes: 64 << 20, fsync: None, on_full: OnJournalFull::Serve }
    }
}

/// What happens to calls that can no longer be recorded: `system.journal.on_full`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnJournalFull {
    /// They are served; the records that are lost are counted and said so.
    #[default]
    Serve,
    /// They are refused until records find room again.
    Refuse,
}

/// Where records are written: `system.log`. Which sinks there are needs a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Records on stderr: a friendly line on a terminal, JSON otherwise. Default true.
    pub console: bool,
    /// A rotating file of JSON lines.
    pub file: Option<LogFile>,
    /// The [`Database`]. Default true.
    pub database: bool,
    /// Receivers of batches of records.
    pub webhooks: Vec<Webhook>,
    /// Parquet files.
    pub parquet: Option<Parquet>,
}

impl Default for Log {
    fn default() -> Self {
        Self { console: true, file: None, database: true, webhooks: Vec::new(), parquet: None }
    }
}

/// `system.log.file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Path of the current file; older ones get `.1`, `.2`, … appended. Relative to the data directory.
    pub path: PathBuf,
    /// A larger file is rotated. Default 100 MiB.
    pub max_bytes: u64,
    /// Rotated files kept. Default 10.
    pub keep: usize,
    /// Whether rotated files are compressed by gzip. Default false.
    pub compress: bool,
}

/// One receiver of batches of records: `system.log.webhook`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Unique and stable, for how far the receiver has read is kept under it. Default `webhook`, `webhook-2` and so on.
    /// Letters, digits, `-`, `_` and `.`, and never the name of another sink.
    pub name: Box<str>,
    /// `http://` or `https://`; may hold a password or token.
    pub url: Secret,
    /// Key of the HMAC-SHA-256 that batches are signed with; `None` leaves them unsigned.
    pub secret: Option<Secret>,
    /// Most records in one batch. Default 500.
    pub batch: usize,
    /// The longest a record waits for others to be sent with it. Default 1 s.
    pub interval: Duration,
    /// How long the receiver may take. Default 10 s.
    pub timeout: Duration,
    /// Whether captured bodies are sent along. Default false.
    pub bodies: bool,
}

/// Parquet files: `system.log.parquet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parquet {
    /// Where files are written, and kept unless they go to S3. Relative to the data directory. Default `parquet`.
    pub directory: PathBuf,
    /// A file this large is finished. Default 128 MiB.
    pub max_bytes: u64,
    /// A file is finished at the latest after this time. Default 10 min.
    pub interval: Duration,
    /// Where finished files are uploaded to.
    pub s3: Option<S3>,
}

impl Default for Parquet {
    fn default() -> Self {
        Self { directory: PathBuf::from("parquet"), max_bytes: 128 << 20, interval: Duration::from_secs(600), s3: None }
    }
}

/// S3 or something compatible: `system.log.parquet.s3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// `http(s)://host[:port][/path]` without a trailing slash; `None` is Amazon's own in the region.
    pub endpoint: Option<Box<str>>,
    /// Region. Default `us-east-1` where there is an endpoint.
    pub region: Box<str>,
    /// Bucket.
    pub bucket: Box<str>,
    /// Put before the name of each object, with a `/` between them; without slashes around it, empty if none.
    pub prefix: Box<str>,
    /// Name of the access key.
    pub access_key_id: Secret,
    /// The access key itself.
    pub secret_access_key: Secret,
}

/// How long things are kept: `system.retention`. `None` keeps them for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Records. Default 90 days.
    pub records: Option<Duration>,
    /// Captured bodies; never longer than their records. Default 7 days.
    pub bodies: Option<Duration>,
    /// Statistics by the hour. Default 90 days.
    pub hours: Option<Duration>,
    /// Statistics by the day. Default 3 years.
    pub days: Option<Duration>,
    /// Statistics by the month. Default for ever.
    pub months: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            records: Some(90 * DAY),
            bodies: Some(7 * DAY),
            hours: Some(90 * DAY),
            days: Some(3 * 365 * DAY),
            months: None,
        }
    }
}
