use super::*;
use crate::agents::{Ladder, Seen};
use crate::config::{Goal, Route as Rule};
use crate::telemetry::metrics::Metrics;
use crate::upstream::Registry;

/// A route to upstreams with these shares, and as many fallbacks behind them.
fn route(weights: &[u32], fallbacks: usize, models: &[(&str, &str)]) -> Route {
    let (registry, metrics) = (Registry::default(), Metrics::new());
    let target = |goal: &Goal| {
        let config = config::Upstream::new(&format!("up-{}", goal.to));
        let upstream = Upstream::prepare(&config, &registry, 0, &metrics, &|_| None).unwrap();
        Target::new(goal, Arc::new(upstream), metrics.target("r", &config.name, "p"))
    };
    let to = weights.iter().enumerate();
    let mut rule = Rule::new("r", 0);
    rule.to = to.map(|(to, weight)| Goal { weight: *weight, ..Goal::new(to) }).collect();
    rule.fallback = (0..fallbacks).map(|at| Goal::new(weights.len() + at)).collect();
    rule.models = models.iter().map(|(glob, name)| ((*glob).into(), (*name).into())).collect();
    let targets = rule.to.iter().chain(&rule.fallback).map(target).collect();
    Route::new(&rule, targets, None)
}

/// How many of the numbers below `dice` choose each target, where only these take calls.
fn chosen(route: &Route, open: &[usize], dice: u64) -> Vec<u64> {
    let mut counts = vec![0; route.targets.len()];
    for dice in 0..dice {
        counts[route.pick(|at| open.contains(&at), || dice)] += 1;
    }
    counts
}

#[test]
fn weights_are_exact_shares_of_the_dice() {
    let route = route(&[3, 1, 6], 2, &[]);
    assert_eq!(chosen(&route, &[0, 1, 2, 3, 4], 1000), [300, 100, 600, 0, 0]);
    // who takes no calls leaves its share to the others, by theirs
    assert_eq!(chosen(&route, &[0, 1, 3, 4], 1000), [750, 250, 0, 0, 0]);
    assert_eq!(chosen(&route, &[2], 10), [0, 0, 10, 0, 0]);
    // a number of any size: this one ends with 5
    assert_eq!(route.pick(|_| true, || u64::MAX), 2);
}

#[test]
fn fallbacks_are_chosen_first_only_where_nobody_before_them_takes_calls() {
    let route = route(&[1, 1], 2, &[]);
    assert_eq!(chosen(&route, &[2, 3], 10), [0, 0, 10, 0]);
    assert_eq!(chosen(&route, &[3], 10), [0, 0, 0, 10]);
    // nobody does: the first will say so
    assert_eq!(chosen(&route, &[], 10), [10, 0, 0, 0]);
}

#[test]
fn one_that_has_no_others_asks_nobody() {
    let route = route(&[1], 0, &[]);
    assert_eq!(route.pick_by(|| unreachable!("no dice")), 0);
}

#[test]
fn the_first_alias_that_fits_counts() {
    let route = route(&[1], 0, &[("fast", "a"), ("f*", "b"), ("same", "same")]);
    let alias = |model| route.alias(model).map(|name| &**name);
    assert_eq!(["fast", "faster", "slow", "same"].map(alias), [Some("a"), Some("b"), None, None]);
}

#[test]
fn a_target_is_asked_for_its_own_model_else_for_the_alias_of_what_is_named() {
    let mut plain = route(&[1], 1, &[("fast", "a"), ("small", "s")]);
    plain.targets[1].model = Some("own".into());
    let mut aim = Aim::new(&Arc::new(plain), 0);
    assert_eq!([Some("fast"), Some("x"), None].map(|m| aim.model(m)), [Some("a"), Some("x"), None]);
    // what stands in for it has aliases as well
    aim.instead = Some("small".into());
    assert_eq!(aim.model(Some("fast")), Some("s"));
    aim.at = 1;
    assert_eq!([Some("fast"), None].map(|m| aim.model(m)), [Some("own"), Some("own")]);
}

