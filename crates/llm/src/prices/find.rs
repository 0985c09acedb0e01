//! Which row a call is priced by. On the path of each call: no allocation, and a hash lookup before any pattern.

use std::collections::HashMap;

use super::glob::Glob;
use super::name::Names;
use super::{PriceRow, Seller};

/// Rows by whom they hold for: the first of these that knows the model has the price.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    channels: HashMap<Box<str>, Shelf>,
    everyone: Shelf,
    /// A handful: looked through faster than hashed.
    families: Vec<(Box<str>, Shelf)>,
    /// The rows of all families, for models that are served by somebody else than their maker.
    any_family: Shelf,
}

impl Index {
    pub(super) fn new(rows: &[PriceRow]) -> Self {
        let mut index = Self::default();
        for (number, row) in rows.iter().enumerate() {
            match &row.seller {
                Seller::Channel(id) => index.channels.entry(id.clone()).or_default().add(&row.model, number),
                Seller::Everyone => index.everyone.add(&row.model, number),
                Seller::Family(family) => {
                    index.family(family).add(&row.model, number);
                    index.any_family.add(&row.model, number);
                }
            }
        }
        index
    }

    fn family(&mut self, family: &str) -> &mut Shelf {
        let at = self.families.iter().position(|(known, _)| **known == *family).unwrap_or_else(|| {
            self.families.push((family.into(), Shelf::default()));
            self.families.len() - 1
        });
        &mut self.families[at].1
    }

    /// The number of the row.
    pub(super) fn find(&self, channel: &str, family: &str, model: &str) -> Option<usize> {
        let mut names = None;
        self.channels
            .get(channel)
            .and_then(|shelf| shelf.find(model, &mut names))
            .or_else(|| self.everyone.find(model, &mut names))
            .or_else(|| self.families.iter().find(|(known, _)| **known == *family)?.1.find(model, &mut names))
            .or_else(|| self.any_family.find(model, &mut names))
    }
}

/// Rows that hold for the same calls.
#[derive(Clone, Debug, Default)]
struct Shelf {
    exact: HashMap<Box<str>, usize>,
    /// Those with the most text that is not a star first; among equals as written.
    globs: Vec<(Glob, usize)>,
}

impl Shelf {
    /// Of two rows for the same name the first counts.
    fn add(&mut self, model: &str, number: usize) {
        if model.contains('*') {
            let glob = Glob::new(model);
            let at = self.globs.partition_point(|(other, _)| other.literal >= glob.literal);
            self.globs.insert(at, (glob, number));
        } else {
            self.exact.entry(model.into()).or_insert(number);
        }
    }

    /// The exact name, with or without the path before it; then the closest of the patterns and of the name without
    /// its date, which is as close as it is long.
    fn find<'name>(&self, asked: &'name str, names: &mut Option<Names<'name>>) -> Option<usize> {
        if self.exact.is_empty() && self.globs.is_empty() {
            return None;
        }
        if let Some(number) = self.exact.get(asked) {
            return Some(*number);
        }
        let names = names.get_or_insert_with(|| Names::of(asked));
        if names.plain.len() != asked.len()
            && let Some(number) = self.exact.get(names.plain)
        {
            return Some(*number);
        }
        let (undated, closeness) = self.undated(names).unzip();
        let closeness = closeness.unwrap_or(0);
        self.globs
            .iter()
            .take_while(|(glob, _)| glob.literal >= closeness)
            .find(|(glob, _)| glob.fits(names.asked) || names.plain.len() != asked.len() && glob.fits(names.plain))
            .map(|(_, number)| *number)
            .or(undated)
    }

    fn undated(&self, names: &Names<'_>) -> Option<(usize, usize)> {
        if names.asked_undated.len() == names.asked.len() {
            return None;
        }
        [names.asked_undated, names.plain_undated]
            .into_iter()
            .find_map(|name| Some((*self.exact.get(name)?, name.len())))
    }
}
