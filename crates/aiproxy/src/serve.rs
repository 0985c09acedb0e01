//! `aiproxy serve`: everything is made in order, run, and taken down in the opposite order.
//!
//! ```text
//! config → logging → admin token → ledger → sockets → workers → sinks → signals and reload
//! SIGTERM, SIGINT   unready → stop accepting → finish calls (deadline) → last writes of the sinks → exit 0
//! SIGHUP            read the config again
//! SIGUSR2           start a successor on the same sockets; once it is ready, as SIGTERM
//! ```

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_config::Severity;
use aiproxy_gateway::probe;
use aiproxy_gateway::server::connection::Port;
use aiproxy_gateway::server::tls::ServerCertificate;
use aiproxy_gateway::server::worker::{self, Listener, WorkerHandle};
use aiproxy_gateway::state::Gateway;
use aiproxy_gateway::upstream::connect::NetworkDialer;
use anyhow::Context;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin_token::AdminToken;
use crate::background::Background;
use crate::cli::{Output, Serve};
use crate::control::Control;
use crate::ledger::Ledger;
use crate::listeners::{self, Bound};
use crate::reload::{self, Reloader};
use crate::{limits, logging, output, takeover};

/// How long `/ready` says no before connections are refused, so that balancers notice first.
const UNREADY_PERIOD: Duration = Duration::from_millis(500);

/// What is told about a gateway that listens.
pub(crate) struct Listening {
    /// Base URL for callers.
    pub base_url: String,
    /// Base URL of the admin paths.
    pub admin_url: String,
    /// The admin token, if it was made just now.
    pub new_admin_token: Option<String>,
}

/// `aiproxy serve`.
pub(crate) fn run(options: Serve) -> anyhow::Result<ExitCode> {
    let output = options.output;
    run_with(options, |listening| match output {
        Output::Json => {
            if let Some(token) = &listening.new_admin_token {
                output::note(&format!("Admin token, shown this once: {token}"));
            }
            output::line(&json!({ "base_url": listening.base_url, "admin_url": listening.admin_url }).to_string())
        }
        Output::Text => {
            output::note(&format!("AIProxy {} listens on {}", env!("CARGO_PKG_VERSION"), listening.base_url));
            if let Some(token) = &listening.new_admin_token {
                output::note(&format!("Admin token, shown this once: {token}"));
            }
            Ok(())
        }
    })
}

