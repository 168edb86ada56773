//! The bodies that the admin door reads: small, and soon there.
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

/// Largest body, in bytes.
pub(super) const LARGEST: usize = 64 * 1024;
/// For one to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// `None`: it is larger, or did not arrive.
pub(super) async fn whole(body: Incoming) -> Option<Bytes> {
    let body = Limited::new(body, LARGEST);
    match timeout(ARRIVAL, Box::pin(body.collect())).await {
        Ok(Ok(body)) => Some(body.to_bytes()),
        Ok(Err(_)) | Err(_) => None,
    }
}
