//! Peers that prove who they are without a key: client certificates, and users of a Unix socket.
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tidegate::config::{Host, Http2, UpstreamTls};
use tidegate::upstream::connect::Connector;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::net::certs::{Authority, Pair};

/// The status of a call over any stream.
async fn status(mut io: impl AsyncRead + AsyncWrite + Unpin, lines: &str) -> Option<u16> {
    let request = call(CHAT, &format!("connection: close\r\n{lines}"), BODY);
    io.write_all(&request).await.ok()?;
    let mut answer = Vec::new();
    let read = io.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    read.ok().filter(|_| !text.is_empty())?;
    text.get(9..12)?.parse().ok()
}

/// A call over TLS, with a certificate or without.
async fn over_tls(app: &App, ca: &Authority, pair: Option<&Pair>, lines: &str) -> Option<u16> {
    let tls = UpstreamTls {
        ca: Some(ca.ca()),
        cert: pair.map(|pair| pair.cert.clone()),
        key: pair.map(|pair| pair.key.clone()),
    };
    let upstream =
        tidegate::config::Upstream { tls, http2: Http2::Never, ..crate::net::upstream() };
    let connector = Connector::new(&upstream, &|_| None).unwrap();
    let to = tidegate::config::Origin {
        tls: true,
        host: Host::Name("localhost".into()),
        port: app.addr.port(),
        path: "".into(),
    };
    status(connector.connect(&to).await.ok()?.stream, lines).await
}

#[tokio::test]
async fn a_certificate_names_its_agent_end_to_end() {
    let (ca, stranger) = (Authority::new("agents"), Authority::new("strangers"));
    let server = ca.issue_local("server");
    let last = (2090, 1, 1);
    let spiffe = ca.issue("spiffe", &["spiffe://cluster/ns/prod/sa/research"], last);
    let named = ca.issue("named", &["Worker-7.Agents.Internal"], last);
    let other = ca.issue("other", &["elsewhere.test"], last);
    let foreign = stranger.issue("foreign", &["worker-7.agents.internal"], last);
    let expired = ca.issue("expired", &["worker-7.agents.internal"], (2021, 1, 1));
    let origin = origin().await;
    let app = App::start(&policy(
        &origin,
        &format!(
            "listen: {{ at: 127.0.0.1:0, tls: {{ cert: '{}', key: '{}', client_ca: '{}', \
             client_auth: optional }} }}\n\
             agents: {{ certificates: [{{ san: 'spiffe://cluster/ns/*/sa/*', team: growth }}, \
             {{ san: '*.agents.internal', agent: fleet }}] }}\n",
            server.cert.display(),
            server.key.display(),
            ca.ca().display()
        ),
    ));
    let spoof = "x-agent-id: boss\r\n";
    assert_eq!(over_tls(&app, &ca, Some(&spiffe), spoof).await, Some(200));
    assert_eq!(over_tls(&app, &ca, Some(&named), spoof).await, Some(200));
    // of the right CA and of no rule; without a certificate; of another CA; too late
    assert_eq!(over_tls(&app, &ca, Some(&other), "").await, Some(401));
    assert_eq!(over_tls(&app, &ca, None, "x-agent-id: fleet\r\n").await, Some(401));
    assert_eq!(over_tls(&app, &ca, Some(&foreign), "").await, None);
    assert_eq!(over_tls(&app, &ca, Some(&expired), "").await, None);
    let lines = app.lines(4).await;
    let told =
        |line: &Value| ["agent", "team", "rung"].map(|field| at(line, field).to_owned()).join(" ");
    assert_eq!(told(&lines[0]), "research growth mtls");
    assert_eq!(told(&lines[1]), "fleet  mtls");
    assert_eq!(origin.take().len(), 2);
}

#[tokio::test]
async fn the_peer_of_a_unix_socket_is_known_by_user_and_process() {
    let directory = tempfile::tempdir().unwrap();
    let own = std::fs::metadata("/proc/self").unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    let name = std::fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned();
    let origin = origin().await;
    let other = uid + 1;
    for (rule, agent, team) in [
        (format!("uid: {uid}"), Some(&*name), ""),
        (
            format!("uid: {uid}, gid: {gid}, process: '{name}', agent: notebook, team: t"),
            Some("notebook"),
            "t",
        ),
        (format!("process: '{}*'", &name[..2]), Some(&*name), ""),
        (format!("uid: {other}"), None, ""),
        (format!("uid: {uid}, process: 'another*'"), None, ""),
    ] {
        let path = directory.path().join("agents.sock");
        let listen = format!("listen: [127.0.0.1:0, 'unix:{}']\n", path.display());
        let peers = format!("agents: {{ peers: [{{ {rule} }}] }}\n");
        let app = App::start(&policy(&origin, &format!("{listen}{peers}")));
        let got = status(connect(&path).await, "x-agent-id: boss\r\n").await;
        assert_eq!(got, Some(if agent.is_some() { 200 } else { 401 }), "{rule}");
        // over TCP nobody is a peer
        assert_eq!(chat(app.addr, "").await.status, 401);
        let lines = app.lines(2).await;
        if let Some(agent) = agent {
            let told = ["agent", "team", "rung"].map(|field| at(&lines[0], field));
            assert_eq!(told, [agent, team, "peer"], "{rule}");
        }
    }
}

async fn connect(path: &Path) -> UnixStream {
    UnixStream::connect(path).await.unwrap()
}
