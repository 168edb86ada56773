//! Reads `policies`. A policy that does nothing, a key that does nothing beside the others, and a
//! glob that no name fits are faults.
use std::sync::Arc;
use std::time::Duration;

use super::{
    Limit, Matcher, Measure, Mode, Per, Policy, Queue, Runaway, RunawayAction, TokenWeights,
    Window, cache,
};
use crate::config::fault::nearest;
use crate::config::file::Kind;
use crate::config::keys::{
    ACTIONS, CLASSES, LIMITS, MATCH, PERS, POLICY, QUEUE, RUNAWAY, TOKEN_WEIGHTS,
};
use crate::config::known::Known;
use crate::config::read::{At, Fields, Reader};
use crate::identity::Class;
use crate::units::{self, UnitError};

const MOST_WEIGHT: u64 = 1000;
const MOST: u64 = 1_000_000;
const LONGEST_RESUME: Duration = Duration::from_hours(1);
const GLOB: &str = "a glob like gpt-*";

/// In the order of the file. One that is at fault is left out.
pub(in crate::config) fn policies(
    reader: &Reader<'_>,
    at: &At<'_>,
    known: &Known<'_>,
) -> Vec<Policy> {
    let mut policies: Vec<(&At<'_>, Policy)> = Vec::new();
    let items = reader.list(at, "a list of rules like { limits: { tokens: 400k/min } }");
    for (index, item) in items.iter().enumerate() {
        let Some(policy) = policy(reader, item, index, known) else { continue };
        if policies.iter().any(|(_, earlier)| earlier.name == policy.name) {
            let found = format!("a second policy by the name `{}`", policy.name);
            reader.wrong(item, found, "a name of its own for each policy");
        }
        policies.push((item, policy));
    }
    cache::overruled(reader, &policies);
    policies.into_iter().map(|(_, policy)| policy).collect()
}

fn policy<'r>(
    reader: &'r Reader<'r>,
    at: &At<'_>,
    index: usize,
    known: &Known<'_>,
) -> Option<Policy> {
    let fields = reader.section(at, &POLICY)?;
    let acts = ["limits", "queue", "weight", "priority", "runaway", "cache", "resume"];
    if acts.iter().all(|key| fields.get(key).is_none()) {
        let expected = "`limits`, `queue`, `weight`, `priority`, `runaway`, `cache` or `resume`";
        reader.wrong(at, "a policy that does nothing", expected);
    }
    let default = Policy::default();
    let before = reader.faults.borrow().len();
    let limits = fields.read("limits", Vec::new(), limits);
    let sound = reader.faults.borrow().len() == before;
    let policy = Policy {
        name: fields.read("name", Arc::from(format!("policy-{}", index + 1)), name),
        matches: fields.read("match", default.matches, |r, at| matcher(r, at, known)),
        per: fields.read("per", default.per, |r, at| r.choice(at, PERS, &Per::ALL)),
        weight: fields.read("weight", 1, |r, at| r.count(at, 1, MOST_WEIGHT)) as u32,
        priority: fields.maybe("priority", |r, at| r.choice(at, CLASSES, &Class::ALL)),
        limits,
        token_weights: fields.read("token_weights", default.token_weights, token_weights),
        queue: fields.maybe("queue", queue),
        runaway: fields.maybe("runaway", runaway),
        cache: fields.maybe("cache", |r, at| cache::rule(r, at, known)),
        resume: fields.maybe("resume", resume),
        cut_streams: fields.read("cut_streams", default.cut_streams, Reader::flag),
        time_zone: fields.read("time_zone", default.time_zone, time_zone),
    };
    if sound {
        idle_keys(reader, &fields, &policy);
    }
    Some(policy)
}

/// It becomes a label, and part of a header.
fn name(reader: &Reader<'_>, at: &At<'_>) -> Option<Arc<str>> {
    const EXPECTED: &str = "a name of letters, digits, `-`, `_` and `.`; 64 at most";
    let text = reader.text(at, EXPECTED)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.value.len() > 64 || !text.value.bytes().all(allowed) {
        reader.wrong(at, text.shown(), EXPECTED);
        return None;
    }
    Some(Arc::from(text.value))
}

fn matcher<'r>(reader: &'r Reader<'r>, at: &At<'_>, known: &Known<'_>) -> Option<Matcher> {
    let fields = reader.section(at, &MATCH)?;
    let glob = |name: &str| fields.maybe(name, |r, at| r.shared(at, GLOB));
    Some(Matcher {
        agent: glob("agent"),
        team: glob("team"),
        session: glob("session"),
        model: glob("model"),
        route: fields.maybe("route", |r, at| known.route(r, at)),
        upstream: fields.maybe("upstream", |r, at| known.upstream(r, at)),
        class: fields.maybe("class", |r, at| r.choice(at, CLASSES, &Class::ALL)),
    })
}

