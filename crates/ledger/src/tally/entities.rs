//! A map by entity that has a bound.

use std::collections::HashMap;

use aiproxy_config::snapshot::Scope;

/// The most entities that are counted apart: keys, users, groups, departments, channels and credentials together. Those
/// of a config are far fewer; this bounds what names that come and go for years add up to, at some 300 MB.
pub const ENTITIES_LIMIT: usize = 1_000_000;

/// All kinds of entities, in the order of their declaration.
const SCOPES: [Scope; 6] =
    [Scope::Key, Scope::User, Scope::Group, Scope::Department, Scope::Channel, Scope::Credential];

/// The scope that is called so.
pub(super) fn scope_named(name: &str) -> Option<Scope> {
    SCOPES.into_iter().find(|scope| scope.as_str() == name)
}

/// Tells which of many values may be forgotten first.
pub trait LastUsed {
    /// When it was used last, in seconds since 1970-01-01 UTC; `None` if it must stay.
    fn last_used(&self) -> Option<i64>;
}

/// One value for each entity. When there is no room for another, the eighth part that was not used for the longest time
/// is forgotten; what must stay stays, even beyond the limit.
#[derive(Clone, Debug)]
pub struct Entities<Value> {
    /// By scope and id: found without putting a key together.
    scopes: [HashMap<Box<str>, Value>; SCOPES.len()],
    limit: usize,
}

impl<Value> Default for Entities<Value> {
    fn default() -> Self {
        Self::with_limit(ENTITIES_LIMIT)
    }
}

impl<Value> Entities<Value> {
    /// Room for `limit`, nothing in it.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self { scopes: Default::default(), limit }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.scopes.iter().map(HashMap::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of one.
    #[must_use]
    pub fn get(&self, scope: Scope, id: &str) -> Option<&Value> {
        self.scopes[scope as usize].get(id)
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Scope, &str, &Value)> {
        let scopes = SCOPES.into_iter().zip(&self.scopes);
        scopes.flat_map(|(scope, values)| values.iter().map(move |(id, value)| (scope, &**id, value)))
    }
}

impl<Value: LastUsed> Entities<Value> {
    /// What is known of one, which is what `make` makes if that is nothing yet.
    pub fn entry(&mut self, scope: Scope, id: &str, make: impl FnOnce() -> Value) -> &mut Value {
        if !self.scopes[scope as usize].contains_key(id) && self.len() >= self.limit {
            self.forget();
        }
        self.scopes[scope as usize].entry(id.into()).or_insert_with(make)
    }

    /// Changes what is known of one, or makes it first. Ids that are known, which most are, are not copied.
    pub fn update(&mut self, scope: Scope, id: &str, make: impl FnOnce() -> Value, change: impl FnOnce(&mut Value)) {
        match self.scopes[scope as usize].get_mut(id) {
            Some(value) => change(value),
            None => change(self.entry(scope, id, make)),
        }
    }

    fn forget(&mut self) {
        let mut used: Vec<i64> = self.scopes.iter().flat_map(HashMap::values).filter_map(Value::last_used).collect();
        let count = (self.limit / 8).max(1).min(used.len());
        if count == 0 {
            return;
        }
        let (earlier, last, _) = used.select_nth_unstable(count - 1);
        let last = *last;
        // Of those last used in the same hour, no more than needed.
        let mut of_last = count - earlier.iter().filter(|moment| **moment < last).count();
        for values in &mut self.scopes {
            values.retain(|_, value| match value.last_used() {
                Some(moment) if moment < last => false,
                Some(moment) if moment == last && of_last > 0 => {
                    of_last -= 1;
                    false
                }
                _ => true,
            });
        }
        tracing::warn!(forgotten = count, "too many keys and users were ever counted; those unused the longest go");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl LastUsed for Option<i64> {
        fn last_used(&self) -> Option<i64> {
            *self
        }
    }

    fn ids(entities: &Entities<Option<i64>>) -> Vec<String> {
        let mut ids: Vec<_> = entities.iter().map(|(scope, id, _)| format!("{} {id}", scope.as_str())).collect();
        ids.sort();
        ids
    }

    #[test]
    fn scopes_are_indices() {
        for (index, scope) in SCOPES.into_iter().enumerate() {
            assert_eq!(scope as usize, index);
        }
    }

    #[test]
    fn the_same_id_in_two_scopes_is_two_entities() {
        let mut entities = Entities::default();
        entities.entry(Scope::Key, "a", || Some(1));
        entities.entry(Scope::User, "a", || Some(2));
        entities.entry(Scope::User, "a", || Some(3));
        assert_eq!((entities.len(), entities.is_empty()), (2, false));
        assert_eq!(entities.get(Scope::Key, "a"), Some(&Some(1)));
        assert_eq!(entities.get(Scope::User, "a"), Some(&Some(2)), "made once");
        entities.update(Scope::User, "a", || Some(4), |value| *value = value.map(|number| number + 1));
        assert_eq!((entities.get(Scope::User, "a"), entities.get(Scope::Group, "a")), (Some(&Some(3)), None));
    }

    #[test]
    fn the_oldest_are_forgotten_first_and_what_must_stay_stays() {
        let mut entities = Entities::with_limit(16);
        for number in 0..15 {
            entities.entry(Scope::Key, &format!("{number:02}"), || Some(100 - number));
        }
        entities.entry(Scope::Channel, "in use", || None);
        entities.entry(Scope::User, "new", || Some(1_000));
        assert_eq!(entities.len(), 15, "two of sixteen went");
        assert!(!ids(&entities).iter().any(|id| id == "key 13" || id == "key 14"), "{:?}", ids(&entities));

        let mut same = Entities::with_limit(16);
        for number in 0..17 {
            same.entry(Scope::Key, &format!("{number}"), || Some(7));
        }
        assert_eq!(same.len(), 15, "all alike: no more than two go");

        let mut used = Entities::with_limit(4);
        for number in 0..9 {
            used.entry(Scope::Key, &format!("{number}"), || None);
        }
        assert_eq!(used.len(), 9);
    }
}
