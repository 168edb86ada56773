//! Clients that take nothing, on every path of an answer and through every door.
use std::time::Duration;

use tidegate::config::{Host, Http2, UpstreamTls};
use tidegate::upstream::connect::Connector;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::{CHAT, PLAIN, STREAM, policy};
use crate::net::certs::Authority;
use crate::support::app::App;
use crate::support::client::{Client, ask, post};
use crate::support::origin::{self, Origin, chunk};
use crate::support::{PATIENCE, h2, until};

const CACHE: &str = "policies: [{ name: once, cache: { ttl: 1h } }]\n";
const SOON: &str = "server: { write_timeout: 1s, heartbeat: 200ms }\n";

/// Streams for ever, or answers with 32 MiB of JSON.
async fn abundance() -> Origin {
    Origin::start(|mut conn| async move {
        let token = chunk(&format!("data: {{\"x\":\"{}\"}}\n\n", "x".repeat(64 << 10)));
        while let Some(request) = conn.request().await {
            if request.body == PLAIN.as_bytes() {
                let body = format!("{{\"x\":\"{}\"}}", "x".repeat(32 << 20));
                let answer = origin::whole("200 OK", "content-type: application/json\r\n", &body);
                if conn.io.write_all(&answer).await.is_err() {
                    return;
                }
            } else {
                conn.send(origin::STREAM).await;
                while conn.io.write_all(&token).await.is_ok() {}
            }
        }
    })
    .await
}

/// Everything that the call held has been given back.
async fn let_go(app: &App, calls: usize) {
    until("the call is let go", async || app.count("tidegate_requests_in_flight", &[]) == 0).await;
    for line in app.lines(calls).await {
        assert_eq!(line["outcome"], "client_gone", "{line}");
    }
}

#[tokio::test]
async fn case_9_who_takes_nothing_is_cut_on_every_path() {
    let origin = abundance().await;
    for body in [STREAM, PLAIN] {
        for cached in [CACHE, ""] {
            let app = App::start(&format!("{SOON}{}{cached}", policy(&origin.url(), "")));
            let mut client = Client::connect(app.addr).await;
            client.send(&post(CHAT, "", body)).await;
            let other = h2::Client::connect(app.addr).await;
            let response = timeout(PATIENCE, other.post(CHAT, "", body).await);
            let response = response.await.unwrap().unwrap();
            until("the upstream is let go", async || origin.open() == 0).await;
            let_go(&app, 2).await;
            // the stream alone is reset: its connection goes on
            let mut stream = response.into_body();
            let reset = loop {
                match timeout(PATIENCE, stream.data()).await.unwrap() {
                    Some(Ok(data)) => drop(stream.flow_control().release_capacity(data.len())),
                    Some(Err(error)) => break error.reason(),
                    None => break None,
                }
            };
            assert_eq!(reset, Some(::h2::Reason::CANCEL), "{body} {cached}");
            let again = timeout(PATIENCE, other.post(CHAT, "", body).await).await;
            assert_eq!(again.unwrap().unwrap().status(), 200);
            drop(client);
            other.hang_up();
            let_go(&app, 3).await;
        }
    }
}

#[tokio::test]
async fn case_9_who_takes_nothing_is_cut_over_tls() {
    let origin = abundance().await;
    let ca = Authority::new("ca");
    let pair = ca.issue_local("server");
    for body in [STREAM, PLAIN] {
        let app = App::start(&format!(
            "listen: {{ at: 127.0.0.1:0, tls: {{ cert: '{}', key: '{}' }} }}\n{SOON}{}",
            pair.cert.display(),
            pair.key.display(),
            policy(&origin.url(), "")
        ));
        let tls = UpstreamTls { ca: Some(ca.ca()), ..UpstreamTls::default() };
        let upstream =
            tidegate::config::Upstream { tls, http2: Http2::Never, ..crate::net::upstream() };
        let to = tidegate::config::Origin {
            tls: true,
            host: Host::Name("localhost".into()),
            port: app.addr.port(),
            path: "".into(),
        };
        let connector = Connector::new(&upstream, &|_| None).unwrap();
        let mut io = connector.connect(&to).await.unwrap().stream;
        io.write_all(&post(CHAT, "", body)).await.unwrap();
        io.flush().await.unwrap();
        until("the upstream is asked", async || !origin.take().is_empty()).await;
        until("the upstream is let go", async || origin.open() == 0).await;
        let_go(&app, 1).await;
    }
}

/// An answer from the cache is handed over whole, and lies there until the client takes it.
#[tokio::test]
async fn case_9_who_takes_nothing_of_a_kept_answer_is_cut() {
    let text = "x".repeat(3 << 20);
    let body = format!(
        r#"{{"choices":[{{"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]}}"#
    );
    let kept = origin::whole("200 OK", "content-type: application/json\r\n", &body);
    let origin = Origin::saying(kept).await;
    let app = App::start(&format!("{SOON}{}{CACHE}", policy(&origin.url(), "")));
    assert_eq!(ask(app.addr, &post(CHAT, "", PLAIN)).await.status, 200);
    let client = h2::Client::connect(app.addr).await;
    let response = timeout(PATIENCE, client.post(CHAT, "", PLAIN).await).await.unwrap().unwrap();
    assert!(response.headers()["cache-status"].to_str().unwrap().starts_with("tidegate; hit"));
    sleep(Duration::from_millis(3500)).await;
    let mut stream = response.into_body();
    let (mut read, mut reset) = (0, None);
    while let Some(data) = timeout(PATIENCE, stream.data()).await.unwrap() {
        match data {
            Ok(data) => {
                read += data.len();
                drop(stream.flow_control().release_capacity(data.len()));
            }
            Err(error) => {
                reset = error.reason();
                break;
            }
        }
    }
    assert_eq!(reset, Some(::h2::Reason::CANCEL), "{read} bytes of {}", body.len());
    app.lines(2).await;
}
