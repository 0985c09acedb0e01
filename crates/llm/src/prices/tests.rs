//! Given these rows and this usage, then this cost; given this file, then these flaws.

use proptest::prelude::*;

use crate::usage::Usage;

use super::{Cost, MissingRate, PriceRow, PriceTable, Rate, Seller, Settings, TableFlaw, Unit, UnitPrices};

/// One dollar.
const DOLLAR: i64 = 1_000_000;

fn prices(written: &[(Unit, f64)]) -> UnitPrices {
    let mut prices = UnitPrices::default();
    assert!(written.iter().all(|(unit, price)| prices.set_written(*unit, *price)));
    prices
}

fn row(seller: Seller, model: &str, prices: UnitPrices) -> PriceRow {
    let (tiers, as_of, source, note) = (Box::default(), None, None, None);
    PriceRow { seller, model: model.into(), currency: "USD".into(), prices, tiers, as_of, source, note }
}

/// The shipped table under rows that say `(channel or "", model, price of a million input tokens)`.
fn table(rows: &[(&str, &str, f64)]) -> PriceTable {
    let rows = rows.iter().map(|(channel, model, input)| {
        let seller = if channel.is_empty() { Seller::Everyone } else { Seller::Channel((*channel).into()) };
        row(seller, model, prices(&[(Unit::Input, *input)]))
    });
    PriceTable::shipped().with(Settings { rows: rows.collect(), ..Settings::default() }).unwrap()
}

fn one_row(written: &[(Unit, f64)]) -> PriceTable {
    let rows = vec![row(Seller::Everyone, "*", prices(written))];
    PriceTable::shipped().with(Settings { rows, ..Settings::default() }).unwrap()
}

fn cost(written: &[(Unit, f64)], usage: Usage) -> Option<i64> {
    one_row(written).price("", "", "m", Some(&usage)).micro()
}

const MILLION: u64 = 1_000_000;

#[test]
fn the_exact_name_goes_before_patterns_and_the_channel_before_everyone() {
    let table = table(&[
        ("", "*", 1.0),
        ("", "my-*", 2.0),
        ("", "my-model*", 3.0),
        ("", "my-model", 4.0),
        ("eu", "my-*", 5.0),
        ("eu", "gpt-4o", 6.0),
    ]);
    let usage = Usage { input: Some(MILLION), ..Usage::default() };
    for (channel, model, dollars) in [
        ("us", "my-model", 4),
        ("us", "vendor/my-model", 4),
        ("us", "my-model-large", 3),
        ("us", "my-other", 2),
        ("us", "vendor/my-other", 2),
        ("us", "gpt-4o", 1),
        ("us", "", 1),
        ("eu", "my-model", 5),
        ("eu", "gpt-4o", 6),
        ("eu", "gpt-4o-2024-08-06", 6),
        ("eu", "openai/gpt-4o-2024-08-06", 6),
        ("eu", "gpt-4o-mini", 1),
    ] {
        let cost = table.price(channel, "openai", model, Some(&usage));
        assert_eq!(cost, Cost::Priced(dollars * DOLLAR), "{channel} {model}");
    }
}

#[test]
fn a_snapshot_has_the_price_of_its_model_unless_a_pattern_is_closer() {
    let table = table(&[("", "acme", 1.0), ("", "acme-2025*", 2.0), ("", "ac*", 3.0), ("", "acme-2026-01-01", 4.0)]);
    let model = |name| table.find("", "", name).map(|row| &*row.model);
    assert_eq!(model("acme-2024-05-05"), Some("acme"));
    assert_eq!(model("acme-2025-05-05"), Some("acme-2025*"));
    assert_eq!(model("acme-2026-01-01"), Some("acme-2026-01-01"));
    assert_eq!(model("acme-large"), Some("ac*"));
    assert_eq!(model("else"), None);
}

