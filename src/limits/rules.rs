//! The policies, prepared: which limits a call is under, and whose bucket of each it uses.
//!
//! A bucket outlives a reload as long as its limit means the same: the same calls, per the same
//! thing, of the same measure, over the same time. Amount, burst and mode may change; what has been
//! used stays used.
//!
//! What policies say of answers that are given again is looked up apart from limits: a policy that
//! says no more than that is none of the limits' business.
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::bucket::{Refill, Shape};
use super::calendar::Periods;
use crate::config::{
    self, Cache, CacheRule, Limit, Matcher, Measure, Mode, Per, Policy, Queue, Runaway,
    TokenWeights, Window,
};
use crate::identity::{Class, Identity};
use crate::telemetry::metrics::{LimitCount, Metrics};
use crate::units::glob_matches;

/// All policies.
#[derive(Debug, Default)]
pub struct Rules {
    /// Those that limit or order calls.
    pub all: Vec<Arc<Rule>>,
    /// Those that say whether answers are given again; the last one first.
    caches: Vec<CacheOf>,
    /// Those that say how long streams can be taken up again; the last one first.
    resumes: Vec<(Matcher, Duration)>,
}

/// One policy, as far as it limits or orders calls.
#[derive(Debug)]
pub struct Rule {
    pub name: Arc<str>,
    matches: Matcher,
    pub per: Per,
    pub weight: u32,
    pub priority: Option<Class>,
    pub token_weights: TokenWeights,
    pub queue: Option<Queue>,
    pub runaway: Option<Runaway>,
    pub cut_streams: bool,
    pub limits: Vec<Arc<LimitOf>>,
}

/// One limit of a policy.
#[derive(Debug)]
pub struct LimitOf {
    /// The same over reloads; and its first half, as a key.
    pub id: [u8; 16],
    pub key: u64,
    /// How headers name it: `"policy/measure"`; with what it grants, `;q=600;w=60`.
    pub named: Box<str>,
    pub granted: Box<str>,
    pub policy: Arc<str>,
    /// `policy/measure`
    pub label: Arc<str>,
    pub measure: Measure,
    pub per: Per,
    pub shape: Shape,
    pub weights: TokenWeights,
    pub queue: Option<Queue>,
    pub cut_streams: bool,
    /// As the policy has it.
    pub window: Duration,
    /// How often it said no, or would have.
    pub count: Arc<LimitCount>,
    /// It refills too slowly to be forgotten at a restart.
    pub lasting: bool,
}

/// What a policy says of answers that are given again.
#[derive(Debug)]
struct CacheOf {
    policy: Arc<str>,
    matches: Matcher,
    rule: CacheRule,
}

/// What policies look at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'s> {
    pub who: &'s Identity,
    pub model: &'s str,
    pub route: &'s str,
    pub upstream: &'s str,
}

/// Refill slower than this outlives the process.
const SLOW: Duration = Duration::from_hours(1);

impl Rules {
    pub fn prepare(policies: &[Policy], metrics: &Metrics) -> Self {
        let mut known = HashMap::new();
        let rule = |policy| Arc::new(Rule::prepare(policy, metrics, &mut known));
        Self {
            all: policies.iter().filter(|policy| !is_apart(policy)).map(rule).collect(),
            caches: policies.iter().rev().filter_map(CacheOf::prepare).collect(),
            resumes: policies
                .iter()
                .rev()
                .filter_map(|policy| Some((policy.matches.clone(), policy.resume?)))
                .collect(),
        }
    }

    /// No policy limits or orders calls.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether some calls may be answered again; where not, there is no need to ask of each.
    pub fn has_caches(&self) -> bool {
        self.caches.iter().any(|cache| cache.rule != CacheRule::Off)
    }

    /// How this call may be answered again, and by which policy: the last one that matches and has
    /// a `cache`. `None`: it may not.
    pub fn cache_of(&self, call: &Subject<'_>) -> Option<(&Arc<str>, &Arc<Cache>)> {
        let last = self.caches.iter().find(|cache| matches(&cache.matches, call))?;
        match &last.rule {
            CacheRule::Off => None,
            CacheRule::On(cache) => Some((&last.policy, cache)),
        }
    }

    /// Whether some policy says how long streams can be taken up again.
    pub fn has_resumes(&self) -> bool {
        !self.resumes.is_empty()
    }

