//! The database as everything but the sink sees it: a few pooled connections, opened when they are needed.

use std::sync::Arc;

use aiproxy_config::snapshot::DatabaseKind;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use tokio::sync::Mutex;

use crate::connect::{CONNECT, connect, file_identity, set_up_mysql, set_up_postgres};
use crate::connection::{Connection, Held, Link};
use crate::error::StoreError;
use crate::options::{Options, Place, Target};

/// A database. It belongs to the runtime that uses it first. Clones share their connections.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    target: Target,
    place: Arc<Place>,
    current: Mutex<Option<Current>>,
}

struct Current {
    pools: Pools,
    /// The file they have open: one that was replaced is left.
    file: Option<(u64, u64)>,
}

/// Connections that are kept, by kind of database.
#[derive(Clone, Debug)]
pub enum Pools {
    /// SQLite: one connection that writes, and up to 4 that cannot.
    Sqlite {
        /// The one that writes.
        writer: SqlitePool,
        /// Those that only read.
        readers: SqlitePool,
    },
    /// PostgreSQL: up to 5.
    Postgres(PgPool),
    /// MySQL, MariaDB: up to 5.
    Mysql(MySqlPool),
}

impl Store {
    /// The database at `options`; nothing is connected yet, and what cannot be reached now is tried again each time it
    /// is needed.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn new(options: &Options) -> Result<Self, StoreError> {
        let target = options.target()?;
        let place = Arc::new(target.place());
        Ok(Self { shared: Arc::new(Shared { target, place, current: Mutex::new(None) }) })
    }

    /// The same, connected and with its schema up to date.
    ///
    /// # Errors
    /// It cannot be reached or used; the message says what to do and holds no secret.
    pub async fn connect(options: &Options) -> Result<Self, StoreError> {
        let store = Self::new(options)?;
        store.pools().await?;
        Ok(store)
    }

    /// Which kind of database it is.
    #[must_use]
    pub fn kind(&self) -> DatabaseKind {
        self.shared.place.kind
    }

    /// Connections to a database whose schema is up to date.
    ///
    /// # Errors
    /// It cannot be reached or used.
    pub async fn pools(&self) -> Result<Pools, StoreError> {
        let Shared { target, current, .. } = &*self.shared;
        let mut current = current.lock().await;
        if let Some(found) = &*current
            && found.file == file_identity(target)
        {
            return Ok(found.pools.clone());
        }
        drop(connect(target).await?);
        let pools = Pools::new(target);
        *current = Some(Current { pools: pools.clone(), file: file_identity(target) });
        Ok(pools)
    }

    /// A connection that may write.
    pub(crate) async fn writer(&self) -> Result<Connection, StoreError> {
        self.acquire(true).await
    }

    /// A connection to read from.
    pub(crate) async fn reader(&self) -> Result<Connection, StoreError> {
        self.acquire(false).await
    }

    async fn acquire(&self, writes: bool) -> Result<Connection, StoreError> {
        let pools = self.pools().await?;
        let link = match pools {
            Pools::Sqlite { writer, .. } if writes => Link::Sqlite(Held::Pooled(self.told(writer.acquire().await)?)),
            Pools::Sqlite { readers, .. } => Link::Sqlite(Held::Pooled(self.told(readers.acquire().await)?)),
            Pools::Postgres(pool) => Link::Postgres(Held::Pooled(self.told(pool.acquire().await)?)),
            Pools::Mysql(pool) => Link::Mysql(Held::Pooled(self.told(pool.acquire().await)?)),
        };
        Ok(Connection::new(link, self.shared.place.clone()))
    }

    fn told<T>(&self, outcome: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        outcome.map_err(|error| StoreError::from_sqlx(&self.shared.place, &error))
    }
}

impl Pools {
    fn new(target: &Target) -> Self {
        match target {
            Target::Sqlite(options) => {
                let readers = options.as_ref().clone().pragma("query_only", "ON");
                Self::Sqlite {
                    writer: bounded(SqlitePoolOptions::new(), 1).connect_lazy_with(options.as_ref().clone()),
                    readers: bounded(SqlitePoolOptions::new(), 4).connect_lazy_with(readers),
                }
            }
            Target::Postgres(options) => Self::Postgres(
                bounded(PgPoolOptions::new(), 5)
                    .after_connect(|connection, _| Box::pin(set_up_postgres(connection)))
                    .connect_lazy_with(options.as_ref().clone()),
            ),
            Target::Mysql(options) => Self::Mysql(
                bounded(MySqlPoolOptions::new(), 5)
                    .after_connect(|connection, _| Box::pin(set_up_mysql(connection)))
                    .connect_lazy_with(options.as_ref().clone()),
            ),
        }
    }
}

fn bounded<D: sqlx::Database>(options: PoolOptions<D>, most: u32) -> PoolOptions<D> {
    options.max_connections(most).acquire_timeout(CONNECT)
}
