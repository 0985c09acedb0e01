//! What a call may use before it is known. Pure.

use aiproxy_config::snapshot::QuotaUnit;
use aiproxy_ledger::tally::Amounts;

use crate::limits::Demand;

/// Tokens of an answer when nobody said how long it may be and none was seen yet.
const USUAL_ANSWER: u64 = 1_000;
/// The most tokens that one call reserves for its answer. No model writes more; who asks for more would only keep others
/// of the same group waiting.
const LONGEST_ANSWER: u64 = 128 * 1024;
/// The most that one call reserves of anything, so that sums of it never reach the ends of their types.
const MOST: u64 = 1 << 40;

/// Whether a call uses any of that. A list of models costs nothing and goes on when the tokens are used up.
pub(super) fn uses(demand: &Demand, unit: QuotaUnit) -> bool {
    match unit {
        QuotaUnit::Requests => true,
        QuotaUnit::Tokens => demand.uses_tokens,
        QuotaUnit::Cost => demand.uses_tokens || demand.cost > 0,
    }
}

/// What it reserves, where the longest answer of late was `longest_answer`, or 0 if there was none.
pub(super) fn amounts(demand: &Demand, longest_answer: u64) -> Amounts {
    let of_late = if longest_answer == 0 { USUAL_ANSWER } else { longest_answer };
    let (input, output) = match demand.uses_tokens {
        true => (demand.input_tokens, demand.most_output_tokens.unwrap_or(of_late).min(LONGEST_ANSWER)),
        false => (0, 0),
    };
    let of_output = i128::from(demand.output_cost) * i128::from(output) / 1_000_000;
    let cost = (i128::from(demand.cost) + of_output).clamp(0, MOST.into());
    Amounts { requests: 1, tokens: input.saturating_add(output).min(MOST), cost: i64::try_from(cost).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Demand = Demand {
        input_tokens: 10,
        most_output_tokens: None,
        uses_tokens: true,
        cost: 5,
        output_cost: 2_000_000,
        started_unix_ms: None,
    };

    fn reserved(demand: Demand, longest_answer: u64) -> (u64, i64) {
        let amounts = amounts(&demand, longest_answer);
        assert_eq!(amounts.requests, 1);
        (amounts.tokens, amounts.cost)
    }

    #[test]
    fn an_answer_is_as_long_as_the_caller_says_or_else_as_those_of_late() {
        assert_eq!(reserved(CALL, 0), (1_010, 2_005));
        assert_eq!(reserved(CALL, 70), (80, 145));
        assert_eq!(reserved(Demand { most_output_tokens: Some(3), ..CALL }, 70), (13, 11));
        assert_eq!(reserved(Demand { uses_tokens: false, ..CALL }, 70), (0, 5));
    }

    #[test]
    fn absurd_numbers_are_bounded() {
        let absurd = Demand { most_output_tokens: Some(u64::MAX), ..CALL };
        assert_eq!(reserved(absurd, 0), (10 + LONGEST_ANSWER, 5 + 2 * LONGEST_ANSWER as i64));
        let huge = Demand { input_tokens: u64::MAX, cost: i64::MAX, output_cost: i64::MAX, ..absurd };
        assert_eq!(reserved(huge, u64::MAX), (MOST, MOST as i64));
        assert_eq!(reserved(Demand { cost: i64::MIN, output_cost: i64::MIN, ..absurd }, 0), (10 + LONGEST_ANSWER, 0));
    }

    #[test]
    fn a_call_without_tokens_is_bound_by_requests_only() {
        let list = Demand::default();
        assert_eq!(
            [QuotaUnit::Requests, QuotaUnit::Tokens, QuotaUnit::Cost].map(|unit| uses(&list, unit)),
            [true, false, false]
        );
    }
}
