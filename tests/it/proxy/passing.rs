//! What passes as it is, and what does not: headers, bodies, statuses, credentials.
use serde_json::Value;

use super::{CHAT, GEMINI, MESSAGES, PLAIN, STREAM, policy, simulated};
use crate::support::app::{AGENT_KEY, App, UPSTREAM_KEY};
use crate::support::client::{Client, End, ask, get, post, request};
use crate::support::h2;
use crate::support::origin::{Origin, Request, whole};

/// The program in front of an origin that says the same to all.
async fn recorded(answer: impl Into<Vec<u8>>, more: &str) -> (App, Origin) {
    let origin = Origin::saying(answer).await;
    let app = App::start(&policy(&origin.url(), more));
    (app, origin)
}

#[tokio::test]
async fn unknown_endpoints_are_proxied_untouched() {
    let body = "{\"not\": json,\n \"é\": \u{1F600}}";
    let (app, origin) =
        recorded(whole("418 I'm a teapot", "X-Odd: \r\nx-two: 1\r\nX-Two: 2\r\n", "tea"), "").await;
    for (method, target) in [
        ("GET", "/v1/batches/b_1?limit=10&after=%2F%20a+b&&x=%zz&empty="),
        ("DELETE", "/v1/files/f-1"),
        ("PUT", "/anything/at/all?a=1?b=2"),
        ("PATCH", "/v1/threads/t"),
        ("POST", "/v1/some/new/thing?beta=true"),
        ("QUERY", "/search"),
    ] {
        let sent = if method == "GET" { "" } else { body };
        let got = ask(app.addr, &request(method, target, "", sent)).await;
        assert_eq!((got.status, got.text(), got.end), (418, "tea", End::Whole), "{target}");
        assert_eq!(got.head.all("x-two"), ["1", "2"]);
        assert_eq!(got.head.all("x-odd"), [""]);
        let reached = origin.take().remove(0);
        assert_eq!((reached.method.as_str(), reached.target.as_str()), (method, target));
        assert_eq!(reached.body, sent.as_bytes());
    }
    for line in app.lines(6).await {
        assert_eq!((&line["operation"], &line["outcome"]), (&"other".into(), &"complete".into()));
        assert!(!line["path"].as_str().unwrap().contains('?'), "queries carry keys");
    }
}

