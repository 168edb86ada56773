//! What surrounds the process: proxies in the environment, a container, the zones of calendars.
use std::collections::BTreeSet;
use std::path::Path;

use super::finding::Finding;
use crate::config::{Address, Config, Host, ProxyRule, Window};
use crate::upstream::proxy::Proxy;

/// What a container or a pod leaves to be seen.
#[derive(Debug, Default, Clone, Copy)]
struct Around {
    container: bool,
    kubernetes: bool,
}

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let kubernetes = env("KUBERNETES_SERVICE_HOST").is_some();
    let marks = ["/.dockerenv", "/run/.containerenv"].map(Path::new);
    let container = kubernetes || marks.iter().any(|mark| mark.exists());
    let mut found = proxies(config, &env);
    found.extend(reach(config, Around { container, kubernetes }));
    found.extend(zones(config));
    found
}

/// Only `https` upstreams go through one, and only by `HTTPS_PROXY`.
fn proxies(config: &Config, env: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    const CHECK: &str = "proxies";
    let proxy = match Proxy::new(&ProxyRule::Environment, env) {
        Ok(proxy) => proxy,
        Err(error) => {
            let advice = "mend the variable, or say `proxy: off` in the upstreams";
            return vec![Finding::fail(CHECK, error.to_string(), advice)];
        }
    };
    let mut via = BTreeSet::new();
    let mut through = 0;
    let by_environment = |proxy: &ProxyRule| *proxy == ProxyRule::Environment;
    for upstream in config.upstreams.iter().filter(|one| by_environment(&one.proxy)) {
        for url in upstream.urls.iter().filter(|url| url.tls) {
            let Host::Name(host) = &url.host else { continue };
            if let Some(one) = proxy.for_origin(host, url.port) {
                via.insert(format!("{}:{}", one.host, one.port));
                through += 1;
            }
        }
    }
    let mut found = Vec::new();
    if !via.is_empty() {
        let via: Vec<String> = via.into_iter().collect();
        let says = format!("HTTPS_PROXY: {through} address(es) through {}", via.join(", "));
        found.push(Finding::ok(CHECK, says));
    }
    let unread = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    let set: Vec<&str> = unread.into_iter().filter(|name| env(name).is_some()).collect();
    let https = env("https_proxy").or_else(|| env("HTTPS_PROXY")).is_some();
    if !set.is_empty() && !https {
        let says = format!("{} is set, and is not read", set.join(", "));
        let advice = "https upstreams go through HTTPS_PROXY, or `proxy` in the upstream";
        found.push(Finding::warn(CHECK, says, advice));
    }
    found
}

/// Whether those that should reach us can.
fn reach(config: &Config, around: Around) -> Vec<Finding> {
    const CHECK: &str = "container";
    if !around.container {
        return Vec::new();
    }
    let loopback = |at: &Address| matches!(at, Address::Tcp(at) if at.ip().is_loopback());
    let mut found = Vec::new();
    let agents = config.listen.iter().all(|listen| loopback(&listen.at));
    if agents && !around.kubernetes {
        let says = "in a container, and `listen` is loopback: nobody outside of it gets in";
        let advice = "--listen 0.0.0.0:8080 and -p 127.0.0.1:8080:8080, or --network host";
        found.push(Finding::warn(CHECK, says, advice));
    }
    let admin = config.admin.as_ref().is_some_and(|admin| loopback(&admin.at));
    if admin && around.kubernetes {
        let says = "in a pod, and `admin` is loopback: the node's probes do not reach it";
        let advice = "TIDEGATE_ADMIN=$(POD_IP):8081, as packaging/kubernetes.yaml has it";
        found.push(Finding::warn(CHECK, says, advice));
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, "in a container, and reached from where it should be"));
    }
    found
}

/// Which midnight a calendar budget means.
fn zones(config: &Config) -> Option<Finding> {
    let calendar =
        |limits: &[crate::config::Limit]| limits.iter().any(|limit| is_calendar(limit.window));
    let zones: BTreeSet<&str> = config
        .policies
        .iter()
        .filter(|policy| calendar(&policy.limits))
        .map(|policy| &*policy.time_zone)
        .collect();
    let zones: Vec<&str> = zones.into_iter().collect();
    (!zones.is_empty())
        .then(|| Finding::ok("calendar", format!("budgets begin anew by {}", zones.join(", "))))
}

fn is_calendar(window: Window) -> bool {
    matches!(window, Window::Calendar(_))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Ok, Warn};
    use super::*;
    use crate::config::parse;

    fn policy(text: &str) -> Config {
        parse("test.yaml", text, &|_| None).unwrap()
    }

    const ONE: &str = "upstreams: { a: { dialect: openai, url: 'https://llm.example' } }\n";

    #[test]
    fn a_proxy_is_told_without_its_password() {
        let env = |value: &'static str| {
            move |name: &str| (name == "HTTPS_PROXY").then(|| value.to_owned())
        };
        let found = proxies(&policy(ONE), &env("http://me:canary@proxy.example:3128"));
        assert_eq!(found[0].verdict, Ok);
        assert!(found[0].says.ends_with("through proxy.example:3128"), "{found:?}");
        let found = proxies(&policy(ONE), &env("socks5://me:canary@proxy.example"));
        assert!(found[0].verdict == Fail && !format!("{found:?}").contains("canary"));
        let other = |name: &str| (name == "ALL_PROXY").then(|| "http://p:1".to_owned());
        assert_eq!(proxies(&policy(ONE), &other)[0].verdict, Warn);
        assert!(proxies(&policy(ONE), &|_| None).is_empty());
    }

    #[test]
    fn loopback_in_a_container_is_told() {
        let container = Around { container: true, kubernetes: false };
        let pod = Around { container: true, kubernetes: true };
        assert_eq!(reach(&policy(ONE), container)[0].verdict, Warn);
        assert_eq!(reach(&policy("listen: 0.0.0.0:8080\n"), container)[0].verdict, Ok);
        assert!(reach(&policy(ONE), pod)[0].says.contains("probes"));
        assert_eq!(reach(&policy("admin: 0.0.0.0:8081\n"), pod)[0].verdict, Ok);
        assert!(reach(&policy(ONE), Around::default()).is_empty());
    }

    #[test]
    fn the_zones_of_calendar_budgets_are_told() {
        let text = "policies: [{ limits: { spend: $20/day }, time_zone: Europe/Berlin }]\n";
        assert!(zones(&policy(text)).unwrap().says.contains("Europe/Berlin"));
        assert_eq!(zones(&policy("policies: [{ limits: { requests: 5/min } }]\n")), None);
    }
}
