//! `aiproxy check`: every problem of a config, with its position.

use std::process::ExitCode;

use aiproxy_config::{Loaded, Severity};
use serde_json::json;

use crate::cli::{Check, Output};
use crate::{output, reload};

/// Prints the problems; exit code 1 if any of them is an error.
pub(crate) fn run(options: &Check) -> anyhow::Result<ExitCode> {
    let loaded = reload::load(&options.config);
    match options.output {
        Output::Text => print_text(&loaded)?,
        Output::Json => print_json(&loaded)?,
    }
    Ok(if loaded.snapshot.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_text(loaded: &Loaded) -> anyhow::Result<()> {
    for problem in &loaded.problems {
        output::line(&problem.to_string())?;
    }
    let Some(snapshot) = &loaded.snapshot else {
        let errors = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        output::note(&format!("{errors} error{}. Nothing would be served.", if errors == 1 { "" } else { "s" }));
        return Ok(());
    };
    output::note(&format!(
        "The config is good. Users: {}, proxy keys: {}, channels: {}.",
        snapshot.users.len(),
        snapshot.keys.len(),
        snapshot.channels.len()
    ));
    Ok(())
}

fn print_json(loaded: &Loaded) -> anyhow::Result<()> {
    let problems: Vec<_> = loaded
        .problems
        .iter()
        .map(|problem| {
            json!({
                "severity": if problem.severity == Severity::Error { "error" } else { "warning" },
                "file": problem.file.display().to_string(),
                "line": problem.line,
                "column": problem.column,
                "path": problem.path,
                "message": problem.message,
            })
        })
        .collect();
    output::line(&serde_json::to_string(&problems)?)
}
