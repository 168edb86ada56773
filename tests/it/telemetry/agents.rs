//! `tidegate agents` as scripts see it, against an admin listener of this process.
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tidegate::identity::Rung;
use tidegate::telemetry::metrics::{Kept, Usage};
use tidegate::telemetry::view::{AgentView, AgentsView, LimitView, QueueView};

use super::*;

fn tidegate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.arg("agents").args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    tidegate(args).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An instance where the researcher has made two calls, one of them refused.
fn state() -> Value {
    let metrics = Metrics::new();
    let call = Finished {
        status: 200,
        outcome: Outcome::Complete,
        model: "m",
        operation: "chat",
        inference: true,
        duration: Duration::from_millis(5),
        first_byte: None,
        first_token: None,
        overhead: Duration::from_micros(20),
        queued: Duration::from_millis(40),
        request_bytes: 1,
        response_bytes: 2,
        usage: Some(Usage { input: 1200, output: 34, ..Usage::default() }),
        stream: false,
        content_events: 0,
        error: None,
        who: Who { agent: "researcher", team: "growth", rung: Some(Rung::Key), ..Who::default() },
        held: Held { spend_nano: Some(1_500_000_000), priced: true, ..Held::default() },
        kept: Kept::default(),
        seen: None,
    };
    let refused = Outcome::Refused;
    metrics.finished(&call);
    metrics.finished(&Finished { status: 429, outcome: refused, usage: None, ..call });
    let limit = LimitView {
        policy: "everyone".to_owned(),
        measure: "requests".to_owned(),
        used: 2,
        limit: 600,
        resets_in_ms: Some(200),
        ..LimitView::default()
    };
    let view = AgentsView {
        agents: metrics
            .agents()
            .iter()
            .map(|one| AgentView { limits: vec![limit.clone()], ..AgentView::of(one) })
            .collect(),
        queues: vec![QueueView { upstream: "openai".to_owned(), depth: 1, ..Default::default() }],
        ..AgentsView::default()
    };
    let mut state = serde_json::to_value(view).expect("JSON");
    state["stage"] = "serving".into();
    state
}

fn instance(listener: Listener, state: Value) -> AdminHandle {
    let doors = Doors {
        metrics: Arc::new(Metrics::new()),
        ready: Box::new(|| Readiness { ready: true, why: Vec::new() }),
        live: Box::new(|| true),
        state: Box::new(move || {
            let state = state.clone();
            Box::pin(async move { state })
        }),
        tasks: None,
        guard: Guard::default(),
        page: None,
        cache: None,
        keys: None,
    };
    admin::spawn(vec![listener], doors).expect("admin")
}

fn on_tcp(state: Value) -> (AdminHandle, String) {
    let listener = Listener::Tcp(TcpListener::bind("127.0.0.1:0").expect("a port"));
    let handle = instance(listener, state);
    let at = handle.addrs()[0].to_string();
    (handle, at)
}

#[test]
fn one_table_is_printed_over_tcp_and_over_a_unix_socket() {
    let (_tcp, at) = on_tcp(state());
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("admin.sock");
    let _unix = instance(Listener::Unix(UnixListener::bind(&path).expect("a socket")), state());
    for at in [at, format!("unix:{}", path.display())] {
        let out = run(&["--once", "--admin", &at]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let said = text(&out.stdout);
        let row: Vec<_> = said.lines().last().expect("a row").split_whitespace().collect();
        let want = "researcher growth default 0 0 2 1.2k 34 – $3.00 $0.00 40ms 40ms 1 requests 2/600 200ms";
        assert_eq!(row.join(" "), want, "{said}");
        assert!(said.contains("openai: 1 wait") && !said.contains('\x1b'), "{said}");
    }
}

#[test]
fn the_policy_says_where_to_ask() {
    let (_handle, at) = on_tcp(state());
    let dir = tempfile::tempdir().expect("a directory");
    let policy = |text: &str| {
        let file = dir.path().join("p.yaml");
        std::fs::write(&file, text).expect("written");
        run(&["--once", "--json", "-c", &file.display().to_string()])
    };
    let out = policy(&format!("admin: '{at}'\n"));
    let said: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(text(&out.stdout).lines().count(), 1);
    assert_eq!(said["agents"][0]["spend_nano"].as_u64(), Some(3_000_000_000));
    assert_eq!(said["agents"][0]["rung"], "key");
    assert_eq!((&said["queues"][0]["depth"], &said["stage"]), (&json!(1), &Value::Null));
    let out = policy("admin: 'off'\n");
    assert_eq!(out.status.code(), Some(3));
    assert!(text(&out.stderr).contains("the admin listener is off"), "{}", text(&out.stderr));
    assert_eq!(policy("admn: 'off'\n").status.code(), Some(1));
}

#[test]
fn who_does_not_answer_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it");
    let said = |at: &str| {
        let out = run(&["--admin", at]);
        assert_eq!(out.status.code(), Some(3), "{at}");
        assert!(out.stdout.is_empty());
        text(&out.stderr)
    };
    let at = free.to_string();
    let nobody = said(&at);
    assert!(nobody.starts_with(&format!("tidegate agents: nobody answers at http://{at}: ")));
    assert!(nobody.contains("--admin"), "{nobody}");
    let missing = Path::new("/nonexistent/admin.sock").display().to_string();
    assert!(said(&format!("unix:{missing}")).contains(&missing));
    let (_old, at) = on_tcp(json!({"stage": "serving"}));
    assert!(said(&at).contains("does not tell about agents"));
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = stranger.local_addr().expect("it").to_string();
    let banner = std::thread::spawn(move || {
        let (mut stream, _) = stranger.accept().expect("a connection");
        stream.write_all(b"220 mail.example ESMTP\r\n").expect("written");
    });
    assert!(said(&at).contains("no admin listener of Tidegate"));
    banner.join().expect("it ends");
}

#[test]
fn tables_follow_each_other_until_the_reader_leaves() {
    let (handle, at) = on_tcp(state());
    let mut child = tidegate(&["--interval", "100ms", "--admin", &at]).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = |with: &str| {
        lines.by_ref().map_while(Result::ok).find(|line| line.contains(with)).is_some()
    };
    assert!(next("researcher") && next("researcher"));
    // the instance goes: that is said, and no end
    handle.stop();
    assert!(next("nobody answers") && next("nobody answers"));
    drop(lines);
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
}
