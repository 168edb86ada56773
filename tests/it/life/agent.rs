//! An agent: hyper's own client, which tells a whole answer from one that was cut.
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tidegate::simulate::{Options, Simulator};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::child::PATIENCE;

pub type Sender = SendRequest<Full<Bytes>>;

/// A connection that is kept alive.
pub async fn connect(to: SocketAddr) -> Sender {
    let tcp = TcpStream::connect(to).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    over(tcp).await
}

pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender {
    let (sender, connection) = handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A chat call; `simulate` says how it is answered. Streamed, unless nothing is said.
pub fn chat(path: &str, simulate: &str) -> Request<Full<Bytes>> {
    let stream = !simulate.is_empty();
    let body = serde_json::json!({
        "model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": "hi"}],
    });
    Request::post(path)
        .header("host", "sidecar.test")
        .header("content-type", "application/json")
        .header("x-simulate", simulate)
        .body(Full::from(body.to_string()))
        .unwrap()
}

pub fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "localhost").body(Full::default()).unwrap()
}

pub async fn send(sender: &mut Sender, request: Request<Full<Bytes>>) -> Response<Incoming> {
    timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap()
}

/// Status and body of a call on a connection of its own.
pub async fn ask(to: SocketAddr, request: Request<Full<Bytes>>) -> (u16, String) {
    let response = send(&mut connect(to).await, request).await;
    let status = response.status().as_u16();
    (status, whole(response).await.unwrap())
}

/// The body to its end; an error when it was cut.
pub async fn whole(response: Response<Incoming>) -> Result<String, hyper::Error> {
    let body = timeout(PATIENCE, response.into_body().collect()).await.unwrap()?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// Waits for a stream's next bytes.
pub async fn next(response: &mut Response<Incoming>) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        let frame = timeout(PATIENCE, response.frame()).await.unwrap()?;
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => return Some(Ok(data)),
            Ok(Err(_)) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

/// A backend in this process.
pub fn backend() -> Simulator {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    tidegate::simulate::start(Options { listen, ..Options::default() }).unwrap()
}

/// A policy with that backend behind any path, and more lines.
pub fn policy(backend: &Simulator, more: &str) -> String {
    format!("upstreams: {{ llm: {{ dialect: openai, url: 'http://{}' }} }}\n{more}", backend.addr)
}
