//! The admin door from outside: raw HTTP over sockets.
#![allow(clippy::expect_used, reason = "helpers of tests, not only tests themselves")]
mod agents;
mod figures;
mod files;
mod secure;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::admin::{self, AdminHandle, Doors, Guard, Listener, Readiness};
use tidegate::telemetry::metrics::{Finished, Held, Kept, Metrics, Outcome, Who};

struct Admin {
    handle: AdminHandle,
    addr: SocketAddr,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    live: Arc<AtomicBool>,
    /// Lets `/state` answer.
    open: tokio::sync::watch::Sender<bool>,
}

fn start() -> Admin {
    start_on(vec![])
}

fn start_on(mut more: Vec<Listener>) -> Admin {
    let (metrics, ready) = (Arc::new(Metrics::new()), Arc::new(AtomicBool::new(true)));
    let live = Arc::new(AtomicBool::new(true));
    let (open, is_open) = tokio::sync::watch::channel(true);
    let (is_ready, is_live) = (Arc::clone(&ready), Arc::clone(&live));
    let doors = Doors {
        metrics: Arc::clone(&metrics),
        ready: Box::new(move || {
            let ready = is_ready.load(Ordering::Relaxed);
            let why = if ready { "the last reload failed: line 3" } else { "draining" };
            Readiness { ready, why: vec![why.to_owned()] }
        }),
        live: Box::new(move || is_live.load(Ordering::Relaxed)),
        state: Box::new(move || {
            let mut is_open = is_open.clone();
            Box::pin(async move {
                let _ = is_open.wait_for(|open| *open).await;
                json!({"in_flight": 3})
            })
        }),
        cache: None,
        keys: None,
        tasks: None,
        guard: Guard::default(),
        page: None,
    };
    more.push(Listener::Tcp(TcpListener::bind("127.0.0.1:0").expect("a port")));
    let handle = admin::spawn(more, doors).expect("admin");
    let addr = handle.addrs()[0];
    Admin { handle, addr, metrics, ready, live, open }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(mut from: impl Read) -> Self {
        let mut text = String::new();
        from.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head[9..12].parse().expect("a status");
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

impl Admin {
    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        stream.write_all(request.as_bytes()).expect("write");
        stream
    }

    fn ask(&self, method: &str, target: &str) -> Answer {
        let host = self.addr;
        let request =
            format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        Answer::read(self.send(&request))
    }

    fn get(&self, target: &str) -> Answer {
        self.ask("GET", target)
    }
}

#[test]
fn health_follows_the_doors() {
    let admin = start();
    for path in ["/livez", "/healthz"] {
        let answer = admin.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{path}");
        assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
    // A failed reload is said while new calls are still welcome.
    let answer = admin.get("/readyz");
    let body = "ready\n- the last reload failed: line 3\n";
    assert_eq!((answer.status, answer.body.as_str()), (200, body));
    admin.ready.store(false, Ordering::Relaxed);
    let answer = admin.get("/readyz");
    assert_eq!((answer.status, answer.body.as_str()), (503, "not ready\n- draining\n"));
    let answer = admin.get("/readyz?verbose");
    let body = json!({"ready": false, "live": true, "why": ["draining"]});
    assert_eq!((answer.status, answer.json()), (503, body));
    assert_eq!(admin.get("/livez").status, 200, "a drain is no reason to be killed");
    admin.live.store(false, Ordering::Relaxed);
    assert_eq!(admin.get("/livez").status, 503);
}

#[test]
fn metrics_are_open_metrics() {
    let admin = start();
    let target = admin.metrics.target("chat", "openai", "openai");
    target.started();
    target.finished(&Finished {
        status: 200,
        outcome: Outcome::Complete,
        model: "m",
        operation: "chat",
        inference: true,
        duration: Duration::from_millis(5),
        first_byte: None,
        first_token: None,
        overhead: Duration::from_micros(20),
        queued: Duration::ZERO,
        request_bytes: 1,
        response_bytes: 2,
        usage: None,
        stream: false,
        content_events: 0,
        error: None,
        who: Who::default(),
        held: Held::default(),
        kept: Kept::default(),
        seen: None,
    });
    let answer = admin.get("/metrics");
    assert_eq!(answer.status, 200);
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(answer.head.contains(kind), "{}", answer.head);
    let line = "tidegate_requests_total{route=\"chat\",upstream=\"openai\",code=\"200\",outcome=\"complete\"} 1\n";
    assert!(answer.body.contains(line), "{}", answer.body);
    assert!(answer.body.ends_with("# EOF\n"));
}

#[test]
fn heads_without_bodies() {
    let admin = start();
    let (get, head) = (admin.get("/state"), admin.ask("HEAD", "/state"));
    assert_eq!(get.json(), json!({"in_flight": 3}));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains(&format!("content-length: {}", get.body.len())), "{}", head.head);
}

#[test]
fn nothing_but_safe_methods_on_known_paths() {
    let admin = start();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        let answer = admin.ask(method, "/state");
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
        assert_eq!(answer.json()["error"]["code"], "method_not_allowed");
    }
    for path in ["/page/none.js", "/metrics/", "/livez/x", "//livez", "/dashboard"] {
        let answer = admin.get(path);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("not_found")));
    }
}

