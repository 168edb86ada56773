//! The admin door's connections: HTTP/1.1 with every bound explicit.
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
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
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tower::ServiceExt;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;

use super::live::{self, Feed};
use super::proof::Peer;
use super::respond::{self, Body};
use super::{Doors, Listener};

/// Requests answered at once; more are told to come back.
const MAX_REQUESTS: usize = 64;
/// Connections held; for one more the oldest is closed, so that who holds them all keeps nobody out.
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
    let feed = Rc::new(Feed::default());
    spawn_local(live::run(Rc::clone(&feed), Rc::clone(&doors)));
    spawn_local(tick(Rc::clone(&doors)));
    let open = Rc::new(Open::default());
    // One limit for all connections: clones share the semaphore.
    let answers = {
        let (doors, feed) = (Rc::clone(&doors), Rc::clone(&feed));
        tower::service_fn(move |(request, peer): (Request<Incoming>, Peer)| {
            let (doors, feed) = (Rc::clone(&doors), Rc::clone(&feed));
            async move { Ok::<_, Infallible>(respond::respond(&doors, &feed, request, peer).await) }
        })
    };
    let door = Door { open, answers: LoadShed::new(ConcurrencyLimit::new(answers, MAX_REQUESTS)) };
    for listener in listeners {
        let door = door.clone();
        match listener {
            Listener::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                spawn_local(async move {
                    door.accept(async || Ok(ready(Ok(tcp(&listener).await?))), Peer::Tcp).await;
                });
            }
            Listener::Tls(listener, shake) => {
                let listener = TcpListener::from_std(listener)?;
                spawn_local(async move {
                    door.accept(async || Ok(shake(tcp(&listener).await?)), Peer::Tls).await;
                });
            }
            Listener::Unix(listener) => {
                let listener = UnixListener::from_std(listener)?;
                spawn_local(async move {
                    let next = async || Ok(ready(Ok(listener.accept().await?.0)));
                    door.accept(next, Peer::Unix).await;
                });
            }
        }
    }
    Ok(())
}

/// Has the page's history grow.
async fn tick(doors: Rc<Doors>) {
    let Some(page) = &doors.page else { return };
    let mut each = tokio::time::interval(page.every);
    // a look that was missed is not made up for: its point is longer
    each.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // the first is at once
    each.tick().await;
    loop {
        each.tick().await;
        (page.tick)();
    }
}

async fn tcp(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[derive(Clone)]
struct Door<S> {
    open: Rc<Open>,
    answers: S,
}

/// The open connections, the oldest first.
#[derive(Default)]
struct Open {
    next: Cell<u64>,
    all: RefCell<VecDeque<(u64, AbortHandle)>>,
}

impl Open {
    /// Serves one more; a number of its own takes it out of the list at its end.
    fn spawn(self: &Rc<Self>, connection: impl Future<Output = ()> + 'static) {
        let number = self.next.replace(self.next.get() + 1);
        let here = Listed(Rc::clone(self), number);
        let task = spawn_local(async move {
            connection.await;
            drop(here);
        });
        let mut all = self.all.borrow_mut();
        let oldest = if all.len() < MAX_CONNECTIONS { None } else { all.pop_front() };
        all.push_back((number, task.abort_handle()));
        drop(all);
        if let Some((_, oldest)) = oldest {
            oldest.abort();
        }
    }
}

/// A connection while it lives.
struct Listed(Rc<Open>, u64);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.all.borrow_mut().retain(|(number, _)| *number != self.1);
    }
}

impl<S> Door<S>
where
    S: tower::Service<(Request<Incoming>, Peer), Response = Response<Body>> + Clone + 'static,
{
    /// `next`: a connection, which may have to be made ready first.
    async fn accept<F, I>(&self, mut next: impl AsyncFnMut() -> io::Result<F>, peer: Peer)
    where
        F: Future<Output = io::Result<I>> + 'static,
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        loop {
            match next().await {
                Ok(io) => {
                    let answers = self.answers.clone();
                    self.open.spawn(async move {
                        if let Ok(io) = io.await {
                            connection(io, answers, peer).await;
                        }
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
