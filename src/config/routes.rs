//! `routes`: first match wins. Those that were written, or else those that follow from the
//! upstreams: `/NAME` for each, and the bare paths of the SDKs to the first of each dialect.
mod goals;
mod matching;

use std::fmt::Write as _;
use std::sync::Arc;

use super::file::{Kind, Node};
use super::keys::{CLASSES, OFFLOADS, ROUTE};
use super::read::{At, Reader};
use super::{Exhausted, Offload, Route, Upstream};
use crate::identity::Class;
use crate::wire::Dialect;
use goals::Backends;

const GLOB: &str = "a glob like gpt-*";
/// Most places of a route.
const MOST: u64 = 1_000_000;

/// Prefixes first: a prefix is what the caller chose, a bare path only tells the dialect.
pub(super) fn standard(upstreams: &[Upstream]) -> Vec<Route> {
    let prefixes = upstreams.iter().enumerate().map(|(to, upstream)| Route {
        path: Arc::from(format!("/{}", upstream.name)),
        name: Arc::clone(&upstream.name),
        ..Route::new(&upstream.name, to)
    });
    let bare = [
        (Dialect::OpenAi, "sdk-openai"),
        (Dialect::Anthropic, "sdk-anthropic"),
        (Dialect::Gemini, "sdk-gemini"),
        (Dialect::Ollama, "sdk-ollama"),
    ];
    let bare = bare.into_iter().filter_map(|(dialect, name)| {
        let to = upstreams.iter().position(|upstream| upstream.dialect == dialect)?;
        Some(Route { dialect: Some(dialect), ..Route::new(name, to) })
    });
    prefixes.chain(bare).collect()
}

/// Whether calls of some route may wait for an upstream that has no bound of its own. Looks at the
/// tree alone: routes are read after the upstreams. In doubt a yes.
pub(super) fn some_wait(node: &Node) -> bool {
    let Kind::List(items) = &node.kind else { return false };
    items
        .iter()
        .filter_map(|item| match &item.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        })
        .flatten()
        .any(|entry| match (entry.key.as_str(), &entry.value.kind) {
            ("concurrency", _) => true,
            ("on_exhausted", Kind::Text(word)) => word != "refuse",
            _ => false,
        })
}

/// Reads `routes`; `names` are the upstreams as written, also those that are at fault, and `tasks`
/// says whether calls can become such.
pub(super) fn routes(
    reader: &Reader<'_>,
    at: &At<'_>,
    upstreams: &[Upstream],
    names: &[&str],
    tasks: bool,
) -> Vec<Route> {
    let backends = Backends { sound: upstreams, names };
    let mut routes: Vec<Route> = Vec::new();
    for item in reader.list(at, "a list of rules like { path: /v1, to: openai }") {
        let Some(route) = route(reader, &item, &backends, tasks) else { continue };
        if let Some(earlier) = routes.iter().find(|earlier| matching::shadows(earlier, &route)) {
            let found =
                format!("a rule that is never reached: `{}` takes all its calls", earlier.name);
            reader.wrong(&item, found, "the narrower rule before the wider one");
        }
        if routes.iter().any(|earlier| earlier.name == route.name) {
            let found = format!("a second rule by the name `{}`", route.name);
            reader.wrong(&item, found, "a name of its own for each rule");
        }
        routes.push(route);
    }
    routes
}

fn route<'r>(
    reader: &'r Reader<'r>,
    at: &At<'_>,
    backends: &Backends<'_>,
    tasks: bool,
) -> Option<Route> {
    let fields = reader.section(at, &ROUTE)?;
    let path = fields.maybe("path", matching::path);
    let model =
        fields.maybe("model", |r, at| r.shared(at, "a glob over names of models, like gpt-*"));
    let name = fields.maybe("name", |r, at| r.shared(at, "a name"));
    let concurrency = fields.maybe("concurrency", |r, at| r.count(at, 1, MOST));
    let (to, fallback) = goals::goals(reader, &fields, backends);
    let mut route = Route {
        agent: fields.maybe("agent", |r, at| r.shared(at, GLOB)),
        class: fields.maybe("class", |r, at| r.choice(at, CLASSES, &Class::ALL)),
        headers: fields.read("headers", Vec::new(), |r, at| Some(matching::headers(r, at))),
        to,
        fallback,
        models: fields
            .read("models", Vec::new(), |r, at| Some(goals::models(r, at, model.as_deref()))),
        model,
        concurrency: concurrency.map(|places| places as usize),
        on_exhausted: fields.read("on_exhausted", Exhausted::Refuse, goals::exhausted),
        offload: fields.read("async", Offload::Offered, |r, at| offload(r, at, tasks)),
        ..Route::new("", 0)
    };
    // the rest was read for its faults
    if route.to.is_empty() {
        return None;
    }
    route.path = if fields.get("path").is_some() { path? } else { route.path };
    route.name = name.unwrap_or_else(|| own_name(&route));
    Some(route)
}

/// `tasks`: there are such.
fn offload(reader: &Reader<'_>, at: &At<'_>, tasks: bool) -> Option<Offload> {
    let offload = reader.choice(at, OFFLOADS, &Offload::ALL)?;
    if offload == Offload::Always && !tasks {
        let expected = "`state` at the root, like `state: ./tidegate-data`, and no `tasks: off`";
        reader.wrong(at, "`async: always` without tasks", expected);
    }
    Some(offload)
}

/// What the rule asks for, in few words.
fn own_name(route: &Route) -> Arc<str> {
    let mut name = route.path.to_string();
    let more = route.model.as_deref().map(str::to_owned).into_iter();
    let more = more
        .chain(route.agent.as_deref().map(|agent| format!("agent:{agent}")))
        .chain(route.class.map(|class| format!("class:{}", class.as_str())))
        .chain(route.headers.iter().map(|(header, glob)| format!("{header}:{glob}")));
    for word in more {
        let gap = if name.is_empty() { "" } else { " " };
        // writing to a String cannot fail
        let _ = write!(name, "{gap}{word}");
    }
    if name.is_empty() { Arc::from("*") } else { Arc::from(name) }
}
