//! The simulator over real sockets, spoken to by hand: what is checked is the bytes.
mod connections;
mod faces;
mod faults;
mod limits;

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::simulate::{Options, Simulator, start};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const TOOLS: &str = r#""tools":[{"name":"f","input_schema":{"properties":{"a":{"type":"string"}}},
    "type":"function","function":{"name":"f","parameters":{"properties":{"a":{"type":"string"}}}},
    "parameters":{"properties":{"a":{"type":"string"}}},
    "functionDeclarations":[{"name":"f","parameters":{"properties":{"a":{"type":"STRING"}}}}]}]"#;

fn simulator() -> Simulator {
    start(Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() }).unwrap()
}

fn connect(simulator: &Simulator) -> TcpStream {
    let stream = TcpStream::connect(simulator.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn request(path: &str, script: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nx-simulate: {script}\r\ncontent-length: {length}\r\n"
    )
}

/// Everything that comes back on a connection of its own, and how it ended.
fn raw(simulator: &Simulator, text: &str) -> (Vec<u8>, io::Result<()>) {
    let mut stream = connect(simulator);
    stream.write_all(text.as_bytes()).unwrap();
    let mut all = Vec::new();
    let end = stream.read_to_end(&mut all).map(drop);
    (all, end)
}

fn ask_raw(
    simulator: &Simulator,
    path: &str,
    script: &str,
    body: &str,
) -> (Vec<u8>, io::Result<()>) {
    let head = request(path, script, body);
    raw(simulator, &format!("{head}connection: close\r\n\r\n{body}"))
}

/// Head and body of a whole answer, the body out of its chunks.
fn ask(simulator: &Simulator, path: &str, script: &str, body: &str) -> (String, Vec<u8>) {
    let (all, end) = ask_raw(simulator, path, script, body);
    end.unwrap();
    let (head, body) = split_head(&all);
    if head.contains("chunked") {
        let (body, whole) = unchunk(&body);
        assert!(whole, "{path} {script}: the last chunk is missing");
        return (head, body.concat());
    }
    (head, body)
}

fn split_head(all: &[u8]) -> (String, Vec<u8>) {
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(all[..end].to_vec()).unwrap(), all[end..].to_vec())
}

/// The chunks, and whether the last one, which is empty, was there.
fn unchunk(mut rest: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut chunks = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let line = std::str::from_utf8(&rest[..end]).unwrap();
        let Ok(size) = usize::from_str_radix(line, 16) else { return (chunks, false) };
        if size == 0 {
            return (chunks, rest == b"0\r\n\r\n");
        }
        chunks.push(rest[end + 2..end + 2 + size].to_vec());
        rest = &rest[end + 4 + size..];
    }
    (chunks, false)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{e}: {bytes:?}"))
}

/// The JSON of each event of a stream, whatever its dialect.
fn events(body: &[u8]) -> Vec<Value> {
    let body = std::str::from_utf8(body).unwrap();
    if body.starts_with('[') {
        return json(body.as_bytes()).as_array().unwrap().clone();
    }
    let line = |line: &str| {
        let data = line.strip_prefix("data:").map_or(line, str::trim_start);
        serde_json::from_str(data).ok()
    };
    body.lines().filter_map(line).collect()
}

/// Waits for a condition that comes about on another thread; says how long it took.
fn until(mut done: impl FnMut() -> bool) -> Duration {
    let from = Instant::now();
    while !done() {
        assert!(from.elapsed() < Duration::from_secs(5), "it never came about");
        std::thread::yield_now();
    }
    from.elapsed()
}
