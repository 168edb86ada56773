//! Bodies that are no call, or an odd one: cases 31 to 42.
use std::time::Duration;

use tokio::time::sleep;

use super::super::{COUNTED, MESSAGES, SAID, UPLOAD};
use super::{CHAT, PLAIN, after, answering, ask, limited, open};
use crate::support::app::App;
use crate::support::client::{Answer, Client, post, request};
use crate::support::origin::{self, Origin, whole};
use crate::support::until;

const RESPONSES: &str = "/v1/responses";
const GENERATE: &str = "/v1beta/models/m:generateContent";
const OLLAMA: &str = "/api/chat";

/// An error of ours in the form that the SDKs of this path read.
fn shaped(path: &str, got: &Answer) {
    let body = got.json();
    let message = match path {
        OLLAMA => &body["error"],
        _ => &body["error"]["message"],
    };
    assert!(message.as_str().is_some_and(|said| said.len() > 10), "{path}: {body}");
    match path {
        MESSAGES => assert_eq!(body["type"], "error", "{body}"),
        GENERATE => assert_eq!(body["error"]["code"], got.status, "{body}"),
        _ => {}
    }
}

#[tokio::test]
async fn a31_no_model_where_one_is_needed() {
    let origin = answering().await;
    let by_model = format!(
        "upstreams: {{ up: '{}' }}\nroutes: [{{ to: up, model: 'gpt-*' }}]\n{COUNTED}",
        origin.url()
    );
    let app = App::start(&by_model);
    let mut calls = Vec::new();
    for path in [CHAT, RESPONSES, MESSAGES, OLLAMA] {
        // what is no object cannot be read; in an object without a model there is no route to find
        for (body, status) in [("", 404), ("{}", 404), ("[]", 400), (r#"{"model":7}"#, 400)] {
            let got = ask(&app, &post(path, "", body)).await;
            assert_eq!(got.status, status, "{path} {body:?}: {}", got.text());
            shaped(path, &got);
            calls.push((status, "refused"));
        }
    }
    after::unheard(&origin);
    after::over(&app, &calls).await;
}

/// Without limits it is the backend that judges; with them it must be readable. Never a panic.
#[tokio::test]
async fn a32_invalid_json() {
    let broken =
        ["{", "nonsense", "{\"model\":\"m\"", "{\"model\":\"m\",}", "\u{0}", "{}{}", "\"a"];
    for counted in [false, true] {
        let origin = answering().await;
        let app =
            if counted { limited(&origin.url(), "", "") } else { open(&origin.url(), "", "") };
        let mut calls = Vec::new();
        for path in [CHAT, RESPONSES, MESSAGES, GENERATE, OLLAMA] {
            for body in broken {
                let got = ask(&app, &post(path, "", body)).await;
                if counted {
                    assert_eq!(got.status, 400, "{path} {body:?}");
                    shaped(path, &got);
                    calls.push((400, "refused"));
                } else {
                    assert_eq!((got.status, got.text()), (200, SAID), "{path} {body:?}");
                    assert_eq!(origin.take()[0].body, body.as_bytes());
                    calls.push((200, "complete"));
                }
            }
        }
        if counted {
            after::unheard(&origin);
        }
        after::over(&app, &calls).await;
        after::let_go(&app, &origin).await;
        assert!(!app.events().contains("panic"));
    }
}

/// Depth is walked, not climbed: it costs no stack, so there is no bound on it but the body's own.
#[tokio::test]
async fn a33_deep_nesting() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    let (down, up) = ("[".repeat(100_000), "]".repeat(100_000));
    let braces = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    let bodies = [
        format!(r#"{{"model":"m","messages":{down}{up}}}"#),
        format!(r#"{{"deep":{braces},"model":"m","messages":[]}}"#),
        format!(r#"{{"model":"m","messages":[],"metadata":{braces}}}"#),
    ];
    for body in &bodies {
        let got = ask(&app, &post(CHAT, "", body)).await;
        assert_eq!(got.status, 200, "{}", got.text());
        assert!(origin.take()[0].body == body.as_bytes());
    }
    // without an end, or as the whole body, it is no call
    for body in [down.clone(), format!(r#"{{"model":"m","messages":{down}"#), braces + "}"] {
        assert_eq!(ask(&app, &post(CHAT, "", &body)).await.status, 400);
    }
    let (fine, refused) = ((200, "complete"), (400, "refused"));
    let lines = after::over(&app, &[fine, fine, fine, refused, refused, refused]).await;
    assert_eq!(lines[0]["model"], "m");
    assert_eq!(origin.requests(), 0);
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a34_members_that_stand_twice() {
    let origin = answering().await;
    for app in [open(&origin.url(), "", ""), limited(&origin.url(), "", "")] {
        let twice = [
            (CHAT, r#"{"model":"a","messages":[],"model":"b"}"#),
            (CHAT, r#"{"model":"a","model":"a","messages":[]}"#),
            (CHAT, r#"{"model":"a","mod\u0065l":"b","messages":[]}"#),
            (CHAT, r#"{"model":"a","messages":[],"stream":true,"stream":false}"#),
            (CHAT, r#"{"model":"a","messages":[],"max_tokens":1,"max_tokens":1000000}"#),
            (MESSAGES, r#"{"model":"a","messages":[],"\u006dodel":"b"}"#),
            (RESPONSES, r#"{"model":"a","input":"x","input":"y"}"#),
            (OLLAMA, r#"{"model":"a","Model":"b","messages":[]}"#),
        ];
        for (path, body) in twice {
            let got = ask(&app, &post(path, "", body)).await;
            assert_eq!(got.status, 400, "{body}: {}", got.text());
            shaped(path, &got);
        }
        after::over(&app, &[(400, "refused"); 8]).await;
    }
    after::unheard(&origin);
}

/// What nobody reads goes on as it came, in a body that is spliced as well. A model's name is read.
#[tokio::test]
async fn a35_odd_numbers_and_text() {
    let origin = answering().await;
    let bodies: [&[u8]; 6] = [
        br#"{"model":"m","messages":[],"x":1e999,"y":-0.0,"z":123456789012345678901234567890}"#,
        br#"{"model":"m","messages":[{"role":"user","content":"\ud800 \udfff\ud83d"}]}"#,
        b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe \xc3\"}]}",
        b"{\"model\":\"m\",\"user\":\"\xf0\x9f\",\"messages\":[]}",
        br#"{"model":"\ud800","messages":[]}"#,
        b"\xef\xbb\xbf{\"model\":\"m\",\"messages\":[]}",
    ];
    let call = |body: &[u8]| {
        let head = request("POST", CHAT, "content-type: application/json\r\n", "");
        let length = format!("content-length: {}", body.len());
        let head = String::from_utf8(head).unwrap().replace("content-length: 0", &length);
        [head.as_bytes(), body].concat()
    };
    let app = open(&origin.url(), "", "");
    for body in bodies {
        assert_eq!(ask(&app, &call(body)).await.status, 200, "{}", body.escape_ascii());
        assert!(origin.take()[0].body == body, "{}", body.escape_ascii());
    }
    after::over(&app, &[(200, "complete"); 6]).await;
    drop(app);

    // a limit counts this stream, so that its usage is asked for: one member is put in
    let app = limited(&origin.url(), "", "");
    let mut calls = Vec::new();
    for body in bodies {
        let text = body.escape_ascii().to_string();
        let stream = [&body[..body.len() - 1], b",\"stream\":true}"].concat();
        let got = ask(&app, &call(&stream)).await;
        if got.status == 400 {
            assert!(origin.requests() == 0, "{text}");
            calls.push((400, "refused"));
            continue;
        }
        assert_eq!(got.status, 200, "{text}: {}", got.text());
        let reached = origin.take().remove(0).body;
        assert!(splice_out(&reached) == stream, "{}", reached.escape_ascii());
        calls.push((200, "complete"));
    }
    let statuses: Vec<_> = calls.iter().map(|call| call.0).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 400, 200], "a model that is no text");
    let lines = after::over(&app, &calls).await;
    assert!(lines.iter().all(|line| line["error"].is_null() || line["error"] == "invalid_body"));
    after::let_go(&app, &origin).await;
}

/// The body without the member that was put in.
fn splice_out(body: &[u8]) -> Vec<u8> {
    let member = br#""stream_options":{"include_usage":true}"#;
    let at = memchr::memmem::find(body, member).expect("the member");
    let end = at + member.len();
    let (at, end) = if body.get(end) == Some(&b',') { (at, end + 1) } else { (at - 1, end) };
    [&body[..at], &body[end..]].concat()
}

#[tokio::test]
async fn a36_nul_in_a_prompt() {
    let origin = answering().await;
    let mut app = limited(&origin.url(), "", "");
    app.secrets.push("after-the-nul".to_owned());
    let body =
        r#"{"model":"m\u0000n","messages":[{"role":"user","content":"a\u0000after-the-nul"}]}"#;
    assert_eq!(ask(&app, &post(CHAT, "", body)).await.status, 200);
    assert_eq!(origin.take()[0].body, body.as_bytes());
    let line = after::over(&app, &[(200, "complete")]).await.remove(0);
    assert_eq!(line["model"], "m\0n", "whole, and escaped where it is written");
    assert!(line["outcome"] == "complete" && line["time"].is_string());
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a37_unknown_fields() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    let body = "{ \"future\" : {\"b\":1 ,\"a\":[ 1.50, 1E2, \"\\u00e9\\/\" ]},\r\n\t\"model\":\"m\",\
                \"messages\":[{\"role\":\"user\",\"content\":\"é\",\"unknown\":null}],\
                \"stream\" : true , \"z\":{}} \n";
    assert_eq!(ask(&app, &post(CHAT, "", body)).await.status, 200);
    let reached = origin.take().remove(0).body;
    assert!(splice_out(&reached) == body.as_bytes(), "{}", reached.escape_ascii());
    let plain = body.replace("\"stream\" : true", "\"stream\" : false");
    assert_eq!(ask(&app, &post(CHAT, "", &plain)).await.status, 200);
    assert!(origin.take()[0].body == plain.as_bytes(), "nothing is put into it");
    after::over(&app, &[(200, "complete"); 2]).await;
    after::let_go(&app, &origin).await;
}

/// A bound without sense is the backend's to judge: it is sent as it is, and bounds nothing here.
#[tokio::test]
async fn a38_bounds_without_sense() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    let odd =
        ["0", "-1", "1e12", "1000000000000", "\"5\"", "null", "1.5", "[]", "99999999999999999999"];
    for bound in odd {
        let body = format!(r#"{{"model":"m","messages":[],"max_tokens":{bound}}}"#);
        let got = ask(&app, &post(CHAT, "", &body)).await;
        assert_eq!(got.status, 200, "{bound}: {}", got.text());
        assert_eq!(origin.take()[0].body, body.as_bytes(), "{bound}");
    }
    after::over(&app, &[(200, "complete"); 9]).await;
    assert_eq!(after::charged(&app, "output_tokens"), 27, "three tokens each were made");
    after::let_go(&app, &origin).await;
}

/// A backend that answers when it is told to, and what a call holds until then.
#[tokio::test]
async fn a39_many_answers_at_once() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            sleep(Duration::from_millis(700)).await;
            conn.send(&whole("200 OK", "content-type: application/json\r\n", SAID)).await;
        }
    })
    .await;
    let hard = "policies: [{ name: all, limits: { output_tokens: 900M/day calendar hard } }]\n";
    let app = open(&origin.url(), "", hard);
    let held = || {
        let state = app.state();
        let limits = state["limits"].as_array().unwrap().clone();
        limits.iter().map(|limit| limit["held"].as_i64().unwrap()).sum::<i64>()
    };
    let mut seen = Vec::new();
    for answers in [1, 100] {
        let body = format!(r#"{{"model":"m","messages":[],"max_tokens":50,"n":{answers}}}"#);
        let mut client = Client::connect(app.addr).await;
        client.send(&post(CHAT, "", &body)).await;
        until("it holds something", async || held() > 0).await;
        seen.push(held());
        assert_eq!(after::told(client.answer().await).status, 200);
        assert_eq!(origin.take()[0].body, body.as_bytes());
        after::at_rest(&app).await;
    }
    assert_eq!(seen, [50, 5000], "each answer may be as long as the bound");
    after::over(&app, &[(200, "complete"); 2]).await;
    after::let_go(&app, &origin).await;
}

/// What a body is, is seen from its path and its bytes. The header says what somebody thinks.
#[tokio::test]
async fn a40_other_content_types() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    let types =
        ["text/plain", "application/json; charset=utf-16", "application/x-ndjson", "x", "*/*;;"];
    for name in types {
        let lines = format!("content-type: {name}\r\n");
        let got = ask(&app, &request("POST", CHAT, &lines, PLAIN)).await;
        assert_eq!(got.status, 200, "{name}");
        let reached = origin.take().remove(0);
        assert_eq!((reached.get("content-type"), &*reached.body), (Some(name), PLAIN.as_bytes()));
    }
    assert_eq!(ask(&app, &request("POST", CHAT, "", PLAIN)).await.status, 200, "and none");
    // in UTF-16 it is not the JSON that it says it is
    let wide: String = PLAIN.chars().flat_map(|letter| [letter, '\0']).collect();
    let lines = "content-type: application/json; charset=utf-16\r\n";
    let got = ask(&app, &request("POST", CHAT, lines, &wide)).await;
    assert_eq!(got.status, 400, "{}", got.text());
    let mut calls = vec![(200, "complete"); 6];
    calls.push((400, "refused"));
    after::over(&app, &calls).await;
    after::let_go(&app, &origin).await;
}

/// Nothing is decoded here, so that nothing can burst: it passes, or where it must be read it is 415.
#[tokio::test]
async fn a41_compressed_bodies() {
    let origin = answering().await;
    let bytes = "\u{1f}\u{8b}\u{8}not really";
    let codings = ["gzip", "zstd", "br", "deflate", "gzip, gzip", "GZIP"];
    let (open, limited) = (open(&origin.url(), "", ""), limited(&origin.url(), "", ""));
    for coding in codings {
        let lines = format!("content-encoding: {coding}\r\n");
        for path in [CHAT, UPLOAD] {
            let got = ask(&open, &request("POST", path, &lines, bytes)).await;
            let reached = origin.take().remove(0);
            assert_eq!((got.status, &*reached.body), (200, bytes.as_bytes()), "{coding}");
            assert_eq!(reached.get("content-encoding"), Some(coding));
        }
        let got = ask(&limited, &request("POST", CHAT, &lines, bytes)).await;
        assert_eq!(got.status, 415, "{coding}: {}", got.text());
        assert_eq!(origin.requests(), 0);
    }
    after::over(&open, &[(200, "complete"); 12]).await;
    after::over(&limited, &[(415, "refused"); 6]).await;
}

#[tokio::test]
async fn a42_multipart_is_not_collected() {
    const SIZE: usize = 48 << 20;
    let origin = Origin::start(|mut conn| async move {
        while let Some(head) = conn.head().await {
            let mut left: usize = head.get("content-length").unwrap().parse().unwrap();
            while left > 0 {
                let Some(piece) = conn.exact(left.min(16 << 10)).await else { return };
                left -= piece.len();
            }
            conn.send(&origin::whole("200 OK", "", "{}")).await;
        }
    })
    .await;
    let cached = "policies:\n  - name: kept\n    limits: { requests: 100k/day calendar }\n    \
                  cache: { ttl: 1h }\n";
    let app = open(&origin.url(), "", &format!("{cached}server: {{ max_body: 1MiB }}\n"));
    let before = app.resident();
    let part = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let length = SIZE + part.len() + "\r\n--b--\r\n".len();
    let head = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\
         content-type: multipart/form-data; boundary=b\r\n\r\n{part}"
    );
    for round in 0..2 {
        let mut client = Client::connect(app.addr).await;
        client.send(head.as_bytes()).await;
        let piece = vec![b'x'; 64 << 10];
        let mut sent = 0;
        while sent < SIZE {
            client.send(&piece).await;
            sent += piece.len();
            if sent == SIZE / 2 {
                // a bound on bodies that are read is none on those that pass
                until("half of it has passed", async || origin.bytes() > sent / 2).await;
                let grown = app.resident().saturating_sub(before);
                assert!(grown < 8 << 10, "{grown} KiB");
            }
        }
        client.send(b"\r\n--b--\r\n").await;
        let got = after::told(client.answer().await);
        assert_eq!(got.status, 200);
        assert_eq!(origin.requests(), round + 1, "each goes to the backend");
    }
    let lines = after::over(&app, &[(200, "complete"); 2]).await;
    assert_eq!(lines[0]["request_bytes"], length);
    after::let_go(&app, &origin).await;
}
