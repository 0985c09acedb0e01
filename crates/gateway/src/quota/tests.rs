use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use aiproxy_config::snapshot::{Kind, Limited, Limits, ProxyKey, QuotaUnit, User};
use aiproxy_ledger::{Entry, EntryAttempt};
use aiproxy_llm::usage::Usage;
use fastrand::Rng;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::limits::{Demand, Exceeded, Lease, LimitStore, Limiters, ProcessLimits, Reserving, Used, What};
use crate::record::Place;
use crate::test_config;

/// Users `a` (groups `g` and `h`, department `d`) and `b` (group `g`), channels `x` and `y` with two credentials each.
/// `limited` are the user `a` and the channel `x`, with these quotas.
fn snapshot(quotas: &[Quota]) -> Snapshot {
    let user = |id: &str, groups: &[&str], department: &str, limited: &[u32]| {
        let groups = groups.iter().map(|group| Box::from(*group)).collect();
        let (user, _) = test_config::caller();
        Arc::new(User { id: id.into(), groups, department: department.into(), limited: limited.into(), ..user })
    };
    let key = |id: &str, user: usize| {
        let (_, key) = test_config::caller();
        Arc::new(ProxyKey { id: id.into(), user, ..key })
    };
    let channel = |id: &str, limited| {
        let mut channel = test_config::channel(Kind::Openai, "");
        let credentials = ["one", "two"].map(|id| {
            let mut of = test_config::channel(Kind::Openai, "").credentials.into_vec();
            of[0].id = id.into();
            of.swap_remove(0)
        });
        (channel.id, channel.limited, channel.credentials) = (id.into(), limited, Box::new(credentials));
        Arc::new(channel)
    };
    let limited = |scope, id: &str| Limited { scope, id: id.into(), limits: Limits::default(), quotas: quotas.into() };
    let mut snapshot = Snapshot {
        users: vec![user("a", &["g", "h"], "d", &[0]), user("b", &["g"], "", &[])],
        keys: [("a1", 0), ("a2", 0), ("b", 1)]
            .into_iter()
            .map(|(id, user)| (aiproxy_config::key_digest(id), key(id, user)))
            .collect(),
        channels: vec![channel("x", Some(1)), channel("y", None)],
        limited: vec![limited(Scope::User, "a"), limited(Scope::Channel, "x")],
        ..Snapshot::default()
    };
    snapshot.system.timezone = TimeZone::get("Asia/Shanghai").unwrap();
    snapshot
}

/// What one reload puts in force.
struct Force {
    snapshot: Snapshot,
    quotas: Arc<QuotaMap>,
    limits: Arc<dyn Limiters>,
}

fn force(store: &ProcessLimits, quotas: &[Quota]) -> Force {
    let snapshot = snapshot(quotas);
    let quotas = Arc::new(store.quotas().resolve(&snapshot));
    let limits = store.resolve(&snapshot.limited, &quotas);
    Force { snapshot, quotas, limits }
}

fn quota(unit: QuotaUnit, per: QuotaPeriod, amount: u64) -> Quota {
    Quota { unit, per, amount, soft: false }
}

fn soft(unit: QuotaUnit, per: QuotaPeriod, amount: u64) -> Quota {
    Quota { soft: true, ..quota(unit, per, amount) }
}

fn ms(text: &str) -> u64 {
    text.parse::<Timestamp>().unwrap().as_millisecond() as u64
}

/// A call at noon that reserves 100 tokens and 300 of money.
fn chat() -> Demand {
    Demand {
        input_tokens: 60,
        most_output_tokens: Some(40),
        uses_tokens: true,
        cost: 100,
        output_cost: 5_000_000,
        started_unix_ms: Some(ms("2026-05-05T12:00:00+08:00")),
    }
}

fn at(text: &str) -> Demand {
    Demand { started_unix_ms: Some(ms(text)), ..chat() }
}

impl Force {
    fn reserve(&self, index: u32, demand: Demand) -> Result<Box<dyn Lease>, Exceeded> {
        match self.limits.reserve(&[index], demand) {
            Reserving::Ready(Some(reserved)) => reserved,
            _ => panic!("a count of this process is known at once"),
        }
    }

    /// Ends a call of the user `a` that used this.
    fn settle(&self, lease: Option<Box<dyn Lease>>, demand: Demand, tokens: u64, cost: i64) {
        let key = &self.snapshot.keys[&aiproxy_config::key_digest("a1")];
        let finished = Finished {
            started_unix_ms: demand.started_unix_ms.unwrap(),
            key: Some(key),
            place: Some(Place { channel: 0, credential: 0 }),
            charge: Charge { counted: true, tokens, cost: Some(cost) },
            answer: Some(tokens),
            attempts: std::iter::empty(),
        };
        self.quotas.settle(&self.snapshot, finished, &mut [lease]);
    }

