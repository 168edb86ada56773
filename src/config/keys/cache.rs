//! The keys under `cache`, which stands in a policy.
use super::{Section, Shape, key, optional};

/// In the order of `Scope::ALL`.
pub(in crate::config) const SCOPES: &[&str] = &["credential", "agent", "team", "shared"];
/// In the order of `Replay::ALL`.
pub(in crate::config) const REPLAYS: &[&str] = &["at_once", "recorded"];
/// In the order of `SemanticMode::ALL`.
pub(in crate::config) const MODES: &[&str] = &["off", "shadow", "on"];

pub(super) const OFF: Shape = Shape::Word(&["off"]);

pub(in crate::config) static CACHE: Section = Section {
    title: "Answers that are given a second time",
    keys: &[
        optional("ttl", &Shape::Duration, "How long an answer may be given again."),
        key(
            "scope",
            &Shape::Word(SCOPES),
            "credential",
            "Who shares answers. An agent and a team are as proven as what names them: with open \
             access, by a header, that is the client's own word.",
        ),
        key("memory", &Shape::Size, "64MiB", "Most that the answers of this policy may take."),
        key(
            "disk",
            &Shape::AnyOf(&[&OFF, &Shape::Size]),
            "1GiB",
            "The same on disk, or `off`. Needs `state`; without that there is none.",
        ),
        key(
            "max_entry",
            &Shape::Size,
            "4MiB",
            "A larger answer is not kept, and no other call joins it. At most `memory`.",
        ),
        optional(
            "temperature",
            &Shape::AtMost,
            "Only calls with such a temperature. Without it: whatever it is.",
        ),
        key("tool_calls", &Shape::Flag, "true", "Whether answers that call tools are kept."),
        key(
            "replay",
            &Shape::Word(REPLAYS),
            "at_once",
            "How a stream is given again; recorded: with the pauses that it came with.",
        ),
        key(
            "coalesce",
            &Shape::Flag,
            "true",
            "Whether identical calls at the same time share one call to the backend.",
        ),
        key(
            "embeddings",
            &Shape::Flag,
            "true",
            "Whether inputs of embeddings are kept one by one: a batch sends what is missing.",
        ),
        key(
            "control",
            &Shape::Flag,
            "true",
            "Whether requests may say Cache-Control and x-tidegate-cache-*.",
        ),
        key(
            "canonical",
            &Shape::Flag,
            "false",
            "Whether questions that differ in case, punctuation or politeness alone are one.",
        ),
        key(
            "semantic",
            &Shape::AnyOf(&[&Shape::Word(MODES), &Shape::Section(&SEMANTIC)]),
            "off",
            "Whether questions that mean the same are one: off, shadow, on, or a mapping.",
        ),
    ],
    required: &["ttl"],
    later: &["merge"],
};

pub(in crate::config) static SEMANTIC: Section = Section {
    title: "Questions that mean the same",
    keys: &[
        key(
            "mode",
            &Shape::Word(MODES),
            "shadow",
            "shadow: serves nothing, measures what it would have served; on: serves.",
        ),
        key(
            "threshold",
            &Shape::Decimal,
            "0.8",
            "Least cosine of two questions, from 0.5 to 1. It may rise by itself, never fall.",
        ),
        key(
            "ttl",
            &Shape::Duration,
            "1h",
            "How long an answer may be given to a question like its own; at most that of `cache`.",
        ),
        key(
            "explore",
            &Shape::Weight,
            "5%",
            "Share of would-be hits that goes to the backend all the same, to compare.",
        ),
        key(
            "max_wrong",
            &Shape::Weight,
            "2%",
            "Most wrong answers among hits; past it the threshold rises.",
        ),
        key(
            "temperature",
            &Shape::Decimal,
            "0.7",
            "Calls with a higher temperature are not looked up.",
        ),
        key(
            "entries",
            &Shape::Count(1),
            "10000",
            "Most questions that are compared with one another, 50000 at most.",
        ),
        key(
            "embedder",
            &Shape::AnyOf(&[&Shape::Word(&["builtin"]), &Shape::Section(&EMBEDDER)]),
            "builtin",
            "What turns a question into a vector: the table in this program, or an upstream.",
        ),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static EMBEDDER: Section = Section {
    title: "An upstream that embeds questions",
    keys: &[
        optional(
            "upstream",
            &Shape::Text("the name of an upstream"),
            "Of the dialect openai; questions go to its /v1/embeddings, with its own key.",
        ),
        optional("model", &Shape::Text("the name of a model"), "Its model."),
    ],
    required: &["upstream", "model"],
    later: &[],
};
