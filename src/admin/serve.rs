//! The admin door's connections: HTTP/1.1 with every bound explicit.
use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;

use super::proof::Peer;
use super::respond::{self, Body};
use super::{Doors, Listener};

/// Requests answered at once; more are told to come back.
const MAX_REQUESTS: usize = 64;
/// Connections held; more are closed unanswered.
const MAX_CONNECTIONS: usize = 128;
/// For a head to arrive. hyper counts it from the last answer, so idle connections end with it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Then a connection ends after its current answer, so that none is held for good.
const MAX_AGE: Duration = Duration::from_mins(10);
/// For that last answer.
const LAST_ANSWER: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 64;
const MAX_BUFFER: usize = 16 * 1024;
/// After a failed `accept`, which mostly means that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin thread, from start to stop. Says through `started` whether it serves.
pub(super) fn run(
    listeners: Vec<Listener>,
    doors: Doors,
    stopped: oneshot::Receiver<()>,
    started: &SyncSender<io::Result<()>>,
) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    runtime.block_on(async move {
        let _ = started.send(start(listeners, doors));
        let _ = stopped.await;
    });
    // Dropping the runtime cuts what is open.
}

fn start(listeners: Vec<Listener>, doors: Doors) -> io::Result<()> {
    let doors = Rc::new(doors);
    let open = Rc::new(Cell::new(0));
    // One limit for all connections: clones share the semaphore.
    let answers = {
        let doors = Rc::clone(&doors);
        tower::service_fn(move |(request, peer): (Request<Incoming>, Peer)| {
            let doors = Rc::clone(&doors);
            async move { Ok::<_, Infallible>(respond::respond(&doors, request, peer).await) }
        })
    };
    let door = Door { open, answers: LoadShed::new(ConcurrencyLimit::new(answers, MAX_REQUESTS)) };
    for listener in listeners {
        let door = door.clone();
        match listener {
            Listener::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                spawn_local(async move {
                    let next = async || {
                        let (stream, from) = listener.accept().await?;
                        stream.set_nodelay(true)?;
                        let near = from.ip().to_canonical().is_loopback();
                        Ok((stream, if near { Peer::Loopback } else { Peer::Remote }))
                    };
                    door.accept(next).await;
                });
            }
            Listener::Unix(listener) => {
                let listener = UnixListener::from_std(listener)?;
                spawn_local(async move {
                    door.accept(async || Ok((listener.accept().await?.0, Peer::Unix))).await;
                });
            }
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Door<S> {
    open: Rc<Cell<usize>>,
    answers: S,
}

/// Counts an open connection while it lives.
struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<S> Door<S>
where
    S: tower::Service<(Request<Incoming>, Peer), Response = Response<Body>> + Clone + 'static,
{
    async fn accept<I>(&self, mut next: impl AsyncFnMut() -> io::Result<(I, Peer)>)
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        loop {
            match next().await {
                Ok(_) if self.open.get() >= MAX_CONNECTIONS => {}
                Ok((io, peer)) => {
                    self.open.set(self.open.get() + 1);
                    let counted = Counted(Rc::clone(&self.open));
                    let connection = connection(io, self.answers.clone(), peer);
                    spawn_local(async move {
                        connection.await;
                        drop(counted);
                    });
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

async fn connection<I, S>(io: I, answers: S, peer: Peer)
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    S: tower::Service<(Request<Incoming>, Peer), Response = Response<Body>> + Clone + 'static,
{
    let service = service_fn(move |request| {
        let answer = answers.clone().oneshot((request, peer));
        // The stack fails only by shedding.
        async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|_| respond::busy())) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .half_close(false)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    // A client's fault is the client's affair: nothing to log.
    if timeout(MAX_AGE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER, connection).await;
    }
}
