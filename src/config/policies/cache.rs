//! Reads `cache`: a mapping with at least `ttl`, or `off`.
//!
//! A part that is off is zero, or not there at all. A bound that is not written is cut to what
//! holds it; a written one past it is a fault, as is a key that does nothing beside the others,
//! and a `cache` that never decides because of where its policy stands.
use std::time::Duration;

use super::{CacheRule, Matcher, Policy};
use crate::config::cache::{Cache, Embedder, Mode, Replay, Scope, Semantic};
use crate::config::file::Kind;
use crate::config::keys::{CACHE, EMBEDDER, MODES, REPLAYS, SCOPES, SEMANTIC};
use crate::config::known::Known;
use crate::config::read::{At, Fields, Reader};
use crate::units::{self, UnitError, glob_covers, show_duration, show_size};
use crate::wire::Dialect;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
/// Positions in an entry are 32 bits; a margin is left.
const LARGEST_ENTRY: u64 = 1 << 30;
/// Every lookup compares with all of them.
const MOST_ENTRIES: u64 = 50_000;

pub(super) fn rule<'r>(
    reader: &'r Reader<'r>,
    at: &At<'_>,
    known: &Known<'_>,
) -> Option<CacheRule> {
    if !matches!(at.node.kind, Kind::Map(_)) {
        let expected = "`off`, or a mapping like { ttl: 1h }";
        return reader.instead(at, &["off"], expected).map(|_| CacheRule::Off);
    }
    cache(reader, at, known).map(|cache| CacheRule::On(cache.into()))
}

fn cache<'r>(reader: &'r Reader<'r>, at: &At<'_>, known: &Known<'_>) -> Option<Cache> {
    let fields = reader.section(at, &CACHE)?;
    let default = Cache::default();
    let ttl = fields.needed("ttl", "the key `ttl` with a duration, like 1h");
    let ttl = ttl.and_then(|at| reader.some_time(&at));
    let memory = fields.read("memory", default.memory, |r, at| r.size(at, 64 * KIB, TIB));
    let max_entry = fields.maybe("max_entry", |r, at| r.size(at, KIB, LARGEST_ENTRY));
    if let (Some(size), Some(at)) = (max_entry, fields.get("max_entry"))
        && size > memory
    {
        let expected = format!("at most memory, which is {}", show_size(memory));
        reader.wrong(&at, format!("`{}`", show_size(size)), &expected);
    }
    let disk = fields.maybe("disk", |r, at| r.quantity(at, DISK, disk));
    let longest = ttl.unwrap_or(units::LONGEST);
    let semantic = fields.maybe("semantic", |r, at| semantic(r, at, known, longest));
    let cache = Cache {
        ttl: ttl.unwrap_or(default.ttl),
        scope: fields.read("scope", default.scope, |r, at| r.choice(at, SCOPES, &Scope::ALL)),
        memory,
        disk: if known.state { disk.unwrap_or(default.disk) } else { 0 },
        max_entry: max_entry.unwrap_or(default.max_entry.min(memory)),
        temperature: fields.maybe("temperature", |r, at| r.quantity(at, AT_MOST, at_most)),
        tool_calls: fields.read("tool_calls", default.tool_calls, Reader::flag),
        replay: fields.read("replay", default.replay, |r, at| r.choice(at, REPLAYS, &Replay::ALL)),
        coalesce: fields.read("coalesce", default.coalesce, Reader::flag),
        embeddings: fields.read("embeddings", default.embeddings, Reader::flag),
        control: fields.read("control", default.control, Reader::flag),
        canonical: fields.read("canonical", default.canonical, Reader::flag),
        semantic: semantic.filter(|semantic| semantic.mode != Mode::Off),
    };
    idle_keys(reader, &fields, disk.is_some_and(|disk| disk > 0 && !known.state));
    Some(cache)
}

/// A key that would do nothing here is a fault.
fn idle_keys(reader: &Reader<'_>, fields: &Fields<'_, '_>, nowhere: bool) {
    if let Some(at) = fields.get("disk").filter(|_| nowhere) {
        let expected = "`state` at the root, like `state: ./tidegate-data`; or `off`";
        reader.wrong(&at, "`disk` without `state`", expected);
    }
}

/// A word for its mode, or a mapping. `longest`: how long the answers themselves are kept.
fn semantic<'r>(
    reader: &'r Reader<'r>,
    at: &At<'_>,
    known: &Known<'_>,
    longest: Duration,
) -> Option<Semantic> {
    let default = Semantic::default();
    let default = Semantic { ttl: default.ttl.min(longest), ..default };
    if !matches!(at.node.kind, Kind::Map(_)) {
        let mode = reader.choice(at, MODES, &Mode::ALL)?;
        return Some(Semantic { mode, ..default });
    }
    let fields = reader.section(at, &SEMANTIC)?;
    let ttl = fields.maybe("ttl", Reader::some_time);
    if let (Some(ttl), Some(at)) = (ttl, fields.get("ttl"))
        && ttl > longest
    {
        let expected = format!("at most the ttl of `cache`, which is {}", show_duration(longest));
        reader.wrong(&at, format!("`{}`", show_duration(ttl)), &expected);
    }
    let entries =
        fields.read("entries", default.entries as u64, |r, at| r.count(at, 1, MOST_ENTRIES));
    Some(Semantic {
        mode: fields.read("mode", default.mode, |r, at| r.choice(at, MODES, &Mode::ALL)),
        threshold: fields
            .read("threshold", default.threshold, |r, at| r.quantity(at, THRESHOLD, threshold)),
        ttl: ttl.unwrap_or(default.ttl),
        explore: fields.read("explore", default.explore, |r, at| r.quantity(at, SHARE, share)),
        max_wrong: fields
            .read("max_wrong", default.max_wrong, |r, at| r.quantity(at, SHARE, share)),
        temperature: fields.read("temperature", default.temperature, |r, at| {
            r.quantity(at, TEMPERATURE, temperature)
        }),
        entries: entries as usize,
        embedder: fields.read("embedder", default.embedder, |r, at| embedder(r, at, known)),
    })
}

