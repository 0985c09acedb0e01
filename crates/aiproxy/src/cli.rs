//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A self-hosted AI API gateway: people get proxy keys, nobody but the gateway holds a real one.
#[derive(Debug, Parser)]
#[command(name = "aiproxy", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway
    Serve(Serve),
    /// Try everything at once: a built-in upstream, one key, no config and no provider key
    Demo(Demo),
    /// Validate a config and print every problem with its position
    Check(Check),
    /// Price calls of the past by the prices of now
    Reprice(Reprice),
    /// Print the JSON Schema of the config, for editors
    Schema,
    /// Print a shell completion script
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Run the demo upstream alone, for tests
    #[command(hide = true)]
    DemoUpstream(DemoUpstream),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document on one line.
    Json,
}

/// `aiproxy serve`
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Config file, or a directory of them
    #[arg(short, long, value_name = "FILE|DIR", default_value = "aiproxy.yaml", env = "AIPROXY_CONFIG")]
    pub config: PathBuf,
    /// Listen here instead of on system.listen (may be repeated)
    #[arg(long, value_name = "ADDRESS", env = "AIPROXY_LISTEN", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,
    /// Threads that serve calls; one per core by default
    #[arg(long, value_name = "N", env = "AIPROXY_WORKERS")]
    pub workers: Option<usize>,
    /// json: print one line with base_url once the gateway listens
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// `aiproxy demo`
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Listen here
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8001")]
    pub listen: SocketAddr,
    /// Keep data here; a temporary directory by default
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Time between two events of a demo stream
    #[arg(long, value_name = "MILLISECONDS", default_value = "20", value_parser = milliseconds)]
    pub pace: Duration,
    /// json: print one line with base_url, proxy_key, admin_url, admin_token
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// `aiproxy check`
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Config file, or a directory of them
    #[arg(short, long, value_name = "FILE|DIR", default_value = "aiproxy.yaml", env = "AIPROXY_CONFIG")]
    pub config: PathBuf,
    /// json: print problems as one JSON array
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// `aiproxy reprice`
#[derive(Args, Debug)]
pub(crate) struct Reprice {
    /// Config file, or a directory of them: its prices, and its database
    #[arg(short, long, value_name = "FILE|DIR", default_value = "aiproxy.yaml", env = "AIPROXY_CONFIG")]
    pub config: PathBuf,
    /// Calls begun at or after this date or moment, e.g. 2026-11-01; everything by default
    #[arg(long, value_name = "DATE")]
    pub from: Option<String>,
    /// Calls begun before this date or moment; now by default
    #[arg(long, value_name = "DATE")]
    pub to: Option<String>,
    /// Also calls that have a price already
    #[arg(long)]
    pub all: bool,
    /// json: print the result as one JSON document
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// `aiproxy demo-upstream`
#[derive(Args, Debug)]
pub(crate) struct DemoUpstream {
    /// Listen here
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// The one key it accepts
    #[arg(long, value_name = "KEY")]
    pub api_key: String,
    /// Time between two events of a stream
    #[arg(long, value_name = "MILLISECONDS", default_value = "0", value_parser = milliseconds)]
    pub pace: Duration,
    /// json: print one line with upstream_url
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

fn milliseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
