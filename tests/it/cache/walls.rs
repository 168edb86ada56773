//! No answer crosses a wall: not between questions, and not between tenants.
use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    ANTHROPIC, Backend, CHAT, Face, GEMINI, OLLAMA, OPENAI_CHAT, OPENAI_COMPLETIONS,
    OPENAI_RESPONSES, Script, ask, by, is_hit, quiet, sent, status,
};
use crate::life::tidegate;
use crate::support::app::{AGENT_KEY, App, UPSTREAM_KEY};
use crate::support::{Dice, until};

const SCOPES: [&str; 4] = ["credential", "agent", "team", "shared"];

async fn backend(face: &Face) -> Backend {
    Backend::start(Script::recorded(face, false, "tokens=5").await, Duration::ZERO).await
}

/// A field, and values that it may have.
type Field = (&'static str, Vec<Value>);

fn numbers(name: &'static str) -> Field {
    (name, vec![json!(0.1), json!(0.2), json!(1)])
}

fn chat_fields(tools: Field) -> Vec<Field> {
    vec![
        tools,
        numbers("temperature"),
        numbers("top_p"),
        numbers("frequency_penalty"),
        numbers("presence_penalty"),
        ("max_tokens", vec![json!(5), json!(6)]),
        ("max_completion_tokens", vec![json!(5), json!(6)]),
        ("n", vec![json!(2), json!(3)]),
        ("seed", vec![json!(1), json!(2)]),
        ("stop", vec![json!("a"), json!(["a"]), json!(["a", "b"])]),
        ("response_format", vec![json!({"type": "json_object"}), json!({"type": "text"})]),
        ("reasoning_effort", vec![json!("low"), json!("high")]),
        ("tool_choice", vec![json!("none"), json!("auto")]),
        ("parallel_tool_calls", vec![json!(true), json!(false)]),
        ("logit_bias", vec![json!({"1": 2}), json!({"1": 3})]),
        ("logprobs", vec![json!(true)]),
        ("top_logprobs", vec![json!(1), json!(2)]),
        ("modalities", vec![json!(["text"]), json!(["text", "audio"])]),
        ("verbosity", vec![json!("low"), json!("high")]),
        ("service_tier", vec![json!("flex"), json!("priority")]),
        ("store", vec![json!(true)]),
        ("prediction", vec![json!({"type": "content", "content": "a"})]),
    ]
}

/// Values that a field may have; each makes another question, and so does its absence.
fn fields(face: &Face) -> Vec<Field> {
    let tool = |name: &str| match face.plain {
        "/v1/messages" => json!({"name": name, "input_schema": {"type": "object"}}),
        "/v1/responses" => json!({"type": "function", "name": name, "parameters": {}}),
        "/v1beta/models/m:generateContent" => json!({"functionDeclarations": [{"name": name}]}),
        _ => json!({"type": "function", "function": {"name": name, "parameters": {}}}),
    };
    let tools =
        ("tools", vec![json!([tool("f")]), json!([tool("g")]), json!([tool("f"), tool("g")])]);
    let mut fields = vec![("unheard_of", vec![json!(1), json!("1"), json!([1]), json!({"a": 1})])];
    fields.extend(match face.plain {
        CHAT => chat_fields(tools),
        "/v1/completions" => vec![
            numbers("temperature"),
            numbers("top_p"),
            ("max_tokens", vec![json!(5), json!(6)]),
            ("suffix", vec![json!("a"), json!("b")]),
            ("echo", vec![json!(true)]),
            ("best_of", vec![json!(2), json!(3)]),
            ("logprobs", vec![json!(1), json!(2)]),
        ],
        "/v1/responses" => vec![
            tools,
            numbers("temperature"),
            ("instructions", vec![json!("be brief"), json!("be long")]),
            ("max_output_tokens", vec![json!(5), json!(6)]),
            ("reasoning", vec![json!({"effort": "low"}), json!({"effort": "high"})]),
            ("text", vec![json!({"verbosity": "low"}), json!({"verbosity": "high"})]),
            ("include", vec![json!(["reasoning.encrypted_content"])]),
            ("truncation", vec![json!("auto"), json!("disabled")]),
            ("metadata", vec![json!({"a": "b"}), json!({"a": "c"})]),
        ],
        "/v1/messages" => vec![
            tools,
            numbers("temperature"),
            numbers("top_p"),
            ("top_k", vec![json!(5), json!(6)]),
            (
                "system",
                vec![
                    json!("be brief"),
                    json!("be long"),
                    json!([{"type": "text", "text": "be brief"}]),
                ],
            ),
            (
                "thinking",
                vec![
                    json!({"type": "enabled", "budget_tokens": 1024}),
                    json!({"type": "disabled"}),
                ],
            ),
            ("stop_sequences", vec![json!(["a"]), json!(["b"])]),
            ("tool_choice", vec![json!({"type": "auto"}), json!({"type": "any"})]),
            ("service_tier", vec![json!("auto"), json!("standard_only")]),
        ],
        "/api/chat" => vec![
            tools,
            (
                "options",
                vec![json!({"temperature": 0}), json!({"temperature": 1}), json!({"num_ctx": 9})],
            ),
            ("format", vec![json!("json"), json!({"type": "object"})]),
            ("think", vec![json!(true), json!("high")]),
        ],
        _ => vec![
            tools,
            (
                "systemInstruction",
                vec![json!({"parts": [{"text": "a"}]}), json!({"parts": [{"text": "b"}]})],
            ),
            (
                "generationConfig",
                vec![json!({"temperature": 0}), json!({"temperature": 1}), json!({"topK": 1})],
            ),
            ("safetySettings", vec![json!([{"category": "A", "threshold": "B"}])]),
            ("cachedContent", vec![json!("cachedContents/a"), json!("cachedContents/b")]),
        ],
    });
    fields
}

/// Every question that differs from the first in one field, the first included.
fn questions(face: &Face) -> Vec<String> {
    let first: Value = serde_json::from_str(&face.json("what is it?", false)).unwrap();
    let mut all =
        vec![first.clone(), serde_json::from_str(&face.json("What is it?", false)).unwrap()];
    if first.get("model").is_some() {
        let mut other = first.clone();
        other["model"] = "n".into();
        all.push(other);
    }
    for turns in ["messages", "contents"] {
        if let Some(list) = first[turns].as_array() {
            let mut longer = first.clone();
            let mut answer = list[0].clone();
            answer["role"] = if turns == "messages" { "assistant" } else { "model" }.into();
            longer[turns] = json!([list[0], answer, list[0]]);
            all.push(longer);
            if face.plain == CHAT {
                let mut told = first.clone();
                told[turns] = json!([{"role": "system", "content": "be brief"}, list[0]]);
                all.push(told);
                let mut named = first.clone();
                named[turns][0]["name"] = "ada".into();
                all.push(named);
            }
        }
    }
    for (name, values) in fields(face) {
        for value in values {
            let mut changed = first.clone();
            changed[name] = value;
            all.push(changed);
        }
    }
    all.iter().map(Value::to_string).collect()
}

#[tokio::test]
async fn questions_that_differ_in_one_field_are_others() {
    for face in [OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_RESPONSES, ANTHROPIC, GEMINI, OLLAMA] {
        let backend = backend(&face).await;
        let app = backend.behind("{ ttl: 1h, scope: shared }");
        let all = questions(&face);
        for body in &all {
            let call = by(AGENT_KEY, face.plain, face.lines, body);
            let answer = ask(&app, &call).await;
            assert_eq!(status(&answer), "tidegate; fwd=miss", "{body}");
        }
        assert_eq!(backend.calls(), all.len());
        for body in &all {
            // space, and the order of the members, mean nothing
            let spaced = body.replacen('{', "{ ", 1);
            for body in [body, &spaced] {
                let call = by(AGENT_KEY, face.plain, face.lines, body);
                assert!(is_hit(&ask(&app, &call).await), "{body}");
            }
        }
        assert_eq!(backend.calls(), all.len());
    }
}

#[tokio::test]
async fn questions_in_flight_that_differ_in_one_field_are_others() {
    for face in [OPENAI_CHAT, ANTHROPIC] {
        let backend = backend(&face).await;
        backend.release(0);
        let app = backend.behind("{ ttl: 1h, scope: shared }");
        let all = questions(&face);
        let mut asking = JoinSet::new();
        for body in all.iter().chain(&all) {
            let (to, call) = (app.addr, by(AGENT_KEY, face.plain, face.lines, body));
            asking.spawn(async move { sent(to, &call).await.answer().await });
        }
        super::until_inside(&app, all.len() * 2).await;
        until("all are asked", async || backend.calls() == all.len()).await;
        backend.release(usize::MAX);
        let answers = asking.join_all().await;
        let joined = answers.iter().filter(|answer| status(answer).ends_with("collapsed")).count();
        assert_eq!((joined, backend.calls()), (all.len(), all.len()));
    }
}

#[tokio::test]
async fn headers_and_targets_that_change_answers_are_walls() {
    let backend = backend(&OPENAI_CHAT).await;
    let url = backend.origin.url();
    let app = App::start(&format!(
        "upstreams: {{ up: '{url}', other: '{url}' }}\n\
         routes: [{{ path: /one, to: up }}, {{ path: /two, to: up }}, {{ path: /three, to: other }}, {{ to: up }}]\n\
         policies: [{{ name: once, cache: {{ ttl: 1h, scope: shared }} }}]\n"
    ));
    let body = OPENAI_CHAT.json("of whom?", false);
    let mut cases = vec![String::new()];
    for name in [
        "openai-beta",
        "openai-organization",
        "openai-project",
        "anthropic-beta",
        "anthropic-version",
        "x-goog-user-project",
        "openai-unheard-of",
    ] {
        cases.push(format!("{name}: a\r\n"));
        cases.push(format!("{name}: b\r\n"));
        cases.push(format!("{name}: a\r\n{name}: b\r\n"));
    }
    let targets = [
        CHAT.to_owned(),
        format!("{CHAT}?api-version=1"),
        format!("{CHAT}?api-version=2"),
        format!("{CHAT}?beta=true"),
        format!("/one{CHAT}"),
        format!("/two{CHAT}"),
        format!("/three{CHAT}"),
        "/openai/deployments/a/chat/completions".to_owned(),
        "/openai/deployments/b/chat/completions".to_owned(),
    ];
    let calls: Vec<_> = cases
        .iter()
        .map(|lines| by(AGENT_KEY, CHAT, lines, &body))
        .chain(targets[1..].iter().map(|target| by(AGENT_KEY, target, "", &body)))
        .collect();
    for hit in [false, true] {
        for call in &calls {
            let answer = ask(&app, call).await;
            assert_eq!(is_hit(&answer), hit, "{}", String::from_utf8_lossy(call));
        }
    }
    assert_eq!(backend.calls(), calls.len());
    // labels of clients change nothing
    for lines in ["user-agent: another/1\r\n", "x-stainless-retry-count: 1\r\n", "cookie: a=b\r\n"]
    {
        assert!(is_hit(&ask(&app, &by(AGENT_KEY, CHAT, lines, &body)).await), "{lines}");
    }
}

/// Somebody who calls: with a key of ours or without, and what they say of themselves.
#[derive(Debug, Clone)]
struct Person {
    credential: String,
    lines: &'static str,
    /// Who shares with whom, under each scope: the same word.
    tenants: [&'static str; 4],
}

fn new_key(args: &[&str]) -> (String, String) {
    let made = tidegate()
        .args(["keys", "new"])
        .args(args)
        .stdout(std::process::Stdio::piped())
        .output()
        .unwrap();
    let key = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
    let said = String::from_utf8(made.stderr).unwrap();
    let line = said.lines().find_map(|line| line.trim_start().strip_prefix("- ")).unwrap();
    (key, line.to_owned())
}

/// People, and the section of the policy that knows some of them.
fn people() -> (Vec<Person>, String, Vec<String>) {
    let known: [(&[&str], &'static str, [&'static str; 4]); 9] = [
        (&["--agent", "ada", "--team", "growth"], "", ["k1", "ada", "growth", "all"]),
        (&["--agent", "ada", "--team", "growth"], "", ["k2", "ada", "growth", "all"]),
        (&["--agent", "bob", "--team", "growth"], "", ["k3", "bob", "growth", "all"]),
        (&["--agent", "cyd", "--team", "law"], "", ["k4", "cyd", "law", "all"]),
        // in no team, but would like to be in one
        (&["--agent", "dan"], "x-team-id: growth\r\n", ["k5", "dan", "dan", "all"]),
        // of a team, under names that are only said
        (
            &["--agent", "any", "--team", "sales"],
            "x-agent-id: eve\r\n",
            ["k6", "k6", "sales", "all"],
        ),
        (
            &["--agent", "any", "--team", "sales"],
            "x-agent-id: eve\r\n",
            ["k7", "k7", "sales", "all"],
        ),
        // proven agents that only say a team
        (&["--agent", "fay"], "x-team-id: open\r\n", ["k8", "fay", "fay", "all"]),
        (&["--agent", "gus"], "x-team-id: open\r\n", ["k9", "gus", "gus", "all"]),
    ];
    let (mut people, mut lines, mut secrets) = (Vec::new(), Vec::new(), Vec::new());
    for (args, said, tenants) in known {
        let (key, line) = new_key(args);
        secrets.push(key.clone());
        lines.push(line.replace("agent: \"any\", ", ""));
        people.push(Person { credential: key, lines: said, tenants });
    }
    for (credential, lines, tenants) in [
        ("sk-one", "", ["c1", "c1", "c1", "all"]),
        ("sk-two", "", ["c2", "c2", "c2", "all"]),
        // names that others must prove
        ("sk-two", "x-agent-id: ada\r\n", ["c2", "c2", "c2", "all"]),
        ("sk-two", "x-agent-id: ada\r\nx-team-id: growth\r\n", ["c2", "c2", "c2", "all"]),
        // names that are nobody's
        ("sk-one", "x-agent-id: zoe\r\n", ["c1z", "c1z", "c1z", "all"]),
        ("sk-two", "x-agent-id: zoe\r\n", ["c2z", "c2z", "c2z", "all"]),
        ("sk-one", "x-team-id: open\r\n", ["c1o", "c1o", "c1o", "all"]),
        ("sk-one", "x-agent-id: zoe\r\nx-team-id: open\r\n", ["c1zo", "c1zo", "c1o", "all"]),
        ("sk-two", "x-team-id: open\r\n", ["c2o", "c2o", "c2o", "all"]),
    ] {
        people.push(Person { credential: credential.to_owned(), lines, tenants });
    }
    let keys = lines.join(", ");
    let section = format!(
        "agents: {{ identify: [key, header, credential, address], team_header: x-team-id, \
         access: open, keys: [{keys}] }}\n"
    );
    (people, section, secrets)
}

#[tokio::test]
async fn answers_stay_inside_of_their_scope() {
    for (at, scope) in SCOPES.into_iter().enumerate() {
        let backend = backend(&OPENAI_CHAT).await;
        let (people, section, secrets) = people();
        let cache = format!("  - {{ name: once, cache: {{ ttl: 1h, scope: {scope} }} }}\n");
        let url = backend.origin.url();
        let mut app =
            App::start(&format!("{section}{}", super::policy(&url, "key: '${CANARY}', ", &cache)));
        app.secrets = secrets;
        let mut asked: HashSet<(String, &str)> = HashSet::new();
        let (mut dice, mut hits) = (Dice(7), 0);
        for _ in 0..500 {
            let who = &people[dice.roll(people.len() as u64) as usize];
            let question = format!("question {}?", dice.roll(6));
            let call = by(&who.credential, CHAT, who.lines, &OPENAI_CHAT.json(&question, false));
            let answer = ask(&app, &call).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let known = !asked.insert((question, who.tenants[at]));
            assert_eq!(is_hit(&answer), known, "{scope}: {who:?}: {}", status(&answer));
            hits += usize::from(known);
        }
        assert_eq!(backend.calls(), 500 - hits);
        assert!(hits > 300, "{hits}");
        quiet(&app).await;
    }
}

#[tokio::test]
async fn calls_in_flight_are_shared_inside_of_a_scope_alone() {
    for (at, scope) in SCOPES.into_iter().enumerate() {
        let backend = backend(&OPENAI_CHAT).await;
        backend.release(0);
        let (people, section, secrets) = people();
        let cache = format!("  - {{ name: once, cache: {{ ttl: 1h, scope: {scope} }} }}\n");
        let url = backend.origin.url();
        let mut app =
            App::start(&format!("{section}{}", super::policy(&url, "key: '${CANARY}', ", &cache)));
        app.secrets = secrets;
        let mut asking = JoinSet::new();
        for who in people.iter().chain(&people) {
            let body = OPENAI_CHAT.json("together?", false);
            let (to, call) = (app.addr, by(&who.credential, CHAT, who.lines, &body));
            asking.spawn(async move { sent(to, &call).await.answer().await });
        }
        super::until_inside(&app, people.len() * 2).await;
        let tenants: HashSet<_> = people.iter().map(|who| who.tenants[at]).collect();
        until("each tenant asks", async || backend.calls() == tenants.len()).await;
        backend.release(usize::MAX);
        asking.join_all().await;
        assert_eq!(backend.calls(), tenants.len(), "{scope}");
        quiet(&app).await;
    }
}

#[tokio::test]
async fn who_shares_an_answer_is_told_nothing_of_the_first_ones_account() {
    let mut script = Script::recorded(&OPENAI_CHAT, true, "tokens=5").await;
    script.lines += "set-cookie: session=of-the-first\r\nopenai-organization: org-of-the-first\r\n\
                     x-ratelimit-remaining-requests: 7\r\nopenai-processing-ms: 12\r\n";
    let backend = Backend::held(script, Duration::ZERO, 0).await;
    let app = backend.behind_a_key("{ ttl: 1h, scope: shared }");
    let body = OPENAI_CHAT.json("whose?", true);
    let mut first = sent(app.addr, &by("sk-one", CHAT, "", &body)).await;
    until("it is asked", async || backend.calls() == 1).await;
    let mut second = sent(app.addr, &by("sk-two", CHAT, "", &body)).await;
    super::until_inside(&app, 2).await;
    backend.release(usize::MAX);
    let (first, second) = (first.answer().await, second.answer().await);
    assert_eq!(status(&second), "tidegate; fwd=miss; collapsed");
    let third = ask(&app, &by("sk-two", CHAT, "", &body)).await;
    assert!(is_hit(&third));
    assert_eq!(first.head.get("set-cookie"), Some("session=of-the-first"));
    for answer in [&second, &third] {
        for name in ["set-cookie", "openai-organization", "x-ratelimit-remaining-requests"] {
            assert_eq!(answer.head.get(name), None, "{}", answer.head.text);
        }
    }
    assert_eq!(second.head.get("openai-processing-ms"), Some("12"));
    quiet(&app).await;
}

#[tokio::test]
async fn another_policy_is_another_wall() {
    let backend = backend(&OPENAI_CHAT).await;
    let policies = "  - { name: wide, cache: { ttl: 1h, scope: shared } }\n  \
                    - { name: own, match: { agent: 'zoe' }, cache: { ttl: 1h, scope: shared } }\n";
    let app = App::start(&super::policy(&backend.origin.url(), "", policies));
    let body = OPENAI_CHAT.json("by which?", false);
    let call = |agent| by(AGENT_KEY, CHAT, &format!("x-agent-id: {agent}\r\n"), &body);
    assert!(!is_hit(&ask(&app, &call("ada")).await));
    assert!(!is_hit(&ask(&app, &call("zoe")).await));
    assert!(is_hit(&ask(&app, &call("bob")).await));
    assert!(is_hit(&ask(&app, &call("zoe")).await));
    assert_eq!(backend.calls(), 2);
}

#[tokio::test]
async fn what_stands_behind_the_upstream_is_a_wall() {
    let one = backend(&OPENAI_CHAT).await;
    let two = backend(&OPENAI_CHAT).await;
    let cache = "  - { name: once, cache: { ttl: 1h, scope: shared } }\n";
    let with = |url: &str, more: &str| super::policy(url, more, cache);
    let (at_one, at_two) = (one.origin.url(), two.origin.url());
    let below = format!("{at_one}/below");
    let policies = [
        with(&at_one, ""),
        with(&at_two, ""),
        with(&below, ""),
        with(&at_one, "key: '${CANARY}', "),
        with(&at_one, "key: 'another-key', "),
        with(&at_one, "key: '${CANARY}', auth: x-api-key, "),
        with(&at_one, "headers: { x-tenant: a }, "),
        with(&at_one, "headers: { x-tenant: b }, "),
        with(&at_one, "headers: { x-tenant: a, x-more: b }, "),
        with(&at_one, "dialect: anthropic, "),
    ];
    let app = App::start(&policies[0]);
    let call = OPENAI_CHAT.call("from where?", false);
    for (n, policy) in policies.iter().enumerate() {
        if n > 0 {
            app.reload(policy).await;
        }
        let first = ask(&app, &call).await;
        if n < policies.len() - 1 {
            assert!(!is_hit(&first), "{policy}");
        }
        assert!(is_hit(&ask(&app, &call).await), "{policy}");
    }
    // what was kept before is there again
    app.reload(&policies[0]).await;
    assert!(is_hit(&ask(&app, &call).await));
    assert!(!UPSTREAM_KEY.is_empty());
}
