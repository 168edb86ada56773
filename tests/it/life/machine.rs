//! What the machine around it does: a service manager, a log that nobody reads, few descriptors,
//! addresses that are taken, and the time it takes to be there.
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::Full;
use tokio::net::{TcpStream, UnixDatagram as Receiver};
use tokio::time::timeout;

use super::CHAT;
use super::agent::{ask, backend, chat, connect, get, over, policy, send, whole};
use super::child::{PATIENCE, Sidecar, tidegate, tidegate_after};
use super::until;

const ANYWHERE: &str = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n";

#[tokio::test]
async fn a_service_manager_is_told() {
    let backend = backend();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Receiver::from_std({
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    })
    .unwrap();
    let mut command = tidegate();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000").env_remove("WATCHDOG_PID");
    let drain = "server: { drain: { delay: 300ms, timeout: 5s } }";
    let policy = format!("{ANYWHERE}{}", policy(&backend, drain));
    let mut sidecar = Sidecar::start_by(command, &policy).await;
    assert_eq!(heard(&manager, "READY=1").await, "READY=1\nSTATUS=serving\n");
    for _ in 0..3 {
        heard(&manager, "WATCHDOG=1").await;
    }
    sidecar.signal("HUP");
    let reloading = heard(&manager, "RELOADING=1").await;
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    heard(&manager, "READY=1").await;
    sidecar.signal("TERM");
    heard(&manager, "STOPPING=1").await;
    // a drain may be long: the manager must not lose patience
    heard(&manager, "WATCHDOG=1").await;
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

/// The next message that begins so.
async fn heard(manager: &Receiver, words: &str) -> String {
    let mut bytes = [0; 512];
    loop {
        let length = timeout(PATIENCE, manager.recv(&mut bytes)).await.expect(words).unwrap();
        let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
        if message.starts_with(words) {
            return message;
        }
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_stalls_no_call() {
    let mut command = tidegate();
    // kept open and never read
    command.stdout(Stdio::piped());
    let drain = "server: { drain: { delay: 0s, timeout: 1s } }\n";
    let mut sidecar = Sidecar::start_by(command, &format!("{ANYWHERE}{drain}")).await;
    let path = format!("/{}", "x".repeat(250));
    until("the pipe and the blocks on their way are full", async || {
        let mut agents = tokio::task::JoinSet::new();
        for _ in 0..4 {
            agents.spawn(wordy_calls(sidecar.addr, path.clone()));
        }
        agents.join_all().await;
        let (_, metrics) = ask(sidecar.admin, get("/metrics")).await;
        let line = "tidegate_log_dropped_lines_total{log=\"access\"} ";
        let found = metrics.lines().find_map(|found| found.strip_prefix(line));
        found.is_some_and(|count| count.parse::<u64>().unwrap() > 0)
    })
    .await;
    wordy_calls(sidecar.addr, path).await;
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended().await.code(), Some(0), "the end does not wait for the reader");
}

#[tokio::test]
async fn serving_goes_on_after_descriptors_ran_out() {
    let backend = backend();
    let policy = format!("{ANYWHERE}{}", policy(&backend, ""));
    let mut sidecar = Sidecar::start_by(tidegate_after("ulimit -n 64;"), &policy).await;
    assert_eq!(ask(sidecar.addr, chat(CHAT, "")).await.0, 200);
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(sidecar.addr).await.unwrap());
    }
    sidecar.logged("connections wait").await;
    drop(crowd);
    until("calls are served again", async || ask(sidecar.addr, chat(CHAT, "")).await.0 == 200)
        .await;
    assert_eq!(ask(sidecar.admin, get("/livez")).await.0, 200);
}

/// Calls that are answered at once, and make long lines.
async fn wordy_calls(to: SocketAddr, path: String) {
    let mut agent = connect(to).await;
    for _ in 0..500 {
        let request = Request::get(&path).header("host", "x").header("user-agent", &path);
        let answer = send(&mut agent, request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status(), 404);
        whole(answer).await.unwrap();
    }
}

fn fails(policy: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, policy).unwrap();
    tidegate().arg("-c").arg(file).output().unwrap()
}

#[test]
fn what_is_not_to_be_had_is_named_and_exits_3() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for (policy, words) in [
        (format!("listen: {addr}\nadmin: off\n"), "in use by another program"),
        (format!("listen: 127.0.0.1:0\nadmin: {addr}\n"), "in use by another program"),
        ("listen: 'unix:/nowhere/at/all.sock'\nadmin: off\n".to_owned(), "does not exist"),
        ("listen: 'systemd:http'\nadmin: off\n".to_owned(), "no inherited socket http"),
    ] {
        let out = fails(&policy);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(3), "{policy}: {said}");
        assert!(said.contains(words), "{policy}: {said}");
    }
    let out = fails("listen: nowhere\n");
    assert_eq!(out.status.code(), Some(1), "a policy that is wrong is another matter");
}

/// From the start of the process to the end of its first answer; the call waits in the queue of a
/// socket that is handed over. A build for use takes a few milliseconds; the bound is for builds
/// for tests on machines under load.
#[tokio::test]
async fn the_first_call_is_answered_soon() {
    let backend = backend();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let agent = TcpStream::connect(address).await.unwrap();
    let mut command = tidegate_after(
        "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS;",
    );
    command.stdin(Stdio::from(OwnedFd::from(socket)));
    let listen = "listen: 'systemd:'\nadmin: 127.0.0.1:0\n";
    let policy = format!("{listen}{}", policy(&backend, ""));
    let began = Instant::now();
    let calling = tokio::spawn(async move {
        let answer = send(&mut over(agent).await, chat(CHAT, "")).await;
        assert_eq!(answer.status(), 200);
        whole(answer).await.unwrap();
        began.elapsed()
    });
    let _sidecar = Sidecar::start_by(command, &policy).await;
    let took = calling.await.unwrap();
    println!("start to first answer: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