    /// How long a stream of this call can be taken up again when its client is gone, as the last
    /// policy says that matches and has a `resume`. `None`: no policy says so.
    pub fn resume_of(&self, call: &Subject<'_>) -> Option<Duration> {
        let mut matching = self.resumes.iter().filter(|(matcher, _)| matches(matcher, call));
        matching.next().map(|(_, grace)| *grace)
    }

    /// How urgent this call is: as the last policy that matches says, else as its caller does.
    pub fn class_of(&self, call: &Subject<'_>) -> Class {
        let matching = self.all.iter().filter(|rule| rule.matches(call));
        matching.filter_map(|rule| rule.priority).next_back().unwrap_or(call.who.class)
    }

    /// Whether a guard against loops looks at this call, and so has to know its conversation.
    pub fn guards(&self, call: &Subject<'_>) -> bool {
        self.all.iter().any(|rule| rule.runaway.is_some() && rule.matches(call))
    }
}

impl Rule {
    fn prepare(policy: &Policy, metrics: &Metrics, known: &mut Known) -> Self {
        let limit = |limit| {
            let id = identity(policy, limit, known);
            Arc::new(LimitOf::prepare(policy, limit, id, metrics))
        };
        let limits = policy.limits.iter().map(limit);
        Self {
            name: Arc::clone(&policy.name),
            matches: policy.matches.clone(),
            per: policy.per,
            weight: policy.weight.max(1),
            priority: policy.priority,
            token_weights: policy.token_weights,
            queue: policy.queue,
            runaway: policy.runaway,
            cut_streams: policy.cut_streams,
            limits: limits.collect(),
        }
    }

    pub fn matches(&self, call: &Subject<'_>) -> bool {
        matches(&self.matches, call)
    }

    /// Whether an attempt at another upstream was charged here as well: a limit of requests that is
    /// not about one upstream.
    pub fn is_paid_elsewhere(&self, limit: &LimitOf) -> bool {
        let of_one = self.matches.upstream.is_some() || limit.per == Per::Upstream;
        limit.measure == Measure::Requests && !of_one
    }
}

impl CacheOf {
    fn prepare(policy: &Policy) -> Option<Self> {
        Some(Self {
            policy: Arc::clone(&policy.name),
            matches: policy.matches.clone(),
            rule: policy.cache.clone()?,
        })
    }
}

/// Whether a policy has a `cache` or a `resume` and changes nothing else about a call.
fn is_apart(policy: &Policy) -> bool {
    let Policy { weight, priority, limits, queue, runaway, cache, resume, .. } = policy;
    let orders = *weight > 1 || priority.is_some() || queue.is_some() || runaway.is_some();
    (cache.is_some() || resume.is_some()) && limits.is_empty() && !orders
}

fn matches(matcher: &Matcher, call: &Subject<'_>) -> bool {
    let Matcher { agent, team, session, model, route, upstream, class } = matcher;
    let fits = |glob: &Option<Arc<str>>, text: Option<&str>| match (glob, text) {
        (None, _) => true,
        (Some(glob), Some(text)) => glob_matches(glob, text),
        (Some(_), None) => false,
    };
    class.is_none_or(|class| class == call.who.class)
        && fits(agent, Some(&call.who.agent))
        && fits(team, call.who.team.as_deref())
        && fits(session, call.who.session.as_deref())
        && fits(model, Some(call.model))
        && fits(route, Some(call.route))
        && fits(upstream, Some(call.upstream))
}

