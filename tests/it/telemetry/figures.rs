//! Metrics that are filled by the running program, each against what was done to it.
use std::os::unix::net::UnixStream;

use crate::support::app::App;
use crate::support::client::{ask, request};
use crate::support::origin::{Origin, whole};
use crate::support::until;

const BODY: &str = r#"{"model":"m","messages":[]}"#;
const JSON: &str = "content-type: application/json\r\n";
const ANSWER: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;

fn chat(more: &str) -> Vec<u8> {
    request("POST", "/v1/chat/completions", &format!("{JSON}x-agent-id: a\r\n{more}"), BODY)
}

#[tokio::test]
async fn how_full_limits_are_and_how_many_places_there_are() {
    let origin = Origin::saying(whole("200 OK", JSON, ANSWER)).await;
    let app = App::start(&format!(
        "upstreams: {{ up: {{ url: '{}', pacing: off, concurrency: 7 }} }}\n\
         policies:\n  - {{ name: few, per: agent, limits: {{ requests: 8/day calendar, \
         tokens: 1M/day calendar observe }} }}\n",
        origin.url()
    ));
    let full = |measure: &str| {
        let measure = format!("measure=\"{measure}\"");
        let ratio = app.metric("tidegate_limit_used_ratio", &["policy=\"few\"", &measure]);
        // in millionths
        (ratio * 1e6).round() as u64
    };
    assert_eq!(full("requests"), 0, "nobody has called");
    for _ in 0..2 {
        assert_eq!(ask(app.addr, &chat("")).await.status, 200);
    }
    // the second agent's bucket is less full, and does not count
    let other = String::from_utf8(chat("")).unwrap().replace("x-agent-id: a", "x-agent-id: b");
    assert_eq!(ask(app.addr, other.as_bytes()).await.status, 200);
    app.quiet().await;
    assert_eq!(full("requests"), 250_000);
    assert_eq!(full("tokens"), 30);
    let up = ["upstream=\"up\""];
    until("the gauges are set", async || app.count("tidegate_upstream_slots", &up) == 7).await;
    let answered = ["upstream=\"up\"", "verdict=\"answered\""];
    assert_eq!(app.count("tidegate_upstream_attempts_total", &answered), 3);
    assert_eq!(app.count("tidegate_upstream_attempts_total", &up), 3);
    app.lines(3).await;
}

#[tokio::test]
async fn attempts_say_what_came_of_them() {
    let origin = Origin::saying(whole("503 Service Unavailable", JSON, "{}")).await;
    let app = App::start(&format!(
        "upstreams: {{ up: {{ url: '{}', pacing: off, breaker: off, retry: {{ attempts: 2 }} }} }}\n",
        origin.url()
    ));
    assert_eq!(ask(app.addr, &chat("")).await.status, 503);
    let sent = origin.requests();
    assert!(sent > 0);
    assert_eq!(app.count("tidegate_upstream_attempts_total", &["verdict=\"answered\""]), 0);
    assert_eq!(app.count("tidegate_upstream_attempts_total", &["upstream=\"up\""]), sent);
    app.line().await;
}

#[tokio::test]
async fn the_database_and_its_disk() {
    let (origin, directory) =
        (Origin::saying(whole("200 OK", JSON, ANSWER)).await, tempfile::tempdir().unwrap());
    let app = App::start(&format!(
        "state: '{}'\nupstreams: {{ up: {{ url: '{}', pacing: off }} }}\n\
         policies:\n  - {{ name: p, per: all, limits: {{ requests: 1k/day calendar }} }}\n",
        directory.path().join("state").display(),
        origin.url()
    ));
    assert_eq!(app.count("tidegate_store_healthy", &[]), 1);
    let free = app.metric("tidegate_state_free_bytes", &[]);
    assert!(free > 1e6, "{free}");
    assert_eq!(app.state()["store"]["free_bytes"].as_f64(), Some(free));
    let before = app.count("tidegate_store_operations_total", &[]);
    assert_eq!(ask(app.addr, &chat("")).await.status, 200);
    until("what was used is written down", async || {
        app.count("tidegate_store_operations_total", &[]) > before
            && app.count("tidegate_store_commits_total", &[]) > 0
    })
    .await;
    assert_eq!(app.count("tidegate_store_refused_total", &[]), 0);
    app.line().await;
}

#[tokio::test]
async fn a_session_that_goes_on_is_a_run() {
    let origin = Origin::saying(whole("200 OK", JSON, ANSWER)).await;
    let app =
        App::start(&format!("upstreams: {{ up: {{ url: '{}', pacing: off }} }}\n", origin.url()));
    assert_eq!(app.count("tidegate_agent_runs", &[]), 0);
    for session in ["s1", "s2", "s1"] {
        let call = chat(&format!("x-session-id: {session}\r\n"));
        assert_eq!(ask(app.addr, &call).await.status, 200);
    }
    assert_eq!(ask(app.addr, &chat("")).await.status, 200);
    app.lines(4).await;
    assert_eq!(app.count("tidegate_agent_runs", &[]), 2);
    assert_eq!(app.count("tidegate_agent_run_seconds_count", &[]), 0, "neither is over");
}

#[tokio::test]
async fn a_client_that_left_before_it_was_accepted_is_no_error_of_ours() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let app = App::start(&format!(
        "listen: ['127.0.0.1:0', 'unix:{}']\n\
         upstreams: {{ up: {{ url: 'http://127.0.0.1:9' }} }}\n",
        socket.display()
    ));
    for _ in 0..20 {
        drop(UnixStream::connect(&socket).unwrap());
    }
    until("all were accepted", async || {
        app.count("tidegate_connections_accepted_total", &[]) >= 20
    })
    .await;
    assert_eq!(app.count("tidegate_accept_errors_total", &["reason=\"exhausted\""]), 0);
}
