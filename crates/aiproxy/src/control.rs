//! The control plane beside the gateway: statistics, records, metrics, and the upkeep of the database. It runs on the
//! small runtime; a worker only hands a request over and passes the answer on.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use aiproxy_admin::metrics::{CONTENT_TYPE, MetricsSource};
use aiproxy_admin::{Admin, Paths};
use aiproxy_config::snapshot::System;
use aiproxy_core::tasks::Tasks;
use aiproxy_gateway::server::local::{AdminAnswer, AdminPaths};
use aiproxy_gateway::state::Gateway;
use aiproxy_store::query::Query;
use aiproxy_store::{Store, retention};
use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::ledger::{Ledger, Sources};

mod live;
mod measured;

/// Pieces of an answer that wait for the client to take them.
const PIECES: usize = 4;

/// What administrators can ask, and what is done beside the calls.
pub(crate) struct Control {
    store: Option<Store>,
    gateway: Arc<Gateway>,
}

impl Control {
    /// Makes the admin paths of `gateway` answer. Work of theirs is done on `runtime`, as members of `tasks`.
    pub(crate) fn start(
        gateway: &Arc<Gateway>,
        ledger: &Ledger,
        runtime: &Handle,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let snapshot = gateway.snapshot();
        let system = &snapshot.system;
        let store = system.log.database.then(|| Store::new(&options(system)).context("system.database")).transpose()?;
        let query = store.clone().map(|store| Query::new(store, system.timezone.clone()));
        let sources = ledger.sources();
        let live = live::FromGateway { gateway: gateway.clone(), totals: sources.totals.clone() };
        let paths = Paths { temporary: system.data_dir.clone() };
        let admin = Admin::new(query, Arc::new(live), tasks.clone(), paths);
        let metrics = Arc::new(Metrics { gateway: gateway.clone(), ledger: sources });
        gateway.set_admin_paths(Arc::new(Bridge { runtime: runtime.clone(), tasks: tasks.clone(), admin, metrics }));
        Ok(Self { store, gateway: gateway.clone() })
    }

    /// Deletes what is older than the config says, now and then.
    pub(crate) fn spawn_upkeep(&self, tasks: &Tasks) {
        let Some(store) = self.store.clone() else { return };
        let gateway = self.gateway.clone();
        let kept = move || gateway.snapshot().system.retention;
        tasks.spawn(retention::run(store, kept, tasks.clone()));
    }
}

/// Where the database of a config is.
pub(crate) fn options(system: &System) -> aiproxy_store::Options {
    aiproxy_store::Options::configured(&system.database, &system.data_dir)
}

/// Carries requests from workers to the small runtime, and answers back.
struct Bridge {
    runtime: Handle,
    tasks: Tasks,
    admin: Admin,
    metrics: Arc<Metrics>,
}

impl AdminPaths for Bridge {
    fn answer(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = AdminAnswer> + Send>> {
        if request.uri().path() == "/metrics" {
            let metrics = self.metrics.clone();
            // It lists a directory and reads a few files.
            let page = self.runtime.spawn_blocking(move || metrics.page());
            return Box::pin(async move { page_answer(page.await.unwrap_or_default()) });
        }
        let (admin, tasks) = (self.admin.clone(), self.tasks.clone());
        let answered = self.runtime.spawn(async move {
            let (head, body) = admin.answer(request).await.into_parts();
            let (tell, told) = mpsc::channel(PIECES);
            tasks.spawn(pass_on(body, tell));
            Response::from_parts(head, told)
        });
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| {
                let mut response = page_answer(String::new());
                *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                response
            })
        })
    }
}

/// Sends the pieces of a body on as they are taken; ends when nobody takes them any longer.
async fn pass_on<B: Body<Data = Bytes>>(body: B, tell: mpsc::Sender<io::Result<Bytes>>)
where
    B::Error: std::fmt::Display,
{
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let piece = match frame {
            Ok(frame) => frame.into_data().map_err(|_| ()),
            Err(error) => {
                tell.send(Err(io::Error::other(error.to_string()))).await.ok();
                return;
            }
        };
        if let Ok(data) = piece
            && !data.is_empty()
            && tell.send(Ok(data)).await.is_err()
        {
            return;
        }
    }
}

fn page_answer(text: String) -> AdminAnswer {
    let (tell, told) = mpsc::channel(1);
    // There is room for it: nothing else was sent.
    tell.try_send(Ok(Bytes::from(text))).ok();
    let mut response = Response::new(told);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

struct Metrics {
    gateway: Arc<Gateway>,
    ledger: Sources,
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
