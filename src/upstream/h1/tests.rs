//! The codec on a real socket, against a backend that is a script.
mod judged;
mod sending;

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::*;

/// Far longer than anything here takes: what exceeds it hangs.
const HANGS: Duration = Duration::from_secs(20);

/// What a caller saw of one answer.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: StatusCode,
    /// Sorted by name.
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

fn seen(status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Seen {
    let mut headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    Seen { status, headers, body }
}

fn pair() -> (Connection, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Connection::new(Stream::Unix(near)), far)
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(HANGS, future).await.expect("it hangs") })
}

/// One call without a body, up to its head.
async fn ask(connection: &mut Connection, method: &Method) -> Result<Head, Failure> {
    let mut body = Outgoing::whole(Bytes::new());
    connection.exchange(method, "/", &mut HeaderMap::new(), &mut body, &|_| {}).await
}

async fn body_of(connection: &mut Connection) -> Result<Vec<u8>, H1Error> {
    let mut body = Vec::new();
    while let Some(data) = std::future::poll_fn(|cx| connection.poll_data(cx)).await {
        let data = data?;
        assert!(!data.is_empty(), "an empty frame says nothing");
        body.extend_from_slice(&data);
    }
    Ok(body)
}

async fn whole(connection: &mut Connection, method: &Method) -> Result<Seen, H1Error> {
    let head = ask(connection, method).await.map_err(|failure| failure.error)?;
    let body = body_of(connection).await?;
    Ok(seen(head.status, &head.headers, body))
}

/// Sends the answer in pieces; each is read before the next is sent.
async fn send_pieces(far: &mut UnixStream, answer: &[u8], cuts: &[usize]) {
    let mut ends: Vec<usize> = cuts.to_vec();
    ends.push(answer.len());
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        if end > start {
            // an answer that is refused early is not read to its end
            if far.write_all(&answer[start..end]).await.is_err() {
                return;
            }
            start = end;
            tokio::task::yield_now().await;
        }
    }
}

/// What a call sees of an answer that comes in these pieces, and whether the connection may be used
/// again. The backend stays connected unless `close`.
fn answered(answer: &[u8], cuts: &[usize], close: bool) -> (Result<Seen, H1Error>, bool) {
    block_on(async {
        let (mut connection, mut far) = pair();
        let backend = async {
            send_pieces(&mut far, answer, cuts).await;
            if close {
                far.shutdown().await.unwrap();
            }
        };
        let (seen, ()) = tokio::join!(whole(&mut connection, &Method::GET), backend);
        (seen, connection.is_reusable())
    })
}

fn of(text: &str) -> (Result<Seen, H1Error>, bool) {
    answered(text.as_bytes(), &[], true)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Wherever reads cut an answer: the same head, the same body, the same use of the connection.
    #[test]
    fn any_reads_give_the_same_answer(
        answer in judged::answer(),
        cuts in vec(any::<Index>(), 0..10),
    ) {
        let bytes = &answer.bytes;
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        let each: Vec<usize> = (0..bytes.len()).collect();
        let (one, reusable) = answered(bytes, &[], answer.until_close);
        let (some, some_reusable) = answered(bytes, &cuts, answer.until_close);
        let (all, all_reusable) = answered(bytes, &each, answer.until_close);
        let one = one.unwrap();
        prop_assert_eq!(&one.body, &answer.body);
        prop_assert_eq!(&one, &some.unwrap());
        prop_assert_eq!(&one, &all.unwrap());
        prop_assert_eq!(reusable, !answer.until_close && !answer.says_close);
        prop_assert_eq!((reusable, reusable), (some_reusable, all_reusable));
    }
}

#[test]
fn an_answer_that_is_cut_off_is_an_error() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcd",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n",
    ] {
        let (seen, reusable) = of(text);
        assert!(matches!(seen, Err(H1Error::Closed)) && !reusable, "{text:?}");
    }
    // 32 KiB and more are read by another path
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "b".repeat(99_999));
    let (seen, reusable) = of(&long);
    assert!(matches!(seen, Err(H1Error::Closed)) && !reusable);
}

/// A failure says whether the backend had begun to answer: only then has it surely worked.
#[test]
fn a_failure_knows_whether_there_was_an_answer() {
    for (text, answered) in [
        ("", false),
        ("H", true),
        ("HTTP/1.1 200 OK\r\nContent-Le", true),
        ("HTTP/1.1 100 Continue\r\n\r\n", true),
        ("SSH-2.0-OpenSSH_9.9\r\n", true),
    ] {
        block_on(async {
            let (mut connection, mut far) = pair();
            far.write_all(text.as_bytes()).await.unwrap();
            far.shutdown().await.unwrap();
            let failure = ask(&mut connection, &Method::GET).await.unwrap_err();
            assert_eq!(failure.answered, answered, "{text:?}");
            assert_eq!(
                matches!(failure.error, H1Error::Closed),
                !text.starts_with('S'),
                "{text:?}"
            );
        });
    }
}

