//! An agent's side of a call: plain HTTP/1.1 over a socket of its own, kept alive.
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::io::Stream;
use crate::pipeline::reply::REQUEST_ID;
use crate::upstream::h1::Connection;
use crate::upstream::outgoing::Outgoing;
use crate::wire::{NdJsonSplit, SseSplit};

/// What the simulator is told about the answer it is to give.
const SIMULATE: HeaderName = HeaderName::from_static("x-simulate");
/// What the agent calls itself.
const AGENT: HeaderName = HeaderName::from_static("x-agent-id");

/// One agent, with one connection.
pub struct Client {
    to: SocketAddr,
    name: Option<&'static str>,
    /// What it says with each call beside that.
    says: Option<(HeaderName, HeaderValue)>,
    connection: Option<Connection>,
}

/// An answer whose head has come.
pub struct Answer<'c> {
    pub status: StatusCode,
    /// Under which the sidecar records the call.
    pub id: String,
    headers: HeaderMap,
    connection: &'c mut Connection,
    split: Split,
}

enum Split {
    Sse(SseSplit),
    NdJson(NdJsonSplit),
}

impl Client {
    pub fn new(to: SocketAddr) -> Self {
        Self { to, name: None, says: None, connection: None }
    }

    /// An agent that says its name.
    pub fn called(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// An agent that says this with each call.
    pub fn saying(self, name: HeaderName, text: &'static str) -> Self {
        Self { says: Some((name, HeaderValue::from_static(text))), ..self }
    }

    /// Sends a request; a body makes it a POST.
    pub async fn ask(
        &mut self,
        path: &str,
        body: Option<&Value>,
        simulate: &str,
    ) -> io::Result<Answer<'_>> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, value(&self.to.to_string())?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("tidegate-demo"));
        if let Some(name) = self.name {
            headers.insert(AGENT, HeaderValue::from_static(name));
        }
        headers.extend(self.says.clone());
        if !simulate.is_empty() {
            headers.insert(SIMULATE, value(simulate)?);
        }
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut body = Outgoing::whole(Bytes::from(body));
        let kept = self.connection.take().filter(Connection::is_reusable);
        let connection = match kept {
            Some(connection) => connection,
            None => connect(self.to).await?,
        };
        let connection = self.connection.insert(connection);
        let head = connection
            .exchange(&method, path, &mut headers, &mut body, &|_| {})
            .await
            .map_err(|failure| io::Error::other(failure.error))?;
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let lines = text(header::CONTENT_TYPE).is_some_and(|kind| kind.contains("ndjson"));
        Ok(Answer {
            status: head.status,
            id: text(REQUEST_ID).unwrap_or_default().to_owned(),
            split: if lines {
                Split::NdJson(NdJsonSplit::new())
            } else {
                Split::Sse(SseSplit::new())
            },
            headers: head.headers,
            connection,
        })
    }
}

impl Answer<'_> {
    /// A header of it; empty without.
    pub fn header(&self, name: &HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    async fn data(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.connection.poll_data(cx)).await.transpose().map_err(io::Error::other)
    }

    /// The texts of the next events of a stream; `None` after its end.
    pub async fn texts(&mut self) -> io::Result<Option<Vec<String>>> {
        let events = self.events().await?;
        Ok(events.map(|events| events.into_iter().flatten().collect()))
    }

    /// The next events of a stream, each with its text if it has one; `None` after its end. What
    /// the sidecar tells of a task is none of the answer's.
    pub async fn events(&mut self) -> io::Result<Option<Vec<Option<String>>>> {
        let Some(data) = self.data().await? else { return Ok(None) };
        let mut events = Vec::new();
        match &mut self.split {
            Split::Sse(split) => split.push(&data, &mut |event| {
                if !event.name.is_some_and(|name| name.starts_with(b"task.")) {
                    events.push(text(event.data));
                }
            }),
            Split::NdJson(split) => split.push(&data, &mut |line| events.push(text(line.data))),
        }
        Ok(Some(events))
    }

    /// The whole body.
    pub async fn body(mut self) -> io::Result<String> {
        let mut body = Vec::new();
        while let Some(data) = self.data().await? {
            body.extend_from_slice(&data);
        }
        String::from_utf8(body).map_err(io::Error::other)
    }
}

async fn connect(to: SocketAddr) -> io::Result<Connection> {
    let tcp = TcpStream::connect(to).await?;
    tcp.set_nodelay(true)?;
    Ok(Connection::new(Stream::Tcp(tcp)))
}

fn value(text: &str) -> io::Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(io::Error::other)
}

/// What an event, or a whole answer, says: each dialect has its place for it.
pub fn text(data: &[u8]) -> Option<String> {
    const PLACES: [&str; 5] = [
        "/choices/0/delta/content",
        "/choices/0/message/content",
        "/delta/text",
        "/candidates/0/content/parts/0/text",
        "/message/content",
    ];
    let event: Value = serde_json::from_slice(data).ok()?;
    let text = PLACES.iter().find_map(|place| event.pointer(place)?.as_str())?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn every_dialect_has_its_place_for_text() {
        for event in [
            r#"{"choices":[{"delta":{"content":"hi"}}]}"#,
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]}}]}"#,
            r#"{"message":{"role":"assistant","content":"hi"},"done":false}"#,
        ] {
            assert_eq!(text(event.as_bytes()).as_deref(), Some("hi"), "{event}");
        }
        for event in ["[DONE]", r#"{"choices":[{"delta":{"content":""}}]}"#, "{}"] {
            assert_eq!(text(event.as_bytes()), None, "{event}");
        }
    }
}
