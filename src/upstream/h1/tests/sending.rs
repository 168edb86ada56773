//! Requests on their way out: framing, back-pressure, early answers, and peers that go.
use http::{HeaderName, HeaderValue, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use super::*;

/// A request body as the listener hands it over, and the client that writes it. Its first bytes are
/// in `sent`, behind a head that announces them by `framing`.
async fn upload(framing: &str, sent: &[u8]) -> (Incoming, UnixStream) {
    let (mut client, server) = UnixStream::pair().unwrap();
    let (give, take) = oneshot::channel();
    let give = std::sync::Mutex::new(Some(give));
    let service = service_fn(move |request: Request<Incoming>| {
        let give = give.lock().unwrap().take().unwrap();
        give.send(request.into_body()).unwrap();
        std::future::pending::<Result<http::Response<http_body_util::Empty<Bytes>>, io::Error>>()
    });
    tokio::spawn(async move {
        // ends with the test's runtime, or with its client
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(server), service)
            .await;
    });
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(sent).await.unwrap();
    (take.await.unwrap(), client)
}

async fn post(connection: &mut Connection, body: &mut Outgoing) -> Result<Head, Failure> {
    connection.exchange(&Method::POST, "/u", &mut HeaderMap::new(), body, &|_| {}).await
}

/// Reads from the far end until `done` holds.
async fn read_until(far: &mut UnixStream, done: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buf = vec![0; 64 * 1024];
    while !done(&got) {
        let n = far.read(&mut buf).await.unwrap();
        assert!(n > 0, "the request ended early: {:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buf[..n]);
    }
    got
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_whole_request_is_written_to_the_byte() {
    block_on(async {
        let (mut connection, mut far) = pair();
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("host"), HeaderValue::from_static("b"));
        let mut body = Outgoing::whole(Bytes::from_static(b"{}"));
        let exchange =
            connection.exchange(&Method::POST, "/v1/x?y", &mut headers, &mut body, &|_| {});
        let backend = async {
            let got = read_until(&mut far, |got| got.ends_with(b"{}")).await;
            far.write_all(OK).await.unwrap();
            got
        };
        let (head, got) = tokio::join!(exchange, backend);
        assert_eq!(head.unwrap().status, 200);
        assert_eq!(got, b"POST /v1/x?y HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\n\r\n{}");
        assert!(connection.is_reusable());
    });
}

/// A body longer than the socket's buffer, to a backend that reads late.
#[test]
fn a_long_body_waits_for_its_reader() {
    block_on(async {
        let (mut connection, mut far) = pair();
        let long = vec![b'x'; 3_000_000];
        let mut body = Outgoing::whole(Bytes::from(long.clone()));
        let backend = async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let got = read_until(&mut far, |got| got.len() > long.len()).await;
            far.write_all(OK).await.unwrap();
            got
        };
        let (head, got) = tokio::join!(post(&mut connection, &mut body), backend);
        assert_eq!(head.unwrap().status, 200);
        assert!(
            got.ends_with(&long)
                && got.starts_with(b"POST /u HTTP/1.1\r\ncontent-length: 3000000\r\n")
        );
        assert!(connection.is_reusable());
    });
}

/// Chunks are framed anew, empty ones left out, trailers dropped; a known length stays one.
#[test]
fn uploads_are_framed_after_what_the_client_announced() {
    block_on(async {
        for (framing, sent, length, want) in [
            (
                "transfer-encoding: chunked",
                &b"3;x=y\r\nabc\r\n00A\r\n0123456789\r\n0\r\nx-t: u\r\n\r\n"[..],
                None,
                "POST /u HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nabc0123456789",
            ),
            (
                "content-length: 5",
                b"hello",
                Some(5),
                "POST /u HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
            ),
        ] {
            let (incoming, _client) = upload(framing, sent).await;
            let (mut connection, mut far) = pair();
            let mut body = Outgoing::streaming(incoming, length);
            let backend = async {
                let end: &[u8] = if length.is_none() { b"\r\n0\r\n\r\n" } else { b"hello" };
                let got = read_until(&mut far, |got| got.ends_with(end)).await;
                far.write_all(OK).await.unwrap();
                got
            };
            let (head, got) = tokio::join!(post(&mut connection, &mut body), backend);
            assert_eq!(head.unwrap().status, 200);
            let got = String::from_utf8(got).unwrap();
            let got = if length.is_none() { unchunked(&got) } else { got };
            assert_eq!(got, want);
            assert!(connection.is_reusable() && !body.rewind());
        }
    });
}

