//! Time, names and certificates: cases 97 to 100.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tidegate::config::ListenTls;
use tidegate::listen::tls::ServerTls;
use tidegate::upstream::dns::Dns;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::served;
use super::{
    CHAT, COUNTED, PLAIN, SAID, STREAM, after, answering, ask, limited, plain, policy, rest,
};
use crate::net::certs::{Authority, Pair};
use crate::support::app::App;
use crate::support::client::post;
use crate::support::origin::{self, Origin, chunk, whole};
use crate::support::until;

/// A process that was held up for longer than its deadlines has missed nothing: what came meanwhile
/// is there, so nobody was silent. Rates refill for the time that passed, and for no more.
#[tokio::test]
async fn a97_suspended_and_resumed() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            conn.send(origin::STREAM).await;
            for _ in 0..40 {
                conn.send(&chunk(super::TOKEN)).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            conn.send(&[&*chunk(super::DONE), b"0\r\n\r\n"].concat()).await;
        }
    })
    .await;
    let patience = "timeouts: { idle: 1s, first_byte: 1s, between_tokens: 1s },";
    let rate = "policies: [{ name: all, limits: { requests: 60/min burst 10 } }]\n";
    let app = App::start(&policy(&origin.url(), patience, rate));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = crate::support::client::Client::connect(app.addr).await;
        client.send(&post(CHAT, "", STREAM)).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        clients.push(client);
    }
    let used = after::charged(&app, "requests");
    let slept = Instant::now();
    app.signal("STOP");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    app.signal("CONT");
    let slept = slept.elapsed();
    for client in &mut clients {
        assert!(rest(client).await.is_some_and(|all| all.ends_with(super::DONE.as_bytes())));
    }
    after::over(&app, &[(200, "complete"); 4]).await;
    let left = after::charged(&app, "requests");
    assert!((0..=used).contains(&left), "never below zero: {left} of {used} after {slept:?}");
    after::let_go(&app, &origin).await;
}

/// A name that moves is followed within half a minute; the old answer serves as long as there is no
/// new one.
#[tokio::test(start_paused = true)]
async fn a98_a_name_that_moves() {
    let place: Arc<Mutex<Option<IpAddr>>> = Arc::new(Mutex::new(Some([10, 0, 0, 1].into())));
    let at = Arc::clone(&place);
    let dns = Dns::with(Box::new(move |_| {
        let now = *at.lock();
        Box::pin(async move {
            now.map(|at| vec![at]).ok_or_else(|| std::io::ErrorKind::TimedOut.into())
        })
    }));
    let first = async || dns.lookup("backend.test").await.unwrap()[0].to_string();
    assert_eq!(first().await, "10.0.0.1");
    *place.lock() = Some([10, 0, 0, 2].into());
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(first().await, "10.0.0.2");
    *place.lock() = None;
    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(first().await, "10.0.0.2", "no answer is no move");
}

