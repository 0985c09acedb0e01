//! Records, page by page. A page is found by the id that it follows, so pages of any depth cost the same, and records
//! that arrive meanwhile shift nothing.

use aiproxy_config::snapshot::DatabaseKind;

use super::calendar::Calendar;
use super::error::QueryError;
use super::filter::Filter;
use super::id_at;
use super::record::{COLUMNS, Record, WHOLE_COLUMNS};
use super::session::Session;
use super::sql::Sql;
use super::window::{self, Ids, Way, Window};
use crate::store::Store;

/// Most records of one page.
pub const MAX_PAGE: usize = 1000;

/// How the cursors of this version begin.
const CURSOR_VERSION: &str = "1";

/// Where a page begins: behind a record. Opaque to callers, who give it back as they got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor([u8; 16]);

impl Cursor {
    /// Behind the record with this id.
    #[must_use]
    pub fn behind(id: [u8; 16]) -> Self {
        Self(id)
    }

    /// Reads what [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// It did not write this.
    pub fn decode(text: &str) -> Result<Self, QueryError> {
        let id = text.strip_prefix(CURSOR_VERSION).filter(|id| id.len() == 32).and_then(|id| id.parse().ok());
        let id: uuid::Uuid = id.ok_or_else(|| {
            let message = "This is no cursor of a page. Take `next_cursor` of the page before, or none for the first.";
            QueryError::invalid("cursor", message)
        })?;
        Ok(Self(id.into_bytes()))
    }

    /// As callers get it.
    #[must_use]
    pub fn encode(&self) -> String {
        format!("{CURSOR_VERSION}{}", uuid::Uuid::from_bytes(self.0).simple())
    }
}

/// A page of records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// In the order asked for.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// Reads page after page.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    filter: Filter,
    newest_first: bool,
    /// What has not been read.
    rest: Ids,
    /// The part of it that is being read.
    window: Option<Window>,
}

impl Pages {
    /// The pages behind `cursor`, or all.
    pub(super) fn new(filter: &Filter, newest_first: bool, cursor: Option<Cursor>) -> Result<Self, QueryError> {
        filter.check()?;
        let mut rest = (id_at(filter.start_ms), id_at(filter.end_ms));
        if let Some(Cursor(id)) = cursor {
            if newest_first {
                rest.1 = rest.1.min(id);
            } else {
                rest.0 = rest.0.max(following(id));
            }
        }
        Ok(Self { filter: filter.clone(), newest_first, rest, window: None })
    }

    /// The next `limit` records. `ahead` is how many more will be asked for soon.
    pub(super) async fn next(
        &mut self,
        store: &Store,
        calendar: &Calendar,
        limit: usize,
        ahead: usize,
    ) -> Result<Vec<Record>, QueryError> {
        let mut records = Vec::new();
        if self.is_at_end() {
            return Ok(records);
        }
        let mut session = Session::open(store).await?;
        // The first window has the page, unless what the rollups count has been deleted since.
        while records.len() < limit && !self.is_at_end() {
            let window = match self.window {
                Some(window) => window,
                None => {
                    let wanted = (limit - records.len() + ahead) as i64;
                    let (filter, newest) = (&self.filter, self.newest_first);
                    window::find(&mut session, calendar, filter, self.rest, newest, wanted).await?
                }
            };
            let missing = limit - records.len();
            let found = self.read(&mut session, window, missing).await?;
            self.step(window, found.last().map(Record::id).filter(|_| found.len() >= missing));
            records.extend(found);
        }
        session.finish().await?;
        Ok(records)
    }

