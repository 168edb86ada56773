//! What the demo's sidecar runs by: all vendors, as without a policy file, and the simulator in
//! every vendor's place. For the acts about limits a small upstream and one policy more, neither of
//! which touches a call that does not ask for it. The show prints the text that is in force.
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{
    self, Address, Config, Faults, Host, Listen, Origin, Route, Upstream, without_file,
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

/// With the simulator as the only backend.
pub fn config(
    simulator: SocketAddr,
    listen: SocketAddr,
    admin: SocketAddr,
) -> Result<Config, Faults> {
    let at = |addr| Listen { at: Address::Tcp(addr), tls: None };
    let mut config = without_file();
    config.listen = vec![at(listen)];
    config.admin = Some(at(admin));
    add_small(&mut config);
    let policy = format!("policies:\n  - {BUDGET}\n");
    config.policies = config::parse("the demo's policy", &policy, &|_| None)?.policies;
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
    let route = Route {
        path: Arc::from(SMALL),
        dialect: None,
        model: None,
        to: config.upstreams.len(),
        name: Arc::clone(&upstream.name),
    };
    // before the bare paths, which take any prefix
    config.routes.insert(0, route);
    config.upstreams.push(upstream);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Measure, Mode};

    #[test]
    fn only_the_agents_of_the_show_are_limited() {
        let at = SocketAddr::from(([127, 0, 0, 1], 1));
        let config = config(at, at, at).unwrap();
        let [policy] = &config.policies[..] else { panic!("{:?}", config.policies) };
        assert_eq!(policy.matches.agent.as_deref(), Some(SPENDER));
        let [limit] = &policy.limits[..] else { panic!("{:?}", policy.limits) };
        assert_eq!((limit.measure, limit.mode), (Measure::Spend, Mode::Hard));
        for route in &config.routes {
            let places = config.upstreams[route.to].concurrency;
            assert_eq!(places, (&*route.path == SMALL).then_some(PLACES), "{route:?}");
        }
    }
}
