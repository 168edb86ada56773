//! hyper's server in front of `hyper::client::conn::http1`, with a pool of our own: one thread,
//! last in first out, no locks, nothing `Send`. The connection stays a task of its own.
//!
//! A connection goes back to the pool when its answer's body has ended; one whose body was left
//! is dropped with it, and hyper closes it.
use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};

struct Pool {
    upstream: SocketAddr,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
}

pub(super) fn run(listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let pool = Rc::new(Pool { upstream, idle: RefCell::default() });
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let pool = Rc::clone(&pool);
            tokio::task::spawn_local(async move {
                let service = service_fn(|req| forward(&pool, req));
                let io = TokioIo::new(stream);
                drop(http1::Builder::new().serve_connection(io, service).await);
            });
        }
    })
}

async fn forward(pool: &Rc<Pool>, req: Request<Incoming>) -> anyhow::Result<Response<Returning>> {
    let mut sender = pool.take().await?;
    let reply = sender.send_request(req).await?;
    Ok(reply.map(|body| Returning { body, sender: Some(sender), pool: Rc::clone(pool) }))
}

impl Pool {
    async fn take(&self) -> anyhow::Result<SendRequest<Incoming>> {
        loop {
            let next = self.idle.borrow_mut().pop();
            let Some(mut sender) = next else { return self.dial().await };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
    }

    async fn dial(&self) -> anyhow::Result<SendRequest<Incoming>> {
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }
}

/// An answer's body that gives its connection back at the end.
struct Returning {
    body: Incoming,
    sender: Option<SendRequest<Incoming>>,
    pool: Rc<Pool>,
}

impl Returning {
    fn give_back(&mut self) {
        self.pool.idle.borrow_mut().extend(self.sender.take());
    }
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.give_back();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        // A body of known length is not polled past its last byte.
        if self.body.is_end_stream() {
            self.give_back();
        }
    }
}