#[tokio::test]
async fn headers_pass_with_their_values_and_order() {
    let (app, origin) = recorded(whole("200 OK", "", "{}"), "").await;
    let lines = "anthropic-version: 2023-06-01\r\nanthropic-beta: a-1\r\nAnthropic-Beta: b-2,c-3\r\n\
                 X-Mixed: MiXeD  Value\r\nx-stainless-os: Linux\r\nx-meta: caf\u{e9}\r\nx-empty:\r\n\
                 cookie: a=1\r\ncookie: b=2\r\nx-request-id: mine\r\ntraceparent: 00-ab-cd-01\r\n\
                 openai-organization: org\r\nx-claude-code-session-id: s-1\r\nuser-agent: sdk/1\r\n\
                 accept: */*\r\nx-should-retry: true\r\nidempotency-key: k-1\r\n";
    for body in [PLAIN, STREAM] {
        ask(app.addr, &request("POST", "/v1/messages?beta=true", lines, body)).await;
        let reached = origin.take().remove(0);
        assert_eq!(reached.target, "/v1/messages?beta=true");
        assert_eq!(reached.body, body.as_bytes());
        for line in lines.lines() {
            let (name, _) = line.split_once(':').unwrap();
            let wanted: Vec<&str> = lines
                .lines()
                .filter_map(|line| line.split_once(':'))
                .filter(|(other, _)| other.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
                .collect();
            assert_eq!(reached.all(name), wanted, "{name}");
        }
    }
    app.lines(2).await;
}

#[tokio::test]
async fn hop_by_hop_is_stripped_both_ways() {
    let answer = whole(
        "200 OK",
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n\
         Trailer: X-End\r\nUpgrade: h2c\r\nAlt-Svc: h3=\":443\"\r\nX-Kept: yes\r\nvia: 1.1 vendor\r\n\
         x-tidegate-source: cache\r\nx-tidegate-request-id: forged\r\n",
        "{}",
    );
    let (app, origin) = recorded(answer, "").await;
    let lines = "Connection: keep-alive, x-mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\
                 Proxy-Authorization: Basic eA==\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\
                 X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nx-tidegate-agent: me\r\n\
                 Expect: 100-continue\r\nX-Kept: yes\r\n";
    let mut client = Client::connect(app.addr).await;
    client.send(&request("POST", CHAT, lines, PLAIN)).await;
    assert_eq!(client.head().await.unwrap().status, 100);
    let got = client.answer().await;
    let reached = origin.take().remove(0);
    for name in [
        "x-mine",
        "keep-alive",
        "te",
        "upgrade",
        "http2-settings",
        "expect",
        "forwarded",
        "connection",
    ] {
        assert_eq!(reached.get(name), None, "{name}");
    }
    let prefixed = |name: &String| name.starts_with("x-forwarded") || name.starts_with("proxy-");
    assert!(
        !reached.headers.iter().any(|(name, _)| prefixed(name) || name.starts_with("x-tidegate"))
    );
    assert_eq!(reached.get("x-kept"), Some("yes"));
    assert_eq!(reached.all("via"), ["1.1 tidegate"]);
    assert_eq!(reached.get("host"), Some(origin.addr.to_string().as_str()));
    for name in
        ["x-hop", "keep-alive", "proxy-authenticate", "trailer", "upgrade", "alt-svc", "connection"]
    {
        assert_eq!(got.head.get(name), None, "{name}: {}", got.head.text);
    }
    assert_eq!(got.head.get("x-kept"), Some("yes"));
    assert_eq!(got.head.all("via"), ["1.1 vendor", "1.1 tidegate"]);
    assert_eq!(got.head.all("x-tidegate-source"), ["upstream"]);
    let line = app.line().await;
    assert_eq!(got.head.all("x-tidegate-request-id"), [line["request_id"].as_str().unwrap()]);
}

#[tokio::test]
async fn credentials_are_replaced_or_passed_never_both() {
    let keys = format!(
        "x-api-key: {AGENT_KEY}\r\nx-goog-api-key: {AGENT_KEY}\r\napi-key: {AGENT_KEY}\r\n"
    );
    let names = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];
    let carried = |reached: &Request| names.map(|name| reached.all(name).join("|"));
    let (app, origin) = recorded(whole("200 OK", "", "{}"), "").await;
    ask(app.addr, &request("POST", CHAT, &keys, PLAIN)).await;
    let bearer = format!("Bearer {AGENT_KEY}");
    let own = [bearer.as_str(), AGENT_KEY, AGENT_KEY, AGENT_KEY];
    assert_eq!(carried(&origin.take()[0]), own, "the agent's own pass through");
    app.lines(1).await;

    let bearer = format!("Bearer {UPSTREAM_KEY}");
    for (auth, wanted) in [
        ("", [bearer.as_str(), "", "", ""]),
        ("auth: x-api-key,", ["", UPSTREAM_KEY, "", ""]),
        ("auth: x-goog-api-key,", ["", "", UPSTREAM_KEY, ""]),
        ("auth: api-key,", ["", "", "", UPSTREAM_KEY]),
        ("auth: x-other,", ["", "", "", ""]),
    ] {
        let more = format!("key: '${{CANARY}}', {auth} headers: {{ x-team: growth }},");
        let (app, origin) = recorded(whole("200 OK", "", "{}"), &more).await;
        for target in [CHAT, "/v1/files", GEMINI] {
            ask(app.addr, &request("POST", target, &format!("{keys}x-team: mine\r\n"), PLAIN))
                .await;
            let reached = origin.take().remove(0);
            assert_eq!(carried(&reached), wanted, "{auth}");
            assert_eq!(reached.all("x-team"), ["growth"]);
            let sent = format!("{reached:?}");
            assert!(!sent.contains(AGENT_KEY) && sent.matches(UPSTREAM_KEY).count() == 1, "{sent}");
        }
        app.lines(3).await;
    }
}

#[tokio::test]
async fn multipart_uploads_stream_with_and_without_a_length() {
    let (app, simulator) = simulated("");
    let part = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let body = format!("{part}{}\r\n--b--\r\n", "\u{0}\u{1}binary\r\n".repeat(50_000));
    let multipart = "content-type: multipart/form-data; boundary=b\r\n";
    let got = ask(app.addr, &request("POST", "/simulate/mirror", multipart, &body)).await;
    assert!(got.status == 200 && got.body == body.as_bytes());

    let mut client = Client::connect(app.addr).await;
    let head = "POST /simulate/mirror HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n";
    client.send(format!("{head}{multipart}\r\n").as_bytes()).await;
    for piece in body.as_bytes().chunks(10_007) {
        client.send(format!("{:x};ext=1\r\n", piece.len()).as_bytes()).await;
        client.send(piece).await;
        client.send(b"\r\n").await;
    }
    client.send(b"0\r\nx-trailer: dropped\r\n\r\n").await;
    let got = client.answer().await;
    assert!(got.status == 200 && got.body == body.as_bytes());
    let lines = app.lines(2).await;
    assert_eq!(lines[0]["request_bytes"], body.len());
    assert_eq!(simulator.seen().requests, 2);
}

