//! What operators see of tasks and do to them: the program and a simulator, `tidegate tasks` beside
//! them; metrics, `/state` and the access log.
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tidegate::simulate::{Options, Simulator, start};

use crate::support::app::App;
use crate::support::client::{Answer, Client, ask, get, request};
use crate::support::until;

const PREFER: &str = "prefer: respond-async\r\n";

fn simulator() -> Simulator {
    start(Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() }).unwrap()
}

/// One place for tasks to run, and a receiver of messages that takes none.
fn policy(simulator: &Simulator, state: &Path) -> String {
    let (to, state) = (simulator.addr, state.display());
    format!(
        "state: '{state}'\n\
         server: {{ drain: {{ delay: 0s, timeout: 1s }} }}\n\
         upstreams: {{ up: {{ pacing: off, breaker: off, url: 'http://{to}' }} }}\n\
         routes: [{{ name: all, to: up }}]\n\
         tasks:\n  workers: 1\n  per_agent: {{ count: 2 }}\n  webhooks:\n    ops: {{ url: \
         'http://{to}/nothing-here', private: true, events: [cancelled], secret: \
         whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz }}\n"
    )
}

struct Trial {
    app: App,
    _simulator: Simulator,
    _directory: tempfile::TempDir,
}

impl Trial {
    fn start() -> Self {
        let (simulator, directory) = (simulator(), tempfile::tempdir().unwrap());
        let mut app = App::start(&policy(&simulator, &directory.path().join("state")));
        // tasks are cancelled in the middle of their calls
        app.unfinished = true;
        Self { app, _simulator: simulator, _directory: directory }
    }

    /// A call of an agent's own, to be answered later; more headers may say how.
    async fn ask(&self, agent: &str, text: &str, more: &str) -> Answer {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] });
        let lines = format!("content-type: application/json\r\nx-agent-id: {agent}\r\n{more}");
        ask(self.app.addr, &request("POST", "/v1/chat/completions", &lines, &body.to_string()))
            .await
    }

    /// The id of a task that was taken on.
    async fn submit(&self, agent: &str, text: &str, more: &str) -> String {
        let answer = self.ask(agent, text, &format!("{PREFER}{more}")).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.head.get("x-tidegate-task").expect("its id").to_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let (file, admin) = (self.app.policy_file(), self.app.admin.to_string());
        let mut command = tidegate(args);
        command.arg("--config").arg(file).args(["--admin", &admin]);
        command
    }

    /// Stdout of a command that ends with this.
    fn said(&self, code: i32, args: &[&str]) -> String {
        ended(&self.command(args).output().expect("it runs"), code)
    }

    fn json(&self, code: i32, args: &[&str]) -> Value {
        serde_json::from_str(&self.said(code, &[args, &["--json"]].concat())).expect("JSON")
    }

    async fn is(&self, id: &str, state: &str) {
        let is = async || self.json(0, &["show", id])["state"] == state;
        until(&format!("{id} is {state}"), is).await;
    }

    fn count(&self, name: &str, labels: &[&str]) -> usize {
        self.app.count(name, labels)
    }
}

fn tidegate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.arg("tasks").args(args).stdin(Stdio::null());
    command
}

