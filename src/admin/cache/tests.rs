//! `/cache` over real connections.
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::admin::tests::ask;
use crate::admin::{self, AdminHandle, Doors, Listener, Readiness};
use crate::cache::{Author, Cache, Entry, Key};
use crate::config;
use crate::store::Store;
use crate::telemetry::view::CacheView;
use crate::wire::{Form, Kind};

struct Admin {
    _handle: AdminHandle,
    addr: SocketAddr,
    cache: Arc<Cache>,
    token: Option<String>,
    _directory: tempfile::TempDir,
}

impl Admin {
    fn start(with_store: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = with_store.then(|| Arc::new(Store::open(directory.path()).unwrap()));
        let kept = store.as_ref().map(|store| store.new_token().unwrap());
        let token = kept.as_ref().map(|token| token.expose().to_owned());
        // without a token, what may be done at all
        let actions = kept.is_none();
        let guard = Guard { tokens: kept.into_iter().collect(), actions, ..Guard::default() };
        let cache = Arc::new(Cache::new([7; 32], None));
        let rule = config::Cache::default();
        cache.spaces.apply(&[("one".into(), &rule), ("two".into(), &rule)]);
        let door = CacheDoor {
            view: Box::new(|| CacheView { in_flight: 3, ..CacheView::default() }),
            cache: Arc::clone(&cache),
        };
        let doors = Doors {
            metrics: Arc::default(),
            ready: Box::new(|| Readiness { ready: true, why: Vec::new() }),
            live: Box::new(|| true),
            state: Box::new(|| Box::pin(async { Value::Null })),
            cache: Some(door),
            keys: None,
            guard,
            tasks: None,
            page: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let handle = admin::spawn(vec![Listener::Tcp(listener)], doors).unwrap();
        Self { _handle: handle, addr, cache, token, _directory: directory }
    }

    /// One entry for each of two agents under each of two policies.
    fn fill(&self) {
        for (at, (policy, agent)) in
            [("one", "a b"), ("one", "other"), ("two", "a b"), ("two", "other")]
                .into_iter()
                .enumerate()
        {
            let key = Key([at as u8 + 0xa0; 32]);
            self.cache.spaces.space(policy).unwrap().put(key, Arc::new(entry(agent)));
        }
    }

    fn entries(&self) -> u64 {
        self.cache.spaces.figures().iter().map(|(_, figures)| figures.memory.entries).sum()
    }

    fn ask(&self, line: &str, headers: &str, body: &str) -> (u16, Value) {
        let (status, _, body) = ask(self.addr, line, headers, body);
        (status, body)
    }
}

fn entry(agent: &str) -> Entry {
    Entry {
        kind: Kind::Chat,
        form: Form::Json,
        stream: false,
        content_type: None,
        body: Bytes::from_static(b"{}"),
        frames: Box::default(),
        stored: SystemTime::now() - Duration::from_mins(5),
        ttl: Duration::from_hours(1),
        usage: None,
        cost_nano: None,
        author: Author {
            agent: agent.into(),
            model: "gpt-4o".into(),
            route: "r".into(),
            upstream: "u".into(),
            credential: 0,
        },
    }
}

#[test]
fn a_purge_takes_what_is_said_and_no_more() {
    let admin = Admin::start(false);
    let key = "a3".repeat(32);
    for (query, body, taken) in [
        ("", r#"{"all":true}"#, 4),
        ("?all=true", "", 4),
        ("?agent=a+b", "", 2),
        ("?agent=a%20b&policy=o%6Ee", "", 1),
        ("", r#"{"agent":"a*","policy":"t?o"}"#, 1),
        ("", r#"{"model":"gpt-*","older_than":"4m"}"#, 4),
        ("", r#"{"older_than":"6m"}"#, 0),
        ("", r#"{"route":"s"}"#, 0),
        ("?prefix=A3a3", "", 1),
        (&*format!("?prefix={key}"), "", 1),
    ] {
        admin.fill();
        let (status, said) = admin.ask(&format!("POST /cache/purge{query}"), "", body);
        assert_eq!((status, &said["memory"]), (200, &json!(taken)), "{query} {body}: {said}");
        assert_eq!(said["disk"], 0, "there is none");
        assert_eq!(admin.entries(), 4 - taken, "{query} {body}");
    }
}

#[test]
fn what_is_not_understood_takes_out_nothing() {
    let admin = Admin::start(false);
    admin.fill();
    for (query, body, why) in [
        ("", "", "\"all\": true means all"),
        ("", "{}", "\"all\": true means all"),
        ("", r#"{"all":false}"#, "\"all\": true means all"),
        ("", r#"{"all":true,"agent":"a"}"#, "either all or"),
        ("", r#"{"agnet":"a"}"#, "agnet"),
        ("?all=yes", "", "boolean"),
        ("?agent=a&agent=b", "", "query"),
        ("?agent", "", "query"),
        ("?agent=%f", "", "query"),
        ("?all=true", r#"{"all":true}"#, "not both"),
        ("?agent=", "", "empty"),
        ("?prefix=xyz", "", "hexadecimal"),
        ("?older_than=5", "", "older_than: expected a duration"),
        ("", "all", "expected"),
        ("", r#"["all"]"#, "invalid"),
    ] {
        let (status, said) = admin.ask(&format!("POST /cache/purge{query}"), "", body);
        let message = said["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{query} {body}: {said}");
        assert!(message.contains(why), "{query} {body}: {message}");
    }
    assert_eq!(admin.ask("POST /cache/purge", "", &" ".repeat(70_000)).0, 400);
    assert_eq!(admin.entries(), 4);
}

#[test]
fn figures_are_for_everybody_and_a_purge_for_who_proves_it() {
    let admin = Admin::start(true);
    admin.fill();
    let (status, said) = admin.ask("GET /cache", "", "");
    assert_eq!((status, &said["in_flight"]), (200, &json!(3)));
    let proof = format!("authorization: Bearer {}\r\n", admin.token.as_ref().unwrap());
    for headers in ["", "authorization: Bearer x\r\n", &format!("{proof}{proof}")] {
        for path in ["purge?all=true", "feedback?entry=aaaaaaaa&wrong=true"] {
            let (status, said) = admin.ask(&format!("POST /cache/{path}"), headers, "");
            assert_eq!((status, &said["error"]["code"]), (401, &json!("unauthorized")));
        }
    }
    assert_eq!(admin.entries(), 4);
    assert_eq!(admin.ask("POST /cache/purge?all=true", &proof, "").0, 200);
    assert_eq!(admin.entries(), 0);
    // without a store whoever is here may, but no page of a browser
    let admin = Admin::start(false);
    admin.fill();
    let page = "origin: http://evil.example\r\ncontent-type: text/plain\r\n";
    assert_eq!(admin.ask("POST /cache/purge", page, r#"{"all":true}"#).0, 403);
    assert_eq!(admin.entries(), 4);
}

#[test]
fn each_path_has_its_methods() {
    let admin = Admin::start(false);
    for (line, status) in [
        ("HEAD /cache", 200),
        ("POST /cache", 405),
        ("DELETE /cache", 405),
        ("GET /cache/purge", 405),
        ("GET /cache/feedback", 405),
        ("POST /cache/", 404),
        ("POST /cache/other", 404),
    ] {
        assert_eq!(admin.ask(line, "", "").0, status, "{line}");
    }
}

#[test]
fn feedback_names_an_entry_by_enough_of_its_key() {
    let admin = Admin::start(false);
    let say = |body: &str| admin.ask("POST /cache/feedback", "", body);
    let (status, said) = say(r#"{"entry":"00c0ffee","wrong":true}"#);
    assert_eq!((status, &said["entries"]), (200, &json!(0)), "there is none");
    for wrong in [
        r#"{"entry":"00c0ffee","wrong":false}"#,
        r#"{"entry":"00c0ffe","wrong":true}"#,
        r#"{"entry":"00c0ffeg","wrong":true}"#,
        r#"{"entry":"00c0ffee"}"#,
        r#"{"wrong":true}"#,
        "",
    ] {
        assert_eq!(say(wrong).0, 400, "{wrong}");
    }
    let long = json!({ "entry": "0".repeat(65), "wrong": true }).to_string();
    assert_eq!(say(&long).0, 400);
}
