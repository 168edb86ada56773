//! Uploads to backends that speak HTTP/2, where other calls share the connection: what the client does
//! wrong is the client's, and a body that is on its way is no silence.
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use super::super::{SAID, UPLOAD, after, ask, limited};
use crate::support::PATIENCE;
use crate::support::app::{AGENT_KEY, App};
use crate::support::client::{Client, End, post, request};
use crate::support::h2::{Connection, origin, reply};

const ALWAYS: &str = "http2: always,";
/// How late a deadline may be: what sweeps are apart, and a machine that is busy with other tests.
const LATE: Duration = Duration::from_secs(5);

/// How a body ended: its length, or the reset of its stream.
type Ended = Result<usize, Reason>;

/// What the backend is to do with an upload.
#[derive(Clone, Copy)]
enum Reads {
    /// Answers when it has all of it.
    All,
    /// Begins to answer at once.
    AnswersFirst,
    /// Takes no more than its window.
    Nothing,
}

struct Backend {
    url: String,
    ended: UnboundedReceiver<Ended>,
    over: Arc<Notify>,
}

impl Backend {
    async fn start(reads: Reads) -> Self {
        let (tell, ended) = unbounded_channel();
        let over = Arc::new(Notify::new());
        let leaves = Arc::clone(&over);
        let addr = origin(move |mut connection: Connection, _| {
            let (tell, leaves) = (tell.clone(), Arc::clone(&leaves));
            async move {
                while let Some(Some(Ok((request, to)))) = tokio::select! {
                    next = connection.accept() => Some(next),
                    () = leaves.notified() => None,
                } {
                    tokio::spawn(serve(reads, request, to, tell.clone()));
                }
            }
        })
        .await;
        Self { url: format!("http://{addr}"), ended, over }
    }

    /// How the next body ended.
    async fn ended(&mut self) -> Ended {
        timeout(PATIENCE, self.ended.recv()).await.expect("it ends in time").expect("it is told")
    }

    /// Ends its connections, and checks what must hold then.
    async fn over(&self, app: &App, calls: &[(u16, &str)]) {
        app.lines(calls.len()).await;
        assert_eq!(app.pool("dialled"), 1, "the connection has served all of them");
        self.over.notify_waiters();
        after::over(app, calls).await;
    }
}

async fn serve(
    reads: Reads,
    request: Request<RecvStream>,
    mut to: h2::server::SendResponse<Bytes>,
    tell: UnboundedSender<Ended>,
) {
    let mut body = request.into_body();
    match reads {
        Reads::All => {
            let ended = read(&mut body).await;
            if ended.is_ok() {
                reply(to, SAID);
            }
            // nobody may be listening any more
            let _ = tell.send(ended);
        }
        Reads::AnswersFirst => {
            let mut stream = to.send_response(Response::new(()), false).unwrap();
            stream.send_data("so ".into(), false).unwrap();
            let ended = read(&mut body).await;
            if ended.is_ok() {
                stream.send_data("far".into(), true).unwrap();
            }
            let _ = tell.send(ended);
        }
        Reads::Nothing => {
            let reason = std::future::poll_fn(|cx| to.poll_reset(cx)).await;
            let _ = tell.send(Err(reason.unwrap()));
        }
    }
}

async fn read(body: &mut RecvStream) -> Ended {
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| error.reason().expect("a reset"))?;
        body.flow_control().release_capacity(data.len()).expect("capacity");
        length += data.len();
    }
    Ok(length)
}