/// Head and data of a chunked request; asserts that each chunk is what its line says.
fn unchunked(got: &str) -> String {
    let (head, mut rest) = got.split_once("\r\n\r\n").unwrap();
    let mut data = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        assert_eq!(&after[size..size + 2], "\r\n");
        if size == 0 {
            assert_eq!(after, "\r\n");
            return format!("{head}\r\n\r\n{data}");
        }
        data.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
}

/// The head goes out although the body has not begun to come, and who is waited for is told.
#[test]
fn the_head_does_not_wait_for_a_slow_body() {
    block_on(async {
        let (incoming, mut client) = upload("content-length: 4", b"").await;
        let (mut connection, mut far) = pair();
        let mut body = Outgoing::streaming(incoming, Some(4));
        let stages = RefCell::new(Vec::new());
        let progress = |stage| stages.borrow_mut().push(stage);
        let mut headers = HeaderMap::new();
        let exchange = connection.exchange(&Method::POST, "/u", &mut headers, &mut body, &progress);
        let backend = async {
            read_until(&mut far, |got| got.ends_with(b"\r\n\r\n")).await;
            for piece in [b"ab", b"cd"] {
                client.write_all(piece).await.unwrap();
                read_until(&mut far, |got| got == piece).await;
            }
            far.write_all(OK).await.unwrap();
        };
        let (head, ()) = tokio::join!(exchange, backend);
        assert_eq!(head.unwrap().status, 200);
        let stages = stages.into_inner();
        assert!(stages.contains(&Stage::Reading), "the client was waited for: {stages:?}");
        assert_eq!(stages.last(), Some(&Stage::FirstByte), "then the backend: {stages:?}");
    });
}

/// 413 before the body is whole: the answer is read, the rest is not sent, the connection is spent.
#[test]
fn an_early_no_ends_the_upload() {
    block_on(async {
        let (incoming, mut client) = upload("content-length: 1000", b"part").await;
        let (mut connection, mut far) = pair();
        let mut body = Outgoing::streaming(incoming, Some(1000));
        let backend = async {
            read_until(&mut far, |got| got.ends_with(b"part")).await;
            far.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig").await.unwrap();
        };
        let (head, ()) = tokio::join!(post(&mut connection, &mut body), backend);
        assert_eq!(head.unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);
        client.write_all(&[b'y'; 996]).await.unwrap();
        assert_eq!(body_of(&mut connection).await.unwrap(), b"big");
        assert!(!connection.is_reusable());
        drop(connection);
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "sent on after the no");
    });
}

/// A backend that begins to answer while it still reads gets the rest of the request.
#[test]
fn an_early_yes_lets_the_upload_go_on() {
    block_on(async {
        let (incoming, mut client) = upload("content-length: 8", b"part").await;
        let (mut connection, mut far) = pair();
        let mut body = Outgoing::streaming(incoming, Some(8));
        let backend = async {
            read_until(&mut far, |got| got.ends_with(b"part")).await;
            far.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
                .await
                .unwrap();
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            client.write_all(b"rest").await.unwrap();
            read_until(&mut far, |got| got == b"rest").await;
            far.write_all(b"1\r\nb\r\n0\r\n\r\n").await.unwrap();
        };
        let call = async {
            assert_eq!(post(&mut connection, &mut body).await.unwrap().status, 200);
            body_of(&mut connection).await
        };
        let (got, ()) = tokio::join!(call, backend);
        assert_eq!(got.unwrap(), b"ab");
        assert!(connection.is_reusable());
    });
}

