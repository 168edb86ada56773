//! The program in front of an origin that only remembers what reached it, whole.
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::app::App;
use super::origin::{Origin, whole};

/// A request as the origin got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, sorted; without framing, and without what the sidecar adds.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What reached the origin, in order.
#[derive(Clone, Default)]
pub struct OriginLog(Arc<Mutex<Vec<Forwarded>>>);

impl OriginLog {
    /// Everything since the last call.
    pub fn take(&self) -> Vec<Forwarded> {
        std::mem::take(&mut self.0.lock())
    }
}

/// The program and its origin; both end when it is dropped.
pub struct Gated {
    pub addr: SocketAddr,
    pub log: OriginLog,
    _app: App,
    _origin: Origin,
}

pub async fn start_gated() -> Gated {
    let log = OriginLog::default();
    let reached = log.clone();
    let origin = Origin::start(move |mut conn| {
        let reached = reached.clone();
        async move {
            while let Some(request) = conn.request().await {
                let ours = ["host", "via", "content-length", "transfer-encoding"];
                let mut headers: Vec<_> = request
                    .headers
                    .into_iter()
                    .map(|(name, value)| (name.to_ascii_lowercase(), value))
                    .filter(|(name, _)| !ours.contains(&name.as_str()))
                    .collect();
                headers.sort();
                let (method, target, body) = (request.method, request.target, request.body);
                reached.0.lock().push(Forwarded { method, target, headers, body });
                conn.send(&whole("200 OK", "", "{}")).await;
            }
        }
    })
    .await;
    let app = App::start(&format!(
        "server: {{ max_body: 64KiB }}\nupstreams: {{ up: '{}' }}\nroutes: [{{ to: up }}]\n",
        origin.url()
    ));
    Gated { addr: app.addr, log, _app: app, _origin: origin }
}
