//! The codec and hyper's own client read the same answers; where both take one, they must agree.
use std::time::Instant;

use hyper::client::conn::http1;

use super::*;

/// A valid answer, and what a client should make of it.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub bytes: Vec<u8>,
    pub body: Vec<u8>,
    /// Framed by the end of the connection.
    pub until_close: bool,
    pub says_close: bool,
}

pub(super) fn answer() -> impl Strategy<Value = Answer> {
    let interim = prop_oneof![
        4 => Just(""),
        1 => Just("HTTP/1.1 100 Continue\r\n\r\n"),
        1 => Just("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 103 X\r\n\r\n"),
    ];
    let status = prop_oneof![
        Just("200 OK"),
        Just("200"),
        Just("200 "),
        Just("201 Gemacht"),
        Just("404 Not Found"),
        Just("429 Too Many"),
        Just("503 x y z"),
        Just("299 ?")
    ];
    let lines = vec(("x-[a-z]{1,6}", "[ -~]{0,12}"), 0..6);
    let body = vec(any::<u8>(), 0..200);
    let sizes = vec(1..60_usize, 1..5);
    (interim, status, lines, body, sizes, 0..3_u8, any::<bool>()).prop_map(
        |(interim, status, lines, body, sizes, framing, says_close)| {
            let mut bytes = format!("{interim}HTTP/1.1 {status}\r\n").into_bytes();
            for (name, value) in lines {
                bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
            if says_close {
                bytes.extend_from_slice(b"Connection: close\r\n");
            }
            match framing {
                0 => {
                    let line = format!("Content-Length: {}\r\n\r\n", body.len());
                    bytes.extend_from_slice(line.as_bytes());
                    bytes.extend_from_slice(&body);
                }
                1 => {
                    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                    chunks(&mut bytes, &body, &sizes);
                }
                _ => {
                    bytes.extend_from_slice(b"\r\n");
                    bytes.extend_from_slice(&body);
                }
            }
            Answer { bytes, body, until_close: framing == 2, says_close }
        },
    )
}

fn chunks(out: &mut Vec<u8>, mut body: &[u8], sizes: &[usize]) {
    for size in sizes.iter().cycle() {
        if body.is_empty() {
            break;
        }
        let (piece, rest) = body.split_at((*size).min(body.len()));
        let extension = if size % 3 == 0 { ";a=b" } else { "" };
        out.extend_from_slice(format!("{:x}{extension}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        body = rest;
    }
    let trailer = if sizes.len() > 2 { "x-t: 1\r\n" } else { "" };
    out.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
}

/// What hyper's client makes of an answer.
async fn by_hyper(answer: &[u8]) -> Option<Seen> {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(answer).await.unwrap();
    far.shutdown().await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
    let call = async {
        let request = http::Request::new(http_body_util::Empty::<Bytes>::new());
        let answer = sender.send_request(request).await.ok()?;
        let (mut head, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes().to_vec();
        strip(&mut head.headers);
        Some(seen(head.status, &head.headers, body))
    };
    // the connection's task ends with the call
    tokio::select! {
        biased;
        seen = call => seen,
        () = async { let _ = connection.await; std::future::pending::<()>().await } => None,
    }
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .get_all("connection")
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|token| http::HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| name != "content-length" && name != "upgrade")
        .collect();
    let hops = [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "proxy-connection",
        "proxy-authenticate",
    ];
    for name in named.iter().map(http::HeaderName::as_str).chain(hops) {
        headers.remove(name);
    }
}

async fn by_us(answer: &[u8]) -> (Option<Seen>, bool) {
    let (mut connection, mut far) = pair();
    far.write_all(answer).await.unwrap();
    far.shutdown().await.unwrap();
    let seen = timeout(HANGS, whole(&mut connection, &Method::GET)).await.expect("it hangs");
    (seen.ok(), connection.is_reusable())
}

proptest! {
    #[test]
    fn hyper_reads_the_same(answer in answer()) {
        let (ours, theirs) =
            block_on(async { (by_us(&answer.bytes).await.0, by_hyper(&answer.bytes).await) });
        prop_assert!(ours.is_some());
        prop_assert_eq!(ours, theirs);
    }
}

/// Valid answers with a few bytes changed, taken out, doubled or moved. None may panic or hang, and
/// where both clients take one, they saw the same.
#[test]
fn mutated_answers() {
    const CASES: u32 = 10_000;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let begun = Instant::now();
    let (mut taken, mut refused) = (0_u32, 0_u32);
    let valid: Vec<Vec<u8>> = SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    block_on_long(async {
        for case in 0..CASES {
            let mut bytes = valid[random.below(valid.len())].clone();
            for _ in 0..=random.below(4) {
                random.mutate(&mut bytes);
            }
            let (ours, reusable) = by_us(&bytes).await;
            match ours {
                None => {
                    refused += 1;
                    assert!(
                        !reusable,
                        "kept after an error: {:?}",
                        String::from_utf8_lossy(&bytes)
                    );
                }
                Some(ours) => {
                    taken += 1;
                    if let Some(theirs) = by_hyper(&bytes).await {
                        assert_eq!(ours, theirs, "{case}: {:?}", String::from_utf8_lossy(&bytes));
                    }
                }
            }
            // a slow machine tries fewer
            if begun.elapsed() > Duration::from_secs(5) {
                break;
            }
        }
    });
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused: it tests nothing");
}

fn block_on_long<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

const SEEDS: [&str; 8] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-A: b\r\n\r\nhello world",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\nA\r\n0123456789\r\n0\r\nt: u\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive, x-b\r\nX-B: c\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    "HTTP/1.1 204 No Content\r\nX-C: d\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
];

/// Small and the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const TOKENS: [&[u8]; 16] = [
            b"\r\n",
            b"\n",
            b"\r",
            b"\r\n\r\n",
            b" ",
            b"\t",
            b"0\r\n\r\n",
            b":",
            b"\0",
            b"chunked",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"Connection: close\r\n",
            b"fffffff",
            b"\xff",
        ];
        let at = self.below(bytes.len().max(1)).min(bytes.len());
        match self.below(5) {
            0 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => {
                let token = TOKENS[self.below(TOKENS.len())];
                bytes.splice(at..at, token.iter().copied());
            }
            3 => bytes.truncate(at),
            _ => {
                let len = self.below(20).min(bytes.len() - at);
                let piece: Vec<u8> = bytes[at..at + len].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
        }
    }
}
