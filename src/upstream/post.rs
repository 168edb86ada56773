//! Posting whole bodies to one place that is no backend, one at a time, over a connection that is kept:
//! HTTP/1.1, or HTTP/2 where the connector demands it.
//!
//! No redirect is followed and nothing is asked again, but for a kept connection that was closed
//! meanwhile. Whoever gives a post up (by dropping it) gives up its connection.
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, request};
use http_body::Body;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;

use super::connect::{ConnectError, Connector};
use super::h1::{Connection, H1Error};
use super::h2::Local;
use super::host_of;
use super::outgoing::Outgoing;
use crate::config::Origin;
use crate::io::Stream;

/// What is read of an answer's body; a connection that has more to say is not used again.
const LONGEST: usize = 64 * 1024;
/// How often a quiet HTTP/2 connection is looked after.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// One place, and a connection to it.
pub struct Poster {
    connector: Connector,
    origin: Origin,
    host: HeaderValue,
    kept: Option<Kept>,
}

enum Kept {
    One(Box<Connection>),
    Many(SendRequest<Outgoing>),
}

/// An answer.
#[derive(Debug)]
pub struct Posted {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Empty for none.
    pub trailers: HeaderMap,
    /// The first 64 KiB of it.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum PostError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    One(#[from] H1Error),
    #[error("the HTTP/2 connection failed: {0}")]
    Many(#[from] hyper::Error),
    #[error("the request cannot be sent: {0}")]
    Request(#[from] http::Error),
}

impl Poster {
    /// `None`: the origin cannot be said in a header.
    pub fn new(connector: Connector, origin: Origin) -> Option<Self> {
        let host = HeaderValue::from_str(&host_of(&origin)).ok()?;
        Some(Self { connector, origin, host, kept: None })
    }

    /// `path`: below that of the origin, from its `/` on.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Posted, PostError> {
        let path = format!("{}{path}", self.origin.path);
        if let Some(kept) = self.kept.take()
            && let Ok(posted) = self.send(kept, &path, headers, body).await
        {
            return Ok(posted);
        }
        let connected = self.connector.connect(&self.origin).await?;
        let fresh = if connected.http2 {
            Kept::Many(shake_hands(connected.stream).await?)
        } else {
            Kept::One(Box::new(Connection::new(connected.stream)))
        };
        self.send(fresh, &path, headers, body).await
    }

    async fn send(
        &mut self,
        over: Kept,
        path: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Posted, PostError> {
        let body = Outgoing::whole(body.clone());
        match over {
            Kept::One(mut connection) => {
                let mut headers = headers.clone();
                headers.insert(header::HOST, self.host.clone());
                let posted = over_one(&mut connection, path, headers, body).await?;
                if connection.is_reusable() {
                    self.kept = Some(Kept::One(connection));
                }
                Ok(posted)
            }
            Kept::Many(mut sender) => {
                let request = self.request(path, headers, body)?;
                let (posted, whole) = over_many(&mut sender, request).await?;
                if whole && !sender.is_closed() {
                    self.kept = Some(Kept::Many(sender));
                }
                Ok(posted)
            }
        }
    }

    fn request(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, http::Error> {
        let scheme = if self.origin.tls { "https" } else { "http" };
        let uri = http::Uri::builder()
            .scheme(scheme)
            .authority(self.host.as_bytes())
            .path_and_query(path)
            .build()?;
        let mut request: request::Builder = Request::builder().method(Method::POST).uri(uri);
        if let Some(map) = request.headers_mut() {
            map.clone_from(headers);
        }
        request.body(body)
    }
}

async fn shake_hands(stream: Stream) -> Result<SendRequest<Outgoing>, hyper::Error> {
    let (sender, connection) = Builder::new(Local)
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .handshake(TokioIo::new(stream))
        .await?;
    // it ends with its sender
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 connection ended");
        }
    });
    Ok(sender)
}

async fn over_one(
    connection: &mut Connection,
    path: &str,
    mut headers: HeaderMap,
    mut body: Outgoing,
) -> Result<Posted, H1Error> {
    let asked = connection.exchange(&Method::POST, path, &mut headers, &mut body, &|_| ());
    let head = asked.await.map_err(|failure| failure.error)?;
    let mut read = BytesMut::new();
    while read.len() <= LONGEST {
        match poll_fn(|cx| connection.poll_data(cx)).await {
            Some(data) => read.extend_from_slice(&data?),
            None => break,
        }
    }
    read.truncate(LONGEST);
    let (status, trailers) = (head.status, HeaderMap::new());
    Ok(Posted { status, headers: head.headers, trailers, body: read.freeze() })
}

/// Says too whether all of the answer was read.
async fn over_many(
    sender: &mut SendRequest<Outgoing>,
    request: Request<Outgoing>,
) -> Result<(Posted, bool), hyper::Error> {
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let mut body = pin!(body);
    let (mut read, mut trailers) = (BytesMut::new(), HeaderMap::new());
    let mut whole = false;
    while read.len() <= LONGEST {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Some(frame) = frame.transpose()? else {
            whole = true;
            break;
        };
        match frame.into_data() {
            Ok(data) => read.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    read.truncate(LONGEST);
    let (status, headers) = (head.status, head.headers);
    Ok((Posted { status, headers, trailers, body: read.freeze() }, whole))
}
