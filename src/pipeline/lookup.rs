//! Is the answer known already, or on its way to somebody else?
//!
//! [`plan`] says what the cache may do for a call, and names its answer: everything that could make
//! it another one goes into the key, see [`crate::cache::Walls`] and [`wire::question`].
//! [`Lookup::peek`] looks before the call asks for leave, so that what is free waits for nothing;
//! [`Lookup::claim`] looks once more behind that, and begins the call or joins it. Only from there
//! comes a [`Miss`], and dispatch is not reached without one.
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, request};

use super::call::{Call, Sending};
use super::control::{Control, Reach};
use super::embeddings;
use super::shared::{Lead, Seat};
use super::similar::Similar;
use super::status;
use super::worker::Worker;
use crate::cache::{self, Author, Claim, Entry, Key, Purpose, Recorded, Space, Vectors, Walls};
use crate::config::{self, Scope};
use crate::identity::Identity;
use crate::limits::rules::Subject;
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::wire::{self, Finish, Form, Kind, Usage};

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
    asked: Asked,
    control: Bounds,
    pub author: Author,
    /// For those who ask the same in other words.
    pub similar: Option<Arc<Similar>>,
    /// Of an embeddings call: its inputs, and what is known of them.
    pub vectors: Option<Vectors>,
}

/// The form that an answer is asked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    kind: Kind,
    stream: bool,
    /// The stream is to report its usage.
    usage: bool,
    /// Gemini's stream as one JSON array.
    array: bool,
}

/// What of [`Control`] outlives the request's head.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    no_cache: bool,
    pub only_if_cached: bool,
    max_age: Option<Duration>,
    min_fresh: Option<Duration>,
    ttl: Option<Duration>,
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
    Found(Found),
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

/// An answer that has come, whole.
pub struct Answered {
    pub kind: Kind,
    pub form: Form,
    pub content_type: Option<Box<[u8]>>,
    pub recorded: Recorded,
    pub usage: Option<Usage>,
    /// A limit bounded its output, which the caller did not.
    pub clamped: bool,
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
    let upstream = &route.upstream.config.name;
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
    Planned::Look(Box::new(Lookup {
        key: question.form(asked.number()),
        question,
        asked,
        control: Bounds {
            no_cache: control.no_cache,
            only_if_cached: control.only_if_cached,
            max_age: control.max_age,
            min_fresh: control.min_fresh,
            ttl: control.ttl,
        },
        author: Author {
            agent: Arc::clone(&who.agent),
            model: model.into(),
            route: Arc::clone(&route.name),
            upstream: Arc::clone(upstream),
            credential: who.credential.map_or(0, |print| print.short()),
        },
        policy: Arc::clone(policy),
        rule: Arc::clone(rule),
        space,
        similar: None,
        vectors,
    }))
}

/// The name of what a call asks, and of the inputs that it asks about, if that is what it does. Or
/// why it has none, in a word.
fn name(
    kind: Kind,
    body: &[u8],
    rule: &config::Cache,
    within: impl FnOnce(Purpose) -> cache::Naming,
) -> Result<(Key, Option<Vectors>), &'static str> {
    if kind.embeds() {
        if !rule.embeddings {
            return Err("embeddings");
        }
        let batch = wire::embed::batch(kind, body).ok_or("inputs")?;
        let (vectors, question) = Vectors::new(kind, &batch, within(Purpose::Vector));
        return Ok((question, Some(vectors)));
    }
    let question = wire::question(kind, body).map_err(wire::Unasked::as_str)?;
    // who does not say gets the vendor's default, and that is high
    if rule.temperature.is_some_and(|most| question.temperature.unwrap_or(1.0) > most) {
        return Err("temperature");
    }
    let mut naming = within(Purpose::Exact);
    question.say(&mut |bytes| naming.raw(bytes));
    Ok((naming.key(), None))
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

