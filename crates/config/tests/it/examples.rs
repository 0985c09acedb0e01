//! Every example in `examples/` loads without an error, and shows placeholders only.

use std::path::{Path, PathBuf};

use aiproxy_config::{Severity, load};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// Any variable is set, each to another value.
fn environment(name: &str) -> Option<String> {
    let scheme = if name.ends_with("_URL") { "https://" } else { "" };
    Some(format!("{scheme}value-of-{}-which-is-long", name.replace('_', "-")))
}

#[test]
fn every_example_loads_without_errors() {
    let paths: Vec<_> = std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(paths.len() >= 8, "{paths:?}");
    for path in paths {
        let loaded = load(&path, &environment, 1_767_225_600_000);
        let wrong: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
        assert!(loaded.snapshot.is_some(), "{}: {wrong:#?}", path.display());
        if !path.ends_with("full.yaml") {
            assert_eq!(wrong, Vec::<String>::new(), "{}", path.display());
        }
    }
}

#[test]
fn the_full_example_has_every_field_of_the_schema() {
    let text = std::fs::read_to_string(examples().join("full.yaml")).unwrap();
    let mut missing = Vec::new();
    for definition in aiproxy_config::json_schema()["$defs"].as_object().unwrap().values() {
        let properties = definition["properties"].as_object().into_iter().flatten();
        missing.extend(properties.map(|(name, _)| name).filter(|name| !text.contains(&format!("{name}:"))));
    }
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn the_full_example_warns_only_of_what_is_not_enforced() {
    let loaded = load(&examples().join("full.yaml"), &environment, 1_767_225_600_000);
    for problem in &loaded.problems {
        assert_eq!(problem.severity, Severity::Warning);
        assert!(problem.message.starts_with("accepted"), "{problem}");
    }
    assert!(loaded.problems.iter().any(|problem| problem.path == "system.redis"), "{:?}", loaded.problems);
}
