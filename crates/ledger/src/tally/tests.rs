use aiproxy_llm::usage::Usage;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::entry::{Entry, EntryAttempt};
use aiproxy_config::snapshot::Scope;

const ONE: Amounts = Amounts { requests: 1, tokens: 10, cost: 100 };

fn calendar() -> Calendar {
    Calendar::new(TimeZone::get("Asia/Shanghai").unwrap())
}

fn ms(text: &str) -> u64 {
    text.parse::<Timestamp>().unwrap().as_millisecond() as u64
}

fn requests(tally: &Tally, per: QuotaPeriod, at: &str) -> u64 {
    tally.used(per, &calendar().periods(ms(at))).requests
}

#[test]
fn a_call_counts_in_the_periods_it_began_in() {
    use QuotaPeriod::{Day, Hour, Month, Total};
    let calendar = calendar();
    let mut tally = Tally::default();
    // The one that began before midnight ends last.
    for began in ["2026-11-01T00:00:00+08:00", "2026-11-01T00:59:59+08:00", "2026-10-31T23:59:59+08:00"] {
        tally.add(&calendar.periods(ms(began)), ONE);
    }
    let (before, after) = ("2026-10-31T23:10:00+08:00", "2026-11-01T00:10:00+08:00");
    for per in [Hour, Day, Month] {
        assert_eq!((requests(&tally, per, before), requests(&tally, per, after)), (1, 2), "{per:?}");
    }
    assert_eq!(requests(&tally, Total, after), 3);
    let later = "2026-11-30T23:10:00+08:00";
    assert_eq!([Hour, Day, Month, Total].map(|per| requests(&tally, per, later)), [0, 0, 2, 3]);
    assert_eq!(tally.used(Day, &calendar.periods(ms(after))), ONE.plus(ONE));
}

#[test]
fn a_clock_that_is_set_back_by_an_hour_goes_on_counting_in_that_hour() {
    let calendar = calendar();
    let mut tally = Tally::default();
    for minute in ["10:10", "11:20", "10:30", "10:59", "11:00"] {
        tally.add(&calendar.periods(ms(&format!("2026-05-05T{minute}:00+08:00"))), ONE);
    }
    assert_eq!(requests(&tally, QuotaPeriod::Hour, "2026-05-05T10:45:00+08:00"), 3);
    assert_eq!(requests(&tally, QuotaPeriod::Hour, "2026-05-05T11:45:00+08:00"), 2);
}

#[test]
fn a_clock_that_was_wrong_once_is_forgotten() {
    let calendar = calendar();
    let mut tally = Tally::default();
    for began in ["2026-05-05T10:00:00Z", "2035-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2026-05-05T10:01:00Z"] {
        tally.add(&calendar.periods(ms(began)), ONE);
    }
    assert_eq!(requests(&tally, QuotaPeriod::Hour, "2026-05-05T10:02:00Z"), 2);
    tally.add(&calendar.periods(ms("2026-05-05T11:00:00Z")), ONE);
    assert_eq!(requests(&tally, QuotaPeriod::Hour, "2026-05-05T11:02:00Z"), 1, "the next hour counts, too");
    assert_eq!(requests(&tally, QuotaPeriod::Total, "2026-05-05T11:02:00Z"), 5);
}

#[test]
fn what_was_taken_back_is_as_if_it_had_never_been_there() {
    let calendar = calendar();
    let [hour_9, hour_10, hour_11, hour_12] =
        [9, 10, 11, 12].map(|hour| calendar.periods(ms(&format!("2026-05-05T{hour:02}:00:00+08:00"))));
    let mut tally = Tally::default();
    for periods in [&hour_9, &hour_10, &hour_11, &hour_12] {
        tally.add(periods, ONE);
    }
    tally.take_back(&hour_11, ONE);
    tally.take_back(&hour_9, ONE);
    assert_eq!(tally.used(QuotaPeriod::Hour, &hour_11), Amounts::default());
    assert_eq!(tally.used(QuotaPeriod::Hour, &hour_12), ONE);
    assert_eq!(tally.used(QuotaPeriod::Day, &hour_12), ONE.plus(ONE));
    tally.add(&hour_9, ONE);
    assert_eq!(tally.used(QuotaPeriod::Hour, &hour_9), Amounts::default(), "two later hours are known");
}

#[test]
fn numbers_stop_at_their_ends() {
    let mut tally = Tally::default();
    let most = Amounts { requests: u64::MAX, tokens: u64::MAX, cost: i64::MAX };
    tally.add(&Periods::default(), most);
    tally.add(&Periods::default(), most);
    assert_eq!(tally.used(QuotaPeriod::Total, &Periods::default()), most);
    assert_eq!(tally.used(QuotaPeriod::Hour, &Periods::default()), most);
    assert_eq!(Amounts::default().minus(ONE), Amounts { requests: 0, tokens: 0, cost: -100 });
    assert_eq!(most.of(QuotaUnit::Tokens), i128::from(u64::MAX));
}