/// Connections do not outlive their time, or nobody would ever ask for the name again.
#[tokio::test]
async fn a98_connections_grow_old() {
    let origin = answering().await;
    let app = limited(&origin.url(), "pool: { max_age: 1s },", "");
    let from = Instant::now();
    let mut calls = 0;
    while origin.connections() < 3 {
        served(&app).await;
        calls += 1;
        assert!(from.elapsed() < Duration::from_secs(20), "{} connections", origin.connections());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(calls > 6, "they are kept for a while: {calls}");
    after::over(&app, &vec![(200, "complete"); calls]).await;
    after::let_go(&app, &origin).await;
}

fn listen(pair: &Pair) -> ListenTls {
    let (cert, key) = (pair.cert.clone(), pair.key.clone());
    ListenTls { cert, key, client_ca: None, client_required: false }
}

/// A backend behind TLS that answers everything, and how much of it was not a handshake.
async fn behind_tls(pair: &Pair) -> (SocketAddr, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tls, heard) = (Arc::new(ServerTls::new(&listen(pair)).unwrap()), Arc::default());
    let seen: Arc<Mutex<usize>> = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (tls, seen) = (Arc::clone(&tls), Arc::clone(&seen));
            tokio::spawn(async move {
                let Ok(mut stream) = tls.accept(tcp).await else { return };
                let mut bytes = vec![0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                    *seen.lock() += read;
                    let answer = whole("200 OK", "content-type: application/json\r\n", SAID);
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (addr, heard)
}

/// Nothing is sent to who does not prove its name; the reason is told to the operator, not the caller.
#[tokio::test]
async fn a99_backends_with_bad_certificates() {
    let (authority, stranger) = (Authority::new("ca"), Authority::new("stranger"));
    for (pair, reason, words) in [
        (authority.issue("old", &["localhost"], (2024, 1, 1)), "tls_expired", "has expired"),
        (authority.issue("other", &["other.test"], (2090, 1, 1)), "tls_wrong_name", "another name"),
        (stranger.issue_local("stranger"), "tls_untrusted", "not trusted"),
    ] {
        let (addr, heard) = behind_tls(&pair).await;
        let more = format!("tls: {{ ca: '{}' }}, http2: never,", authority.ca().display());
        let app = limited(&format!("https://localhost:{}", addr.port()), &more, "");
        let got = ask(&app, &plain()).await;
        assert_eq!(
            (got.status, &got.json()["error"]["code"]),
            (502, &"upstream_unreachable".into())
        );
        assert!(!got.text().contains(words) && !got.text().contains("localhost"), "{}", got.text());
        assert!(app.count("tidegate_pool_dial_failures_total", &[reason]) >= 1, "{reason}");
        until("the log says why", async || app.events().contains(words)).await;
        after::over(&app, &[(502, "upstream_broken")]).await;
        assert_eq!((*heard.lock(), after::charged(&app, "tokens")), (0, 0), "{reason}");
    }
    // the same with a good one
    let (addr, _) = behind_tls(&authority.issue_local("good")).await;
    let more = format!("tls: {{ ca: '{}' }}, http2: never,", authority.ca().display());
    let app = limited(&format!("https://localhost:{}", addr.port()), &more, "");
    served(&app).await;
    after::over(&app, &[(200, "complete")]).await;
}

/// A call over TLS, and the certificate that was shown.
async fn over_tls(to: SocketAddr, authority: &Authority) -> (CertificateDer<'static>, String) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.ca()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(to).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let shown = tls.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let call = String::from_utf8(post(CHAT, "", PLAIN)).unwrap();
    let call = call.replacen("host:", "connection: close\r\nhost:", 1);
    tls.write_all(call.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // who closes without a farewell has said all the same what it had to say
    let _ = tls.read_to_string(&mut answer).await;
    (shown, answer)
}

#[tokio::test]
async fn a100_our_own_certificate_is_renewed() {
    let authority = Authority::new("ca");
    let pair = authority.issue_local("server");
    let origin = answering().await;
    let (cert, key) = (pair.cert.display(), pair.key.display());
    let listen =
        format!("listen: {{ at: '127.0.0.1:0', tls: {{ cert: '{cert}', key: '{key}' }} }}\n");
    let app = App::start(&format!("{listen}{}", policy(&origin.url(), "", COUNTED)));
    let (first, answer) = over_tls(app.addr, &authority).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(SAID), "{answer}");
    // the same files, another certificate; nobody tells the program
    authority.issue_local("server");
    let mut calls = 1;
    until("the new one is shown", async || {
        let (shown, answer) = over_tls(app.addr, &authority).await;
        calls += 1;
        assert!(answer.starts_with("HTTP/1.1 200 "), "no call fails: {answer}");
        shown != first
    })
    .await;
    after::over(&app, &vec![(200, "complete"); calls]).await;
    after::let_go(&app, &origin).await;
}
