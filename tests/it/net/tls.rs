//! TLS on both sides: whom each trusts, what it shows, and what a reload changes.
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate::config::{Address, Http2, ListenTls, Upstream, UpstreamTls};
use tidegate::io::Stream;
use tidegate::listen::socket::{Bound, Inherited, Peer, bind};
use tidegate::listen::tls::ServerTls;
use tidegate::upstream::connect::{ConnectError, Connected, Connector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::certs::{Authority, Pair};
use super::{no_env, origin, upstream};

/// A server that greets everyone who gets through the handshake with one byte.
struct Server {
    tls: Arc<ServerTls>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
    _bound: Bound,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn settings(pair: &Pair) -> ListenTls {
    ListenTls {
        cert: pair.cert.clone(),
        key: pair.key.clone(),
        client_ca: None,
        client_required: false,
    }
}

fn serve(settings: &ListenTls) -> Server {
    let at = Address::Tcp("127.0.0.1:0".parse().unwrap());
    let bound = bind(&at, &mut Inherited::default()).unwrap().remove(0);
    let tls = Arc::new(ServerTls::new(settings).unwrap());
    let listener = bound.listener().unwrap();
    let acceptor = Arc::clone(&tls);
    let task = tokio::spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            assert!(matches!(peer, Peer::Tcp(_)));
            let Stream::Tcp(stream) = stream else { panic!("not TCP") };
            let acceptor = Arc::clone(&acceptor);
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.write_all(b"!").await;
                    let _ = stream.read_u8().await;
                }
            });
        }
    });
    Server { tls, address: bound.addr.unwrap(), task, _bound: bound }
}

fn trusting(authority: &Authority) -> Upstream {
    let tls = UpstreamTls { ca: Some(authority.ca()), ..UpstreamTls::default() };
    Upstream { tls, ..upstream() }
}

async fn connect(
    upstream: &Upstream,
    host: &str,
    server: &Server,
) -> Result<Connected, ConnectError> {
    let connector = Connector::new(upstream, &no_env).unwrap();
    connector.connect(&origin(true, host, server.address.port())).await
}

/// Whether the server lets this client in: with TLS 1.3 the client learns it after its handshake.
async fn greeted(upstream: &Upstream, server: &Server) -> bool {
    match connect(upstream, "localhost", server).await {
        Ok(mut connected) => connected.stream.read_u8().await.is_ok(),
        Err(_) => false,
    }
}

fn client(stream: &Stream) -> &rustls::ClientConnection {
    let Stream::ClientTls(stream) = stream else { panic!("not TLS") };
    stream.get_ref().1
}

#[tokio::test]
async fn the_protocol_is_agreed_on() {
    let authority = Authority::new("ca");
    let server = serve(&settings(&authority.issue_local("server")));
    for (http2, agreed) in [(Http2::Auto, true), (Http2::Always, true), (Http2::Never, false)] {
        for host in ["localhost", "127.0.0.1"] {
            let upstream = Upstream { http2, ..trusting(&authority) };
            let mut connected = connect(&upstream, host, &server).await.unwrap();
            assert_eq!(connected.http2, agreed);
            assert_eq!(connected.peer, Some(server.address));
            assert!(!connected.timing.tls.is_zero() && !connected.timing.tcp.is_zero());
            assert_eq!(connected.stream.read_u8().await.unwrap(), b'!');
            let Stream::ClientTls(stream) = &connected.stream else { panic!("not TLS") };
            assert!(stream.get_ref().0.nodelay().unwrap());
        }
    }
}

#[tokio::test]
async fn a_second_connection_resumes_the_session() {
    let authority = Authority::new("ca");
    let server = serve(&settings(&authority.issue_local("server")));
    let connector = Connector::new(&trusting(&authority), &no_env).unwrap();
    let origin = origin(true, "localhost", server.address.port());
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut connected = connector.connect(&origin).await.unwrap();
        assert_eq!(connected.stream.read_u8().await.unwrap(), b'!');
        kinds.push(client(&connected.stream).handshake_kind().unwrap());
    }
    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

#[tokio::test]
async fn a_backend_that_cannot_be_trusted_is_refused_and_told_apart() {
    let authority = Authority::new("ca");
    let other = Authority::new("other");
    let good = serve(&settings(&authority.issue_local("good")));
    let expired = serve(&settings(&authority.issue("old", &["localhost"], (2024, 1, 1))));
    let misnamed = serve(&settings(&authority.issue("misnamed", &["other.test"], (2090, 1, 1))));
    let cases = [
        (&good, trusting(&other), "tls_untrusted", "issuer is not trusted"),
        (&good, upstream(), "tls_untrusted", "issuer is not trusted"),
        (&expired, trusting(&authority), "tls_expired", "has expired"),
        (&misnamed, trusting(&authority), "tls_wrong_name", "for another name"),
    ];
    for (server, upstream, reason, text) in cases {
        let Err(error) = connect(&upstream, "localhost", server).await else {
            panic!("{reason}: connected");
        };
        assert_eq!(error.reason(), reason);
        let message = error.to_string();
        assert!(message.starts_with(&format!("localhost:{}: ", server.address.port())));
        assert!(message.contains(text), "{message}");
    }
}

