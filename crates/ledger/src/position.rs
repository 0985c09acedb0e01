//! How far a sink has come in the journal. Several segments grow at once (one per worker, and those of a process that
//! hands over), so it is an offset in each, and a number below which everything is done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How far a sink has come. Kept by the sink together with what it took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Segments with a lower number are done.
    pub floor: u64,
    /// Bytes done of segments from `floor` on; missing means none.
    pub offsets: BTreeMap<u64, u64>,
}

impl Position {
    /// Bytes done of segment `number`; `None` if all of it is.
    #[must_use]
    pub fn offset(&self, number: u64) -> Option<u64> {
        (number >= self.floor).then(|| self.offsets.get(&number).copied().unwrap_or(0))
    }

    /// As JSON: `{"floor":3,"offsets":{"3":120}}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_the_floor_is_done() {
        let position = Position { floor: 3, offsets: [(3, 120)].into() };
        assert_eq!([2, 3, 4].map(|number| position.offset(number)), [None, Some(120), Some(0)]);
        assert_eq!(position.to_json(), r#"{"floor":3,"offsets":{"3":120}}"#);
        assert_eq!(Position::from_json(&position.to_json()).unwrap(), position);
    }
}
