//! A table as a JSON file: `version`, `currency`, `rates` and `prices`. Everything wrong with it is told at once, each
//! with its line; never with its values, for it might be the wrong file.
//!
//! ```json
//! {
//!   "version": "2026-11-21", "currency": "USD",
//!   "rates": [{"currency": "CNY", "rate": 0.14, "as_of": "2026-02-11", "source": "https://…"}],
//!   "prices": [
//!     {"family": "gemini", "models": ["gemini-2.5-pro"], "input": 1.25, "output": 10,
//!      "as_of": "2026-09-20", "source": "https://…",
//!      "tiers": [{"from_input_tokens": 200001, "input": 2.5, "output": 15}]}
//!   ]
//! }
//! ```

use std::collections::HashSet;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::rate::Rates;
use super::{CURRENCY_EXPECTED, PriceRow, PriceTable, Rate, Seller, Tier, Unit, UnitPrices, is_currency};

/// Something wrong with a price file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFlaw {
    /// From 1.
    pub line: u32,
    /// From 1, in bytes.
    pub column: u32,
    /// What is wrong, and where in the row or rate that starts there.
    pub message: String,
}

/// The top of the file; its rows and rates are read one by one, so that each has its place.
#[derive(serde::Deserialize)]
struct Top<'text> {
    #[serde(borrow, default)]
    version: Option<&'text RawValue>,
    #[serde(borrow, default)]
    currency: Option<&'text RawValue>,
    #[serde(borrow, default)]
    rates: Option<&'text RawValue>,
    #[serde(borrow, default)]
    prices: Option<&'text RawValue>,
}

const EXPECTED: &str = "expected an object with `version`, `currency` and `prices`";

/// Reads a file.
pub(super) fn read(text: &str) -> Result<PriceTable, Vec<TableFlaw>> {
    let mut reader = Reader { text, at: text, flaws: Vec::new() };
    // A list would be read as the fields in their order.
    if text.trim_start().starts_with('[') {
        reader.wrong::<()>(EXPECTED);
        return Err(reader.flaws);
    }
    let top = match serde_json::from_str::<Top<'_>>(text) {
        Ok(top) => top,
        Err(error) => {
            let place = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).max(1);
            let message = match error.classify() {
                serde_json::error::Category::Data => EXPECTED,
                _ => "not valid JSON from here on",
            };
            let (line, column) = (place(error.line()), place(error.column()));
            return Err(vec![TableFlaw { line, column, message: message.to_owned() }]);
        }
    };
    let version = reader.version(top.version);
    let currency = reader.base(top.currency);
    let rates = reader.rates(top.rates, &currency);
    let rows = reader.rows(top.prices, &rates);
    if !reader.flaws.is_empty() {
        reader.flaws.sort_by_key(|flaw| (flaw.line, flaw.column));
        return Err(reader.flaws);
    }
    PriceTable::new(&version, rates, rows).map_err(|missing| {
        let tell = |rate: super::MissingRate| TableFlaw { line: 1, column: 1, message: no_rate(&rate.currency) };
        missing.into_iter().map(tell).collect()
    })
}

fn no_rate(currency: &str) -> String {
    format!("`rates` has no rate for {currency}")
}

struct Reader<'text> {
    text: &'text str,
    /// What is being read: flaws are told at its start.
    at: &'text str,
    flaws: Vec<TableFlaw>,
}

impl<'text> Reader<'text> {
    fn wrong<T>(&mut self, message: impl Into<String>) -> Option<T> {
        let offset = (self.at.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
        let place = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.flaws.push(TableFlaw { line: place(line), column: place(column), message: message.into() });
        None
    }

    fn version(&mut self, raw: Option<&'text RawValue>) -> String {
        const LONGEST: usize = 64;
        self.at = raw.map_or(self.text, RawValue::get);
        let version = raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()).unwrap_or_default();
        let is_plain = version.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+');
        if version.is_empty() || version.len() > LONGEST || !is_plain {
            self.wrong::<()>("`version` is text such as `2026-11-21`, without spaces and `+`");
        }
        version
    }

