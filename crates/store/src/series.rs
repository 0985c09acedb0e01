//! What records are grouped and filtered by: each combination of user, channel, model and so on is one row with a small
//! number, and the numbers of those met lately are remembered.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use aiproxy_config::key_digest;
use aiproxy_ledger::Entry;

use crate::connection::{Connection, Value, places};
use crate::error::StoreError;
use crate::rows::{Column, Repeated, Table};
use crate::text::{NAME, clean};

/// Stands for the models beyond the bound.
const OTHER: &str = "(other)";

static SERIES: Table = Table {
    name: "series",
    columns: &[
        "digest",
        "user_id",
        "department",
        "key_id",
        "channel_id",
        "credential_id",
        "model",
        "endpoint",
        "dialect",
        "protocol",
        "error_code",
        "status",
    ],
    key: &["digest"],
    repeated: Repeated::Stays,
};

/// Number of texts of a series.
const TEXTS: usize = 10;

/// Digests asked for in one statement.
const ASKED: usize = 100;

pub(crate) type Digest = [u8; 16];

/// One combination.
#[derive(Clone, Debug)]
pub(crate) struct Series<'a> {
    pub(crate) digest: Digest,
    /// In the order of the table's columns.
    texts: [Cow<'a, str>; TEXTS],
    status: u16,
}

/// Numbers of series, by digest.
#[derive(Debug)]
pub(crate) struct Interner {
    known: HashMap<Digest, i64>,
    most: usize,
    models: HashSet<Box<str>>,
    most_models: usize,
    /// How often series had been deleted when `known` was begun.
    deletions: Option<i64>,
    scratch: String,
}

impl Interner {
    pub(crate) fn new(most: usize, most_models: usize) -> Self {
        Self {
            known: HashMap::new(),
            most,
            models: HashSet::new(),
            most_models,
            deletions: None,
            scratch: String::new(),
        }
    }

    /// The combination that `entry` belongs to.
    pub(crate) fn series<'a>(&mut self, entry: &Entry<'a>) -> Series<'a> {
        let model = self.model(entry);
        let text = |text: Option<&'a str>| clean(text.unwrap_or_default(), NAME);
        let texts = [
            text(entry.user_id),
            text(entry.department),
            text(entry.key_id),
            text(entry.channel_id),
            text(entry.credential_id),
            model,
            text(Some(entry.endpoint)),
            text(Some(entry.dialect)),
            text(Some(entry.protocol)),
            text(entry.error_code),
        ];
        Series { digest: self.digest(&texts, entry.status), texts, status: entry.status }
    }

    /// What served the call; what was asked for, if it got that far. Callers can make up any number of names, so there
    /// is a bound.
    fn model<'a>(&mut self, entry: &Entry<'a>) -> Cow<'a, str> {
        let model = entry.model_served.or(entry.model_asked.filter(|_| entry.counted)).unwrap_or_default();
        let model = clean(model, NAME);
        if model.is_empty() || self.models.contains(&*model) {
            return model;
        }
        if self.models.len() >= self.most_models {
            return Cow::Borrowed(OTHER);
        }
        self.models.insert(model.as_ref().into());
        model
    }

    /// The first half of a SHA-256: callers choose some of the texts, so it must be hard to make two alike.
    fn digest(&mut self, texts: &[Cow<'_, str>; TEXTS], status: u16) -> Digest {
        self.scratch.clear();
        for text in texts {
            self.scratch.push_str(itoa(text.len(), &mut [0; 8]));
            self.scratch.push(':');
            self.scratch.push_str(text);
        }
        self.scratch.push_str(itoa(status.into(), &mut [0; 8]));
        let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = key_digest(&self.scratch);
        digest
    }

    /// Forgets all numbers if series were deleted since. Until the transaction ends none are.
    pub(crate) async fn hold(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        let sql = match connection.kind() {
            // The transaction is the only one that writes.
            aiproxy_config::snapshot::DatabaseKind::Sqlite => "SELECT times FROM series_deletions WHERE id = 0",
            aiproxy_config::snapshot::DatabaseKind::Postgres => {
                "SELECT times FROM series_deletions WHERE id = 0 FOR SHARE"
            }
            aiproxy_config::snapshot::DatabaseKind::Mysql => {
                "SELECT times FROM series_deletions WHERE id = 0 LOCK IN SHARE MODE"
            }
        };
        let rows = connection.rows(sql, &[]).await?;
        let times = rows.first().map_or(Ok(0), |row| row.int(0)).map_err(|error| connection.unreadable(error))?;
        if self.deletions != Some(times) {
            self.known.clear();
            self.deletions = Some(times);
        }
        Ok(())
    }

    /// The numbers of all `series`, adding those that are missing. They are good for this transaction; once it is
    /// committed [`Self::remember`] keeps them.
    pub(crate) async fn numbers(
        &mut self,
        connection: &mut Connection,
        series: &[Series<'_>],
    ) -> Result<(Vec<i64>, HashMap<Digest, i64>), StoreError> {
        let mut missing: Vec<&Series<'_>> = series.iter().filter(|one| !self.known.contains_key(&one.digest)).collect();
        // In one order everywhere: two instances that add the same ones wait for each other, never in a circle.
        missing.sort_unstable_by_key(|one| one.digest);
        missing.dedup_by_key(|one| one.digest);
        let mut found = HashMap::with_capacity(missing.len());
        if !missing.is_empty() {
            find(connection, &missing, &mut found).await?;
            missing.retain(|one| !found.contains_key(&one.digest));
        }
        if !missing.is_empty() {
            connection.insert(&SERIES, &columns(&missing)).await?;
            find(connection, &missing, &mut found).await?;
        }
        let number = |one: &Series<'_>| self.known.get(&one.digest).or_else(|| found.get(&one.digest)).copied();
        let numbers: Option<Vec<i64>> = series.iter().map(number).collect();
        let numbers = numbers.ok_or_else(|| StoreError::unavailable("a series was deleted while it was added"))?;
        Ok((numbers, found))
    }

    /// Keeps what a committed transaction found.
    pub(crate) fn remember(&mut self, found: HashMap<Digest, i64>) {
        if self.known.len() + found.len() > self.most {
            self.known.clear();
        }
        self.known.extend(found);
    }

    /// Forgets all numbers: they may belong to another database by now.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
        self.deletions = None;
    }
}

