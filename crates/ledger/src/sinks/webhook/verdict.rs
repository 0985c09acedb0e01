//! What a status says of a batch.

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::sink::SinkError;

/// A longer wish is not told: the runner's pauses are shorter.
const LONGEST_WISH_SECONDS: u64 = 300;

/// Taken, not now, or never.
///
/// Only a status that can mean one record is a refusal of the batch. One that means the sender or the address (a wrong
/// token, a moved or missing path) would be the answer to every record; nothing is set aside for that.
pub(super) fn verdict(status: u16, headers: &HeaderMap) -> Result<(), SinkError> {
    match status {
        200..=299 => Ok(()),
        300..=399 => unavailable(status, "redirects, which is not followed: its URL must be corrected"),
        401 | 402 | 403 | 407 => unavailable(status, "does not accept the credentials"),
        404 | 405 | 410 | 421 => unavailable(status, "has nothing at this URL that takes batches"),
        408 | 423 | 425 | 429 | 500..=599 => unavailable(status, &format!("cannot take it now{}", wish(headers))),
        400..=499 => Err(SinkError::Rejected(format!("refuses it ({status})"))),
        _ => unavailable(status, "answers with an unknown status"),
    }
}

fn unavailable(status: u16, why: &str) -> Result<(), SinkError> {
    Err(SinkError::Unavailable(format!("{why} ({status})")))
}

/// `Retry-After` in seconds.
fn wish(headers: &HeaderMap) -> String {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    seconds.map_or_else(String::new, |seconds| format!(", but in {} s", seconds.min(LONGEST_WISH_SECONDS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_mean_one_record_is_a_refusal() {
        let verdicts = |statuses: &[u16]| {
            let mut said: Vec<_> = statuses.iter().map(|status| verdict(*status, &HeaderMap::new())).collect();
            said.dedup_by_key(|said| std::mem::discriminant(said));
            said
        };
        assert_eq!(verdicts(&[200, 201, 202, 204, 299]), [Ok(())]);
        for status in [400, 406, 409, 411, 413, 414, 415, 418, 422, 424, 431, 451, 499] {
            assert!(matches!(verdict(status, &HeaderMap::new()), Err(SinkError::Rejected(_))), "{status}");
        }
        for status in
            (300..400).chain([100, 401, 402, 403, 404, 405, 407, 408, 410, 421, 423, 425, 429]).chain(500..600)
        {
            assert!(matches!(verdict(status, &HeaderMap::new()), Err(SinkError::Unavailable(_))), "{status}");
        }
    }

    #[test]
    fn a_wish_to_wait_is_told() {
        let said = |value: &str| {
            let headers = [(RETRY_AFTER, value.parse().unwrap())].into_iter().collect();
            verdict(429, &headers).unwrap_err().to_string()
        };
        assert_eq!(said("17"), "unavailable: cannot take it now, but in 17 s (429)");
        assert_eq!(said("99999999999"), "unavailable: cannot take it now, but in 300 s (429)");
        assert_eq!(said("Fri, 31 Dec 1999 23:59:59 GMT"), "unavailable: cannot take it now (429)");
    }
}
