//! What a policy says that is sound and does nothing, so that its author most likely meant something
//! else. No fault: it is told, and the policy is in force all the same.
use super::{Config, Route};

/// One line each, beginning with the key.
pub fn doubts(config: &Config) -> Vec<String> {
    let mut all = Vec::new();
    for (at, upstream) in config.upstreams.iter().enumerate() {
        let others = |route: &Route| {
            let mut to = route.to.iter().chain(&route.fallback);
            to.clone().count() > 1 && to.any(|goal| goal.to == at)
        };
        if upstream.hedge.is_some() && upstream.urls.len() < 2 && !config.routes.iter().any(others)
        {
            let name = &upstream.name;
            let why = "of no use: there is one url, and no route to it has a second target";
            all.push(format!("upstreams.{name}.hedge: {why}"));
        }
    }
    all
}
