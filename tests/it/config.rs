//! The policy file from outside: each wrong key has its message, each right file its meaning.
//!
//! `tests/fixtures/config/bad/NAME.yaml` must give exactly the faults in `NAME.txt`. Run with
//! `UPDATE=1` to write the messages anew, then read the difference.
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate::config::{
    self, Access, Address, Agents, Auth, Balance, Breaker, Cache, CacheRule, Calendar, Config,
    Embedder, Exhausted, Faults, Goal, HealthCheck, Hedge, Host, Http2, KeyHash, Limit, LogForm,
    LogTo, Measure, Mode, Offload, Pacing, Per, Policy, Price, ProxyRule, Queue, Replay, Retry,
    Route, Runaway, RunawayAction, Scope, Secret, Semantic, SemanticMode, TaskEnd, TokenWeights,
    Upstream, WebSocket, Window,
};
use tidegate::identity::{Class, Rung};
use tidegate::wire::Dialect;

/// Stands wherever a secret may stand, also in the wrong places; no message may show it.
const CANARY: &str = "canary-7f3a91c4";

fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config").join(kind)
}

fn env(name: &str) -> Option<String> {
    match name {
        "KEY" => Some(format!("sk-{CANARY}")),
        "EMPTY" => Some(String::new()),
        "NUMBER" => Some("64".to_owned()),
        "WORDS" => Some("not a number".to_owned()),
        "LINES" => Some(format!("{CANARY}\r\nx-evil: 1")),
        "YAML" => Some("{ url: http://evil }".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, Faults> {
    config::parse("tests/fixtures/config/policy.yaml", text, &env)
}

#[test]
fn every_wrong_key_has_its_message() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut names: Vec<PathBuf> = fs::read_dir(fixtures("bad"))
        .expect("the fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 170, "{} fixtures", names.len());
    let mut wrong = Vec::new();
    for path in names {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("text");
        let Err(faults) = config::parse(&path.display().to_string(), &text, &env) else {
            wrong.push(format!("{name}: accepted"));
            continue;
        };
        // a path of this machine must not stand in the expected message
        let here = format!("{}/", fixtures("bad").display());
        let got = format!("{faults}\n").replace(&here, "");
        assert!(!got.contains(CANARY), "{name} shows a secret:\n{got}");
        assert!(!format!("{faults:?}").contains(CANARY), "{name} shows a secret in Debug");
        let lines: Vec<u32> = faults.as_slice().iter().map(|fault| fault.line).collect();
        assert!(lines.is_sorted(), "{name}: {lines:?}");
        let expected = path.with_extension("txt");
        if update {
            fs::write(&expected, &got).expect("writable");
        } else if fs::read_to_string(&expected).unwrap_or_default() != got {
            wrong.push(format!("{name}: now says\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn right(text: &str) -> Config {
    parse(text).unwrap_or_else(|faults| panic!("{faults}"))
}

fn exposed(upstream: &Upstream) -> Vec<&str> {
    upstream.keys.iter().map(Secret::expose).collect()
}

/// The one upstream that a route leads to.
fn only(route: &Route) -> usize {
    assert_eq!(route.to, [Goal::new(route.to[0].to)]);
    route.to[0].to
}

fn url(text: &str) -> (String, String) {
    let config = right(&format!("upstreams: {{ a: {text} }}"));
    let upstream = &config.upstreams[0];
    (upstream.urls[0].to_string(), upstream.api_prefix.to_string())
}

#[test]
fn an_empty_file_is_as_no_file() {
    for text in ["", "# nothing\n", "---\n", "{}", "server: {}"] {
        assert_eq!(right(text), config::without_file(), "{text:?}");
    }
}

#[test]
fn without_a_file_vendors_come_by_prefix_and_sdk_paths_by_dialect() {
    let config = config::without_file();
    assert_eq!(config.listen[0].at, Address::Tcp(([127, 0, 0, 1], 8080).into()));
    for name in ["openai", "anthropic", "gemini", "groq", "mistral", "openrouter", "ollama"] {
        let route = config.routes.iter().find(|route| *route.path == format!("/{name}"));
        let to = route.expect(name).to[0].to;
        assert_eq!(&*config.upstreams[to].name, name);
    }
    let bare: Vec<_> = config.routes.iter().filter(|route| route.path.is_empty()).collect();
    let bare: Vec<_> =
        bare.iter().map(|route| (route.dialect, &*config.upstreams[route.to[0].to].name)).collect();
    assert_eq!(
        bare,
        [
            (Some(Dialect::OpenAi), "openai"),
            (Some(Dialect::Anthropic), "anthropic"),
            (Some(Dialect::Gemini), "gemini"),
            (Some(Dialect::Ollama), "ollama"),
        ]
    );
    let first_bare = config.routes.iter().position(|route| route.path.is_empty());
    assert!(config.routes[first_bare.expect("some")..].iter().all(|route| route.path.is_empty()));
    for upstream in &config.upstreams {
        assert_eq!(upstream.keys, [], "the caller's credential passes through");
    }
}

#[test]
fn a_url_is_right_with_and_without_its_version() {
    for (given, origin, prefix) in [
        ("https://api.openai.com", "https://api.openai.com:443", "/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com:443", "/v1"),
        ("https://api.groq.com", "https://api.groq.com:443/openai", "/v1"),
        ("https://api.groq.com/openai", "https://api.groq.com:443/openai", "/v1"),
        ("https://api.groq.com/openai/v1", "https://api.groq.com:443/openai", "/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "/v1"),
        ("http://127.0.0.1:8000/llm/v4", "http://127.0.0.1:8000/llm", "/v4"),
        ("http://127.0.0.1:8000/llm", "http://127.0.0.1:8000/llm", "/v1"),
        ("https://x.openai.azure.com", "https://x.openai.azure.com:443", "/openai/v1"),
        ("https://x.openai.azure.com/openai/v1", "https://x.openai.azure.com:443", "/openai/v1"),
    ] {
        assert_eq!(url(given), (origin.to_owned(), prefix.to_owned()), "{given}");
    }
    let gemini = "https://generativelanguage.googleapis.com";
    for given in [gemini.to_owned(), format!("{gemini}/v1beta")] {
        assert_eq!(url(&given), (format!("{gemini}:443"), "/v1beta".to_owned()));
    }
    let ollama = right("upstreams: { ollama: { url: http://10.0.0.9:11434 } }");
    assert_eq!(ollama.upstreams[0].dialect, Dialect::Ollama);
    assert_eq!(&*ollama.upstreams[0].api_prefix, "");
}

#[test]
fn a_preset_goes_by_host_and_then_by_name() {
    let config = right(
        "upstreams:\n  mine: { url: https://api.anthropic.com, key: '${KEY}' }\n  anthropic: { url: http://127.0.0.1:1 }\n  plain: http://h\n",
    );
    let [mine, named, plain] = &config.upstreams[..] else { panic!("three") };
    assert_eq!(mine.dialect, Dialect::Anthropic);
    assert_eq!(mine.auth, Auth::Header("x-api-key".parse().expect("a name")));
    assert_eq!(&*mine.provider, "anthropic");
    assert_eq!(exposed(mine), [format!("sk-{CANARY}")]);
    assert_eq!(named.dialect, Dialect::Anthropic);
    assert_eq!((plain.dialect, &*plain.provider), (Dialect::OpenAi, "plain"));
    assert!(!format!("{config:?}").contains(CANARY));
    assert!(!config::redacted(&config).contains(CANARY));
}

#[test]
fn upstreams_without_routes_get_their_prefix_and_the_bare_paths() {
    let config = right("upstreams: { a: http://a, b: http://b, ollama: {} }");
    let routes: Vec<_> =
        config.routes.iter().map(|route| (&*route.path, route.dialect, only(route))).collect();
    assert_eq!(
        routes,
        [
            ("/a", None, 0),
            ("/b", None, 1),
            ("/ollama", None, 2),
            ("", Some(Dialect::OpenAi), 0),
            ("", Some(Dialect::Ollama), 2),
        ]
    );
}

#[test]
fn every_form_is_understood() {
    let text = fs::read_to_string(fixtures("good").join("all_forms.yaml")).expect("text");
    let name = fixtures("good").join("all_forms.yaml");
    let config = config::parse(&name.display().to_string(), &text, &env)
        .unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.listen.len(), 4);
    assert_eq!(config.listen[1].at, Address::Unix(PathBuf::from("/run/tidegate.sock")));
    assert_eq!(config.listen[2].at, Address::Inherited(Some("web".to_owned())));
    let tls = config.listen[3].tls.as_ref().expect("tls");
    assert!(tls.cert.is_absolute() && tls.client_ca.is_some() && !tls.client_required);
    assert_eq!(config.admin, None);
    assert_eq!((config.server.max_body, config.server.drain_delay), (1_000_000, Duration::ZERO));

    let local = &config.upstreams[0];
    assert_eq!(exposed(local), ["from-a-file"]);
    assert_eq!(local.concurrency, Some(64), "digits from the environment");
    assert_eq!((local.pool.max_idle, local.pool.warm), (8, 4), "merged from the anchor");
    assert_eq!(local.timeouts.total, Duration::from_mins(5));
    assert_eq!(local.timeouts.first_byte, local.timeouts.total, "a default is cut to total");
    assert_eq!(local.http2, Http2::Always);
    assert_eq!(local.headers[0].1, "a: b # c");
    assert!(local.headers[0].1.is_sensitive());
    assert_eq!(config.upstreams[1].urls[0].host, Host::Unix(PathBuf::from("/run/llm.sock")));
    assert!(matches!(
        &config.upstreams[2].proxy,
        ProxyRule::Through { port: 3128, authorization: Some(_), .. }
    ));
    assert!(config.upstreams[3].builtin && config.upstreams[3].urls.is_empty());

    let routes: Vec<_> = config
        .routes
        .iter()
        .map(|route| (&*route.path, route.model.as_deref(), only(route), &*route.name))
        .collect();
    assert_eq!(
        routes,
        [
            ("/a/b", None, 0, "/a/b"),
            ("/v1", Some("llama-*"), 1, "/v1 llama-*"),
            ("/v1", Some("*"), 2, "rest"),
            ("", None, 3, "*"),
        ]
    );
    assert_eq!(config.telemetry.level, "tidegate=debug,warn");
    assert_eq!((config.telemetry.form, &config.telemetry.access_log), (LogForm::Json, &LogTo::Off));
}

#[test]
fn what_is_for_bad_days_is_understood() {
    let config = good("resilience.yaml");
    assert_eq!((config.server.memory, config.server.heartbeat), (1 << 30, None));
    let [local, bare, once, quick, _] = &config.upstreams[..] else { panic!("five") };
    let secs = Duration::from_secs;
    assert_eq!(exposed(local), ["from-a-file", &format!("sk-{CANARY}")]);
    assert_eq!(local.balance, Balance::Prefix);
    let times = &local.timeouts;
    let times = [times.queue, times.first_content, times.between_tokens, times.first_byte];
    assert_eq!(times, [secs(1), secs(60), secs(10), secs(600)]);
    let retry = Retry {
        attempts: 5,
        budget: 0.0,
        backoff: Duration::from_millis(50),
        longest: Duration::from_millis(50),
        hold: Duration::ZERO,
        slow: Some(secs(60)),
        on_timeout: true,
        in_place: true,
    };
    assert_eq!(local.retry, retry);
    let breaker = Breaker {
        errors: 12.5,
        window: secs(60),
        least: 1,
        failures: 2,
        open: secs(1),
        longest: secs(1),
    };
    assert_eq!(local.breaker, Some(breaker));
    let path = "/health?deep=1".into();
    let check = HealthCheck { path, every: secs(1), timeout: secs(1), failures: 3, successes: 2 };
    assert_eq!(local.health, Some(check), "the default timeout is cut to `every`");
    assert_eq!(local.hedge, Some(Hedge { after: Some(secs(3)), budget: 0.5 }));
    let websocket = WebSocket { sessions: Some(100), idle: secs(60), longest: secs(60) };
    assert_eq!(local.websocket, websocket);

    assert_eq!((&bare.retry, bare.breaker), (&Retry::off(), None));
    assert_eq!(bare.health, Some(HealthCheck::new("/ok")));
    assert_eq!(bare.hedge, Some(Hedge::default()));
    assert_eq!((bare.balance, bare.websocket.idle), (Balance::LeastBusy, secs(300)));
    assert_eq!((&once.retry, &once.health, once.hedge), (&Retry::off(), &None, None));
    let breaker = Breaker { open: secs(5), longest: secs(5), ..Breaker::default() };
    assert_eq!(once.breaker, Some(breaker));
    assert_eq!((quick.retry.hold, quick.retry.backoff), (secs(1), Duration::from_millis(20)));
    assert_eq!(quick.hedge, Some(Hedge::default()));
}

#[test]
fn routes_are_understood() {
    let config = good("resilience.yaml");
    let [first, second, tools, last] = &config.routes[..] else { panic!("four") };
    let goal = |to, weight, model: Option<&str>| Goal { to, weight, model: model.map(Arc::from) };
    let text = |pair: [&str; 2]| (Arc::from(pair[0]), Arc::from(pair[1]));
    let expected = Route {
        path: "/v1".into(),
        dialect: None,
        model: Some("gpt-*".into()),
        agent: Some("research-*".into()),
        class: Some(Class::Batch),
        headers: [["x-tier", "gold*"], ["x-zone", "eu"]]
            .map(|[name, glob]| (name.parse().expect("a name"), Arc::from(glob)))
            .to_vec(),
        to: vec![goal(1, 9, None), goal(0, 1, None)],
        fallback: vec![goal(3, 1, None), goal(0, 1, Some("llama-3.3-70b")), goal(1, 1, Some("m"))],
        models: vec![text(["gpt-fast", "gpt-4o-mini"]), text(["gpt-*", "gpt-4o"])],
        concurrency: Some(64),
        on_exhausted: Exhausted::Downgrade("gpt-4o-mini".into()),
        offload: Offload::Offered,
        name: "/v1 gpt-* agent:research-* class:batch x-tier:gold* x-zone:eu".into(),
    };
    assert_eq!(*first, expected);
    assert_eq!((&*second.name, &second.on_exhausted), ("/v1 x-tier:gold", &Exhausted::Queue));
    assert_eq!(second.to, [goal(0, 3, None)]);
    assert_eq!((tools.concurrency, &tools.on_exhausted), (Some(8), &Exhausted::Refuse));
    assert_eq!((&*last.name, last), ("/v1", &Route { path: "/v1".into(), ..Route::new("/v1", 2) }));
}

#[test]
fn tasks_are_understood() {
    let config = good("tasks.yaml");
    let tasks = config.tasks.as_ref().expect("tasks");
    let hours = |hours| Duration::from_hours(hours);
    assert_eq!((tasks.workers, tasks.per_agent_count, tasks.attempts), (4, 10, 1));
    assert_eq!((tasks.per_agent_bytes, tasks.max_result), (16 << 20, 16 << 20));
    assert_eq!((tasks.keep, tasks.max_age), (hours(48), hours(1)));
    let [ops, inside, _] = &tasks.webhooks[..] else { panic!("three") };
    assert_eq!((&*ops.name, ops.origin.to_string().as_str()), ("ops", "https://ops.example:443"));
    assert_eq!((&*ops.path, ops.query.as_ref().map(Secret::expose)), ("/hook/", Some("code=abc")));
    assert_eq!((ops.secrets.len(), ops.private, &ops.events[..]), (1, false, &TaskEnd::ALL[..]));
    assert_eq!((inside.secrets.len(), inside.private, inside.origin.tls), (2, true, false));
    assert_eq!(inside.events, [TaskEnd::Failed, TaskEnd::Interrupted]);
    let offloads: Vec<_> = config.routes.iter().map(|route| route.offload).collect();
    assert_eq!(offloads, [Offload::Always, Offload::Never, Offload::Offered]);
    let resumes: Vec<_> = config.policies.iter().map(|policy| policy.resume).collect();
    assert_eq!(resumes, [Some(Duration::from_secs(30)), Some(Duration::ZERO)]);
    let shown = config::redacted(&config);
    assert!(!shown.contains("MfKQ9r8G") && !shown.contains("code=abc"), "{shown}");
    assert!(!format!("{config:?}").contains("MfKQ9r8G"));
    for line in ["url: \"https://ops.example:443/redacted\"", "async: always", "resume: 0s"] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    // on wherever there is a place for them
    assert!(right("state: ./x").tasks.is_some() && right("{}").tasks.is_none());
    assert!(right("state: ./x\ntasks: off").tasks.is_none() && right("tasks: off").tasks.is_none());
}

#[test]
fn what_is_shown_of_bad_days_reads_back() {
    let config = good("resilience.yaml");
    let shown = config::redacted(&config);
    assert!(!shown.contains("from-a-file") && !shown.contains(CANARY), "{shown}");
    let mut back = right(&shown);
    for (back, real) in back.upstreams.iter_mut().zip(&config.upstreams) {
        assert_eq!(back.keys.len(), real.keys.len());
        back.keys.clone_from(&real.keys);
    }
    assert_eq!(back, config);
}

/// `timeouts.queue` alone is a fault: something must be waited for.
#[test]
fn a_route_that_waits_gives_the_queue_of_its_upstream_a_meaning() {
    let told = |route: &str| {
        let upstream = "a: { url: http://a, pacing: off, timeouts: { queue: 1s } }";
        parse(&format!("upstreams: {{ {upstream} }}\nroutes: [{{ to: a{route} }}]")).is_err()
    };
    for idle in ["", ", on_exhausted: refuse", ", on_exhausted: { model: m }"] {
        assert!(told(idle), "{idle}");
    }
    for waits in ["concurrency: 1", "on_exhausted: queue", "on_exhausted: \"${NONE:-queue}\""] {
        assert!(!told(&format!(", {waits}")), "{waits}");
    }
}

fn good(name: &str) -> Config {
    let path = fixtures("good").join(name);
    let text = fs::read_to_string(&path).expect("text");
    config::parse(&path.display().to_string(), &text, &env)
        .unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn agents_are_understood() {
    let config = good("agents_and_policies.yaml");
    assert_eq!(config.state, Some(fixtures("good").join("./data")));
    let pacing: Vec<_> = config.upstreams.iter().map(|upstream| upstream.pacing).collect();
    assert_eq!(pacing, [Pacing::Latency, Pacing::Off]);

    let agents = &config.agents;
    assert_eq!(agents.access, Access::Open, "said, though there are keys");
    assert_eq!(agents.identify, [Rung::Key, Rung::Mtls, Rung::Peer, Rung::Header, Rung::Address]);
    assert_eq!(agents.header, "x-who");
    assert_eq!(agents.team_header.as_ref().map(http::HeaderName::as_str), Some("x-team"));
    let trust: Vec<_> = agents.trust.iter().map(ToString::to_string).collect();
    assert_eq!(trust, ["10.0.0.0/8", "127.0.0.1/32", "::1/128", "fd00::/8"]);
    assert_eq!(agents.pepper.as_ref().map(Secret::expose), Some("from-a-file"));

    let [first, second] = &agents.keys[..] else { panic!("two") };
    assert!(
        matches!(first.hash, KeyHash::Sha256(hash) if hash[..2] == [0x9f, 0x86] && hash[31] == 8)
    );
    assert_eq!(
        (first.agent.as_deref(), first.team.as_deref()),
        (Some("researcher"), Some("growth"))
    );
    assert_eq!(first.expires, Some(1_801_353_600), "midnight UTC");
    assert_eq!((first.models.len(), &*first.routes[0]), (2, "n*"));
    assert!(matches!(second.hash, KeyHash::Hmac(hash) if hash[0] == 0x60));
    assert_eq!((second.agent.is_none(), second.expires), (true, Some(1_801_389_600)));
    assert_eq!(&*agents.certificates[0].san, "spiffe://cluster/ns/*/sa/research");
    assert_eq!(agents.certificates[1].team.as_deref(), Some("internal"));
    assert_eq!((agents.peers[0].uid, agents.peers[0].gid), (Some(0), Some(0)));
    assert_eq!((agents.peers[1].uid, agents.peers[1].process.as_deref()), (None, Some("node")));
}

#[test]
fn only_those_who_are_listed_are_let_in_unless_said() {
    assert_eq!(right("").agents, Agents::default());
    let access = |text: &str| right(text).agents.access;
    assert_eq!(access("agents: { header: x-who }"), Access::Open);
    assert_eq!(access("agents: { peers: [{ uid: 1 }] }"), Access::Known);
    assert_eq!(access("agents: { access: open, peers: [{ uid: 1 }] }"), Access::Open);
    assert_eq!(access("state: ./x\nagents: { access: known }"), Access::Known);
}

#[test]
fn prices_are_understood() {
    let prices = good("agents_and_policies.yaml").prices;
    let plain = Price { input: 2_500_000, output: 10_000_000, ..Price::default() };
    let first = Price {
        input: 1_250_000,
        output: 10_000_000,
        cached_input: Some(125_000),
        cache_write: Some(0),
        reasoning: Some(10_000_001),
    };
    let models: Vec<_> = prices.models.iter().map(|(glob, price)| (&**glob, *price)).collect();
    assert_eq!(models, [("gpt-5", first), ("gpt-*", plain), ("*", plain)], "in the file's order");
    assert_eq!(prices.file, Some(fixtures("good").join("../files/prices.json")));
}

fn limit(measure: Measure, amount: i64, window: Window) -> Limit {
    Limit { measure, amount, window, burst: None, mode: Mode::Soft }
}

#[test]
fn policies_are_understood() {
    let config = good("agents_and_policies.yaml");
    let [all, fair, last] = &config.policies[..] else { panic!("three") };
    let minute = Window::Rate(Duration::from_mins(1));
    let day = Window::Calendar(Calendar::Day);
    let calls = limit(Measure::Requests, 600_000, minute);
    let mut tokens = limit(Measure::Tokens, 400_000_000, minute);
    tokens.burst = Some(100_000_000);
    let mut budget = limit(Measure::Tokens, 5_000_000_000, day);
    budget.mode = Mode::Observe;
    let mut spend = limit(Measure::Spend, 20_000_000_000, day);
    spend.mode = Mode::Hard;
    let at_once = limit(Measure::Concurrency, 16, Window::Now);
    let expected = Policy {
        per: Per::All,
        limits: vec![calls.clone(), tokens.clone(), budget.clone(), spend, at_once],
        token_weights: TokenWeights { cached_input: 100, cache_write: 1250, reasoning: 125 },
        cut_streams: true,
        time_zone: Arc::from("Europe/Berlin"),
        ..Policy::default()
    };
    assert_eq!(*all, expected);

    assert_eq!((&*fair.name, fair.per, fair.weight), ("fair", Per::Session, 1000));
    assert_eq!(fair.priority, Some(Class::Interactive));
    assert_eq!(fair.matches.upstream.as_deref(), Some("near"));
    assert_eq!((fair.matches.team.as_deref(), fair.matches.class), (Some("t"), Some(Class::Batch)));
    let month = Duration::from_hours(24 * 30);
    let mut input = limit(Measure::InputTokens, 500_000, Window::Rate(Duration::from_secs(1)));
    input.mode = Mode::Hard;
    let output = limit(Measure::OutputTokens, 1_500_000_000, Window::Rate(month));
    let hourly = limit(Measure::Spend, 500_000_000, Window::Calendar(Calendar::Hour));
    let mut monthly = limit(Measure::Spend, 300_000_000_000, Window::Calendar(Calendar::Month));
    monthly.mode = Mode::Observe;
    let mut steady = limit(Measure::Spend, 2_000_000_000, Window::Rate(Duration::from_hours(1)));
    steady.burst = Some(5_000_000_000);
    let mut at_once = limit(Measure::Concurrency, 64, Window::Now);
    at_once.mode = Mode::Observe;
    let limits = [calls, input, output, tokens, budget, hourly, monthly, steady, at_once];
    assert_eq!(fair.limits, limits, "merged from the anchor, in the order of the measures");
    assert_eq!(fair.queue, Some(Queue { wait: Duration::from_mins(2), depth: 1 }));
    let runaway = Runaway { repeats: 3, factor: 2.5, action: RunawayAction::Stop };
    assert_eq!(fair.runaway, Some(runaway));
    assert_eq!((&*last.name, last.queue), ("policy-3", Some(Queue::default())));
    assert_eq!(last.runaway, Some(Runaway::default()));
}

#[test]
fn caches_are_understood() {
    let config = good("caches.yaml");
    let caches: Vec<&CacheRule> =
        config.policies.iter().filter_map(|policy| policy.cache.as_ref()).collect();
    let [plain, full, word, remote, off] = &caches[..] else { panic!("five of six") };
    let on = |cache| CacheRule::On(Arc::new(cache));
    let hour = Duration::from_hours(1);
    assert_eq!(**plain, on(Cache { ttl: hour, ..Cache::default() }));

    let semantic = Semantic {
        mode: SemanticMode::On,
        threshold: 1.0,
        ttl: Duration::from_hours(2),
        explore: 0.001,
        max_wrong: 1.0,
        temperature: 0.0,
        entries: 50_000,
        embedder: Embedder::Builtin,
    };
    let expected = Cache {
        ttl: Duration::from_hours(2),
        scope: Scope::Shared,
        memory: 64 << 10,
        disk: 0,
        max_entry: 1 << 10,
        temperature: Some(0.3),
        tool_calls: false,
        replay: Replay::Recorded,
        coalesce: false,
        embeddings: true,
        control: false,
        canonical: true,
        semantic: Some(semantic),
    };
    assert_eq!(**full, on(expected));

    let semantic =
        Semantic { mode: SemanticMode::On, ttl: Duration::from_mins(10), ..Semantic::default() };
    let expected = Cache {
        ttl: Duration::from_mins(10),
        scope: Scope::Team,
        memory: 1 << 20,
        max_entry: 1 << 20,
        semantic: Some(semantic),
        ..Cache::default()
    };
    assert_eq!(**word, on(expected), "defaults are cut to what holds them");

    let CacheRule::On(remote) = remote else { panic!("on") };
    let semantic = remote.semantic.as_ref().expect("there");
    assert_eq!((semantic.mode, remote.disk), (SemanticMode::Shadow, 20 << 30));
    let embedder = Embedder::Remote { upstream: "local".into(), model: "bge".into() };
    assert_eq!(semantic.embedder, embedder);
    assert_eq!(**off, CacheRule::Off);

    let back = right(&config::redacted(&config));
    assert_eq!(back.policies, config.policies);
}

#[test]
fn what_is_off_is_not_there() {
    let cache = |text: &str| {
        let mut config = right(&format!("policies: [{{ cache: {text} }}]"));
        match config.policies.pop().and_then(|policy| policy.cache) {
            Some(CacheRule::On(cache)) => cache,
            other => panic!("{other:?}"),
        }
    };
    let plain = cache("{ ttl: 1h }");
    assert_eq!((plain.disk, &plain.semantic), (0, &None), "without `state` there is no disk");
    for text in [
        "{ ttl: 1h, disk: off, semantic: off }",
        "{ ttl: 1h, embeddings: true, semantic: { mode: off, threshold: 0.95 } }",
        "{ ttl: \"${NONE:-1h}\", disk: \"${NONE:-off}\" }",
    ] {
        assert_eq!(cache(text), plain, "{text}");
    }
    let quiet = cache("{ ttl: 1h, embeddings: false }");
    assert!(!quiet.embeddings);
}

#[test]
fn where_a_policy_stands_must_let_its_cache_decide() {
    let told = |policies: &str| parse(&format!("policies: [{policies}]")).is_err();
    let on = "cache: { ttl: 1h }";
    for (policies, wrong) in [
        // the narrower one after the wider one
        (format!("{{ {on} }}, {{ match: {{ agent: a }}, {on} }}"), false),
        (format!("{{ match: {{ agent: a }}, {on} }}, {{ {on} }}"), true),
        (format!("{{ match: {{ agent: a-b }}, {on} }}, {{ match: {{ agent: a-* }}, {on} }}"), true),
        (format!("{{ match: {{ agent: a }}, {on} }}, {{ match: {{ model: m }}, {on} }}"), false),
        (
            format!(
                "{{ match: {{ class: batch }}, {on} }}, {{ match: {{ class: default }}, {on} }}"
            ),
            false,
        ),
        // only those that have a `cache` count
        (format!("{{ match: {{ agent: a }}, {on} }}, {{ weight: 2 }}"), false),
        // `off`, alone, as the default, as an exception, and as an exception from nothing
        ("{ cache: off }".to_owned(), false),
        (format!("{{ cache: off }}, {{ match: {{ agent: a }}, {on} }}"), false),
        (format!("{{ {on} }}, {{ match: {{ agent: a }}, cache: off }}"), false),
        (format!("{{ match: {{ agent: a }}, cache: off }}, {{ {on} }}"), true),
        (
            format!("{{ match: {{ agent: a }}, cache: off }}, {{ match: {{ model: m }}, {on} }}"),
            true,
        ),
        (
            format!(
                "{{ {on} }}, {{ match: {{ agent: a }}, cache: off }}, {{ match: {{ model: m }}, {on} }}"
            ),
            false,
        ),
    ] {
        assert_eq!(told(&policies), wrong, "{policies}");
    }
}

#[test]
fn no_secret_of_agents_is_ever_shown() {
    let config = good("agents_and_policies.yaml");
    for text in [config::redacted(&config), format!("{config:?}")] {
        assert!(text.contains("9f86d081"), "{text}");
        for secret in ["from-a-file", "9f86d0818", "60303ae22", "0x9f", "159, 134"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn routes_may_name_known_vendors_without_upstreams() {
    let config = right("routes: [{ path: /x, to: anthropic }]");
    assert_eq!(&*config.upstreams[only(&config.routes[0])].name, "anthropic");
}

#[test]
fn a_hostile_file_is_refused_in_bounded_time() {
    let large = "#".repeat((1 << 20) + 1);
    assert!(parse(&large).expect_err("large").to_string().contains("1 MiB"));
    let keys: String =
        (0..20_000).flat_map(|n| ["k".to_owned(), n.to_string(), ": {}\n".to_owned()]).collect();
    let start = std::time::Instant::now();
    assert!(parse(&keys).expect_err("unknown").as_slice().len() >= 1_000);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn load_knows_what_to_watch_and_when_nothing_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, secret) = (dir.path().join("policy.yaml"), dir.path().join("secret"));
    fs::write(&secret, "one\n").expect("written");
    fs::write(&file, "upstreams: { a: { url: http://a, key: 'file:secret' } }\n").expect("written");
    let first = config::load(&file).expect("right");
    assert_eq!(first.files, [file.clone(), secret.clone()]);
    assert_eq!(exposed(&first.config.upstreams[0]), ["one"]);
    assert_eq!(config::load(&file).expect("right").digest, first.digest);
    fs::write(&secret, "two\n").expect("written");
    assert_ne!(config::load(&file).expect("right").digest, first.digest);

    // a price file may be larger than a policy
    let prices = dir.path().join("prices.json");
    fs::write(&prices, "{".to_owned() + &" ".repeat(3 << 20) + "}").expect("written");
    fs::write(&file, "price_file: prices.json\n").expect("written");
    let first = config::load(&file).expect("right");
    assert_eq!(first.files, [file.clone(), prices.clone()]);
    fs::write(&prices, "{}").expect("written");
    assert_ne!(config::load(&file).expect("right").digest, first.digest);
    fs::write(&prices, " ".repeat((16 << 20) + 1)).expect("written");
    let faults = config::load(&file).expect_err("too large").to_string();
    assert!(faults.contains("larger than 16MiB"), "{faults}");

    fs::write(&file, [b'a', 0xff]).expect("written");
    assert!(config::load(&file).expect_err("bytes").to_string().contains("UTF-8"));
    let faults = config::load(dir.path()).expect_err("a directory").to_string();
    assert!(faults.contains("cannot be read"), "{faults}");
    assert!(config::load(&dir.path().join("none.yaml")).is_err());
}

#[test]
fn the_command_line_wins_and_is_checked() {
    let address = |text| config::address(text).expect(text);
    let mut source = config::Source::default();
    source.overrides.listen = vec![address("127.0.0.1:1"), address("unix:/run/x.sock")];
    source.overrides.admin = Some(None);
    source.overrides.level = Some("debug".to_owned());
    let config = source.load().expect("right").config;
    assert_eq!(config.listen.len(), 2);
    assert_eq!((config.admin, config.telemetry.level.as_str()), (None, "debug"));
    source.overrides.admin = Some(Some(address("0.0.0.0:1")));
    assert!(source.load().expect_err("a clash").to_string().contains("command line"));
}

#[test]
fn names_are_shared_not_copied() {
    let config = right("upstreams: { a: http://a }");
    assert!(Arc::ptr_eq(&config.routes[0].name, &config.upstreams[0].name));
}
