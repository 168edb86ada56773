//! HTTP/2 on both sides, with its frames in hand: a client, and a backend that resets and goes away.
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::PATIENCE;
use super::app::AGENT_KEY;

/// One connection of a client.
pub struct Client {
    send: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Why the stream was reset, if it did not end by itself.
    pub reset: Option<Reason>,
}

impl Client {
    /// By prior knowledge, on cleartext.
    pub async fn connect(to: SocketAddr) -> Self {
        let io = TcpStream::connect(to).await.expect("the server listens");
        io.set_nodelay(true).expect("a TCP option");
        // of small frames that nobody has read yet a connection takes a hundred by default, and a test
        // under load reads late
        let mut builder = h2::client::Builder::new();
        builder.data_frame_budget(16 << 20);
        let (send, connection) = builder.handshake(io).await.expect("a handshake");
        let connection = tokio::spawn(async move {
            // its end is seen by its streams
            let _ = connection.await;
        });
        Self { send, connection }
    }

    /// Begins a call; its body follows on the stream.
    pub async fn begin(
        &self,
        target: &str,
        lines: &[(&str, &str)],
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::post(format!("http://sidecar.test{target}"))
            .header("authorization", format!("Bearer {AGENT_KEY}"));
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let mut send = self.send.clone().ready().await.expect("room for a stream");
        send.send_request(request, ends).expect("it is sent")
    }

    /// A POST that the simulator answers as `script` says.
    pub async fn post(&self, target: &str, script: &str, body: &str) -> ResponseFuture {
        let lines: &[_] = if script.is_empty() { &[] } else { &[("x-simulate", script)] };
        let (response, mut stream) = self.begin(target, lines, false).await;
        stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).expect("it is sent");
        response
    }

    pub async fn get(&self, target: &str) -> ResponseFuture {
        let request = Request::get(format!("http://sidecar.test{target}"))
            .header("authorization", format!("Bearer {AGENT_KEY}"));
        let request = request.body(()).expect("a request");
        let mut send = self.send.clone().ready().await.expect("room for a stream");
        send.send_request(request, true).expect("it is sent").0
    }

    pub async fn ask(&self, target: &str, script: &str, body: &str) -> Answer {
        finish(self.post(target, script, body).await).await
    }

    /// Ends the connection with everything on it.
    pub fn hang_up(self) {
        self.connection.abort();
    }
}

/// Reads an answer to its end.
pub async fn finish(response: ResponseFuture) -> Answer {
    let response = timeout(PATIENCE, response).await.expect("an answer in time");
    let (head, mut body) = response.expect("an answer").into_parts();
    let mut all = Vec::new();
    let reset = loop {
        match timeout(PATIENCE, body.data()).await.expect("something in time") {
            Some(Ok(data)) => {
                body.flow_control().release_capacity(data.len()).expect("capacity");
                all.extend_from_slice(&data);
            }
            Some(Err(error)) => break Some(error.reason().expect("a reset")),
            None => break None,
        }
    };
    Answer { status: head.status.as_u16(), headers: head.headers, body: all, reset }
}

/// A backend's side of one connection.
pub type Connection = h2::server::Connection<TcpStream, Bytes>;

/// Accepts connections by prior knowledge, and gives each to the script with its number.
pub async fn origin<F>(script: impl Fn(Connection, usize) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((io, _)) = listener.accept().await {
            io.set_nodelay(true).expect("a TCP option");
            let connection = h2::server::handshake(io).await.expect("a handshake");
            tokio::spawn(script(connection, number));
            number += 1;
        }
    });
    addr
}

/// Answers with a body.
pub fn reply(mut to: SendResponse<Bytes>, body: impl Into<Bytes>) {
    let head = Response::builder().header("content-type", "application/json");
    let mut stream = to.send_response(head.body(()).expect("a head"), false).expect("it is sent");
    stream.send_data(body.into(), true).expect("it is sent");
}
