//! The whole of admission under a paused clock.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;

use super::*;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const OFFICE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const RULE: BadCredentials =
    BadCredentials { limit: 30, window: Duration::from_secs(60), block: Duration::from_secs(60) };

fn rate(requests_per_second: f64, burst: u32) -> Option<Rate> {
    Some(Rate { requests_per_second, burst })
}

fn limits(global: Option<Rate>, per_ip: Option<Rate>) -> RateLimit {
    RateLimit { global, per_ip, bad_credentials: None }
}

fn passes(admission: &Admission, ip: IpAddr, limits: &RateLimit) -> usize {
    (0..10_000).take_while(|_| admission.admit(ip, limits).is_ok()).count()
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(number))
}

#[tokio::test(start_paused = true)]
async fn of_41_instant_calls_exactly_40_pass() {
    let admission = Admission::new();
    let limits = limits(rate(20.0, 40), None);
    let outcomes: Vec<_> = (0..41).map(|number| admission.admit(address(number), &limits)).collect();
    assert!(outcomes[..40].iter().all(Result::is_ok));
    assert_eq!(outcomes[40], Err(Denied::Global { retry_after: Duration::from_millis(50) }));
    assert_eq!(admission.denials(), Denials { global: 1, ..Denials::default() });
    assert_eq!(admission.held_addresses(), 0, "no table is kept for the bucket of all calls");
}

#[tokio::test(start_paused = true)]
async fn two_addresses_have_a_burst_each_and_refill() {
    let admission = Admission::new();
    let limits = limits(None, rate(10.0, 20));
    assert_eq!(passes(&admission, HOME, &limits), 20);
    assert_eq!(passes(&admission, OFFICE, &limits), 20);
    assert_eq!(admission.denials(), Denials { ip: 2, ..Denials::default() });
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(passes(&admission, HOME, &limits), 5);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(passes(&admission, OFFICE, &limits), 20);
}

#[tokio::test(start_paused = true)]
async fn addresses_of_one_ipv6_network_share_a_bucket_and_mapped_ones_are_ipv4() {
    let admission = Admission::new();
    let limits = limits(None, rate(10.0, 20));
    assert_eq!(passes(&admission, "2001:db8:0:1::1".parse().unwrap(), &limits), 20);
    assert_eq!(passes(&admission, "2001:db8:0:1:abcd::2".parse().unwrap(), &limits), 0);
    assert_eq!(passes(&admission, "2001:db8:0:2::1".parse().unwrap(), &limits), 20);
    assert_eq!(passes(&admission, HOME, &limits), 20);
    assert_eq!(passes(&admission, "::ffff:198.51.100.7".parse().unwrap(), &limits), 0);
}

