//! The data plane: from an accepted connection to a closed record.
//!
//! Read [`flow`] first. Decisions (route, permit, paths, headers) are pure functions; the only IO is in [`upstream`]
//! and [`server`]. This crate names no table and reads no file but TLS certificates.

mod attempt;
mod client_address;
mod client_body;
mod credential;
pub mod egress;
pub mod flow;
mod headers;
mod metering;
mod permit;
pub mod record;
pub mod refusal;
mod request_body;
mod request_head;
mod route;
pub mod server;
pub mod state;
#[cfg(test)]
mod test_config;
pub mod timer;
pub mod upstream;
mod upstream_path;
#[cfg(test)]
mod sizes {
    #[test]
    fn print() {
        eprintln!(
            "meter {} metering {} egress {} record {} body {} connection {} peek {} prepared {} timer {} hide {}",
            size_of::<aiproxy_llm::meter::Meter>(),
            size_of::<crate::metering::Metering>(),
            size_of::<crate::egress::Egress>(),
            size_of::<crate::record::Record>(),
            size_of::<crate::egress::GatewayBody>(),
            size_of::<crate::upstream::pool::Connection>(),
            size_of::<aiproxy_llm::peek::RequestPeek>(),
            size_of::<crate::request_body::PreparedBody>(),
            size_of::<crate::timer::CallTimer>(),
            size_of::<aiproxy_llm::meter::HideUsageChunk>()
        );
    }
}
