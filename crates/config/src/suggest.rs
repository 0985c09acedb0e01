//! "Did you mean …?": what somebody who wrote an unknown name probably wanted.

/// ``; did you mean `x`?`` if some candidate is near, else the list of them under `what`, else nothing.
pub(crate) fn suggestion<'name>(
    written: &str,
    candidates: impl IntoIterator<Item = &'name str> + Clone,
    what: &str,
) -> String {
    if let Some(near) = nearest(written, candidates.clone()) {
        return format!("; did you mean `{near}`?");
    }
    const SHOWN: usize = 30;
    let mut names: Vec<_> = candidates.into_iter().take(SHOWN + 1).collect();
    if names.is_empty() {
        return String::new();
    }
    let more = if names.len() > SHOWN { ", …" } else { "" };
    names.truncate(SHOWN);
    format!("; {what}: {}{more}", names.join(", "))
}

/// The candidate most like `written`, if any is like it at all.
pub(crate) fn nearest<'name>(written: &str, candidates: impl IntoIterator<Item = &'name str>) -> Option<&'name str> {
    const LONGEST: usize = 64;
    const ALIKE: f64 = 0.6;
    if written.len() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' ', '.'], "");
    let wanted = plain(written);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn a_near_name_is_suggested_and_otherwise_all_are_listed() {
        let fields = ["base_url", "api_key", "proxy_keys"];
        assert_eq!(suggestion("baseUrl", fields, "fields"), "; did you mean `base_url`?");
        assert_eq!(suggestion("proxy-key", fields, "fields"), "; did you mean `proxy_keys`?");
        assert_eq!(suggestion("color", fields, "fields"), "; fields: base_url, api_key, proxy_keys");
        assert_eq!(suggestion("color", [], "fields"), "");
    }
}
