//! What calls cost: the shipped table, a file instead of it, and prices of the config before either.

use std::sync::Arc;

use aiproxy_config::load_text;
use aiproxy_config::snapshot::Snapshot;
use aiproxy_llm::prices::{PriceTable, Seller, Unit};
use aiproxy_llm::usage::Usage;

use crate::support::{NOW_MS, environment, lines, problems, snapshot};

fn table(prices: &str) -> Arc<PriceTable> {
    let channels = "channels: {eu: {base_url: 'http://h', api_key: k1}, us: {base_url: 'http://h', api_key: k2}}";
    snapshot(&format!("{channels}\nsystem: {{prices: {prices}}}")).prices
}

/// What a million input tokens and a million output tokens cost, in micro-units.
fn million(table: &PriceTable, channel: &str, model: &str) -> Option<i64> {
    let usage = Usage { input: Some(1_000_000), output: Some(1_000_000), ..Usage::default() };
    table.price(channel, "custom", model, Some(&usage)).micro()
}

#[test]
fn without_a_word_the_shipped_table_holds() {
    let shipped = PriceTable::shipped();
    for text in
        ["users: {}", "system: {}", "system: {prices: }", "system: {prices: {}}", "system: {prices: {models: {}}}"]
    {
        assert_eq!(snapshot(text).prices.version(), shipped.version(), "{text}");
    }
    assert_eq!(Snapshot::default().prices.version(), shipped.version());
    assert_eq!(million(&shipped, "c", "gpt-4o"), Some(12_500_000));
}

#[test]
fn a_price_of_the_config_goes_before_the_table() {
    let table = table(
        "{models: {my-model: {input: 1.5, output: 6, cached: 0.15}, 'gpt-4o*': [{channel: eu, input: 2.75, output: 11}, \
         {input: 1, output: 1}], gpt-4o: {channel: us, input: 3, output: 3}}}",
    );
    assert_eq!(million(&table, "eu", "my-model"), Some(7_500_000));
    assert_eq!(million(&table, "eu", "gpt-4o-2024-08-06"), Some(13_750_000));
    assert_eq!(million(&table, "us", "gpt-4o-2024-08-06"), Some(6_000_000));
    assert_eq!(million(&table, "us", "gpt-4o-mini"), Some(2_000_000));
    assert_eq!(million(&table, "us", "gpt-4.1"), Some(10_000_000), "the rest is as shipped");
    assert_eq!(million(&table, "us", "no-such-model"), None);
    let shipped = PriceTable::shipped();
    assert!(table.version().starts_with(&format!("{}+", shipped.version())), "{}", table.version());
    assert_eq!(table.currency(), "USD");
}

#[test]
fn decimals_are_meant_as_they_are_written() {
    let table = table(
        "{models: {m: {input: 0.1, output: 1e-6, cached: 0.000001, cache_write: 2.675, seconds: 0.000000000001, \
         image: 1000000, request: 0, searches: 0.30000000000000004}}}",
    );
    let row = table.find("c", "custom", "m").unwrap();
    let price = |unit| row.prices.get(unit);
    assert_eq!(row.seller, Seller::Everyone);
    assert_eq!(price(Unit::Input), Some(100_000));
    assert_eq!((price(Unit::Output), price(Unit::Cached)), (Some(1), Some(1)));
    assert_eq!(price(Unit::CacheWrite), Some(2_675_000));
    assert_eq!(price(Unit::Seconds), Some(1));
    assert_eq!(price(Unit::Image), Some(1_000_000_000_000_000_000));
    assert_eq!(price(Unit::Request), Some(0));
    assert_eq!(price(Unit::Searches), Some(300_000_000_000));
    assert_eq!(price(Unit::Video), None);
}

