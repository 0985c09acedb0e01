//! What one finished call adds, and to whom.

use super::Amounts;

/// What a call used in the end, as its record tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Whether it counts as a request: it was not refused.
    pub counted: bool,
    /// Tokens of its answer; those of attempts that failed come apart.
    pub tokens: u64,
    /// Cost of all attempts together; `None` while it is unknown, which counts as nothing.
    pub cost: Option<i64>,
}

/// Divides a call. What `attempts` used although they failed goes `to_place` they were made at; the request and the rest
/// goes to the place that served `last`. Returned is all of it together: what the caller is charged.
pub fn divide<Place>(
    charge: Charge,
    last: Option<Place>,
    attempts: impl IntoIterator<Item = (Place, Amounts)>,
    mut to_place: impl FnMut(Place, Amounts),
) -> Amounts {
    let mut rest = Amounts { requests: charge.counted.into(), tokens: charge.tokens, cost: charge.cost.unwrap_or(0) };
    let mut all = rest;
    for (place, amounts) in attempts {
        if amounts.is_nothing() {
            continue;
        }
        all.tokens = all.tokens.saturating_add(amounts.tokens);
        if charge.cost.is_some() {
            rest.cost = rest.cost.saturating_sub(amounts.cost);
        }
        to_place(place, Amounts { requests: 0, ..amounts });
    }
    if let Some(last) = last
        && !rest.is_nothing()
    {
        to_place(last, rest);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(charge: Charge, last: Option<char>, attempts: &[(char, Amounts)]) -> (Amounts, Vec<(char, Amounts)>) {
        let mut places = Vec::new();
        let all = divide(charge, last, attempts.iter().copied(), |place, amounts| places.push((place, amounts)));
        (all, places)
    }

    fn amounts(requests: u64, tokens: u64, cost: i64) -> Amounts {
        Amounts { requests, tokens, cost }
    }

    #[test]
    fn each_place_is_charged_for_what_it_did_and_the_last_one_for_the_request() {
        let charge = Charge { counted: true, tokens: 100, cost: Some(50) };
        let attempts = [('a', amounts(0, 7, 20)), ('b', amounts(0, 0, 0)), ('c', amounts(0, 0, 0))];
        let (all, places) = divided(charge, Some('c'), &attempts);
        assert_eq!(all, amounts(1, 107, 50));
        assert_eq!(places, [('a', amounts(0, 7, 20)), ('c', amounts(1, 100, 30))]);
    }

    #[test]
    fn what_has_no_price_costs_nothing() {
        let charge = Charge { counted: true, tokens: 100, cost: None };
        let (all, places) = divided(charge, Some('b'), &[('a', amounts(0, 7, 20))]);
        assert_eq!(all, amounts(1, 107, 0), "as the records say");
        assert_eq!(places, [('a', amounts(0, 7, 20)), ('b', amounts(1, 100, 0))], "and not less than nothing");
    }

    #[test]
    fn a_refused_call_adds_nothing_and_one_without_an_upstream_charges_its_caller_only() {
        assert_eq!(divided(Charge::default(), None, &[]), (amounts(0, 0, 0), vec![]));
        assert_eq!(divided(Charge::default(), Some('a'), &[]), (amounts(0, 0, 0), vec![]));
        let made_here = Charge { counted: true, ..Charge::default() };
        assert_eq!(divided(made_here, None, &[]), (amounts(1, 0, 0), vec![]));
    }
}
