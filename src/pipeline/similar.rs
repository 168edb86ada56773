//! The canonical and the semantic tier, as a call meets them: behind an exact miss, before leave.
//!
//! Only the last turn's words are looked up; everything else that could change the answer is in the
//! name of the partition ([`wire::Question::say_around`]). What could take longer than a moment is
//! done on a thread that may block, so that streams do not stutter.
use std::sync::Arc;
use std::time::SystemTime;

use super::control::{Control, Reach};
use super::embedder;
use super::lookup::{Facts, Found, Lookup, Tier, walls};
use super::worker::Worker;
use crate::cache::alike::{Asked, Cost, Look, Trial};
use crate::cache::{Author, Entry, Key, Purpose};
use crate::config::{self, Embedder};
use crate::snapshot::Snapshot;
use crate::wire::{self, Finish};

/// A call's question, for those who ask the same in other words.
pub struct Similar {
    policy: Arc<str>,
    /// The policy's, without what this call may not use.
    rule: Arc<config::Cache>,
    partition: Key,
    text: Box<str>,
    author: Author,
    tighten: Option<f64>,
    vector: Option<Vec<f32>>,
    /// What would have been served, to be compared with what comes.
    trial: Option<Trial>,
}

impl Similar {
    /// `None`: nothing but the exact tier has to do with this call.
    pub fn of(worker: &Worker, facts: &Facts<'_>, lookup: &Lookup) -> Option<Self> {
        let rule = &lookup.rule;
        if !rule.canonical && rule.semantic.is_none() {
            return None;
        }
        let headers = &facts.head.headers;
        let control = if rule.control { Control::read(headers) } else { Control::default() };
        let question = wire::question(facts.call.kind, facts.call.whole()?).ok()?;
        let high = |semantic: &config::Semantic| {
            question.temperature.is_some_and(|asked| asked > semantic.temperature)
        };
        let likeness =
            control.reach >= Reach::Semantic && !rule.semantic.as_ref().is_some_and(high);
        let canonical = rule.canonical && control.reach >= Reach::Canonical;
        let semantic = likeness && rule.semantic.is_some();
        if !(canonical || semantic) {
            return None;
        }
        let turn = question.last_turn().ok()?;
        let mut naming =
            walls(worker, rule.scope, &lookup.policy, facts, control.namespace, Purpose::Partition);
        question.say_around(&turn, &mut |bytes| naming.raw(bytes));
        match rule.semantic.as_ref().map(|semantic| &semantic.embedder) {
            Some(Embedder::Remote { upstream, model }) => {
                naming.part(upstream.as_bytes());
                naming.part(model.as_bytes());
            }
            Some(Embedder::Builtin) | None => {
                naming.part(&crate::semantic::VERSION.to_le_bytes());
            }
        }
        let rule = if canonical == rule.canonical && likeness {
            Arc::clone(rule)
        } else {
            let semantic = rule.semantic.clone().filter(|_| likeness);
            Arc::new(config::Cache { canonical, semantic, ..config::Cache::clone(rule) })
        };
        Some(Self {
            policy: Arc::clone(&lookup.policy),
            rule,
            partition: naming.key(),
            text: turn.text.into(),
            author: lookup.author.clone(),
            tighten: control.min_similarity,
            vector: None,
            trial: None,
        })
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            policy: &self.policy,
            partition: self.partition,
            text: &self.text,
            rule: &self.rule,
            author: &self.author,
            tighten: self.tighten,
            vector: self.vector.as_deref(),
        }
    }

    /// Looks for an answer to a question like this one; what may be served is found.
    pub async fn look(
        self: &mut Arc<Self>,
        worker: &Worker,
        snapshot: &Snapshot,
        lookup: &Lookup,
    ) -> Option<Found> {
        let remote = self.rule.semantic.as_ref().map(|semantic| &semantic.embedder);
        if let Some(Embedder::Remote { upstream, model }) = remote {
            let vector = embedder::vector(worker, snapshot, upstream, model, &self.text).await;
            Arc::get_mut(self)?.vector = vector;
        }
        let now = SystemTime::now();
        let look = match worker.cache.alike.cost(&self.asked()) {
            Cost::Inline => worker.cache.alike.look(&self.asked(), now),
            Cost::Offload => {
                let (cache, this) = (Arc::clone(&worker.cache), Arc::clone(self));
                let look = move || cache.alike.look(&this.asked(), now);
                // a thread that died has found nothing
                tokio::task::spawn_blocking(look).await.ok()?
            }
        };
        let (entry, tier) = match look {
            Look::None { .. } => return None,
            Look::Canonical { entry } => (entry, Tier::Canonical),
            Look::Like { entry, serve: true, similarity, .. } => {
                (entry, Tier::Semantic { similarity })
            }
            Look::Like { trial, .. } => {
                if let Some(this) = Arc::get_mut(self) {
                    this.trial = trial;
                }
                return None;
            }
        };
        let hit = lookup.other(entry, tier, now).await;
        if hit.is_none() {
            worker.cache.alike.forget(&self.partition, &entry);
        }
        hit.map(Found::Hit)
    }

    /// The call was answered, and its answer is kept under that name.
    pub fn answered(
        self: Arc<Self>,
        worker: &Worker,
        question: Key,
        entry: &Arc<Entry>,
        facts: wire::Facts,
    ) {
        let plain = facts.finish == Finish::Stop && !facts.calls_tools;
        let (cache, entry) = (Arc::clone(&worker.cache), Arc::clone(entry));
        let space = cache.spaces.space(&self.policy);
        // comparing answers reads both whole
        let learn = move || {
            let now = SystemTime::now();
            if let (Some(trial), Some(space)) = (&self.trial, space) {
                let text = |entry: &Entry| wire::text(entry.kind, entry.form, &entry.body);
                let served = (0..8).find_map(|form| space.get_now(&trial.entry.form(form), now));
                if let (Some(served), Some(fresh)) = (served.and_then(|it| text(&it)), text(&entry))
                {
                    cache.alike.learn(trial, &served, &fresh);
                    let cost = entry.cost_nano.and_then(|nano| u64::try_from(nano).ok());
                    cache.alike.forgone(trial, cost.unwrap_or(0));
                }
            }
            if plain {
                cache.alike.add(&self.asked(), question, entry.stored + entry.ttl, now);
            }
        };
        tokio::task::spawn_blocking(learn);
    }
}
