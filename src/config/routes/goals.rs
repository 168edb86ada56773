//! Where a route leads: its upstreams and their shares, those that stand in for them, and the
//! models that they are asked for.
//!
//! All targets of a route speak one dialect: a call is passed on as it is, never translated. No
//! target stands in a route twice: what has failed once is not the remedy.
use std::sync::Arc;

use crate::config::fault::nearest;
use crate::config::file::{Kind, Place};
use crate::config::keys::{EXHAUSTED, GOAL};
use crate::config::read::{At, Fields, Reader, words};
use crate::config::show::dialect;
use crate::config::{Exhausted, Goal, Upstream};
use crate::units::{glob_covers, glob_matches};

/// Largest share of a target.
const MOST_WEIGHT: u64 = 1000;
const LONGEST_MODEL: usize = 256;
const MODEL: &str = "the name of a model, without `*` and spaces";

/// What routes may lead to.
pub(super) struct Backends<'b> {
    /// Those without a fault; goals are indices into it.
    pub sound: &'b [Upstream],
    /// As written, also those at fault.
    pub names: &'b [&'b str],
}

/// A goal and where it stands.
struct Placed {
    place: Place,
    path: String,
    goal: Goal,
}

impl Backends<'_> {
    fn expected(&self) -> String {
        format!("an upstream: {}", words(self.names.iter().copied()))
    }

    /// The upstream of this name. `None` without a fault if it is at fault itself.
    fn named(
        &self,
        reader: &Reader<'_>,
        (place, path): (Place, &str),
        name: &str,
        shown: &str,
    ) -> Option<Placed> {
        if !self.names.contains(&name) {
            let hint = nearest(name, self.names.iter().copied());
            let found = format!("{shown}, which is no upstream");
            reader.fault_near(place, path, found, &self.expected(), hint);
        }
        let to = self.sound.iter().position(|upstream| *upstream.name == *name)?;
        Some(Placed { place, path: path.to_owned(), goal: Goal::new(to) })
    }

    /// The upstream that a value names.
    fn one(&self, reader: &Reader<'_>, at: &At<'_>) -> Option<Placed> {
        let text = reader.text(at, &self.expected())?;
        self.named(reader, (at.node.place, &at.path), &text.value, &text.shown())
    }

    /// A name alone, or names with their shares.
    fn to(&self, reader: &Reader<'_>, at: &At<'_>) -> Vec<Placed> {
        let Kind::Map(_) = at.node.kind else { return self.one(reader, at).into_iter().collect() };
        let expected = "names of upstreams with their shares, like { openai: 9, azure: 1 }";
        let mut goals = Vec::new();
        for (name, place, value) in reader.names(at, expected) {
            let weight = reader.count(&value, 1, MOST_WEIGHT);
            let mut placed = self.named(reader, (place, &value.path), name, &format!("`{name}`"));
            if let (Some(placed), Some(weight)) = (&mut placed, weight) {
                placed.goal.weight = weight as u32;
            }
            goals.extend(placed);
        }
        goals
    }

    fn fallback<'r>(&self, reader: &'r Reader<'r>, at: &At<'_>) -> Option<Placed> {
        let Kind::Map(_) = at.node.kind else { return self.one(reader, at) };
        let fields = reader.section(at, &GOAL)?;
        let model = fields.maybe("model", model);
        let to = fields.needed("to", "the key `to` with the name of an upstream")?;
        let mut placed = self.one(reader, &to)?;
        placed.goal.model = model;
        Some(placed)
    }
}

/// `to` and `fallback`. The first is empty if `to` leads nowhere, with a fault or for one.
pub(super) fn goals<'r>(
    reader: &'r Reader<'r>,
    fields: &Fields<'r, '_>,
    backends: &Backends<'_>,
) -> (Vec<Goal>, Vec<Goal>) {
    let to = fields.needed("to", "the key `to` with the name of an upstream");
    let to = to.map(|at| backends.to(reader, &at)).unwrap_or_default();
    let fallback: Vec<Placed> = fields.read("fallback", Vec::new(), |reader, at| {
        let items = reader.list(at, "a list like [azure, { to: local, model: llama-3.3-70b }]");
        Some(items.iter().filter_map(|item| backends.fallback(reader, item)).collect())
    });
    let all: Vec<&Placed> = to.iter().chain(&fallback).collect();
    for (index, placed) in all.iter().enumerate() {
        let (goal, earlier) = (&placed.goal, &all[..index]);
        if earlier.iter().any(|other| other.goal.to == goal.to && other.goal.model == goal.model) {
            let expected = "each upstream once, or for another model";
            reader.fault(placed.place, &placed.path, "the same target a second time", expected);
        }
        let speaks = |goal: &Goal| backends.sound.get(goal.to).map(|upstream| upstream.dialect);
        if let (Some(own), Some(first)) =
            (speaks(goal), earlier.first().and_then(|o| speaks(&o.goal)))
            && own != first
        {
            let (own, first) = (dialect(own), dialect(first));
            let found = format!("an upstream of the dialect {own}; the first one's is {first}");
            let expected = format!("an upstream of the dialect {first}: calls are not translated");
            reader.fault(placed.place, &placed.path, found, &expected);
        }
    }
    let bare = |all: Vec<Placed>| all.into_iter().map(|placed| placed.goal).collect();
    (bare(to), bare(fallback))
}

/// A name that is put in the place of another, in a body or a path.
fn model(reader: &Reader<'_>, at: &At<'_>) -> Option<Arc<str>> {
    let text = reader.text(at, MODEL)?;
    let allowed = |b: u8| b.is_ascii_graphic() && !b"*?\"\\".contains(&b);
    if text.value.len() > LONGEST_MODEL || !text.value.bytes().all(allowed) {
        reader.wrong(at, text.shown(), MODEL);
        return None;
    }
    Some(Arc::from(text.value))
}

/// Other names for models, in the order of the file. `taken`: the route's own glob over what
/// callers say, which these names must pass first.
pub(super) fn models(
    reader: &Reader<'_>,
    at: &At<'_>,
    taken: Option<&str>,
) -> Vec<(Arc<str>, Arc<str>)> {
    let mut models: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for (glob, place, value) in reader.names(at, "names of models, each with another") {
        let wrong = |found: String, expected| reader.fault(place, &value.path, found, expected);
        if let Some((wider, _)) = models.iter().find(|(earlier, _)| glob_covers(earlier, glob)) {
            let found = format!("a name that is never used: `{wider}` takes all these models");
            wrong(found, "the narrower glob before the wider one");
        }
        let plain = !glob.contains(['*', '?']);
        if let Some(taken) = taken.filter(|taken| plain && !glob_matches(taken, glob)) {
            let found = format!("`{glob}`, but this rule takes `{taken}` alone");
            wrong(found, "a name that the rule's own `model` fits");
        }
        let Some(name) = model(reader, &value) else { continue };
        if *name == *glob {
            reader.wrong(&value, format!("`{name}`, which it is called anyway"), "another name");
        }
        models.push((Arc::from(glob), name));
    }
    models
}

pub(super) fn exhausted<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Exhausted> {
    if !matches!(at.node.kind, Kind::Map(_)) {
        let expected = "`refuse`, `queue`, or a mapping like { model: gpt-4o-mini }";
        let word = reader.instead(at, &["refuse", "queue"], expected)?;
        return Some(if word == 0 { Exhausted::Refuse } else { Exhausted::Queue });
    }
    let fields = reader.section(at, &EXHAUSTED)?;
    let at = fields.needed("model", "the key `model` with the name of a model")?;
    model(reader, &at).map(Exhausted::Downgrade)
}
