//! What backends answer, through the HTTP/1.1 client: the same for every way to cut it, its body
//! is what its head announces, and a connection that may be used again has nothing left in it.
//!
//! Input: `h` for a call by HEAD, three sizes of pieces, the answer; behind it the backend closes.
#![no_main]

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use tidegate::io::Stream;
use tidegate::upstream::h1::{Connection, H1Error};
use tidegate::upstream::outgoing::Outgoing;
use tidegate_fuzz::dice::pieces;
use tidegate_fuzz::http1 as strict;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

/// Each costs a few system calls.
const MOST_PIECES: usize = 12;
/// Well below what is read at once.
const LONGEST: usize = 32 << 10;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
}

fuzz_target!(|input: &[u8]| {
    let Some(([head, sizes @ ..], answer)) = input.split_first_chunk::<4>() else { return };
    if answer.len() > LONGEST {
        return;
    }
    let to_head = *head == b'h';
    let mut cut = pieces(answer, sizes);
    if cut.len() > MOST_PIECES {
        let before = cut[..MOST_PIECES].iter().map(|piece| piece.len()).sum::<usize>();
        cut.truncate(MOST_PIECES);
        cut.push(&answer[before..]);
    }
    let ((whole, reusable), (parts, _)) = RUNTIME.with(|runtime| {
        runtime.block_on(async { (seen(to_head, &[answer]).await, seen(to_head, &cut).await) })
    });
    assert_eq!(whole, parts, "it hangs on the chunking");
    let Seen { status: Some(status), body, error: None } = &whole else {
        assert!(!reusable, "used again after an error");
        return;
    };
    let Some((expected, expected_body, used)) = strict::answer(answer, to_head) else {
        panic!("{status} with {} bytes, where the end is not clear", body.len());
    };
    assert_eq!((*status, body), (expected, &expected_body));
    assert!(!reusable || used == answer.len(), "used again with something left in it");
});

/// What a caller saw.
#[derive(Debug, PartialEq)]
struct Seen {
    status: Option<u16>,
    /// As far as it came.
    body: Vec<u8>,
    error: Option<&'static str>,
}

/// What a call sees of an answer that comes in these pieces, and whether the connection may be
/// used again.
async fn seen(to_head: bool, cut: &[&[u8]]) -> (Seen, bool) {
    let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
    let mut connection = Connection::new(Stream::Unix(near));
    let backend = async {
        for piece in cut {
            // one that has heard enough is gone
            if far.write_all(piece).await.is_err() {
                return;
            }
            yield_now().await;
            yield_now().await;
        }
        let _ = far.shutdown().await;
    };
    let (seen, ()) = tokio::join!(call(&mut connection, to_head), backend);
    (seen, connection.is_reusable())
}

async fn call(connection: &mut Connection, to_head: bool) -> Seen {
    let method = if to_head { Method::HEAD } else { Method::GET };
    let (mut request, mut nothing) = (HeaderMap::new(), Outgoing::whole(Bytes::new()));
    let mut seen = Seen { status: None, body: Vec::new(), error: None };
    let answered = connection.exchange(&method, "/", &mut request, &mut nothing, &|_| {}).await;
    let Ok(head) = answered else {
        // which of two errors of a head is met first is no matter
        seen.error = Some("head");
        return seen;
    };
    let hop = ["connection", "transfer-encoding", "keep-alive", "te", "trailer"];
    assert!(!hop.iter().any(|name| head.headers.contains_key(*name)), "{:?}", head.headers);
    seen.status = Some(head.status.as_u16());
    while let Some(data) = poll_fn(|cx| connection.poll_data(cx)).await {
        match data {
            Ok(data) => seen.body.extend_from_slice(&data),
            Err(error) => {
                seen.error = Some(name(&error));
                break;
            }
        }
    }
    seen
}

fn name(error: &H1Error) -> &'static str {
    match error {
        H1Error::Closed => "closed",
        H1Error::Malformed(why) => why,
        H1Error::Io(_) => "broken",
        H1Error::RequestBody(_) => "request",
    }
}