#[test]
fn long_inputs_have_prices_of_their_own() {
    let table = table("{models: {m: {input: 1, output: 10, tiers: [{from_input_tokens: 1000000, input: 2}]}}}");
    assert_eq!(million(&table, "c", "m"), Some(12_000_000));
    let short = Usage { input: Some(999_999), ..Usage::default() };
    assert_eq!(table.price("c", "custom", "m", Some(&short)).micro(), Some(999_999));
}

#[test]
fn costs_are_in_the_currency_of_the_config() {
    let yuan = table("{currency: CNY, rates: {USD: 7.1}, models: {m: {input: 1, output: 1}}}");
    assert_eq!(yuan.currency(), "CNY");
    assert_eq!(million(&yuan, "c", "gpt-4o"), Some(88_750_000));
    assert_eq!(million(&yuan, "c", "qwen-max"), Some(12_000_000));
    assert_eq!(million(&yuan, "c", "m"), Some(2_000_000), "a row without a currency is in that of the config");

    let euros = table("{rates: {EUR: 1.09}, models: {m: {currency: EUR, input: 1, output: 1}}}");
    assert_eq!(million(&euros, "c", "m"), Some(2_180_000));
    assert_eq!(million(&table("{rates: {CNY: 0.2}}"), "c", "qwen-max"), Some(2_400_000));
}

