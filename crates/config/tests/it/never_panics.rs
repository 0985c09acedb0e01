//! Whatever is in a file, loading it ends with a snapshot or with problems, never with a panic.

use proptest::prelude::*;

use crate::support::load_as;

/// Pieces from which texts like configs are made.
const PIECES: &[&str] = &[
    "users",
    "channels",
    "groups",
    "system",
    "proxy_key",
    "proxy_keys",
    "api_key",
    "base_url",
    "models",
    "endpoints",
    "a",
    "\"a\"",
    "'b'",
    "${REAL_KEY}",
    "https://h",
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "&x ",
    "*x",
    "<<: ",
    "? ",
    "| ",
    "> ",
    "|-\n",
    "# c\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "%TAG ! !\n",
    "!!str ",
    "!",
    "~",
    "1",
    "-1",
    "1.5",
    "0x1F",
    "true",
    "null",
    "\t",
    "\r\n",
    "\\",
    "\u{feff}",
    "中",
    "\u{85}",
    "_",
    "limits",
    "departments",
    "quotas",
    "amount",
    "capture",
    "retention",
    "webhook",
    "redact",
    "timezone",
    "health",
    "off",
];

fn must_end_well(text: &str) -> Result<(), TestCaseError> {
    for name in ["a.yaml", "a.json"] {
        let loaded = load_as(name, text);
        let has_error = loaded.problems.iter().any(|problem| problem.severity == aiproxy_config::Severity::Error);
        prop_assert_eq!(loaded.snapshot.is_none(), has_error);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text(text in "\\PC{0,200}") {
        must_end_well(&text)?;
    }

    #[test]
    fn any_characters(text in ".{0,100}") {
        must_end_well(&text)?;
    }

    #[test]
    fn any_pieces(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        must_end_well(&pieces.concat())?;
    }

    /// The full example with one piece put somewhere, or something cut out.
    #[test]
    fn any_damage(at in 0..16_000_usize, cut in 0..40_usize, piece in prop::sample::select(PIECES)) {
        let text: Vec<char> = include_str!("../../../../examples/full.yaml").chars().collect();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        let damaged: String = text[..at].iter().chain(&piece.chars().collect::<Vec<_>>()).chain(&text[end..]).collect();
        must_end_well(&damaged)?;
    }
}