/// Given calls on two channels, one of which failed and cost something, then everybody has what is theirs.
#[test]
fn everybody_is_charged_for_what_is_theirs() {
    let usage = |input, output| Some(Usage { input: Some(input), output: Some(output), ..Usage::default() });
    let attempt = EntryAttempt { channel_id: "a", credential_id: "one", ..EntryAttempt::default() };
    let failed = EntryAttempt { usage: usage(5, 1), cost: Some(30), ..attempt.clone() };
    let entry = Entry {
        started_unix_ms: ms("2026-05-05T10:00:00Z"),
        key_id: Some("key"),
        user_id: Some("user"),
        department: Some("research"),
        groups: vec!["g1", "g2"],
        channel_id: Some("b"),
        credential_id: Some("two"),
        attempts: vec![failed, EntryAttempt { channel_id: "b", credential_id: "two", ..EntryAttempt::default() }],
        usage: usage(10, 4),
        cost: Some(100),
        counted: true,
        ..Entry::default()
    };
    let calendar = calendar();
    let periods = calendar.periods(entry.started_unix_ms);
    let mut book = TallyBook::default();
    book.add_entry(&entry, &calendar);
    let refused =
        Entry { counted: false, usage: None, cost: None, attempts: vec![], channel_id: None, ..entry.clone() };
    book.add_entry(&refused, &calendar);
    let of = |scope, id: &str| book.get(scope, id).map(|tally| tally.used(QuotaPeriod::Day, &periods));
    let all = Some(Amounts { requests: 1, tokens: 20, cost: 100 });
    let callers = [(Scope::Key, "key"), (Scope::User, "user"), (Scope::Department, "research")];
    for (scope, id) in callers.into_iter().chain([(Scope::Group, "g1"), (Scope::Group, "g2")]) {
        assert_eq!(of(scope, id), all, "{id}");
    }
    for (scope, id) in [(Scope::Channel, "a"), (Scope::Credential, "a/one")] {
        assert_eq!(of(scope, id), Some(Amounts { requests: 0, tokens: 6, cost: 30 }), "{id}");
    }
    for (scope, id) in [(Scope::Channel, "b"), (Scope::Credential, "b/two")] {
        assert_eq!(of(scope, id), Some(Amounts { requests: 1, tokens: 14, cost: 70 }), "{id}");
    }
    assert_eq!(book.iter().count(), 9);
    let nobody = Entry { key_id: None, user_id: None, department: Some(""), groups: vec![], ..refused };
    book.add_entry(&nobody, &calendar);
    assert_eq!(book.iter().count(), 9, "who used nothing is not in the book");
}

#[test]
fn a_book_reads_back_as_it_was_written() {
    let calendar = calendar();
    let mut book = TallyBook::default();
    for number in 0..300 {
        let key = format!("key-{}", number % 7);
        let entry = Entry {
            started_unix_ms: ms("2026-05-05T10:00:00Z") + number * 1_000_000,
            key_id: Some(&key),
            channel_id: Some("c"),
            credential_id: Some("钥"),
            cost: Some(i64::MAX / 2 - number as i64),
            counted: true,
            ..Entry::default()
        };
        book.add_entry(&entry, &calendar);
    }
    let compact = postcard::to_stdvec(&book).unwrap();
    assert!(postcard::from_bytes::<TallyBook>(&compact).unwrap() == book);
    let json = serde_json::to_string(&book).unwrap();
    assert!(serde_json::from_str::<TallyBook>(&json).unwrap() == book);
    assert!(serde_json::from_str::<TallyBook>(&json.replace("\"credential\"", "\"planet\"")).is_err());
}

proptest! {
    #[test]
    fn the_order_in_which_calls_are_added_makes_no_difference(
        hours in prop::collection::vec(0..6_i64, 0..40),
        seed: u64,
    ) {
        let tally = |hours: &[i64]| {
            let mut tally = Tally::default();
            for hour in hours {
                tally.add(&Periods { hour: *hour, day: *hour / 2, month: *hour / 4 }, ONE);
            }
            tally
        };
        let mut shuffled = hours.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        prop_assert_eq!(tally(&hours), tally(&shuffled));
        let mut merged = tally(&hours[..hours.len() / 2]);
        merged.merge(&tally(&hours[hours.len() / 2..]));
        prop_assert_eq!(merged, tally(&hours));
    }

    #[test]
    fn any_bytes_are_a_book_or_an_error(bytes: Vec<u8>) {
        if let Ok(book) = postcard::from_bytes::<TallyBook>(&bytes) {
            prop_assert!(book.iter().count() <= bytes.len());
        }
    }
}
