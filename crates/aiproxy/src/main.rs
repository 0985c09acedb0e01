//! The binary: wiring in order, the command line, signals. The only crate that reads the environment and argv.

mod admin_token;
mod background;
mod check;
mod cli;
mod control;
mod demo;
mod ledger;
mod limits;
mod listeners;
mod logging;
mod output;
mod reload;
mod reprice;
mod serve;
mod takeover;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(options) => serve::run(options),
        Command::Demo(options) => demo::run(options),
        Command::DemoUpstream(options) => demo::run_upstream(options),
        Command::Check(options) => check::run(&options),
        Command::Reprice(options) => reprice::run(&options),
        Command::Schema => output::line(aiproxy_config::json_schema_text().trim_end()).map(|()| ExitCode::SUCCESS),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "aiproxy", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        output::error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}
