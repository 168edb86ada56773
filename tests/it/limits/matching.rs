//! Whose bucket, and which calls: scopes, globs, and several policies at once.
use super::{
    CHAT, MESSAGES, PLAIN, PRICES, at_once, bucket, by, error, limited, quiet, simulator, statuses,
    used,
};
use crate::support::app::App;
use crate::support::client::{Client, ask, request};

/// A call with these lines in its head, for this model.
fn call(lines: &str, target: &str, model: &str) -> Vec<u8> {
    request("POST", target, lines, &PLAIN.replace("\"m\"", &format!("\"{model}\"")))
}

fn lines(agent: &str, team: &str, session: &str) -> String {
    format!("x-agent-id: {agent}\r\nx-team-id: {team}\r\nx-session-id: {session}\r\n")
}

#[tokio::test]
async fn each_scope_has_buckets_of_its_own() {
    let simulator = simulator();
    let scopes = ["agent", "team", "session", "credential", "model", "route", "upstream", "all"];
    let policy = |per: &&str| {
        format!("  - {{ name: {per}, per: {per}, limits: {{ requests: 90/day calendar }} }}\n")
    };
    let policies = scopes.iter().map(policy).collect::<Vec<_>>().concat();
    let url = format!("http://{}", simulator.addr);
    let app = App::start(&format!(
        "{PRICES}agents: {{ team_header: x-team-id }}\n\
         upstreams: {{ one: {{ url: '{url}' }}, two: {{ url: '{url}' }} }}\n\
         routes: [{{ path: /a, to: one, name: ra }}, {{ path: /b, to: one, name: rb }}, \
         {{ path: /c, to: two, name: rc }}]\npolicies:\n{policies}"
    ));
    for (agent, team, session, route, model, calls) in [
        ("ann", "red", "s1", "a", "m1", 1),
        ("ann", "red", "s2", "b", "m2", 2),
        ("bob", "red", "s3", "c", "m1", 3),
        ("bob", "blue", "s4", "c", "m3", 4),
    ] {
        let call = call(&lines(agent, team, session), &format!("/{route}{CHAT}"), model);
        let answers = at_once(app.addr, (0..calls).map(|_| call.clone())).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
    }
    quiet(&app).await;
    for (per, scope, count) in [
        ("agent", "red/ann", 3),
        ("agent", "red/bob", 3),
        ("agent", "blue/bob", 4),
        ("team", "red", 6),
        ("team", "blue", 4),
        ("session", "red/s1", 1),
        ("session", "red/s2", 2),
        ("session", "blue/s4", 4),
        ("model", "m1", 4),
        ("model", "m2", 2),
        ("model", "m3", 4),
        ("route", "ra", 1),
        ("route", "rb", 2),
        ("route", "rc", 7),
        ("upstream", "one", 3),
        ("upstream", "two", 7),
        ("all", "", 10),
    ] {
        assert_eq!(used(&app, per, "requests", scope), count, "{per} {scope}");
    }
    app.lines(10).await;
}

#[tokio::test]
async fn a_policy_holds_for_the_calls_that_it_matches_and_no_others() {
    let (app, simulator) = limited(
        "",
        "  - { name: research, per: agent, match: { agent: \"research-*\", model: \"gpt-?\" }, \
         limits: { requests: 1/day } }\n\
         \x20 - { name: night, per: all, match: { class: batch }, limits: { requests: 1/day } }\n\
         \x20 - { name: sessions, per: session, match: { session: \"long-*\" }, limits: { requests: 1/day } }\n",
    );
    let agent = |agent: &str, model: &str| call(&format!("x-agent-id: {agent}\r\n"), CHAT, model);
    let class = |class: &str| {
        call(&format!("x-agent-id: z\r\nx-claude-code-request-class: {class}\r\n"), CHAT, "m")
    };
    let session =
        |session: &str| call(&format!("x-agent-id: s\r\nx-session-id: {session}\r\n"), CHAT, "m");
    for (call, first, second) in [
        (agent("research-1", "gpt-4"), 200, 429),
        (agent("research-2", "gpt-4"), 200, 429),
        (agent("research-1", "gpt-5"), 429, 429),
        (agent("research-1", "gpt-45"), 200, 200),
        (agent("research", "gpt-4"), 200, 200),
        (agent("my-research-1", "gpt-4"), 200, 200),
        (class("auxiliary"), 200, 429),
        (class("main"), 200, 200),
        (session("long-1"), 200, 429),
        (session("long-2"), 200, 429),
        (session("short"), 200, 200),
    ] {
        for wanted in [first, second] {
            let answer = ask(app.addr, &call).await;
            let asked = String::from_utf8_lossy(&call);
            assert_eq!(answer.status, wanted, "{asked}: {}", answer.text());
        }
    }
    assert_eq!(simulator.seen().requests, 15);
    app.lines(22).await;
}

