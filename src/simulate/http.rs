//! HTTP/1.1 by hand, as much as a backend needs: request heads, bodies by length or in chunks,
//! answer heads, chunks. Positions instead of borrows, so that the buffer may grow between head
//! and body.
use std::ops::Range;

use super::text::Put;

/// Largest head in bytes.
const MOST_HEAD: usize = 256 << 10;
/// Headers that carry a key, whatever the vendor.
const KEYS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
/// Most header fields.
const MOST_FIELDS: usize = 256;
/// Largest body in bytes.
const MOST_BODY: usize = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
}

/// A request's head; the ranges are positions in the connection's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the head, its empty line included.
    pub bytes: usize,
    pub method: Method,
    pub target: Range<usize>,
    /// HTTP/1.1, not 1.0.
    pub chunks: bool,
    pub keep_alive: bool,
    pub framing: Framing,
    pub expects_continue: bool,
    pub script: Option<Range<usize>>,
    pub upgrade: Option<Range<usize>>,
    /// The value of the first header that carries a key.
    pub credential: Option<Range<usize>>,
    /// The client speaks Anthropic's dialect whatever the path: `anthropic-version` is there.
    pub anthropic: bool,
}

/// A request that cannot be read: the status to answer with before the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable(pub u16);

/// Reads a head from the start of `buffer`; `None` while it is not complete.
pub(super) fn head(buffer: &[u8]) -> Result<Option<Head>, Unreadable> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let bytes = match request.parse(buffer) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if buffer.len() < MOST_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Unreadable(431));
        }
        Err(_) => return Err(Unreadable(400)),
    };
    let place = |part: &[u8]| {
        let start = part.as_ptr() as usize - buffer.as_ptr() as usize;
        start..start + part.len()
    };
    let chunks = request.version == Some(1);
    let mut head = Head {
        bytes,
        method: match request.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some("POST") => Method::Post,
            _ => Method::Other,
        },
        target: place(request.path.unwrap_or_default().as_bytes()),
        chunks,
        keep_alive: chunks,
        framing: Framing::Length(0),
        expects_continue: false,
        script: None,
        upgrade: None,
        credential: None,
        anthropic: false,
    };
    for field in request.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let length = std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
            let length: usize = length.ok_or(Unreadable(400))?;
            if length > MOST_BODY {
                return Err(Unreadable(413));
            }
            if head.framing != Framing::Chunked {
                head.framing = Framing::Length(length);
            }
        } else if is("transfer-encoding") {
            if !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Unreadable(400));
            }
            head.framing = Framing::Chunked;
        } else if is("connection") {
            for token in field.value.split(|&byte| byte == b',') {
                let token = token.trim_ascii();
                if token.eq_ignore_ascii_case(b"close") {
                    head.keep_alive = false;
                } else if token.eq_ignore_ascii_case(b"keep-alive") {
                    head.keep_alive = true;
                }
            }
        } else if is("expect") {
            head.expects_continue = field.value.eq_ignore_ascii_case(b"100-continue");
        } else if is("x-simulate") {
            head.script = Some(place(field.value));
        } else if is("upgrade") {
            head.upgrade = Some(place(field.value));
        } else if is("anthropic-version") {
            head.anthropic = true;
        } else if KEYS.into_iter().any(is) {
            head.credential = head.credential.or_else(|| Some(place(field.value)));
        }
    }
    Ok(Some(head))
}

/// A body in chunks, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// How far into the buffer everything is decoded.
    pub at: usize,
    past_data: bool,
}

impl Chunks {
    pub fn new(at: usize) -> Self {
        Self { at, past_data: false }
    }

    /// Appends to `body` what `buffer` holds beyond the last position; true when the body is whole.
    pub fn read(&mut self, buffer: &[u8], body: &mut Vec<u8>) -> Result<bool, Unreadable> {
        while !self.past_data {
            let rest = buffer.get(self.at..).unwrap_or_default();
            let Ok(parsed) = httparse::parse_chunk_size(rest) else { return Err(Unreadable(400)) };
            let httparse::Status::Complete((line, size)) = parsed else { return Ok(false) };
            if size == 0 {
                self.past_data = true;
                self.at += line;
                break;
            }
            let size = usize::try_from(size).ok().filter(|n| body.len() + n <= MOST_BODY);
            let size = size.ok_or(Unreadable(413))?;
            let Some(chunk) = rest.get(line..line + size + 2) else { return Ok(false) };
            let Some(data) = chunk.strip_suffix(b"\r\n") else { return Err(Unreadable(400)) };
            body.extend_from_slice(data);
            self.at += line + size + 2;
        }
        // trailers, up to an empty line
        loop {
            let rest = buffer.get(self.at..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', rest) else { return Ok(false) };
            self.at += end + 1;
            if end == 0 || rest[..end] == *b"\r" {
                return Ok(true);
            }
        }
    }
}

/// How an answer's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimited {
    Length(usize),
    Chunked,
    /// By the end of the connection.
    Close,
}

