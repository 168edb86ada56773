//! Is the answer known already, or on its way to somebody else?
//!
//! [`plan`] says what the cache may do for a call, and names its answer: everything that could make
//! it another one goes into the key, see [`crate::cache::Walls`] and
//! [`crate::wire::question`].
//! [`Lookup::peek`] looks before the call asks for leave, so that what is free waits for nothing;
//! [`Lookup::claim`] looks once more behind that, and begins the call or joins it. Only from there
//! comes a [`Miss`], and dispatch is not reached without one.
mod form;
mod keep;
mod walls;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, request};

pub use self::form::FORMS;
pub use self::keep::Answered;
pub use self::walls::{owner, walls};

use self::form::Asked;
use self::walls::{name, own_credentials};
use super::call::{Call, Sending};
use super::control::{Bounds, Control, Reach};
use super::embeddings;
use super::shared::{Lead, Seat};
use super::similar::Similar;
use super::status;
use super::worker::Worker;
use crate::cache::{Author, Claim, Entry, Key, Space, Vectors};
use crate::config::{self, Scope};
use crate::identity::{Fingerprint, Identity};
use crate::limits::price::Rate;
use crate::limits::rules::Subject;
use crate::route::Route;
use crate::snapshot::Snapshot;

/// What is to be done about a call, as far as the cache goes.
pub enum Planned {
    /// No policy caches it.
    Off,
    /// Not this one; why, in a word.
    Bypass(&'static str),
    Look(Box<Lookup>),
}

/// What the cache may do for one call.
pub struct Lookup {
    pub policy: Arc<str>,
    pub rule: Arc<config::Cache>,
    pub space: Arc<Space>,
    /// The name of the question, whatever form the answer is asked for in.
    question: Key,
    /// The name of its answer in the form asked for.
    pub key: Key,
    /// And of the call for it, while it is in flight.
    pub flight: Key,
    asked: Asked,
    bounds: Bounds,
    pub author: Author,
    /// The model that a backend would be asked for, where it is not the one that was named.
    sends: Option<Arc<str>>,
    /// For those who ask the same in other words.
    pub similar: Option<Arc<Similar>>,
    /// Of an embeddings call: its inputs, and what is known of them.
    pub vectors: Option<Vectors>,
}

/// An answer that is known.
pub struct Hit {
    pub entry: Arc<Entry>,
    pub key: Key,
    pub tier: Tier,
    pub age: Duration,
    pub left: Duration,
}

/// Where an answer was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tier {
    Memory,
    Disk,
    Canonical,
    /// With the cosine of the two questions.
    Semantic {
        similarity: f32,
    },
}

/// What was found before leave was asked for.
pub enum Found {
    Hit(Hit),
    /// On its way to somebody else.
    Join(Seat),
}

/// Behind leave: the answer after all, or the proof that there is none.
pub enum Claimed {
    Found(Found, Box<Lookup>),
    Miss(Box<Leading>),
}

/// The proof that a call's answer is not known, or that no cache has to do with it: what dispatch
/// demands.
pub struct Miss(());

impl Miss {
    /// The same for a part of the question.
    #[must_use]
    pub fn part(&self) -> Self {
        Self(())
    }
}

/// A call that is the first to ask.
pub struct Leading {
    pub lead: Lead,
    pub seat: Seat,
    pub miss: Miss,
    pub lookup: Box<Lookup>,
}

/// What is known of a call when the cache is asked.
pub struct Facts<'c> {
    pub who: &'c Identity,
    pub route: &'c Route,
    /// Path and query below the upstream's own path, without keys.
    pub target: &'c str,
    pub head: &'c request::Parts,
    pub call: &'c Call,
}

/// Whether and how the cache has to do with a call.
pub fn plan(worker: &Worker, snapshot: &Snapshot, facts: &Facts<'_>) -> Planned {
    let Facts { who, route, call, .. } = *facts;
    if !snapshot.rules.has_caches() || !call.kind.reads_body() {
        return Planned::Off;
    }
    let upstream = &route.primary().upstream.config.name;
    let model = call.model().unwrap_or("");
    let subject = Subject { who, model, route: &route.name, upstream };
    let Some((policy, rule)) = snapshot.rules.cache_of(&subject) else { return Planned::Off };
    let Some(space) = worker.cache.spaces.space(policy) else { return Planned::Off };
    let Sending::Whole(body) = &call.body else { return Planned::Bypass("body") };
    let control =
        if rule.control { Control::read(&facts.head.headers) } else { Control::default() };
    if control.no_store || control.reach == Reach::Off {
        return Planned::Bypass("request");
    }
    let within = |purpose| walls(worker, rule.scope, policy, facts, control.namespace, purpose);
    let (question, vectors) = match name(call.kind, body, rule, within) {
        Ok(named) => named,
        Err(why) => return Planned::Bypass(why),
    };
    let asked = Asked::of(call, facts.target);
    let key = question.form(asked.number());
    let judged = route.passes_credentials() && rule.scope != Scope::Credential;
    Planned::Look(Box::new(Lookup {
        key,
        flight: if judged { key.beside(own_credentials(who, &facts.head.headers)) } else { key },
        question,
        asked,
        bounds: control.bounds,
        author: Author {
            agent: Arc::clone(&who.agent),
            model: model.into(),
            route: Arc::clone(&route.name),
            upstream: Arc::clone(upstream),
            credential: who.credential.map_or(0, Fingerprint::short),
        },
        sends: route.sends(model).cloned(),
        policy: Arc::clone(policy),
        rule: Arc::clone(rule),
        space,
        similar: None,
        vectors,
    }))
}

