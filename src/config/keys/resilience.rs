//! The keys of an upstream for the days when something fails: what is tried again and where, when
//! a backend is spared, and how it is asked whether it is well.
use super::cache::OFF;
use super::{Section, Shape, key, optional};

/// In the order of `Balance::ALL`.
pub(in crate::config) const BALANCES: &[&str] = &["least_busy", "prefix", "session", "round_robin"];

const HEALTH_PATH: Shape = Shape::Text("a path that starts with /, like /health");

pub(super) const RETRIES: Shape = Shape::AnyOf(&[&OFF, &Shape::Section(&RETRY)]);
pub(super) const BREAKERS: Shape = Shape::AnyOf(&[&OFF, &Shape::Section(&BREAKER)]);
pub(super) const CHECKS: Shape = Shape::AnyOf(&[&HEALTH_PATH, &Shape::Section(&HEALTH)]);
pub(super) const HEDGES: Shape =
    Shape::AnyOf(&[&Shape::Word(&["off", "on"]), &Shape::Section(&HEDGE)]);

pub(in crate::config) static RETRY: Section = Section {
    title: "Trying again, as long as nothing of an answer's content was passed on",
    keys: &[
        key(
            "attempts",
            &Shape::Count(1),
            "3",
            "Times a call may be sent, the first included; 20 at most.",
        ),
        key(
            "budget",
            &Shape::Weight,
            "20%",
            "Attempts beyond the first, as a share of the calls of the last 10s; 100 in that time are \
             always allowed.",
        ),
        key(
            "backoff",
            &Shape::Duration,
            "100ms",
            "The pause before the same upstream is asked again; doubled each time, with jitter.",
        ),
        key(
            "longest",
            &Shape::Duration,
            "5s",
            "The longest pause; a backend that asks for more is not waited for.",
        ),
        key(
            "hold",
            &Shape::Duration,
            "2s",
            "How long the head of a stream is kept back until its first content, so that an error \
             in it can still be answered by another target; 0s: not at all.",
        ),
        optional(
            "slow",
            &Shape::Duration,
            "A stream without content by then is given up for another target. Without it: it is \
             waited for.",
        ),
        key(
            "on_timeout",
            &Shape::Flag,
            "false",
            "Whether a call whose deadline has passed is tried elsewhere; it may be billed twice.",
        ),
        key(
            "in_place",
            &Shape::Flag,
            "false",
            "Whether an upstream with one address and one key is asked again itself; the SDKs of \
             its callers do that already.",
        ),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static BREAKER: Section = Section {
    title: "When a backend gets no calls for a while",
    keys: &[
        key("errors", &Shape::Weight, "50%", "Share of attempts in the window that failed."),
        key("window", &Shape::Duration, "10s", "What that share is counted over."),
        key(
            "least",
            &Shape::Count(1),
            "20",
            "Attempts in the window below which the share says nothing.",
        ),
        key("failures", &Shape::Count(1), "5", "Failures in a row, whatever the share."),
        key(
            "open",
            &Shape::Duration,
            "15s",
            "How long it gets none; twice as long after each probe that fails.",
        ),
        key("longest", &Shape::Duration, "5m", "And at most."),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static HEALTH: Section = Section {
    title: "Asking each address whether it is well, beside the calls",
    keys: &[
        optional(
            "path",
            &HEALTH_PATH,
            "Asked with GET, below the path of the url; any 2xx is well.",
        ),
        key("every", &Shape::Duration, "10s", "How often."),
        key("timeout", &Shape::Duration, "2s", "No answer by then is a failure."),
        key("failures", &Shape::Count(1), "3", "In a row, until an address is taken out."),
        key("successes", &Shape::Count(1), "2", "In a row, until it is taken back."),
    ],
    required: &["path"],
    later: &[],
};

pub(in crate::config) static HEDGE: Section = Section {
    title: "A second request when the first token is late",
    keys: &[
        optional(
            "after",
            &Shape::Duration,
            "When. Without it: later than the model's own history lets expect.",
        ),
        key("budget", &Shape::Weight, "5%", "Share of requests and of tokens."),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static WEBSOCKET: Section = Section {
    title: "Sessions over WebSocket",
    keys: &[
        optional("sessions", &Shape::Count(1), "Most at once. Without it: no bound."),
        key("idle", &Shape::Duration, "10m", "Closed without a byte from either side."),
        key("longest", &Shape::Duration, "2h", "Closed after this in any case."),
    ],
    required: &[],
    later: &[],
};
