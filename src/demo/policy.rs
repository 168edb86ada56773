//! What the demo's sidecar runs by: all vendors, as without a policy file, and the simulator in
//! every vendor's place. For the acts about limits a small upstream and one policy more, for those
//! about what is asked again another policy, for tasks a directory; none of them touches a call that
//! does not ask for it. The show prints the text that is in force.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::config::{
    self, Address, Admin, CacheRule, Config, Faults, Host, Listen, Origin, Policy, Route, Upstream,
    without_file,
};

/// The prefix of the small upstream.
pub const SMALL: &str = "/small";
/// Calls that the small upstream takes at once.
pub const PLACES: usize = 2;
/// The agent with a budget.
pub const SPENDER: &str = "spender";
/// As a policy file says it.
pub const BUDGET: &str =
    "{ name: budget, match: { agent: spender }, limits: { spend: $0.01/day hard } }";
/// The agent that asks again what was asked before.
pub const ASKER: &str = "asker";
/// As a policy file says it.
pub const CACHE: &str =
    "{ name: once, match: { agent: asker }, cache: { ttl: 1h, canonical: true, semantic: on } }";

/// With the simulator as the only backend, and state in that directory.
pub fn config(
    simulator: SocketAddr,
    listen: SocketAddr,
    admin: SocketAddr,
    state: &Path,
) -> Result<Config, Faults> {
    let at = |addr| Listen { at: Address::Tcp(addr), tls: None };
    let mut config = without_file();
    config.listen = vec![at(listen)];
    config.admin = Some(Admin::at(Address::Tcp(admin)));
    add_small(&mut config);
    let policies = format!("state: .\npolicies:\n  - {BUDGET}\n  - {CACHE}\n");
    let said = config::parse("the demo's policy", &policies, &|_| None)?;
    (config.tasks, config.policies) = (said.tasks, said.policies);
    config.state = Some(state.to_owned());
    config.policies.iter_mut().for_each(serve_all);
    for upstream in &mut config.upstreams {
        upstream.urls = vec![Origin {
            tls: false,
            host: Host::Name(simulator.ip().to_string().into()),
            port: simulator.port(),
            path: "".into(),
        }];
    }
    Ok(config)
}

fn add_small(config: &mut Config) {
    let upstream =
        Upstream { concurrency: Some(PLACES), ..Upstream::new(SMALL.trim_start_matches('/')) };
    let route =
        Route { path: Arc::from(SMALL), ..Route::new(&upstream.name, config.upstreams.len()) };
    // before the bare paths, which take any prefix
    config.routes.insert(0, route);
    config.upstreams.push(upstream);
}

/// The one thing that the text does not say: no hit is sent upstream to be compared. There come
/// random words, and every show is to be the same.
fn serve_all(policy: &mut Policy) {
    if let Some(CacheRule::On(cache)) = &mut policy.cache
        && let Some(semantic) = &mut Arc::make_mut(cache).semantic
    {
        semantic.explore = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Measure, Mode, SemanticMode};

    #[test]
    fn only_the_agents_of_the_show_are_limited_and_cached() {
        let at = SocketAddr::from(([127, 0, 0, 1], 1));
        let config = config(at, at, at, Path::new("/here")).unwrap();
        assert_eq!(config.state.as_deref(), Some(Path::new("/here")));
        assert!(config.tasks.is_some());
        let [policy, once] = &config.policies[..] else { panic!("{:?}", config.policies) };
        assert_eq!(policy.matches.agent.as_deref(), Some(SPENDER));
        let [limit] = &policy.limits[..] else { panic!("{:?}", policy.limits) };
        assert_eq!((limit.measure, limit.mode), (Measure::Spend, Mode::Hard));
        assert_eq!(once.matches.agent.as_deref(), Some(ASKER));
        assert!(once.limits.is_empty() && policy.cache.is_none());
        let Some(CacheRule::On(cache)) = &once.cache else { panic!("{once:?}") };
        let semantic = cache.semantic.as_ref().unwrap();
        assert!(cache.canonical && semantic.mode == SemanticMode::On);
        assert!(semantic.explore <= 0.0, "every show is the same");
        for route in &config.routes {
            let places = config.upstreams[route.to[0].to].concurrency;
            assert_eq!(places, (&*route.path == SMALL).then_some(PLACES), "{route:?}");
        }
    }
}
