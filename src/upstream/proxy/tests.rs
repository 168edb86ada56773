use tokio::net::TcpListener;

use super::*;

fn from(vars: &[(&str, &str)]) -> Result<Proxy, ProxySetupError> {
    let env = |name: &str| {
        vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    Proxy::new(&ProxyRule::Environment, &env)
}

fn uses_proxy(no_proxy: &str, host: &str, port: u16) -> bool {
    let proxy = from(&[("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", no_proxy)]).unwrap();
    proxy.for_origin(host, port).is_some()
}

#[test]
fn the_url_in_all_its_forms() {
    let cases = [
        ("http://proxy.test:3128", "proxy.test", 3128, None),
        ("proxy.test:3128", "proxy.test", 3128, None),
        ("HTTP://proxy.test/", "proxy.test", 80, None),
        ("http://[::1]:8888", "::1", 8888, None),
        ("http://Aladdin:open%20sesame@p:1", "p", 1, Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
        ("http://a:b@p:1", "p", 1, Some("Basic YTpi")),
        ("user:pw@p:1", "p", 1, Some("Basic dXNlcjpwdw==")),
    ];
    for (url, host, port, authorization) in cases {
        let via = from(&[("https_proxy", url)]).unwrap().via.unwrap();
        let header = via.authorization.as_ref().map(Secret::expose);
        assert_eq!((&*via.host, via.port, header), (host, port, authorization), "{url}");
    }
}

#[test]
fn what_is_no_proxy_url_is_named_without_its_value() {
    for url in [
        "https://u:hunter2@p:1",
        "socks5://p:1",
        "http://u:hunter2@p:port",
        "http://:80",
        "http://u:hunter2%@p",
        "http://[::1",
        "http://u:hunter2@",
    ] {
        let error = from(&[("HTTPS_PROXY", url)]).unwrap_err();
        assert!(error.to_string().starts_with("HTTPS_PROXY is not a proxy URL"), "{url}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[test]
fn the_lower_case_variable_wins_and_an_empty_one_does_not_count() {
    let host = |vars: &[(&str, &str)]| from(vars).unwrap().via.map(|via| via.host.to_string());
    let both = [("HTTPS_PROXY", "http://upper"), ("https_proxy", "http://lower")];
    assert_eq!(host(&both).as_deref(), Some("lower"));
    assert_eq!(
        host(&[("HTTPS_PROXY", "http://upper"), ("https_proxy", " ")]).as_deref(),
        Some("upper")
    );
    assert_eq!(host(&[]), None);
}

#[test]
fn who_is_passed_by() {
    let cases = [
        ("", "api.test", true),
        ("*", "api.test", false),
        ("test", "api.test", false),
        ("api.test", "API.test.", false),
        (".api.test", "api.test", false),
        ("*.test", "api.test", false),
        ("api.test", "myapi.test", true),
        ("api.test", "test", true),
        ("a.test, api.test", "api.test", false),
        ("api.test:443", "api.test", false),
        ("api.test:8443", "api.test", true),
        ("10.1.2.3", "10.1.2.3", false),
        ("10.1.2.3:443", "10.1.2.3", false),
        ("10.1.2.3:1", "10.1.2.3", true),
        ("10.0.0.0/8", "10.1.2.3", false),
        ("10.0.0.0/8", "11.1.2.3", true),
        ("10.0.0.0/8", "::ffff:10.1.2.3", false),
        ("10.0.0.0/8", "name.test", true),
        ("0.0.0.0/0", "11.1.2.3", false),
        ("0.0.0.0/0", "2001:db8::1", true),
        ("2001:db8::/32", "2001:db8:1::1", false),
        ("2001:db8::/32", "2001:db9::1", true),
        ("[2001:db8::1]:443", "2001:db8::1", false),
        (".", "api.test", true),
    ];
    for (list, host, through) in cases {
        assert_eq!(uses_proxy(list, host, 443), through, "NO_PROXY={list:?}, {host}");
    }
}

#[test]
fn loopback_never_goes_through_a_proxy() {
    let rule = ProxyRule::Through { host: "p".into(), port: 1, authorization: None };
    let proxy = Proxy::new(&rule, &|_| None).unwrap();
    for host in ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert!(proxy.for_origin(host, 443).is_none(), "{host}");
    }
    assert!(proxy.for_origin("api.test", 443).is_some());
    assert!(Proxy::new(&ProxyRule::Never, &|_| Some("http://p".into())).unwrap().via.is_none());
}

#[test]
fn no_form_of_debug_shows_the_credential() {
    let proxy = from(&[("https_proxy", "http://user:hunter2@p:1")]).unwrap();
    let shown = format!("{proxy:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("Basic") && !shown.contains("dXNl"));
}

/// What was asked, and what came of one scripted answer that is sent in the given pieces.
async fn tunnel(url: &str, answer: &'static [&'static [u8]]) -> (String, Result<(), TunnelError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
        }
        for piece in answer {
            let _ = stream.write_all(piece).await;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        String::from_utf8(asked).unwrap()
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let outcome = Via::parse(url).unwrap().tunnel(&mut stream, "2001:db8::1", 443).await;
    (proxy.await.unwrap(), outcome)
}

#[tokio::test]
async fn a_tunnel_is_asked_for_by_the_book() {
    let (asked, outcome) =
        tunnel("http://a:b@p", &[b"HTTP/1.1 200 Conn", b"ection established\r\nX: y\r\n", b"\r\n"])
            .await;
    assert!(outcome.is_ok());
    assert_eq!(
        asked,
        "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\
         Proxy-Authorization: Basic YTpi\r\n\r\n"
    );
}

#[tokio::test]
async fn every_other_answer_is_a_failure() {
    let refused = tunnel("p", &[b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\nbody"]).await.1;
    assert!(matches!(refused, Err(TunnelError::Refused(407))), "{refused:?}");
    for answer in [
        &[b"SSH-2.0-OpenSSH\r\n\r\n" as &[u8]] as &'static [&'static [u8]],
        &[b"HTTP/1.1 200 OK\r\n\r\nspeaks first"],
        &[b"HTTP/1.1 200 OK\r\nX: ", &[b'x'; 9000]],
    ] {
        let outcome = tunnel("p", answer).await.1;
        assert!(matches!(outcome, Err(TunnelError::Garbled)), "{outcome:?}");
    }
    let cut = tunnel("p", &[b"HTTP/1.1 200 OK\r\n"]).await.1;
    assert!(matches!(cut, Err(TunnelError::Io(_))), "{cut:?}");
}
