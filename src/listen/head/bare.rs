//! Gives a body to the errors that the HTTP/1.x parser answers by itself.
//!
//! A head that is no HTTP never becomes a request, so hyper answers it alone: a status line,
//! `content-length: 0` and nothing that a client library could show. The connection's writer, which
//! knows that no call is active, swaps those bytes for the same answer in the caller's dialect.
use bytes::Bytes;

use super::HeadScan;
use crate::wire::FaultKind;

/// An error that the parser found before there was a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BareError<'a> {
    pub kind: FaultKind,
    pub message: &'static str,
    /// What came of the path, at most 128 bytes, without the query; empty when nothing legible came.
    pub path: &'a str,
}

/// Replaces an answer without a body that hyper is about to write.
///
/// Call it only while no call is active, with all bytes of the write. `None`: these are not such
/// an answer (an earlier reply may stand before it), write them as they are. `body` gives the JSON.
pub fn replace_bare_error(
    written: &[u8],
    scan: &HeadScan,
    body: impl FnOnce(&BareError<'_>) -> Bytes,
) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(written).ok()?;
    let lines = text.strip_suffix("\r\n\r\n")?;
    let (status_line, fields) = lines.split_once("\r\n")?;
    let status = status_line.strip_prefix("HTTP/1.1 ").or(status_line.strip_prefix("HTTP/1.0 "))?;
    if !status.starts_with('4') || !fields.split("\r\n").any(|line| line == "content-length: 0") {
        return None;
    }
    // a target that fills the whole bound never ends its line: the parser calls that a large head
    let endless_target = status.starts_with("431") && scan.in_request_line();
    let (kind, message) = match status.get(..3)? {
        "414" => (FaultKind::UriTooLong, "the request line is too long"),
        "431" if endless_target => (FaultKind::UriTooLong, "the request line is too long"),
        "431" => {
            (FaultKind::HeadersTooLarge, "the request head is too large or has too many lines")
        }
        _ => (FaultKind::BadRequest, "the request head is malformed"),
    };
    let body = body(&BareError { kind, message, path: path_of(scan.target()) });
    let status_line = if endless_target { "HTTP/1.1 414 URI Too Long" } else { status_line };
    let mut out = Vec::with_capacity(written.len() + 128 + body.len());
    out.extend_from_slice(status_line.as_bytes());
    for line in fields.split("\r\n") {
        if !line.starts_with("content-length:") && !line.starts_with("connection:") {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(line.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\ncontent-type: application/json\r\nx-tidegate-source: policy");
    out.extend_from_slice(b"\r\nconnection: close\r\ncontent-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(&body);
    Some(out)
}

/// The legible beginning of a target's path.
fn path_of(target: &[u8]) -> &str {
    let end = target.iter().position(|byte| *byte == b'?' || !byte.is_ascii_graphic());
    std::str::from_utf8(&target[..end.unwrap_or(target.len())]).unwrap_or_default()
}
