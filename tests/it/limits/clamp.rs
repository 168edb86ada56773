//! Hard limits of output: the bound is written into the call, and not one other byte changes.
use super::{
    CHAT, COMPLETIONS, GEMINI, GENERATE, MESSAGES, OLLAMA, PRICES, RESPONSES, by, error, policy,
    quiet, used,
};
use crate::support::app::App;
use crate::support::client::ask;
use crate::support::origin::{Origin, whole};

/// Each agent may write 300 tokens, and each test row is an agent of its own.
const LIMITS: &str =
    "  - { name: out, per: agent, limits: { output_tokens: 300/day calendar hard } }\n";

/// Spaces, unknown fields, escapes and an odd order must all survive.
const TAIL: &str = r#" "model" : "m","zzz":{"max_tokens":9, "é":"\u00e9"} ,"messages":[ {"role":"user","content":"max_tokens:1"} ]}"#;

async fn forwarded(app: &App, origin: &Origin, agent: &str, path: &str, body: &str) -> String {
    let answer = ask(app.addr, &by(agent, path, "", body)).await;
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    let request = origin.take().remove(0);
    assert_eq!(request.get("content-length"), Some(&*request.body.len().to_string()));
    String::from_utf8(request.body).unwrap()
}

#[tokio::test]
async fn each_dialect_gets_its_bound_in_its_place() {
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    let app = App::start(&policy(&origin.url(), "", LIMITS));
    let plain = |name: &str| {
        vec![
            (format!("{{{TAIL}"), format!("{{\"{name}\":300,{TAIL}")),
            (format!("{{\"{name}\":400,{TAIL}"), format!("{{\"{name}\":300,{TAIL}")),
            (format!("{{ \"{name}\" : 1e9 ,{TAIL}"), format!("{{ \"{name}\" : 300 ,{TAIL}")),
            (format!("{{\"{name}\":null,{TAIL}"), format!("{{\"{name}\":300,{TAIL}")),
            (format!("{{\"{name}\":300,{TAIL}"), format!("{{\"{name}\":300,{TAIL}")),
            (format!("{{\"{name}\":20,{TAIL}"), format!("{{\"{name}\":20,{TAIL}")),
        ]
    };
    let inside = |object: &str, name: &str| {
        let put = |inner: &str| format!("{{\"{object}\":{{{inner}}},{TAIL}");
        vec![
            (format!("{{{TAIL}"), format!("{{\"{object}\":{{\"{name}\":300}},{TAIL}")),
            (put(""), put(&format!("\"{name}\":300"))),
            (put("\"top\":1"), put(&format!("\"{name}\":300,\"top\":1"))),
            (
                put(&format!("\"top\":1, \"{name}\":900")),
                put(&format!("\"top\":1, \"{name}\":300")),
            ),
            (put(&format!("\"{name}\":7")), put(&format!("\"{name}\":7"))),
            (format!("{{\"{object}\":null,{TAIL}"), put(&format!("\"{name}\":300"))),
        ]
    };
    let mut rows = Vec::new();
    for (path, cases) in [
        (CHAT, plain("max_tokens")),
        (COMPLETIONS, plain("max_tokens")),
        (RESPONSES, plain("max_output_tokens")),
        (MESSAGES, plain("max_tokens")),
        (GENERATE, inside("generationConfig", "maxOutputTokens")),
        (GEMINI, inside("generationConfig", "maxOutputTokens")),
        (OLLAMA, inside("options", "num_predict")),
        ("/api/generate", inside("options", "num_predict")),
    ] {
        rows.extend(cases.into_iter().map(|(body, wanted)| (path, body, wanted)));
    }
    let newer = |bound| format!("{{\"max_completion_tokens\":{bound},{TAIL}");
    rows.push((CHAT, newer(5000), newer(300)));
    rows.push((CHAT, newer(30), newer(30)));
    let minus = |bound| format!("{{\"options\":{{\"num_predict\":{bound}}},{TAIL}");
    rows.push((OLLAMA, minus("-1"), minus("300")));
    for (n, (path, body, wanted)) in rows.iter().enumerate() {
        let got = forwarded(&app, &origin, &format!("row-{n}"), path, body).await;
        assert_eq!(&got, wanted, "{path} {body}");
    }
    for (line, (path, body, wanted)) in app.lines(rows.len()).await.iter().zip(&rows) {
        let clamped = line["clamped"].as_u64();
        assert_eq!(clamped, (body != wanted).then_some(300), "{path} {body}: {line}");
    }
}

