//! Which call goes where. Routes are tried in the order of the policy file; the first that matches
//! wins. A route sees the path, the dialect that the path speaks, and the model if one is named.
use std::sync::Arc;

use http::Method;

use crate::config;
use crate::telemetry::metrics::Target;
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
    pub upstream: Arc<Upstream>,
    pub metrics: Arc<Target>,
}

/// All routes of a policy.
pub struct Routes {
    all: Vec<Route>,
    /// Some route asks for the model, so bodies that name one must be readable.
    by_model: bool,
}

/// A route that matches a call, and what is left of its path.
pub struct Match<'r, 'p> {
    pub route: &'r Route,
    pub endpoint: Endpoint<'p>,
    /// The path below the route's prefix; begins with `/`.
    pub rest: &'p str,
}

/// What routes look at.
#[derive(Clone, Copy)]
pub struct Asked<'p> {
    pub method: &'p Method,
    pub path: &'p str,
    /// The caller speaks Anthropic's dialect where the path alone does not tell (`/v1/models`).
    pub anthropic: bool,
}

impl Route {
    pub fn new(config: &config::Route, upstream: Arc<Upstream>, metrics: Arc<Target>) -> Self {
        Self {
            name: Arc::clone(&config.name),
            prefix: Arc::clone(&config.path),
            dialect: config.dialect,
            model: config.model.clone(),
            upstream,
            metrics,
        }
    }

    fn matches_path<'p>(&self, asked: Asked<'p>) -> Option<(Endpoint<'p>, &'p str)> {
        let rest = asked.path.strip_prefix(&*self.prefix)?;
        let rest = match rest.as_bytes().first() {
            Some(b'/') => rest,
            None => "/",
            // `/openai` is no prefix of `/openaix`
            Some(_) => return None,
        };
        let mut endpoint = wire::endpoint(asked.method, rest);
        if endpoint.kind == Kind::Models && asked.anthropic {
            endpoint.dialect = Some(Dialect::Anthropic);
        }
        (self.dialect.is_none() || self.dialect == endpoint.dialect).then_some((endpoint, rest))
    }
}

impl Routes {
    pub fn new(all: Vec<Route>) -> Self {
        let by_model = all.iter().any(|route| route.model.is_some());
        Self { all, by_model }
    }

    pub fn need_model(&self) -> bool {
        self.by_model
    }

    /// The first route whose path matches: it says what the path means before the body has been
    /// read, and is the call's route unless routes ask for the model.
    pub fn first<'r, 'p>(&'r self, asked: Asked<'p>) -> Option<Match<'r, 'p>> {
        self.all.iter().find_map(|route| {
            let (endpoint, rest) = route.matches_path(asked)?;
            Some(Match { route, endpoint, rest })
        })
    }

    /// The route of a call.
    pub fn select<'r, 'p>(
        &'r self,
        asked: Asked<'p>,
        model: Option<&str>,
    ) -> Option<Match<'r, 'p>> {
        self.all.iter().find_map(|route| {
            let (endpoint, rest) = route.matches_path(asked)?;
            let fits = match (&route.model, model) {
                (None, _) => true,
                (Some(glob), Some(model)) => glob_matches(glob, model),
                (Some(_), None) => false,
            };
            fits.then_some(Match { route, endpoint, rest })
        })
    }
}
