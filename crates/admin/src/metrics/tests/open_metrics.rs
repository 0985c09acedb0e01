//! A strict reader of OpenMetrics text, version 1.0.0, as far as the page uses it. What is not to the letter is an error.

use std::collections::{BTreeMap, HashMap, HashSet};

type Labels = BTreeMap<String, String>;

/// A page that was read.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    samples: HashMap<(String, Labels), f64>,
}

/// The family whose lines are being read.
#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: String,
    has_help: bool,
    has_unit: bool,
    has_samples: bool,
}

impl Exposition {
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        self.samples.get(&(name.to_string(), labels)).copied()
    }

    /// All samples of a name together.
    pub(super) fn sum(&self, name: &str) -> f64 {
        self.samples.iter().filter(|((sample, _), _)| sample == name).map(|(_, value)| value).sum()
    }

    pub(super) fn series(&self) -> usize {
        self.samples.len()
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("the last line is not # EOF")?;
        let mut page = Self::default();
        let mut finished = HashSet::new();
        let mut family = Family::default();
        // Not `lines`, which would take a carriage return away.
        for line in body.split_terminator('\n') {
            let taken = match line.strip_prefix("# ") {
                Some(meta) => meta_line(meta, &mut family, &mut finished),
                None => page.sample_line(line, &mut family),
            };
            taken.map_err(|problem| format!("{problem}: {line}"))?;
        }
        page.check_histograms()?;
        Ok(page)
    }

    fn sample_line(&mut self, line: &str, family: &mut Family) -> Result<(), String> {
        let (name, labels, value) = sample(line)?;
        let suffix = name.strip_prefix(&family.name).ok_or("not of the family above")?;
        let allowed: &[&str] = match &*family.kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => return Err("no type".into()),
        };
        if !allowed.contains(&suffix) {
            return Err(format!("a {} has no {suffix:?}", family.kind));
        }
        if labels.contains_key("le") != (suffix == "_bucket") {
            return Err("le belongs to buckets".into());
        }
        if family.kind != "gauge" && !(value >= 0.0 && value.is_finite()) {
            return Err("a count that cannot be".into());
        }
        if value.is_nan() {
            return Err("not a number".into());
        }
        family.has_samples = true;
        match self.samples.insert((name, labels), value) {
            None => Ok(()),
            Some(_) => Err("the same series twice".into()),
        }
    }

    /// Buckets add up, and the last of them is all.
    fn check_histograms(&self) -> Result<(), String> {
        let mut histograms: HashMap<(String, Labels), Vec<(f64, f64)>> = HashMap::new();
        for ((name, labels), value) in &self.samples {
            let (Some(name), Some(le)) = (name.strip_suffix("_bucket"), labels.get("le")) else { continue };
            let mut labels = labels.clone();
            labels.remove("le");
            let bound = if le == "+Inf" { f64::INFINITY } else { le.parse().map_err(|_| format!("le {le}"))? };
            histograms.entry((name.to_string(), labels)).or_default().push((bound, *value));
        }
        for ((name, labels), mut buckets) in histograms {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            let all = self.samples.get(&(format!("{name}_count"), labels.clone())).ok_or(format!("{name} no count"))?;
            self.samples.get(&(format!("{name}_sum"), labels.clone())).ok_or(format!("{name} has no sum"))?;
            let grows = buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1 && pair[0].0 < pair[1].0);
            if !grows || buckets.last() != Some(&(f64::INFINITY, *all)) {
                return Err(format!("{name}{labels:?}: {buckets:?} of {all}"));
            }
        }
        Ok(())
    }
}

