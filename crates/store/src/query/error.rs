//! Why a question was not answered.

use std::fmt;

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// The question itself is at fault.
    Invalid {
        /// Name of the parameter at fault, as in the admin API.
        parameter: &'static str,
        /// What is wrong, and what to do.
        message: String,
    },
    /// It took longer than [`DEADLINE`](super::DEADLINE).
    Timeout,
    /// The database cannot be reached, or is not set up yet.
    Unavailable(String),
    /// The database refused the statement, or its rows are not what this program wrote.
    Failed(String),
}

impl QueryError {
    pub(super) fn invalid(parameter: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { parameter, message: message.into() }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { parameter, message } => write!(formatter, "{parameter}: {message}"),
            Self::Timeout => write!(formatter, "the database took too long; ask for less time or fewer groups"),
            Self::Unavailable(why) => write!(formatter, "the database is unavailable: {why}"),
            Self::Failed(why) => write!(formatter, "the database failed: {why}"),
        }
    }
}

impl std::error::Error for QueryError {}
