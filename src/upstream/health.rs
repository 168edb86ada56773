//! Active checks: asking an address whether it is well, beside the calls.
//!
//! One worker asks for all; what it learns is in the address's standing, which all share. A check is a
//! GET with the upstream's own headers and key, over the worker's pool, under a deadline of its own;
//! any 2xx is well. So many in a row take an address out, so many take it back. Checks of many
//! instances spread out: each pause is drawn.
//!
//! What is answered beyond 64 KiB is not read.
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper::Version;
use tokio::time::{sleep, timeout};

use super::balance::draw;
use super::h2::{Sending, Share};
use super::outgoing::Outgoing;
use super::pool::{Checkout, Pooled, Pools};
use super::{Address, Upstream};
use crate::config::HealthCheck;

/// Most that is read of an answer so that its connection can be kept.
const BODY: usize = 64 * 1024;
/// The first check comes within this.
const FIRST: Duration = Duration::from_secs(1);

/// Checks one address for as long as the future is polled; at once where no checks are asked for.
pub async fn watch(pools: Rc<Pools>, upstream: Arc<Upstream>, at: usize) {
    let (Some(rule), Some(address)) = (&upstream.config.health, upstream.addresses.get(at)) else {
        return;
    };
    sleep(rule.every.min(FIRST).mul_f64(share())).await;
    loop {
        let asked = Instant::now();
        let asking = check(&pools, &upstream, address, rule);
        let outcome = timeout(rule.timeout, Box::pin(asking)).await;
        let well = matches!(outcome, Ok(Ok(status)) if status.is_success());
        if !well {
            let answer = match outcome {
                Err(_) => "no answer in time".to_owned(),
                Ok(Err(what)) => what,
                Ok(Ok(status)) => status.to_string(),
            };
            let (upstream, address) = (&*upstream.config.name, &address.host);
            tracing::debug!(upstream, ?address, answer, "a health check did not go well");
        }
        upstream.roster.checked(at, well, rule);
        // give or take a tenth
        let pause = rule.every.mul_f64(0.9 + share() / 5.0);
        sleep(pause.saturating_sub(asked.elapsed())).await;
    }
}

/// A random number from 0 to 1.
fn share() -> f64 {
    (draw() % 1001) as f64 / 1000.0
}

async fn check(
    pools: &Pools,
    upstream: &Upstream,
    address: &Address,
    rule: &HealthCheck,
) -> Result<StatusCode, String> {
    let pool = pools.pool(upstream, address);
    if let Some(Checkout::H1(kept)) = pool.take()
        && let Ok(status) = over_h1(kept, upstream, address, rule).await
    {
        return Ok(status);
    }
    // one that was closed while idle says nothing
    match pool.dial(upstream, address).await.map_err(|error| error.to_string())? {
        Checkout::H1(fresh) => over_h1(fresh, upstream, address, rule).await,
        Checkout::H2(share) => over_h2(&share, upstream, address, rule).await,
    }
}

async fn over_h1(
    mut pooled: Pooled,
    upstream: &Upstream,
    address: &Address,
    rule: &HealthCheck,
) -> Result<StatusCode, String> {
    let Some(connection) = pooled.connection() else { return Err("no connection".to_owned()) };
    let mut headers = headers(upstream);
    headers.insert(header::HOST, address.host.clone());
    let target = target(address, rule);
    let mut body = Outgoing::whole(Bytes::new());
    let head = connection
        .exchange(&Method::GET, &target, &mut headers, &mut body, &|_| ())
        .await
        .map_err(|failure| failure.error.to_string())?;
    let mut read = 0;
    while read <= BODY
        && let Some(Ok(data)) = poll_fn(|cx| connection.poll_data(cx)).await
    {
        read += data.len();
    }
    // closed if it has not ended
    pooled.finish();
    Ok(head.status)
}

async fn over_h2(
    share: &Share,
    upstream: &Upstream,
    address: &Address,
    rule: &HealthCheck,
) -> Result<StatusCode, String> {
    let uri = Uri::builder()
        .scheme(if address.origin.tls { "https" } else { "http" })
        .authority(address.host.as_bytes())
        .path_and_query(target(address, rule))
        .build()
        .map_err(|error| error.to_string())?;
    let mut request = Request::new(Sending::new(Outgoing::whole(Bytes::new())));
    (*request.uri_mut(), *request.version_mut()) = (uri, Version::HTTP_2);
    *request.headers_mut() = headers(upstream);
    let mut sender = share.of().sender();
    let answer = async {
        sender.ready().await?;
        sender.send_request(request).await
    };
    // the rest of the answer is dropped, which resets the stream
    answer.await.map(|answer| answer.status()).map_err(|error| error.to_string())
}

/// Below the address's own path, as calls are.
fn target(address: &Address, rule: &HealthCheck) -> String {
    format!("{}{}", address.origin.path, rule.path)
}

fn headers(upstream: &Upstream) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("tidegate-health"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in &upstream.config.headers {
        headers.insert(name, value.clone());
    }
    let now = Instant::now();
    let keys = &upstream.keys;
    if let Some(key) = keys.iter().find(|key| key.is_usable(now)).or_else(|| keys.first()) {
        headers.insert(&key.name, key.value.clone());
    }
    headers
}

#[cfg(test)]
mod tests;