    fn call(&self, demand: Demand, tokens: u64, cost: i64) -> Result<(), Exceeded> {
        let lease = self.reserve(0, demand)?;
        self.settle(Some(lease), demand, tokens, cost);
        Ok(())
    }

    fn reserved(&self) -> Amounts {
        self.quotas.counter(Scope::User, "a").reserved()
    }
}

fn is_used_up(exceeded: &Exceeded) -> bool {
    match exceeded.what {
        What::Quota { is_used_up, .. } => is_used_up,
        _ => panic!("{exceeded:?}"),
    }
}

#[test]
fn a_hundred_at_once_against_room_for_five_let_five_in() {
    use QuotaPeriod::{Day, Hour, Total};
    for (quotas, expected) in [
        (vec![quota(QuotaUnit::Requests, Day, 5)], 5),
        (vec![quota(QuotaUnit::Requests, Total, 9), quota(QuotaUnit::Requests, Hour, 5)], 5),
        // 100 tokens and 300 of money each: the fifth begins with 400 tokens, or 1,200, reserved.
        (vec![quota(QuotaUnit::Tokens, Day, 401)], 5),
        (vec![quota(QuotaUnit::Cost, Day, 1_201)], 5),
        (vec![quota(QuotaUnit::Cost, Day, 1_200), quota(QuotaUnit::Tokens, Day, 1_000_000)], 4),
    ] {
        let force = force(&ProcessLimits::default(), &quotas);
        let (begun, together) = (AtomicUsize::new(0), Barrier::new(100));
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    together.wait();
                    let lease = force.reserve(0, chat());
                    begun.fetch_add(lease.is_ok().into(), Ordering::Relaxed);
                    // Nobody ends before all have tried.
                    together.wait();
                    if let Ok(lease) = lease {
                        force.settle(Some(lease), chat(), 100, 300);
                    }
                });
            }
        });
        assert_eq!(begun.into_inner(), expected, "{quotas:?}");
        assert_eq!(force.reserved(), Amounts::default());
        let used = force.quotas.counter(Scope::User, "a").used();
        let periods = force.quotas.calendar().periods(chat().started_unix_ms.unwrap());
        let expected =
            Amounts { requests: expected as u64, tokens: 100 * expected as u64, cost: 300 * expected as i64 };
        assert_eq!(used.used(QuotaPeriod::Day, &periods), expected);
        let exceeded = force.reserve(0, chat()).err().unwrap();
        assert!(is_used_up(&exceeded), "{exceeded:?}");
    }
}

#[test]
fn calls_that_end_while_others_come_are_never_let_in_beyond_a_quota() {
    let force = force(&ProcessLimits::default(), &[quota(QuotaUnit::Requests, QuotaPeriod::Day, 1_000)]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..500).filter(|_| force.call(chat(), 1, 1).is_ok()).count());
        }
    });
    let used = force.quotas.counter(Scope::User, "a").used();
    assert_eq!(used.used(QuotaPeriod::Total, &Periods::default()).requests, 1_000, "all of it, and no more");
}

#[test]
fn refused_calls_use_nothing_and_take_nothing_from_other_quotas() {
    let store = ProcessLimits::default();
    let quotas = [quota(QuotaUnit::Requests, QuotaPeriod::Day, 3), quota(QuotaUnit::Tokens, QuotaPeriod::Day, 100)];
    let force = force(&store, &quotas);
    let running = force.reserve(0, chat()).unwrap();
    for _ in 0..50 {
        let exceeded = force.reserve(0, chat()).err().unwrap();
        assert!(!is_used_up(&exceeded), "a running call holds the tokens");
        assert_eq!(exceeded.wait, Some(std::time::Duration::from_secs(1)));
        // The user has room for this one, the channel has not.
        drop(force.limits.reserve(&[0, 1], Demand { uses_tokens: false, cost: 0, ..chat() }));
    }
    assert_eq!(force.reserved(), Amounts { requests: 1, tokens: 100, cost: 300 });
    running.refund();
    assert_eq!(force.reserved(), Amounts::default());
    assert!(store.quotas().used(Scope::User, "a").unwrap() == Tally::default());
    assert!(force.call(chat(), 70, 0).is_ok());
    assert!(force.call(chat(), 70, 0).is_ok(), "70 of 100: the last call that finds room");
    let exceeded = force.call(chat(), 70, 0).unwrap_err();
    assert_eq!((is_used_up(&exceeded), exceeded.limit, exceeded.remaining), (true, 100, 0));
    assert!(force.reserve(0, Demand { uses_tokens: false, cost: 0, ..chat() }).is_ok(), "needs no tokens");
}

