//! Where messages go, and where they do not.
use std::process::Command;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use tidegate::config::ListenTls;
use tidegate::listen::tls::ServerTls;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::net::certs::Authority;

#[tokio::test]
async fn a_receiver_that_is_down_at_first_is_told_when_it_is_up() {
    let directory = tempfile::tempdir().unwrap();
    let backend = backend().await;
    // its port is taken, and nobody listens there
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let hook = target("ops", &format!("http://{addr}"));
    let app = start(&policy(&backend, directory.path(), "", &hook));
    let id = submitted(app.addr, "m").await;
    until("an attempt failed", async || app.events().contains("a webhook did not arrive")).await;
    socket.listen(16).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    let receiver = Receiver::on(listener, [TAKEN], Duration::ZERO);
    assert_eq!(told(&receiver.messages(1).await), [(&*id, "task.succeeded")]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (backend, elsewhere) = (backend().await, Receiver::new().await);
    let location = format!("location: {}/hook\r\n", elsewhere.url());
    let moved = whole("307 Temporary Redirect", &location, "");
    let receiver = Receiver::by_turns([&*moved, TAKEN]).await;
    let app = start(&policy(&backend, directory.path(), "", &target("ops", &receiver.url())));
    let id = submitted(app.addr, "m").await;
    let got = receiver.messages(2).await;
    assert_eq!(told(&got), [(&*id, "task.succeeded"); 2]);
    assert_eq!((&got[0].id, elsewhere.origin.connections()), (&got[1].id, 0));
}

/// Takes TLS off in front of a receiver.
async fn over_tls(authority: &Authority, to: SocketAddr) -> (SocketAddr, JoinSet<()>) {
    let pair = authority.issue_local("receiver");
    let settings =
        ListenTls { cert: pair.cert, key: pair.key, client_ca: None, client_required: false };
    let tls = Arc::new(ServerTls::new(&settings).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let tls = Arc::clone(&tls);
            connections.spawn(async move {
                let Ok(mut stream) = tls.accept(stream).await else { return };
                let mut behind = TcpStream::connect(to).await.unwrap();
                // either side may hang up
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
            });
        }
    });
    (addr, serving)
}

#[tokio::test]
async fn messages_go_over_tls_to_whom_this_machine_trusts() {
    let authority = Authority::new("receivers");
    let (backend, receiver) = (backend().await, Receiver::new().await);
    let (addr, _serving) = over_tls(&authority, receiver.origin.addr).await;
    let hook = target("ops", &format!("https://localhost:{}", addr.port()));
    for trusted in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let policy = policy(&backend, directory.path(), "", &hook);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let other = Authority::new("others");
        let roots = if trusted { authority.ca() } else { other.ca() };
        command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
        let mut app =
            App::by(command, &policy, &["--workers", "1", "--log", "tidegate=trace,info"]);
        app.unfinished = true;
        let id = submitted(app.addr, "m").await;
        if trusted {
            assert_eq!(told(&receiver.messages(1).await), [(&*id, "task.succeeded")]);
        } else {
            let failed = async || app.events().contains("a webhook did not arrive");
            until("an attempt failed", failed).await;
            assert!(app.events().contains("issuer is not trusted"), "{}", app.events());
            assert_eq!(receiver.count(), 0);
        }
    }
}

#[tokio::test]
async fn an_address_of_this_machine_is_not_reached_without_leave() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("receivers");
    let (backend, receiver) = (backend().await, Receiver::new().await);
    let (addr, _serving) = over_tls(&authority, receiver.origin.addr).await;
    let hook = target("ops", &format!("https://localhost:{}", addr.port()));
    let hook = hook.replace("private: true", "private: false");
    let app = start(&policy(&backend, directory.path(), "", &hook));
    submitted(app.addr, "m").await;
    until("an attempt failed", async || app.events().contains("at no public address")).await;
    assert_eq!(receiver.origin.connections(), 0);
}

#[tokio::test]
async fn a_reload_changes_who_is_told_and_by_which_secret() {
    let directory = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let (old, new) = (Receiver::new().await, Receiver::new().await);
    let policy = |hooks: &str| policy(&backend, directory.path(), "", hooks);
    let app = start(&policy(&target("ops", &old.url())));
    let first = submitted(app.addr, "m").await;
    assert_eq!(told(&old.messages(1).await), [(&*first, "task.succeeded")]);
    let waiting = submitted(app.addr, "hang").await;
    until_state(app.addr, &waiting, "running").await;
    app.reload(&policy(&target("ops", &new.url()).replace(SECRET, OTHER))).await;
    cancel(app.addr, &waiting).await;
    until("a message", async || new.count() == 1 && new.origin.open() == 0).await;
    let message = read(&new.take()[0], OTHER);
    assert_eq!((&*message.task, &*message.event), (&*waiting, "task.cancelled"));

    // one whose name has gone is told in the log alone, and counts as told
    let waiting = submitted(app.addr, "hang").await;
    until_state(app.addr, &waiting, "running").await;
    app.reload(&policy(&target("others", &new.url()))).await;
    assert_eq!(submit(app.addr, "m", "ops").await.status, 400);
    cancel(app.addr, &waiting).await;
    until("it is said", async || app.events().contains("the policy has no such webhook")).await;
    app.reload(&policy(&target("ops", &old.url()))).await;
    let last = submitted(app.addr, "m").await;
    assert_eq!(told(&old.messages(1).await), [(&*last, "task.succeeded")]);
    assert_eq!((old.count(), new.count()), (0, 0));
}