impl Planned {
    /// The call goes without the cache; with what its caller is told of that.
    pub fn uncached(self) -> (Miss, Option<HeaderValue>) {
        let status = match self {
            Self::Bypass(why) => Some(status::bypass(why)),
            Self::Off | Self::Look(_) => None,
        };
        (Miss(()), status)
    }
}

impl Lookup {
    /// What an answer would cost.
    pub fn rate(&self, worker: &Worker) -> Rate {
        worker.rate(self.sends.as_deref().unwrap_or(&self.author.model))
    }

    pub fn only_if_cached(&self) -> bool {
        self.bounds.only_if_cached
    }

    /// What is in memory, or in flight. Waits for nothing.
    pub fn peek(&mut self, worker: &Worker, now: SystemTime) -> Option<Found> {
        if self.bounds.no_cache {
            return None;
        }
        if self.vectors.is_some() {
            return self.peek_vectors(worker, now);
        }
        if let Some(entry) = self.space.get_now(&self.key, now) {
            return self.hit(entry, self.key, Tier::Memory, now).map(Found::Hit);
        }
        let shared = self.rule.coalesce && worker.pressure.may_share();
        if let Some(seat) = shared.then(|| worker.hubs.join(&self.flight)).flatten() {
            return Some(Found::Join(seat));
        }
        self.asked.others().find_map(|other| {
            let key = self.question.form(other.number());
            let entry = self.space.get_now(&key, now)?;
            self.rendered(&entry, key, Tier::Memory, now).map(Found::Hit)
        })
    }

    /// What is on the disk.
    pub async fn peek_on_disk(&mut self, now: SystemTime) -> Option<Found> {
        if self.bounds.no_cache {
            return None;
        }
        if self.vectors.is_some() {
            return self.peek_vectors_on_disk(now).await;
        }
        if self.space.on_disk(&self.key, now) {
            let entry = self.space.get_from_disk(&self.key, now).await;
            return self.hit(entry?, self.key, Tier::Disk, now).map(Found::Hit);
        }
        for other in self.asked.others() {
            let key = self.question.form(other.number());
            if self.space.on_disk(&key, now)
                && let Some(entry) = self.space.get_from_disk(&key, now).await
                && let Some(hit) = self.rendered(&entry, key, Tier::Disk, now)
            {
                return Some(Found::Hit(hit));
            }
        }
        None
    }

    /// The answer to another question that asks the same.
    pub async fn other(&self, question: Key, tier: Tier, now: SystemTime) -> Option<Hit> {
        let forms = std::iter::once(self.asked).chain(self.asked.others());
        for form in forms {
            let key = question.form(form.number());
            let mut entry = self.space.get_now(&key, now);
            if entry.is_none() && self.space.on_disk(&key, now) {
                entry = self.space.get_from_disk(&key, now).await;
            }
            let hit = entry.and_then(|entry| {
                if form == self.asked {
                    self.hit(entry, key, tier, now)
                } else {
                    self.rendered(&entry, key, tier, now)
                }
            });
            if hit.is_some() {
                return hit;
            }
        }
        None
    }

    /// Whether some form of that answer is kept, for whomever it will do.
    pub fn keeps(&self, question: Key, now: SystemTime) -> bool {
        let mut forms = std::iter::once(self.asked).chain(self.asked.others());
        forms.any(|form| {
            let key = question.form(form.number());
            self.space.get_now(&key, now).is_some() || self.space.on_disk(&key, now)
        })
    }

    pub fn no_cache(&self) -> bool {
        self.bounds.no_cache
    }

    fn rendered(&self, entry: &Entry, key: Key, tier: Tier, now: SystemTime) -> Option<Hit> {
        let rendered = self.asked.render(entry)?;
        self.hit(Arc::new(rendered), key, tier, now)
    }

    fn hit(&self, entry: Arc<Entry>, key: Key, tier: Tier, now: SystemTime) -> Option<Hit> {
        let (age, left) = self.bounded(&entry, now)?;
        Some(Hit { entry, key, tier, age, left })
    }

    /// An entry's age, and how long it may still be given. `None`: not for this call.
    pub fn bounded(&self, entry: &Entry, now: SystemTime) -> Option<(Duration, Duration)> {
        let (age, left) = (entry.age(now), entry.left(now)?);
        // a policy that was reloaded may want shorter lives
        let left = left.min(self.rule.ttl.checked_sub(age)?);
        self.bounds.accepts(age, left).then_some((age, left))
    }

    /// How long what is kept now may be given.
    pub fn ttl(&self) -> Duration {
        self.bounds.ttl.map_or(self.rule.ttl, |ttl| ttl.min(self.rule.ttl))
    }

    /// Behind leave: looks again, and begins the call or joins it.
    /// `least`: so many bytes of the answer are to be held in any case.
    pub fn claim(
        mut self: Box<Self>,
        worker: &Worker,
        clamped: bool,
        least: usize,
        now: SystemTime,
    ) -> Claimed {
        if let Some(found) = self.peek(worker, now) {
            return Claimed::Found(found, self);
        }
        let keep = match &self.vectors {
            Some(_) => embeddings::LONGEST,
            None => usize::try_from(self.rule.max_entry).unwrap_or(usize::MAX).max(least),
        };
        // another agent's limit bounds nobody's answer but its own
        let bound = clamped && self.rule.scope > Scope::Agent;
        let (lead, seat) = if self.rule.coalesce && !self.bounds.no_cache && !bound {
            match worker.hubs.claim(self.flight, keep) {
                Claim::Join(seat) => return Claimed::Found(Found::Join(seat), self),
                Claim::Lead(lead, seat) => (lead, seat),
            }
        } else {
            worker.hubs.alone(self.flight, keep)
        };
        Claimed::Miss(Box::new(Leading { lead, seat, miss: Miss(()), lookup: self }))
    }
}