fn limits<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Vec<Limit>> {
    let fields = reader.section(at, &LIMITS)?;
    let mut limits: Vec<Limit> = Vec::new();
    for measure in Measure::ALL {
        let Some(at) = fields.get(measure.as_str()) else { continue };
        let items = match &at.node.kind {
            Kind::List(_) if measure != Measure::Concurrency => {
                reader.list(&at, "a limit or a list of them")
            }
            _ => vec![at],
        };
        for item in &items {
            let read = |text: &str| Limit::read(measure, text);
            let Some(limit) = reader.quantity(item, Limit::form(measure), read) else { continue };
            if limits.contains(&limit) {
                reader.wrong(item, "the same limit a second time", "each limit once");
            }
            limits.push(limit);
        }
    }
    Some(limits)
}

fn token_weights<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<TokenWeights> {
    let fields = reader.section(at, &TOKEN_WEIGHTS)?;
    let default = TokenWeights::default();
    let weight = |reader: &Reader<'_>, at: &At<'_>| {
        reader.quantity(at, "a percentage like 10%", units::weight)
    };
    Some(TokenWeights {
        cached_input: fields.read("cached_input", default.cached_input, weight),
        cache_write: fields.read("cache_write", default.cache_write, weight),
        reasoning: fields.read("reasoning", default.reasoning, weight),
    })
}

fn queue<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Queue> {
    let fields = reader.section(at, &QUEUE)?;
    let default = Queue::default();
    let depth = fields.read("depth", default.depth as u64, |r, at| r.count(at, 1, MOST));
    Some(Queue {
        wait: fields.read("wait", default.wait, Reader::some_time),
        depth: depth as usize,
    })
}

/// What came of a stream is held in memory for so long.
fn resume(reader: &Reader<'_>, at: &At<'_>) -> Option<Duration> {
    let time = reader.duration(at)?;
    if time > LONGEST_RESUME {
        let expected = format!("at most {}", units::show_duration(LONGEST_RESUME));
        reader.wrong(at, format!("`{}`", units::show_duration(time)), &expected);
    }
    Some(time)
}

fn runaway<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Runaway> {
    let fields = reader.section(at, &RUNAWAY)?;
    let default = Runaway::default();
    let repeats = fields.read("repeats", default.repeats.into(), |r, at| r.count(at, 2, MOST));
    Some(Runaway {
        repeats: repeats as u32,
        factor: fields.read("factor", default.factor, |r, at| r.quantity(at, FACTOR, factor)),
        action: fields
            .read("action", default.action, |r, at| r.choice(at, ACTIONS, &RunawayAction::ALL)),
    })
}

const FACTOR: &str = "a number from 1.1 to 1000000, like 10";

fn factor(text: &str) -> Result<f64, UnitError> {
    // the parser of floats takes exponents and names as well
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value = text.parse().ok().filter(|value| plain && (1.1..=1e6).contains(value));
    value.ok_or_else(|| UnitError::expected(FACTOR))
}

/// Its name as the database spells it.
fn time_zone(reader: &Reader<'_>, at: &At<'_>) -> Option<Arc<str>> {
    const EXPECTED: &str = "a time zone of the IANA database, like UTC or Europe/Berlin";
    let text = reader.text(at, EXPECTED)?;
    let zone = jiff::tz::TimeZone::get(&text.value).ok().filter(|zone| !zone.is_unknown());
    if let Some(name) = zone.as_ref().and_then(jiff::tz::TimeZone::iana_name) {
        return Some(Arc::from(name));
    }
    let names: Vec<_> = jiff::tz::db().available().collect();
    let hint = nearest(&text.value, names.iter().map(jiff::tz::TimeZoneName::as_str));
    reader.fault_near(at.node.place, &at.path, text.shown(), EXPECTED, hint);
    None
}

/// A key that would do nothing here is a fault.
fn idle_keys(reader: &Reader<'_>, fields: &Fields<'_, '_>, policy: &Policy) {
    let some = |of: &dyn Fn(&Limit) -> bool| policy.limits.iter().any(of);
    let lone = |key: &str, idle: bool, found: &str, expected: &str| {
        if let Some(at) = fields.get(key).filter(|_| idle) {
            reader.wrong(&at, found, expected);
        }
    };
    lone(
        "cut_streams",
        !some(&|limit| limit.measure == Measure::Spend && limit.mode == Mode::Hard),
        "`cut_streams` without a hard limit of spend",
        "such a limit in this policy, like `spend: $20/day hard`",
    );
    lone(
        "time_zone",
        !some(&|limit| matches!(limit.window, Window::Calendar(_))),
        "`time_zone` without a calendar budget",
        "such a limit in this policy, like `spend: $20/day`",
    );
    lone(
        "token_weights",
        !some(&|limit| limit.measure.is_tokens()),
        "`token_weights` without a limit of tokens",
        "such a limit in this policy, like `tokens: 400k/min`",
    );
}
