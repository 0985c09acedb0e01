//! One statement for three databases: the text as it is read here, with the few words that differ filled in, and the
//! values that go with it. A value never becomes part of the text.

use aiproxy_config::snapshot::DatabaseKind;

use crate::connection::Value;

/// A statement that is being put together; `?` stands for its values.
#[derive(Clone, Debug)]
pub(super) struct Sql {
    kind: DatabaseKind,
    text: String,
    values: Vec<Value>,
}

impl Sql {
    /// An empty statement for a kind of database.
    pub(super) fn new(kind: DatabaseKind) -> Self {
        Self { kind, text: String::new(), values: Vec::new() }
    }

    /// Whom it is for.
    pub(super) fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// Appends text of this program's own.
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Appends a place and the value that takes it.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.text.push('?');
        self.values.push(value.into());
        self
    }

    /// An expression as a 64-bit number, whatever it was: a sum is a decimal in PostgreSQL and MySQL, and a status is 32
    /// bits wide.
    pub(super) fn whole(&mut self, expression: &str) -> &mut Self {
        self.whole_of(|sql| {
            sql.push(expression);
        })
    }

    /// The same for an expression with values.
    pub(super) fn whole_of(&mut self, expression: impl FnOnce(&mut Self)) -> &mut Self {
        self.push("CAST(");
        expression(self);
        self.push(match self.kind {
            DatabaseKind::Mysql => " AS SIGNED)",
            DatabaseKind::Sqlite | DatabaseKind::Postgres => " AS BIGINT)",
        })
    }

    /// Appends another statement for the same database, with its values.
    pub(super) fn push_sql(&mut self, other: Self) -> &mut Self {
        self.values.extend(other.values);
        self.push(&other.text)
    }

    /// Text and values.
    pub(super) fn into_parts(self) -> (String, Vec<Value>) {
        (self.text, self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_out_of_the_text_and_sums_are_whole_numbers() {
        let build = |kind| {
            let mut sql = Sql::new(kind);
            sql.push("SELECT ").whole("SUM(calls)").push(" WHERE a = ").bind("' OR 1").push(" AND b = ").bind(7);
            sql.into_parts()
        };
        let values = vec![Value::Text("' OR 1".into()), Value::Int(7)];
        let text = "SELECT CAST(SUM(calls) AS BIGINT) WHERE a = ? AND b = ?";
        assert_eq!(build(DatabaseKind::Sqlite), (text.to_owned(), values.clone()));
        assert_eq!(build(DatabaseKind::Postgres), (text.to_owned(), values.clone()));
        let text = "SELECT CAST(SUM(calls) AS SIGNED) WHERE a = ? AND b = ?";
        assert_eq!(build(DatabaseKind::Mysql), (text.to_owned(), values));
    }
}