#[test]
fn a_foreign_host_is_refused() {
    let admin = start();
    for (request, status) in [
        ("GET /state HTTP/1.1\r\nhost: evil.example\r\n", 403),
        ("GET /state HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n", 403),
        ("GET http://evil.example/state HTTP/1.1\r\nhost: localhost\r\n", 403),
        ("GET /state HTTP/1.1\r\nhost: \u{e9}\r\n", 403),
        ("GET /state HTTP/1.1\r\nhost: localhost:8081\r\n", 200),
        ("GET /state HTTP/1.1\r\nhost: [::1]:8081\r\n", 200),
        ("GET /state HTTP/1.1\r\nhost: LocalHost.:8081\r\n", 200),
        ("GET /state HTTP/1.0\r\n", 200),
    ] {
        let answer = Answer::read(admin.send(&format!("{request}connection: close\r\n\r\n")));
        assert_eq!(answer.status, status, "{request}");
    }
}

#[test]
fn a_unix_socket_needs_no_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("admin.sock");
    let _admin = start_on(vec![Listener::Unix(UnixListener::bind(&path).expect("a socket"))]);
    let mut stream = UnixStream::connect(&path).expect("connect");
    let request = b"GET /livez HTTP/1.1\r\nhost: any.name\r\nconnection: close\r\n\r\n";
    stream.write_all(request).expect("write");
    assert_eq!(Answer::read(stream).status, 200);
}

#[test]
fn too_many_at_once_are_shed_and_health_comes_back() {
    let admin = start();
    admin.open.send_replace(false);
    let request = "GET /state HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let waiting: Vec<TcpStream> = (0..64).map(|_| admin.send(request)).collect();
    // The 64 are taken in their own time.
    let deadline = Instant::now() + Duration::from_secs(10);
    let shed = loop {
        let answer = admin.get("/livez");
        if answer.status == 503 || Instant::now() > deadline {
            break answer;
        }
    };
    assert_eq!((shed.status, &shed.json()["error"]["code"]), (503, &json!("busy")));
    admin.open.send_replace(true);
    for stream in waiting {
        assert_eq!(Answer::read(stream).json(), json!({"in_flight": 3}));
    }
    assert_eq!(admin.get("/livez").status, 200);
}

#[test]
fn workers_that_do_not_answer_give_a_timeout() {
    let admin = start();
    admin.open.send_replace(false);
    assert_eq!(admin.get("/state").status, 504);
}

#[test]
fn stopping_frees_the_port() {
    let admin = start();
    let idle = TcpStream::connect(admin.addr).expect("connect");
    assert_eq!(admin.get("/livez").status, 200);
    admin.handle.stop();
    assert!(TcpStream::connect(admin.addr).is_err());
    drop(idle);
}
