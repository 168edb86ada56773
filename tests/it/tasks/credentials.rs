//! What only the caller knows stays in memory, and who may no longer call is not called for.
use std::fs;

use super::*;
use crate::identity::new_key;
use crate::support::client::get;

/// All bytes of all files below.
#[expect(clippy::disallowed_methods, reason = "a test may block")]
fn bytes(at: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        all.extend(if path.is_dir() { bytes(&path) } else { fs::read(&path).unwrap() });
    }
    all
}

#[track_caller]
fn unwritten(at: &Path, secrets: &[&str]) {
    let all = bytes(at);
    for secret in secrets {
        let found = memchr::memmem::find(&all, secret.as_bytes());
        assert!(found.is_none(), "a secret is on the disk: {secret}");
    }
}

#[tokio::test]
async fn the_callers_own_credential_reaches_the_backend_and_no_file() {
    const COOKIE: &str = "session-cookie-0a1b2c3d4e5f";
    const QUERY: &str = "AIza-query-key-998877665544";
    let backend = silent().await;
    let mut rig = Rig::new(&backend.origin.url(), "{ workers: 1 }", COUNTED);
    let lines = format!("{ASYNC}cookie: s={COOKIE}\r\nx-api-key: {OTHER}\r\n");
    let body = crate::cache::FACES[4].json("a-question-in-clear", false);
    let call =
        by(AGENT_KEY, &format!("/v1beta/models/m:generateContent?key={QUERY}&x=1"), &lines, &body);
    let first = accepted(&rig.ask(&call).await);
    until("one is made", async || backend.calls() == 1).await;
    let second = accepted(&rig.ask(&call).await);
    let reached = backend.origin.take().remove(0);
    assert_eq!(reached.get("authorization"), Some(&*format!("Bearer {AGENT_KEY}")));
    assert_eq!(reached.get("x-api-key"), Some(OTHER));
    assert!(reached.get("cookie").is_some_and(|cookie| cookie.contains(COOKIE)));
    assert!(reached.target.contains(&format!("key={QUERY}")), "{}", reached.target);
    let secrets = [AGENT_KEY, OTHER, COOKIE, QUERY];
    // it is all written, and the question is in the clear
    until("it is written", async || {
        memchr::memmem::find(&bytes(rig.state.path()), b"a-question-in-clear").is_some()
    })
    .await;
    unwritten(rig.state.path(), &secrets);
    rig.app.secrets.extend([COOKIE.to_owned(), QUERY.to_owned(), OTHER.to_owned()]);
    rig.app.kill();
    unwritten(rig.state.path(), &secrets);
    rig.app =
        App::start(&rules(rig.state.path(), &backend.origin.url(), "{ workers: 1 }", "", COUNTED));
    for task in [&first, &second] {
        let ask = by(AGENT_KEY, task, &format!("cookie: s={COOKIE}\r\nx-api-key: {OTHER}\r\n"), "");
        let object = rig.ask(&[b"GET", &ask[4..]].concat()).await.json();
        assert_eq!(
            (&object["state"], &object["error"]["type"]),
            (&"failed".into(), &"credential_lost".into()),
            "{object}"
        );
    }
    backend.release(usize::MAX);
    assert_eq!(backend.origin.requests(), 0, "nobody is called without it");
    unwritten(rig.state.path(), &secrets);
}

#[tokio::test]
async fn where_the_sidecar_has_the_key_the_callers_is_not_needed() {
    let backend = silent().await;
    let mut rig = Rig::keyed(&backend.origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
    until("it is made", async || backend.calls() == 1).await;
    rig.app.kill();
    unwritten(rig.state.path(), &[AGENT_KEY, crate::support::app::UPSTREAM_KEY]);
    backend.release(usize::MAX);
    rig.app = App::start(&rules(
        rig.state.path(),
        &backend.origin.url(),
        "{}",
        "key: '${CANARY}',",
        COUNTED,
    ));
    assert_eq!(rig.over(&task).await["state"], "succeeded");
    for request in backend.origin.take() {
        assert!(!format!("{request:?}").contains(AGENT_KEY));
    }
}

#[tokio::test]
async fn a_key_of_ours_that_is_gone_meanwhile_calls_nobody() {
    let backend = silent().await;
    let (key, line) = new_key(&["--agent", "researcher"]);
    let (other, others) = new_key(&["--agent", "other"]);
    let state = tempfile::tempdir().unwrap();
    let policy = |keys: &str| {
        let more = format!("agents: {{ keys: [{keys}] }}\n{COUNTED}");
        rules(state.path(), &backend.origin.url(), "{ workers: 1 }", "key: '${CANARY}',", &more)
    };
    let both = format!("{line}, {others}");
    let mut app = App::start(&policy(&both));
    app.secrets.push(key.clone());
    let call = |key: &str| by(key, "/v1/chat/completions", ASYNC, &OPENAI_CHAT.json("hi", false));
    let first = accepted(&ask(app.addr, &call(&other)).await);
    until("one is made", async || backend.calls() == 1).await;
    let mine = accepted(&ask(app.addr, &call(&key)).await);
    let theirs = accepted(&ask(app.addr, &call(&other)).await);
    app.reload(&policy(&others)).await;
    backend.release(usize::MAX);
    let seen = async |key: &str, task: &str| {
        let lines = format!("GET {task} HTTP/1.1\r\nhost: x\r\nx-tidegate-key: {key}\r\n\r\n");
        ask(app.addr, lines.as_bytes()).await
    };
    for task in [&first, &theirs] {
        until("it is over", async || terminal(&seen(&other, task).await.json())).await;
        assert_eq!(seen(&other, task).await.json()["state"], "succeeded");
    }
    assert_eq!(seen(&key, &mine).await.status, 401);
    app.reload(&policy(&both)).await;
    let object = seen(&key, &mine).await.json();
    assert_eq!(object["state"], "failed", "{object}");
    assert_eq!(seen(&key, &format!("{mine}/result")).await.status, 401);
    assert_eq!(backend.calls(), 2);
    unwritten(state.path(), &[&key, &other]);
    drop(app);
}

#[tokio::test]
async fn an_agent_that_says_nothing_of_itself_has_tasks_too() {
    let origin = prompt().await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let body = OPENAI_CHAT.json("hi", false);
    let call = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{ASYNC}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let task = accepted(&rig.ask(call.as_bytes()).await);
    let look = format!("GET {task}?wait=9 HTTP/1.1\r\nhost: x\r\n\r\n");
    until("it is over", async || terminal(&rig.ask(look.as_bytes()).await.json())).await;
    assert_eq!(rig.ask(&get(&task, "")).await.status, 404, "who says something is another");
}
