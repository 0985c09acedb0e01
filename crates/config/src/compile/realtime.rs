//! `system.websocket` and `system.realtime`.

use std::time::Duration;

use super::checks::{size_within, within};
use crate::form::{RealtimeForm, UnattachedForm, WebsocketForm};
use crate::problem::Problems;
use crate::snapshot::{Realtime, Unattached, WebSocket};
use crate::tree::Place;

/// What holds for every socket.
pub(super) fn websocket(place: &Place<'_>, form: Option<WebsocketForm>, problems: &mut Problems) -> WebSocket {
    // Session settings with tools and a picture in them reach hundreds of KiB; less than 64 KiB would break plain audio.
    let bounds = 64 << 10..=1 << 30;
    let written = form.unwrap_or_default().message_limit;
    let default = WebSocket::default().message_limit;
    WebSocket { message_limit: size_within(&place.key("message_limit"), written, default, bounds, problems) }
}

/// Calls by WebRTC.
pub(super) fn realtime(place: &Place<'_>, form: Option<RealtimeForm>, problems: &mut Problems) -> Realtime {
    let form = form.unwrap_or_default();
    let default = Realtime::default();
    let bounds = Duration::from_secs(1)..=Duration::from_secs(300);
    Realtime {
        secret_max_calls: form.secret_max_calls.unwrap_or(default.secret_max_calls),
        max_secrets: form.max_secrets.map_or(default.max_secrets, |count| count as usize),
        attach_timeout: within(
            &place.key("attach_timeout"),
            form.attach_timeout,
            default.attach_timeout,
            bounds,
            problems,
        ),
        unattached: match form.unattached {
            None => default.unattached,
            Some(UnattachedForm::HangUp) => Unattached::HangUp,
            Some(UnattachedForm::Unmetered) => Unattached::Unmetered,
        },
    }
}