/// The head and the first chunk of an upload whose length nobody knows.
fn chunks() -> Vec<u8> {
    format!(
        "POST {UPLOAD} HTTP/1.1\r\nhost: sidecar.test\r\nauthorization: Bearer {AGENT_KEY}\r\n\
         transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn a08_body_that_stalls_on_its_way_to_http2() {
    let mut backend = Backend::start(Reads::All).await;
    let app = limited(&backend.url, ALWAYS, "server: { body_timeout: 500ms }\n");
    let whole = post(UPLOAD, "", &"x".repeat(1000));
    for start in [&whole[..whole.len() - 500], &chunks()] {
        let mut client = Client::connect(app.addr).await;
        let from = Instant::now();
        client.send(start).await;
        let got = after::told(client.answer().await);
        assert!(from.elapsed() >= Duration::from_millis(500) && from.elapsed() < LATE);
        assert_eq!((got.status, got.end), (408, End::Whole));
        assert!(got.text().contains("stopped arriving"), "{}", got.text());
        assert!(client.is_closed().await);
        assert_eq!(backend.ended().await, Err(Reason::CANCEL));
    }
    assert_eq!(ask(&app, &whole).await.status, 200);
    let line = (408, "deadline_body");
    backend.over(&app, &[line, line, (200, "complete")]).await;
}

/// A body that comes byte by byte is never silent, and holds a stream all the same.
#[tokio::test]
async fn a08_body_that_drips_on_its_way_to_http2() {
    let mut backend = Backend::start(Reads::All).await;
    let app = limited(&backend.url, ALWAYS, "server: { body_timeout: 1s }\n");
    let whole = post(UPLOAD, "", &"x".repeat(1000));
    let (start, rest) = whole.split_at(whole.len() - 1000);
    let mut client = Client::connect(app.addr).await;
    let from = Instant::now();
    client.send(start).await;
    for byte in rest {
        client.send(&[*byte]).await;
        // what has been said to it
        if timeout(Duration::from_millis(50), client.io.readable()).await.is_ok() {
            break;
        }
    }
    let took = from.elapsed();
    assert!(took >= Duration::from_secs(1) && took < LATE, "{took:?}");
    assert_eq!(after::told(client.answer().await).status, 408);
    assert_eq!(backend.ended().await, Err(Reason::CANCEL));
    backend.over(&app, &[(408, "deadline_body")]).await;
}

/// It takes far longer than a backend may be silent, and both framings of it arrive whole.
#[tokio::test]
async fn a08_slow_body_on_its_way_to_http2_is_no_silence() {
    let mut backend = Backend::start(Reads::All).await;
    let app = limited(&backend.url, &format!("{ALWAYS} timeouts: {{ first_byte: 500ms }},"), "");
    let whole = post(UPLOAD, "", &"x".repeat(30_000));
    let mut client = Client::connect(app.addr).await;
    let (start, rest) = whole.split_at(whole.len() - 30_000);
    client.send(start).await;
    for piece in rest.chunks(2000) {
        sleep(Duration::from_millis(100)).await;
        client.send(piece).await;
    }
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(backend.ended().await, Ok(30_000));

    let mut client = Client::connect(app.addr).await;
    client.send(&chunks()).await;
    for _ in 0..15 {
        sleep(Duration::from_millis(100)).await;
        client.send(b"2\r\nxx\r\n").await;
    }
    client.send(b"0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(backend.ended().await, Ok(35));
    backend.over(&app, &[(200, "complete"); 2]).await;
}

/// The other way about: a backend that takes no more of the body is the one that is silent.
#[tokio::test]
async fn a08_body_that_http2_does_not_take_is_not_waited_for() {
    let mut backend = Backend::start(Reads::Nothing).await;
    let more = format!("{ALWAYS} timeouts: {{ first_byte: 1s }},");
    let app = limited(&backend.url, &more, "server: { body_timeout: 300ms }\n");
    let mut client = Client::connect(app.addr).await;
    let whole = post(UPLOAD, "", &"x".repeat(200_000));
    // more than the stream's window, and not the end of it
    client.send(&whole[..whole.len() - 1000]).await;
    let got = after::told(client.answer().await);
    assert_eq!(got.status, 504, "{}", got.text());
    assert_eq!(backend.ended().await, Err(Reason::CANCEL));
    backend.over(&app, &[(504, "deadline_first_byte")]).await;
}

/// As many as would open the breaker, had they been the backend's.
#[tokio::test]
async fn bodies_that_break_are_no_fault_of_their_http2_backend() {
    let mut backend = Backend::start(Reads::All).await;
    let app = limited(&backend.url, ALWAYS, "");
    let mut calls = Vec::new();
    for _ in 0..6 {
        let mut client = Client::connect(app.addr).await;
        client.send(&[&chunks()[..], b"no length\r\n"].concat()).await;
        let got = after::told(client.answer().await);
        assert_eq!((got.status, &got.json()["error"]["code"]), (400, &"malformed_body".into()));
        assert_eq!(backend.ended().await, Err(Reason::CANCEL));
        calls.push((400, "refused"));
    }
    for _ in 0..6 {
        let mut client = Client::connect(app.addr).await;
        client.send(&chunks()).await;
        client.io.set_zero_linger().unwrap();
        sleep(Duration::from_millis(20)).await;
        drop(client);
        assert_eq!(backend.ended().await, Err(Reason::CANCEL));
        calls.push((499, "client_gone"));
    }
    let got = ask(&app, &request("POST", UPLOAD, "", "whole")).await;
    assert_eq!((got.status, got.text()), (200, SAID));
    assert_eq!(backend.ended().await, Ok(5));
    calls.push((200, "complete"));
    backend.over(&app, &calls).await;
}

/// The answer has begun, and the upload behind its head breaks.
#[tokio::test]
async fn bodies_that_break_behind_the_head_are_the_clients_as_well() {
    let mut backend = Backend::start(Reads::AnswersFirst).await;
    let app = limited(&backend.url, ALWAYS, "");
    for _ in 0..6 {
        let mut client = Client::connect(app.addr).await;
        client.send(&chunks()).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        client.send(b"no length\r\n").await;
        assert_eq!(backend.ended().await, Err(Reason::CANCEL));
        while client.chunk().await.is_ok_and(|chunk| !chunk.is_empty()) {}
        assert!(client.is_closed().await);
    }
    let got = ask(&app, &request("POST", UPLOAD, "", "whole")).await;
    assert_eq!((got.status, got.text()), (200, "so far"));
    let broken = (200, "refused");
    backend.over(&app, &[broken, broken, broken, broken, broken, broken, (200, "complete")]).await;
}
