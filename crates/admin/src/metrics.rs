//! `/metrics`: everything there is to measure, as OpenMetrics text.
//!
//! What is written is gathered at the moment somebody asks. The size of the page has a ceiling: names of channels,
//! credentials and hosts come from the config, those of models are bounded where calls are counted, and no user, key or
//! address is a label.

mod calls;
mod gateway;
mod ledger;
mod proc;
mod process;
mod write;

use std::fmt;
use std::sync::Arc;

use aiproxy_ledger::journal::{Extent, Journal, State};
use aiproxy_ledger::live::{CallSeries, LiveTotals};
use aiproxy_ledger::runner::SinkStatus;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

pub use gateway::{ChannelMeasures, GatewayMeasures};

use self::ledger::SinkMeasures;
use self::process::{ProcessMeasures, SystemMeasures};
use self::write::Page;

/// What the page is sent as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the numbers come from.
pub struct MetricsSource {
    /// Calls, as the tally counts them.
    pub totals: Arc<LiveTotals>,
    /// Where records wait for sinks.
    pub journal: Arc<Journal>,
    /// Every sink that is fed, each with a name of its own.
    pub sinks: Vec<Arc<SinkStatus>>,
    /// What the gateway knows that no record tells.
    pub gateway: Box<dyn Fn() -> GatewayMeasures + Send + Sync>,
    /// Version of the binary.
    pub version: &'static str,
}

impl MetricsSource {
    /// The page. Lists the journal's directory and reads a few small files of `/proc`, so it is not for the data path.
    #[must_use]
    pub fn render(&self) -> String {
        let extent = self.journal.extent();
        let gathered = Gathered {
            calls: self.totals.calls(),
            has_tally_problem: self.totals.problem().is_some(),
            sinks: self.sinks.iter().map(|status| SinkMeasures::of(status, &extent)).collect(),
            extent,
            journal: self.journal.state(),
            records: self.journal.records(),
            gateway: (self.gateway)(),
            process: ProcessMeasures::now(),
            system: SystemMeasures::now(),
            version: self.version,
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(gathered));
        let mut page = String::new();
        if text::encode(&mut page, &registry).is_err() {
            tracing::error!("metrics cannot be written");
        }
        page
    }
}

/// Everything on one page, of one moment.
struct Gathered {
    calls: CallSeries,
    has_tally_problem: bool,
    sinks: Vec<SinkMeasures>,
    extent: Extent,
    journal: State,
    records: u64,
    gateway: GatewayMeasures,
    process: ProcessMeasures,
    system: SystemMeasures,
    version: &'static str,
}

impl fmt::Debug for Gathered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gathered").finish_non_exhaustive()
    }
}

impl Collector for Gathered {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        page.info("aiproxy_build", "The binary that runs", [("version", self.version)])?;
        calls::write(&mut page, &self.calls)?;
        gateway::write(&mut page, &self.gateway)?;
        ledger::write(&mut page, self)?;
        process::write_process(&mut page, &self.process)?;
        process::write_system(&mut page, &self.system)
    }
}

#[cfg(test)]
mod tests;