fn ended(out: &Output, code: i32) -> String {
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!((out.status.code(), stderr.as_str()), (Some(code), ""), "{stdout}");
    stdout
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lists_shows_cancels_and_waits() {
    let trial = Trial::start();
    let slow = "x-simulate: ttft=1m\r\nx-tidegate-webhook: ops\r\n";
    let running = trial.submit("writer", "slow", slow).await;
    trial.is(&running, "running").await;
    let waiting = trial.submit("reader", "fast", "").await;

    let list = trial.json(0, &["list"]);
    let ids: Vec<_> = list["tasks"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [&json!(waiting), &json!(running)], "newest first");
    let table = trial.said(0, &["list"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(rows[1][..4], [&*waiting, "queued", "#1", "reader"], "{table}");
    assert_eq!(rows[2][..4], [&*running, "running", "writer", "m"], "{table}");
    let table = trial.said(0, &["list", "--limit", "1"]);
    assert!(table.ends_with(&format!("older ones: --after {waiting}\n")), "{table}");
    let older = trial.said(0, &["list", "--after", &waiting]);
    assert!(older.contains(&running) && !older.contains(&waiting), "{older}");
    assert!(trial.said(0, &["list", "--state", "running"]).contains(&running));
    assert_eq!(trial.said(0, &["list", "--state", "failed"]), "no tasks\n");
    assert_eq!(trial.count("tidegate_tasks", &["state=\"running\""]), 1);
    assert_eq!(trial.count("tidegate_tasks", &["state=\"queued\""]), 1);
    assert!(trial.app.metric("tidegate_task_oldest_queued_seconds", &[]) > 0.0);

    // who waits is told when it is over, whoever ended it
    let waits = trial.command(&["wait", &running]);
    let waits = piped(waits);
    // it may have stopped before it is told of
    let said = trial.said(0, &["cancel", &running]);
    assert!(said.starts_with(&format!("{running}: cancel")), "{said}");
    let end = tokio::task::spawn_blocking(|| waits.wait_with_output().unwrap()).await.unwrap();
    assert!(ended(&end, 1).contains("state      cancelled\n"));
    let shown = trial.said(0, &["wait", &waiting]);
    assert!(shown.contains("state      succeeded\n") && shown.contains("agent      reader\n"));
    assert_eq!(trial.json(0, &["wait", &waiting])["status"], 200);
    assert_eq!(trial.said(0, &["cancel", &waiting]), format!("{waiting}: succeeded\n"));
    until("the receiver has said no", async || {
        trial.count("tidegate_webhooks_failed_total", &[]) == 1
    })
    .await;
    assert_eq!(trial.count("tidegate_webhooks_waiting", &[]), 1);
    assert_eq!(trial.count("tidegate_webhooks_sent_total", &[]), 0);
    let state = trial.app.state();
    assert_eq!(
        (&state["webhooks"]["waiting"], &state["webhooks"]["failed"]),
        (&json!(1), &json!(1))
    );
}

fn piped(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn log_metrics_and_state_agree_on_what_became_of_tasks() {
    let trial = Trial::start();
    let good = trial.submit("a", "one", "idempotency-key: k\r\n").await;
    assert_eq!(trial.submit("a", "one", "idempotency-key: k\r\n").await, good, "the same");
    trial.said(0, &["wait", &good]);
    let bad = trial.submit("a", "two", "x-simulate: fault=400\r\n").await;
    let shown = trial.json(1, &["wait", &bad]);
    assert_eq!((&shown["state"], &shown["status"]), (&json!("failed"), &json!(400)), "{shown}");
    let tried = trial.submit("b", "three", "x-simulate: fault=503\r\n").await;
    until("it is to be tried again", async || {
        trial.json(0, &["show", &tried])["state"] == "retry_wait"
    })
    .await;
    trial.said(0, &["cancel", &tried]);
    // a key that is used for something else, and more tasks than one agent may have
    let (other, slow) = ("idempotency-key: k\r\n", "x-simulate: ttft=1m\r\n");
    assert_eq!(trial.ask("a", "other", &format!("{PREFER}{other}")).await.status, 422);
    let held = [trial.submit("c", "1", slow).await, trial.submit("c", "2", slow).await];
    assert_eq!(trial.ask("c", "3", &format!("{PREFER}{slow}")).await.status, 429);

    let state = trial.app.state()["tasks"].clone();
    assert_eq!(state["submitted"], 5, "{state}");
    assert_eq!(state["ended"], json!({ "succeeded": 1, "failed": 1, "cancelled": 1 }), "{state}");
    assert_eq!(state["refused"], json!({ "mismatch": 1, "quota": 1 }), "{state}");
    assert_eq!(state["retries"], json!({ "failed": 1 }), "{state}");
    assert_eq!(trial.count("tidegate_tasks_submitted_total", &[]), 5);
    for (family, label, count) in [
        ("ended", "state=\"succeeded\"", 1),
        ("ended", "state=\"failed\"", 1),
        ("refused", "reason=\"quota\"", 1),
        ("refused", "reason=\"mismatch\"", 1),
        ("refused", "reason=\"no_space\"", 0),
    ] {
        let name = format!("tidegate_tasks_{family}_total");
        assert_eq!(trial.count(&name, &[label]), count, "{family} {label}");
    }
    assert_eq!(trial.count("tidegate_task_retries_total", &["reason=\"failed\""]), 1);
    assert_eq!(trial.count("tidegate_task_submit_seconds_count", &[]), 5);
    let kept = trial.app.metric("tidegate_task_kept_bytes", &["kind=\"results\""]);
    assert_eq!(state["result_bytes"].as_f64(), Some(kept));
    assert!(kept > 0.0 && trial.app.metric("tidegate_task_kept_bytes", &["requests"]) > 0.0);

    trial.is(&held[0], "running").await;
    for id in held.iter().rev() {
        trial.said(0, &["cancel", id]);
    }
    until("nothing runs", async || trial.count("tidegate_tasks", &["state=\"cancelled\""]) == 3)
        .await;
    assert_eq!(trial.count("tidegate_task_queue_wait_seconds_count", &[]), 4, "one never ran");
    // a submission and the call say which task they are of
    let lines = trial.app.lines(12).await;
    let of = |id: &str| lines.iter().filter(|line| line["task"] == id).collect::<Vec<_>>();
    let (asked, made): (Vec<_>, Vec<_>) =
        of(&good).into_iter().partition(|it| it["peer"] != "task");
    assert_eq!((asked.len(), made.len()), (2, 1), "{lines:#?}");
    assert!(asked.iter().all(|line| line["attempts"] == 0), "{asked:?}");
    assert_eq!((&made[0]["status"], &made[0]["agent"]), (&json!(200), &json!("a")));
    assert_eq!(of(&bad).iter().filter(|line| line["status"] == 400).count(), 1);
    assert!(lines.iter().any(|line| line["task"].is_null()), "others say of none");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_can_be_taken_up_again_are_counted() {
    let trial = Trial::start();
    let body = json!({ "model": "m", "stream": true, "messages": [] }).to_string();
    let lines =
        "content-type: application/json\r\nx-tidegate-resume: 30s\r\nx-simulate: tokens=3\r\n";
    let mut client = Client::connect(trial.app.addr).await;
    client.send(&request("POST", "/v1/chat/completions", lines, &body)).await;
    let answer = client.answer().await;
    let url = answer.head.get("x-tidegate-resume-url").expect("where").to_owned();
    assert_eq!(trial.count("tidegate_streams_kept", &[]), 1);
    assert_eq!(trial.count("tidegate_streams_resumed_total", &[]), 0);
    for offset in [0, 5] {
        let again = ask(trial.app.addr, &get(&format!("{url}?offset={offset}"), "")).await;
        assert_eq!(again.body, answer.body[offset..]);
    }
    assert_eq!(trial.count("tidegate_streams_resumed_total", &[]), 2);
    assert_eq!(trial.app.state()["streams"], json!({ "kept": 1, "resumed": 2 }));
    let gone = ask(trial.app.addr, &request("DELETE", &url, "", "")).await;
    assert_eq!((gone.status, trial.count("tidegate_streams_kept", &[])), (204, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said() {
    let trial = Trial::start();
    let id = trial.submit("a", "one", "x-simulate: ttft=1m\r\n").await;
    let unknown = "task_00000000000000000000000000";
    let refused = |mut command: Command| {
        let out = command.output().expect("it runs");
        assert!(out.stdout.is_empty(), "{}", text(&out.stdout));
        (out.status.code().expect("a code"), text(&out.stderr))
    };
    for verb in ["show", "cancel", "wait"] {
        let (code, why) = refused(trial.command(&[verb, unknown]));
        assert!(code == 2 && why.contains("there is no such task"), "{verb}: {code} {why}");
        let (code, why) = refused(trial.command(&[verb, "one"]));
        assert!(code == 2 && why.contains("task_ and 26 characters"), "{verb}: {code} {why}");
    }
    let (code, why) = refused(trial.command(&["list", "--state", "done"]));
    assert!(code == 2 && why.contains("queued, running"), "{code} {why}");
    let admin = trial.app.admin.to_string();
    for verb in [&["list"][..], &["show", &id], &["cancel", &id], &["wait", &id]] {
        let (code, why) = refused(tidegate(&[verb, &["--admin", &admin]].concat()));
        assert!(code == 3 && why.contains("--config"), "without its token: {code} {why}");
        let (code, why) = refused(tidegate(&[verb, &["--admin", "127.0.0.1:1"]].concat()));
        assert!(code == 3 && why.contains("nobody answers"), "{code} {why}");
    }
    trial.is(&id, "running").await;
    let simulator = simulator();
    let bare = App::start(&format!(
        "upstreams: {{ up: {{ url: 'http://{}' }} }}\nroutes: [{{ to: up }}]\n",
        simulator.addr
    ));
    let admin = bare.admin.to_string();
    let (code, why) = refused(tidegate(&["list", "--admin", &admin]));
    assert!(code == 3 && why.contains("no Tidegate that tells about tasks"), "{code} {why}");
    let state = bare.state();
    assert!(state["tasks"].is_null() && state["webhooks"].is_null(), "{state}");
    assert_eq!(state["streams"]["kept"], 0);
}
