//! The workloads: what each sends, how, how much of it, and which target it has to meet.

use clap::ValueEnum;
use serde::Serialize;

use crate::caller::Expected;
use crate::payload::{self, Prompt};
use crate::socket::conversation::Talk;
use crate::subject::Subject;
use crate::upstream::Answers;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Workload {
    #[value(name = "small-32")]
    Small32,
    #[value(name = "small-256")]
    Small256,
    #[value(name = "small-rate")]
    SmallRate,
    #[value(name = "prompt-100k")]
    Prompt100k,
    #[value(name = "sse-50")]
    Sse50,
    #[value(name = "streams-2000")]
    Streams2000,
    #[value(name = "tls-small")]
    TlsSmall,
    Idle,
    #[value(name = "three-channels")]
    ThreeChannels,
    Planning,
    #[value(name = "planning-affinity")]
    PlanningAffinity,
    #[value(name = "keys-100000")]
    Keys100000,
    #[value(name = "websocket-echo")]
    WebsocketEcho,
    #[value(name = "websocket-blind")]
    WebsocketBlind,
    #[value(name = "websocket-rate")]
    WebsocketRate,
    #[value(name = "websocket-idle")]
    WebsocketIdle,
}

/// How calls are made. Counts are those of one run at scale 1.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Closed {
        connections: usize,
        warm_up: u64,
        calls: u64,
    },
    Rate {
        connections: u32,
        warm_up: u64,
        calls: u32,
        per_second: u32,
    },
    Streams {
        count: usize,
        warm_up: usize,
    },
    Idle {
        seconds: u64,
    },
    /// As `Rate`; before it, so many reloads without load.
    Reloads {
        connections: u32,
        warm_up: u64,
        calls: u32,
        per_second: u32,
        quiet_reloads: usize,
    },
    /// Turns, each as soon as the one before is over.
    Sockets {
        count: usize,
        warm_up: u64,
        turns: u64,
    },
    /// Each socket has so many turns, all together so many exchanges a second.
    SocketRate {
        count: usize,
        turns: u32,
        per_second: u32,
    },
    /// Sockets with one turn behind them, and then silence.
    IdleSockets {
        count: usize,
        warm_up: usize,
    },
    /// No traffic: decisions in this process.
    Planning {
        warm_up: u64,
        calls: u64,
    },
}

/// What AIProxy has to reach.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Goal {
    /// The value relative to what it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    /// The value itself, in the workload's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<f64>,
    /// The 99th percentile of latency beyond that without a proxy, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) added_p99_us: Option<f64>,
    /// Memory for one open stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream_kib: Option<f64>,
    /// Resident memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rss_mb: Option<f64>,
    /// From the signal until the new config is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reload_ms: Option<f64>,
}

impl Goal {
    const NONE: Self =
        Self { ratio: None, value: None, added_p99_us: None, stream_kib: None, rss_mb: None, reload_ms: None };
}

/// Descriptors that are not sockets: files, pipes, epoll, and connections of self-checks.
const OTHER_DESCRIPTORS: u64 = 512;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// What is judged, and before it what that is compared with.
    pub(crate) baseline: Subject,
    pub(crate) judged: Subject,
    /// Unit of the value that is compared.
    pub(crate) unit: &'static str,
    pub(crate) prompt: Prompt,
    pub(crate) answers: Answers,
    pub(crate) tls: bool,
    /// Users in the config, each with a key.
    pub(crate) users: usize,
    pub(crate) shape: Shape,
    pub(crate) goal: Goal,
}

