use std::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

/// What hyper writes for a head that is no HTTP.
const BARE: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sun\r\n\r\n";

fn pair() -> (WatchedIo, Arc<Watch>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let watch = Arc::new(Watch::new(Arc::default()));
    (WatchedIo::new(Stream::Unix(near), Arc::clone(&watch)), watch, far)
}

fn paused<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Writes until the socket takes no more, and says how much that was.
async fn fill(io: &mut WatchedIo) -> usize {
    let junk = [b'x'; 4096];
    let mut written = 0;
    loop {
        let step = poll_fn(|cx| Poll::Ready(Pin::new(&mut *io).poll_write(cx, &junk))).await;
        match step {
            Poll::Ready(n) => written += n.unwrap(),
            Poll::Pending => return written,
        }
    }
}

async fn read_all(mut far: UnixStream) -> Vec<u8> {
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    got
}

#[test]
fn a_bare_error_gets_a_body_in_the_dialect_of_the_path() {
    paused(async {
        let (mut io, watch, far) = pair();
        watch.read(b"POST /v1/messages HTTP/1.1\r\nbad line\r\n\r\n");
        io.write_all(BARE).await.unwrap();
        drop(io);
        let got = String::from_utf8(read_all(far).await).unwrap();
        let (head, body) = got.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains("\r\nx-tidegate-source: policy"));
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
        assert_eq!(head.matches("content-length").count(), 1);
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (json["type"].as_str(), json["error"]["type"].as_str()),
            (Some("error"), Some("invalid_request_error"))
        );
    });
}

/// The socket is full: the answer waits, and what was asked to be written is what was written.
#[test]
fn a_bare_error_waits_for_room() {
    paused(async {
        let (mut io, watch, mut far) = pair();
        watch.read(b"nonsense\r\n\r\n");
        let before = fill(&mut io).await;
        let write = |io: &mut WatchedIo| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            Pin::new(io).poll_write(&mut cx, BARE)
        };
        assert!(write(&mut io).is_pending());
        assert!(write(&mut io).is_pending());
        let mut junk = vec![0; before];
        far.read_exact(&mut junk).await.unwrap();
        let written = poll_fn(|cx| Pin::new(&mut io).poll_write(cx, BARE)).await.unwrap();
        assert_eq!(written, BARE.len());
        drop(io);
        let got = String::from_utf8(read_all(far).await).unwrap();
        assert_eq!(got.matches("HTTP/1.1 400 Bad Request\r\n").count(), 1);
        assert!(got.ends_with('}'), "{got}");
    });
}

/// Only hyper's own error is replaced: not a call's answer, not one of ours, not a success.
#[test]
fn other_answers_are_left_alone() {
    let ours = b"HTTP/1.1 400 Bad Request\r\nx-tidegate-request-id: r\r\ncontent-length: 0\r\n\r\n";
    let fine = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for (busy, bytes) in [(true, BARE), (false, &ours[..]), (false, &fine[..])] {
        paused(async {
            let (mut io, watch, far) = pair();
            let _call = busy.then(|| watch.begin_call());
            io.write_all(bytes).await.unwrap();
            drop(io);
            assert_eq!(read_all(far).await, bytes);
        });
    }
}

#[test]
fn a_client_that_does_not_read_is_seen() {
    paused(async {
        let (mut io, watch, mut far) = pair();
        assert!(!watch.is_stalled());
        let filled = fill(&mut io).await;
        assert!(watch.is_stalled());
        let mut junk = vec![0; filled];
        far.read_exact(&mut junk).await.unwrap();
        io.write_all(b"more").await.unwrap();
        assert!(!watch.is_stalled());
    });
}

/// After an answer to a body that is still coming, the client's bytes are read for a while, so that
/// it can see the answer; not forever, and not without bound.
#[test]
fn a_closing_connection_lingers_within_bounds() {
    let announced = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n";
    // nothing is owed: it ends at once
    paused(async {
        let (mut io, _watch, _far) = pair();
        let begun = Instant::now();
        io.shutdown().await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(10));
    });
    // the client keeps silent
    paused(async {
        let (mut io, watch, _far) = pair();
        watch.read(announced);
        let begun = Instant::now();
        io.shutdown().await.unwrap();
        let took = begun.elapsed();
        assert!(took >= LINGER && took < 2 * LINGER, "{took:?}");
    });
    // the client reads the answer's end and goes
    paused(async {
        let (mut io, watch, mut far) = pair();
        watch.read(announced);
        let begun = Instant::now();
        let client = async {
            far.write_all(&vec![b'x'; 100_000]).await.unwrap();
            assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
            drop(far);
        };
        let (ended, ()) = tokio::join!(io.shutdown(), client);
        ended.unwrap();
        assert!(begun.elapsed() < LINGER);
    });
    // the client sends on and on
    paused(async {
        let (mut io, watch, mut far) = pair();
        watch.read(announced);
        let sent = std::cell::Cell::new(0);
        let client = async {
            let piece = vec![b'x'; 64 * 1024];
            while far.write_all(&piece).await.is_ok() {
                sent.set(sent.get() + piece.len());
                if sent.get() > 2 * LINGER_BYTES {
                    break;
                }
            }
        };
        let server = async {
            io.shutdown().await.unwrap();
            drop(io);
        };
        tokio::join!(server, client);
        assert!(sent.get() >= LINGER_BYTES / 2 && sent.get() < 2 * LINGER_BYTES, "{}", sent.get());
    });
}