#[test]
fn a_quota_begins_anew_with_its_period_in_the_time_zone_of_the_config() {
    use QuotaPeriod::{Day, Hour, Month, Total};
    for (per, last, next, resets) in [
        (Hour, "2026-05-05T12:59:59+08:00", "2026-05-05T13:00:00+08:00", Some("2026-05-05T13:00:00+08:00")),
        (Day, "2026-05-05T23:59:59+08:00", "2026-05-06T00:00:00+08:00", Some("2026-05-06T00:00:00+08:00")),
        (Month, "2026-05-31T23:59:59+08:00", "2026-06-01T00:00:00+08:00", Some("2026-06-01T00:00:00+08:00")),
        (Total, "2026-05-31T23:59:59+08:00", "2036-06-01T00:00:00+08:00", None),
    ] {
        let force = force(&ProcessLimits::default(), &[quota(QuotaUnit::Requests, per, 1)]);
        force.call(at("2026-05-05T12:00:00+08:00"), 1, 1).unwrap();
        let exceeded = force.call(at(last), 1, 1).unwrap_err();
        let What::Quota { unit, per: exceeded_per, resets: told, is_used_up: true } = exceeded.what else {
            panic!("{exceeded:?}")
        };
        assert_eq!((unit, exceeded_per), (QuotaUnit::Requests, per));
        assert_eq!(told.map(|moment| moment.to_string()).as_deref(), resets);
        assert_eq!(force.call(at(next), 1, 1).is_ok(), resets.is_some(), "{per:?}");
    }
}

/// Given a call that begins before midnight, then it holds and uses what is of the day it began in, whenever it ends.
#[test]
fn a_call_over_midnight_belongs_to_the_day_it_began_in() {
    let force = force(&ProcessLimits::default(), &[quota(QuotaUnit::Requests, QuotaPeriod::Day, 1)]);
    let (before, after) = (at("2026-05-05T23:59:59+08:00"), at("2026-05-06T00:00:01+08:00"));
    let running = force.reserve(0, before).unwrap();
    assert!(force.reserve(0, before).is_err());
    let next = force.reserve(0, after).unwrap();
    force.settle(Some(running), before, 5, 5);
    assert!(force.reserve(0, before).is_err(), "used");
    drop(next);
    assert!(force.call(after, 5, 5).is_ok(), "given back");
    assert!(force.call(after, 5, 5).is_err());
    assert_eq!(force.reserved(), Amounts::default());
}

#[test]
fn a_clock_that_is_set_back_by_an_hour_finds_what_was_used_then() {
    let force = force(&ProcessLimits::default(), &[quota(QuotaUnit::Requests, QuotaPeriod::Hour, 2)]);
    let (ten, eleven) = (at("2026-05-05T10:30:00+08:00"), at("2026-05-05T11:10:00+08:00"));
    assert!(force.call(ten, 1, 1).is_ok());
    let running = force.reserve(0, eleven).unwrap();
    assert!(force.call(ten, 1, 1).is_ok(), "back in the hour before");
    assert!(force.call(ten, 1, 1).is_err());
    force.settle(Some(running), eleven, 1, 1);
    assert!(force.call(eleven, 1, 1).is_ok());
    assert!(force.call(eleven, 1, 1).is_err());
    assert_eq!(force.reserved(), Amounts::default());
}

#[test]
fn answers_of_late_are_what_is_reserved_where_the_caller_says_nothing() {
    let force = force(&ProcessLimits::default(), &[quota(QuotaUnit::Tokens, QuotaPeriod::Total, 1_000_000)]);
    let open = Demand { most_output_tokens: None, ..chat() };
    let reserved = || {
        let lease = force.reserve(0, open).unwrap();
        let tokens = force.reserved().tokens;
        drop(lease);
        tokens
    };
    assert_eq!(reserved(), 60 + 1_000, "none was seen");
    force.call(open, 1_600, 0).unwrap();
    assert_eq!(reserved(), 60 + 1_600);
    force.call(open, 10, 0).unwrap();
    assert_eq!(reserved(), 60 + 1_500, "a little less after a shorter one");
}