impl Workload {
    pub(crate) fn spec(self, include_usage: bool) -> Spec {
        let base = Spec {
            name: "small-32",
            baseline: Subject::Nginx,
            judged: Subject::Aiproxy,
            unit: "µs/call",
            prompt: Prompt::Small,
            answers: Answers::Json,
            tls: false,
            users: payload::USERS,
            shape: Shape::Closed { connections: 32, warm_up: 5_000, calls: 40_000 },
            goal: Goal { ratio: Some(1.0), ..Goal::NONE },
        };
        let stream = Prompt::Stream { include_usage };
        let planning = Spec {
            baseline: Subject::OneCredential,
            judged: Subject::FiftyCredentials,
            unit: "ns/call",
            shape: Shape::Planning { warm_up: 20_000, calls: 200_000 },
            goal: Goal { value: Some(3_000.0), ..Goal::NONE },
            ..base
        };
        let socket = Spec {
            name: "websocket-echo",
            unit: "µs/message",
            answers: Answers::Socket(Talk::Realtime),
            shape: Shape::Sockets { count: 32, warm_up: 160, turns: 1_600 },
            goal: Goal { ratio: Some(1.15), ..Goal::NONE },
            ..base
        };
        match self {
            Self::Small32 => base,
            Self::Small256 => Spec {
                name: "small-256",
                shape: Shape::Closed { connections: 256, warm_up: 5_000, calls: 40_000 },
                ..base
            },
            Self::SmallRate => Spec {
                name: "small-rate",
                shape: Shape::Rate { connections: 16, warm_up: 2_000, calls: 8_000, per_second: 2_000 },
                ..base
            },
            Self::Prompt100k => Spec {
                name: "prompt-100k",
                prompt: Prompt::Large,
                shape: Shape::Closed { connections: 32, warm_up: 1_000, calls: 10_000 },
                ..base
            },
            Self::Sse50 => Spec {
                name: "sse-50",
                unit: "µs/event",
                prompt: stream,
                answers: Answers::FastStream,
                shape: Shape::Closed { connections: 32, warm_up: 500, calls: 6_000 },
                goal: Goal { ratio: Some(1.05), ..base.goal },
                ..base
            },
            Self::Streams2000 => Spec {
                name: "streams-2000",
                unit: "µs/event",
                prompt: stream,
                answers: Answers::SlowStream,
                shape: Shape::Streams { count: 2_000, warm_up: 64 },
                goal: Goal { stream_kib: Some(18.0), ..base.goal },
                ..base
            },
            Self::TlsSmall => Spec {
                name: "tls-small",
                tls: true,
                shape: Shape::Closed { connections: 32, warm_up: 5_000, calls: 25_000 },
                ..base
            },
            Self::Idle => Spec {
                name: "idle",
                unit: "MB",
                shape: Shape::Idle { seconds: 3 },
                goal: Goal { value: Some(20.0), ..Goal::NONE },
                ..base
            },
            Self::ThreeChannels => Spec {
                name: "three-channels",
                baseline: Subject::Aiproxy,
                judged: Subject::ThreeChannels,
                goal: Goal { ratio: Some(1.1), ..Goal::NONE },
                ..base
            },
            Self::Planning => Spec { name: "planning", ..planning },
            Self::PlanningAffinity => Spec { name: "planning-affinity", judged: Subject::Affinity, ..planning },
            Self::Keys100000 => Spec {
                name: "keys-100000",
                baseline: Subject::Aiproxy,
                judged: Subject::Reloading,
                unit: "µs p99",
                users: payload::MANY_USERS,
                shape: Shape::Reloads {
                    connections: 16,
                    warm_up: 2_000,
                    calls: 10_000,
                    per_second: 1_000,
                    quiet_reloads: 5,
                },
                goal: Goal { ratio: Some(1.1), rss_mb: Some(100.0), reload_ms: Some(1_000.0), ..Goal::NONE },
                ..base
            },
            Self::WebsocketEcho => socket,
            Self::WebsocketBlind => Spec {
                name: "websocket-blind",
                answers: Answers::Socket(Talk::Echo),
                goal: Goal { ratio: Some(1.05), ..Goal::NONE },
                ..socket
            },
            Self::WebsocketRate => Spec {
                name: "websocket-rate",
                unit: "µs p99",
                shape: Shape::SocketRate { count: 50, turns: 4, per_second: 1_000 },
                goal: Goal { added_p99_us: Some(1_000.0), ..Goal::NONE },
                ..socket
            },
            Self::WebsocketIdle => Spec {
                name: "websocket-idle",
                unit: "KiB/socket",
                answers: Answers::Socket(Talk::RealtimeShort),
                shape: Shape::IdleSockets { count: 10_000, warm_up: 64 },
                goal: Goal { value: Some(16.0), ..Goal::NONE },
                ..socket
            },
        }
    }
}

impl Spec {
    /// Whether calls without a proxy are a yardstick, too.
    pub(crate) fn has_direct(&self) -> bool {
        !matches!(self.shape, Shape::Idle { .. } | Shape::IdleSockets { .. } | Shape::Planning { .. })
    }

    /// Chunks with content of a streamed answer.
    pub(crate) fn chunks(&self) -> Option<usize> {
        match self.answers {
            Answers::Json | Answers::Socket(_) => None,
            Answers::FastStream => Some(payload::FAST_CHUNKS),
            Answers::SlowStream => Some(payload::SLOW_CHUNKS),
        }
    }

    /// What is said, if calls are sockets.
    pub(crate) fn talk(&self) -> Option<Talk> {
        match self.answers {
            Answers::Socket(talk) => Some(talk),
            _ => None,
        }
    }

    /// Whether events or messages are counted, not calls.
    pub(crate) fn counts_events(&self) -> bool {
        self.answers != Answers::Json
    }

    /// Sockets that are open at the same time, one more for the self-check not counted.
    pub(crate) fn sockets(&self) -> usize {
        match self.shape {
            Shape::Sockets { count, .. } | Shape::SocketRate { count, .. } | Shape::IdleSockets { count, .. } => count,
            _ => 0,
        }
    }

    /// The same with no more sockets than two descriptors each allow, which both a proxy and this process need.
    pub(crate) fn within(mut self, descriptors: u64) -> Self {
        let most = usize::try_from(descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2).unwrap_or(usize::MAX);
        if let Shape::IdleSockets { count, .. } = &mut self.shape {
            *count = (*count).min(most);
        }
        self
    }

    pub(crate) fn expected(&self) -> Expected {
        match self.chunks() {
            None => Expected::Bytes(payload::answer().len() as u64),
            Some(chunks) => {
                let usage = matches!(self.prompt, Prompt::Stream { include_usage: true });
                // [DONE] is an event too.
                Expected::Events(chunks as u64 + 1 + u64::from(usage))
            }
        }
    }

    /// The same with all counts multiplied; the number of connections, the rate and the waits stay.
    pub(crate) fn scaled(mut self, scale: f64) -> Self {
        let times = |count: u64| ((count as f64 * scale) as u64).max(1);
        match &mut self.shape {
            Shape::Closed { warm_up, calls, .. } | Shape::Planning { warm_up, calls } => {
                (*warm_up, *calls) = (times(*warm_up), times(*calls));
            }
            Shape::Rate { warm_up, calls, .. } | Shape::Reloads { warm_up, calls, .. } => {
                *warm_up = times(*warm_up);
                *calls = u32::try_from(times(u64::from(*calls))).unwrap_or(u32::MAX);
            }
            Shape::Sockets { warm_up, turns, .. } => (*warm_up, *turns) = (times(*warm_up), times(*turns)),
            Shape::SocketRate { turns, .. } => *turns = u32::try_from(times(u64::from(*turns))).unwrap_or(u32::MAX),
            Shape::Streams { .. } | Shape::Idle { .. } | Shape::IdleSockets { .. } => {}
        }
        self
    }
}