fn embedder<'r>(reader: &'r Reader<'r>, at: &At<'_>, known: &Known<'_>) -> Option<Embedder> {
    if !matches!(at.node.kind, Kind::Map(_)) {
        let expected = "the word builtin, or a mapping like { upstream: local, model: bge-small }";
        return reader.instead(at, &["builtin"], expected).map(|_| Embedder::Builtin);
    }
    let fields = reader.section(at, &EMBEDDER)?;
    let [upstream, model] = ["upstream", "model"].map(|key| {
        fields.needed(key, "`upstream` and `model`, both; or the word builtin in their place")
    });
    let model = model.and_then(|at| reader.shared(&at, "the name of a model"));
    let at = upstream?;
    let (upstream, dialect) = known.one_upstream(reader, &at)?;
    if dialect.is_some_and(|dialect| dialect != Dialect::OpenAi) {
        let found = format!("`{upstream}`, which does not speak openai");
        reader.wrong(&at, found, "an upstream of the dialect openai");
    }
    Some(Embedder::Remote { upstream, model: model? })
}

/// The last policy that matches and has a `cache` decides, so one before a wider one never does;
/// and an `off` takes out nothing of what is only said after it.
pub(super) fn overruled(reader: &Reader<'_>, policies: &[(&At<'_>, Policy)]) {
    const EXPECTED: &str = "the narrower policy after the wider one: the last that matches and has \
                            a `cache` decides";
    let caching: Vec<_> = policies.iter().filter(|(_, policy)| policy.cache.is_some()).collect();
    let on = |policy: &Policy| matches!(policy.cache, Some(CacheRule::On(_)));
    for (index, (at, policy)) in caching.iter().enumerate() {
        let (earlier, later) = (&caching[..index], &caching[index + 1..]);
        let wider = later.iter().find(|(_, other)| covers(&other.matches, &policy.matches));
        // `off` for all, and then exceptions from it, is plain
        let exception = |other: &Policy| covers(&policy.matches, &other.matches);
        let next = later.iter().find(|(_, other)| on(other) && !exception(other));
        let idle = !on(policy) && !earlier.iter().any(|(_, other)| on(other));
        let found = match (wider, next) {
            (Some((_, wider)), _) => {
                format!("a `cache` that never decides: `{}` takes all its calls", wider.name)
            }
            (None, Some((_, next))) if idle => {
                format!("a `cache: off` that takes out nothing: `{}` comes later", next.name)
            }
            _ => continue,
        };
        reader.wrong(at, found, EXPECTED);
    }
}

/// Whether every call that `narrow` matches is matched by `wide`. A yes is always right.
fn covers(wide: &Matcher, narrow: &Matcher) -> bool {
    let Matcher { agent, team, session, model, route, upstream, class } = wide;
    let globs = [
        (agent, &narrow.agent),
        (team, &narrow.team),
        (session, &narrow.session),
        (model, &narrow.model),
        (route, &narrow.route),
        (upstream, &narrow.upstream),
    ];
    let class = class.is_none() || *class == narrow.class;
    class
        && globs.into_iter().all(|pair| match pair {
            (None, _) => true,
            (Some(wide), Some(narrow)) => glob_covers(wide, narrow),
            (Some(_), None) => false,
        })
}

const DISK: &str = "a size like 1GiB, or off";
const AT_MOST: &str = "a bound from 0 to 2, written like `<=0.3`";
const TEMPERATURE: &str = "a number from 0 to 2, like 0.7";
const THRESHOLD: &str = "a number from 0.5 to 1, like 0.8";
const SHARE: &str = "a percentage from 0.1% to 100% in tenths, like 5% or 0.5%";

/// In bytes; `off` is none at all.
fn disk(text: &str) -> Result<u64, UnitError> {
    if text == "off" {
        return Ok(0);
    }
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(UnitError::expected(DISK));
    }
    let size = Some(units::size(text)?).filter(|size| *size >= MIB);
    size.ok_or_else(|| UnitError::expected("a size of 1MiB at least, or off"))
}

fn at_most(text: &str) -> Result<f64, UnitError> {
    decimal(text.strip_prefix("<=").unwrap_or_default(), 0.0, 2.0, AT_MOST)
}

fn temperature(text: &str) -> Result<f64, UnitError> {
    decimal(text, 0.0, 2.0, TEMPERATURE)
}

fn threshold(text: &str) -> Result<f64, UnitError> {
    decimal(text, 0.5, 1.0, THRESHOLD)
}

/// A fraction of one, in whole thousandths.
fn share(text: &str) -> Result<f64, UnitError> {
    let thousandths = units::weight(text).ok().filter(|share| (1..=1000).contains(share));
    let share = thousandths.map(|thousandths| f64::from(thousandths) / 1000.0);
    share.ok_or_else(|| UnitError::expected(SHARE))
}

/// Digits, and with a point digits again.
fn decimal(text: &str, least: f64, most: f64, expected: &str) -> Result<f64, UnitError> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    // the parser of floats takes exponents and names as well
    let value = text.parse().ok().filter(|value| (least..=most).contains(value));
    value.filter(|_| digits(whole) && digits(part)).ok_or_else(|| UnitError::expected(expected))
}
