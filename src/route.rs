//! Which call goes where. Routes are tried in the order of the policy file; the first that matches
//! wins. A route sees the path, the dialect that the path speaks, who calls and with which headers,
//! and the model if one is named. It leads to one or more [`Target`]s: those that share its calls by
//! their weights, and behind them those that calls fall back to.
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, Method};

use crate::config::{self, Exhausted, Offload};
use crate::identity::{Class, Identity};
use crate::telemetry::metrics;
use crate::units::glob_matches;
use crate::upstream::Upstream;
use crate::wire::{self, Dialect, Endpoint, Kind};

/// One route, with what it leads to.
pub struct Route {
    pub name: Arc<str>,
    /// Empty: any path.
    prefix: Arc<str>,
    dialect: Option<Dialect>,
    model: Option<Arc<str>>,
    agent: Option<Arc<str>>,
    class: Option<Class>,
    headers: Vec<(HeaderName, Arc<str>)>,
    /// At least one; the first `spread` share its calls.
    pub targets: Vec<Target>,
    spread: usize,
    models: Vec<(Arc<str>, Arc<str>)>,
    pub on_exhausted: Exhausted,
    /// Whether its calls become tasks.
    pub offload: Offload,
    /// Its own places and queue, by their number in the book of limits.
    pub lane: Option<usize>,
    /// A hash of all that it leads to: answers from elsewhere are others.
    pub wall: [u8; 32],
}

/// An upstream, and what it is asked for.
pub struct Target {
    pub upstream: Arc<Upstream>,
    weight: u32,
    /// The model to ask it for. `None`: the one the call names.
    pub model: Option<Arc<str>>,
    pub metrics: Arc<metrics::Target>,
}

impl Target {
    pub fn new(
        goal: &config::Goal,
        upstream: Arc<Upstream>,
        metrics: Arc<metrics::Target>,
    ) -> Self {
        Self { upstream, weight: goal.weight.max(1), model: goal.model.clone(), metrics }
    }
}

/// A route, and which of its targets a call goes to.
#[derive(Clone)]
pub struct Aim {
    pub route: Arc<Route>,
    pub at: usize,
    /// The model it is asked for because the one it named cannot be had.
    pub instead: Option<Arc<str>>,
}

impl Aim {
    pub fn target(&self) -> &Target {
        &self.route.targets[self.at]
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.target().upstream
    }

    pub fn new(route: &Arc<Route>, at: usize) -> Self {
        Self { route: Arc::clone(route), at, instead: None }
    }

    /// The model that the backend is asked for.
    pub fn model<'a>(&'a self, said: Option<&'a str>) -> Option<&'a str> {
        let said = self.instead.as_deref().or(said);
        let alias = || said.and_then(|model| self.route.alias(model)).map(|name| &**name);
        self.target().model.as_deref().or_else(alias).or(said)
    }
}

/// All routes of a policy.
pub struct Routes {
    all: Vec<Arc<Route>>,
    /// Some route asks for the model, so bodies that name one must be readable.
    by_model: bool,
}

/// A route that matches a call, and what is left of its path.
pub struct Match<'r, 'p> {
    pub route: &'r Arc<Route>,
    pub endpoint: Endpoint<'p>,
    /// The path below the route's prefix; begins with `/`.
    pub rest: &'p str,
}

/// What routes look at.
#[derive(Clone, Copy)]
pub struct Asked<'p, 'h> {
    pub method: &'h Method,
    pub path: &'p str,
    /// As far as the head tells.
    pub who: &'h Identity,
    pub headers: &'h HeaderMap,
}

impl Route {
    /// `targets`: those of `to`, then those of `fallback`; at least one of the first.
    pub fn new(config: &config::Route, targets: Vec<Target>, lane: Option<usize>) -> Self {
        let spread = config.to.len().clamp(1, targets.len().max(1));
        let wall = wall(config, &targets);
        Self {
            name: Arc::clone(&config.name),
            prefix: Arc::clone(&config.path),
            dialect: config.dialect,
            model: config.model.clone(),
            agent: config.agent.clone(),
            class: config.class,
            headers: config.headers.clone(),
            targets,
            spread,
            models: config.models.clone(),
            on_exhausted: config.on_exhausted.clone(),
            offload: config.offload,
            lane,
            wall,
        }
    }

    /// The first of its targets: what policies and the cache take it for.
    pub fn primary(&self) -> &Target {
        &self.targets[0]
    }

    /// Whether some backend of it judges the callers' own credentials.
    pub fn passes_credentials(&self) -> bool {
        self.targets.iter().any(|target| !target.upstream.holds_key())
    }

    /// The target that a call goes to first, by the weights; one whose upstream takes no calls is
    /// passed over while another does, so that nobody stands in line for it. `dice`: gives any
    /// number.
    pub fn pick_by(&self, dice: impl FnOnce() -> u64) -> usize {
        if self.targets.len() == 1 {
            return 0;
        }
        let now = Instant::now();
        self.pick(|at| self.targets[at].upstream.is_open_for(now), dice)
    }

