//! The stages of a call, and the longest silence in each.
use std::time::Duration;

/// Where a call is; each stage has its own longest silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The request's body is arriving.
    Reading,
    /// Standing in the fair queue.
    Queued,
    /// A connection is being made; the connector has its own timer.
    Connecting,
    /// The request is sent, nothing has come back.
    FirstByte,
    /// The answer is arriving.
    Answering,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Queued => "queued",
            Self::Connecting => "connecting",
            Self::FirstByte => "first_byte",
            Self::Answering => "answering",
        }
    }
}

/// Why the sweep ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// The client sent no more of its request.
    Reading,
    Queued,
    FirstByte,
    /// A stream was asked for, or a plain answer has begun, and none of its content has come.
    FirstContent,
    Idle,
    /// A stream is alive, and no more of its content comes.
    BetweenTokens,
    Total,
    /// It held most when there was no memory left.
    Overrun,
    /// An operator has ended it.
    Cancelled,
}

impl Expired {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "request_body",
            Self::Queued => "queue",
            Self::FirstByte => "first_byte",
            Self::FirstContent => "first_content",
            Self::Idle => "idle",
            Self::BetweenTokens => "between_tokens",
            Self::Total => "total",
            Self::Overrun => "overrun",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The longest silence allowed in each stage. `Duration::MAX`: any.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub reading: Duration,
    pub queued: Duration,
    pub first_byte: Duration,
    /// From the request's last byte to the first content of a stream, or of a plain answer's body.
    pub first_content: Duration,
    pub idle: Duration,
    /// The same while the first content of an answer is waited for.
    pub idle_before_content: Duration,
    /// From one piece of a stream's content to the next.
    pub between_tokens: Duration,
    /// Over the whole call; a stream that is sending is never cut by it.
    pub total: Duration,
    /// How long a client hears nothing of its stream of events before it is told that all is well.
    /// `None`: it is never told.
    pub heartbeat: Option<Duration>,
}

impl Limits {
    /// No deadline at all, and no heartbeats.
    pub const UNBOUNDED: Self = Self {
        reading: Duration::MAX,
        queued: Duration::MAX,
        first_byte: Duration::MAX,
        first_content: Duration::MAX,
        idle: Duration::MAX,
        idle_before_content: Duration::MAX,
        between_tokens: Duration::MAX,
        total: Duration::MAX,
        heartbeat: None,
    };
}

/// The same in milliseconds, as ticks are: there is one of these for every open stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub reading: u32,
    pub queued: u32,
    pub first_byte: u32,
    pub first_content: u32,
    pub idle: u32,
    pub idle_before_content: u32,
    pub between_tokens: u32,
    pub total: u32,
    pub heartbeat: u32,
}

impl From<Limits> for Bounds {
    #[inline]
    fn from(limits: Limits) -> Self {
        Self {
            reading: millis(limits.reading),
            queued: millis(limits.queued),
            first_byte: millis(limits.first_byte),
            first_content: millis(limits.first_content),
            idle: millis(limits.idle),
            idle_before_content: millis(limits.idle_before_content),
            between_tokens: millis(limits.between_tokens),
            total: millis(limits.total),
            heartbeat: limits.heartbeat.map_or(u32::MAX, millis),
        }
    }
}

/// Rounded up: no deadline is early. What is longer than ticks can tell is no bound.
#[inline]
pub(super) fn millis(time: Duration) -> u32 {
    let rest = time.subsec_nanos().div_ceil(1_000_000);
    let millis = |secs: u32| secs.saturating_mul(1000).saturating_add(rest);
    u32::try_from(time.as_secs()).map_or(u32::MAX, millis)
}
