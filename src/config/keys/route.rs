//! The keys under `routes`.
use super::policies::CLASSES;
use super::tasks::OFFLOADS;
use super::{GLOB, Section, Shape, optional};

const UPSTREAM: Shape = Shape::Text("the name of an upstream");
const MODEL: Shape = Shape::Text("the name of a model");

pub(in crate::config) static ROUTE: Section = Section {
    title: "One rule: which call goes where",
    keys: &[
        optional(
            "path",
            &Shape::Text("a path that starts with /"),
            "Prefix to match, on a segment boundary; it is stripped. Without it: any path.",
        ),
        optional("model", &GLOB, "Only calls for such a model, as the caller says it."),
        optional("agent", &GLOB, "Only calls of such an agent."),
        optional("class", &Shape::Word(CLASSES), "Only calls that say they are so urgent."),
        optional(
            "headers",
            &Shape::Names(&GLOB),
            "Only calls with all of these headers; none that holds credentials.",
        ),
        optional(
            "to",
            &Shape::AnyOf(&[&UPSTREAM, &Shape::Names(&Shape::Count(1))]),
            "The upstream; or several, each with its share of the calls.",
        ),
        optional(
            "fallback",
            &Shape::List(&Shape::AnyOf(&[&UPSTREAM, &Shape::Section(&GOAL)])),
            "Tried in this order when those in `to` have failed. Of the same dialect.",
        ),
        optional(
            "models",
            &Shape::Names(&MODEL),
            "Other names for models, by globs over what the caller says; the first match wins.",
        ),
        optional(
            "concurrency",
            &Shape::Count(1),
            "Most calls at once, with a queue of its own. Without it: none of its own.",
        ),
        super::key(
            "on_exhausted",
            &Shape::AnyOf(&[&Shape::Word(&["refuse", "queue"]), &Shape::Section(&EXHAUSTED)]),
            "refuse",
            "What becomes of a call that no target can take. queue: it waits, as long as \
             `timeouts.queue` of its upstream; a mapping: all are asked for another model.",
        ),
        super::key(
            "async",
            &Shape::Word(OFFLOADS),
            "offered",
            "Whether its calls become tasks. offered: those that say `Prefer: respond-async`; always: \
             all of them; never: none. Of use with `tasks`.",
        ),
        optional(
            "name",
            &Shape::Text("a name"),
            "How logs and metrics call it. Without it: path, model and what else it asks for.",
        ),
    ],
    required: &["to"],
    later: &["cache", "limits", "queue", "weight", "match"],
};

pub(in crate::config) static GOAL: Section = Section {
    title: "An upstream, asked for another model",
    keys: &[
        optional("to", &UPSTREAM, "The upstream."),
        optional("model", &MODEL, "The model it is asked for. Without it: the one the call names."),
    ],
    required: &["to"],
    later: &[],
};

pub(in crate::config) static EXHAUSTED: Section = Section {
    title: "All targets are asked once more",
    keys: &[optional("model", &MODEL, "For this model.")],
    required: &["model"],
    later: &[],
};
