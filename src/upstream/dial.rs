//! One TCP connection to whichever address answers: Happy Eyeballs (RFC 8305).
//!
//! The addresses are tried in the order given, a new one every 250 ms or as soon as one fails;
//! the first connection wins and the others are dropped. No task is spawned: all attempts live
//! in the caller's future, and end with it.
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

/// RFC 8305, section 5: "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);

/// A peer that is gone is noticed on an idle connection after 30 s + 3 × 10 s.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// How long sent bytes may stay unacknowledged, or unsent before a window that stays shut: Linux
/// counts both. So this bounds an upload that the backend does not read, too.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connects to the first of `addresses` that answers. The caller bounds the time.
pub(super) async fn dial(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    if let [only] = addresses {
        return Ok((open(*only).await?, *only));
    }
    let mut waiting = addresses.iter().copied();
    let mut running: Vec<(SocketAddr, Attempt)> = Vec::with_capacity(addresses.len());
    let mut failure: Option<io::Error> = None;
    loop {
        if let Some(address) = waiting.next() {
            running.push((address, Box::pin(open(address))));
        } else if running.is_empty() {
            let none = || io::Error::new(io::ErrorKind::NotFound, "no address to connect to");
            return Err(failure.unwrap_or_else(none));
        }
        let outcome = if waiting.len() == 0 {
            first(&mut running).await
        } else {
            match tokio::time::timeout(STAGGER, first(&mut running)).await {
                Ok(outcome) => outcome,
                Err(_) => continue,
            }
        };
        match outcome {
            Ok(connected) => return Ok(connected),
            Err(error) if failure.as_ref().is_none_or(tells_little) => failure = Some(error),
            Err(_) => {}
        }
    }
}

/// A family that this machine does not have says nothing about the backend.
fn tells_little(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkUnreachable)
}

/// The first attempt that ends, either way; it is taken out.
async fn first(running: &mut Vec<(SocketAddr, Attempt)>) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        for at in 0..running.len() {
            let (address, attempt) = &mut running[at];
            let address = *address;
            if let Poll::Ready(outcome) = attempt.as_mut().poll(cx) {
                drop(running.swap_remove(at));
                return Poll::Ready(outcome.map(|stream| (stream, address)));
            }
        }
        Poll::Pending
    })
    .await
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    let options = SockRef::from(&socket);
    options.set_tcp_keepalive(&KEEPALIVE)?;
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    options.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.connect(address).await
}

#[cfg(test)]
mod tests;