#[test]
fn a_quota_that_comes_with_a_reload_finds_what_was_used_before() {
    let store = ProcessLimits::default();
    let before = force(&store, &[]);
    for _ in 0..3 {
        before.settle(None, chat(), 10, 10);
    }
    let after = force(&store, &[quota(QuotaUnit::Requests, QuotaPeriod::Day, 5)]);
    drop(before);
    assert!(after.call(chat(), 1, 1).is_ok());
    let running = after.reserve(0, chat()).unwrap();
    assert!(after.reserve(0, chat()).is_err());
    let changed = force(&store, &[quota(QuotaUnit::Requests, QuotaPeriod::Day, 6)]);
    let one_more = changed.reserve(0, chat()).unwrap();
    assert!(changed.reserve(0, chat()).is_err(), "what runs since before the reload is held");
    drop(running);
    changed.settle(Some(one_more), chat(), 1, 1);
    assert!(changed.call(chat(), 1, 1).is_ok());
    assert!(changed.call(chat(), 1, 1).is_err());
}

#[test]
fn what_the_ledger_knows_of_earlier_processes_counts() {
    let entry = Entry {
        started_unix_ms: chat().started_unix_ms.unwrap(),
        user_id: Some("a"),
        key_id: Some("a1"),
        counted: true,
        ..Entry::default()
    };
    let mut book = TallyBook::default();
    let calendar = Calendar::new(TimeZone::get("Asia/Shanghai").unwrap());
    (0..4).for_each(|_| book.add_entry(&entry, &calendar));
    let store = ProcessLimits::default();
    let force = force(&store, &[quota(QuotaUnit::Requests, QuotaPeriod::Day, 5)]);
    store.quotas().restore(&book);
    assert!(force.call(chat(), 1, 1).is_ok());
    assert!(force.call(chat(), 1, 1).is_err());
    assert_eq!(store.quotas().used(Scope::Group, "unknown"), None);
}

/// Counts warnings and keeps nothing else.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn the_log_hears_of_a_quota_once_in_a_period_and_the_caller_of_a_soft_one_each_time() {
    let warnings = Arc::new(AtomicUsize::new(0));
    let count = || warnings.load(Ordering::Relaxed);
    let _guard = tracing::subscriber::set_default(Warnings(warnings.clone()));
    let force = force(
        &ProcessLimits::default(),
        &[soft(QuotaUnit::Tokens, QuotaPeriod::Day, 100), quota(QuotaUnit::Requests, QuotaPeriod::Day, 4)],
    );
    let warning = |demand| {
        let mut lease = force.reserve(0, demand).unwrap();
        let warning = lease.reservations().take_warning();
        assert_eq!(lease.reservations().take_warning(), None, "once for each call");
        force.settle(Some(lease), demand, 60, 0);
        warning
    };
    assert_eq!([warning(chat()), warning(chat())], [None, None], "60 of 100 are used");
    assert_eq!(count(), 0);
    assert_eq!(warning(chat()).as_deref(), Some("user tokens/day 120% of 100"));
    assert_eq!(warning(chat()).as_deref(), Some("user tokens/day 180% of 100"));
    assert_eq!(count(), 1);
    for _ in 0..9 {
        assert!(force.reserve(0, chat()).is_err());
    }
    assert_eq!(count(), 2, "the hard one, once");
    let tomorrow = at("2026-05-06T12:00:00+08:00");
    assert_eq!([warning(tomorrow), warning(tomorrow)], [None, None]);
    assert!(warning(tomorrow).is_some());
    assert_eq!(count(), 3);
}