/// The first bytes of an upload are with the upstream before the last have left the client, and an
/// answer that begins early does not end the upload.
#[tokio::test]
async fn an_upload_and_its_answer_flow_at_the_same_time() {
    let origin = Origin::start(|mut conn| async move {
        while conn.head().await.is_some() {
            conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            while let Some(data) = conn.chunk().await {
                let line = format!("{:x}\r\n", data.len());
                conn.send(&[line.as_bytes(), &data, b"\r\n"].concat()).await;
                if data.is_empty() {
                    break;
                }
            }
        }
    })
    .await;
    let app = App::start(&policy(&origin.url(), ""));
    for _ in 0..2 {
        let mut client = Client::connect(app.addr).await;
        let head = "POST /v1/audio/live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        client.send(format!("{head}3\r\none\r\n").as_bytes()).await;
        assert!(client.head().await.unwrap().is_chunked());
        assert_eq!(client.chunk().await.unwrap(), b"one");
        client.send(b"3\r\ntwo\r\n").await;
        assert_eq!(client.chunk().await.unwrap(), b"two");
        client.send(b"0\r\n\r\n").await;
        assert_eq!(client.chunk().await.unwrap(), b"");
    }
    for line in app.lines(2).await {
        assert_eq!(line["outcome"], "complete", "{line}");
    }
    assert_eq!(app.pool("dialled"), 1, "the connection was whole after it");
}

#[tokio::test]
async fn answers_without_a_body() {
    let head_only = b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\nx-a: b\r\n\r\n".to_vec();
    let not_modified =
        b"HTTP/1.1 304 Not Modified\r\netag: \"e\"\r\ncontent-length: 99\r\n\r\n".to_vec();
    let no_content = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    for (method, answer, status) in
        [("HEAD", head_only, 200), ("GET", not_modified, 304), ("DELETE", no_content, 204)]
    {
        let (app, origin) = recorded(answer, "").await;
        let mut client = Client::connect(app.addr).await;
        for _ in 0..2 {
            client.send(&request(method, "/v1/models", "", "")).await;
            let got = client.headless().await;
            assert_eq!(got.status, status, "{method}");
            if method == "HEAD" {
                assert_eq!(got.head.get("content-length"), Some("1234"));
            }
        }
        assert_eq!((origin.requests(), origin.connections()), (2, 1), "{method}");
        let line = &app.lines(2).await[1];
        assert_eq!((&line["outcome"], &line["response_bytes"]), (&"complete".into(), &0.into()));
    }
}

#[tokio::test]
async fn case_71_interim_answers_are_dropped() {
    let (app, simulator) = simulated("");
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "fault=early-hints", PLAIN)).await;
    let got = client.answer().await;
    let direct = ask(simulator.addr, &post(CHAT, "", PLAIN)).await;
    assert_eq!((got.status, got.text()), (200, direct.text()));
    let many = [b"HTTP/1.1 102 Processing\r\n\r\n".repeat(5), whole("200 OK", "", "ok")].concat();
    let (app, _origin) = recorded(many, "").await;
    assert_eq!(ask(app.addr, &get("/x", "")).await.text(), "ok");
    app.lines(1).await;
}

#[tokio::test]
async fn case_60_compressed_answers_pass_as_they_are() {
    let (app, simulator) = simulated("");
    for path in [CHAT, MESSAGES, "/simulate/echo"] {
        let call = post(path, "fault=gzip", STREAM);
        let (got, wanted) = (ask(app.addr, &call).await, ask(simulator.addr, &call).await);
        assert_eq!(got.head.get("content-encoding"), wanted.head.get("content-encoding"));
        if path != "/simulate/echo" {
            assert_eq!(got.head.get("content-encoding"), Some("gzip"));
            assert!(got.end == End::Whole && got.body == wanted.body);
        }
    }
    for line in app.lines(3).await {
        assert_eq!(line["outcome"], "complete", "{line}");
    }
    // where the answer is watched, none is asked for; elsewhere the client's wish passes
    let (app, origin) = recorded(whole("200 OK", "", "{}"), "").await;
    for (target, wanted) in [(CHAT, "identity"), ("/v1/files", "gzip, br")] {
        ask(app.addr, &request("POST", target, "accept-encoding: gzip, br\r\n", PLAIN)).await;
        assert_eq!(origin.take()[0].all("accept-encoding"), [wanted]);
    }
    // a body in another coding is not looked into
    let got =
        ask(app.addr, &request("POST", CHAT, "content-encoding: gzip\r\n", "\u{1f}\u{8b}")).await;
    assert_eq!((got.status, origin.take()[0].body.as_slice()), (200, "\u{1f}\u{8b}".as_bytes()));
    app.lines(3).await;
}

