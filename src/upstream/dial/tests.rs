use std::time::Instant;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use super::*;

/// An address where SYNs are dropped: a listener with a full queue. Kept alive by the answer.
async fn black_hole() -> (SocketAddr, Vec<Box<dyn Send>>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut kept: Vec<Box<dyn Send>> = vec![Box::new(socket)];
    loop {
        let filler = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address));
        match filler.await {
            Ok(filler) => kept.push(Box::new(filler.unwrap())),
            Err(_) => return (address, kept),
        }
    }
}

async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn options_are_set_on_every_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for addresses in [vec![address], vec![refusing().await, address]] {
        let (stream, peer) = dial(&addresses).await.unwrap();
        assert_eq!(peer, address);
        assert!(stream.nodelay().unwrap());
        let options = SockRef::from(&stream);
        assert!(options.keepalive().unwrap());
        assert_eq!(options.tcp_keepalive_time().unwrap().as_secs(), 30);
        assert_eq!(options.tcp_keepalive_interval().unwrap().as_secs(), 10);
        assert_eq!(options.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(options.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
    }
}

#[tokio::test]
async fn a_black_hole_costs_one_stagger_and_a_refusal_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    let (hole, _kept) = black_hole().await;

    let start = Instant::now();
    assert_eq!(dial(&[hole, good]).await.unwrap().1, good);
    let waited = start.elapsed();
    assert!(waited >= STAGGER && waited < STAGGER * 3, "{waited:?}");

    let start = Instant::now();
    assert_eq!(dial(&[refusing().await, good]).await.unwrap().1, good);
    assert!(start.elapsed() < STAGGER / 2);
}

#[tokio::test]
async fn the_last_failure_ends_it_with_the_most_telling_error() {
    let refused = refusing().await;
    // where IPv6 is off, the first fails as "address not available"
    let error = dial(&["[::1]:1".parse().unwrap(), refused]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let error = dial(&[]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_slow_first_address_may_still_win() {
    let (hole, _kept) = black_hole().await;
    let outcome = tokio::time::timeout(STAGGER * 2, dial(&[hole, refusing().await])).await;
    assert!(outcome.is_err(), "a refusal of the second does not end the first");
}
