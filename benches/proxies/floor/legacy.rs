//! hyper's server in front of hyper-util's legacy client: what most Rust proxies start from.
//!
//! One worker is a current-thread runtime, more are the multi-threaded one with work stealing.
//! Each client connection is a task, each upstream connection another, and the two talk through
//! channels; the pool stands behind a lock.
use std::net::SocketAddr;

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, Error, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

type Pooled = Client<HttpConnector, Incoming>;

pub(super) fn run(listen: SocketAddr, upstream: SocketAddr, workers: usize) -> anyhow::Result<()> {
    let mut builder = match workers {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(workers).enable_all().build()?;
    // Spawned, so that with several workers the accept loop runs on one of them.
    runtime.block_on(async { tokio::spawn(serve(listen, upstream)).await? })
}

async fn serve(listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Pooled = Client::builder(TokioExecutor::new()).build(connector);
    let upstream: Authority = upstream.to_string().parse()?;
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, upstream) = (client.clone(), upstream.clone());
        tokio::spawn(async move {
            let service = service_fn(|req| forward(&client, &upstream, req));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            drop(connection.await);
        });
    }
}

/// The client wants the whole URI, to find the pool; it sends only the path.
async fn forward(
    client: &Pooled,
    upstream: &Authority,
    mut req: Request<Incoming>,
) -> Result<Response<Incoming>, Error> {
    let mut parts = std::mem::take(req.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(upstream.clone());
    *req.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    client.request(req).await
}