#[tokio::test]
async fn all_limits_hold_together_and_a_refused_call_takes_of_none() {
    let (app, simulator) = limited(
        "",
        "  - { name: each, per: agent, limits: { requests: 9/day calendar, tokens: 1M/day calendar, \
         concurrency: 5 } }\n\
         \x20 - { name: model, per: model, limits: { requests: 100/day calendar, spend: $900/day hard } }\n\
         \x20 - { name: everyone, per: all, limits: { requests: 3/day calendar } }\n",
    );
    let calls = (0..8).map(|n| by(["a", "b"][n % 2], CHAT, "ttft=30ms; tokens=3", PLAIN));
    let answers = at_once(app.addr, calls).await;
    assert_eq!(statuses(&answers), [200, 200, 200, 429, 429, 429, 429, 429]);
    for refused in answers.iter().filter(|answer| answer.status == 429) {
        assert!(
            error(CHAT, refused).0.contains("`everyone/requests` for everyone"),
            "{}",
            refused.text()
        );
        let all = refused.head.get("ratelimit").unwrap();
        let named = ["each/requests", "each/tokens", "model/requests", "everyone/requests"];
        assert!(named.iter().all(|name| all.contains(name)), "all are told: {all}");
    }
    quiet(&app).await;
    let of_agents = used(&app, "each", "requests", "a") + used(&app, "each", "requests", "b");
    assert_eq!((of_agents, used(&app, "model", "requests", "m")), (3, 3));
    assert_eq!(used(&app, "everyone", "requests", ""), 3);
    let lines = app.lines(8).await;
    let spent: f64 = lines.iter().filter_map(|line| line["spend_dollars"].as_f64()).sum();
    let charged = used(&app, "model", "spend", "m") as f64 / 1e9;
    assert!((spent - charged).abs() < 1e-9, "{spent} {charged}");
    assert_eq!(simulator.seen().requests, 3);
}

#[tokio::test]
async fn the_tightest_of_several_is_the_one_that_is_told() {
    let (app, _simulator) = limited(
        "",
        "  - { name: wide, per: all, limits: { requests: 1000/day, tokens: 9M/day } }\n\
         \x20 - { name: tight, per: agent, limits: { requests: [10/day, 2/min] } }\n",
    );
    let answer = ask(app.addr, &by("a", CHAT, "", PLAIN)).await;
    assert_eq!(answer.head.get("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(answer.head.get("x-ratelimit-remaining-requests"), Some("1"));
    let answer = ask(app.addr, &by("a", MESSAGES, "", PLAIN)).await;
    assert_eq!(answer.head.get("anthropic-ratelimit-requests-limit"), Some("2"));
    let refused = ask(app.addr, &by("a", CHAT, "", PLAIN)).await;
    assert_eq!(refused.status, 429);
    assert!(error(CHAT, &refused).0.contains("`tight/requests` of agent \"a\""));
    assert!(bucket(&app, "tight", "requests", "a").is_object());
    app.lines(3).await;
}

#[tokio::test]
async fn a_route_for_a_model_before_it_hides_no_path_from_limits() {
    let simulator = simulator();
    let url = format!("http://{}", simulator.addr);
    let app = App::start(&format!(
        "{PRICES}upstreams: {{ claude: {{ url: '{url}' }}, local: {{ dialect: ollama, url: '{url}' }}, \
         groq: {{ dialect: openai, url: '{url}/v1' }} }}\n\
         routes:\n  - {{ model: 'claude-*', to: claude }}\n  - {{ path: /ollama, to: local }}\n  \
         - {{ path: /groq, to: groq }}\n\
         policies:\n  - {{ name: t, per: agent, limits: {{ tokens: 2000/day hard }} }}\n"
    ));
    for (agent, target) in [("a", "/ollama/api/chat"), ("b", "/groq/chat/completions")] {
        let mut client = Client::connect(app.addr).await;
        let mut answered = Vec::new();
        for _ in 0..200 {
            client.send(&by(agent, target, "", PLAIN)).await;
            answered.push(client.answer().await.status);
            if *answered.last().unwrap() != 200 {
                break;
            }
        }
        assert_eq!((answered.first(), answered.last()), (Some(&200), Some(&429)), "{target}");
    }
}