/// An answer that ends before its request does: it counts, the connection does not.
#[test]
fn an_answer_may_end_first_and_spends_the_connection() {
    block_on(async {
        let (incoming, _client) = upload("content-length: 8", b"part").await;
        let (mut connection, mut far) = pair();
        let mut body = Outgoing::streaming(incoming, Some(8));
        far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        assert_eq!(post(&mut connection, &mut body).await.unwrap().status, 200);
        assert_eq!(body_of(&mut connection).await.unwrap(), b"ok");
        assert!(!connection.is_reusable());
    });
}

/// The client goes in the middle of its upload, before the head and behind it.
#[test]
fn a_client_that_breaks_its_upload_ends_the_call() {
    block_on(async {
        let (incoming, client) = upload("content-length: 8", b"part").await;
        let (mut connection, mut far) = pair();
        let mut body = Outgoing::streaming(incoming, Some(8));
        let backend = async {
            read_until(&mut far, |got| got.ends_with(b"part")).await;
            drop(client);
        };
        let (head, ()) = tokio::join!(post(&mut connection, &mut body), backend);
        let failure = head.unwrap_err();
        assert!(matches!(failure.error, H1Error::RequestBody(_)) && !failure.answered);
        assert!(!body.rewind(), "part of it is gone");

        let (incoming, client) = upload("content-length: 8", b"part").await;
        let (mut connection, mut far) = pair();
        let mut body = Outgoing::streaming(incoming, Some(8));
        far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await.unwrap();
        assert_eq!(post(&mut connection, &mut body).await.unwrap().status, 200);
        drop(client);
        assert!(matches!(body_of(&mut connection).await, Err(H1Error::RequestBody(_))));
        assert!(!connection.is_reusable());
    });
}

/// The backend answers and closes without reading: the answer is found behind the broken pipe.
#[test]
fn an_answer_is_found_behind_a_failed_write() {
    block_on(async {
        let (mut connection, mut far) = pair();
        far.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
        drop(far);
        let mut body = Outgoing::whole(Bytes::from(vec![b'x'; 100_000]));
        assert_eq!(post(&mut connection, &mut body).await.unwrap().status, 401);
        assert_eq!(body_of(&mut connection).await.unwrap(), b"no");
        assert!(!connection.is_reusable());
    });
}

/// No answer behind it: lost without a byte, and the body can be sent once more, from its start.
#[test]
fn a_backend_that_is_gone_is_an_error_that_allows_another_try() {
    block_on(async {
        let (mut connection, far) = pair();
        drop(far);
        let mut body = Outgoing::whole(Bytes::from_static(b"again"));
        let failure = post(&mut connection, &mut body).await.unwrap_err();
        assert!(matches!(failure.error, H1Error::Io(_) | H1Error::Closed) && !failure.answered);
        assert!(failure.unsent && body.rewind());

        // it has read the call: nobody knows what it has made of it
        let (mut connection, mut far) = pair();
        let backend = async {
            read_until(&mut far, |got| got.ends_with(b"again")).await;
            drop(far);
        };
        let (failure, ()) = tokio::join!(post(&mut connection, &mut body), backend);
        let failure = failure.unwrap_err();
        assert!(!failure.unsent && !failure.answered && body.rewind());

        let (mut connection, mut far) = pair();
        let backend = async {
            let got = read_until(&mut far, |got| got.ends_with(b"again")).await;
            far.write_all(OK).await.unwrap();
            got
        };
        let (head, got) = tokio::join!(post(&mut connection, &mut body), backend);
        assert!(head.is_ok() && got.ends_with(b"content-length: 5\r\n\r\nagain"));
    });
}

/// An upload that nobody has read from can still be sent again.
#[test]
fn an_upload_that_has_not_begun_can_be_sent_again() {
    block_on(async {
        let (incoming, _client) = upload("content-length: 4", b"").await;
        let (mut connection, far) = pair();
        drop(far);
        let mut body = Outgoing::streaming(incoming, Some(4));
        let failure = post(&mut connection, &mut body).await.unwrap_err();
        assert!(!failure.answered && body.rewind());
    });
}
