//! `tidegate doctor`, as a person runs it: with backends that are well, gone, silent, late, and not
//! who they say.
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::net::certs::{Authority, Pair};
use crate::support::app::App;
use crate::support::origin::Origin;

const CANARY: &str = "canary-4d1b20";

struct Told {
    code: Option<i32>,
    json: Value,
}

impl Told {
    /// The verdicts of one check, in order.
    fn verdicts(&self, check: &str) -> Vec<&str> {
        self.of(check).iter().map(|one| one["verdict"].as_str().unwrap()).collect()
    }

    fn of(&self, check: &str) -> Vec<&Value> {
        let all = self.json["findings"].as_array().unwrap();
        all.iter().filter(|one| one["check"] == check).collect()
    }

    /// What is said of a check, advice included.
    fn said(&self, check: &str) -> String {
        self.of(check).iter().map(ToString::to_string).collect()
    }
}

async fn doctor(policy: &str, args: &[&str]) -> Told {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    fs::write(&file, policy).unwrap();
    run(&["-c", file.to_str().unwrap()], args).await
}

async fn run(policy: &[&str], args: &[&str]) -> Told {
    trusting(None, policy, args).await
}

/// `store`: stands for the machine's own certificates.
async fn trusting(store: Option<PathBuf>, policy: &[&str], args: &[&str]) -> Told {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    // a store of the machine's own without ours
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    command.envs(store.map(|store| ("SSL_CERT_FILE", store)));
    command.arg("doctor").args(policy).args(args).arg("--json").env("KEY", CANARY);
    command.stdin(Stdio::null());
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(!text.contains(CANARY) && !String::from_utf8_lossy(&out.stderr).contains(CANARY));
    Told { code: out.status.code(), json: serde_json::from_str(&text).unwrap_or_default() }
}

/// Listeners that are free, and this backend.
fn policy(upstream: &str) -> String {
    format!(
        "listen: 127.0.0.1:0\nadmin: off\nupstreams: {{ it: {{ dialect: openai, {upstream} }} }}\n"
    )
}

fn date(later: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = jiff::Timestamp::from_second(now.cast_signed() + later).unwrap();
    format!("date: {}\r\n", at.strftime("%a, %d %b %Y %H:%M:%S GMT"))
}

async fn backend(head: &str, later: i64) -> Origin {
    Origin::saying(format!("HTTP/1.1 {head}\r\n{}content-length: 0\r\n\r\n", date(later))).await
}

