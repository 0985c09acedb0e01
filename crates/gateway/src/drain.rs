//! Reading on after the client left, where `client_abort: drain` asks for it: so that the provider's own numbers are in
//! the record, and an answer that was paid for is counted.
//!
//! It is bounded: in time, and in how many are read at once. Beyond that a call ends as it does by default, at once.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use aiproxy_config::snapshot::{ClientAbort, System};
use http::Response;
use tokio::sync::oneshot;

use crate::egress::{Egress, GatewayBody};
use crate::record::End;
use crate::state::{Gateway, Worker};

/// How many calls are read on at once.
#[derive(Debug, Default)]
pub(crate) struct Drains(AtomicUsize);

/// A place among them; given back when it is dropped.
pub(crate) struct Place(Arc<Gateway>);

impl Place {
    /// A place, if the policy is to drain and one is free.
    pub(crate) fn take(gateway: &Arc<Gateway>, system: &System) -> Option<Self> {
        if system.client_abort != ClientAbort::Drain || gateway.is_cutting_off() {
            return None;
        }
        let place = Self(gateway.clone());
        let taken = gateway.drains.0.fetch_add(1, Ordering::AcqRel);
        // A place that is too many is given back as it is dropped.
        (taken < system.drain.concurrent).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.drains.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs a call so that it outlives its client: up to the response head here, and the body by [`read_on`].
pub(crate) async fn outlive_client(
    worker: Arc<Worker>,
    call: impl Future<Output = Response<GatewayBody>> + Send + 'static,
) -> Option<Response<GatewayBody>> {
    let (mut tell, told) = oneshot::channel();
    let gateway = worker.gateway.clone();
    worker.tasks.spawn(async move {
        let mut call = Box::pin(call);
        let is_abandoned = async {
            tell.closed().await;
            let system = &gateway.snapshot().system;
            let Some(_place) = Place::take(&gateway, system) else { return };
            tokio::time::sleep(system.drain.timeout).await;
        };
        let response = tokio::select! {
            response = &mut call => response,
            () = is_abandoned => return,
        };
        // If nobody takes it, dropping it reads its body on.
        drop(tell.send(response));
    });
    told.await.ok()
}

/// Reads the rest of a body that nobody takes.
pub(crate) async fn read_on(mut egress: Box<Egress>, _place: Place, timeout: Duration) {
    let rest = poll_fn(|context| {
        loop {
            match egress.poll_unseen(context) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    // Over time it is closed with what was seen.
    drop(tokio::time::timeout(timeout, rest).await);
    egress.leave(End::ClientClosed);
}
