//! Which calls are asked for, and what they are grouped by.

use super::error::QueryError;
use super::sql::Sql;
use crate::connection::Value;

/// Most values of one question.
const MAX_VALUES: usize = 500;

/// What calls are grouped and filtered by: a column of `series`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// The user.
    User,
    /// The user's department.
    Department,
    /// The proxy key.
    Key,
    /// The channel used last.
    Channel,
    /// The credential used last; its id is unique within its channel only.
    Credential,
    /// The model that served the call, or else the one that was asked for.
    Model,
    /// The normalised path.
    Endpoint,
    /// The API spoken.
    Dialect,
    /// `http`, `sse`, `websocket` or `webrtc`.
    Protocol,
    /// The status sent.
    Status,
    /// The machine code of an error made by the gateway.
    ErrorCode,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::User,
        Self::Department,
        Self::Key,
        Self::Channel,
        Self::Credential,
        Self::Model,
        Self::Endpoint,
        Self::Dialect,
        Self::Protocol,
        Self::Status,
        Self::ErrorCode,
    ];

    /// Its name: of the column, in the record and in the admin API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user_id",
            Self::Department => "department",
            Self::Key => "key_id",
            Self::Channel => "channel_id",
            Self::Credential => "credential_id",
            Self::Model => "model",
            Self::Endpoint => "endpoint",
            Self::Dialect => "dialect",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::ErrorCode => "error_code",
        }
    }

    /// The column with its table.
    pub(super) fn column(self) -> &'static str {
        match self {
            Self::User => "series.user_id",
            Self::Department => "series.department",
            Self::Key => "series.key_id",
            Self::Channel => "series.channel_id",
            Self::Credential => "series.credential_id",
            Self::Model => "series.model",
            Self::Endpoint => "series.endpoint",
            Self::Dialect => "series.dialect",
            Self::Protocol => "series.protocol",
            Self::Status => "series.status",
            Self::ErrorCode => "series.error_code",
        }
    }

    /// `text` as a value of the column; `None` where it cannot be one.
    pub(super) fn value(self, text: &str) -> Option<Value> {
        match self {
            Self::Status => text.parse().ok().map(Value::Int),
            _ => Some(Value::Text(text.to_owned())),
        }
    }
}

/// A range of time, and which calls in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Calls that began at this moment or later, in milliseconds since 1970-01-01 UTC.
    pub start_ms: i64,
    /// Calls that began before this moment.
    pub end_ms: i64,
    /// What they must be: one of the values, for every dimension named. Empty text means "none". A status is a number, or
    /// a class such as `5xx`.
    pub only: Vec<(Dimension, Vec<String>)>,
}

impl Filter {
    /// All calls of a range.
    #[must_use]
    pub fn all(start_ms: i64, end_ms: i64) -> Self {
        Self { start_ms, end_ms, only: Vec::new() }
    }

    /// Whether it takes every call of its range.
    #[must_use]
    pub fn is_unconditional(&self) -> bool {
        self.only.is_empty()
    }

    /// Refuses what no statement can be made of.
    pub(super) fn check(&self) -> Result<(), QueryError> {
        let values = self.only.iter().map(|(_, values)| values.len()).sum::<usize>();
        if let Some((dimension, _)) = self.only.first().filter(|_| values > MAX_VALUES) {
            let message = format!("There may be {MAX_VALUES} filter values at most.");
            return Err(QueryError::invalid(dimension.as_str(), message));
        }
        for (dimension, values) in &self.only {
            if values.iter().any(|value| value.contains('\0')) {
                return Err(QueryError::invalid(dimension.as_str(), "A NUL character is in no record."));
            }
            if *dimension == Dimension::Status
                && let Some(value) = values.iter().find(|value| status(value).is_none())
            {
                let shown: String = value.chars().take(20).collect();
                let message = format!("`{shown}` is no status. Write a number such as 429, or a class such as 5xx.");
                return Err(QueryError::invalid("status", message));
            }
        }
        Ok(())
    }

    /// Appends ` AND …` for each condition, on the table `series`.
    pub(super) fn conditions(&self, sql: &mut Sql) {
        for (dimension, values) in &self.only {
            sql.push(" AND ");
            if *dimension == Dimension::Status {
                statuses(values, sql);
            } else {
                one_of(dimension.column(), values.iter().map(|value| Value::Text(value.clone())), sql);
            }
        }
    }
}

/// `column IN (…)`.
fn one_of(column: &str, values: impl Iterator<Item = Value>, sql: &mut Sql) {
    sql.push(column).push(" IN (");
    for (index, value) in values.enumerate() {
        sql.push(if index > 0 { ", " } else { "" }).bind(value);
    }
    sql.push(")");
}

fn statuses(values: &[String], sql: &mut Sql) {
    sql.push("(");
    for (index, (from, to)) in values.iter().filter_map(|value| status(value)).enumerate() {
        sql.push(if index > 0 { " OR " } else { "" });
        sql.push("(series.status >= ").bind(from).push(" AND series.status <= ").bind(to).push(")");
    }
    sql.push(")");
}

/// From which to which status, both included.
fn status(text: &str) -> Option<(i64, i64)> {
    if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        let class: i64 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    let status = text.parse().ok().filter(|status| (0..=999).contains(status))?;
    Some((status, status))
}

#[cfg(test)]
mod tests {
    use aiproxy_config::snapshot::DatabaseKind;

    use super::*;

    #[test]
    fn conditions_name_columns_and_bind_values() {
        let filter = Filter {
            only: vec![
                (Dimension::User, vec!["a".into(), "' OR 1=1 --".into()]),
                (Dimension::Status, vec!["429".into(), "5xx".into()]),
            ],
            ..Filter::default()
        };
        filter.check().unwrap();
        let mut sql = Sql::new(DatabaseKind::Sqlite);
        filter.conditions(&mut sql);
        let (text, values) = sql.into_parts();
        let expected = " AND series.user_id IN (?, ?) AND ((series.status >= ? AND series.status <= ?) \
                        OR (series.status >= ? AND series.status <= ?))";
        assert_eq!(text, expected);
        assert_eq!(values[1], Value::Text("' OR 1=1 --".into()));
        assert_eq!(values[2..], [429, 429, 500, 599].map(Value::Int));
    }

    #[test]
    fn what_cannot_be_a_value_is_refused_with_its_name() {
        for (dimension, value) in [
            (Dimension::Status, "6xx"),
            (Dimension::Status, "abc"),
            (Dimension::Status, "-1"),
            (Dimension::Status, ""),
            (Dimension::User, "a\0b"),
        ] {
            let filter = Filter { only: vec![(dimension, vec![value.into()])], ..Filter::default() };
            let QueryError::Invalid { parameter, .. } = filter.check().unwrap_err() else { panic!() };
            assert_eq!(parameter, dimension.as_str());
        }
        let many = Filter { only: vec![(Dimension::Model, vec![String::new(); 501])], ..Filter::default() };
        assert!(many.check().is_err());
    }
}
