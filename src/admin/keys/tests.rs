//! `/keys` over real connections, with a store and without one.
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::admin::tests::ask;
use crate::admin::{self, AdminHandle, Doors, Listener, Readiness};
use crate::store::Store;

const RECORD: &str = r#"{"id":"00c0ffee","hmac":"HASH","agent":"researcher","models":["gpt-*"]}"#;

struct Admin {
    handle: AdminHandle,
    addr: SocketAddr,
    token: String,
    store: Option<Arc<Store>>,
    _directory: tempfile::TempDir,
}

impl Admin {
    fn start(with_store: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = with_store.then(|| Arc::new(Store::open(directory.path()).unwrap()));
        let token = store.as_ref().map(|store| store.new_token().unwrap());
        let expose = |token: &crate::store::Token| token.expose().to_owned();
        let said = token.as_ref().map(expose).unwrap_or_default();
        let keys = store.clone().map(|store| KeysDoor { store });
        let guard = Guard { tokens: token.into_iter().collect(), ..Guard::default() };
        let doors = Doors {
            metrics: Arc::default(),
            ready: Box::new(|| Readiness { ready: true, why: Vec::new() }),
            live: Box::new(|| true),
            state: Box::new(|| Box::pin(async { Value::Null })),
            cache: None,
            keys,
            tasks: None,
            guard,
            page: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let handle = admin::spawn(vec![Listener::Tcp(listener)], doors).unwrap();
        Self { handle, addr, token: said, store, _directory: directory }
    }

    /// Status, head and body.
    fn ask(&self, line: &str, headers: &str, body: &str) -> (u16, String, Value) {
        ask(self.addr, line, headers, body)
    }

    fn known(&self, line: &str, body: &str) -> (u16, Value) {
        let (status, _, body) =
            self.ask(line, &format!("authorization: Bearer {}\r\n", self.token), body);
        (status, body)
    }
}

fn record() -> String {
    RECORD.replace("HASH", &"5e".repeat(32))
}

#[test]
fn without_the_token_there_is_nothing_to_learn() {
    let admin = Admin::start(true);
    let token = &admin.token;
    let mut answers = Vec::new();
    for headers in [
        String::new(),
        "authorization: Bearer\r\n".to_owned(),
        "authorization: Bearer \r\n".to_owned(),
        format!("authorization: Basic {token}\r\n"),
        format!("authorization: Bearer {}\r\n", &token[1..]),
        format!("authorization: Bearer {token}x\r\n"),
        format!("authorization: Bearer x\r\nauthorization: Bearer {token}\r\n"),
        format!("x-api-key: {token}\r\n"),
    ] {
        for line in ["GET /keys", "POST /keys", "DELETE /keys/00c0ffee", "PUT /keys/a/b"] {
            let (status, head, body) = admin.ask(line, &headers, &record());
            assert_eq!(status, 401, "{line} {headers}");
            assert!(head.to_ascii_lowercase().contains("www-authenticate: bearer"), "{head}");
            answers.push(body);
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "all the same: {answers:?}");
    assert!(admin.store.unwrap().keys().list().is_empty());
    admin.handle.stop();
}

#[test]
fn keys_come_are_shown_and_go() {
    let admin = Admin::start(true);
    assert_eq!(admin.known("GET /keys", "").1, json!({"keys": []}));
    assert_eq!(admin.known("POST /keys", &record()), (201, json!({"id": "00c0ffee"})));
    let (status, again) = admin.known("POST /keys", &record());
    assert_eq!((status, &again["error"]["code"]), (409, &json!("exists")));
    let (status, listed) = admin.known("GET /keys", "");
    assert_eq!(status, 200);
    assert_eq!(listed["keys"][0]["agent"], "researcher");
    assert_eq!(listed["keys"][0]["models"], json!(["gpt-*"]));
    assert_eq!(listed["keys"][0]["revoked"], Value::Null);
    assert!(!listed.to_string().contains("5e5e"), "no hash is shown");
    let (status, gone) = admin.known("DELETE /keys/00c0ffee", "");
    assert_eq!((status, gone["revoked"].is_i64()), (200, true));
    assert!(admin.known("GET /keys", "").1["keys"][0]["revoked"].is_i64());
    for unknown in ["DELETE /keys/00000000", "DELETE /keys/", "DELETE /keys/a/b"] {
        assert_eq!(admin.known(unknown, "").0, 404, "{unknown}");
    }
    // it is on the disk
    let store = admin.store.unwrap();
    assert!(store.close(Duration::from_secs(10)));
    let (directory, before) = (store.directory().to_owned(), store.keys().list());
    assert_eq!(Store::open(&directory).unwrap().keys().list(), before);
    admin.handle.stop();
}

#[test]
fn what_is_no_record_is_refused() {
    let admin = Admin::start(true);
    let large = format!("{}{}", " ".repeat(body::LARGEST), record());
    let unknown = record().replace("agent", "agnt");
    let short = record().replace("5e5e", "5e");
    for body in ["", "{}", "[1]", &unknown, &short, &large, &record().replace("00c0ffee", "x")] {
        assert_eq!(admin.known("POST /keys", body).0, 400, "{body}");
    }
    for (line, allowed) in
        [("PUT /keys", "GET, HEAD, POST"), ("DELETE /keys", "POST"), ("GET /keys/x", "DELETE")]
    {
        let known = format!("authorization: bearer {}\r\n", admin.token);
        let (status, head, _) = admin.ask(line, &known, "");
        assert_eq!(status, 405, "{line}");
        assert!(head.contains(allowed), "{head}");
    }
    let store = admin.store.as_ref().unwrap();
    assert!(store.keys().list().is_empty());
    // nothing can be kept any more: said, and taken back
    assert!(store.close(Duration::from_secs(10)));
    let (status, refused) = admin.known("POST /keys", &record());
    assert_eq!((status, &refused["error"]["code"]), (503, &json!("not_kept")));
    assert!(store.keys().list().is_empty());
    admin.handle.stop();
}

#[test]
fn without_a_store_there_is_no_such_path() {
    let admin = Admin::start(false);
    for line in ["GET /keys", "POST /keys", "DELETE /keys/00c0ffee"] {
        assert_eq!(admin.known(line, "").0, 404, "{line}");
    }
    let (status, _, _) = admin.ask("GET /keysmith", "", "");
    assert_eq!(status, 404);
    admin.handle.stop();
}
