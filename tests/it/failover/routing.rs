//! Which calls go where, and what they ask for there.
use super::*;
use crate::support::client::{Client, get, request};
use crate::support::origin::Request;

/// Origins by these names, each of which answers with its own.
async fn named<const N: usize>(names: [&str; N]) -> ([Origin; N], String) {
    let mut origins = Vec::new();
    let mut ups = Vec::new();
    for name in names {
        let origin = Origin::saying(json("200 OK", &format!("{{\"by\":\"{name}\"}}"))).await;
        ups.push(up(name, &origin.url(), ""));
        origins.push(origin);
    }
    let Ok(origins) = origins.try_into() else { panic!("as many as names") };
    (origins, format!("upstreams: {{ {} }}\n", ups.join(", ")))
}

/// Who answers a call for a model with these lines in its head.
async fn by(app: &App, target: &str, lines: &str, model: &str) -> String {
    let body = PLAIN.replace("\"m\"", &format!("\"{model}\""));
    let got = ask(app.addr, &request("POST", target, lines, &body)).await;
    if got.status != 200 {
        return got.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    }
    got.json()["by"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_first_route_that_matches_takes_the_call() {
    let (_origins, ups) = named(["a", "b", "c", "d", "e", "f"]).await;
    let app = App::start(&format!(
        "{ups}routes:\n\
         \x20 - {{ path: /one, to: b }}\n\
         \x20 - {{ model: 'gpt-*', agent: 'research-*', to: c }}\n\
         \x20 - {{ class: batch, to: d }}\n\
         \x20 - {{ headers: {{ x-tier: 'gold*', x-side: left }}, to: e }}\n\
         \x20 - {{ model: 'gpt-*', to: f }}\n\
         \x20 - {{ agent: 'research-*', to: a }}\n"
    ));
    let (research, batch) =
        ("x-agent-id: research-1\r\n", "x-claude-code-request-class: auxiliary\r\n");
    let gold = "x-tier: golden\r\nx-side: left\r\n";
    for (target, lines, model, want) in [
        ("/one/v1/chat/completions", "", "gpt-5", "b"),
        ("/oneself/v1/chat/completions", "", "other", "no_route"),
        (CHAT, research, "gpt-5", "c"),
        (CHAT, research, "gemma", "a"),
        (CHAT, batch, "gemma", "d"),
        (CHAT, batch, "gpt-5", "d"),
        (CHAT, gold, "gpt-5", "e"),
        (CHAT, "x-tier: golden\r\n", "gpt-5", "f"),
        (CHAT, "x-tier: silver\r\nx-side: left\r\n", "gpt-5", "f"),
        // one of two is enough
        (CHAT, "x-tier: silver\r\nx-tier: gold\r\nx-side: left\r\n", "gemma", "e"),
        (CHAT, "", "gpt-5", "f"),
        (CHAT, "", "gemma", "no_route"),
    ] {
        let got = by(&app, target, lines, model).await;
        let got = if got == "model_not_found" { "no_route".to_owned() } else { got };
        assert_eq!(got, want, "{target} {lines} {model}");
    }
}

#[tokio::test]
async fn weights_share_the_calls() {
    const CALLS: usize = 1000;
    let ([a, b], ups) = named(["a", "b"]).await;
    let app = App::start(&format!("{ups}routes: [{{ to: {{ a: 3, b: 1 }} }}]\n"));
    let mut client = Client::connect(app.addr).await;
    let call = post(CHAT, "", PLAIN);
    for _ in 0..CALLS {
        client.send(&call).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let [a, b] = counts([&a, &b]);
    assert_eq!(a + b, CALLS);
    // six standard deviations of a binomial with p = 1/4
    assert!(b.abs_diff(CALLS / 4) < 83, "{a} {b}");
    assert_eq!(app.count("tidegate_requests_total", &["upstream=\"a\""]), a);
}

#[tokio::test]
async fn those_who_share_stand_in_for_each_other() {
    let b = Origin::saying(good()).await;
    let ups = [up("a", &nowhere(), ""), up("b", &b.url(), "")];
    let text =
        format!("upstreams: {{ {} }}\nroutes: [{{ to: {{ a: 1, b: 1 }} }}]\n", ups.join(", "));
    let app = App::start(&text);
    for _ in 0..10 {
        assert_eq!(call(&app).await.text(), GOOD);
    }
    assert_eq!(b.requests(), 10);
    app.quiet().await;
}

/// The one request that an origin has seen.
fn only(origin: &Origin) -> Request {
    let mut all = origin.take();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[tokio::test]
async fn an_alias_changes_the_name_of_the_model_and_nothing_else() {
    let ([a], ups) = named(["a"]).await;
    let app = App::start(&format!(
        "{ups}routes: [{{ to: a, models: {{ fast: gpt-4o-mini, 'best-*': gpt-4o }} }}]\n"
    ));
    let body = "{ \"z\" : 1e999,\n\t\"model\" :  \"fast\" , \"messages\":[ {\"content\":\"the \\u0066ast model is \\\"model\\\":\\\"fast\\\"\", \"role\":\"user\"} ],\"x\":null }";
    for (said, asked) in [("fast", "gpt-4o-mini"), ("best-1", "gpt-4o"), ("slow", "slow")] {
        let name = format!("\"model\" :  \"{said}\"");
        let said = body.replacen("\"model\" :  \"fast\"", &name, 1);
        assert_eq!(ask(app.addr, &post(CHAT, "", &said)).await.status, 200);
        let want = said.replacen(&name, &format!("\"model\" :  \"{asked}\""), 1);
        let reached = only(&a);
        assert_eq!(String::from_utf8(reached.body).unwrap(), want);
        assert_eq!(reached.headers.iter().filter(|(key, _)| key == "content-length").count(), 1);
    }
    // policies and logs know it by the name that the caller says
    let lines = app.lines(3).await;
    assert_eq!((&lines[0]["model"], &lines[0]["attempts"]), (&"fast".into(), &1.into()));
}

#[tokio::test]
async fn an_alias_in_a_path_is_replaced_there() {
    let ([a], ups) = named(["a"]).await;
    let app = App::start(&format!("{ups}routes: [{{ to: a, models: {{ m: gemini-9 }} }}]\n"));
    for (target, want) in [
        (GENERATE, "/v1beta/models/gemini-9:generateContent"),
        (GEMINI, "/v1beta/models/gemini-9:streamGenerateContent?alt=sse"),
        ("/v1beta/models/mm:generateContent", "/v1beta/models/mm:generateContent"),
    ] {
        let body = r#"{"contents":[{"parts":[{"text":"models/m:generateContent"}]}]}"#;
        assert_eq!(ask(app.addr, &post(target, "", body)).await.status, 200);
        let reached = only(&a);
        assert_eq!((reached.target.as_str(), &*reached.body), (want, body.as_bytes()));
    }
}

#[tokio::test]
async fn each_target_is_asked_for_its_own_model() {
    let (a, b) = (Origin::saying(unavailable()).await, Origin::saying(unavailable()).await);
    let c = Origin::saying(good()).await;
    let app = App::start(&format!(
        "upstreams: {{ {}, {}, {} }}\n\
         routes: [{{ to: a, fallback: [b, {{ to: c, model: llama }}], models: {{ m: alias }} }}]\n",
        up("a", &a.url(), ""),
        up("b", &format!("{}/deep", b.url()), ""),
        up("c", &c.url(), "")
    ));
    assert_eq!(call(&app).await.text(), GOOD);
    let name = |name: &str| PLAIN.replace("\"m\"", &format!("\"{name}\"")).into_bytes();
    let (a, b, c) = (only(&a), only(&b), only(&c));
    assert_eq!((a.body, b.body, c.body), (name("alias"), name("alias"), name("llama")));
    assert_eq!([a.target, b.target, c.target], [CHAT, "/deep/v1/chat/completions", CHAT]);

    let (a, c) = (Origin::saying(unavailable()).await, Origin::saying(good()).await);
    let app = App::start(&format!(
        "upstreams: {{ {}, {} }}\nroutes: [{{ to: a, fallback: [{{ to: c, model: gemma }}] }}]\n",
        up("a", &a.url(), "dialect: gemini,"),
        up("c", &c.url(), "dialect: gemini,")
    ));
    let body = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    assert_eq!(ask(app.addr, &post(GENERATE, "", body)).await.status, 200);
    let paths = [only(&a).target, only(&c).target];
    assert_eq!(paths, [GENERATE, "/v1beta/models/gemma:generateContent"]);
}

#[tokio::test]
async fn where_nobody_can_be_reached_the_caller_is_told_so() {
    let (a, b) = (nowhere(), nowhere());
    let app = pair(&a, &b, "");
    let got = call(&app).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (502, &"upstream_unreachable".into()));
    assert_eq!(got.head.get("x-should-retry"), Some("false"));
    assert!(!got.text().contains("127.0.0.1"), "no address of a backend is shown");
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["attempts"]), (&"b".into(), &2.into()));
    app.quiet().await;
}

/// Anything that speaks HTTP: tools, stores, search. Nobody knows what a POST there does.
#[tokio::test]
async fn a_tools_route_has_fallbacks_as_well() {
    let failing = || json("500 Internal Server Error", "broken");
    let found = || json("200 OK", "found");
    for (method, bad, body, want) in [
        ("GET", unavailable(), "", [1, 1]),
        ("GET", failing(), "", [1, 1]),
        ("POST", failing(), "{}", [1, 0]),
        ("DELETE", failing(), "", [1, 0]),
    ] {
        let (a, b) = (Origin::saying(bad).await, Origin::saying(found()).await);
        let ups = [up("a", &a.url(), "dialect: http,"), up("b", &b.url(), "dialect: http,")];
        let app = App::start(&policy(&ups, ", path: /tools"));
        let got =
            ask(app.addr, &request(method, "/tools/search?q=a%20b", "x-own: 1\r\n", body)).await;
        assert_eq!(got.text(), if want[1] == 1 { "found" } else { "broken" });
        assert_eq!(counts([&a, &b]), want, "{method}");
        for seen in a.take().into_iter().chain(b.take()) {
            assert_eq!((seen.target.as_str(), seen.get("x-own")), ("/search?q=a%20b", Some("1")));
        }
        app.quiet().await;
    }
    let (a, b) = (nowhere(), Origin::saying(found()).await);
    let ups = [up("a", &a, "dialect: http,"), up("b", &b.url(), "dialect: http,")];
    let app = App::start(&policy(&ups, ""));
    assert_eq!(ask(app.addr, &get("/x", "")).await.text(), "found");
    // an upload goes to whoever can be reached
    let upload = request("PUT", "/y", "", &"x".repeat(100_000));
    assert_eq!(ask(app.addr, &upload).await.text(), "found");
    assert_eq!(b.take()[1].body.len(), 100_000);
    app.quiet().await;
}