#[test]
fn answers_are_others_where_a_route_leads_elsewhere() {
    let walls = [
        route(&[1], 0, &[]).wall,
        route(&[1], 1, &[]).wall,
        route(&[1], 0, &[("a", "b")]).wall,
        route(&[1], 0, &[("a", "c")]).wall,
        {
            let rule = Rule { fallback: Vec::new(), ..Rule::new("r", 0) };
            let mut whole = route(&[1], 0, &[]);
            whole.targets[0].model = Some("m".into());
            super::wall(&rule, &whole.targets)
        },
    ];
    for (at, wall) in walls.iter().enumerate() {
        assert!(!walls[..at].contains(wall), "{at}");
    }
    assert_eq!(walls[0], route(&[7], 0, &[]).wall, "shares change no answer");
}

/// Routes of these prefixes and models, in order, and what becomes of a call: the route that reads it
/// and as what, and the one that it takes.
fn read_and_taken(
    routes: &[(&str, Option<&str>)],
    (method, path): (Method, &str),
    model: Option<&str>,
) -> (usize, Kind, Option<usize>) {
    let rule = |(path, model): &(&str, Option<&str>)| {
        let mut made = route(&[1], 0, &[]);
        (made.prefix, made.model) = ((*path).into(), model.map(Into::into));
        made
    };
    let routes = Routes::new(routes.iter().map(rule).collect());
    let at = |found: &Arc<Route>| routes.all.iter().position(|one| Arc::ptr_eq(one, found));
    let who = Ladder::new(&config::Agents::default(), &Arc::default());
    let headers = HeaderMap::new();
    let who = who.identify(&Seen::default(), &headers, None, || 0).ok().unwrap().identity;
    let asked = Asked { method: &method, path, who: &who, headers: &headers };
    let first = routes.first(asked).unwrap();
    let taken = routes.select(asked, model, first.meaning());
    (at(first.route).unwrap(), first.meaning(), taken.and_then(|taken| at(taken.route)))
}

#[test]
fn a_path_means_what_it_means_below_the_route_that_is_taken() {
    let claude = ("", Some("claude-*"));
    for (prefix, path, kind) in [
        ("/ollama", "/ollama/api/chat", Kind::OllamaChat),
        ("/groq", "/groq/chat/completions", Kind::Chat),
        ("/azure", "/azure/openai/deployments/d/chat/completions", Kind::Chat),
    ] {
        let routes = [claude, (prefix, None)];
        let post = (Method::POST, path);
        // the first route knows nothing of this path: the second says what it is, and takes it
        for model in [Some("other"), Some("claude-x")] {
            assert_eq!(read_and_taken(&routes, post.clone(), model), (1, kind, Some(1)), "{path}");
        }
        let by_model = [claude, (prefix, Some("other"))];
        assert_eq!(read_and_taken(&by_model, post.clone(), Some("other")), (1, kind, Some(1)));
        assert_eq!(read_and_taken(&by_model, post, Some("third")), (1, kind, None));
    }
    let realtime = (Method::GET, "/azure/openai/realtime");
    let routes = [claude, ("/azure", None)];
    assert_eq!(read_and_taken(&routes, realtime, Some("m")), (1, Kind::Session, Some(1)));
    // both know it: the model decides
    let chat = || (Method::POST, "/v1/chat/completions");
    let routes = [claude, ("", None)];
    assert_eq!(read_and_taken(&routes, chat(), Some("claude-x")), (0, Kind::Chat, Some(0)));
    assert_eq!(read_and_taken(&routes, chat(), Some("other")), (0, Kind::Chat, Some(1)));
    // nobody does: it goes on unread, and never where a model is asked for
    let upload = (Method::POST, "/files/upload");
    assert_eq!(read_and_taken(&routes, upload, None), (0, Kind::Other, Some(1)));
    // one that asks for no model passes on what it does not know, and what is behind it reads nothing
    let chat = || (Method::POST, "/ollama/api/chat");
    let routes = [("/ollama", Some("x")), ("", None)];
    assert_eq!(read_and_taken(&routes, chat(), Some("x")), (0, Kind::OllamaChat, Some(0)));
    assert_eq!(read_and_taken(&routes, chat(), Some("other")), (0, Kind::OllamaChat, Some(1)));
    let routes = [("", None), ("/ollama", None)];
    assert_eq!(read_and_taken(&routes, chat(), Some("x")), (0, Kind::Other, Some(0)));
}
