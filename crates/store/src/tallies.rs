//! What keys, users, departments, channels and credentials have used, from the sums: for quotas whose own counters were
//! lost.

use aiproxy_config::snapshot::DatabaseKind;

use crate::buckets::Granularity;
use crate::error::StoreError;
use crate::store::Store;

/// Whose use it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// A proxy key.
    Key,
    /// A user.
    User,
    /// A department.
    Department,
    /// A channel, as far as it served a call last.
    Channel,
    /// A credential of a channel.
    Credential,
}

impl Scope {
    const ALL: [Self; 5] = [Self::Key, Self::User, Self::Department, Self::Channel, Self::Credential];

    fn column(self) -> &'static str {
        match self {
            Self::Key => "key_id",
            Self::User => "user_id",
            Self::Department => "department",
            Self::Channel => "channel_id",
            Self::Credential => "credential_id",
        }
    }
}

/// What one of them has used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tally {
    /// Whose use it is.
    pub scope: Scope,
    /// Its id.
    pub id: String,
    /// Of a credential, the channel it belongs to; otherwise empty.
    pub channel_id: String,
    /// Calls that count as requests.
    pub requests: i64,
    /// Input and output tokens.
    pub tokens: i64,
    /// Cost in micro-units, as far as it is known.
    pub cost: i64,
}

/// What everybody has used in the buckets of `granularity` from the one that starts at `since` (Unix seconds) on. For a
/// quota without a period take months since 0; months that were deleted are missing then.
///
/// # Errors
/// The database cannot be used now.
pub async fn sums(store: &Store, granularity: Granularity, since: i64) -> Result<Vec<Tally>, StoreError> {
    let mut connection = store.reader().await?;
    let whole = if connection.kind() == DatabaseKind::Mysql { "SIGNED" } else { "BIGINT" };
    let mut tallies = Vec::new();
    for scope in Scope::ALL {
        let id = scope.column();
        let channel = if scope == Scope::Credential { "channel_id" } else { "''" };
        let group = if scope == Scope::Credential { "channel_id, credential_id" } else { id };
        let sql = format!(
            "SELECT {id}, {channel}, CAST(SUM(counted) AS {whole}), CAST(SUM(input + output) AS {whole}), \
             CAST(SUM(cost) AS {whole}) FROM rollups JOIN series ON series.id = rollups.series_id \
             WHERE granularity = ? AND bucket >= ? AND {id} <> '' GROUP BY {group}"
        );
        for row in connection.rows(&sql, &[granularity.code().into(), since.into()]).await? {
            let tally = || {
                Ok(Tally {
                    scope,
                    id: row.text(0)?,
                    channel_id: row.text(1)?,
                    requests: row.int(2)?,
                    tokens: row.int(3)?,
                    cost: row.int(4)?,
                })
            };
            tallies.push(tally().map_err(|error| connection.unreadable(error))?);
        }
    }
    Ok(tallies)
}