#[test]
fn a_file_takes_the_place_of_the_table() {
    let directory = std::env::temp_dir().join(format!("aiproxy-prices-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let load = |file: &str, config: &str| {
        std::fs::write(directory.join("prices.json"), file).unwrap();
        load_text(&directory.join("aiproxy.yaml"), config.to_owned(), &environment, NOW_MS)
    };
    let file = r#"{"version": "mine", "currency": "EUR", "prices": [{"family": "f", "models": ["a", "b"], "input": 1, "output": 2}]}"#;
    let loaded = load(file, "system: {prices: {file: prices.json, models: {b: {input: 5, output: 5}}}}");
    assert_eq!(lines(&loaded), "");
    assert!(loaded.files.iter().any(|file| file.ends_with("prices.json")), "to be watched");
    let table = loaded.snapshot.unwrap().prices;
    assert_eq!(table.currency(), "EUR");
    assert!(table.version().starts_with("mine+"), "{}", table.version());
    assert_eq!(million(&table, "c", "a"), Some(3_000_000));
    assert_eq!(million(&table, "c", "b"), Some(10_000_000));
    assert_eq!(million(&table, "c", "gpt-4o"), None);

    let wrong = "{\n  \"version\": \"mine\", \"currency\": \"EUR\",\n  \"prices\": [\n    {\"family\": \"f\", \"models\": [\"a\"], \"inptu\": 1}\n  ]\n}";
    let loaded = load(wrong, "system: {prices: {file: prices.json, models: {b: {input: 5, currency: XXX}}}}");
    let told = lines(&loaded).replace(&directory.display().to_string(), "");
    insta::assert_snapshot!(told, @"/prices.json:4:5: error: unknown field `inptu`");
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(loaded.snapshot.is_none());
}

#[test]
fn prices_that_make_no_sense() {
    let text = "
channels: {azure-eu: {base_url: 'http://h', api_key: k}}
system:
  prices:
    currency: dollar
    rates: {CNY: 0, eur: 1.09, USD: 1, GBP: -1, JPY: much}
    file: ../no/such/prices.json
    model: {}
";
    insta::assert_snapshot!(problems(text), @r"
    aiproxy.yaml:5:15: error: system.prices.currency: a currency is three capital letters, e.g. `USD`
    aiproxy.yaml:6:18: error: system.prices.rates.CNY: must be more than 0 and at most 1000000000
    aiproxy.yaml:6:26: error: system.prices.rates.eur: a currency is three capital letters, e.g. `USD`
    aiproxy.yaml:6:45: error: system.prices.rates.GBP: must be more than 0 and at most 1000000000
    aiproxy.yaml:6:54: error: system.prices.rates.JPY: expected a number, found text; write it without quotes
    aiproxy.yaml:7:11: error: system.prices.file: cannot read `../no/such/prices.json`: there is no such file
    aiproxy.yaml:8:5: error: system.prices: unknown field `model`; did you mean `models`?
    ");
    let text = "
channels: {azure-eu: {base_url: 'http://h', api_key: k}}
system:
  prices:
    rates: {USD: 2}
    models:
      '': {input: 1}
      a: {}
      b: {input: -1, cached: 1000001, output: x, seconds: 0.1}
      c: {input: -1}
      d: 5
      e: {channel: azure-us, input: 1}
      f: [{input: 1}, {output: 1}, {channel: azure-eu, input: 1}, {channel: azure-eu, input: 2}]
      g: {currency: CHF, input: 1}
      h: {currency: yen, input: 1}
      i: {input: 1, tiers: [{from_input_tokens: 5, input: 2}, {from_input_tokens: 5, input: 3}, {from_input_tokens: 6}]}
      j: {input: 1, tiers: [{input: 2}, {from_input_tokens: 0, input: 2}]}
      k: {inptu: 1}
";
    insta::assert_snapshot!(problems(text), @r#"
    aiproxy.yaml:5:18: error: system.prices.rates.USD: USD is what the others are told in; leave it out
    aiproxy.yaml:7:11: error: system.prices.models."": a model name is not empty; `*` stands for all
    aiproxy.yaml:8:10: error: system.prices.models.a: says no price; write e.g. `input` and `output`
    aiproxy.yaml:9:18: error: system.prices.models.b.input: must not be less than 0
    aiproxy.yaml:9:30: error: system.prices.models.b.cached: must not be more than 1000000
    aiproxy.yaml:9:47: error: system.prices.models.b.output: expected a number, found text; write it without quotes
    aiproxy.yaml:10:18: error: system.prices.models.c.input: must not be less than 0
    aiproxy.yaml:11:10: error: system.prices.models.d: expected a group of fields or a list, found a whole number
    aiproxy.yaml:12:20: error: system.prices.models.e.channel: there is no channel `azure-us`; did you mean `azure-eu`?
    aiproxy.yaml:13:23: error: system.prices.models.f[1]: `f` has a price without a channel already
    aiproxy.yaml:13:67: error: system.prices.models.f[3]: `f` has a price for this channel already
    aiproxy.yaml:14:21: error: system.prices.models.g.currency: there is no rate for CHF; write what one is worth in USD: rates: {CHF: …}
    aiproxy.yaml:15:21: error: system.prices.models.h.currency: a currency is three capital letters, e.g. `USD`
    aiproxy.yaml:16:83: error: system.prices.models.i.tiers[1].from_input_tokens: must be more than that of the tier before
    aiproxy.yaml:16:97: error: system.prices.models.i.tiers[2]: says no price; write e.g. `input` and `output`
    aiproxy.yaml:17:29: error: system.prices.models.j.tiers[0]: `from_input_tokens` is missing
    aiproxy.yaml:17:61: error: system.prices.models.j.tiers[1].from_input_tokens: must not be less than 1
    aiproxy.yaml:18:11: error: system.prices.models.k: unknown field `inptu`; did you mean `input`?
    "#);
    insta::assert_snapshot!(problems("system: {prices: {currency: EUR}}"), @r"
    aiproxy.yaml:1:29: error: system.prices.currency: the table has prices in USD, and there is no rate for USD; write what one is worth in EUR: rates: {USD: …}
    aiproxy.yaml:1:29: error: system.prices.currency: the table has prices in CNY, and there is no rate for CNY; write what one is worth in EUR: rates: {CNY: …}
    ");
    insta::assert_snapshot!(problems("system: {prices: {models: {m: [{currency: CHF, input: 1}]}}}"), @"aiproxy.yaml:1:43: error: system.prices.models.m[0].currency: there is no rate for CHF; write what one is worth in USD: rates: {CHF: …}");
}
