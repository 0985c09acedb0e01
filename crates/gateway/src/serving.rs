//! A snapshot together with the state that goes with it. One call uses one of these from start to end.
//!
//! The snapshot is replaced by a reload; what calls have taught and counted is handed on to the next one.

use std::ops::Deref;
use std::sync::Arc;

use aiproxy_config::snapshot::Snapshot;

use crate::health::HealthMap;
use crate::limits::{LimitStore, Limiters};
use crate::quota::QuotaMap;

/// What is in force.
pub struct Serving {
    /// What the config means.
    pub snapshot: Snapshot,
    /// Which channels, credentials and endpoints are fit to be used, by the snapshot's indices.
    pub(crate) health: HealthMap,
    /// What was used of each limit, by the snapshot's indices.
    pub(crate) limits: Arc<dyn Limiters>,
    /// What was used of each quota, by the snapshot's indices.
    pub(crate) quotas: Arc<QuotaMap>,
}

impl Serving {
    /// `snapshot` with the state that `before` had of the same things.
    pub(crate) fn new(snapshot: Snapshot, before: Option<&Self>, limits: &dyn LimitStore) -> Self {
        let health = HealthMap::carry_over(&snapshot, before.map(|before| (&before.snapshot, &before.health)));
        let quotas = Arc::new(limits.quotas().resolve(&snapshot));
        let limits = limits.resolve(&snapshot.limited, &quotas);
        Self { snapshot, health, limits, quotas }
    }
}

impl Deref for Serving {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}
