//! `routes`: first match wins. Those that were written, or else those that follow from the
//! upstreams: `/NAME` for each, and the bare paths of the SDKs to the first of each dialect.
use std::sync::Arc;

use super::fault::nearest;
use super::keys::ROUTE;
use super::read::{At, Reader, words};
use super::{Route, Upstream};
use crate::units::glob_covers;
use crate::wire::Dialect;

/// Prefixes first: a prefix is what the caller chose, a bare path only tells the dialect.
pub(super) fn standard(upstreams: &[Upstream]) -> Vec<Route> {
    let prefixes = upstreams.iter().enumerate().map(|(to, upstream)| Route {
        path: Arc::from(format!("/{}", upstream.name)),
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

/// Reads `routes`; `names` are the upstreams as written, also those that are at fault.
pub(super) fn routes(
    reader: &Reader<'_>,
    at: &At<'_>,
    upstreams: &[Upstream],
    names: &[&str],
) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for item in reader.list(at, "a list of rules like { path: /v1, to: openai }") {
        let Some(route) = route(reader, &item, upstreams, names) else { continue };
        if let Some(earlier) = routes.iter().find(|earlier| shadows(earlier, &route)) {
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

fn route(
    reader: &Reader<'_>,
    at: &At<'_>,
    upstreams: &[Upstream],
    names: &[&str],
) -> Option<Route> {
    let fields = reader.section(at, &ROUTE)?;
    let path = fields.maybe("path", path);
    let model = fields.maybe("model", |r, at| {
        r.text(at, "a glob over names of models, like gpt-*")
            .map(|text| Arc::<str>::from(text.value))
    });
    let name =
        fields.maybe("name", |r, at| r.text(at, "a name").map(|text| Arc::<str>::from(text.value)));
    let to = fields.needed("to", "the key `to` with the name of an upstream");
    let to = to.and_then(|at| target(reader, &at, upstreams, names));
    // the rest was read for its faults
    let to = to?;
    let path = if fields.get("path").is_some() { path? } else { Arc::from("") };
    let name = name.unwrap_or_else(|| match (&*path, &model) {
        ("", None) => Arc::from("*"),
        ("", Some(model)) => Arc::clone(model),
        (_, None) => Arc::clone(&path),
        (path, Some(model)) => Arc::from(format!("{path} {model}")),
    });
    Some(Route { path, model, ..Route::new(&name, to) })
}

/// The index of the upstream that is named.
fn target(
    reader: &Reader<'_>,
    at: &At<'_>,
    upstreams: &[Upstream],
    names: &[&str],
) -> Option<usize> {
    let expected = format!("an upstream: {}", words(names.iter().copied()));
    let text = reader.text(at, &expected)?;
    if !names.contains(&text.value.as_ref()) {
        let hint = nearest(&text.value, names.iter().copied());
        let found = format!("{}, which is no upstream", text.shown());
        reader.fault_near(at.node.place, &at.path, found, &expected, hint);
    }
    upstreams.iter().position(|upstream| *upstream.name == *text.value)
}

/// Normalised as the gate normalises the paths of requests, so that the two can meet.
fn path(reader: &Reader<'_>, at: &At<'_>) -> Option<Arc<str>> {
    const EXPECTED: &str = "a path that starts with /, like /v1";
    let text = reader.text(at, EXPECTED)?;
    let path = text.value.as_ref();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&b);
    let expected = if !path.starts_with('/') {
        EXPECTED
    } else if path.contains(['?', '#']) {
        "a path without query or fragment: rules look at the path alone"
    } else if path.contains('*') {
        "a prefix without `*`: it matches all that is under it"
    } else if !path.bytes().all(allowed) {
        "a path of plain ASCII characters, without % and spaces"
    } else if path.split('/').any(|segment| segment == "." || segment == "..") {
        "a path without `.` and `..`"
    } else {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let joined: String = segments.iter().flat_map(|segment| ["/", segment]).collect();
        return Some(Arc::from(joined));
    };
    reader.wrong(at, text.shown(), expected);
    None
}

/// Does `early` take every call that `late` would?
fn shadows(early: &Route, late: &Route) -> bool {
    let path = late.path.strip_prefix(&*early.path);
    let path = path.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let model = match (&early.model, &late.model) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => glob_covers(wide, narrow),
        (Some(_), None) => false,
    };
    path && model && early.dialect.is_none()
}
