//! A route as YAML, on one line.
use std::fmt::{self, Write as _};

use super::{dialect, quoted};
use crate::config::{Config, Exhausted, Goal, Route};

pub(super) fn write_route(out: &mut String, route: &Route, config: &Config) -> fmt::Result {
    let to = targets(&route.to, config);
    if let Some(told) = route.dialect {
        // made for the bare paths of the SDKs; no file can say this
        let told = dialect(told);
        return writeln!(out, "  # bare paths of the {told} SDKs: {to} ({})", route.name);
    }
    let path = if route.path.is_empty() { "/" } else { &route.path };
    let mut fields = vec![("path", quoted(path)), ("to", to)];
    for (name, glob) in [("model", &route.model), ("agent", &route.agent)] {
        fields.extend(glob.as_ref().map(|glob| (name, quoted(glob))));
    }
    fields.extend(route.class.map(|class| ("class", class.as_str().to_owned())));
    if !route.headers.is_empty() {
        fields.push(("headers", pairs(&route.headers)));
    }
    if !route.fallback.is_empty() {
        let all: Vec<String> = route.fallback.iter().map(|goal| fallback(goal, config)).collect();
        fields.push(("fallback", format!("[{}]", all.join(", "))));
    }
    if !route.models.is_empty() {
        fields.push(("models", pairs(&route.models)));
    }
    fields.extend(route.concurrency.map(|places| ("concurrency", places.to_string())));
    let exhausted = match &route.on_exhausted {
        Exhausted::Refuse => "refuse".to_owned(),
        Exhausted::Queue => "queue".to_owned(),
        Exhausted::Downgrade(model) => format!("{{ model: {} }}", quoted(model)),
    };
    fields.push(("on_exhausted", exhausted));
    fields.push(("async", route.offload.as_str().to_owned()));
    fields.push(("name", quoted(&route.name)));
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    writeln!(out, "  - {{ {} }}", fields.join(", "))
}

/// A name alone, or names with their shares.
fn targets(goals: &[Goal], config: &Config) -> String {
    if let [Goal { to, weight: 1, .. }] = goals {
        return name(*to, config);
    }
    let share = |goal: &Goal| format!("{}: {}", name(goal.to, config), goal.weight);
    let shares: Vec<String> = goals.iter().map(share).collect();
    format!("{{ {} }}", shares.join(", "))
}

fn fallback(goal: &Goal, config: &Config) -> String {
    let name = name(goal.to, config);
    match &goal.model {
        Some(model) => format!("{{ to: {name}, model: {} }}", quoted(model)),
        None => name,
    }
}

fn name(upstream: usize, config: &Config) -> String {
    quoted(config.upstreams.get(upstream).map_or("", |upstream| &*upstream.name))
}

fn pairs(pairs: &[(impl fmt::Display, impl fmt::Display)]) -> String {
    let pair = |(key, value): &(_, _)| format!("{}: {}", quoted(key), quoted(value));
    let pairs: Vec<String> = pairs.iter().map(pair).collect();
    format!("{{ {} }}", pairs.join(", "))
}