#[tokio::test]
async fn openais_own_chat_gets_the_newer_name() {
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    let url = origin.url();
    let app = App::start(&format!(
        "{PRICES}upstreams: {{ openai: {{ pacing: off, url: '{url}' }} }}\n\
         routes: [{{ to: openai }}]\npolicies:\n{LIMITS}"
    ));
    let got = forwarded(&app, &origin, "a", CHAT, &format!("{{{TAIL}")).await;
    assert_eq!(got, format!("{{\"max_completion_tokens\":300,{TAIL}"));
    let old = format!("{{\"max_tokens\":301,{TAIL}");
    let got = forwarded(&app, &origin, "b", CHAT, &old).await;
    assert_eq!(got, format!("{{\"max_tokens\":300,{TAIL}"), "who names the old one knows why");
    app.lines(2).await;
}

#[tokio::test]
async fn what_cannot_be_bounded_is_refused_and_costs_nothing() {
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    let app = App::start(&policy(&origin.url(), "", LIMITS));
    for (path, body) in [
        (OLLAMA, r#"{"options":5,"model":"m","messages":[]}"#),
        (GENERATE, r#"{"generationConfig":"x","contents":[]}"#),
    ] {
        let refused = ask(app.addr, &by("a", path, "", body)).await;
        assert_eq!(refused.status, 400, "{path}: {}", refused.text());
        assert!(error(path, &refused).0.contains("cannot be bounded"));
        assert_eq!(refused.head.get("x-should-retry"), Some("false"));
    }
    assert_eq!(origin.requests(), 0);
    app.lines(2).await;
    quiet(&app).await;
    assert_eq!(used(&app, "out", "output_tokens", "a"), 0);
}

#[tokio::test]
async fn the_bound_is_what_is_left_and_several_answers_share_it() {
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":200}}"#;
    let origin = Origin::saying(whole("200 OK", "content-type: application/json\r\n", usage)).await;
    let app = App::start(&policy(&origin.url(), "", LIMITS));
    let body = r#"{"n":3,"model":"m","messages":[]}"#;
    let got = forwarded(&app, &origin, "a", CHAT, body).await;
    assert_eq!(got, r#"{"max_tokens":100,"n":3,"model":"m","messages":[]}"#);
    quiet(&app).await;
    assert_eq!(used(&app, "out", "output_tokens", "a"), 200);
    let got = forwarded(&app, &origin, "a", CHAT, r#"{"model":"m","messages":[]}"#).await;
    assert_eq!(got, r#"{"max_tokens":100,"model":"m","messages":[]}"#, "a third is left");
    app.lines(2).await;
}

#[tokio::test]
async fn thinking_needs_a_bound_above_it_and_is_refused_rather_than_broken() {
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    let app = App::start(&policy(&origin.url(), "", LIMITS));
    let think = |tokens| {
        format!(
            r#"{{"model":"m","max_tokens":9000,"thinking":{{"type":"enabled","budget_tokens":{tokens}}},"messages":[]}}"#
        )
    };
    let got = forwarded(&app, &origin, "a", MESSAGES, &think(200)).await;
    assert!(got.contains("\"max_tokens\":300,"), "{got}");
    let refused = ask(app.addr, &by("b", MESSAGES, "", &think(1024))).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(refused.head.get("x-should-retry"), Some("false"));
    assert_eq!(origin.requests(), 0);
    app.lines(2).await;
}
