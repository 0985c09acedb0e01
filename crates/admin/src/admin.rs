//! Which path is answered by what.

use std::path::PathBuf;
use std::sync::Arc;

use aiproxy_core::tasks::Tasks;
use aiproxy_store::query::Query;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::Request;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::answer::{AdminBody, Refused, json_response, respond};
use crate::live::Live;
use crate::{export, records, statistics, stats};

/// Most exports that run at the same time.
const EXPORTS: usize = 2;

/// Answers admin requests. Clones are the same.
#[derive(Clone)]
pub struct Admin {
    router: Router,
}

/// Where files are put.
#[derive(Clone, Debug)]
pub struct Paths {
    /// A directory for files that are deleted as soon as they are open: spreadsheets that are being made.
    pub temporary: PathBuf,
}

/// What the handlers share.
pub(crate) struct Inner {
    pub(crate) query: Option<Query>,
    pub(crate) live: Arc<dyn Live>,
    pub(crate) tasks: Tasks,
    pub(crate) paths: Paths,
    pub(crate) exports: Arc<Semaphore>,
}

impl Inner {
    /// The ledger, if there is one.
    pub(crate) fn query(&self) -> Result<&Query, Refused> {
        self.query.as_ref().ok_or_else(Refused::no_database)
    }
}

impl Admin {
    /// Answers from `query` (none if records are not kept in a database) and from what `live` tells. Exports run as
    /// members of `tasks`, on the runtime that [`Admin::answer`] is awaited on; it must be the one that the query's
    /// store belongs to.
    pub fn new(query: Option<Query>, live: Arc<dyn Live>, tasks: Tasks, paths: Paths) -> Self {
        let inner = Inner { query, live, tasks, paths, exports: Arc::new(Semaphore::new(EXPORTS)) };
        let mut router = Router::new().route("/stats", get(stats_page));
        for (path, _) in statistics::GROUPS {
            let path = format!("/admin/api/v1/statistics/{path}");
            router = router.route(&path, get(statistics::groups));
        }
        let router = router
            .route("/admin/api/v1/statistics/summary", get(statistics::summary))
            .route("/admin/api/v1/statistics/timeseries", get(statistics::timeseries))
            .route("/admin/api/v1/statistics/export", get(export::statistics))
            .route("/admin/api/v1/records", get(records::list))
            .route("/admin/api/v1/records/export", get(export::records))
            .route("/admin/api/v1/records/{id}", get(records::one))
            .method_not_allowed_fallback(async || Refused::method())
            .fallback(async || Refused::not_found("There is no such admin path."));
        Self { router: router.with_state(Arc::new(inner)) }
    }

    /// Whether `path` is one of those answered here.
    #[must_use]
    pub fn serves(path: &str) -> bool {
        path == "/stats"
            || path.starts_with("/admin/api/v1/statistics/")
            || path == "/admin/api/v1/records"
            || path.starts_with("/admin/api/v1/records/")
    }

    /// The answer to a request whose credential has been checked.
    pub async fn answer(&self, request: Request<Bytes>) -> Response<AdminBody> {
        let request = request.map(AdminBody::from);
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

async fn stats_page(State(inner): State<Arc<Inner>>) -> Response {
    let value = stats::stats(&inner.live.totals(), &inner.live.about());
    // People read it, too.
    match serde_json::to_string_pretty(&value) {
        Ok(text) => respond("application/json; charset=utf-8", AdminBody::from(text + "\n")),
        Err(_) => json_response(&value),
    }
}