/// Begins a name with everything that an answer may not cross.
pub fn walls(
    worker: &Worker,
    scope: Scope,
    policy: &str,
    facts: &Facts<'_>,
    namespace: Option<&[u8]>,
    purpose: Purpose,
) -> cache::Naming {
    let Facts { who, route, target, head, call } = facts;
    let tenant = tenant(scope, who, namespace);
    let mut headers: Vec<_> = head
        .headers
        .iter()
        .filter(|(name, _)| wire::header_changes_answer(name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    // several of one name stay in their order
    headers.sort_by_key(|(name, _)| *name);
    let (kind, target) = formless(call.kind, target);
    worker.cache.keyer.within(
        purpose,
        &Walls {
            policy,
            scope,
            tenant: &tenant,
            upstream: &route.upstream.config.name,
            origin: &route.upstream.wall,
            route: &route.name,
            target: &target,
            kind: kind as u8,
            headers: &headers,
        },
    )
}

/// Who is inside a scope. A name that only the client says is worth no more than its credential:
/// who could say another's name would get another's answers.
fn tenant(scope: Scope, who: &Identity, namespace: Option<&[u8]>) -> Vec<u8> {
    let mut tenant = Vec::with_capacity(96);
    let mut part = |name: u8, text: &[u8]| {
        tenant.push(name);
        tenant.extend_from_slice(&(text.len() as u64).to_le_bytes());
        tenant.extend_from_slice(text);
    };
    let proven = who.rung.authorizes();
    let scope = match scope {
        Scope::Team if who.team.is_none() => Scope::Agent,
        scope => scope,
    };
    if scope <= Scope::Team
        && let Some(team) = &who.team
    {
        part(b't', team.as_bytes());
    }
    if scope <= Scope::Agent {
        part(b'a', who.agent.as_bytes());
        part(b'r', who.rung.as_str().as_bytes());
    }
    if scope != Scope::Shared && (scope == Scope::Credential || !proven) {
        part(b'c', who.credential.as_ref().map_or(&[], |print| &print.0));
    }
    if scope == Scope::Credential
        && let Some(grant) = &who.grant
    {
        part(b'k', grant.id.as_bytes());
    }
    if let Some(namespace) = namespace {
        part(b'n', namespace);
    }
    tenant
}

/// Gemini asks for a stream by another path: the same question for all that.
fn formless(kind: Kind, target: &str) -> (Kind, Cow<'_, str>) {
    if !matches!(kind, Kind::Generate | Kind::StreamGenerate) {
        return (kind, Cow::Borrowed(target));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path
        .strip_suffix(":streamGenerateContent")
        .or_else(|| path.strip_suffix(":generateContent"))
        .unwrap_or(path);
    let query: Vec<_> =
        query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("alt=")).collect();
    (Kind::Generate, Cow::Owned(format!("{path}?{}", query.join("&"))))
}

impl Asked {
    fn of(call: &Call, target: &str) -> Self {
        let kind = call.kind;
        let sse = || target.split(['?', '&']).any(|pair| pair == "alt=sse");
        Self {
            kind,
            stream: call.stream,
            usage: call.stream && call.asks.usage,
            array: kind == Kind::StreamGenerate && !sse(),
        }
    }

    fn number(self) -> u8 {
        u8::from(self.stream) | u8::from(self.usage) << 1 | u8::from(self.array) << 2
    }

    /// The other forms that the answer may be kept in.
    fn others(self) -> impl Iterator<Item = Self> {
        let kinds = match self.kind {
            Kind::Generate | Kind::StreamGenerate => [Kind::Generate, Kind::StreamGenerate],
            kind => [kind, kind],
        };
        let usage = matches!(self.kind, Kind::Chat | Kind::Completions);
        let plain = Self { kind: kinds[0], stream: false, usage: false, array: false };
        let stream = Self { kind: kinds[1], stream: true, usage: false, array: false };
        let counted = usage.then_some(Self { usage: true, ..stream });
        [Some(plain), Some(stream), counted].into_iter().flatten().filter(move |one| *one != self)
    }

    /// The same answer in this form, if nothing is lost by that.
    fn render(self, entry: &Entry) -> Option<Entry> {
        let Entry { kind, form, ref body, .. } = *entry;
        if self.array {
            return None;
        }
        let plain = |body| Entry {
            kind: self.kind,
            form: Form::Json,
            stream: false,
            content_type: Some(b"application/json"[..].into()),
            body,
            frames: Box::default(),
            ..entry.clone()
        };
        if !self.stream {
            return wire::fold(kind, form, body).map(plain);
        }
        let unfolded = if entry.stream {
            wire::restream(kind, form, body, self.usage)?
        } else {
            wire::unfold(self.kind, body, self.usage)?
        };
        let wire::Unfolded { form, content_type, body, ends } = unfolded;
        let piece = |end| cache::Piece { end, at_ms: 0 };
        Some(Entry {
            kind: self.kind,
            form,
            stream: true,
            content_type: Some(content_type.as_bytes().into()),
            body,
            frames: ends.into_iter().map(piece).collect(),
            ..entry.clone()
        })
    }
}

impl Bounds {
    fn accepts(&self, age: Duration, left: Duration) -> bool {
        let Self { max_age, min_fresh, ttl, .. } = *self;
        Control { max_age, min_fresh, ttl, ..Control::default() }.accepts(age, left)
    }
}

impl Lookup {
    pub fn only_if_cached(&self) -> bool {
        self.control.only_if_cached
    }

    /// What is in memory, or in flight. Waits for nothing.
    pub fn peek(&mut self, worker: &Worker, now: SystemTime) -> Option<Found> {
        if self.control.no_cache {
            return None;
        }
        if self.vectors.is_some() {
            return self.peek_vectors(worker, now);
        }
        if let Some(entry) = self.space.get_now(&self.key, now) {
            return self.hit(entry, self.key, Tier::Memory, now).map(Found::Hit);
        }
        let seat = self.rule.coalesce.then(|| worker.hubs.join(&self.key)).flatten();
        if let Some(seat) = seat {
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
        if self.control.no_cache {
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

    pub fn no_cache(&self) -> bool {
        self.control.no_cache
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
        self.control.accepts(age, left).then_some((age, left))
    }

    /// How long what is kept now may be given.
    pub fn ttl(&self) -> Duration {
        self.control.ttl.map_or(self.rule.ttl, |ttl| ttl.min(self.rule.ttl))
    }

    /// Behind leave: looks again, and begins the call or joins it.
    pub fn claim(
        mut self: Box<Self>,
        worker: &Worker,
        now: SystemTime,
    ) -> (Claimed, Option<Box<Self>>) {
        if let Some(found) = self.peek(worker, now) {
            return (Claimed::Found(found), Some(self));
        }
        let keep = match &self.vectors {
            Some(_) => embeddings::LONGEST,
            None => usize::try_from(self.rule.max_entry).unwrap_or(usize::MAX),
        };
        let (lead, seat) = if self.rule.coalesce && !self.control.no_cache {
            match worker.hubs.claim(self.key, keep) {
                Claim::Join(seat) => {
                    return (Claimed::Found(Found::Join(seat)), Some(self));
                }
                Claim::Lead(lead, seat) => (lead, seat),
            }
        } else {
            worker.hubs.alone(self.key, keep)
        };
        (Claimed::Miss(Box::new(Leading { lead, seat, miss: Miss(()), lookup: self })), None)
    }

    /// Keeps an answer that has come, if it is worth it.
    pub fn keep(self, worker: &Worker, answered: Answered) {
        if self.vectors.is_some() {
            return self.keep_vectors(worker, &answered);
        }
        let Answered { kind, form, content_type, recorded, usage, clamped } = answered;
        let Recorded { body, frames } = recorded;
        let Some(facts) = wire::facts(kind, form, &body) else { return };
        let filtered = matches!(facts.finish, Finish::Filtered);
        if facts.empty || filtered || (facts.calls_tools && !self.rule.tool_calls) {
            return;
        }
        // what ended by itself is what it would have been without the bound; but responses repeat it
        let ended = matches!(facts.finish, Finish::Stop | Finish::Tools);
        if clamped && (!ended || kind == Kind::Responses) {
            return;
        }
        let ttl = self.ttl();
        if ttl.is_zero() {
            return;
        }
        let rate = worker.live.peek().prices.of(&self.author.model);
        let entry = Entry {
            kind,
            form,
            stream: self.asked.stream,
            content_type,
            body,
            frames,
            stored: SystemTime::now(),
            ttl,
            usage,
            cost_nano: usage.map(|usage| rate.cost(&usage)),
            author: self.author,
        };
        let entry = Arc::new(entry);
        self.space.put(self.key, Arc::clone(&entry));
        if let Some(similar) = self.similar {
            similar.answered(worker, self.question, &entry, &facts);
        }
    }
}
