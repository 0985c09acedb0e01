//! The control plane beside the gateway: statistics, records, metrics, and the upkeep of the database. It runs on the
//! small runtime; a worker only hands a request over and passes the answer on.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use aiproxy_admin::metrics::MetricsSource;
use aiproxy_config::snapshot::System;
use aiproxy_core::tasks::Tasks;
use aiproxy_gateway::server::local::AdminPaths;
use aiproxy_gateway::state::Gateway;
use aiproxy_store::{Store, retention};
use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::ledger::Ledger;

mod measured;

/// Pieces of an answer that wait for the client to take them.
const PIECES: usize = 4;

type Answer = Response<mpsc::Receiver<io::Result<Bytes>>>;

/// What administrators can ask.
pub(crate) struct Control {
    store: Store,
    gateway: Arc<Gateway>,
}

impl Control {
    /// Makes the admin paths answer.
    pub(crate) fn start(gateway: &Arc<Gateway>, ledger: &Ledger, runtime: &Handle) -> anyhow::Result<Self> {
        let system = &gateway.snapshot().system;
        let store = Store::new(&options(system)).context("system.database")?;
        let metrics = Metrics { gateway: gateway.clone(), ledger: ledger.sources() };
        gateway.set_admin_paths(Arc::new(Bridge { runtime: runtime.clone(), metrics: Arc::new(metrics) }));
        Ok(Self { store, gateway: gateway.clone() })
    }

    /// Deletes what is older than the config says, now and then.
    pub(crate) fn spawn_upkeep(&self, tasks: &Tasks) {
        let gateway = self.gateway.clone();
        let kept = move || gateway.snapshot().system.retention.clone();
        tasks.spawn(retention::run(self.store.clone(), kept, tasks.clone()));
    }
}

fn options(system: &System) -> aiproxy_store::Options {
    aiproxy_store::Options::configured(&system.database, &system.data_dir)
}

/// Carries requests from workers to the small runtime, and answers back.
struct Bridge {
    runtime: Handle,
    metrics: Arc<Metrics>,
}

impl AdminPaths for Bridge {
    fn answer(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let metrics = self.metrics.clone();
        let work = self.runtime.spawn_blocking(move || metrics.page());
        Box::pin(async move {
            let _ = request;
            whole(work.await.unwrap_or_default())
        })
    }
}

fn whole(text: String) -> Answer {
    let (tell, told) = mpsc::channel(PIECES);
    tell.try_send(Ok(Bytes::from(text))).ok();
    let mut response = Response::new(told);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

struct Metrics {
    gateway: Arc<Gateway>,
    ledger: crate::ledger::Sources,
}

impl Metrics {
    fn page(&self) -> String {
        let gateway = self.gateway.clone();
        let source = MetricsSource {
            totals: self.ledger.totals.clone(),
            journal: self.ledger.journal.clone(),
            sinks: self.ledger.statuses.all().to_vec(),
            gateway: Box::new(move || measured::of(&gateway)),
            version: env!("CARGO_PKG_VERSION"),
        };
        source.render()
    }
}
