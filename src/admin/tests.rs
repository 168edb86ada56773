//! What the tests of this room share.
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

/// Asks an admin listener: status, head and body; a body that is no JSON is null.
pub fn ask(to: SocketAddr, line: &str, headers: &str, body: &str) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(to).unwrap();
    let length = body.len();
    // a refusal may come before all of a body is sent
    let _ = write!(
        stream,
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\
         content-length: {length}\r\n\r\n{body}"
    );
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head[9..12].parse().unwrap();
    (status, head.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
}
