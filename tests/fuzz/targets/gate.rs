//! What clients send, on its way through hyper and the gate: whatever the gate lets through is one
//! plain request, the same one for a strict reader of the same bytes, its body too; and the request
//! behind it begins where that reader says.
//!
//! Input: four sizes of pieces, then the bytes of a connection.
#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::{io, mem};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Collected, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tidegate::listen::head::HeadTrail;
use tidegate::pipeline::gate::{self, Bounds, Cleared};
use tidegate_fuzz::dice::pieces;
use tidegate_fuzz::http1::{self as strict, Body};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const BOUNDS: Bounds =
    Bounds { max_head: 32 << 10, max_headers: 100, max_target: 8 << 10, max_body: 32 << 20 };
/// More than hyper ever needs for so few bytes.
const POLLS: usize = 10_000;

fuzz_target!(|input: &[u8]| {
    let Some((sizes, sent)) = input.split_first_chunk::<4>() else { return };
    let trail = Rc::new(RefCell::new(HeadTrail::new()));
    let passed = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let facts = trail.borrow_mut().take();
        let (parts, body) = request.into_parts();
        let passed = Rc::clone(&passed);
        async move {
            let mut answer = Response::new(Empty::<Bytes>::new());
            if let Ok(cleared) = gate::check(&parts, facts, &BOUNDS) {
                canonical(&parts, &cleared);
                let body = body.collect().await.ok().map(Collected::to_bytes);
                passed.borrow_mut().push((parts, body));
            } else {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let pieces = pieces(sent, sizes);
    let io = TokioIo::new(Client { pieces, trail: Rc::clone(&trail) });
    // as the door sets it
    let mut connection = pin!(
        http1::Builder::new()
            .keep_alive(true)
            .half_close(false)
            .max_buf_size(64 << 10)
            .pipeline_flush(false)
            .serve_connection(io, service)
    );
    let mut context = Context::from_waker(Waker::noop());
    let ended = (0..POLLS).any(|_| connection.as_mut().poll(&mut context).is_ready());
    assert!(ended, "a connection whose client has gone does not end");
    same(&passed.take(), sent);
});

/// What was let through, one after the other, is what a strict reader reads.
fn same(passed: &[(Parts, Option<Bytes>)], sent: &[u8]) {
    let mut at = 0;
    let mut more = passed.iter();
    while let Some((parts, body)) = more.next() {
        let read = strict::request(&sent[at..]);
        let Some(read) = read else {
            panic!("a strict reader finds no request at {at}: {parts:?}");
        };
        assert_eq!(parts.method.as_str(), read.method);
        if let Some(target) = parts.uri.path_and_query().filter(|_| parts.uri.authority().is_none())
        {
            assert_eq!(target.as_str(), read.target);
        }
        let mut fields: Vec<_> = parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect();
        let mut expected = read.fields;
        fields.sort();
        expected.sort();
        assert_eq!(fields, expected);
        let (Some(body), Body::Whole(expected)) = (body, read.body) else {
            // it broke off, or one of the two is stricter (hyper takes any byte in a trailer): then
            // nobody knows where the next request begins, and there may be none
            assert!(more.next().is_none(), "a request behind a broken body");
            return;
        };
        assert_eq!(body, &expected);
        at += read.used;
    }
}

/// What may be matched and forwarded.
fn canonical(parts: &Parts, cleared: &Cleared<'_>) {
    let path = &cleared.path;
    let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    assert!(graphic(path) && cleared.query.is_none_or(graphic), "{path:?} {:?}", cleared.query);
    assert!(!path.contains(['#', '?', '\\']) && !path.contains("//"), "{path}");
    assert_eq!(cleared.asterisk, path == "*");
    if !cleared.asterisk {
        assert!(path.starts_with('/'), "{path}");
        assert_eq!(gate::normalise(path).as_deref(), Ok(&**path), "a second pass changes it");
        let escaped = path.to_ascii_lowercase();
        for bad in ["%2f", "%5c", "%2e", "%00", "%0a", "%0d"] {
            assert!(!escaped.contains(bad), "{path}");
        }
        let dots = |segment: &str| [".", ".."].contains(&segment.split(';').next().unwrap_or(""));
        assert!(!path.split('/').any(dots), "{path}");
    }
    let headers = &parts.headers;
    let count = |name: &str| headers.get_all(name).iter().count();
    let hosts = count("host");
    assert!(hosts == 1 || hosts == 0 && parts.version == Version::HTTP_10, "{hosts} hosts");
    let framings = (count("content-length"), count("transfer-encoding"));
    assert!([(0, 0), (1, 0), (0, 1)].contains(&framings), "{framings:?}");
    for once in ["authorization", "x-api-key", "content-type", "x-agent-id"] {
        assert!(count(once) <= 1, "{once}");
    }
    stripped(headers, cleared);
}

/// The headers as they go upstream.
fn stripped(headers: &HeaderMap, cleared: &Cleared<'_>) {
    let mut out = headers.clone();
    gate::strip_request(&mut out, cleared.upgrade);
    let upgrade = ["connection", "upgrade"];
    for name in out.keys().map(http::HeaderName::as_str) {
        let hop = [
            "connection",
            "upgrade",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "content-length",
            "expect",
            "forwarded",
            "http2-settings",
        ];
        let of_upgrade = cleared.upgrade.is_some() && upgrade.contains(&name);
        assert!(!hop.contains(&name) || of_upgrade, "{name} goes upstream");
        let prefixed = ["proxy-", "x-tidegate-", "x-forwarded-"];
        assert!(!prefixed.iter().any(|prefix| name.starts_with(prefix)), "{name} goes upstream");
    }
    // what says who asks is not lost on a client's word
    for kept in ["host", "authorization", "x-api-key", "content-type"] {
        assert_eq!(
            out.get_all(kept).iter().count(),
            headers.get_all(kept).iter().count(),
            "{kept}"
        );
    }
}

/// The client's side: what it sent in pieces, and then its end. The trail sees it as the door's does.
struct Client<'s> {
    pieces: Vec<&'s [u8]>,
    trail: Rc<RefCell<HeadTrail>>,
}

impl AsyncRead for Client<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.pieces.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let piece = mem::take(&mut self.pieces[0]);
        let (now, later) = piece.split_at(piece.len().min(buf.remaining()));
        buf.put_slice(now);
        self.trail.borrow_mut().feed(now);
        if later.is_empty() {
            self.pieces.remove(0);
        } else {
            self.pieces[0] = later;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