/// A TLS server with this certificate, for as long as the test runs; its port.
async fn tls(pair: &Pair) -> u16 {
    let identity = tidegate::io::pem::identity(&pair.cert, &pair.key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(tidegate::io::pem::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    port
}

#[tokio::test]
async fn a_backend_that_is_well_is_asked_without_a_key() {
    let origin = backend("404 Not Found", 0).await;
    let text = policy(&format!("url: '{}', key: '${{KEY}}'", origin.url()));
    let told = doctor(&text, &[]).await;
    assert_eq!(told.verdicts("upstreams"), ["ok"], "{}", told.json);
    assert_eq!(told.verdicts("clock"), ["ok"]);
    assert_eq!(told.verdicts("ports"), ["ok"]);
    assert_ne!(told.code, Some(2));
    let [asked] = &origin.take()[..] else { panic!("asked once") };
    assert_eq!((&*asked.method, &*asked.target), ("HEAD", "/"));
    assert!(asked.headers.iter().all(|(_, value)| !value.contains(CANARY)), "{asked:?}");
}

#[tokio::test]
async fn keys_are_tried_only_when_told_to_and_never_shown() {
    for (head, want, code) in [("200 OK", "ok", None), ("401 Unauthorized", "fail", Some(2))] {
        let origin = backend(head, 0).await;
        let text = policy(&format!("url: '{}', key: '${{KEY}}'", origin.url()));
        let told = doctor(&text, &["--keys"]).await;
        assert_eq!(told.verdicts("upstreams"), [want], "{}", told.json);
        assert!(code.is_none() || told.code == code);
        let [asked] = &origin.take()[..] else { panic!("asked once") };
        assert_eq!((&*asked.method, &*asked.target), ("GET", "/v1/models"));
        assert_eq!(asked.get("authorization"), Some(format!("Bearer {CANARY}").as_str()));
    }
}

#[tokio::test]
async fn an_answer_that_says_nothing_good_of_a_key_is_told() {
    for (dialect, head, want) in [
        ("gemini", "400 Bad Request", "fail"),
        ("openai", "400 Bad Request", "warn"),
        ("gemini", "429 Too Many Requests", "warn"),
        ("openai", "402 Payment Required", "warn"),
        ("openai", "302 Found", "warn"),
        ("openai", "404 Not Found", "skip"),
    ] {
        let origin = backend(head, 0).await;
        let text = policy(&format!("url: '{}', key: '${{KEY}}'", origin.url()));
        let told = doctor(&text.replace("openai", dialect), &["--keys"]).await;
        assert_eq!(told.verdicts("upstreams"), [want], "{dialect} {head}: {}", told.json);
        assert!(told.said("upstreams").contains(&head[..3]), "{}", told.json);
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_told() {
    for (later, want) in [(30, "warn"), (7200, "fail"), (-7200, "fail")] {
        let origin = backend("200 OK", later).await;
        let told = doctor(&policy(&format!("url: '{}'", origin.url())), &[]).await;
        assert_eq!(told.verdicts("clock"), [want], "{later}: {}", told.json);
    }
}

#[tokio::test]
async fn who_does_not_answer_is_told_with_a_way_out() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = Origin::start(|mut conn| async move {
        conn.request().await;
        conn.reset();
    })
    .await;
    for (url, word) in [
        (format!("http://{closed}"), "connection refused"),
        ("http://nowhere.invalid".to_owned(), "does not resolve"),
        (silent.url(), "is it an HTTP server"),
        (format!("https://{}", silent.addr), "TLS"),
    ] {
        let told = doctor(&policy(&format!("url: '{url}'")), &[]).await;
        assert_eq!((told.verdicts("upstreams"), told.code), (vec!["fail"], Some(2)), "{url}");
        assert!(told.said("upstreams").contains(word), "{url}: {}", told.json);
        assert_eq!(told.verdicts("clock"), ["skip"]);
    }
}

#[tokio::test]
async fn the_certificates_of_backends_are_judged() {
    let authority = Authority::new("ca");
    let soon = jiff::Zoned::now().date().tomorrow().unwrap().tomorrow().unwrap();
    let soon = (i32::from(soon.year()), soon.month().cast_unsigned(), soon.day().cast_unsigned());
    for (file, name, end, want, word) in [
        ("right", "localhost", (2090, 1, 1), "ok", "TLS"),
        ("ended", "localhost", (2021, 1, 1), "fail", "has expired"),
        ("other", "elsewhere.test", (2090, 1, 1), "fail", "for another name"),
        ("soon", "localhost", soon, "warn", "renew"),
    ] {
        let port = tls(&authority.issue(file, &[name], end)).await;
        let ca = authority.ca();
        let text =
            policy(&format!("url: 'https://localhost:{port}', tls: {{ ca: '{}' }}", ca.display()));
        let told = doctor(&text, &[]).await;
        assert_eq!(told.verdicts("upstreams"), [want], "{file}: {}", told.json);
        assert!(told.said("upstreams").contains(word), "{file}: {}", told.json);
    }
    let port = tls(&authority.issue_local("private")).await;
    let told = doctor(&policy(&format!("url: 'https://localhost:{port}'")), &[]).await;
    assert!(told.said("upstreams").contains("tls.ca"), "{}", told.json);
}

#[tokio::test]
async fn our_own_certificates_are_judged() {
    let authority = Authority::new("ca");
    let good = authority.issue_local("good");
    let ended = authority.issue("ended", &["localhost"], (2021, 1, 1));
    for (cert, key, want, word) in [
        (&good.cert, &good.key, "ok", "for localhost, backend.test"),
        (&ended.cert, &ended.key, "fail", "it ended on 2021-01-01"),
        (&good.cert, &ended.key, "fail", "does not belong"),
    ] {
        let text = format!(
            "listen: {{ at: '127.0.0.1:0', tls: {{ cert: '{}', key: '{}' }} }}\nadmin: off\n\
             upstreams: {{ it: {{ builtin: simulator, dialect: openai }} }}\n",
            cert.display(),
            key.display()
        );
        let told = doctor(&text, &[]).await;
        assert_eq!(told.verdicts("certificates"), [want], "{}", told.json);
        assert!(told.said("certificates").contains(word), "{}", told.json);
    }
}

#[tokio::test]
async fn a_taken_port_is_told_with_who_has_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let text =
        format!("listen: '{at}'\nadmin: off\nupstreams: {{ it: {{ builtin: simulator }} }}\n");
    let told = doctor(&text, &[]).await;
    assert_eq!((told.verdicts("ports"), told.code), (vec!["fail"], Some(2)), "{}", told.json);
    let id = format!("process {}", std::process::id());
    assert!(told.said("ports").contains(&id), "{}", told.json);
}

#[tokio::test]
async fn an_instance_that_runs_is_no_trouble() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    let text =
        format!("state: '{}'\nupstreams: {{ it: {{ builtin: simulator }} }}\n", state.display());
    let app = App::start(&text);
    let asked = format!("listen: '{}'\nadmin: '{}'\n{text}", app.addr, app.admin);
    let told = doctor(&asked, &[]).await;
    assert_eq!(told.verdicts("ports"), ["ok", "ok"], "{}", told.json);
    assert!(told.said("state").contains("an instance has it open"), "{}", told.json);
    assert_ne!(told.code, Some(2), "{}", told.json);
}

#[tokio::test]
async fn a_wrong_policy_is_the_first_thing_that_is_told() {
    let told = doctor("rotes: []\n", &[]).await;
    assert_eq!((told.verdicts("policy"), told.code), (vec!["fail"], Some(2)));
    assert!(told.said("policy").contains("routes") && !told.verdicts("memory").is_empty());
    assert_eq!(told.verdicts("upstreams"), ["skip"]);
}

#[tokio::test]
async fn it_works_without_a_policy_and_without_a_network() {
    let begun = std::time::Instant::now();
    let told = run(&[], &["--offline"]).await;
    assert_eq!((told.verdicts("policy"), told.verdicts("upstreams")), (vec!["ok"], vec!["skip"]));
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn the_collector_is_sent_nothing_and_says_whether_it_would_take_it() {
    let at = |url: &str| {
        let header = "headers: { authorization: 'Bearer ${KEY}' }";
        let backend = "upstreams: { it: { builtin: simulator } }";
        let otlp = format!("otlp: {{ endpoint: '{url}', {header} }}");
        format!("listen: 127.0.0.1:0\nadmin: off\n{backend}\ntelemetry: {{ {otlp} }}\n")
    };
    let well = backend("200 OK", 0).await;
    let told = doctor(&at(&well.url()), &[]).await;
    assert_eq!(told.verdicts("collector"), ["ok", "ok"], "{}", told.json);
    let asked = well.take();
    let targets: Vec<_> = asked.iter().map(|one| (&*one.target, one.body.len())).collect();
    assert_eq!(targets, [("/v1/traces", 0), ("/v1/metrics", 0)]);
    assert!(asked.iter().all(|one| one.get("authorization").is_none()), "{asked:?}");

    let closed = backend("401 Unauthorized", 0).await;
    let told = doctor(&at(&closed.url()), &[]).await;
    assert_eq!(told.verdicts("collector"), ["skip", "skip"], "{}", told.json);
    closed.take();
    let told = doctor(&at(&closed.url()), &["--keys"]).await;
    assert_eq!(told.verdicts("collector"), ["warn", "warn"], "{}", told.json);
    assert_eq!(closed.take()[0].get("authorization"), Some(format!("Bearer {CANARY}").as_str()));

    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = doctor(&at(&format!("http://{gone}")), &[]).await;
    assert_eq!(told.verdicts("collector"), ["warn", "warn"], "{}", told.json);
    assert!(told.said("collector").contains("calls go on"), "{}", told.json);
}
