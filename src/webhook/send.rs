//! One attempt: a connection of its own, a POST, and the head of the answer.
//!
//! Not kept for the next: messages are rare, and a fresh connection is never one that its receiver has
//! just closed. HTTP/1.1 alone, which every receiver speaks.
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::timeout;

use super::book::Delivery;
use super::plan::Outcome;
use super::{connect, millis, sign};
use crate::config::{self, Http2, Origin, Pool, ProxyRule, TaskEnd};
use crate::upstream::connect::Connector;
use crate::upstream::h1::{Connection, Head};
use crate::upstream::host_of;
use crate::upstream::outgoing::Outgoing;
use crate::wire::quota;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A target, ready to be sent to.
pub(super) struct Hook {
    pub name: Arc<str>,
    origin: Origin,
    host: String,
    /// Path and query.
    target: String,
    keys: Vec<hmac::Key>,
    events: Vec<TaskEnd>,
    private: bool,
}

impl Hook {
    pub fn new(config: &config::Webhook) -> Self {
        let query = config.query.as_ref().map(|query| format!("?{}", query.expose()));
        let keys = config.secrets.iter();
        Self {
            name: Arc::clone(&config.name),
            origin: config.origin.clone(),
            host: host_of(&config.origin),
            target: format!("{}{}", config.path, query.unwrap_or_default()),
            keys: keys.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose())).collect(),
            events: config.events.clone(),
            private: config.private,
        }
    }

    /// `end`: as in the policy file.
    pub fn wants(&self, end: &str) -> bool {
        self.events.iter().any(|event| event.as_str() == end)
    }

    /// `None`: some value cannot stand in a header.
    fn headers(&self, id: &str, at: i64, body: &str) -> Option<HeaderMap> {
        let signatures = sign::signatures(&self.keys, id, at, body);
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::HOST, HeaderValue::from_str(&self.host).ok()?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static("tidegate-webhook"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ID, HeaderValue::from_str(id).ok()?);
        headers.insert(TIMESTAMP, HeaderValue::from(at));
        headers.insert(SIGNATURE, HeaderValue::from_str(&signatures).ok()?);
        Some(headers)
    }
}

/// Opens connections: to the public alone, and to anybody.
pub(super) struct Sender {
    pub public: Connector,
    pub private: Connector,
}

impl Sender {
    pub fn new() -> Result<Self, connect::SetupError> {
        let config = config::Upstream {
            http2: Http2::Never,
            proxy: ProxyRule::Never,
            // the attempt's own bound is the one that counts
            pool: Pool { connect_timeout: Duration::from_mins(1), ..Pool::default() },
            ..config::Upstream::new("webhooks")
        };
        let connector = || Connector::new(&config, &|_| None);
        Ok(Self { public: connector()?.only_public(), private: connector()? })
    }

    pub async fn send(&self, hook: &Hook, delivery: &Delivery, within: Duration) -> Outcome {
        let connector = if hook.private { &self.private } else { &self.public };
        let Ok(head) = timeout(within, Box::pin(exchange(connector, hook, delivery))).await else {
            return Outcome::failed(format!("no answer within {} s", within.as_secs()));
        };
        match head {
            Ok(head) => judge(&head),
            Err(why) => Outcome::failed(why),
        }
    }
}

async fn exchange(connector: &Connector, hook: &Hook, delivery: &Delivery) -> Result<Head, String> {
    let body = &delivery.body;
    let mut headers =
        hook.headers(&delivery.id, millis() / 1000, body).ok_or("it cannot be sent in headers")?;
    let connected = connector.connect(&hook.origin).await.map_err(|error| error.to_string())?;
    let mut connection = Connection::new(connected.stream);
    let mut body = Outgoing::whole(Bytes::copy_from_slice(body.as_bytes()));
    let asked = connection.exchange(&Method::POST, &hook.target, &mut headers, &mut body, &|_| ());
    asked.await.map_err(|failure| failure.error.to_string())
}

/// Success is 2xx and nothing else; a redirect is none, for its target is not in the policy.
fn judge(head: &Head) -> Outcome {
    match head.status {
        status if status.is_success() => Outcome::Delivered,
        StatusCode::GONE => Outcome::Gone,
        status => Outcome::Failed {
            why: status.to_string(),
            retry_after: quota(&head.headers, SystemTime::now).retry_after,
        },
    }
}
