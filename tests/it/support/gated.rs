//! A server with the request gate in front and an origin that only remembers what reached it.
//!
//! The one seam to the program is [`start_gated`]; what it gives back is all that tests use.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tidegate::listen::head::{HeadTrail, replace_bare_error};
use tidegate::pipeline::gate::{self, Bounds, FaultKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// The bounds that the server holds.
pub const BOUNDS: Bounds =
    Bounds { max_head: 32 * 1024, max_headers: 100, max_target: 8 * 1024, max_body: 64 * 1024 };

/// A request as the origin would get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, sorted.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What reached the origin, in order.
#[derive(Clone, Default)]
pub struct OriginLog(Arc<Mutex<Vec<Forwarded>>>);

impl OriginLog {
    /// Everything since the last call.
    pub fn take(&self) -> Vec<Forwarded> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Starts the server on a free port of the loopback; it lives as long as the test's runtime.
pub async fn start_gated() -> (SocketAddr, OriginLog) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let log = OriginLog::default();
    let origin = log.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(connection(socket, origin.clone()));
        }
    });
    (addr, log)
}

async fn connection(socket: TcpStream, origin: OriginLog) {
    let trail = Arc::new(Mutex::new(HeadTrail::new()));
    let io = Watched { io: socket, trail: trail.clone(), calls: Arc::new(Mutex::new(0)) };
    let calls = io.calls.clone();
    let service = hyper::service::service_fn(move |request| {
        // while the parser hands over the request, not later
        let facts = trail.lock().take();
        *calls.lock() += 1;
        let (calls, origin) = (calls.clone(), origin.clone());
        async move {
            let reply = answer(request, facts, &origin).await;
            *calls.lock() -= 1;
            Ok::<_, Infallible>(reply)
        }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().max_buf_size(2 * BOUNDS.max_head);
    // a connection that breaks is the client's business
    let _ = server.serve_connection_with_upgrades(TokioIo::new(io), service).await;
}

async fn answer(
    request: Request<Incoming>,
    facts: gate::HeadFacts,
    origin: &OriginLog,
) -> Response<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    let cleared = match gate::check(&head, facts, &BOUNDS) {
        Ok(cleared) => cleared,
        Err(fault) => return refusal(fault.kind(), &fault.message(), fault.closes()),
    };
    if cleared.asterisk {
        return reply(204, "", false);
    }
    let target = match cleared.query {
        Some(query) => format!("{}?{query}", cleared.path),
        None => cleared.path.clone().into_owned(),
    };
    let upgrade = cleared.upgrade;
    let body = match Limited::new(body, BOUNDS.max_body as usize).collect().await {
        Ok(body) => body.to_bytes().to_vec(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return refusal(FaultKind::TooLarge, "the request body is too large", true);
        }
        Err(_) => return refusal(FaultKind::BadRequest, "the request body is malformed", true),
    };
    gate::strip_request(&mut head.headers, upgrade);
    let mut headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    headers.sort();
    let method = head.method.to_string();
    origin.0.lock().push(Forwarded { method, target, headers, body });
    reply(200, "{}", false)
}

fn refusal(kind: FaultKind, message: &str, closes: bool) -> Response<Full<Bytes>> {
    let status = match kind {
        FaultKind::BadRequest => 400,
        FaultKind::MethodNotAllowed => 405,
        FaultKind::TooLarge => 413,
        FaultKind::UriTooLong => 414,
        FaultKind::HeadersTooLarge => 431,
        FaultKind::ExpectationFailed => 417,
    };
    reply(status, &error_body(message), closes)
}

fn error_body(message: &str) -> String {
    serde_json::json!({ "error": { "message": message } }).to_string()
}

fn reply(status: u16, body: &str, closes: bool) -> Response<Full<Bytes>> {
    let mut builder = Response::builder().status(status).header("content-type", "application/json");
    if closes {
        builder = builder.header("connection", "close");
    }
    builder.body(Full::from(body.to_owned())).expect("a reply")
}

/// Shows every byte that is read to the trail, and gives bare errors a body.
struct Watched {
    io: TcpStream,
    trail: Arc<Mutex<HeadTrail>>,
    /// Calls that run.
    calls: Arc<Mutex<usize>>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.trail.lock().feed(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if *self.calls.lock() == 0 {
            let replaced = replace_bare_error(bytes, self.trail.lock().last(), |error| {
                Bytes::from(error_body(error.message))
            });
            if let Some(answer) = replaced {
                // a few hundred bytes always fit into the buffer of a fresh loopback socket
                let sent = self.io.try_write(&answer)?;
                assert_eq!(sent, answer.len());
                return Poll::Ready(Ok(bytes.len()));
            }
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
