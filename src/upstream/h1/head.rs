//! Heads: writing a request's, reading an answer's.
//!
//! Hop-by-hop fields of an answer are left out while its map is built, so that nothing has to be
//! stripped later; its framing is decided here, once, by RFC 9112 section 6.3.
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::H1Error;
use super::framing::Framing;
use crate::upstream::outgoing::{Outgoing, Sized};

const MAX_HEAD: usize = 64 * 1024;
const MAX_LINES: usize = 200;
const TOO_LARGE: H1Error = H1Error::Malformed("the head is larger than 64 KiB");
/// Most requests' heads are shorter.
const USUAL_SIZE: usize = 1024;
/// Most answers have fewer lines; the table for more is built only when this one is too small.
const USUAL_LINES: usize = 48;

/// An answer's head.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    /// Without hop-by-hop fields.
    pub headers: HeaderMap,
    pub framing: Framing,
    pub keep_alive: bool,
}

/// The bytes of a request's head. `headers` has no framing and no hop-by-hop fields; framing is
/// added after what the body is.
pub fn render(method: &Method, target: &str, headers: &HeaderMap, body: &Outgoing) -> Vec<u8> {
    // most fit; to count them first costs more than to grow for the others
    let mut out = Vec::with_capacity(USUAL_SIZE);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    match body.size() {
        // a method that gives its body a meaning says that there is none (RFC 9110 section 8.6)
        Sized::Known(0) if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {}
        Sized::Known(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Sized::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Reads a final head (or 101) from the front of `read` and says how long it was, 1xx heads before
/// it included. `None`: more is needed.
pub fn parse(
    read: &[u8],
    head_only: bool,
    map: &mut HeaderMap,
) -> Result<Option<(Head, usize)>, H1Error> {
    let mut from = 0;
    loop {
        match parse_one(&read[from..], head_only, map)? {
            None if read.len() > MAX_HEAD => return Err(TOO_LARGE),
            None => return Ok(None),
            Some((head, used))
                if head.status.is_informational()
                    && head.status != StatusCode::SWITCHING_PROTOCOLS =>
            {
                from += used;
                if from > MAX_HEAD {
                    return Err(TOO_LARGE);
                }
                if from == read.len() {
                    return Ok(None);
                }
            }
            Some((_, used)) if from + used > MAX_HEAD => return Err(TOO_LARGE),
            Some((head, used)) => return Ok(Some((head, from + used))),
        }
    }
}

fn parse_one(
    read: &[u8],
    head_only: bool,
    map: &mut HeaderMap,
) -> Result<Option<(Head, usize)>, H1Error> {
    let mut usual = [const { MaybeUninit::uninit() }; USUAL_LINES];
    match parse_with(read, &mut usual, head_only, map) {
        Err(Parse::TooManyLines) => {
            let mut many = vec![MaybeUninit::uninit(); MAX_LINES];
            parse_with(read, &mut many, head_only, map).map_err(Into::into)
        }
        other => other.map_err(Into::into),
    }
}

enum Parse {
    TooManyLines,
    Other(H1Error),
}

impl From<Parse> for H1Error {
    fn from(parse: Parse) -> Self {
        match parse {
            Parse::TooManyLines => Self::Malformed("more than 200 header lines"),
            Parse::Other(error) => error,
        }
    }
}

fn malformed(what: &'static str) -> Parse {
    Parse::Other(H1Error::Malformed(what))
}

fn parse_with<'b>(
    read: &'b [u8],
    lines: &mut [MaybeUninit<httparse::Header<'b>>],
    head_only: bool,
    map: &mut HeaderMap,
) -> Result<Option<(Head, usize)>, Parse> {
    let mut answer = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let used = match parser.parse_response_with_uninit_headers(&mut answer, read, lines) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Parse::TooManyLines),
        Err(_) => return Err(malformed("its head cannot be read")),
    };
    let status = answer
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| malformed("its status is not a number from 100 to 999"))?;
    let mut facts = Facts { http10: answer.version == Some(0), ..Facts::default() };
    map.clear();
    // all values share one copy of the head
    let own = Bytes::copy_from_slice(&read[..used]);
    let start = read.as_ptr() as usize;
    for line in answer.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| malformed("a header name is not valid"))?;
        if facts.note(&name, line.value)? {
            continue;
        }
        let value = if line.value.is_empty() {
            HeaderValue::from_static("")
        } else {
            let at = line.value.as_ptr() as usize - start;
            HeaderValue::from_maybe_shared(own.slice(at..at + line.value.len()))
                .map_err(|_| malformed("a header value is not valid"))?
        };
        map.append(name, value);
    }
    for name in &facts.named_by_connection {
        map.remove(name);
    }
    let framing = facts.framing(status, head_only)?;
    let keep_alive = facts.keep_alive(status);
    let headers = std::mem::take(map);
    Ok(Some((Head { status, headers, framing, keep_alive }, used)))
}

/// What the lines say about the connection rather than about the answer.
#[derive(Default)]
struct Facts {
    http10: bool,
    /// What `Connection` says.
    says_close: bool,
    says_keep_alive: bool,
    length: Option<u64>,
    chunked: bool,
    named_by_connection: Vec<HeaderName>,
}

impl Facts {
    /// Whether the line is hop-by-hop, and stays here.
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Parse> {
        match *name {
            header::CONTENT_LENGTH => {
                let length = decimal(value).ok_or_else(|| malformed("a bad Content-Length"))?;
                match self.length.replace(length) {
                    Some(other) if other != length => {
                        Err(malformed("two Content-Lengths that differ"))
                    }
                    Some(_) => Ok(true),
                    None => Ok(false),
                }
            }
            header::TRANSFER_ENCODING => {
                if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(malformed("a Transfer-Encoding other than chunked"));
                }
                self.chunked = true;
                Ok(true)
            }
            header::CONNECTION => {
                self.connection(value);
                Ok(true)
            }
            header::UPGRADE => Ok(false),
            header::TE | header::TRAILER | header::PROXY_AUTHENTICATE => Ok(true),
            _ => Ok(matches!(name.as_str(), "keep-alive" | "proxy-connection")),
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.says_close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.says_keep_alive = true;
            } else if !token.eq_ignore_ascii_case(b"upgrade")
                && let Ok(name) = HeaderName::from_bytes(token)
                && name != header::CONTENT_LENGTH
            {
                self.named_by_connection.push(name);
            }
        }
    }

    /// RFC 9112 section 9.3. After 101 the connection speaks another protocol; chunks are not known
    /// to HTTP/1.0, so whoever sends them there may mean anything (section 6.1).
    fn keep_alive(&self, status: StatusCode) -> bool {
        let persists = !self.http10 || (self.says_keep_alive && !self.chunked);
        persists && !self.says_close && status != StatusCode::SWITCHING_PROTOCOLS
    }

    fn framing(&self, status: StatusCode, head_only: bool) -> Result<Framing, Parse> {
        if head_only
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
        {
            return Ok(Framing::None);
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(malformed("both Content-Length and Transfer-Encoding")),
            (true, None) => Ok(Framing::chunked()),
            (false, Some(0)) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::UntilClose),
        }
    }
}

fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
