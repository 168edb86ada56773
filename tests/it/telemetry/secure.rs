//! A collector behind TLS, whose authority is a private one: the variable that names the machine's
//! certificates names that.
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::net::certs::{Authority, Pair};
use crate::support::app::App;
use crate::support::client::{ask, post};
use crate::support::until;

/// A collector with this certificate that takes all; what it was sent over each connection.
async fn collector(pair: &Pair) -> (u16, Arc<Mutex<Vec<String>>>) {
    let identity = tidegate::io::pem::identity(&pair.cert, &pair.key).expect("a pair");
    let config = rustls::ServerConfig::builder_with_provider(tidegate::io::pem::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let said = Arc::clone(&heard);
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                said.lock().push("no handshake".to_owned());
                continue;
            };
            let (mut text, mut bytes) = (String::new(), vec![0; 64 * 1024]);
            while !is_whole(&text) {
                let read = stream.read(&mut bytes).await.expect("a request");
                assert!(read > 0, "it is whole: {text}");
                // a body of no UTF-8 keeps its length
                text.extend(bytes[..read].iter().map(|byte| char::from(*byte)));
            }
            said.lock().push(text);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, heard)
}

/// Each byte of it is one letter.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.chars().count() >= length.expect("a length").parse().expect("a number")
}

#[tokio::test]
async fn spans_go_over_tls_to_whom_the_machine_trusts_and_to_no_one_else() {
    let (ca, stranger) = (Authority::new("ours"), Authority::new("another"));
    let (port, heard) = collector(&ca.issue_local("collector")).await;
    let policy = format!(
        "upstreams: {{ it: {{ builtin: simulator }} }}\nroutes: [{{ to: it }}]\n\
         telemetry: {{ otlp: {{ endpoint: 'https://localhost:{port}', metrics: off, sample: 100% }} }}\n"
    );
    for (trusted, first) in
        [(ca.ca(), "POST /v1/traces HTTP/1.1\r\n"), (stranger.ca(), "no handshake")]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        let app = App::by(command, &policy, &["--workers", "1"]);
        let chat = post("/v1/chat/completions", "", r#"{"model":"m","messages":[]}"#);
        assert_eq!(ask(app.addr, &chat).await.status, 200);
        until("the collector is asked", async || !heard.lock().is_empty()).await;
        for said in std::mem::take(&mut *heard.lock()) {
            assert!(said.starts_with(first), "{said}");
            let named = said.contains("gen_ai.response.model");
            assert_eq!(named, first.starts_with("POST"), "what the answer calls its model: {said}");
        }
    }
}
