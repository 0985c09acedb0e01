//! A config file: any text gives a snapshot or problems, as YAML and as JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for name in ["config.yaml", "config.json"] {
        let loaded = aiproxy_config::load_text(name.as_ref(), text.to_owned(), &|_| None, 0);
        assert!(loaded.snapshot.is_some() || !loaded.problems.is_empty());
    }
});
