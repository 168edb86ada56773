//! Ways to a backend: names, proxies, Unix sockets, and every way to fail.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tidegate::config::{Host, Http2, Origin, ProxyRule, Secret, Upstream, UpstreamTls};
use tidegate::listen::tls::ServerTls;
use tidegate::upstream::connect::{ConnectError, Connector, Phase};
use tidegate::upstream::dns::Dns;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::certs::Authority;
use super::{no_env, origin, upstream};

async fn bound() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn resolving(addresses: &[&str]) -> Dns {
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Dns::with(Box::new(move |_| {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    }))
}

async fn failure(connector: &Connector, origin: &Origin) -> ConnectError {
    match connector.connect(origin).await {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn an_address_that_refuses_is_passed_by() {
    let (listener, port) = bound().await;
    let connector = Connector::new(&upstream(), &no_env).unwrap().with_dns(resolving(&[
        "127.0.0.2",
        "127.0.0.1",
        "::1",
    ]));
    for _ in 0..3 {
        let connected = connector.connect(&origin(false, "backend.test", port)).await.unwrap();
        assert_eq!(connected.peer, Some(SocketAddr::from(([127, 0, 0, 1], port))));
        assert!(!connected.http2 && connected.timing.tls.is_zero());
        listener.accept().await.unwrap();
    }
}

#[tokio::test]
async fn cleartext_speaks_http2_only_when_told() {
    let (_listener, port) = bound().await;
    for (http2, expected) in [(Http2::Auto, false), (Http2::Never, false), (Http2::Always, true)] {
        let connector = Connector::new(&Upstream { http2, ..upstream() }, &no_env).unwrap();
        let connected = connector.connect(&origin(false, "localhost", port)).await.unwrap();
        assert_eq!(connected.http2, expected);
    }
}

#[tokio::test]
async fn a_unix_socket_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backend.sock");
    let to = Origin { host: Host::Unix(path.clone()), ..origin(false, "", 0) };
    let connector = Connector::new(&upstream(), &no_env).unwrap();
    let missing = failure(&connector, &to).await;
    assert_eq!(missing.reason(), "io");
    assert!(missing.to_string().starts_with(&format!("unix:{}: ", path.display())));

    let listener = UnixListener::bind(&path).unwrap();
    let mut connected = connector.connect(&to).await.unwrap();
    assert_eq!(connected.peer, None);
    connected.stream.write_all(b"x").await.unwrap();
    assert_eq!(listener.accept().await.unwrap().0.read_u8().await.unwrap(), b'x');
    drop(listener);
    assert_eq!(failure(&connector, &to).await.reason(), "refused");
}

#[tokio::test]
async fn a_refusal_and_an_unknown_name_are_told_apart() {
    let (listener, port) = bound().await;
    drop(listener);
    let connector = Connector::new(&upstream(), &no_env).unwrap();
    let refused = failure(&connector, &origin(false, "127.0.0.1", port)).await;
    assert_eq!(refused.reason(), "refused");
    assert_eq!(refused.to_string(), format!("127.0.0.1:{port}: connection refused"));
    let connector = connector.with_dns(resolving(&[]));
    let unknown = failure(&connector, &origin(false, "backend.test", port)).await;
    assert_eq!(unknown.reason(), "dns");
    assert!(unknown.to_string().contains("backend.test"), "{unknown}");
}

#[tokio::test]
async fn all_phases_have_one_deadline_and_it_says_which_was_slow() {
    let mut upstream = upstream();
    upstream.pool.connect_timeout = Duration::from_millis(150);
    let (_silent, port) = bound().await;
    let connector = || Connector::new(&upstream, &no_env).unwrap();
    let hangs = Dns::with(Box::new(|_| Box::pin(std::future::pending())));
    let cases = [
        (connector().with_dns(hangs), "backend.test", Phase::Dns),
        (connector(), "localhost", Phase::Tls),
    ];
    for (connector, host, slow) in cases {
        let start = std::time::Instant::now();
        let error = failure(&connector, &origin(true, host, port)).await;
        assert_eq!(error.reason(), "connect_timeout");
        assert!(error.to_string().contains("no connection within 150 ms"), "{error}");
        let ConnectError::TimedOut { phase, .. } = error else { panic!("{error}") };
        assert_eq!(phase, slow);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(2), "{took:?}");
    }
}

