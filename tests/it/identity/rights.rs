//! What a key opens and what not: 401 and 403, in the words of each dialect.
use super::*;

type Shape = fn(&Value) -> bool;

/// Path, and whether the body has the shape of that dialect's errors.
fn shapes() -> [(&'static str, Shape); 5] {
    [
        (CHAT, |body| body["error"]["code"].is_string() && body["error"]["type"].is_string()),
        ("/v1/responses", |body| body["error"]["code"].is_string()),
        (MESSAGES, |body| body["type"] == "error" && body["error"]["type"].is_string()),
        (GEMINI, |body| body["error"]["status"].is_string() && body["error"]["code"].is_u64()),
        (OLLAMA, |body| body["error"].is_string()),
    ]
}

#[tokio::test]
async fn keys_that_are_not_valid_are_refused_in_each_dialect() {
    let origin = origin().await;
    let (late, line) = new_key(&["--agent", "late"]);
    let line = format!("{}, expires: 2020-01-01 }}", line.trim_end_matches([' ', '}']));
    let mut app = App::start(&policy(&origin, &format!("agents: {{ keys: [{line}] }}\n")));
    let unknown = format!("tgk_{}", "A".repeat(43));
    app.secrets.extend([late.clone(), unknown.clone()]);
    let mut count = 0;
    for (path, has_shape) in shapes() {
        for (lines, word) in [
            (bearer(&late), "expired"),
            (format!("x-api-key: {unknown}\r\n"), "not valid"),
            // a valid credential of the provider's beside it does not help
            (format!("x-goog-api-key: {unknown}\r\n{}", bearer(FOREIGN)), "not valid"),
            (format!("x-tidegate-key: hello\r\n{}", bearer(FOREIGN)), "not valid"),
        ] {
            let got = ask(app.addr, &call(path, &lines, BODY)).await;
            count += 1;
            assert_eq!(got.status, 401, "{path} {lines}");
            let body = got.json();
            assert!(has_shape(&body), "{path}: {body}");
            assert!(got.text().contains(word), "{path}: {body}");
            assert_eq!(got.head.get("x-should-retry"), Some("false"));
            assert_eq!(got.head.get("x-tidegate-source"), Some("policy"), "{}", got.head.text);
        }
    }
    // in the query, and one that stands twice
    let twice = format!("x-tidegate-key: {late}\r\nx-tidegate-key: {late}\r\n");
    assert_eq!(chat(app.addr, &twice).await.status, 401);
    let in_query = ask(app.addr, &call(&format!("{GEMINI}?key={unknown}"), "", BODY)).await;
    assert_eq!(in_query.status, 401);
    assert_eq!(origin.requests(), 0, "none of them went on");
    for line in app.lines(count + 2).await {
        assert_eq!((&line["outcome"], &line["status"]), (&"refused".into(), &401.into()), "{line}");
    }
}

#[tokio::test]
async fn known_lets_in_whom_it_knows_and_open_everybody() {
    let origin = origin().await;
    let (key, line) = new_key(&["--agent", "researcher"]);
    for (access, without) in [("known", 401), ("open", 200)] {
        let app = App::start(&policy(
            &origin,
            &format!("agents: {{ access: {access}, keys: [{line}] }}\n"),
        ));
        assert_eq!(chat(app.addr, &bearer(&key)).await.status, 200);
        for lines in ["", "x-agent-id: researcher\r\n", &bearer(FOREIGN)] {
            let got = chat(app.addr, lines).await;
            assert_eq!(got.status, without, "{access} {lines}");
            assert!(without == 200 || got.json()["error"]["code"] == "no_key");
        }
        // the SDKs' probe of the base URL asks for nothing
        assert_eq!(
            ask(app.addr, b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.status,
            200
        );
        app.lines(5).await;
    }
    // the lists make it known where nobody says
    let app = App::start(&policy(&origin, &format!("agents: {{ keys: [{line}] }}\n")));
    assert_eq!(chat(app.addr, "").await.status, 401);
    app.line().await;
}

#[tokio::test]
async fn a_key_opens_its_models_and_routes_alone() {
    let origin = origin().await;
    let (key, line) =
        new_key(&["--agent", "a", "--model", "gpt-*", "--model", "m", "--route", "/a"]);
    let app = App::start(&policy(&origin, &format!("agents: {{ keys: [{line}] }}\n")));
    let body = |model: &str| BODY.replace("\"m\"", &format!("\"{model}\""));
    let cases = [
        ("/a", CHAT, "gpt-4o", 200, ""),
        ("/a", CHAT, "m", 200, ""),
        ("/a", CHAT, "gpt", 403, "model"),
        ("/a", CHAT, "claude-opus", 403, "model"),
        ("/a", MESSAGES, "claude-opus", 403, "model"),
        ("", CHAT, "gpt-4o", 403, "route"),
        ("/a", "/v1/embeddings", "text-embedding-3", 403, "model"),
        // the model of the path counts, not the one of the body
        ("/a", "/v1beta/models/m:generateContent", "x", 200, ""),
        ("/a", "/v1beta/models/secret:generateContent", "m", 403, "model"),
        // a call whose model nobody can see
        ("/a", "/v1/files", "m", 403, "model"),
    ];
    for (prefix, path, model, status, word) in cases {
        let target = format!("{prefix}{path}");
        let got = ask(app.addr, &call(&target, &bearer(&key), &body(model))).await;
        assert_eq!(got.status, status, "{target} {model}: {}", got.text());
        assert!(got.text().contains(word), "{}", got.text());
        let reached = origin.take().len();
        assert_eq!(reached, usize::from(status == 200), "{target} {model}");
    }
    let list = format!("GET /a/v1/models HTTP/1.1\r\nhost: a\r\n{}\r\n", bearer(&key));
    assert_eq!(ask(app.addr, list.as_bytes()).await.status, 200, "the list has no model");
    app.lines(cases.len() + 1).await;
}

#[tokio::test]
async fn a_word_never_takes_the_place_of_a_proof() {
    let origin = origin().await;
    let (key, line) = new_key(&["--agent", "researcher", "--team", "growth"]);
    let (_, boss) = new_key(&["--agent", "boss", "--team", "board"]);
    let agents =
        format!("agents: {{ access: open, team_header: x-team-id, keys: [{line}, {boss}] }}\n");
    let app = App::start(&policy(&origin, &agents));
    let spoof = "x-agent-id: boss\r\nx-team-id: board\r\nx-claude-code-agent-id: boss\r\n";
    for (lines, agent, team, rung) in [
        (format!("{spoof}{}", bearer(&key)), "researcher", "growth", "key"),
        // without a key, a name that others must prove is not given
        (spoof.to_owned(), "127.0.0.1", "", "address"),
        (format!("{spoof}{}", bearer(FOREIGN)), "key:", "", "credential"),
        (
            "x-agent-id: harmless\r\nx-team-id: guests\r\n".to_owned(),
            "harmless",
            "guests",
            "header",
        ),
        ("x-session-id: boss\r\n".to_owned(), "127.0.0.1", "", "address"),
    ] {
        assert_eq!(chat(app.addr, &lines).await.status, 200);
        let line = app.lines(origin.requests()).await.pop().unwrap();
        assert!(at(&line, "agent").starts_with(agent), "{lines}: {line}");
        assert_eq!((at(&line, "team"), at(&line, "rung")), (team, rung), "{lines}");
    }
    drop(app);
    // the word of a network that is trusted counts, and that of others does not
    for (trust, agent) in [("127.0.0.0/8", "boss"), ("10.0.0.0/8", "127.0.0.1")] {
        let agents = format!("agents: {{ access: open, trust: [{trust}], keys: [{boss}] }}\n");
        let app = App::start(&policy(&origin, &agents));
        assert_eq!(chat(app.addr, "x-agent-id: boss\r\n").await.status, 200);
        assert_eq!(at(&app.line().await, "agent"), agent, "{trust}");
    }
}
