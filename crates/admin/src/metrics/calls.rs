//! The series of calls.

use std::fmt;

use aiproxy_ledger::live::CallSeries;

use super::write::Page;

pub(super) fn write(page: &mut Page<'_>, calls: &CallSeries) -> fmt::Result {
    page.counts("aiproxy_calls", "Finished calls, refused ones included", &calls.calls)?;
    page.counts("aiproxy_endpoint_calls", "Finished calls by normalised path", &calls.endpoints)?;
    page.counts("aiproxy_gateway_errors", "Errors that the gateway itself answered with", &calls.errors)?;
    page.durations("aiproxy_call_duration", "From the request's head to the end of the call", &calls.duration)?;
    page.durations(
        "aiproxy_call_first_byte",
        "From the request's head to the upstream's first byte",
        &calls.first_byte,
    )?;
    page.parts("aiproxy_session_seconds", "How long sockets and calls by WebRTC lasted", 1e3, &calls.session_ms)?;
    page.counts("aiproxy_usage", "What calls used: tokens, images, characters and so on", &calls.usage)?;
    page.parts("aiproxy_usage_seconds", "Audio and video time that calls used", 1e3, &calls.usage_ms)?;
    page.parts("aiproxy_cost", "Cost of calls, attempts that failed included", 1e6, &calls.cost)?;
    page.counts("aiproxy_unpriced_calls", "Calls that used something whose price is not known", &calls.unpriced)?;
    page.counts("aiproxy_estimated_calls", "Calls whose usage is an estimate", &calls.estimated)?;
    page.counts("aiproxy_usage_flaws", "Calls of which a number of the provider's was refused", &calls.flawed)?;
    page.counts("aiproxy_attempts", "Tries at an upstream by what became of them", &calls.attempts)?;
    page.counts("aiproxy_request_bytes", "Body bytes from callers", &calls.request_bytes)?;
    page.counts("aiproxy_response_bytes", "Body bytes to callers", &calls.response_bytes)
}
