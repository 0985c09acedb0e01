//! `system.prices` to the table that every call is priced by.

use std::collections::HashSet;
use std::sync::Arc;

use aiproxy_llm::prices::{
    CURRENCY_EXPECTED, MissingRate, PriceRow, PriceTable, Rate, Seller, Settings, Tier, Unit, UnitPrices, is_currency,
};

use crate::context::Context;
use crate::form::{Money, OneOrMany, Pairs, PriceForm, PricesForm, TierForm};
use crate::suggest::suggestion;
use crate::tree::{Mark, Node, Place, Value};

/// The table. `channels` is the section, whose ids prices may name.
pub(super) fn compile(
    place: &Place<'_>,
    form: Option<PricesForm>,
    channels: &Node,
    context: &mut Context<'_>,
) -> Arc<PriceTable> {
    let shipped = PriceTable::shipped();
    let Some(form) = form else {
        return shipped;
    };
    let table = match form.file {
        None => Some(Arc::clone(&shipped)),
        Some(name) => table_file(&place.key("file"), &name, context).map(Arc::new),
    };
    let base = match form.currency {
        Some(written) => currency(&place.key("currency"), written, context),
        None if place.is_broken("currency") => None,
        None => table.as_ref().map(|table| table.currency().into()),
    };
    // Where the base currency is not known, all but what depends on it is checked.
    let known_base = base.as_deref().unwrap_or_default();
    let rates = rates(&place.key("rates"), form.rates, known_base, context);
    let rows = Rows { channels, base: known_base, found: Vec::new(), known: HashSet::new() };
    let (rows, marks): (Vec<_>, Vec<_>) = rows.compile(&place.key("models"), form.models, context).into_iter().unzip();
    let (Some(table), Some(base)) = (table, base) else {
        return shipped;
    };
    match table.with(Settings { currency: Some(base.clone()), rates, rows }) {
        Ok(table) => Arc::new(table),
        Err(missing) => {
            missing.iter().for_each(|missing| tell_missing(place, missing, &base, &marks, context));
            table
        }
    }
}

fn currency(place: &Place<'_>, written: String, context: &mut Context<'_>) -> Option<Box<str>> {
    if !is_currency(&written) {
        context.problems.error(place, CURRENCY_EXPECTED);
        return None;
    }
    Some(written.into())
}

/// Everything wrong with the file is reported at its own lines.
fn table_file(place: &Place<'_>, name: &str, context: &mut Context<'_>) -> Option<PriceTable> {
    let text = context.read_side_file(place, name)?;
    match PriceTable::parse(&text) {
        Ok(table) => Some(table),
        Err(flaws) => {
            let path = context.resolve(name);
            let file = context.problems.add_file(&path);
            for flaw in flaws {
                let mark = Mark { file, line: flaw.line, column: flaw.column };
                context.problems.error_at(mark, flaw.message);
            }
            None
        }
    }
}

fn rates(place: &Place<'_>, written: Pairs<f64>, base: &str, context: &mut Context<'_>) -> Vec<Rate> {
    let mut rates = Vec::with_capacity(written.0.len());
    for (currency, worth) in written.0 {
        let place = place.key(&currency);
        let Some(rate) = Rate::written(&currency, worth) else {
            context.problems.error(&place, "must be more than 0 and at most 1000000000");
            continue;
        };
        if !is_currency(&currency) {
            context.problems.error(&place, CURRENCY_EXPECTED);
        } else if *currency == *base {
            context.problems.error(&place, format!("{base} is what the others are told in; leave it out"));
        } else {
            rates.push(rate);
        }
    }
    rates
}

/// A currency without a rate: said where a row of the config is in it, or else where the base currency is chosen.
fn tell_missing(
    place: &Place<'_>,
    missing: &MissingRate,
    base: &str,
    marks: &[(Mark, String)],
    context: &mut Context<'_>,
) {
    let currency = &missing.currency;
    let message =
        format!("there is no rate for {currency}; write what one is worth in {base}: rates: {{{currency}: …}}");
    match missing.added_row.and_then(|row| marks.get(row)) {
        Some((mark, path)) => context.problems.push(crate::Severity::Error, *mark, path.clone(), message),
        None => {
            context.problems.error(&place.key("currency"), format!("the table has prices in {currency}, and {message}"))
        }
    }
}