fn meta_line(meta: &str, family: &mut Family, finished: &mut HashSet<String>) -> Result<(), String> {
    let mut words = meta.splitn(3, ' ');
    let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else {
        return Err("an odd comment".into());
    };
    if !is_name(name, true) {
        return Err("an odd name".into());
    }
    if name != family.name {
        if !finished.insert(name.to_string()) {
            return Err("a family in two pieces".into());
        }
        *family = Family { name: name.to_string(), ..Family::default() };
    }
    if family.has_samples {
        return Err("told after its samples".into());
    }
    match what {
        "HELP" if !family.has_help && !rest.is_empty() => family.has_help = true,
        "TYPE" if family.kind.is_empty() && ["counter", "gauge", "histogram", "info"].contains(&rest) => {
            if rest == "counter" && name.ends_with("_total") || rest == "info" && name.ends_with("_info") {
                return Err("its suffix twice".into());
            }
            family.kind = rest.to_string();
        }
        "UNIT" if !family.has_unit && name.ends_with(&format!("_{rest}")) => family.has_unit = true,
        _ => return Err("not expected here".into()),
    }
    Ok(())
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("an odd name".into());
    }
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = value.strip_prefix(' ').ok_or("one space before the value")?;
    let is_plain = value.chars().all(|character| character.is_ascii_digit() || "+-.eE".contains(character));
    let value = value.parse().ok().filter(|_| is_plain).ok_or("an odd value")?;
    Ok((name.to_string(), labels, value))
}

/// Reads labels up to and with the closing brace.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name, false) {
            return Err(format!("an odd label {name:?}"));
        }
        let (value, after) = quoted_text(quoted)?;
        if labels.insert(name.to_string(), value).is_some() {
            return Err(format!("{name} twice"));
        }
        if let Some(after) = after.strip_prefix('}') {
            return Ok((labels, after));
        }
        rest = after.strip_prefix(',').ok_or("no comma")?;
    }
}

fn quoted_text(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, same @ ('\\' | '"'))) => same,
                _ => return Err("an odd escape".into()),
            }),
            _ => value.push(character),
        }
    }
    Err("a value without an end".into())
}

fn is_name(name: &str, may_have_colons: bool) -> bool {
    let is_letter =
        |character: char| character.is_ascii_alphabetic() || character == '_' || (may_have_colons && character == ':');
    name.starts_with(is_letter) && name.chars().all(|character| is_letter(character) || character.is_ascii_digit())
}

#[test]
fn what_is_not_to_the_letter_is_refused() {
    let counter = "# HELP a A.\n# TYPE a counter\n";
    let bad = [
        "".to_string(),
        "# HELP a A.\n# TYPE a counter\n".into(),
        "a 1\n# EOF\n".into(),
        format!("{counter}a 1\n# EOF\n"),
        format!("{counter}a_total 1\na_total 2\n# EOF\n"),
        format!("{counter}a_total -1\n# EOF\n"),
        format!("{counter}a_total{{b=\"c}} 1\n# EOF\n"),
        format!("{counter}a_total{{b=\"c\",b=\"d\"}} 1\n# EOF\n"),
        format!("{counter}a_total{{b=\"\\x\"}} 1\n# EOF\n"),
        format!("{counter}a_total  1\n# EOF\n"),
        format!("{counter}a_total 1\r\n# EOF\n"),
        format!("{counter}a_total 1\n# TYPE b gauge\nb 1\n# TYPE a counter\n# EOF\n"),
        "# TYPE h histogram\nh_sum 1\nh_count 2\nh_bucket{le=\"1.0\"} 3\nh_bucket{le=\"+Inf\"} 2\n# EOF\n".into(),
        "# TYPE h histogram\nh_sum 1\nh_count 2\nh_bucket{le=\"1.0\"} 2\n# EOF\n".into(),
    ];
    for text in bad {
        assert!(Exposition::parse(&text).is_err(), "{text:?}");
    }
    let good = format!("{counter}a_total{{b=\"c \\\" \\\\ \\n\",d=\"\"}} 1e3\n# EOF\n");
    assert_eq!(Exposition::parse(&good).unwrap().value("a_total", &[("b", "c \" \\ \n"), ("d", "")]), Some(1000.0));
}
