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

/// Why a request may change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unproven {
    NoToken,
    NotHere,
    Page,
}

impl Unproven {
    pub(super) fn answer(self) -> Response<Body> {
        let message = match self {
            Self::NoToken => "the token of this instance is needed",
            Self::NotHere => {
                "without `state` there is no token to show: only who is on this machine may do that"
            }
            Self::Page => "no page of a browser may do that",
        };
        if self != Self::NoToken {
            return error(StatusCode::FORBIDDEN, "not_allowed", message);
        }
        let mut refused = error(StatusCode::UNAUTHORIZED, "unauthorized", message);
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        refused
    }
}

/// `token`: of the store, where there is one.
pub(super) fn demand<B>(
    token: Option<&Token>,
    peer: Peer,
    request: &Request<B>,
) -> Result<(), Unproven> {
    match token {
        Some(token) if shows(token, request) => Ok(()),
        Some(_) => Err(Unproven::NoToken),
        None if peer == Peer::Remote => Err(Unproven::NotHere),
        None if request.headers().contains_key(ORIGIN) => Err(Unproven::Page),
        None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_token_only_who_is_here_may() {
        let plain = Request::new(());
        let from = |peer| demand(None, peer, &plain);
        assert_eq!((from(Peer::Unix), from(Peer::Loopback)), (Ok(()), Ok(())));
        assert_eq!(from(Peer::Remote), Err(Unproven::NotHere));
        let mut page = Request::new(());
        page.headers_mut().insert(ORIGIN, HeaderValue::from_static("null"));
        assert_eq!(demand(None, Peer::Loopback, &page), Err(Unproven::Page));
    }
}
