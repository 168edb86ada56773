//! What needs a process of its own: handed-over sockets, and a process out of descriptors.
//!
//! The test runs itself again through `sh`, which sets the scene that only a parent can set.
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use tidegate::config::Address;
use tidegate::listen::socket::{Inherited, Peer, bind};
use tokio::io::AsyncWriteExt;

/// This test binary, about to run only `test`, after `script` has set the scene.
fn again(script: &str, test: &str) -> Command {
    let mut command = Command::new("sh");
    let name = format!("net::activation::{test}");
    command.args(["-c", &format!("{script} exec \"$0\" \"$@\"")]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", &name, "--nocapture"]);
    command
}

/// The protocol of `sd_listen_fds(3)` as systemd speaks it: descriptors from 3 on, our process id.
#[test]
fn sockets_handed_over_are_served() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        return serve_handed_over();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("local.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let script = "exec 3<&0 4<&1 0</dev/null 1>&2; \
                  LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=http:local; \
                  export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES;";
    let mut child = again(script, "sockets_handed_over_are_served")
        .stdin(Stdio::from(OwnedFd::from(tcp)))
        .stdout(Stdio::from(OwnedFd::from(unix)))
        .spawn()
        .unwrap();
    let mut greetings = [String::new(), String::new()];
    // no retry: the kernel holds connections until the child accepts them
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.read_to_string(&mut greetings[0]).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.read_to_string(&mut greetings[1]).unwrap();
    assert_eq!(greetings, ["systemd:http", "systemd:local"]);
    assert!(child.wait().unwrap().success());
    assert!(path.exists(), "the file belongs to who made it");
}

fn serve_handed_over() {
    let mut inherited = Inherited::from_env().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for name in ["http", "local"] {
            let at = Address::Inherited(Some(name.into()));
            let bound = bind(&at, &mut inherited).unwrap();
            assert_eq!(bound.len(), 1);
            let (mut stream, peer) = bound[0].listener().unwrap().accept().await.unwrap();
            assert_eq!(matches!(peer, Peer::Tcp(_)), name == "http");
            stream.write_all(bound[0].at.as_bytes()).await.unwrap();
        }
    });
}

#[test]
fn accepting_goes_on_when_descriptors_come_back() {
    if std::env::var_os("FEW_DESCRIPTORS").is_none() {
        let script = "ulimit -n 64; export FEW_DESCRIPTORS=1;";
        let status =
            again(script, "accepting_goes_on_when_descriptors_come_back").status().unwrap();
        assert!(status.success());
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let at = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = bind(&at, &mut Inherited::default()).unwrap().remove(0);
        let listener = bound.listener().unwrap();
        let _client = TcpStream::connect(bound.addr.unwrap()).unwrap();
        let taken: Vec<_> =
            std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).take(1000).collect();
        assert!(taken.len() < 64);
        let mut accept = std::pin::pin!(listener.accept());
        let soon = Duration::from_millis(350);
        assert!(tokio::time::timeout(soon, &mut accept).await.is_err());
        let tries = bound.faults().exhausted();
        assert!((2..=4).contains(&tries), "{tries} tries in 350 ms: one each 100 ms");
        drop(taken);
        let (_, peer) = tokio::time::timeout(soon, accept).await.unwrap().unwrap();
        assert!(matches!(peer, Peer::Tcp(_)));
    });
}
