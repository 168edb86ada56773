//! A new policy without a restart.
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::agent::{ask, backend, chat, connect, get, next, send, whole};
use super::child::{PATIENCE, Sidecar};
use super::{CHAT, until};

/// `/a` and `/b`, or one of them, lead to the same backend.
fn routes(backend: &tidegate::simulate::Simulator, paths: &[&str]) -> String {
    let routes: Vec<_> =
        paths.iter().map(|path| format!("  - {{ path: {path}, to: llm }}\n")).collect();
    super::agent::policy(backend, &format!("routes:\n{}", routes.concat()))
}

const SUCCESSFUL: &str = "tidegate_config_last_reload_successful";

async fn ready(sidecar: &Sidecar) -> (u16, String) {
    ask(sidecar.admin, get("/readyz")).await
}

async fn metric(sidecar: &Sidecar, line: &str) -> Option<f64> {
    let (_, metrics) = ask(sidecar.admin, get("/metrics")).await;
    let found = metrics.lines().find_map(|found| found.strip_prefix(line));
    found.map(|value| value.trim().parse().unwrap())
}

#[tokio::test]
async fn no_call_fails_and_running_calls_keep_their_policy() {
    let backend = backend();
    let mut sidecar = Sidecar::start(&routes(&backend, &["/a", "/b"])).await;
    let (path_a, path_b) = (format!("/a{CHAT}"), format!("/b{CHAT}"));
    let mut long =
        send(&mut connect(sidecar.addr).await, chat(&path_b, "tokens=60; gap=20ms")).await;
    next(&mut long).await.unwrap().unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut load = JoinSet::new();
    for _ in 0..8 {
        let (to, path, stopped) = (sidecar.addr, path_a.clone(), stopped.clone());
        load.spawn(async move {
            let mut agent = connect(to).await;
            let mut calls = 0;
            while !*stopped.borrow() {
                let answer = send(&mut agent, chat(&path, "tokens=3; gap=1ms")).await;
                assert_eq!(answer.status(), 200);
                assert!(whole(answer).await.unwrap().ends_with("data: [DONE]\n\n"));
                calls += 1;
            }
            calls
        });
    }
    sidecar.rewrite(&routes(&backend, &["/a"]));
    sidecar.signal("HUP");
    sidecar.logged("the new policy is in force").await;
    assert_eq!(ask(sidecar.addr, chat(&path_b, "")).await.0, 404, "the route is gone");
    // back again, this time without a signal: the file is watched
    sidecar.rewrite(&routes(&backend, &["/a", "/b"]));
    sidecar.logged("the new policy is in force").await;
    assert_eq!(ask(sidecar.addr, chat(&path_b, "")).await.0, 200);
    stop.send(true).unwrap();
    assert!(load.join_all().await.into_iter().all(|calls| calls > 0));
    let rest = timeout(PATIENCE, long.into_body().collect()).await.unwrap();
    let rest = rest.expect("a call that ran keeps its route").to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_policy_with_faults_changes_nothing_and_is_said_everywhere() {
    let backend = backend();
    let mut sidecar = Sidecar::start(&routes(&backend, &["/a"])).await;
    sidecar.rewrite("routes: [{ path: /b, to: nowhere }]\n");
    sidecar.signal("HUP");
    let line = sidecar.logged("the policy before it stays in force").await;
    assert!(line.contains("nowhere") && line.contains("\"level\":\"ERROR\""), "{line}");
    assert_eq!(ask(sidecar.addr, chat(&format!("/a{CHAT}"), "")).await.0, 200);
    let failed = "tidegate_config_reloads_total{result=\"failed\"}";
    until("it is counted", async || metric(&sidecar, failed).await == Some(1.0)).await;
    assert_eq!(metric(&sidecar, SUCCESSFUL).await, Some(0.0));
    let says = "the last reload failed, the policy before it is in force";
    until("readyz says it", async || ready(&sidecar).await.1.contains(says)).await;
    let (status, body) = ready(&sidecar).await;
    assert_eq!(status, 200, "the old policy serves well");
    assert!(body.contains("nowhere"), "{body}");
    sidecar.rewrite(&routes(&backend, &["/b"]));
    sidecar.signal("HUP");
    sidecar.logged("the new policy is in force").await;
    until("it is forgotten", async || ready(&sidecar).await.1 == "ready\n").await;
    assert_eq!(metric(&sidecar, SUCCESSFUL).await, Some(1.0));
}

#[tokio::test]
async fn a_policy_whose_file_comes_after_it_is_taken_up_then() {
    let backend = backend();
    let mut sidecar = Sidecar::start(&routes(&backend, &["/a"])).await;
    sidecar.rewrite(&format!(
        "upstreams:\n  llm: {{ dialect: openai, url: 'http://{}' }}\n  \
         other: {{ dialect: openai, url: 'http://127.0.0.1:9', key: 'file:late.key' }}\n\
         routes: [{{ path: /b, to: llm }}]\n",
        backend.addr
    ));
    let line = sidecar.logged("the policy before it stays in force").await;
    assert!(line.contains("late.key"), "{line}");
    // more than one try: they are not told of
    tokio::time::sleep(Duration::from_secs(11)).await;
    let failed = "tidegate_config_reloads_total{result=\"failed\"}";
    assert_eq!(metric(&sidecar, failed).await, Some(1.0));
    std::fs::write(sidecar.path("late.key"), "sk-late\n").unwrap();
    sidecar.logged("the new policy is in force").await;
    assert_eq!(ask(sidecar.addr, chat(&format!("/b{CHAT}"), "")).await.0, 200);
    assert_eq!(metric(&sidecar, SUCCESSFUL).await, Some(1.0));
}

#[tokio::test]
async fn a_storm_of_signals_costs_a_few_reloads() {
    let backend = backend();
    let mut sidecar = Sidecar::start(&routes(&backend, &["/a"])).await;
    let path = format!("/a{CHAT}");
    let mut long = send(&mut connect(sidecar.addr).await, chat(&path, "tokens=40; gap=20ms")).await;
    next(&mut long).await.unwrap().unwrap();
    let script = format!("for i in $(seq 100); do kill -s HUP {}; done", sidecar.child.id());
    let mut storm = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
    assert_eq!(ask(sidecar.addr, chat(&path, "")).await.0, 200);
    assert!(super::child::ended(&mut storm).await.success());
    sidecar.logged("reloading the policy").await;
    // what is in the file after the storm is what is served in the end
    sidecar.rewrite(&routes(&backend, &["/z"]));
    sidecar.signal("HUP");
    sidecar.logged("the new policy is in force").await;
    assert_eq!(ask(sidecar.addr, chat(&format!("/z{CHAT}"), "")).await.0, 200);
    let reloads = metric(&sidecar, "tidegate_config_reloads_total{result=\"ok\"}").await.unwrap();
    assert!((1.0..=30.0).contains(&reloads), "{reloads}");
    assert!(whole(long).await.unwrap().ends_with("data: [DONE]\n\n"));
    tokio::time::timeout(Duration::from_secs(5), async {
        sidecar.signal("TERM");
        sidecar.logged("readiness fails").await;
    })
    .await
    .expect("it still listens to other signals");
}
