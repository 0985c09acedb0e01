//! `capture` of a proxy key or a channel.

use super::checks::size_within;
use crate::form::{CaptureChoice, CaptureForm, Switch};
use crate::problem::Problems;
use crate::snapshot::Capture;
use crate::tree::Place;

const SMALLEST: u64 = 1 << 10;
const LARGEST: u64 = 16 << 20;

/// Which bodies are stored. `None` where nothing is written; `false` is a share of 0, for on a key it says no to what
/// the channel says.
pub(super) fn compile(place: &Place<'_>, form: Option<CaptureChoice>, problems: &mut Problems) -> Option<Capture> {
    let default = Capture::default();
    let CaptureForm { share, max_size, request, response } = match form? {
        CaptureChoice::Switch(Switch(true)) => return Some(default),
        CaptureChoice::Switch(Switch(false)) => return Some(Capture { share: 0.0, ..default }),
        CaptureChoice::Share(share) => return Some(Capture { share, ..default }),
        CaptureChoice::Full(form) => form,
    };
    let capture = Capture {
        share: share.unwrap_or(default.share),
        max_bytes: size_within(&place.key("max_size"), max_size, default.max_bytes, SMALLEST..=LARGEST, problems),
        request: request.unwrap_or(default.request),
        response: response.unwrap_or(default.response),
    };
    if !capture.request && !capture.response {
        problems.error(place, "stores neither requests nor responses; write `capture: false`");
    }
    Some(capture)
}