    fn base(&mut self, raw: Option<&'text RawValue>) -> Box<str> {
        self.at = raw.map_or(self.text, RawValue::get);
        let currency = raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()).unwrap_or_default();
        if !is_currency(&currency) {
            self.wrong::<()>(format!("`currency`: {CURRENCY_EXPECTED}"));
        }
        currency.into()
    }

    /// The objects of a list, each as it stands in the text.
    fn objects(&mut self, raw: Option<&'text RawValue>, what: &str) -> Vec<(&'text str, Map<String, Value>)> {
        self.at = raw.map_or(self.text, RawValue::get);
        let Some(items) = raw.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok()) else {
            self.wrong::<()>(format!("`{what}` is a list of objects"));
            return Vec::new();
        };
        let mut objects = Vec::with_capacity(items.len());
        for item in items {
            self.at = item.get();
            match serde_json::from_str(item.get()) {
                Ok(object) => objects.push((item.get(), object)),
                Err(_) => self.wrong(format!("`{what}` is a list of objects")).unwrap_or_default(),
            }
        }
        objects
    }

    fn rates(&mut self, raw: Option<&'text RawValue>, base: &str) -> Rates {
        let mut list: Vec<Rate> = Vec::new();
        let objects = if raw.is_some() { self.objects(raw, "rates") } else { Vec::new() };
        for (at, mut object) in objects {
            self.at = at;
            let currency = self.currency(object.remove("currency"));
            let worth = object.remove("rate").and_then(|rate| rate.as_f64()).unwrap_or(0.0);
            let rate = Rate::written(currency.as_deref().unwrap_or_default(), worth);
            if rate.is_none() {
                self.wrong::<()>("`rate` is a number above 0: what one unit is worth in the table's currency");
            }
            let as_of = self.date(object.remove("as_of"));
            let source = self.words("source", object.remove("source"));
            self.nothing_else(&object, &["currency", "rate", "as_of", "source"]);
            let (Some(currency), Some(rate)) = (currency, rate) else {
                continue;
            };
            if *currency == *base || list.iter().any(|known| known.currency == currency) {
                self.wrong::<()>(format!("{currency} has a rate already"));
            }
            list.push(Rate { as_of, source, ..rate });
        }
        Rates { currency: base.into(), list }
    }

    fn rows(&mut self, raw: Option<&'text RawValue>, rates: &Rates) -> Vec<PriceRow> {
        let mut rows = Vec::new();
        let mut known = HashSet::new();
        for (at, object) in self.objects(raw, "prices") {
            self.at = at;
            let Some((models, row)) = self.row(object, rates) else {
                continue;
            };
            for model in models {
                if !known.insert((row.seller_name(), model.clone())) {
                    self.wrong::<()>(format!("`{model}` has a row of this family already"));
                }
                rows.push(PriceRow { model: model.into(), ..row.clone() });
            }
        }
        rows
    }

    fn row(&mut self, mut object: Map<String, Value>, rates: &Rates) -> Option<(Vec<String>, PriceRow)> {
        let family = self.words("family", object.remove("family"));
        if family.is_none() {
            self.wrong::<()>("`family` says whose prices these are, e.g. `openai`");
        }
        let models = object.remove("models").and_then(|models| serde_json::from_value::<Vec<String>>(models).ok());
        let models = models.filter(|models| !models.is_empty() && models.iter().all(|model| !model.trim().is_empty()));
        if models.is_none() {
            self.wrong::<()>("`models` is a list of names and patterns");
        }
        let currency = match object.remove("currency") {
            None => Some(rates.currency.clone()),
            written => self.currency(written),
        };
        if let Some(currency) = currency.as_deref().filter(|currency| rates.of(currency).is_none()) {
            self.wrong::<()>(no_rate(currency));
        }
        let (as_of, source) = (self.date(object.remove("as_of")), self.words("source", object.remove("source")));
        let note = self.words("note", object.remove("note"));
        let tiers = object.remove("tiers");
        let prices = self.prices(&object, "row");
        let tiers = self.tiers(tiers, &prices);
        let seller = Seller::Family(family?);
        let row = PriceRow { seller, model: "".into(), currency: currency?, prices, tiers, as_of, source, note };
        Some((models?, row))
    }

    fn tiers(&mut self, raw: Option<Value>, base: &UnitPrices) -> Box<[Tier]> {
        let Some(raw) = raw else {
            return Box::default();
        };
        let Ok(objects) = serde_json::from_value::<Vec<Map<String, Value>>>(raw) else {
            self.wrong::<()>("`tiers` is a list of objects");
            return Box::default();
        };
        let mut tiers: Vec<Tier> = Vec::with_capacity(objects.len());
        for mut object in objects {
            let from = object.remove("from_input_tokens").and_then(|from| from.as_u64()).unwrap_or(0);
            if from <= tiers.last().map_or(0, |tier| tier.from_input_tokens) {
                self.wrong::<()>("`from_input_tokens` of a tier is a whole number above that of the tier before");
            }
            let prices = self.prices(&object, "tier");
            tiers.push(Tier { from_input_tokens: from, prices: prices.over(base) });
        }
        tiers.into()
    }

    /// Every field that is left is a price.
    fn prices(&mut self, object: &Map<String, Value>, what: &str) -> UnitPrices {
        let flaws = self.flaws.len();
        let mut prices = UnitPrices::default();
        for (name, value) in object {
            let Some(unit) = Unit::from_name(name) else {
                self.unknown(name);
                continue;
            };
            if !value.as_f64().is_some_and(|price| prices.set_written(unit, price)) {
                let largest = UnitPrices::LARGEST_WRITTEN;
                self.wrong::<()>(format!("`{}` is a number from 0 to {largest}", unit.as_str()));
            }
        }
        if prices.is_empty() && self.flaws.len() == flaws {
            self.wrong::<()>(format!("the {what} has no price"));
        }
        prices
    }

    fn currency(&mut self, value: Option<Value>) -> Option<Box<str>> {
        match value {
            Some(Value::String(text)) if is_currency(&text) => Some(text.into()),
            _ => self.wrong(format!("`currency`: {CURRENCY_EXPECTED}")),
        }
    }

    fn date(&mut self, value: Option<Value>) -> Option<Box<str>> {
        let is_date = |text: &str| {
            text.len() == 10
                && text.bytes().enumerate().all(|(at, byte)| match at {
                    4 | 7 => byte == b'-',
                    _ => byte.is_ascii_digit(),
                })
        };
        match value? {
            Value::String(text) if is_date(&text) => Some(text.into()),
            _ => self.wrong("`as_of` is a day such as `2026-11-21`"),
        }
    }

    fn words(&mut self, name: &str, value: Option<Value>) -> Option<Box<str>> {
        match value? {
            Value::String(text) if !text.is_empty() => Some(text.into()),
            _ => self.wrong(format!("`{name}` is text")),
        }
    }

    fn nothing_else(&mut self, rest: &Map<String, Value>, known: &[&str]) {
        for name in rest.keys().filter(|name| !known.contains(&name.as_str())) {
            self.unknown(name);
        }
    }

    fn unknown(&mut self, name: &str) {
        // As everywhere, `_…` is a comment. A name is shown unless it is none: it might be a secret.
        let is_name = name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        match (name.starts_with('_'), is_name) {
            (true, _) => {}
            (false, true) => self.wrong(format!("unknown field `{name}`")).unwrap_or_default(),
            (false, false) => self.wrong("unknown field").unwrap_or_default(),
        }
    }
}

impl PriceRow {
    fn seller_name(&self) -> Box<str> {
        match &self.seller {
            Seller::Channel(name) | Seller::Family(name) => name.clone(),
            Seller::Everyone => "".into(),
        }
    }
}