/// Runs a gateway until it is told to stop. `announce` is called once it listens.
pub(crate) fn run_with(
    options: Serve,
    announce: impl FnOnce(&Listening) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let loaded = reload::load(&options.config);
    let Some(mut snapshot) = loaded.snapshot else {
        for problem in &loaded.problems {
            output::note(&problem.to_string());
        }
        let errors = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        anyhow::bail!(
            "the config has {errors} problem{}; nothing is served. Mend it, or run 'aiproxy demo' to try AIProxy without one",
            if errors == 1 { "" } else { "s" }
        );
    };
    let log_level = logging::start(&snapshot.system.log_level);
    reload::report(&loaded.problems);
    limits::raise_open_files();
    if !options.listen.is_empty() {
        snapshot.system.listen.clone_from(&options.listen);
    }
    let system = &snapshot.system;
    let admin_token = AdminToken::find_or_make(system, environment("AIPROXY_ADMIN_TOKEN"))?;
    let certificate = match &system.tls {
        Some(files) => Some(ServerCertificate::load(files).context("system.tls")?),
        None => None,
    };
    let worker_count = options.workers.unwrap_or_else(cores).max(1);
    let ledger = Ledger::open(system, &snapshot.prices, worker_count)?;
    let mut bound = listeners::inherited(system.admin_listen)?;
    if bound.is_empty() {
        bound = listeners::bind_all(&system.listen, system.admin_listen, worker_count)?;
    }
    let sockets: Vec<TcpListener> = bound.iter().map(|bound| bound.socket.try_clone()).collect::<Result<_, _>>()?;
    let listening = describe(&bound, certificate.is_some(), admin_token.new.clone())?;
    let data_dir = system.data_dir.clone();
    let dialer = Arc::new(NetworkDialer::default());
    let gateway = Gateway::new(snapshot, dialer, ledger.sink(), admin_token.digest);
    gateway.quotas().restore(&ledger.book);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let tasks = aiproxy_core::tasks::Tasks::new();
    let control = Control::start(&gateway, &ledger, runtime.handle(), &tasks)?;
    let workers = start_workers(&gateway, bound, worker_count, certificate.as_ref())?;
    let bodies = ledger.bodies();
    let mut ledger = ledger.start(&gateway.snapshot().system, &gateway)?;
    let background = Background::start().context("no thread for reading the config")?;
    let (files, digest) = (loaded.files, loaded.digest);
    let mut reloader =
        Reloader::new(options.config, gateway.clone(), certificate, log_level, files, digest, background);
    reloader.follow_redaction(bodies);

    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let (ask, asked) = mpsc::channel(1);
        tasks.spawn(reloader.run(asked));
        tasks.spawn(probe::run(gateway.clone(), tasks.clone()));
        control.spawn_upkeep(&tasks);
        announce(&listening)?;
        takeover::tell_ready();
        if signals.run(&ask, sockets, data_dir).await == Stop::HandedOver {
            ledger.leave();
        }
        tasks.stop();
        gateway.drain();
        tracing::info!(calls = gateway.calls_in_flight(), "draining");
        tokio::time::sleep(UNREADY_PERIOD).await;
        anyhow::Ok(())
    })?;
    for worker in &workers {
        worker.stop();
    }
    for worker in workers {
        worker.join();
    }
    ledger.stop();
    runtime.shutdown_background();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::disallowed_methods, reason = "this is the aiproxy crate")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn describe(bound: &[Bound], tls: bool, new_admin_token: Option<String>) -> anyhow::Result<Listening> {
    let url = |wanted: fn(Port) -> bool| -> anyhow::Result<String> {
        let found = bound.iter().find(|bound| wanted(bound.port)).context("no socket to listen on")?;
        let scheme = if tls && found.port != Port::Admin { "https" } else { "http" };
        Ok(format!("{scheme}://{}", reachable(found.socket.local_addr()?)))
    };
    Ok(Listening {
        base_url: url(|port| port != Port::Admin)?,
        admin_url: format!("{}/admin/api/v1", url(|port| port != Port::Callers)?),
        new_admin_token,
    })
}

/// An address that can be put into a URL: a wildcard is no place to connect to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr =
            if address.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

fn start_workers(
    gateway: &Arc<Gateway>,
    bound: Vec<Bound>,
    count: usize,
    certificate: Option<&Arc<ServerCertificate>>,
) -> anyhow::Result<Vec<WorkerHandle>> {
    let mut per_worker: Vec<Vec<Listener>> = (0..count).map(|_| Vec::new()).collect();
    for (index, Bound { socket, port }) in bound.into_iter().enumerate() {
        socket.set_nonblocking(true)?;
        let tls = match certificate {
            Some(certificate) if port != Port::Admin => Some(certificate.acceptor()?),
            _ => None,
        };
        per_worker[index % count].push(Listener { socket, port, tls });
    }
    let workers = per_worker.into_iter().enumerate();
    workers.map(|(index, listeners)| Ok(worker::start(gateway.clone(), index, listeners)?)).collect()
}

/// Why the gateway stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// By order.
    Told,
    /// A new process has taken over.
    HandedOver,
}

/// The signals the gateway answers.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    take_over: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            take_over: signal(SignalKind::user_defined2())?,
        })
    }

    /// Returns when the gateway is to stop, and why.
    async fn run(&mut self, ask: &mpsc::Sender<()>, sockets: Vec<TcpListener>, data_dir: PathBuf) -> Stop {
        let sockets = Arc::new(sockets);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Stop::Told,
                _ = self.interrupt.recv() => return Stop::Told,
                // A full channel means that a reload is due anyway.
                _ = self.hang_up.recv() => drop(ask.try_send(())),
                _ = self.take_over.recv() => {
                    let (sockets, data_dir) = (sockets.clone(), data_dir.clone());
                    let handed = tokio::task::spawn_blocking(move || takeover::hand_over(&sockets, &data_dir)).await;
                    match handed {
                        Ok(Ok(successor)) => {
                            tracing::info!(successor, "a new process serves; this one drains");
                            return Stop::HandedOver;
                        }
                        Ok(Err(error)) => tracing::error!(error = %format!("{error:#}"), "no successor; going on"),
                        Err(error) => tracing::error!(%error, "no successor; going on"),
                    }
                }
            }
        }
    }
}