    /// Whether everything has been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.0 >= self.rest.1
    }

    /// Goes on behind `last`, or behind `window` where that has been read.
    fn step(&mut self, window: Window, last: Option<[u8; 16]>) {
        self.window = last.map(|last| {
            let ids = if self.newest_first { (window.ids.0, last) } else { (following(last), window.ids.1) };
            Window { ids, way: window.way }
        });
        let left = self.window.map(|window| window.ids);
        if self.newest_first {
            self.rest.1 = left.map_or(window.ids.0, |ids| ids.1);
        } else {
            self.rest.0 = left.map_or(window.ids.1, |ids| ids.0);
        }
    }

    async fn read(&self, session: &mut Session, window: Window, limit: usize) -> Result<Vec<Record>, QueryError> {
        let mut sql = session.sql();
        sql.push("SELECT ").push(COLUMNS);
        for column in WHOLE_COLUMNS {
            sql.push(", ").whole(column);
        }
        sql.push(" FROM (");
        self.ids(window, limit, &mut sql);
        sql.push(") page JOIN records ON records.id = page.id JOIN series ON series.id = records.series_id");
        sql.push(" ORDER BY records.id").push(self.direction());
        let rows = session.rows(sql).await?;
        rows.iter().map(Record::read).collect()
    }

    /// The ids of the page, which is all that is sorted.
    fn ids(&self, window: Window, limit: usize, sql: &mut Sql) {
        let kind = sql.kind();
        sql.push("SELECT records.id FROM records");
        match window.way {
            Way::Scan if self.filter.is_unconditional() => {
                sql.push(" WHERE 1 = 1");
            }
            Way::Scan => {
                // Neither database may begin with the series here; PostgreSQL sees by itself.
                sql.push(match kind {
                    DatabaseKind::Sqlite => " CROSS JOIN series ON series.id = +records.series_id",
                    DatabaseKind::Mysql => {
                        " FORCE INDEX (PRIMARY) STRAIGHT_JOIN series ON series.id = records.series_id"
                    }
                    DatabaseKind::Postgres => " JOIN series ON series.id = records.series_id",
                });
                sql.push(" WHERE 1 = 1");
                self.filter.conditions(sql);
            }
            Way::Index => {
                sql.push(match kind {
                    DatabaseKind::Sqlite => " INDEXED BY records_by_series",
                    DatabaseKind::Mysql => " FORCE INDEX (records_by_series)",
                    DatabaseKind::Postgres => "",
                });
                sql.push(" WHERE records.series_id IN (SELECT series.id FROM series WHERE 1 = 1");
                self.filter.conditions(sql);
                sql.push(")");
            }
        }
        sql.push(" AND records.id >= ").bind(window.ids.0).push(" AND records.id < ").bind(window.ids.1);
        sql.push(" ORDER BY records.id").push(self.direction()).push(" LIMIT ").bind(limit as i64);
    }

    fn direction(&self) -> &'static str {
        if self.newest_first { " DESC" } else { "" }
    }
}

/// The record with this id.
pub(super) async fn record(session: &mut Session, id: [u8; 16]) -> Result<Option<Record>, QueryError> {
    let mut sql = session.sql();
    sql.push("SELECT ").push(COLUMNS);
    for column in WHOLE_COLUMNS {
        sql.push(", ").whole(column);
    }
    sql.push(" FROM records JOIN series ON series.id = records.series_id WHERE records.id = ").bind(id);
    session.rows(sql).await?.first().map(Record::read).transpose()
}

/// The next id.
fn following(id: [u8; 16]) -> [u8; 16] {
    u128::from_be_bytes(id).saturating_add(1).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_garbage_does_not() {
        let cursor = Cursor::behind([0xa7; 16]);
        assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        let id = "a7".repeat(16);
        for garbage in
            ["", "1", "x", &format!("2{id}"), &format!("1{id}0"), &format!("1{}", "张".repeat(16)), "' OR 1=1 --"]
        {
            let error = Cursor::decode(garbage).unwrap_err();
            assert!(matches!(error, QueryError::Invalid { parameter: "cursor", .. }), "{garbage}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_cursor_or_an_error(text: String) {
            if let Ok(cursor) = Cursor::decode(&text) {
                proptest::prop_assert_eq!(cursor.encode(), text.to_lowercase());
            }
        }
    }
}
