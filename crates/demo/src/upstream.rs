//! The demo upstream as a pure function from request to reply.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::time::Duration;

use aiproxy_core::tasks::Tasks;
use bytes::Bytes;
use http::request::Parts;

use crate::call::Call;
use crate::dashscope::TaskBoard;
use crate::dress::dress;
use crate::magic::Magic;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::route::{Dialect, Route};
use crate::webrtc::Calls;
use crate::{anthropic, dashscope, gemini, guard, openai};

/// How the demo upstream behaves.
#[derive(Clone)]
pub struct Options {
    /// The one key that it accepts.
    pub api_key: String,
    /// The wait between two events of a stream.
    pub pace: Duration,
}

impl Options {
    /// For `aiproxy demo`: a random key, and a pace that lets people watch a stream arrive.
    pub fn demo() -> Self {
        let api_key = format!("sk-demo-{}", uuid::Uuid::new_v4().simple());
        Self { api_key, pace: Duration::from_millis(20) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Options").field("api_key", &"***").field("pace", &self.pace).finish()
    }
}

/// A provider that lives in this process.
#[derive(Debug)]
pub struct DemoUpstream {
    options: Options,
    /// DashScope's asynchronous tasks.
    tasks: Mutex<TaskBoard>,
    /// OpenAI's WebRTC calls.
    calls: Calls,
}

impl DemoUpstream {
    /// A fresh upstream.
    pub fn new(options: Options) -> Self {
        Self::listening(options, Tasks::new(), Ipv4Addr::LOCALHOST.into())
    }

    /// A fresh upstream that listens on `address`. Calls run on `tasks`.
    pub(crate) fn listening(options: Options, tasks: Tasks, address: IpAddr) -> Self {
        let calls = Calls::new(tasks, address, options.pace);
        Self { options, tasks: Mutex::default(), calls }
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The calls that sidebands attach to.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Answers one request.
    pub fn handle(&self, parts: &Parts, body: &Bytes) -> Reply {
        let call = Call::new(parts, body);
        let route = Route::of(&call);
        let request_id = call.request.to_string();
        let model = route.model.as_deref().or(call.body_model()).unwrap_or_default();
        let magic = Magic::of(model);
        let answer = guard::check(&call, &route, &self.options.api_key)
            .and_then(|()| magic.refusal(model, route.dialect).map_or(Ok(()), Err))
            .and_then(|()| self.answer(&call, &route));
        let mut reply = match answer {
            Ok(reply) => magic.spoil(reply, route.dialect, &request_id),
            Err(refusal) => refusal.into_reply(route.dialect, &request_id),
        };
        dress(&mut reply.headers, &call, route.dialect);
        reply
    }

    /// Answers a request whose body is larger than the demo reads.
    pub fn refuse_too_large(&self, parts: &Parts) -> Reply {
        let call = Call::new(parts, &Bytes::new());
        let dialect = Route::of(&call).dialect;
        let mut reply =
            Refusal::new(413, "The request body is too large.").into_reply(dialect, &call.request.to_string());
        dress(&mut reply.headers, &call, dialect);
        reply
    }

    fn answer(&self, call: &Call<'_>, route: &Route<'_>) -> Result<Reply, Refusal> {
        match route.dialect {
            Dialect::OpenAi | Dialect::Azure => openai::answer(call, route, &self.calls),
            Dialect::Anthropic => anthropic::answer(call, route),
            Dialect::Gemini | Dialect::Vertex => gemini::answer(call, route),
            Dialect::DashScope => dashscope::answer(call, route, &self.tasks),
        }
    }
}