/// The rows of the config, and what they must fit.
struct Rows<'config> {
    channels: &'config Node,
    base: &'config str,
    found: Vec<(PriceRow, (Mark, String))>,
    /// Models and channels that have a row.
    known: HashSet<(Box<str>, Option<String>)>,
}

impl Rows<'_> {
    /// Each row with where its currency is written.
    fn compile(
        mut self,
        place: &Place<'_>,
        models: Pairs<OneOrMany<PriceForm>>,
        context: &mut Context<'_>,
    ) -> Vec<(PriceRow, (Mark, String))> {
        for (model, forms) in models.0 {
            let place = place.key(&model);
            if model.trim().is_empty() {
                context.problems.error(&place, "a model name is not empty; `*` stands for all");
            }
            match forms {
                OneOrMany::One(form) => self.add(&place, &model, form, context),
                OneOrMany::Many(forms) => {
                    for (index, form) in forms.into_iter().enumerate() {
                        self.add(&place.index(index), &model, form, context);
                    }
                }
            }
        }
        self.found
    }

    fn add(&mut self, place: &Place<'_>, model: &str, form: PriceForm, context: &mut Context<'_>) {
        if let Some(channel) = &form.channel {
            self.check_channel(&place.key("channel"), channel, context);
        }
        if !self.known.insert((model.into(), form.channel.clone())) {
            let which = form.channel.as_ref().map_or("without a channel", |_| "for this channel");
            context.problems.error(place, format!("`{model}` has a price {which} already"));
        }
        let prices = unit_prices(form.prices());
        if prices.is_empty() && !has_broken_field(place) {
            context.problems.error(place, "says no price; write e.g. `input` and `output`");
        }
        let tiers = tiers(&place.key("tiers"), &form.tiers, &prices, context);
        let written = place.key("currency");
        let currency = form.currency.map_or_else(|| Some(self.base.into()), |name| currency(&written, name, context));
        let Some(currency) = currency else {
            return;
        };
        let seller = form.channel.map_or(Seller::Everyone, |channel| Seller::Channel(channel.into()));
        let (as_of, source, note) = (None, None, None);
        let row = PriceRow { seller, model: model.into(), currency, prices, tiers, as_of, source, note };
        self.found.push((row, (written.mark(), written.path())));
    }

    fn check_channel(&self, place: &Place<'_>, channel: &str, context: &mut Context<'_>) {
        let ids = self.channels.entries().iter().map(|entry| &*entry.key);
        if !ids.clone().any(|id| id == channel) {
            let suggestion = suggestion(channel, ids, "there are");
            context.problems.error(place, format!("there is no channel `{channel}`{suggestion}"));
        }
    }
}

fn tiers(place: &Place<'_>, forms: &[TierForm], base: &UnitPrices, context: &mut Context<'_>) -> Box<[Tier]> {
    let mut least = 0;
    let mut tiers = Vec::with_capacity(forms.len());
    for (index, form) in forms.iter().enumerate() {
        let place = place.index(index);
        if form.from_input_tokens <= least {
            context.problems.error(&place.key("from_input_tokens"), "must be more than that of the tier before");
        }
        least = form.from_input_tokens;
        let prices = unit_prices(form.prices());
        if prices.is_empty() && !has_broken_field(&place) {
            context.problems.error(&place, "says no price; write e.g. `input` and `output`");
        }
        tiers.push(Tier { from_input_tokens: least, prices: prices.over(base) });
    }
    tiers.into()
}

/// The schema has checked that each is in range.
fn unit_prices(written: impl Iterator<Item = (Unit, Money)>) -> UnitPrices {
    written.fold(UnitPrices::default(), |mut prices, (unit, Money(price))| {
        let is_in_range = prices.set_written(unit, price);
        debug_assert!(is_in_range, "{unit:?}");
        prices
    })
}

/// A field that is there, but was reported as wrong: it may have been the price.
fn has_broken_field(place: &Place<'_>) -> bool {
    let entries = place.node.map(Node::entries).unwrap_or_default();
    entries.iter().any(|entry| matches!(entry.node.value, Value::Broken))
}