#[test]
fn the_shipped_table_knows_names_as_providers_and_resellers_write_them() {
    let table = PriceTable::shipped();
    for (family, asked, expected) in [
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("openai", "gpt-4o-audio-preview-2024-12-17", "gpt-4o-audio-preview"),
        ("openai", "gpt-5-chat-latest", "gpt-5-chat"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", "ft:gpt-4o-mini-2*"),
        ("azure", "gpt-4.1-mini", "gpt-4.1-mini"),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("vertex", "claude-sonnet-4@20250514", "claude-sonnet-4"),
        ("bedrock", "us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet"),
        ("gemini", "models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("gemini", "gemini-2.5-pro-preview-06-05", "gemini-2.5-pro-preview*"),
        ("gemini", "gemini-2.5-flash-lite", "gemini-2.5-flash-lite"),
        ("gemini", "gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("dashscope", "qwen-max-2025-01-25", "qwen-max"),
        ("dashscope", "qwen-plus-latest", "qwen-plus"),
        ("custom", "openai/gpt-4o", "gpt-4o"),
        ("custom", "deepseek-chat", "deepseek-chat"),
        ("openai", "qwen-plus", "qwen-plus"),
    ] {
        assert_eq!(table.find("any", family, asked).map(|row| &*row.model), Some(expected), "{asked}");
    }
    for unknown in ["", "gpt", "gpt-4o-", "my-model", "/", "名"] {
        assert_eq!(table.find("any", "openai", unknown), None, "{unknown}");
    }
}

#[test]
fn every_shipped_row_says_when_and_where_and_is_sound() {
    let table = PriceTable::shipped();
    assert!(table.rows().len() >= 150, "{}", table.rows().len());
    assert_eq!((table.currency(), table.version().len()), ("USD", "2026-11-21".len()));
    for row in table.rows() {
        assert!(row.as_of.as_deref().is_some_and(|day| day <= table.version()), "{row:?}");
        assert!(row.source.as_deref().is_some_and(|source| source.starts_with("https://")), "{row:?}");
        assert!(matches!(row.seller, Seller::Family(_)), "{row:?}");
        for tier in &row.tiers {
            let grows = |unit| tier.prices.get(unit) >= row.prices.get(unit);
            assert!(grows(Unit::Input) && grows(Unit::Output) && grows(Unit::Cached), "{row:?}");
        }
        let is_dearer = |part, whole| row.prices.get(part).unwrap_or(0) > row.prices.get(whole).unwrap_or(u64::MAX);
        assert!(!is_dearer(Unit::Cached, Unit::Input), "{row:?}");
        assert!(row.prices.get(Unit::Output).is_none() || row.prices.get(Unit::Input).is_some(), "{row:?}");
    }
    assert!(table.rates().iter().all(|rate| rate.as_of.is_some() && rate.source.is_some()));
    assert_eq!(PriceTable::default().version(), table.version());
}

#[test]
fn a_part_without_a_price_costs_as_much_as_its_whole() {
    let both = [(Unit::Input, 2.0), (Unit::Output, 8.0)];
    let usage = Usage {
        input: Some(10 * MILLION),
        cached: Some(MILLION),
        cache_write: Some(MILLION),
        cache_write_long: Some(MILLION),
        audio_input: Some(MILLION),
        image_input: Some(MILLION),
        output: Some(5 * MILLION),
        reasoning: Some(MILLION),
        audio_output: Some(MILLION),
        image_output: Some(MILLION),
        ..Usage::default()
    };
    assert_eq!(cost(&both, usage), Some(60 * DOLLAR));
    let mut write = both.to_vec();
    write.push((Unit::CacheWrite, 3.0));
    assert_eq!(cost(&write, usage), Some(61 * DOLLAR), "a long write as a short one");
    write.push((Unit::CacheWriteLong, 4.0));
    assert_eq!(cost(&write, usage), Some(62 * DOLLAR));
    let mut output = both.to_vec();
    output.extend([(Unit::Reasoning, 9.0), (Unit::AudioOutput, 10.0), (Unit::ImageOutput, 11.0)]);
    assert_eq!(cost(&output, usage), Some((60 + 1 + 2 + 3) * DOLLAR));
}

#[test]
fn parts_that_overlap_are_charged_once_and_parts_counted_apart_are_charged_too() {
    let written = [(Unit::Input, 10.0), (Unit::Cached, 1.0), (Unit::AudioInput, 100.0), (Unit::Output, 1.0)];
    let usage = |input, cached, audio_input| Usage { input, cached, audio_input, ..Usage::default() };
    // All of it is audio, half of that came from the cache.
    let overlapping = usage(Some(2 * MILLION), Some(MILLION), Some(2 * MILLION));
    assert_eq!(cost(&written, overlapping), Some(101 * DOLLAR));
    // More audio than input: it was not inside.
    assert_eq!(cost(&written, usage(Some(MILLION), None, Some(2 * MILLION))), Some(200 * DOLLAR));
    assert_eq!(cost(&written, usage(None, None, Some(MILLION))), Some(100 * DOLLAR));
}

#[test]
fn what_has_no_price_is_unpriced_and_not_free() {
    let tokens = [(Unit::Input, 1.0), (Unit::Output, 2.0)];
    let none = Usage::default();
    let characters = Usage { characters: Some(7), ..none };
    assert_eq!(cost(&tokens, characters), None);
    assert_eq!(cost(&tokens, Usage { searches: Some(1), input: Some(1), ..none }), None, "nothing else measures it");
    assert_eq!(cost(&[(Unit::Input, 1.0)], Usage { input: Some(1), output: Some(1), ..none }), None);
    assert_eq!(cost(&[(Unit::AudioInput, 1.0)], Usage { input: Some(2), audio_input: Some(1), ..none }), None);
    assert_eq!(cost(&[(Unit::Seconds, 1.0)], Usage { input: Some(1), ..none }), None);
    assert_eq!(cost(&tokens, none), None, "nothing was reported");
    let table = one_row(&tokens);
    assert_eq!(table.price("", "", "m", None), Cost::Unpriced);
    assert_eq!(PriceTable::shipped().price("", "openai", "no-such-model", Some(&characters)), Cost::Unpriced);
}

#[test]
fn zero_that_was_reported_is_priced_zero() {
    let zero = Usage { input: Some(0), output: Some(0), characters: Some(0), searches: Some(0), ..Usage::default() };
    assert_eq!(cost(&[(Unit::Input, 1.0)], zero), Some(0));
    assert_eq!(cost(&[(Unit::Image, 1.0)], zero), Some(0));
}

#[test]
fn a_transcription_is_charged_by_what_its_row_prices() {
    let usage = Usage { input: Some(MILLION), output: Some(MILLION), seconds_ms: Some(60_000), ..Usage::default() };
    let tokens = [(Unit::Input, 1.0), (Unit::Output, 2.0)];
    let seconds = [(Unit::Seconds, 0.01)];
    assert_eq!(cost(&tokens, usage), Some(3 * DOLLAR), "by tokens: seconds measure the same");
    assert_eq!(cost(&seconds, usage), Some(600_000), "by seconds: tokens measure the same");
    assert_eq!(cost(&[tokens.as_slice(), &seconds].concat(), usage), Some(3_600_000), "by both");
}

#[test]
fn a_price_per_request_needs_no_usage() {
    let table = one_row(&[(Unit::Request, 0.005)]);
    assert_eq!(table.price("", "", "m", None), Cost::Priced(5_000));
    let tokens = Usage { input: Some(10), output: Some(10), ..Usage::default() };
    assert_eq!(table.price("", "", "m", Some(&tokens)), Cost::Priced(5_000));
    let both = [(Unit::Request, 0.005), (Unit::Input, 1.0), (Unit::Output, 1.0)];
    assert_eq!(cost(&both, tokens), Some(5_020));
}

#[test]
fn a_tier_holds_for_the_whole_call_from_its_first_token_on() {
    let table = PriceTable::parse(
        r#"{"version":"v","currency":"USD","prices":[{"family":"f","models":["m"],"input":1,"cached":0.1,"output":10,
            "tiers":[{"from_input_tokens":1001,"input":2,"output":20},{"from_input_tokens":5000,"output":30}]}]}"#,
    )
    .unwrap();
    let cost = |input, cached, output| {
        let usage = Usage { input: Some(input), cached: Some(cached), output: Some(output), ..Usage::default() };
        table.price("c", "f", "m", Some(&usage)).micro()
    };
    assert_eq!(cost(1_000, 0, 100), Some(1_000 + 1_000));
    assert_eq!(cost(1_001, 0, 100), Some(2_002 + 2_000));
    assert_eq!(cost(1_001, 1_000, 100), Some(2 + 100 + 2_000), "what a tier does not say is as in the row");
    assert_eq!(cost(5_000, 0, 100), Some(5_000 + 3_000), "and not as in the tier before");
}

