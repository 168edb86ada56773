//! The keys under `tasks`.
use super::{Section, Shape, key, optional};

/// In the order of `Offload::ALL`.
pub(in crate::config) const OFFLOADS: &[&str] = &["always", "offered", "never"];
/// In the order of `TaskEnd::ALL`.
pub(in crate::config) const ENDS: &[&str] =
    &["succeeded", "failed", "cancelled", "expired", "interrupted"];

pub(in crate::config) static TASKS: Section = Section {
    title: "Calls that are answered at once and made in the background",
    keys: &[
        key("workers", &Shape::Count(1), "32", "Most tasks that run at once."),
        optional("per_agent", &Shape::Section(&PER_AGENT), "What one agent may have here."),
        key("keep", &Shape::Duration, "24h", "How long a result is kept."),
        key(
            "max_age",
            &Shape::Duration,
            "24h",
            "A task that has not come to its end by then is expired.",
        ),
        key(
            "attempts",
            &Shape::Count(1),
            "3",
            "Times a task may be tried, the first included; 20 at most.",
        ),
        key("max_result", &Shape::Size, "32MiB", "Largest result; at most `per_agent.bytes`."),
        optional(
            "webhooks",
            &Shape::Names(&Shape::Section(&WEBHOOK)),
            "Who can be told of the ends of tasks, by name; a caller gives the name, never a url.",
        ),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static PER_AGENT: Section = Section {
    title: "What one agent may have",
    keys: &[
        key("count", &Shape::Count(1), "1000", "Tasks that are not over."),
        key(
            "bytes",
            &Shape::Size,
            "256MiB",
            "All that is kept of its tasks: requests, results, and 1 KiB for each.",
        ),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static WEBHOOK: Section = Section {
    title: "A target of webhooks (standardwebhooks.com)",
    keys: &[
        optional(
            "url",
            &Shape::Text("https://host[:port]/path; http:// with private: true"),
            "Where messages are posted.",
        ),
        optional(
            "secret",
            &Shape::AnyOf(&[&Shape::Secret, &Shape::List(&Shape::Secret)]),
            "What messages are signed with: whsec_ and 24 to 64 bytes in base64. Of several each \
             signs, so that a new one can be given out before the old one ends.",
        ),
        key(
            "events",
            &Shape::List(&Shape::Word(ENDS)),
            "[succeeded, failed, cancelled, expired, interrupted]",
            "Of which ends it is told.",
        ),
        key(
            "private",
            &Shape::Flag,
            "false",
            "Whether it may be at an address that is not public, or without TLS.",
        ),
    ],
    required: &["url", "secret"],
    later: &[],
};
