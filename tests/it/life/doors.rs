//! The ways in: TLS, Unix sockets, inherited sockets.
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::agent::{ask, backend, chat, get, over, policy, send, whole};
use super::child::{PATIENCE, Sidecar, tidegate, tidegate_after};
use super::{CHAT, until};
use crate::net::certs::{Authority, Pair};

/// A client that trusts this authority, offers these protocols, and may show a certificate.
fn trusting(authority: &Authority, alpn: &[&str], own: Option<&Pair>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.ca()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match own {
        Some(own) => {
            let chain = vec![CertificateDer::from_pem_file(&own.cert).unwrap()];
            let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn handshake(
    to: std::net::SocketAddr,
    connector: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(to).await?;
    let name = ServerName::try_from("localhost").unwrap();
    timeout(PATIENCE, connector.connect(name, tcp)).await.unwrap()
}

fn listener(pair: &Pair, more: &str) -> String {
    let (cert, key) = (pair.cert.display(), pair.key.display());
    format!(
        "listen: {{ at: '127.0.0.1:0', tls: {{ cert: {cert}, key: {key}{more} }} }}\n\
         admin: 127.0.0.1:0\n"
    )
}

#[tokio::test]
async fn tls_speaks_both_versions_and_shows_a_new_certificate_without_a_restart() {
    let (authority, backend) = (Authority::new("ca"), backend());
    let pair = authority.issue_local("server");
    let listen = listener(&pair, "");
    let mut sidecar = Sidecar::start_by(tidegate(), &(listen + &policy(&backend, ""))).await;

    let connector = trusting(&authority, &["h2", "http/1.1"], None);
    let tls = handshake(sidecar.addr, &connector).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let first = shown(&tls);
    let (mut h2, connection) =
        http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(tls))
            .await
            .unwrap();
    tokio::spawn(connection);
    let answer = h2.send_request(over_h2(chat(CHAT, "tokens=5"))).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(whole(answer).await.unwrap().ends_with("data: [DONE]\n\n"));

    for alpn in [&["http/1.1"][..], &[]] {
        let tls = handshake(sidecar.addr, &trusting(&authority, alpn, None)).await.unwrap();
        let answer = send(&mut over(tls).await, chat(CHAT, "tokens=5")).await;
        assert!(whole(answer).await.unwrap().ends_with("data: [DONE]\n\n"));
    }

    // the same files, another certificate; the file is watched
    authority.issue_local("server");
    sidecar.logged("reloading the policy").await;
    until("the new certificate is shown", async || {
        let tls = handshake(sidecar.addr, &trusting(&authority, &[], None)).await.unwrap();
        shown(&tls) != first
    })
    .await;
    let answer = h2.send_request(over_h2(chat(CHAT, "tokens=5"))).await.unwrap();
    assert_eq!(answer.status(), 200, "connections from before go on");
}

fn shown(tls: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    tls.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// HTTP/2 wants the whole URI and no `Host`.
fn over_h2(mut request: http::Request<Full<Bytes>>) -> http::Request<Full<Bytes>> {
    *request.uri_mut() = format!("https://localhost{CHAT}").parse().unwrap();
    request.headers_mut().remove("host");
    request
}

#[tokio::test]
async fn a_required_client_certificate_is_required() {
    let (authority, stranger, backend) = (Authority::new("ca"), Authority::new("other"), backend());
    let pair = authority.issue_local("server");
    let more = format!(", client_ca: {}, client_auth: required", authority.ca().display());
    let listen = listener(&pair, &more);
    let sidecar = Sidecar::start_by(tidegate(), &(listen + &policy(&backend, ""))).await;
    let friend = authority.issue("agent", &["agent"], (2090, 1, 1));
    let foreign = stranger.issue("agent", &["agent"], (2090, 1, 1));
    for (own, welcome) in [(Some(&friend), true), (None, false), (Some(&foreign), false)] {
        let connector = trusting(&authority, &[], own);
        // with TLS 1.3 the client learns that it is not welcome after its own handshake
        let served = async {
            let tls = handshake(sidecar.addr, &connector).await.ok()?;
            let (mut agent, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.ok()?;
            tokio::spawn(connection);
            agent.send_request(chat(CHAT, "tokens=2")).await.ok()
        };
        let served = timeout(PATIENCE, served).await.unwrap();
        assert_eq!(served.is_some_and(|answer| answer.status() == 200), welcome);
    }
}

#[tokio::test]
async fn a_unix_socket_is_served_and_goes_with_the_process() {
    let backend = backend();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tidegate.sock");
    let listen = format!(
        "listen: [127.0.0.1:0, 'unix:{}']\nadmin: 127.0.0.1:0\n\
         server: {{ drain: {{ delay: 0s, timeout: 5s }} }}\n",
        path.display()
    );
    let mut sidecar = Sidecar::start_by(tidegate(), &(listen + &policy(&backend, ""))).await;
    let unix = UnixStream::connect(&path).await.unwrap();
    let answer = send(&mut over(unix).await, chat(CHAT, "tokens=5")).await;
    assert!(whole(answer).await.unwrap().ends_with("data: [DONE]\n\n"));
    assert_eq!(ask(sidecar.addr, chat(CHAT, "")).await.0, 200, "beside the other listener");
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended().await.code(), Some(0));
    assert!(!path.exists());
}

/// As systemd hands it over: descriptor 3, and our process id.
#[tokio::test]
async fn an_inherited_socket_is_served_and_keeps_its_queue() {
    let backend = backend();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let kept = socket.try_clone().unwrap();
    let mut command = tidegate_after(
        "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http; \
         export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES;",
    );
    command.stdin(Stdio::from(OwnedFd::from(socket)));
    let listen = "listen: 'systemd:http'\nadmin: 127.0.0.1:0\n\
                  server: { drain: { delay: 0s, timeout: 5s } }\n";
    let mut sidecar =
        Sidecar::start_by(command, &(listen.to_owned() + &policy(&backend, ""))).await;
    assert_eq!(ask(address, chat(CHAT, "")).await.0, 200);
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended().await.code(), Some(0));
    // who comes between two processes waits for the next one
    let _waits = TcpStream::connect(address).await.unwrap();
    kept.set_nonblocking(true).unwrap();
    until("the socket still listens", async || kept.accept().is_ok()).await;
}

#[tokio::test]
async fn without_a_policy_file_the_known_vendors_are_served() {
    let mut command = tidegate();
    command.args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let sidecar = Sidecar::start_bare(command).await;
    assert_eq!(ask(sidecar.admin, get("/livez")).await, (200, "ok\n".to_owned()));
    assert_eq!(ask(sidecar.admin, get("/readyz")).await, (200, "ready\n".to_owned()));
    assert_eq!(ask(sidecar.addr, get("/")).await.0, 200);
    let (status, body) = ask(sidecar.addr, get("/nothing")).await;
    assert!(status == 404 && body.contains("no_route"), "{status} {body}");
    let (_, state) = ask(sidecar.admin, get("/state")).await;
    for vendor in ["openai", "anthropic", "gemini", "ollama"] {
        assert!(state.contains(&format!("\"name\": \"{vendor}\"")), "{vendor} in {state}");
    }
}