#[tokio::test]
async fn http2_that_is_demanded_and_not_offered_is_said_so() {
    let authority = Authority::new("ca");
    let pair = authority.issue_local("server");
    let identity = tidegate::io::pem::identity(&pair.cert, &pair.key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(tidegate::io::pem::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)));
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = config.clone();
        config.alpn_protocols = protocols;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            let _ = acceptor.accept(stream).await;
        });
        let upstream = Upstream { http2: Http2::Always, ..trusting(&authority) };
        let connector = Connector::new(&upstream, &no_env).unwrap();
        let outcome = connector.connect(&origin(true, "localhost", port)).await;
        assert_eq!(outcome.err().map(|error| error.reason()), Some("tls_no_http2"));
        server.await.unwrap();
    }
}

#[tokio::test]
async fn client_certificates_are_optional_or_required() {
    let authority = Authority::new("ca");
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let pair = authority.issue_local("server");
    let showing = |issuer: &Authority| {
        let shown = issuer.issue("client", &["agent.test"], (2090, 1, 1));
        let mut upstream = trusting(&authority);
        upstream.tls.cert = Some(shown.cert);
        upstream.tls.key = Some(shown.key);
        upstream
    };
    for client_required in [false, true] {
        let client_ca = Some(clients.ca());
        let server = serve(&ListenTls { client_ca, client_required, ..settings(&pair) });
        assert!(greeted(&showing(&clients), &server).await);
        assert!(!greeted(&showing(&strangers), &server).await);
        assert_eq!(greeted(&trusting(&authority), &server).await, !client_required);
    }
}

fn unix(time: Option<SystemTime>) -> u64 {
    time.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_renewed_certificate_is_served_after_a_reload_and_a_broken_one_is_not() {
    let authority = Authority::new("ca");
    let pair = authority.issue("server", &["localhost"], (2089, 1, 1));
    let server = serve(&settings(&pair));
    let shown = || async {
        let mut connected = connect(&trusting(&authority), "localhost", &server).await.unwrap();
        assert_eq!(connected.stream.read_u8().await.unwrap(), b'!');
        client(&connected.stream).peer_certificates().unwrap()[0].to_vec()
    };
    assert_eq!(unix(server.tls.not_after()), 3_755_376_000);
    let mut running = connect(&trusting(&authority), "localhost", &server).await.unwrap();
    let first = shown().await;

    authority.issue("server", &["localhost"], (2090, 1, 1));
    assert_eq!(shown().await, first, "nothing changes before the reload");
    server.tls.reload().unwrap();
    let second = shown().await;
    assert_ne!(second, first);
    assert_eq!(unix(server.tls.not_after()), 3_786_912_000);

    let cert = fs::read_to_string(&pair.cert).unwrap();
    let foreign = authority.issue("foreign", &["localhost"], (2090, 1, 1));
    let key = fs::read_to_string(&foreign.key).unwrap();
    let cases = [
        (&pair.cert, "", "no certificate in this file"),
        (&pair.cert, &cert[..cert.len() / 2], "cannot be read"),
        (&pair.key, &cert, "no private key in this file"),
        (&pair.key, &key, "does not belong to the certificate"),
    ];
    for (path, content, text) in cases {
        let whole = fs::read_to_string(path).unwrap();
        fs::write(path, content).unwrap();
        let error = server.tls.reload().unwrap_err().to_string();
        fs::write(path, whole).unwrap();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains(text), "{error}");
        assert!(!error.contains("BEGIN"), "no content of a file: {error}");
        assert_eq!(shown().await, second);
    }
    assert_eq!(running.stream.read_u8().await.unwrap(), b'!', "connections outlive a reload");
}

#[test]
fn a_faulty_client_setup_is_told_when_it_is_made() {
    let authority = Authority::new("ca");
    let pair = authority.issue_local("client");
    let missing = authority.ca().with_file_name("missing.pem");
    let set = |ca, cert, key| {
        let tls = UpstreamTls { ca, cert, key };
        match Connector::new(&Upstream { tls, ..upstream() }, &no_env) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    };
    let error = set(Some(missing.clone()), None, None);
    assert!(error.contains("missing.pem: the CA certificate cannot be read"), "{error}");
    let error = set(Some(pair.key.clone()), None, None);
    assert!(error.contains("client.key: no CA certificate in this file"), "{error}");
    let error = set(None, Some(pair.cert.clone()), None);
    assert!(error.contains("needs both"), "{error}");
    let error = set(None, Some(pair.cert), Some(missing));
    assert!(error.contains("missing.pem: the private key cannot be read"), "{error}");
}

/// 10 s, by a paused clock: who sends nothing is sent away.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_speaks_is_sent_away() {
    let authority = Authority::new("ca");
    let tls = ServerTls::new(&settings(&authority.issue_local("server"))).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _silent = std::net::TcpStream::connect(address).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let start = tokio::time::Instant::now();
    let Err(error) = tls.accept(stream).await else { panic!("a handshake of nothing") };
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), Duration::from_secs(10).as_secs());
}
