//! Series of one metric, told apart by labels, with a ceiling.
//!
//! A label is either a word of a fixed set or a name (a channel, a credential, a model, an endpoint). Names are bounded
//! three times: only so many are known of each kind ([`NAMES_LIMIT`]), models less ([`MODELS_LIMIT`]), and a family that
//! has [`SERIES_LIMIT`] series counts new ones under `other` in place of their names. So however long a process runs and
//! whatever is sent to it, what it exports stays below a fixed size.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::words::OTHER;

/// Most names of channels, of credentials and of endpoints.
pub const NAMES_LIMIT: usize = 500;
/// Most names of models.
pub const MODELS_LIMIT: usize = 200;
/// Most series of one family, but for those that have `other` in place of names.
pub const SERIES_LIMIT: usize = 4_000;

/// The series of one metric. The first of its labels are names, the rest are words of fixed sets.
#[derive(Clone, Debug)]
pub struct Family<const LABELS: usize, Value> {
    labels: [&'static str; LABELS],
    names: usize,
    series: HashMap<[Label; LABELS], Value>,
}

/// The value of a label. Names are shared, so that a series is found without copying one.
#[derive(Clone, Debug)]
pub(super) enum Label {
    Word(&'static str),
    Name(Arc<str>),
}

impl Label {
    fn as_str(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Name(name) => name,
        }
    }
}

// A channel may be called `other`; that must not make a second series with the same labels.
impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Label {}

impl Hash for Label {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl<const LABELS: usize, Value: Default> Family<LABELS, Value> {
    /// A family without series whose first `names` labels are names.
    pub(super) fn new(labels: [&'static str; LABELS], names: usize) -> Self {
        Self { labels, names, series: HashMap::new() }
    }

    /// The series with these values of its labels.
    pub(super) fn at(&mut self, mut values: [Label; LABELS]) -> &mut Value {
        if self.series.len() >= SERIES_LIMIT && !self.series.contains_key(&values) {
            values[..self.names].fill(Label::Word(OTHER));
        }
        self.series.entry(values).or_default()
    }
}

impl<const LABELS: usize, Value> Family<LABELS, Value> {
    /// Names of the labels.
    #[must_use]
    pub fn labels(&self) -> [&'static str; LABELS] {
        self.labels
    }

    /// Every series with the values of its labels, in their order.
    #[must_use]
    pub fn sorted(&self) -> Vec<([&str; LABELS], &Value)> {
        let mut sorted: Vec<_> =
            self.series.iter().map(|(values, value)| (values.each_ref().map(Label::as_str), value)).collect();
        sorted.sort_unstable_by_key(|(values, _)| *values);
        sorted
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

/// Names of one kind that may be values of labels.
#[derive(Clone, Debug)]
pub(super) struct Names {
    known: HashSet<Arc<str>>,
    limit: usize,
}

impl Names {
    pub(super) fn new(limit: usize) -> Self {
        Self { known: HashSet::new(), limit }
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    /// `name` as a label: itself, while there is room; empty, if there is none to tell.
    pub(super) fn label(&mut self, name: Option<&str>) -> Label {
        let Some(name) = name else { return Label::Word("") };
        if let Some(known) = self.known.get(name) {
            return Label::Name(known.clone());
        }
        if self.known.len() >= self.limit {
            return Label::Word(OTHER);
        }
        let name: Arc<str> = name.into();
        self.known.insert(name.clone());
        Label::Name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_family_counts_under_other() {
        let mut family: Family<2, u64> = Family::new(["channel", "end"], 1);
        let mut names = Names::new(usize::MAX);
        for round in 0..2 {
            for number in 0..SERIES_LIMIT + 100 {
                let end = if number % 2 == 0 { "complete" } else { "timeout" };
                *family.at([names.label(Some(&number.to_string())), Label::Word(end)]) += 1;
            }
            assert_eq!(family.len(), SERIES_LIMIT + 2, "round {round}");
        }
        assert_eq!(family.sorted().iter().map(|(_, count)| **count).sum::<u64>(), 2 * (SERIES_LIMIT as u64 + 100));
        let other = family.sorted().into_iter().find(|(labels, _)| *labels == [OTHER, "timeout"]);
        assert_eq!(other.map(|(_, count)| *count), Some(100));
    }

    #[test]
    fn a_name_that_is_a_word_is_no_other_series() {
        let mut family: Family<1, u64> = Family::new(["channel"], 1);
        *family.at([Label::Word(OTHER)]) += 1;
        *family.at([Names::new(1).label(Some(OTHER))]) += 1;
        assert_eq!(family.sorted(), [([OTHER], &2)]);
    }

    #[test]
    fn names_beyond_the_limit_are_other_and_none_is_empty() {
        let mut names = Names::new(1);
        assert_eq!(names.label(None).as_str(), "");
        assert_eq!(["a", "b", "a"].map(|name| names.label(Some(name)).as_str().to_string()), ["a", OTHER, "a"]);
        assert!(names.knows("a") && !names.knows("b"));
    }
}
