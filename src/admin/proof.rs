//! Who may change something through the admin door.
//!
//! Where there is a store, whoever can read its directory: the proof is `Authorization: Bearer` with
//! the token that stands there in `admin.token`. Without one there is no secret to show, and whoever
//! is on this machine may. A browser is on this machine too, and speaks for any page: it says so by
//! `Origin`, which it sends with all that changes something, and is turned away.
use http::header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};

use super::respond::{Body, error};
use crate::store::Token;

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A Unix socket: no browser can reach it.
    Unix,
    Loopback,
    Remote,
}

/// The refusal, where nothing is proven.
pub(super) fn demand<B>(
    token: Option<&Token>,
    peer: Peer,
    request: &Request<B>,
) -> Result<(), Response<Body>> {
    let Some(token) = token else { return demand_nearness(peer, request) };
    if shows(token, request) {
        return Ok(());
    }
    let message = "the token of this instance is needed";
    let mut refused = error(StatusCode::UNAUTHORIZED, "unauthorized", message);
    refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Err(refused)
}

/// One `Authorization` header, and the token in it.
fn shows<B>(token: &Token, request: &Request<B>) -> bool {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let scheme = value.as_bytes().split_at_checked("Bearer ".len());
    scheme.is_some_and(|(scheme, presented)| {
        scheme.eq_ignore_ascii_case(b"Bearer ") && token.matches(presented)
    })
}

fn demand_nearness<B>(peer: Peer, request: &Request<B>) -> Result<(), Response<Body>> {
    let message = if peer == Peer::Remote {
        "without `state` there is no token to show: only who is on this machine may do that"
    } else if request.headers().contains_key(ORIGIN) {
        "no page of a browser may do that"
    } else {
        return Ok(());
    };
    Err(error(StatusCode::FORBIDDEN, "not_allowed", message))
}