#[test]
fn one_rounding_half_up_at_the_end() {
    let half = [(Unit::Input, 0.5), (Unit::Output, 0.5)];
    assert_eq!(cost(&half, Usage { input: Some(1), ..Usage::default() }), Some(1));
    assert_eq!(cost(&half, Usage { input: Some(1), output: Some(1), ..Usage::default() }), Some(1));
    assert_eq!(cost(&[(Unit::Input, 0.4)], Usage { input: Some(1), ..Usage::default() }), Some(0));
    let finer = [(Unit::Seconds, 0.000_000_25)];
    assert_eq!(
        cost(&finer, Usage { seconds_ms: Some(2_000), ..Usage::default() }),
        Some(1),
        "a fraction of a micro-unit"
    );
    assert_eq!(cost(&finer, Usage { seconds_ms: Some(1_999), ..Usage::default() }), Some(0));
}

#[test]
fn nothing_overflows() {
    let dearest = [(Unit::Input, 1e6), (Unit::Image, 1e6), (Unit::Seconds, 1e6)];
    let most = Usage { input: Some(u64::MAX), image: Some(u64::MAX), seconds_ms: Some(u64::MAX), ..Usage::default() };
    assert_eq!(cost(&dearest, most), Some(i64::MAX));
    let rates = vec![Rate { currency: "USD".into(), nano: u64::MAX, as_of: None, source: None }];
    let rows = vec![row(Seller::Everyone, "*", prices(&dearest))];
    let settings = Settings { currency: Some("XXX".into()), rates, rows };
    let table = PriceTable::parse(r#"{"version":"v","currency":"USD","prices":[]}"#).unwrap().with(settings).unwrap();
    assert_eq!(table.price("", "", "m", Some(&most)), Cost::Priced(i64::MAX));
}

#[test]
fn every_cost_is_in_the_currency_of_the_table() {
    let usage = Usage { input: Some(MILLION), ..Usage::default() };
    let shipped = PriceTable::shipped();
    assert_eq!(shipped.price("", "dashscope", "qwen-max", Some(&usage)), Cost::Priced(344_040), "2.4 × 0.14335");
    let settings = Settings { currency: Some("CNY".into()), ..Settings::default() };
    let chinese = shipped.with(settings.clone()).unwrap();
    assert_eq!(chinese.price("", "dashscope", "qwen-max", Some(&usage)), Cost::Priced(2_400_000));
    assert_eq!(chinese.price("", "openai", "gpt-4o", Some(&usage)), Cost::Priced(17_439_833), "2.5 / 0.14335");
    let rates = vec![Rate { currency: "USD".into(), nano: 7_000_000_000, as_of: None, source: None }];
    let written = shipped.with(Settings { rates, ..settings }).unwrap();
    assert_eq!(written.price("", "openai", "gpt-4o", Some(&usage)), Cost::Priced(17_500_000));

    let euros = Settings { currency: Some("EUR".into()), ..Settings::default() };
    let missing = |currency: &str, added_row| MissingRate { currency: currency.into(), added_row };
    assert_eq!(shipped.with(euros).unwrap_err(), [missing("USD", None), missing("CNY", None)]);
    let yen = PriceRow { currency: "JPY".into(), ..row(Seller::Everyone, "m", prices(&[(Unit::Input, 1.0)])) };
    let yen = Settings { rows: vec![yen], ..Settings::default() };
    assert_eq!(shipped.with(yen).unwrap_err(), [missing("JPY", Some(0))]);
}

#[test]
fn the_version_says_which_prices_these_are() {
    let shipped = PriceTable::shipped();
    assert_eq!(shipped.with(Settings::default()).unwrap().version(), shipped.version());
    let own = table(&[("", "m", 1.0)]);
    // Written down: it must not change from one version of this program to the next.
    assert_eq!(own.version(), format!("{}+a4ed7199", shipped.version()));
    let others = [table(&[("", "m", 2.0)]), table(&[("c", "m", 1.0)]), table(&[("", "n", 1.0)])];
    let mut versions: Vec<&str> = others.iter().map(PriceTable::version).chain([own.version()]).collect();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 4);

    let file = |price: u32| {
        let row = format!(r#"{{"family":"f","models":["m"],"input":{price}}}"#);
        PriceTable::parse(&format!(r#"{{"version":"mine","currency":"USD","prices":[{row}]}}"#)).unwrap()
    };
    assert!(file(1).version().starts_with("mine+"));
    assert_ne!(file(1).version(), file(2).version());
    let settings = |model| Settings {
        rows: vec![row(Seller::Everyone, model, prices(&[(Unit::Input, 1.0)]))],
        ..Settings::default()
    };
    let (one, other) = (file(1).with(settings("x")).unwrap(), file(2).with(settings("x")).unwrap());
    assert_ne!(one.version(), other.version());
    assert_eq!(one.version().matches('+').count(), 1);
}

#[test]
fn everything_wrong_with_a_file_is_told_with_its_line() {
    let text = r#"{
  "version": "a+b", "currency": "usd",
  "rates": [{"currency": "CNY", "rate": 0}, {"currency": "EUR", "rate": 1.1, "as_of": "today"}],
  "prices": [
    {"family": "f", "models": ["m"], "input": 1, "inptu": 2, "_why": "a comment"},
    {"models": [], "output": -1},
    7,
    {"family": "f", "models": ["m", "n"], "currency": "XYZ", "image": "sk-canary",
     "tiers": [{"from_input_tokens": 5, "input": 1}, {"from_input_tokens": 5}]}
  ]
}"#;
    let flaws = PriceTable::parse(text).unwrap_err();
    let told: Vec<_> = flaws.iter().map(|flaw| format!("{}:{} {}", flaw.line, flaw.column, flaw.message)).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    2:14 `version` is text such as `2026-11-21`, without spaces and `+`
    2:33 `currency`: a currency is three capital letters, e.g. `USD`
    3:13 `rate` is a number above 0: what one unit is worth in the table's currency
    3:45 `as_of` is a day such as `2026-11-21`
    5:5 unknown field `inptu`
    6:5 `family` says whose prices these are, e.g. `openai`
    6:5 `models` is a list of names and patterns
    6:5 `output` is a number from 0 to 1000000
    7:5 `prices` is a list of objects
    8:5 `rates` has no rate for XYZ
    8:5 `image` is a number from 0 to 1000000
    8:5 `from_input_tokens` of a tier is a whole number above that of the tier before
    8:5 the tier has no price
    8:5 `m` has a row of this family already
    ");
    assert!(!told.concat().contains("canary"));
}

#[test]
fn a_file_that_is_no_table_is_told_so() {
    let flaw = |text: &str| PriceTable::parse(text).map(|_| ()).unwrap_err().remove(0);
    let at = |line, column, message: &str| TableFlaw { line, column, message: message.to_owned() };
    assert_eq!(flaw("{\n  \"version\": \"v\",,"), at(2, 18, "not valid JSON from here on"));
    assert_eq!(flaw(""), at(1, 1, "not valid JSON from here on"));
    for wrong in ["[\"sk-canary\"]", "\"sk-canary\"", "7"] {
        assert_eq!(flaw(wrong).message, "expected an object with `version`, `currency` and `prices`", "{wrong}");
    }
    let deep = format!("{{\"prices\":{}", "[".repeat(100_000));
    assert_eq!(flaw(&deep).message, "not valid JSON from here on");
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let count = || prop_oneof![Just(None), Just(Some(0)), (0_u64..5_000_000).prop_map(Some), Just(Some(u64::MAX))];
    let counts = prop::collection::vec(count(), 15);
    counts.prop_map(|counts| Usage {
        input: counts[0],
        output: counts[1],
        cached: counts[2],
        cache_write: counts[3],
        cache_write_long: counts[4],
        reasoning: counts[5],
        audio_input: counts[6],
        audio_output: counts[7],
        image_input: counts[8],
        image_output: counts[9],
        image: counts[10],
        video: counts[11],
        characters: counts[12],
        searches: counts[13],
        seconds_ms: counts[14],
    })
}

fn any_prices() -> impl Strategy<Value = UnitPrices> {
    let price = prop_oneof![2 => Just(None), 3 => (0_u64..100_000_000).prop_map(Some), 1 => Just(Some(u64::MAX))];
    prop::collection::vec(price, Unit::ALL.len()).prop_map(|written| {
        let mut prices = UnitPrices::default();
        for (unit, price) in Unit::ALL.into_iter().zip(written) {
            price.into_iter().for_each(|price| prices.set(unit, price));
        }
        prices
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_usage_and_no_price_panics_and_no_cost_is_negative(usage in any_usage(), prices in any_prices()) {
        let table = PriceTable::parse(r#"{"version":"v","currency":"USD","prices":[]}"#).unwrap();
        let settings = Settings { rows: vec![row(Seller::Everyone, "*", prices)], ..Settings::default() };
        let cost = table.with(settings).unwrap().price("c", "f", "m", Some(&usage));
        prop_assert!(cost.micro().is_none_or(|micro| micro >= 0));
    }

    /// With every unit priced, and parts at least as dear as what they take the place of.
    #[test]
    fn more_of_anything_never_costs_less(usage in any_usage(), field in 0_usize..15, more in 1_u64..1_000_000) {
        let table = one_row(&Unit::ALL.map(|unit| (unit, match unit {
            Unit::Input | Unit::Output => 1.0,
            Unit::ImageInput => 1.5,
            Unit::AudioInput => 2.5,
            Unit::CacheWriteLong => 3.5,
            Unit::Cached => 4.0,
            _ => 3.0,
        })));
        let mut greater = usage;
        let count = [
            &mut greater.input, &mut greater.output, &mut greater.cached, &mut greater.cache_write,
            &mut greater.cache_write_long, &mut greater.reasoning, &mut greater.audio_input, &mut greater.audio_output,
            &mut greater.image_input, &mut greater.image_output, &mut greater.image, &mut greater.video,
            &mut greater.characters, &mut greater.searches, &mut greater.seconds_ms,
        ][field].get_or_insert(0);
        *count = count.saturating_add(more);
        let cost = |usage| table.price("", "", "m", Some(usage)).micro().unwrap_or(0);
        prop_assert!(cost(&greater) >= cost(&usage), "{usage:?} {greater:?}");
    }

    #[test]
    fn no_text_panics(text in "[\\[\\]{}\",:a-z0-9 \n]{0,80}", at in 0_usize..4_000, byte in "[\\x00-\\x7f]") {
        PriceTable::parse(&text).ok();
        let mut shipped = include_str!("../../data/prices.json").get(..4_000).unwrap_or_default().to_owned();
        shipped.replace_range(at..=at, &byte);
        PriceTable::parse(&shipped).ok();
    }
}