fn columns<'a>(series: &[&'a Series<'a>]) -> Vec<Column<'a>> {
    let mut columns = vec![Column::Id(series.iter().map(|one| one.digest).collect())];
    for text in 0..TEXTS {
        columns.push(Column::Text(series.iter().map(|one| Cow::Borrowed(&*one.texts[text])).collect()));
    }
    columns.push(Column::Int(series.iter().map(|one| one.status.into()).collect()));
    columns
}

async fn find(
    connection: &mut Connection,
    series: &[&Series<'_>],
    found: &mut HashMap<Digest, i64>,
) -> Result<(), StoreError> {
    for part in series.chunks(ASKED) {
        let sql = format!("SELECT digest, id FROM series WHERE digest IN ({})", places(part.len()));
        let digests: Vec<Value> = part.iter().map(|one| one.digest.into()).collect();
        for row in connection.rows(&sql, &digests).await? {
            let digest = row.id(0).map_err(|error| connection.unreadable(error))?;
            found.insert(digest, row.int(1).map_err(|error| connection.unreadable(error))?);
        }
    }
    Ok(())
}

/// Decimal digits without an allocation.
fn itoa(mut number: usize, digits: &mut [u8; 8]) -> &str {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || start == 0 {
            return str::from_utf8(&digits[start..]).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>() -> Entry<'a> {
        Entry { user_id: Some("zhang"), model_asked: Some("asked"), status: 200, counted: true, ..Entry::default() }
    }

    #[test]
    fn a_series_is_the_same_for_the_same_texts_only() {
        let mut interner = Interner::new(10, 10);
        let one = interner.series(&entry()).digest;
        assert_eq!(one, interner.series(&entry()).digest);
        let shifted = Entry { user_id: Some("zhan"), department: Some("g"), ..entry() };
        let status = Entry { status: 201, ..entry() };
        for other in [shifted, status] {
            assert_ne!(one, interner.series(&other).digest);
        }
    }

    #[test]
    fn the_model_is_what_served_or_was_asked_for_by_a_call_that_counts() {
        let mut interner = Interner::new(10, 2);
        let mut model = |entry: &Entry<'_>| interner.series(entry).texts[5].to_string();
        assert_eq!(model(&Entry { model_served: Some("served"), ..entry() }), "served");
        assert_eq!(model(&entry()), "asked");
        assert_eq!(model(&Entry { counted: false, ..entry() }), "");
        assert_eq!(model(&Entry { model_asked: Some("third"), ..entry() }), "(other)");
        assert_eq!(model(&entry()), "asked");
    }
}
