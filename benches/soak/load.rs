//! The load: clients that each make one call after the other, of kinds drawn at random.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::calls::{Ending, Kind};
use crate::http::Connection;
use crate::random::Random;

/// How many calls of each kind ended how.
pub type Tally = BTreeMap<(Kind, Ending), u64>;

const LONGEST: Duration = Duration::from_mins(1);
/// Calls at once on one connection of HTTP/2.
const AT_ONCE: u64 = 8;

/// Makes calls until the time is over; then ends its connection.
pub async fn client(to: SocketAddr, number: u64, until: Instant, tally: &RefCell<Tally>) {
    let mut random = Random::new(&[number, 7]);
    let mut kept = None;
    while Instant::now() < until {
        let kind = Kind::draw(&mut random);
        let endings = match timeout(LONGEST, call(to, kind, &mut random, &mut kept)).await {
            Ok(endings) => endings,
            Err(_) => vec![Ending::Late],
        };
        if !matches!(endings[..], [Ending::Answered(_)]) || kind == Kind::Malformed {
            kept = None;
        }
        for ending in endings {
            *tally.borrow_mut().entry((kind, ending)).or_default() += 1;
        }
        sleep(Duration::from_millis(random.between(5.0, 60.0) as u64)).await;
    }
}

async fn call(
    to: SocketAddr,
    kind: Kind,
    random: &mut Random,
    kept: &mut Option<Connection>,
) -> Vec<Ending> {
    let moment = moment();
    let request = kind.request(random, moment);
    let broken = |error: anyhow::Error| Ending::Broken(format!("{error:#}"));
    match kind {
        Kind::Multiplexed => multiplexed(to, random).await.unwrap_or_else(|e| vec![broken(e)]),
        Kind::Slow => vec![slow(to, &request).await.unwrap_or_else(broken)],
        Kind::LeaveUpload => vec![leave_upload(to, &request).await.unwrap_or_else(broken)],
        _ => vec![whole(to, kind, &request, random, kept).await.unwrap_or_else(broken)],
    }
}

/// The same for all clients, for a quarter of a second.
fn moment() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    now.as_millis() as u64 / 250
}

async fn whole(
    to: SocketAddr,
    kind: Kind,
    request: &[u8],
    random: &mut Random,
    kept: &mut Option<Connection>,
) -> anyhow::Result<Ending> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(to, 16 * 1024).await?,
    };
    let patience = Duration::from_millis(random.between(1.0, 300.0) as u64);
    let patience = if kind == Kind::LeaveWaiting { patience } else { LONGEST };
    let Ok(status) = timeout(patience, connection.send(request)).await else {
        return Ok(Ending::Left);
    };
    let status = status?;
    let mut pieces = random.between(1.0, 20.0) as u32;
    let mut tail = Tail::default();
    while connection.data(|piece| tail.add(piece)).await? {
        pieces = pieces.saturating_sub(1);
        if kind == Kind::LeaveStream && pieces == 0 {
            return Ok(Ending::Left);
        }
    }
    let ending = tail.ending(status, kind);
    // a client that hangs up now and then
    if random.chance(0.9) && matches!(ending, Ending::Answered(200)) {
        *kept = Some(connection);
    }
    Ok(ending)
}

/// The end of a body, by which it is seen to be whole.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn add(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
        if self.0.len() > 256 {
            self.0.drain(..self.0.len() - 64);
        }
    }

    fn ending(&self, status: u16, kind: Kind) -> Ending {
        let text = self.0.trim_ascii_end();
        let (object, stream) = (text.ends_with(b"}"), text.ends_with(b"[DONE]"));
        let whole = match kind {
            // it does as it likes
            Kind::Trouble => object || stream,
            _ if status == 200 && kind.streams() => stream,
            _ => object,
        };
        if whole { Ending::Answered(status) } else { Ending::Cut }
    }
}

/// Takes a stream of 200 kB by the kilobyte, with a small window.
async fn slow(to: SocketAddr, request: &[u8]) -> anyhow::Result<Ending> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut connection = Connection::over(socket.connect(to).await?, 4096);
    let status = connection.send(request).await?;
    let mut tail = Tail::default();
    while connection.data(|piece| tail.add(piece)).await? {
        sleep(Duration::from_millis(10)).await;
    }
    Ok(tail.ending(status, Kind::Slow))
}

/// Sends half of a request and goes.
async fn leave_upload(to: SocketAddr, request: &[u8]) -> anyhow::Result<Ending> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(&request[..request.len() / 2]).await?;
    sleep(Duration::from_millis(20)).await;
    Ok(Ending::Left)
}

async fn multiplexed(to: SocketAddr, random: &mut Random) -> anyhow::Result<Vec<Ending>> {
    let io = TokioIo::new(TcpStream::connect(to).await?);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    let driver = tokio::task::spawn(connection);
    let seed = random.between(0.0, 1e15) as u64;
    let one = async |number: u64| -> anyhow::Result<Ending> {
        let body = format!(
            "{{\"model\":\"sim-1\",\"seed\":{},\"messages\":[{{\"role\":\"user\",\"content\":\"h2\"}}]}}",
            seed + number
        );
        let request = hyper::Request::post(format!("http://{to}/v1/chat/completions"))
            .header("authorization", "Bearer sk-soak")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let mut sender = sender.clone();
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let mut tail = Tail::default();
        tail.add(&answer.into_body().collect().await?.to_bytes());
        Ok(tail.ending(status, Kind::Multiplexed))
    };
    let calls = (0..AT_ONCE).map(one);
    let endings = all(calls).await;
    drop(sender);
    driver.abort();
    Ok(endings
        .into_iter()
        .map(|ending| ending.unwrap_or_else(|error| Ending::Broken(format!("{error:#}"))))
        .collect())
}

/// Drives all of them at once on this task, and keeps their order.
pub async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, done) in &mut futures {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, done)| done).collect()
}
