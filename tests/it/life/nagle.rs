//! `TCP_NODELAY` on both sides, by its effect: with Nagle's algorithm a small piece waits until the
//! one before is acknowledged. The readers here acknowledge late, as the kernel does 40 ms later
//! unless it is in a hurry, so that pieces sent every 5 ms would arrive merged.
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::CHAT;
use super::agent::{backend, policy};
use super::child::{PATIENCE, Sidecar};

const PIECES: usize = 40;
/// Of so many tries one is enough: a loaded machine merges pieces as well.
const TRIES: usize = 5;

/// Reads to the end mark; in how many parts it came.
async fn parts(tcp: &mut TcpStream, end: &[u8]) -> usize {
    let (mut read, mut parts) = (Vec::new(), 0);
    while !read.ends_with(end) {
        SockRef::from(&*tcp).set_tcp_quickack(false).unwrap();
        let length = timeout(PATIENCE, tcp.read_buf(&mut read)).await.unwrap().unwrap();
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&read));
        parts += 1;
    }
    parts
}

#[tokio::test]
async fn small_events_reach_the_agent_one_by_one() {
    let backend = backend();
    let sidecar = Sidecar::start(&policy(&backend, "")).await;
    let body = r#"{"model":"m","stream":true,"messages":[]}"#;
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-simulate: tokens={PIECES}; gap=5ms; token-bytes=1\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut tcp = TcpStream::connect(sidecar.addr).await.unwrap();
    let mut most = 0;
    for _ in 0..TRIES {
        tcp.write_all(request.as_bytes()).await.unwrap();
        most = most.max(parts(&mut tcp, b"\r\n0\r\n\r\n").await);
        if most >= PIECES * 3 / 4 {
            return;
        }
    }
    panic!("{PIECES} events came in {most} parts");
}

#[tokio::test]
async fn small_pieces_of_a_body_reach_the_backend_one_by_one() {
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", origin.local_addr().unwrap());
    let policy = format!("upstreams: {{ files: {{ dialect: http, url: '{url}' }} }}\n");
    let sidecar = Sidecar::start(&policy).await;
    let serving = tokio::spawn(async move {
        let (mut tcp, _) = origin.accept().await.unwrap();
        let mut most = 0;
        for _ in 0..TRIES {
            most = most.max(parts(&mut tcp, b"0\r\n\r\n").await);
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
        most
    });
    let mut tcp = TcpStream::connect(sidecar.addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let head = b"POST /files/up HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    for _ in 0..TRIES {
        tcp.write_all(head).await.unwrap();
        for _ in 0..PIECES {
            tcp.write_all(b"1\r\nx\r\n").await.unwrap();
            // the pace of the pieces is what is tested
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tcp.write_all(b"0\r\n\r\n").await.unwrap();
        parts(&mut tcp, b"\r\n\r\n").await;
    }
    let most = serving.await.unwrap();
    assert!(most >= PIECES * 3 / 4, "{PIECES} pieces came in {most} parts");
}