#[tokio::test(start_paused = true)]
async fn a_denied_call_takes_nothing_from_the_other_bucket() {
    let admission = Admission::new();
    let both = limits(rate(1.0, 10), rate(1.0, 4));
    assert_eq!(passes(&admission, HOME, &both), 4);
    (0..100).for_each(|_| assert!(matches!(admission.admit(HOME, &both), Err(Denied::Ip { .. }))));
    assert_eq!(passes(&admission, OFFICE, &both), 4);
    assert_eq!(passes(&admission, address(1), &both), 2, "the bucket of all calls had 10 - 4 - 4 left");
    (0..100).for_each(|_| assert!(matches!(admission.admit(address(1), &both), Err(Denied::Global { .. }))));
    assert!(admission.admit(address(2), &both).is_err());
    assert_eq!(admission.held_addresses(), 3, "a call denied by the bucket of all calls leaves no entry");
    let only_ip = limits(None, both.per_ip);
    assert_eq!(passes(&admission, address(1), &only_ip), 2);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_parallel_calls_share_the_burst_exactly() {
    for (limits, scope) in [(limits(rate(20.0, 40), None), "global"), (limits(None, rate(20.0, 40)), "ip")] {
        let (admission, passed) = (Admission::new(), AtomicUsize::new(0));
        let runtime = tokio::runtime::Handle::current();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _paused_clock = runtime.enter();
                    for _ in 0..125 {
                        passed.fetch_add(usize::from(admission.admit(HOME, &limits).is_ok()), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 40, "{scope}");
        let denials = admission.denials();
        assert_eq!(denials.global + denials.ip, 960);
    }
}

#[tokio::test(start_paused = true)]
async fn after_exactly_retry_after_a_call_passes() {
    let mut random = fastrand::Rng::with_seed(143);
    let admission = Admission::new();
    for limits in [limits(rate(7.3, 5), None), limits(None, rate(0.37, 3))] {
        for _ in 0..200 {
            tokio::time::advance(Duration::from_nanos(random.u64(0..1_000_000_000))).await;
            let Err(denied) = admission.admit(HOME, &limits) else { continue };
            tokio::time::advance(denied.retry_after() - Duration::from_nanos(1)).await;
            assert!(admission.admit(HOME, &limits).is_err());
            tokio::time::advance(Duration::from_nanos(1)).await;
            assert_eq!(admission.admit(HOME, &limits), Ok(()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_with_other_rates_holds_from_the_next_call_on() {
    let admission = Admission::new();
    let slow = limits(rate(0.01, 100), rate(0.01, 50));
    assert_eq!(passes(&admission, HOME, &slow), 50);
    let fast = limits(rate(100.0, 100), rate(10.0, 20));
    assert_eq!(admission.admit(OFFICE, &fast), Err(Denied::Global { retry_after: Duration::from_millis(10) }));
    assert_eq!(admission.admit(HOME, &fast), Err(Denied::Ip { retry_after: Duration::from_millis(100) }));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(passes(&admission, HOME, &fast), 20);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(passes(&admission, HOME, &limits(None, rate(10.0, 3))), 3);
    assert_eq!(passes(&admission, HOME, &RateLimit::default()), 10_000);
}

#[tokio::test(start_paused = true)]
async fn memory_returns_to_baseline_after_a_million_addresses() {
    let admission = Admission::new();
    let limits = RateLimit { bad_credentials: Some(RULE), ..limits(None, rate(10.0, 20)) };
    let most = BUCKET_LIMIT + OBSERVATION_LIMIT;
    for number in 0..1_000_000 {
        if number % 1_000 == 0 {
            tokio::time::advance(Duration::from_micros(50)).await;
        }
        assert_eq!(admission.admit(address(number), &limits), Ok(()));
        admission.bad_credential(address(number), limits.bad_credentials.as_ref());
        assert!(admission.held_addresses() <= most);
    }
    assert!(admission.held_addresses() > most * 9 / 10, "the flood filled the tables");
    let quiet = RateLimit::default();
    tokio::time::advance(RULE.window + Duration::from_secs(1)).await;
    for _ in 0..SHARDS {
        assert_eq!(admission.admit(HOME, &quiet), Ok(()));
        tokio::time::advance(SWEEP_INTERVAL).await;
    }
    assert_eq!(admission.held_addresses(), 0);
    assert_eq!((admission.buckets.capacity(), admission.observations.capacity()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_address_with_too_many_unknown_keys_is_refused_for_a_while_with_one_event() {
    let admission = Admission::new();
    for _ in 0..2 {
        for _ in 0..30 {
            assert_eq!(admission.blocked(OFFICE, None, Some(&RULE)), None);
            admission.bad_credential(OFFICE, Some(&RULE));
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        let left = admission.blocked(OFFICE, None, Some(&RULE));
        assert_eq!(left, Some(Duration::from_millis(59_900)));
        assert_eq!(admission.bad_credential(OFFICE, Some(&RULE)), Duration::from_secs(1));
        assert_eq!(admission.blocked(HOME, None, Some(&RULE)), None, "another address is not concerned");
        assert_eq!(admission.blocked(OFFICE, None, None), None, "without a rule nothing is refused");
        tokio::time::advance(left.unwrap_or_default()).await;
        assert_eq!(admission.blocked(OFFICE, None, Some(&RULE)), None);
    }
    assert_eq!(admission.blocks(), 2, "one event per block");
    assert_eq!(admission.denials(), Denials { bad_credentials: 2, ..Denials::default() });
}

#[tokio::test(start_paused = true)]
async fn keys_that_worked_go_on_working_while_their_address_is_refused() {
    let admission = Admission::new();
    let rule = Some(&RULE);
    assert_eq!(admission.blocked(OFFICE, Some(1), rule), None, "before any failure nothing is remembered");
    assert_eq!(admission.held_addresses(), 0);
    admission.bad_credential(OFFICE, rule);
    assert_eq!(admission.blocked(OFFICE, Some(2), rule), None);
    for round in 0..3 {
        while admission.blocked(OFFICE, None, rule).is_none() {
            admission.bad_credential(OFFICE, rule);
        }
        assert_eq!(admission.blocked(OFFICE, Some(2), rule), None, "round {round}");
        assert_eq!(admission.blocked(OFFICE, Some(1), rule), Some(RULE.block));
        tokio::time::advance(RULE.block).await;
    }
    tokio::time::advance(RULE.window).await;
    (0..30).for_each(|_| assert!(admission.bad_credential(OFFICE, rule) <= Duration::from_secs(1)));
    assert!(admission.blocked(OFFICE, Some(2), rule).is_some(), "a quiet window later it is forgotten");
}

#[tokio::test(start_paused = true)]
async fn without_a_rule_unknown_keys_leave_no_trace() {
    let admission = Admission::new();
    (0..100).for_each(|_| assert_eq!(admission.bad_credential(HOME, None), Duration::ZERO));
    assert_eq!(admission.held_addresses(), 0);
    assert_eq!(admission.blocked(HOME, None, Some(&RULE)), None);
}
