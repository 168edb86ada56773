//! One question to the admin listener, over TCP or a Unix socket, bounded in time and size.
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::cli::instance::Instance;
use crate::config::Address;
use crate::io::Stream;
use crate::telemetry::view::AgentsView;
use crate::upstream::h1::Connection;
use crate::upstream::outgoing::Outgoing;

/// The instance gives its workers a second to say what they do.
const PATIENCE: Duration = Duration::from_secs(5);
/// Ten thousand agents are some ten megabytes.
const MOST: usize = 64 << 20;

/// Why there is no answer to show.
#[derive(Debug)]
pub(super) enum AskError {
    /// No connection.
    Nobody(io::Error),
    Silent,
    /// It answers something else.
    Stranger,
    Refused(u16),
    NoAgents,
}

/// What the instance told of its agents and queues.
pub(super) struct Told {
    /// As it came.
    pub json: Value,
    pub view: AgentsView,
}

pub(super) async fn ask(instance: &Instance) -> Result<Told, AskError> {
    let body = timeout(PATIENCE, exchange(instance)).await.map_err(|_| AskError::Silent)??;
    let mut state: Value = serde_json::from_slice(&body).map_err(|_| AskError::Stranger)?;
    let agents = state.get_mut("agents").map(Value::take).ok_or(AskError::NoAgents)?;
    // an older instance knows nothing of some of them
    let mut list = |name: &str| state.get_mut(name).map_or_else(|| json!([]), Value::take);
    let json = json!({ "agents": agents, "queues": list("queues"), "lanes": list("lanes") });
    let view = AgentsView::deserialize(&json).map_err(|_| AskError::Stranger)?;
    Ok(Told { json, view })
}

async fn exchange(Instance { at, token }: &Instance) -> Result<Vec<u8>, AskError> {
    let io = connect(at).await.map_err(AskError::Nobody)?;
    let mut connection = Connection::new(io);
    let mut headers = HeaderMap::new();
    // any name would do for a Unix socket
    let host = match at {
        Address::Tcp(at) => HeaderValue::from_str(&at.to_string()).ok(),
        _ => None,
    };
    headers.insert(header::HOST, host.unwrap_or(HeaderValue::from_static("localhost")));
    if let Some(token) = token {
        let proof = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
        headers.extend(proof.ok().map(|proof| (header::AUTHORIZATION, proof)));
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut body = Outgoing::whole(Bytes::new());
    let head = connection
        .exchange(&Method::GET, "/state", &mut headers, &mut body, &|_| {})
        .await
        .map_err(|_| AskError::Stranger)?;
    if !head.status.is_success() {
        return Err(AskError::Refused(head.status.as_u16()));
    }
    let mut all = Vec::new();
    while let Some(data) = poll_fn(|cx| connection.poll_data(cx)).await {
        all.extend_from_slice(&data.map_err(|_| AskError::Stranger)?);
        if all.len() > MOST {
            return Err(AskError::Stranger);
        }
    }
    Ok(all)
}

async fn connect(at: &Address) -> io::Result<Stream> {
    match at {
        Address::Tcp(at) => Ok(Stream::Tcp(TcpStream::connect(at).await?)),
        Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        Address::Inherited(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}
