//! Paths, hosts and names that point elsewhere: cases 43 to 47.
use std::process::Stdio;

use super::{CHAT, PLAIN, after, all_refused, answering, ask, limited};
use crate::identity::new_key;
use crate::life::tidegate;
use crate::support::app::{App, UPSTREAM_KEY};
use crate::support::client::{get, post, request};
use crate::support::origin::Origin;

#[tokio::test]
async fn a43_paths_with_two_readings() {
    let targets = [
        "/v1/../admin",
        "/v1/chat/%2e%2e/admin",
        "/v1/chat/%2E./admin",
        "/v1/..;/admin",
        "/..",
        "/v1/./models",
        "/v1%2fchat/completions",
        "/v1%2Fchat",
        "/v1%5c..%5cadmin",
        "/v1\\..\\admin",
        "/v1/models%00",
        "/v1/models%0d%0aX-Evil:1",
        "/v1/%",
        "/v1/%g1",
        "v1/models",
        "/v1/caf\u{e9}",
    ];
    let all: Vec<_> = targets.iter().map(|target| (*target, get(target, ""))).collect();
    all_refused(400, &all).await;
}

/// Doubled slashes are no trick: base URLs end in one. What is matched is what is forwarded.
#[tokio::test]
async fn a43_doubled_slashes_are_one() {
    let origin = answering().await;
    let policy = format!(
        "upstreams: {{ up: '{}' }}\nroutes: [{{ path: /v1, to: up }}, {{ path: /x, to: up }}]\n",
        origin.url()
    );
    let app = App::start(&policy);
    for target in ["//v1/chat/completions", "/v1//chat///completions", "//x///v1//chat/completions"]
    {
        assert_eq!(ask(&app, &post(target, "", PLAIN)).await.status, 200, "{target}");
        assert_eq!(origin.take()[0].target, CHAT);
    }
    assert_eq!(ask(&app, &get("//y", "")).await.status, 404);
    let fine = (200, "complete");
    after::over(&app, &[fine, fine, fine, (404, "refused")]).await;
    after::let_go(&app, &origin).await;
}

/// The admin listener is another socket. No host and no path of a call leads there.
#[tokio::test]
async fn a44_admin_paths_and_hosts() {
    let origin = answering().await;
    let policy =
        format!("upstreams: {{ up: '{}' }}\nroutes: [{{ path: /v1, to: up }}]\n", origin.url());
    let app = App::start(&policy);
    let paths = ["/metrics", "/state", "/livez", "/readyz", "/healthz", "/cache/stats", "/keys"];
    let admin = app.admin.to_string();
    for path in paths {
        for host in ["sidecar.test", "localhost", &admin, "admin"] {
            let call =
                format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nx-forwarded-host: {admin}\r\n\r\n");
            let got = ask(&app, call.as_bytes()).await;
            assert_eq!(got.status, 404, "{path} at {host}: {}", got.text());
            assert!(got.text().contains("no_route"), "{}", got.text());
        }
    }
    after::over(&app, &vec![(404, "refused"); 4 * paths.len()]).await;
    after::unheard(&origin);
}

/// A name is believed as far as it is proved: it never outranks a key, and where only the known may
/// call it opens nothing.
#[tokio::test]
async fn a45_a_name_of_somebody_else() {
    let origin = answering().await;
    let (key, line) = new_key(&["--agent", "researcher"]);
    let policy = |access: &str| {
        format!(
            "upstreams: {{ up: '{}' }}\nroutes: [{{ to: up }}]\n\
             agents: {{ access: {access}, keys: [{line}] }}\n",
            origin.url()
        )
    };
    let call = |lines: &str| {
        let length = PLAIN.len();
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\
             x-agent-id: boss\r\n{lines}\r\n{PLAIN}"
        )
        .into_bytes()
    };
    let known = format!("x-tidegate-key: {key}\r\n");
    let mut app = App::start(&policy("known"));
    app.secrets.push(key.clone());
    let got = ask(&app, &call("")).await;
    assert_eq!(got.status, 401, "{}", got.text());
    after::unheard(&origin);
    assert_eq!(ask(&app, &call(&known)).await.status, 200);
    let lines = after::over(&app, &[(401, "refused"), (200, "complete")]).await;
    let agents: Vec<_> = lines.iter().map(|line| &line["agent"]).collect();
    assert_eq!(agents[1], "researcher", "the key says who it is: {agents:?}");

    drop(app);
    let mut app = App::start(&policy("open"));
    app.secrets.push(key);
    assert_eq!(ask(&app, &call("")).await.status, 200);
    let line = after::over(&app, &[(200, "complete")]).await.remove(0);
    assert_eq!((&line["agent"], &line["rung"]), (&"boss".into(), &"header".into()), "{line}");
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a46_two_credentials() {
    let call = |lines: &str| request("POST", CHAT, lines, PLAIN);
    let twice = |name: &str| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: a\r\n{name}: x\r\n{name}: x\r\ncontent-length: 0\r\n\r\n"
        )
        .into_bytes()
    };
    all_refused(
        400,
        &[
            ("another", call("Authorization: Bearer other\r\n")),
            ("an empty one", call("authorization:\r\n")),
            ("x-api-key", twice("x-api-key")),
            ("api-key", twice("Api-Key")),
            ("x-goog-api-key", twice("x-goog-api-key")),
            ("x-agent-id", twice("x-agent-id")),
            ("idempotency-key", twice("idempotency-key")),
        ],
    )
    .await;
}

/// A policy that would put more into a head than one value does not load, wherever the text comes
/// from; and the message does not show it.
#[tokio::test]
async fn a47_headers_out_of_the_policy() {
    let directory = tempfile::tempdir().unwrap();
    let values = [
        ("a line end in the environment", "headers: { x-team: '${LINES}' }"),
        ("a line end in a key", "key: '${LINES}'"),
        ("a line end in the text", "headers: { x-team: \"a\\r\\nx-evil: 1\" }"),
        ("a NUL", "headers: { x-team: \"a\\0b\" }"),
        ("a space in a name", "headers: { 'x team': a }"),
        ("a colon in a name", "headers: { 'x-a: b': c }"),
        ("a letter beyond ASCII in a name", "headers: { 'x-é': a }"),
        ("a line end in a name", "headers: { \"x-a\\r\\nx-b\": a }"),
        ("framing", "headers: { transfer-encoding: chunked }"),
        ("framing", "headers: { content-length: '5' }"),
        ("a key beyond ASCII", "key: 'clé'"),
    ];
    for (name, line) in values {
        let file = directory.path().join("policy.yaml");
        std::fs::write(
            &file,
            format!("upstreams: {{ up: {{ {line}, url: 'http://127.0.0.1:9' }} }}\n"),
        )
        .unwrap();
        let out = tidegate()
            .args(["check", "-c"])
            .arg(&file)
            .env("LINES", format!("{UPSTREAM_KEY}\r\nx-evil: 1"))
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(out.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("policy.yaml:1"), "{name}: {said}");
        assert!(!said.contains(UPSTREAM_KEY) && !said.contains("x-evil: 1"), "{name}: {said}");
    }
    // what may stand there goes out as one line
    let origin: Origin = answering().await;
    let app = limited(&origin.url(), "headers: { x-team: 'a: b, c' },", "");
    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.status, 200);
    assert_eq!(origin.take()[0].all("x-team"), ["a: b, c"]);
    after::over(&app, &[(200, "complete")]).await;
    after::let_go(&app, &origin).await;
}
