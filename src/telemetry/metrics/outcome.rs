//! How calls end, as label values.

/// How a call ended. Closed: each is a label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The whole answer passed, to its terminal event.
    Complete,
    /// A clean end without the terminal event.
    Truncated,
    /// A status of 500 or more, or an error event.
    UpstreamError,
    /// The connection failed or died.
    UpstreamBroken,
    /// We said no.
    Refused,
    ClientGone,
    /// An operator ended it.
    Cancelled,
    Deadline(Deadline),
}

/// The deadlines of a call, by what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Deadline {
    Queue,
    Connect,
    FirstByte,
    FirstContent,
    Idle,
    BetweenTokens,
    Total,
    /// The client's own request body.
    Body,
}

impl Outcome {
    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Truncated => "truncated",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamBroken => "upstream_broken",
            Self::Refused => "refused",
            Self::ClientGone => "client_gone",
            Self::Cancelled => "cancelled",
            Self::Deadline(Deadline::Queue) => "deadline_queue",
            Self::Deadline(Deadline::Connect) => "deadline_connect",
            Self::Deadline(Deadline::FirstByte) => "deadline_first_byte",
            Self::Deadline(Deadline::FirstContent) => "deadline_first_content",
            Self::Deadline(Deadline::Idle) => "deadline_idle",
            Self::Deadline(Deadline::BetweenTokens) => "deadline_between_tokens",
            Self::Deadline(Deadline::Total) => "deadline_total",
            Self::Deadline(Deadline::Body) => "deadline_body",
        }
    }
}

impl Deadline {
    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::FirstContent => "first_content",
            Self::Idle => "idle",
            Self::BetweenTokens => "between_tokens",
            Self::Total => "total",
            Self::Body => "body",
        }
    }
}