/// One call that ends somehow. What its entry says is what it adds.
fn random_call(force: &Force, random: &mut Rng, now_ms: u64) -> Option<Entry<'static>> {
    let keys = ["a1", "a2", "b"];
    let key_id = keys[random.usize(..keys.len())];
    let key = &force.snapshot.keys[&aiproxy_config::key_digest(key_id)];
    let user = &force.snapshot.users[key.user];
    let uses_tokens = random.u8(..10) > 0;
    let demand = Demand {
        uses_tokens,
        most_output_tokens: random.bool().then(|| random.u64(..2_000)),
        cost: random.i64(0..1_000),
        started_unix_ms: Some(now_ms),
        ..chat()
    };
    let Reserving::Ready(Some(caller)) = force.limits.reserve(&user.limited, demand) else { panic!() };
    let Ok(caller) = caller else { return None };
    if random.u8(..10) == 0 {
        caller.refund();
        return None;
    }
    let names = |place: Place| (["x", "y"][place.channel], ["one", "two"][place.credential]);
    let usage = |random: &mut Rng| Usage {
        input: Some(random.u64(..500)),
        output: Some(random.u64(..900)),
        ..Usage::default()
    };
    let mut leases = [Some(caller), None];
    let mut attempts: Vec<(Place, Option<Usage>, Option<i64>)> = Vec::new();
    let mut place = None;
    for _ in 0..random.usize(..4) {
        let target = Place { channel: random.usize(..2), credential: random.usize(..2) };
        leases[1] = None;
        let own: Vec<u32> = force.snapshot.channels[target.channel].limited.into_iter().collect();
        let Reserving::Ready(Some(own)) = force.limits.reserve(&own, demand) else { panic!() };
        let Ok(mut own) = own else { continue };
        own.end();
        leases[1] = Some(own);
        place = Some(target);
        let is_paid = random.u8(..4) == 0;
        attempts.push((target, is_paid.then(|| usage(random)), is_paid.then(|| random.i64(0..700))));
    }
    let own_usage = (place.is_some() && random.bool()).then(|| usage(random));
    let of_attempts: i64 = attempts.iter().filter_map(|(.., cost)| *cost).sum();
    let cost = random.bool().then(|| of_attempts + random.i64(0..5_000));
    let counted = place.is_some() || random.bool();
    let used = own_usage
        .map_or(Used::Nothing, |usage| Used::Tokens { input: usage.input.unwrap(), output: usage.output.unwrap() });
    leases.iter_mut().flatten().for_each(|lease| lease.settle(used));
    let amounts = |usage: &Option<Usage>, cost: &Option<i64>| Amounts {
        requests: 0,
        tokens: usage.map_or(0, |usage| usage.total_tokens()),
        cost: cost.unwrap_or(0),
    };
    let finished = Finished {
        started_unix_ms: now_ms,
        key: Some(key),
        place,
        charge: Charge { counted, tokens: amounts(&own_usage, &None).tokens, cost },
        answer: own_usage.and_then(|usage| usage.output),
        attempts: attempts.iter().map(|(place, usage, cost)| (*place, amounts(usage, cost))),
    };
    force.quotas.settle(&force.snapshot, finished, &mut leases);
    let groups = if key.user == 0 { vec!["g", "h"] } else { vec!["g"] };
    let last = place.map(names);
    Some(Entry {
        started_unix_ms: now_ms,
        key_id: Some(key_id),
        user_id: Some(["a", "b"][key.user]),
        department: (key.user == 0).then_some("d"),
        groups,
        channel_id: last.map(|(channel, _)| channel),
        credential_id: last.map(|(_, credential)| credential),
        attempts: attempts
            .into_iter()
            .map(|(place, usage, cost)| {
                let (channel_id, credential_id) = names(place);
                EntryAttempt { channel_id, credential_id, usage, cost, ..EntryAttempt::default() }
            })
            .collect(),
        usage: own_usage,
        cost,
        counted,
        ..Entry::default()
    })
}

/// Given 10,000 calls that end in every way there is, on four threads, over several days and with a clock that jumps,
/// then nothing is held any more and every counter has what the ledger's entries say, to the unit.
#[test]
fn what_is_counted_is_what_the_ledger_says() {
    let store = ProcessLimits::default();
    let quotas = [
        quota(QuotaUnit::Requests, QuotaPeriod::Hour, 40),
        quota(QuotaUnit::Tokens, QuotaPeriod::Day, 500_000),
        quota(QuotaUnit::Cost, QuotaPeriod::Month, 9_000_000),
        soft(QuotaUnit::Requests, QuotaPeriod::Day, 300),
    ];
    let force = force(&store, &quotas);
    let run = |seed: u64| {
        let mut random = Rng::with_seed(seed);
        let mut now_ms = ms("2026-05-30T12:00:00+08:00");
        let mut entries = Vec::new();
        for _ in 0..2_500 {
            now_ms += random.u64(..200_000);
            // A call that began long ago, or a clock that was set back.
            let began = if random.u8(..20) == 0 { now_ms - random.u64(..7_200_000) } else { now_ms };
            entries.extend(random_call(&force, &mut random, began));
        }
        entries
    };
    let entries: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4).map(|seed| scope.spawn(move || run(seed))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(entries.len() > 2_000, "{} were let through", entries.len());
    let calendar = Calendar::new(TimeZone::get("Asia/Shanghai").unwrap());
    let mut book = TallyBook::default();
    entries.iter().for_each(|entry| book.add_entry(entry, &calendar));
    assert_eq!(book.iter().count(), 3 + 2 + 2 + 1 + 2 + 4);
    for (scope, id, tally) in book.iter() {
        assert_eq!(store.quotas().used(scope, id).as_ref(), Some(tally), "{scope:?} {id}");
        assert_eq!(force.quotas.counter(scope, id).reserved(), Amounts::default(), "{scope:?} {id}");
    }
}
