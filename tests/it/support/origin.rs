//! A backend that does exactly what a test tells it to, byte by byte.
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PATIENCE;

/// A request as it reached the origin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// In order, as they were spelled.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.as_str()).collect()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    bytes: AtomicUsize,
    requests: Mutex<Vec<Request>>,
}

/// Serves each connection with the test's script.
pub struct Origin {
    pub addr: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

/// One connection, as the script has it.
pub struct Conn {
    pub io: TcpStream,
    /// 0 for the first one.
    pub number: usize,
    unread: Vec<u8>,
    seen: Arc<Seen>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.seen.open.fetch_sub(1, Relaxed);
    }
}

impl Origin {
    pub async fn start<F>(script: impl Fn(Conn) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port"), script)
    }

    /// On a socket of the test's.
    pub fn on<F>(listener: TcpListener, script: impl Fn(Conn) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let addr = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        let known = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((io, _)) = listener.accept().await {
                io.set_nodelay(true).expect("a TCP option");
                let number = known.connections.fetch_add(1, Relaxed);
                known.open.fetch_add(1, Relaxed);
                let seen = Arc::clone(&known);
                connections.spawn(script(Conn { io, number, unread: Vec::new(), seen }));
            }
        });
        Self { addr, seen, _tasks: tasks }
    }

    /// Answers every request with these bytes.
    pub async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(move |mut conn| {
            let answer = Arc::clone(&answer);
            async move {
                while conn.request().await.is_some() {
                    conn.send(&answer).await;
                }
            }
        })
        .await
    }

    /// Answers the first request with the first of them, and so on; all that come later with the
    /// last. An empty one resets the connection.
    pub async fn by_turns<A: Into<Vec<u8>>>(answers: impl IntoIterator<Item = A>) -> Self {
        let answers: Arc<[Vec<u8>]> = answers.into_iter().map(Into::into).collect();
        let turn = Arc::new(AtomicUsize::new(0));
        Self::start(move |mut conn| {
            let (answers, turn) = (Arc::clone(&answers), Arc::clone(&turn));
            async move {
                while conn.request().await.is_some() {
                    let at = turn.fetch_add(1, Relaxed).min(answers.len() - 1);
                    if answers[at].is_empty() {
                        return conn.reset();
                    }
                    conn.send(&answers[at]).await;
                }
            }
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Connections ever.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Relaxed)
    }

    /// Connections now.
    pub fn open(&self) -> usize {
        self.seen.open.load(Relaxed)
    }

    /// The requests since the last call.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.seen.requests.lock())
    }

    /// Bytes that have been read, of all connections.
    pub fn bytes(&self) -> usize {
        self.seen.bytes.load(Relaxed)
    }

    /// How many requests came and were not taken.
    pub fn requests(&self) -> usize {
        self.seen.requests.lock().len()
    }
}

impl Conn {
    async fn more(&mut self) -> bool {
        let read = self.io.read_buf(&mut self.unread).await.unwrap_or_default();
        self.seen.bytes.fetch_add(read, Relaxed);
        read > 0
    }

    /// Everything that has come and was not looked at yet, once there is something; `None` at the
    /// end of the connection.
    pub async fn some(&mut self) -> Option<Vec<u8>> {
        let there = !self.unread.is_empty() || self.more().await;
        there.then(|| std::mem::take(&mut self.unread))
    }

    /// The next request's head; its body is left to be read. It is listed without a body.
    pub async fn head(&mut self) -> Option<Request> {
        let end = loop {
            match memchr::memmem::find(&self.unread, b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if self.more().await => {}
                None => return None,
            }
        };
        let text: Vec<u8> = self.unread.drain(..end).collect();
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.trim_end().split("\r\n");
        let mut start = lines.next().expect("a request line").split(' ');
        let mut next = || start.next().unwrap_or_default().to_owned();
        let (method, target) = (next(), next());
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header line");
            (name.to_owned(), value.trim().to_owned())
        });
        let request = Request { method, target, headers: headers.collect(), body: Vec::new() };
        self.seen.requests.lock().push(request.clone());
        Some(request)
    }

    /// The next request with its body; `None` when the connection has ended before its end.
    pub async fn request(&mut self) -> Option<Request> {
        let mut request = self.head().await?;
        if request.get("transfer-encoding").is_some() {
            loop {
                let chunk = self.chunk().await?;
                if chunk.is_empty() {
                    break;
                }
                request.body.extend(chunk);
            }
        } else if let Some(length) = request.get("content-length") {
            let length: usize = length.parse().expect("a length");
            request.body = self.exact(length).await?;
        }
        let mut requests = self.seen.requests.lock();
        if let Some(last) = requests.last_mut() {
            last.body.clone_from(&request.body);
        }
        drop(requests);
        Some(request)
    }

    /// The next chunk of a request; the last is empty.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let (start, size) = loop {
            match memchr::memmem::find(&self.unread, b"\r\n") {
                Some(at) => {
                    let line = std::str::from_utf8(&self.unread[..at]).expect("a chunk's size");
                    break (at + 2, usize::from_str_radix(line, 16).expect("a chunk's size"));
                }
                None if self.more().await => {}
                None => return None,
            }
        };
        let all = self.exact(start + size + 2).await?;
        Some(all[start..start + size].to_vec())
    }

    pub async fn exact(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.unread.drain(..count).collect())
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // the sidecar may have hung up, which is for the test to judge
        let _ = self.io.write_all(bytes).await;
    }

    /// Waits until the other side has closed or reset the connection.
    pub async fn until_gone(&mut self) {
        let gone = async {
            loop {
                match self.io.read_buf(&mut self.unread).await {
                    Ok(0) => return,
                    Ok(read) => {
                        self.seen.bytes.fetch_add(read, Relaxed);
                    }
                    Err(error) => {
                        assert_ne!(error.kind(), ErrorKind::WouldBlock);
                        return;
                    }
                }
            }
        };
        timeout(PATIENCE, gone).await.expect("the other side goes in time");
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        self.io.set_zero_linger().expect("a TCP option");
    }
}

/// An address whose connections hang: its queue of connections is full.
pub async fn black_hole() -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    socket.listen(0).expect("it listens");
    let addr = socket.local_addr().expect("an address").as_socket().expect("an IP address");
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
        filling.push(stream);
    }
    (socket, filling)
}

/// An answer with a length.
pub fn whole(status: &str, lines: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{lines}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The head of a stream of events in chunks.
pub const STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// A whole stream of events, each in a chunk of its own.
pub fn stream<'e>(events: impl IntoIterator<Item = &'e str>) -> Vec<u8> {
    let chunks = events.into_iter().flat_map(chunk);
    STREAM.iter().copied().chain(chunks).chain(*b"0\r\n\r\n").collect()
}

pub fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}