    /// `open`: whether a target takes calls.
    fn pick(&self, open: impl Fn(usize) -> bool, dice: impl FnOnce() -> u64) -> usize {
        if !(0..self.spread).any(&open) {
            return (self.spread..self.targets.len()).find(|at| open(*at)).unwrap_or(0);
        }
        if self.spread == 1 {
            return 0;
        }
        let weight = |at: usize| u64::from(self.targets[at].weight);
        let total: u64 = (0..self.spread).filter(|at| open(*at)).map(weight).sum();
        let mut left = dice() % total.max(1);
        for at in 0..self.spread {
            // asked anew: it may have closed meanwhile
            if open(at) {
                if left < weight(at) {
                    return at;
                }
                left -= weight(at);
            }
        }
        0
    }

    /// The name that the policy has for a model.
    pub fn alias(&self, model: &str) -> Option<&Arc<str>> {
        let found = self.models.iter().find(|(glob, _)| glob_matches(glob, model));
        found.map(|(_, name)| name).filter(|name| ***name != *model)
    }

    /// The model that its first target is asked for, where it is not the one that was named.
    pub fn sends<'a>(&'a self, model: &str) -> Option<&'a Arc<str>> {
        self.primary().model.as_ref().or_else(|| self.alias(model))
    }

    /// What is left of a path below its prefix; begins with `/`.
    pub fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&*self.prefix)?;
        match rest.as_bytes().first() {
            Some(b'/') => Some(rest),
            None => Some("/"),
            // `/openai` is no prefix of `/openaix`
            Some(_) => None,
        }
    }

    fn matches<'p>(&self, asked: Asked<'p, '_>) -> Option<(Endpoint<'p>, &'p str)> {
        let rest = self.below(asked.path)?;
        if !self.matches_caller(asked) {
            return None;
        }
        let mut endpoint = wire::endpoint(asked.method, rest);
        // the path alone does not tell (`/v1/models`)
        if endpoint.kind == Kind::Models && asked.headers.contains_key("anthropic-version") {
            endpoint.dialect = Some(Dialect::Anthropic);
        }
        (self.dialect.is_none() || self.dialect == endpoint.dialect).then_some((endpoint, rest))
    }

    fn matches_caller(&self, asked: Asked<'_, '_>) -> bool {
        let agent = self.agent.as_ref().is_none_or(|glob| glob_matches(glob, &asked.who.agent));
        let class = self.class.is_none_or(|class| class == asked.who.class);
        let has = |(name, glob): &(HeaderName, Arc<str>)| {
            let mut values = asked.headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
            values.any(|value| glob_matches(glob, value))
        };
        agent && class && self.headers.iter().all(has)
    }
}

fn wall(config: &config::Route, targets: &[Target]) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    let mut part = |part: &[u8]| {
        hash.update(&(part.len() as u64).to_le_bytes()).update(part);
    };
    for target in targets {
        part(&target.upstream.wall);
        part(target.model.as_deref().unwrap_or("").as_bytes());
    }
    for (glob, name) in &config.models {
        part(glob.as_bytes());
        part(name.as_bytes());
    }
    *hash.finalize().as_bytes()
}

impl Routes {
    pub fn new(all: Vec<Route>) -> Self {
        let by_model = all.iter().any(|route| route.model.is_some() || !route.models.is_empty());
        Self { all: all.into_iter().map(Arc::new).collect(), by_model }
    }

    /// In the policy's order.
    pub fn all(&self) -> &[Arc<Route>] {
        &self.all
    }

    pub fn need_model(&self) -> bool {
        self.by_model
    }

    /// The first route that may be the call's and knows what its path means; else the first that may
    /// be: it says what the path means before the body has been read, and is the call's route unless
    /// routes ask for the model.
    pub fn first<'r, 'p>(&'r self, asked: Asked<'p, '_>) -> Option<Match<'r, 'p>> {
        let mut found = None;
        for route in &self.all {
            let Some((endpoint, rest)) = route.matches(asked) else { continue };
            let one = Match { route, endpoint, rest };
            if one.meaning() != Kind::Other {
                return Some(one);
            }
            found = found.or(Some(one));
            // none behind it is ever reached
            if route.model.is_none() {
                break;
            }
        }
        found
    }

    /// The route of a call that was read as what its path means by [`Self::first`]. One under whose
    /// prefix the path means something else does not fit, for then it would be read as one call and
    /// sent as another; one that asks for no model may pass it on without knowing it.
    pub fn select<'r, 'p>(
        &'r self,
        asked: Asked<'p, '_>,
        model: Option<&str>,
        read_as: Kind,
    ) -> Option<Match<'r, 'p>> {
        self.all.iter().find_map(|route| {
            let (endpoint, rest) = route.matches(asked)?;
            let found = Match { route, endpoint, rest };
            let meaning = found.meaning();
            let fits = match (&route.model, model) {
                (None, _) => meaning == read_as || meaning == Kind::Other,
                (Some(glob), Some(model)) => meaning == read_as && glob_matches(glob, model),
                (Some(_), None) => false,
            };
            fits.then_some(found)
        })
    }
}

impl Match<'_, '_> {
    /// What the path means below this route: a session too, though only an upgrade makes it one.
    pub fn meaning(&self) -> Kind {
        match self.endpoint.kind {
            Kind::Other if wire::is_session(self.rest) => Kind::Session,
            kind => kind,
        }
    }
}

#[cfg(test)]
mod tests;