#[test]
fn long_answers_of_known_length_arrive_whole() {
    let body: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = [head.as_bytes(), &body].concat();
    for cuts in [vec![], vec![head.len()], vec![head.len() + 1, 70_000, 70_001, 299_000]] {
        let (seen, reusable) = answered(&answer, &cuts, false);
        assert!(seen.unwrap().body == body && reusable);
    }
}

/// Bytes behind an answer are not the next call's answer, whether they came with it or later.
#[test]
fn a_surplus_is_given_to_nobody() {
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let (seen, reusable) = answered(format!("{answer}{forged}").as_bytes(), &[], false);
        assert!(!reusable, "{answer:?}");
        assert!(seen.unwrap().body.len() <= 2);
        block_on(async {
            let (mut connection, mut far) = pair();
            far.write_all(answer.as_bytes()).await.unwrap();
            whole(&mut connection, &Method::GET).await.unwrap();
            assert!(connection.is_reusable());
            far.write_all(forged.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
            assert!(connection.is_stale(&mut Context::from_waker(std::task::Waker::noop())));
        });
    }
    // the body that a HEAD must not have
    block_on(async {
        let (mut connection, mut far) = pair();
        far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        let seen = whole(&mut connection, &Method::HEAD).await.unwrap();
        assert!(seen.body.is_empty() && !connection.is_reusable());
    });
}

/// Two calls on one connection, then a close: noticed while nothing goes on.
#[test]
fn a_connection_is_used_again_until_it_closes() {
    block_on(async {
        let (mut connection, mut far) = pair();
        let mut noop = Context::from_waker(std::task::Waker::noop());
        for body in ["a", "b"] {
            assert!(!connection.is_stale(&mut noop) && connection.is_reusable());
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{body}");
            far.write_all(answer.as_bytes()).await.unwrap();
            assert_eq!(whole(&mut connection, &Method::GET).await.unwrap().body, body.as_bytes());
        }
        drop(far);
        tokio::task::yield_now().await;
        assert!(connection.is_stale(&mut noop));
    });
}

/// The look at an idle connection leaves a waker behind that wakes nobody; the call that comes next
/// must be woken all the same.
#[test]
fn a_stale_check_takes_no_wake_up_away() {
    block_on(async {
        let (mut connection, mut far) = pair();
        for round in 0..20 {
            assert!(!connection.is_stale(&mut Context::from_waker(std::task::Waker::noop())));
            let backend = async {
                // the call waits for its head by now; whether it is woken is the question
                for _ in 0..round {
                    tokio::task::yield_now().await;
                }
                far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await.unwrap();
                for _ in 0..round {
                    tokio::task::yield_now().await;
                }
                far.write_all(b"k").await.unwrap();
            };
            // a task of its own: nothing else wakes it
            let call = tokio::task::unconstrained(whole(&mut connection, &Method::GET));
            let (seen, ()) = tokio::join!(call, backend);
            assert_eq!(seen.unwrap().body, b"ok");
        }
    });
}

/// A task that has used up its turn is told nothing about its sockets; that is no sign of quiet.
#[test]
fn a_task_without_budget_still_sees_the_surplus() {
    block_on(async {
        tokio::spawn(async {
            let (mut connection, mut far) = pair();
            far.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
            tokio::task::yield_now().await;
            while tokio::task::coop::has_budget_remaining() {
                tokio::task::coop::consume_budget().await;
            }
            assert!(connection.is_stale(&mut Context::from_waker(std::task::Waker::noop())));
        })
        .await
        .unwrap();
    });
}

#[test]
fn after_101_the_stream_is_handed_over_with_what_was_read() {
    block_on(async {
        let (mut connection, mut far) = pair();
        far.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nfirst")
            .await
            .unwrap();
        let head = ask(&mut connection, &Method::GET).await.unwrap();
        assert_eq!(head.status, StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(head.headers["upgrade"], "websocket");
        assert!(!connection.is_reusable());
        let (mut stream, left) = connection.into_upgraded();
        assert_eq!(&left[..], b"first");
        stream.write_all(b"hello").await.unwrap();
        let mut request = vec![0; 512];
        let mut got = Vec::new();
        while !got.ends_with(b"hello") {
            let n = far.read(&mut request).await.unwrap();
            got.extend_from_slice(&request[..n]);
        }
        assert_eq!(got, b"GET / HTTP/1.1\r\n\r\nhello");
    });
}