/// A proxy that tunnels everything to `backend`, whatever it is asked for, and reports the heads
/// of the requests.
async fn proxy(backend: u16, status: &'static str) -> (u16, tokio::sync::mpsc::Receiver<String>) {
    let (listener, port) = bound().await;
    let (asked, heads) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
            }
            asked.send(String::from_utf8(head).unwrap()).await.unwrap();
            stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
            if status.starts_with("200") {
                let mut onward = TcpStream::connect(("127.0.0.1", backend)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
            }
        }
    });
    (port, heads)
}

/// A TLS backend that greets with one byte.
async fn tls_backend(authority: &Authority) -> u16 {
    let pair = authority.issue_local("backend");
    let settings = tidegate::config::ListenTls {
        cert: pair.cert,
        key: pair.key,
        client_ca: None,
        client_required: false,
    };
    let tls = Arc::new(ServerTls::new(&settings).unwrap());
    let (listener, port) = bound().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = tls.accept(stream).await {
                let _ = stream.write_all(b"!").await;
                let _ = stream.read_u8().await;
            }
        }
    });
    port
}

fn through(authority: &Authority, proxy: ProxyRule) -> Upstream {
    let tls = UpstreamTls { ca: Some(authority.ca()), ..UpstreamTls::default() };
    Upstream { tls, proxy, ..upstream() }
}

#[tokio::test]
async fn tls_goes_through_the_proxy_of_the_environment() {
    let authority = Authority::new("ca");
    let (port, mut heads) =
        proxy(tls_backend(&authority).await, "200 Connection established").await;
    let env = |name: &str| {
        (name == "HTTPS_PROXY").then(|| format!("http://user:hunter2@127.0.0.1:{port}"))
    };
    let never = Dns::with(Box::new(|name| panic!("{name} is the proxy's to resolve")));
    let connector =
        Connector::new(&through(&authority, ProxyRule::Environment), &env).unwrap().with_dns(never);
    let mut connected = connector.connect(&origin(true, "backend.test", 443)).await.unwrap();
    assert_eq!(connected.stream.read_u8().await.unwrap(), b'!');
    assert!(connected.http2, "the backend's own handshake went through");
    assert_eq!(connected.peer, Some(SocketAddr::from(([127, 0, 0, 1], port))));
    assert_eq!(
        heads.recv().await.unwrap(),
        "CONNECT backend.test:443 HTTP/1.1\r\nHost: backend.test:443\r\n\
         Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n\r\n"
    );

    // neither cleartext nor loopback: the proxy hears of neither
    let (_listener, plain) = bound().await;
    let connector = connector.with_dns(resolving(&["127.0.0.1"]));
    connector.connect(&origin(false, "backend.test", plain)).await.unwrap();
    let direct = tls_backend(&authority).await;
    connector.connect(&origin(true, "127.0.0.1", direct)).await.unwrap();
    assert!(heads.try_recv().is_err());
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_gone_is_named_without_its_password() {
    let authority = Authority::new("ca");
    let (port, _heads) = proxy(0, "407 Proxy Authentication Required").await;
    let rule = |port| ProxyRule::Through {
        host: "127.0.0.1".into(),
        port,
        authorization: Some(Secret::new("Basic hunter2")),
    };
    let to = origin(true, "backend.test", 443);
    let connector = Connector::new(&through(&authority, rule(port)), &no_env).unwrap();
    let error = failure(&connector, &to).await;
    assert_eq!(error.reason(), "proxy");
    assert_eq!(
        error.to_string(),
        format!(
            "backend.test:443: the proxy 127.0.0.1:{port} gives no tunnel: \
             it answered CONNECT with status 407"
        )
    );
    assert!(!format!("{error:?}").contains("hunter2"));
    let (listener, port) = bound().await;
    drop(listener);
    let connector = Connector::new(&through(&authority, rule(port)), &no_env).unwrap();
    let error = failure(&connector, &to).await;
    assert_eq!(error.to_string(), format!("127.0.0.1:{port}: connection refused"));
}
