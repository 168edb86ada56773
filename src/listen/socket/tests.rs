use std::os::unix::net::{UnixListener, UnixStream};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

fn one(at: &Address) -> Result<Bound, BindError> {
    bind(at, &mut Inherited::default()).map(|mut bound| bound.remove(0))
}

fn tcp(address: &str) -> Address {
    Address::Tcp(address.parse().unwrap())
}

#[tokio::test]
async fn a_tcp_connection_arrives_with_its_options() {
    let bound = one(&tcp("127.0.0.1:0")).unwrap();
    let address = bound.addr.unwrap();
    assert_ne!(address.port(), 0);
    assert_eq!(bound.at, address.to_string());
    let listener = bound.listener().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, Peer::Tcp(client.local_addr().unwrap()));
    let Stream::Tcp(stream) = stream else { panic!("not TCP") };
    assert!(stream.nodelay().unwrap());
    assert_eq!(SockRef::from(&stream).tcp_keepalive_time().unwrap().as_secs(), 30);
}

#[tokio::test]
async fn every_runtime_may_have_a_listener_of_its_own() {
    let bound = one(&tcp("127.0.0.1:0")).unwrap();
    let address = bound.addr.unwrap();
    let (one, two) = (bound.listener().unwrap(), bound.listener().unwrap());
    drop(one);
    drop(bound);
    let client = TcpStream::connect(address).await.unwrap();
    let (_, peer) = two.accept().await.unwrap();
    assert_eq!(peer, Peer::Tcp(client.local_addr().unwrap()));
}

#[tokio::test]
async fn who_comes_too_late_is_refused_and_does_not_hang() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let bound = [one(&tcp("127.0.0.1:0")).unwrap(), one(&Address::Unix(path.clone())).unwrap()];
    let address = bound[0].addr.unwrap();
    let _listeners = [bound[0].listener().unwrap(), bound[1].listener().unwrap()];
    drop((TcpStream::connect(address).await.unwrap(), UnixStream::connect(&path).unwrap()));
    bound.iter().for_each(Bound::refuse);
    let refused = std::io::ErrorKind::ConnectionRefused;
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), refused);
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), refused);
    // the address is free for a successor
    one(&Address::Tcp(address)).unwrap();
    one(&Address::Unix(path)).unwrap();
}

#[tokio::test]
async fn the_unspecified_v6_address_takes_v4_too() {
    let Ok(bound) = one(&tcp("[::]:0")) else { return };
    let listener = bound.listener().unwrap();
    let port = bound.addr.unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    let Peer::Tcp(peer) = peer else { panic!("not TCP") };
    assert_eq!(peer.port(), client.local_addr().unwrap().port());
    assert_eq!(peer.ip().to_canonical().to_string(), "127.0.0.1");
}

#[test]
fn faults_say_what_to_do() {
    let held = one(&tcp("127.0.0.1:0")).unwrap();
    let taken = one(&Address::Tcp(held.addr.unwrap())).unwrap_err();
    assert_eq!(taken.to_string(), format!("{}: the address is in use by another program", held.at));
    let foreign = one(&tcp("192.0.2.1:1")).unwrap_err();
    assert!(matches!(foreign, BindError::NoSuchAddress { .. }), "{foreign}");
    let nowhere = one(&Address::Unix("/nowhere/at/all.sock".into())).unwrap_err();
    assert!(matches!(nowhere, BindError::NoDirectory { .. }), "{nowhere}");
    let long = one(&Address::Unix(format!("/tmp/{}", "x".repeat(200)).into())).unwrap_err();
    assert!(matches!(long, BindError::Io { .. }), "{long}");
}

#[tokio::test]
async fn a_unix_socket_is_for_owner_and_group_and_goes_with_us() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let bound = one(&Address::Unix(path.clone())).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let listener = bound.listener().unwrap();
    let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (mut stream, peer) = listener.accept().await.unwrap();
    let Peer::Unix { uid, pid, .. } = peer else { panic!("not a Unix peer") };
    assert_eq!(uid, std::fs::metadata(directory.path()).unwrap().uid());
    assert_eq!(pid.unwrap().cast_unsigned(), std::process::id());
    client.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    drop((listener, bound));
    assert!(!path.exists());
}

#[test]
fn what_a_killed_process_left_is_replaced_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let at = Address::Unix(path.clone());

    // dropping a standard listener leaves the file, as a killed process does
    drop(UnixListener::bind(&path).unwrap());
    let bound = one(&at).unwrap();
    UnixStream::connect(&path).unwrap();

    let second = one(&at).unwrap_err();
    assert!(matches!(second, BindError::InUse { .. }), "{second}");
    UnixStream::connect(&path).unwrap();

    // a successor has moved its socket there: it is not ours to remove
    std::fs::remove_file(&path).unwrap();
    let successor = UnixListener::bind(&path).unwrap();
    drop(bound);
    UnixStream::connect(&path).unwrap();
    drop(successor);

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let file = one(&at).unwrap_err();
    assert!(matches!(file, BindError::NotASocket { .. }), "{file}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

fn handed_over(names: &[&str]) -> Inherited {
    let socket = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().into();
    Inherited::from_sockets(names.iter().map(|name| ((*name).to_owned(), socket())).collect())
}

#[tokio::test]
async fn inherited_sockets_are_taken_by_name_and_once() {
    let mut inherited = handed_over(&["http", "admin", "http", "other"]);
    let named = |name: &str| Address::Inherited(Some(name.into()));
    let http = bind(&named("http"), &mut inherited).unwrap();
    assert_eq!(http.len(), 2);
    assert_eq!(http[0].at, "systemd:http");
    let again = bind(&named("http"), &mut inherited).unwrap_err();
    assert_eq!(again.to_string(), "no inherited socket http; handed over and free: admin, other");
    let rest = bind(&Address::Inherited(None), &mut inherited).unwrap();
    assert_eq!(
        rest.iter().map(|bound| bound.at.as_str()).collect::<Vec<_>>(),
        ["systemd:admin", "systemd:other"]
    );
    let none = bind(&Address::Inherited(None), &mut inherited).unwrap_err();
    assert_eq!(none.to_string(), "no inherited socket is left; handed over and free: none");

    let listener = rest[0].listener().unwrap();
    let client = TcpStream::connect(rest[0].addr.unwrap()).await.unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, Peer::Tcp(client.local_addr().unwrap()));
}
