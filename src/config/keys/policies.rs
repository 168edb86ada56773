//! The keys under `policies` and `prices`.
use super::cache::{CACHE, OFF};
use super::{GLOB, Section, Shape, key, optional};

/// In the order of `Class::ALL`.
pub(in crate::config) const CLASSES: &[&str] = &["interactive", "default", "batch"];
/// In the order of `Per::ALL`.
pub(in crate::config) const PERS: &[&str] =
    &["agent", "team", "session", "credential", "model", "route", "upstream", "all"];
/// In the order of `RunawayAction::ALL`.
pub(in crate::config) const ACTIONS: &[&str] = &["observe", "slow", "stop"];

const RATES: Shape = Shape::AnyOf(&[&Shape::Rate, &Shape::List(&Shape::Rate)]);
const SPENDS: Shape = Shape::AnyOf(&[&Shape::Spend, &Shape::List(&Shape::Spend)]);

pub(in crate::config) static PRICE: Section = Section {
    title: "Dollars for a million tokens",
    keys: &[
        optional("input", &Shape::Decimal, "Tokens of the prompt."),
        optional("output", &Shape::Decimal, "Tokens of the answer."),
        optional("cached_input", &Shape::Decimal, "Read from a cache. Without it: as input."),
        optional("cache_write", &Shape::Decimal, "Written to a cache. Without it: as input."),
        optional("reasoning", &Shape::Decimal, "Thought, not said. Without it: as output."),
    ],
    required: &["input", "output"],
    later: &[],
};

pub(in crate::config) static POLICY: Section = Section {
    title: "What calls may use up, and what is kept of them",
    keys: &[
        optional(
            "name",
            &Shape::Text("a name"),
            "How refusals and metrics call it. Without it: policy-1 for the first.",
        ),
        optional("match", &Shape::Section(&MATCH), "Which calls. Without it: all."),
        key(
            "per",
            &Shape::Word(PERS),
            "agent",
            "Who has limits of its own: each agent, each team, …, or all together.",
        ),
        key("weight", &Shape::Count(1), "1", "Share in the fair queue, up to 1000."),
        optional(
            "priority",
            &Shape::Word(CLASSES),
            "Who goes first in the queue. Without it: as the call says.",
        ),
        optional("limits", &Shape::Section(&LIMITS), "How much, and in what time."),
        optional(
            "token_weights",
            &Shape::Section(&TOKEN_WEIGHTS),
            "How much a token of each class counts against the limits of tokens.",
        ),
        optional(
            "queue",
            &Shape::Section(&QUEUE),
            "Wait in a fair queue. Without it: a full limit refuses at once.",
        ),
        optional("runaway", &Shape::Section(&RUNAWAY), "The guard against loops."),
        optional(
            "cache",
            &Shape::AnyOf(&[&OFF, &Shape::Section(&CACHE)]),
            "Whether answers are given a second time, and how; or `off`. The last policy that \
             matches a call and has a `cache` decides, whole; where none does, nothing is kept.",
        ),
        optional(
            "resume",
            &Shape::Duration,
            "How long a stream can be taken up again after its client was lost; 0s: not at all. The \
             last policy that matches a call and has a `resume` decides; where none does: not at all.",
        ),
        key(
            "cut_streams",
            &Shape::Flag,
            "false",
            "Whether a hard limit of spend may end a stream that would go past it.",
        ),
        key(
            "time_zone",
            &Shape::Text("a name like Europe/Berlin"),
            "UTC",
            "Where the hours, days and months of calendar budgets begin.",
        ),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static MATCH: Section = Section {
    title: "Which calls; all that is said must hold",
    keys: &[
        optional("agent", &GLOB, "Calls of such an agent."),
        optional("team", &GLOB, "Calls of such a team."),
        optional("session", &GLOB, "Calls in such a session."),
        optional("model", &GLOB, "Calls for such a model."),
        optional("route", &GLOB, "Calls on a route with such a name."),
        optional("upstream", &GLOB, "Calls to such an upstream."),
        optional("class", &Shape::Word(CLASSES), "Calls that say they are so urgent."),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static LIMITS: Section = Section {
    title: "How much, and in what time: one limit or a list of them",
    keys: &[
        optional("requests", &RATES, "Calls."),
        optional("input_tokens", &RATES, "Tokens of prompts."),
        optional("output_tokens", &RATES, "Tokens of answers."),
        optional("tokens", &RATES, "Both together."),
        optional("spend", &SPENDS, "Money, by the prices."),
        optional("concurrency", &Shape::AtOnce, "Calls at once."),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static TOKEN_WEIGHTS: Section = Section {
    title: "How much a token of each class counts",
    keys: &[
        key("cached_input", &Shape::Weight, "100%", "Read from the provider's cache."),
        key("cache_write", &Shape::Weight, "100%", "Written to the provider's cache."),
        key("reasoning", &Shape::Weight, "100%", "Thought, not said."),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static QUEUE: Section = Section {
    title: "Waiting instead of refusing",
    keys: &[
        key("wait", &Shape::Duration, "30s", "A call that waits longer is refused."),
        key(
            "depth",
            &Shape::Count(1),
            "256",
            "Most calls of one agent that wait; more are refused at once.",
        ),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static RUNAWAY: Section = Section {
    title: "The guard against loops",
    keys: &[
        key(
            "repeats",
            &Shape::Count(2),
            "5",
            "The same tool call with the same arguments, this often in a row.",
        ),
        key("factor", &Shape::Decimal, "10", "Burning so many times faster than it used to."),
        key(
            "action",
            &Shape::Word(ACTIONS),
            "observe",
            "observe: tell; slow: each further call waits longer; stop: refuse.",
        ),
    ],
    required: &[],
    later: &[],
};