impl LimitOf {
    fn prepare(policy: &Policy, limit: &Limit, id: [u8; 16], metrics: &Metrics) -> Self {
        let (refill, window) = match limit.window {
            Window::Rate(per) => {
                let nanos = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX).max(1);
                (Refill::Steady { amount: limit.amount, per: nanos }, per)
            }
            Window::Calendar(calendar) => {
                let of = match calendar {
                    config::Calendar::Hour => Duration::from_hours(1),
                    config::Calendar::Day => Duration::from_hours(24),
                    config::Calendar::Month => Duration::from_hours(24 * 30),
                };
                (Refill::Calendar(Periods::new(calendar, &policy.time_zone)), of)
            }
            Window::Now => (Refill::Running, Duration::ZERO),
        };
        let capacity = limit.burst.unwrap_or(limit.amount);
        let label = format!("{}/{}", policy.name, limit.measure.as_str());
        // names of policies are letters, digits and a few marks
        let named = format!("\"{label}\"");
        Self {
            count: metrics.limit(&policy.name, limit.measure.as_str(), limit.mode.as_str()),
            key: key(&id),
            id,
            granted: format!(
                "{named};q={};w={}",
                limit.amount / limit.measure.scale(),
                window.as_secs()
            )
            .into(),
            named: named.into(),
            policy: Arc::clone(&policy.name),
            label: label.into(),
            measure: limit.measure,
            per: policy.per,
            lasting: window >= SLOW,
            shape: Shape { refill, capacity, mode: limit.mode },
            weights: policy.token_weights,
            queue: policy.queue,
            cut_streams: policy.cut_streams,
            window,
        }
    }

    /// Whether it is never to be overrun, and money.
    pub fn is_hard_budget(&self) -> bool {
        self.shape.mode == Mode::Hard && matches!(self.shape.refill, Refill::Calendar(_))
    }

    /// Whether it may have nothing to give until the calendar turns.
    pub fn may_run_out(&self) -> bool {
        self.shape.mode != Mode::Observe && matches!(self.shape.refill, Refill::Calendar(_))
    }

    /// Of thousandths of tokens or of dollars: the thousandths that a token counts, or its price.
    pub fn counts_tokens(&self) -> bool {
        !matches!(self.measure, Measure::Requests | Measure::Concurrency)
    }
}

/// How many limits there are of each meaning.
type Known = HashMap<[u8; 16], u32>;

/// A hash of what a limit means; of several that mean the same (one that is enforced, and a lower
/// one that only watches), each has its own.
fn identity(policy: &Policy, limit: &Limit, known: &mut Known) -> [u8; 16] {
    let Policy { matches, per, time_zone, .. } = policy;
    let meaning = (matches, per, limit.measure, limit.window, time_zone);
    let short = |hash: blake3::Hash| {
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        id
    };
    let first = short(blake3::hash(format!("{meaning:?}").as_bytes()));
    let before = known.entry(first).or_insert(0);
    *before += 1;
    match *before {
        1 => first,
        nth => short(blake3::Hasher::new().update(&first).update(&nth.to_le_bytes()).finalize()),
    }
}

fn key(id: &[u8; 16]) -> u64 {
    id.first_chunk().map_or(0, |half| u64::from_le_bytes(*half))
}

/// Whose bucket, of a limit that is per something.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'s> {
    team: Option<&'s str>,
    name: &'s str,
}

impl<'s> Scope<'s> {
    pub fn of(per: Per, call: &Subject<'s>) -> Self {
        let who = call.who;
        let team = who.team.as_deref();
        let (team, name) = match per {
            Per::Agent => (team, &*who.agent),
            // who has no session is one with all others of that agent
            Per::Session => (team, who.session.as_deref().unwrap_or(&who.agent)),
            Per::Team => (None, team.unwrap_or("")),
            Per::Credential => {
                let key = who.grant.as_ref().map(|grant| &*grant.id);
                (None, key.unwrap_or(&who.agent))
            }
            Per::Model => (None, call.model),
            Per::Route => (None, call.route),
            Per::Upstream => (None, call.upstream),
            Per::All => (None, ""),
        };
        Self { team, name }
    }

    pub fn hash(&self, by: &impl BuildHasher) -> u64 {
        let mut hasher = by.build_hasher();
        self.team.hash(&mut hasher);
        self.name.hash(&mut hasher);
        hasher.finish()
    }

    /// Tells a hasher which one it is: names that read alike as a label are not the same.
    pub fn name_to(&self, hasher: &mut blake3::Hasher) {
        let team = self.team.unwrap_or_default();
        hasher.update(&[1 + u8::from(self.team.is_some())]);
        hasher.update(&(team.len() as u64).to_le_bytes());
        hasher.update(team.as_bytes()).update(self.name.as_bytes());
    }

    /// As people read it: `growth/researcher`.
    pub fn label(&self) -> Arc<str> {
        match self.team {
            Some(team) => format!("{team}/{}", self.name).into(),
            None => Arc::from(self.name),
        }
    }
}

#[cfg(test)]
mod tests;
