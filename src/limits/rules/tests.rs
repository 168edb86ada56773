//! Which policies are the limits' business, and which decides about answers that are given again.
use super::*;
use crate::identity::Rung;

fn cache(ttl: u64) -> CacheRule {
    CacheRule::On(Arc::new(Cache { ttl: Duration::from_secs(ttl), ..Cache::default() }))
}

fn policy(name: &str, matches: Matcher, cache: Option<CacheRule>) -> Policy {
    Policy { name: name.into(), matches, cache, ..Policy::default() }
}

fn agent(glob: &str) -> Matcher {
    Matcher { agent: Some(glob.into()), ..Matcher::default() }
}

fn prepared(policies: &[Policy]) -> Rules {
    Rules::prepare(policies, &Metrics::new())
}

fn who(agent: &str, team: Option<&str>) -> Identity {
    Identity {
        agent: agent.into(),
        rung: Rung::Key,
        parent: None,
        session: None,
        team: team.map(Arc::from),
        team_proven: false,
        class: Class::Default,
        credential: None,
        grant: None,
        unlisted: None,
    }
}

/// The deciding policy and its time: `wide 1s`; or `none`.
fn decided(rules: &Rules, who: &Identity, model: &str) -> String {
    let call = Subject { who, model, route: "r", upstream: "up" };
    let decided = rules.cache_of(&call);
    decided.map_or("none".to_owned(), |(policy, cache)| format!("{policy} {:?}", cache.ttl))
}

#[test]
fn the_last_policy_that_matches_and_has_a_cache_decides() {
    let off = Some(CacheRule::Off);
    let mut models = agent("r-*");
    models.model = Some("gpt-*".into());
    let rules = prepared(&[
        policy("wide", Matcher::default(), Some(cache(1))),
        policy("narrow", agent("r-*"), Some(cache(2))),
        policy("secret", agent("r-secret"), off),
        policy("models", models, Some(cache(3))),
        policy("silent", Matcher { team: Some("t".into()), ..Matcher::default() }, None),
    ]);
    assert!(rules.has_caches());
    for (agent, model, expected) in [
        ("other", "gpt-5", "wide 1s"),
        ("r-one", "llama", "narrow 2s"),
        ("r-one", "gpt-5", "models 3s"),
        ("r-secret", "llama", "none"),
        ("r-secret", "gpt-5", "models 3s"),
    ] {
        assert_eq!(decided(&rules, &who(agent, Some("t")), model), expected, "{agent} {model}");
    }
}

#[test]
fn who_matches_no_policy_with_a_cache_has_none() {
    let team = Matcher { team: Some("growth".into()), ..Matcher::default() };
    let rules = prepared(&[policy("team", team, Some(cache(1)))]);
    assert_eq!(decided(&rules, &who("a", Some("growth")), "m"), "team 1s");
    assert_eq!(decided(&rules, &who("a", Some("sales")), "m"), "none");
    assert_eq!(decided(&rules, &who("a", None), "m"), "none", "no team is not any team");

    let none = prepared(&[policy("plain", Matcher::default(), None)]);
    let off = prepared(&[policy("off", Matcher::default(), Some(CacheRule::Off))]);
    for rules in [&none, &off] {
        assert_eq!(decided(rules, &who("a", None), "m"), "none");
        assert!(!rules.has_caches());
    }
}

#[test]
fn a_policy_that_only_caches_is_none_of_the_limits_business() {
    let only = policy("only", Matcher::default(), Some(cache(1)));
    let rules = prepared(&[only.clone(), policy("off", agent("a"), Some(CacheRule::Off))]);
    assert!(rules.is_empty() && rules.all.is_empty() && rules.has_caches());

    let one = Limit {
        measure: Measure::Requests,
        amount: 1000,
        window: Window::Rate(Duration::from_secs(1)),
        burst: None,
        mode: Mode::Soft,
    };
    let queue = Some(Queue { wait: Duration::from_secs(1), depth: 1 });
    for both in [
        Policy { limits: vec![one], ..only.clone() },
        Policy { queue, ..only.clone() },
        Policy { weight: 2, ..only.clone() },
        Policy { priority: Some(Class::Batch), ..only.clone() },
        Policy { runaway: Some(Runaway::default()), ..only.clone() },
    ] {
        let rules = prepared(std::slice::from_ref(&both));
        assert!(!rules.is_empty(), "{both:?}");
        assert_eq!(decided(&rules, &who("a", None), "m"), "only 1s", "{both:?}");
    }
    // what does not cache stays where it was, whatever it says
    assert!(!prepared(&[policy("plain", Matcher::default(), None)]).is_empty());
}

#[test]
fn the_last_policy_that_matches_says_how_long_streams_can_be_taken_up_again() {
    let resume = |name, matches, seconds| Policy {
        resume: Some(Duration::from_secs(seconds)),
        ..policy(name, matches, None)
    };
    let rules = prepared(&[
        resume("wide", Matcher::default(), 30),
        resume("none", agent("r-*"), 0),
        policy("silent", Matcher::default(), Some(cache(1))),
    ]);
    assert!(rules.is_empty() && rules.has_resumes(), "it limits nothing");
    let of = |rules: &Rules, agent| {
        let who = who(agent, None);
        rules.resume_of(&Subject { who: &who, model: "m", route: "r", upstream: "up" })
    };
    assert_eq!(of(&rules, "other"), Some(Duration::from_secs(30)));
    assert_eq!(of(&rules, "r-one"), Some(Duration::ZERO));
    let rules = prepared(&[policy("silent", Matcher::default(), None)]);
    assert!(!rules.has_resumes() && of(&rules, "other").is_none());
}
