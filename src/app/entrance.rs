//! Where agents come in: a listening socket, and the certificate behind it.
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::listen::socket::{Bound, Faults};
use crate::listen::tls::ServerTls;
use crate::telemetry::metrics::ListenerUse;

/// A listening socket, and the certificate behind it.
pub struct Entrance {
    pub bound: Bound,
    pub tls: Option<Arc<ServerTls>>,
}

/// A listener as metrics show it.
pub fn view(name: String, faults: &Faults, tls: Option<&ServerTls>) -> ListenerUse {
    let ends = tls.and_then(ServerTls::not_after);
    let seconds =
        |ends: SystemTime| i64::try_from(ends.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok();
    let (aborted, exhausted) = (faults.aborted(), faults.exhausted());
    ListenerUse { name, aborted, exhausted, not_after: ends.and_then(seconds) }
}

impl Entrance {
    /// As metrics show it.
    pub fn view(&self) -> ListenerUse {
        view(self.shown(), self.bound.faults(), self.tls.as_deref())
    }

    /// Where agents call: `127.0.0.1:8080`, `unix:/run/tidegate.sock`
    pub fn called(&self) -> String {
        self.bound.addr.map_or_else(|| self.bound.at.clone(), |addr| addr.to_string())
    }

    /// `http://127.0.0.1:8080`, `unix:/run/tidegate.sock`
    pub fn shown(&self) -> String {
        match (self.bound.addr, &self.tls) {
            (Some(addr), None) => format!("http://{addr}"),
            (Some(addr), Some(_)) => format!("https://{addr}"),
            (None, _) => self.bound.at.clone(),
        }
    }
}