/// What the connection does after the answer, as the head says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// What the version implies.
    Unsaid,
    Close,
    /// For HTTP/1.0.
    KeepAlive,
}

/// Appends a head without its last, empty line.
pub(super) fn put_head(
    out: &mut Vec<u8>,
    status: u16,
    content_type: &str,
    delimited: Delimited,
    connection: Connection,
) {
    out.put("HTTP/1.1 ").num(status.into()).put(" ").put(reason(status)).put("\r\n");
    if !content_type.is_empty() {
        out.put("content-type: ").put(content_type).put("\r\n");
    }
    match delimited {
        Delimited::Length(bytes) => {
            out.put("content-length: ").num(bytes as u64).put("\r\n");
        }
        Delimited::Chunked => {
            out.put("transfer-encoding: chunked\r\n");
        }
        Delimited::Close => {}
    }
    match connection {
        Connection::Unsaid => {}
        Connection::Close => {
            out.put("connection: close\r\n");
        }
        Connection::KeepAlive => {
            out.put("connection: keep-alive\r\n");
        }
    }
}

/// Appends `data` as one chunk.
pub(super) fn put_chunk(out: &mut Vec<u8>, data: &[u8]) {
    let digits = (usize::BITS - data.len().leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(data.len() >> (4 * digit)) & 15]);
    }
    out.put("\r\n").extend_from_slice(data);
    out.put("\r\n");
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Site Overloaded",
        _ => "Unknown",
    }
}

/// The header fields as they arrived, for the echo; a head that was read once.
pub(super) fn fields(head: &[u8]) -> Vec<(String, String)> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    if request.parse(head).is_err() {
        return Vec::new();
    }
    let text = |field: &httparse::Header<'_>| {
        (field.name.to_owned(), String::from_utf8_lossy(field.value).into_owned())
    };
    request.headers.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let text = b"POST /v1/x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
            X-Simulate: tokens=1\r\nConnection: foo, CLOSE\r\nExpect: 100-continue\r\n\r\nhello";
        let complete = text.len() - 5;
        for cut in 0..complete {
            assert_eq!(head(&text[..cut]), Ok(None), "{cut}");
        }
        let head = head(text).unwrap().unwrap();
        assert_eq!(head.bytes, complete);
        assert_eq!(&text[head.target.clone()], b"/v1/x?y");
        assert_eq!(&text[head.script.unwrap()], b"tokens=1");
        assert_eq!((head.framing, head.keep_alive), (Framing::Length(5), false));
        assert!(head.expects_continue && head.chunks);
    }

    #[test]
    fn what_cannot_be_framed_is_refused() {
        let read = |fields: &str| head(format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes());
        assert_eq!(read("content-length: -1"), Err(Unreadable(400)));
        assert_eq!(read("transfer-encoding: gzip"), Err(Unreadable(400)));
        assert_eq!(read("content-length: 999999999999"), Err(Unreadable(413)));
        assert_eq!(read(&"a: b\r\n".repeat(300)), Err(Unreadable(431)));
        assert_eq!(head(b"\x16\x03\x01"), Err(Unreadable(400)));
    }

    #[test]
    fn chunks_are_read_however_they_arrive() {
        let text = b"5;ext=1\r\nhello\r\n1\r\n,\r\n0\r\nTrailer: x\r\n\r\nGET";
        for step in 1..text.len() {
            let (mut chunks, mut body, mut end) = (Chunks::new(0), Vec::new(), 0);
            while !chunks.read(&text[..end], &mut body).unwrap() {
                end = (end + step).min(text.len());
            }
            assert_eq!(body, b"hello,");
            assert_eq!(&text[chunks.at..], b"GET");
        }
        assert_eq!(Chunks::new(0).read(b"zz\r\n", &mut Vec::new()), Err(Unreadable(400)));
        assert_eq!(Chunks::new(0).read(b"1\r\nab\r\n", &mut Vec::new()), Err(Unreadable(400)));
    }

    #[test]
    fn a_chunk_says_its_size_without_leading_zeros() {
        let mut out = Vec::new();
        put_chunk(&mut out, &[b'a'; 17]);
        assert_eq!(out, b"11\r\naaaaaaaaaaaaaaaaa\r\n");
    }
}
