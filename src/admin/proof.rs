//! Who may look through the admin door, and who may change something there.
//!
//! The proof is `Authorization: Bearer` with one of the tokens: the policy's, or the one that stands in
//! `admin.token` in the directory of the store. A door that strangers can reach demands it of everybody,
//! but for what holds no data: probes, and the files of the page. One that they cannot reach (loopback,
//! a Unix socket, client certificates) may be looked through without.
//!
//! A browser speaks for any page it has open, and comes through both: by loopback, and with its
//! certificate. So what changes something and shows no token must come from our own page, and only
//! where the policy switches that on: `Origin` names the `Host` that was asked, and a header stands
//! beside it that no page of another origin can send, for there is no CORS here.
use http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};

use super::respond::{Body, error};
use crate::store::Token;

const PAGE: HeaderName = HeaderName::from_static("x-tidegate-page");

/// What is asked of who comes.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Each of them is a proof.
    pub tokens: Vec<Token>,
    /// Nothing is shown without one.
    pub demanded: bool,
    /// Whether the page, and where there is no token whoever comes, may change something.
    pub actions: bool,
}

/// How a request came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A Unix socket: no browser can reach it.
    Unix,
    Tcp,
    /// TCP, with a certificate of ours.
    Tls,
}

/// Why a request may not do what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unproven {
    NoToken,
    /// Where one may only look.
    Off,
    /// Another page than ours.
    Page,
}

impl Unproven {
    pub(super) fn answer(self) -> Response<Body> {
        let message = match self {
            Self::NoToken => "the token of this instance is needed",
            Self::Off => "here one may only look: `actions: on` below `admin` changes that",
            Self::Page => "no page but this instance's own may do that",
        };
        if self != Self::NoToken {
            return error(StatusCode::FORBIDDEN, "not_allowed", message);
        }
        let mut refused = error(StatusCode::UNAUTHORIZED, "unauthorized", message);
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        refused
    }
}

impl Guard {
    /// One `Authorization` header, and a token in it.
    pub(super) fn knows<B>(&self, request: &Request<B>) -> bool {
        let mut values = request.headers().get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let scheme = value.as_bytes().split_at_checked("Bearer ".len());
        scheme.is_some_and(|(scheme, presented)| {
            // all of them: which one it was is nobody's to measure
            let known = self.tokens.iter().filter(|token| token.matches(presented)).count();
            scheme.eq_ignore_ascii_case(b"Bearer ") && known > 0
        })
    }

    /// For what nobody sees without a token.
    pub(super) fn proven<B>(&self, request: &Request<B>) -> Result<(), Unproven> {
        if self.knows(request) { Ok(()) } else { Err(Unproven::NoToken) }
    }

    /// For what changes something: a token, or our own page where it may.
    pub(super) fn may_act<B>(&self, request: &Request<B>) -> Result<(), Unproven> {
        if self.knows(request) {
            return Ok(());
        }
        if self.demanded || !is_page(request) {
            return Err(Unproven::NoToken);
        }
        if !self.actions {
            // where there is a token, that is the better answer
            let none = self.tokens.is_empty();
            return Err(if none { Unproven::Off } else { Unproven::NoToken });
        }
        if is_our_page(request) { Ok(()) } else { Err(Unproven::Page) }
    }

    /// The same where there may be no token to show: then whoever reaches the door may, if the policy
    /// switches that on, but no other page.
    pub(super) fn may_act_here<B>(&self, request: &Request<B>) -> Result<(), Unproven> {
        match self.may_act(request) {
            Err(Unproven::NoToken) if self.tokens.is_empty() && !is_page(request) => {
                if self.actions { Ok(()) } else { Err(Unproven::Off) }
            }
            allowed => allowed,
        }
    }

    /// What the page is told: `off`, `open`, `token`.
    pub fn actions(&self) -> &'static str {
        match (self.actions, self.demanded) {
            (false, _) => "off",
            (true, false) => "open",
            (true, true) => "token",
        }
    }
}

/// A browser says so with all that changes something.
fn is_page<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(ORIGIN) || request.headers().contains_key(PAGE)
}

fn is_our_page<B>(request: &Request<B>) -> bool {
    let one = |name| {
        let mut values = request.headers().get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
    };
    let (Some("1"), Some(origin), Some(host)) = (one(PAGE), one(ORIGIN), one(HOST)) else {
        return false;
    };
    let from = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    from.is_some_and(|from| from.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests;