#[tokio::test]
async fn case_70_redirects_are_the_clients_business() {
    let (app, simulator) = simulated("");
    let got = ask(app.addr, &post(CHAT, "fault=redirect", PLAIN)).await;
    assert_eq!(got.status, 302);
    assert_eq!(got.head.get("location"), Some("/simulate/echo?redirected"));
    assert_eq!(simulator.seen().requests, 1, "nobody followed it");
    app.lines(1).await;
}

#[tokio::test]
async fn case_13_http_1_0_gets_no_chunks() {
    let (app, simulator) = simulated("");
    let direct = ask(simulator.addr, &post(CHAT, "", STREAM)).await;
    let old = String::from_utf8(post(CHAT, "", STREAM)).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    let got = ask(app.addr, old.as_bytes()).await;
    assert_eq!((got.status, got.end), (200, End::Closed), "the end of the connection is its end");
    assert!(!got.head.is_chunked());
    assert_eq!(got.text(), direct.text());
    assert_eq!(app.line().await["outcome"], "complete");
}

#[tokio::test]
async fn case_11_pipelined_requests_are_answered_in_order() {
    let (app, simulator) = simulated("");
    let mut client = Client::connect(app.addr).await;
    let calls = [
        post(CHAT, "ttft=100ms", STREAM),
        post(MESSAGES, "", PLAIN),
        get("/simulate/echo", ""),
        post(CHAT, "seed=2", STREAM),
    ];
    client.send(&calls.concat()).await;
    for call in calls {
        let (got, direct) = (client.answer().await, ask(simulator.addr, &call).await);
        assert_eq!(got.status, 200);
        if !call.starts_with(b"GET") {
            assert_eq!(got.text(), direct.text());
        }
    }
    app.lines(4).await;
}

#[tokio::test]
async fn paths_and_queries_are_joined_with_the_upstreams_own() {
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    let app = App::start(&format!(
        "upstreams:\n  deep: {{ url: '{0}/llm/api/v1' }}\n  plain: {{ url: '{0}' }}\n\
         routes: [{{ path: /deep, to: deep }}, {{ to: plain }}]\n",
        origin.url()
    ));
    for (asked, reached) in [
        ("/deep/v1/chat/completions", "/llm/api/v1/chat/completions"),
        ("/deep/chat/completions?a=b", "/llm/api/v1/chat/completions?a=b"),
        ("/deep/v1/files?x=/v1/", "/llm/api/v1/files?x=/v1/"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/deeper/v1/x", "/deeper/v1/x"),
        ("/v1//chat//completions", "/v1/chat/completions"),
    ] {
        assert_eq!(ask(app.addr, &post(asked, "", PLAIN)).await.status, 200, "{asked}");
        assert_eq!(origin.take()[0].target, reached, "{asked}");
    }
    app.lines(7).await;
}

/// What the client said over HTTP/2 reaches an HTTP/1.1 backend as one plain request.
#[tokio::test]
async fn http2_clients_reach_http1_backends() {
    let (app, simulator) = simulated("");
    let client = h2::Client::connect(app.addr).await;
    let got = client.ask("/simulate/echo/a?b=%2Fc", "", "body").await;
    let seen: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(
        (&seen["target"], &seen["method"]),
        (&"/simulate/echo/a?b=%2Fc".into(), &"POST".into()),
        "{seen}"
    );
    for path in [CHAT, MESSAGES] {
        let got = client.ask(path, "fault=split=bytes", STREAM).await;
        let direct = ask(simulator.addr, &post(path, "", STREAM)).await;
        assert_eq!((got.status, got.reset), (200, None));
        assert_eq!(String::from_utf8(got.body).unwrap(), direct.text());
        assert!(!got.headers.contains_key("transfer-encoding"));
    }
    app.lines(3).await;
}
