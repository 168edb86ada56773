//! A stand-in for `tidegate simulate`, for a binary that has none: same flags, same header, chat
//! completions only.
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::{Instant, sleep_until};

/// `--listen ADDRESS --answer-bytes N`; other flags are passed over.
pub fn main(args: &[String]) -> anyhow::Result<()> {
    let flag = |name| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1));
    let listen: SocketAddr = flag("--listen").context("--listen")?.parse()?;
    let bytes: usize = flag("--answer-bytes").context("--answer-bytes")?.parse()?;
    let (start, end) = (
        r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":""#,
        r#""},"finish_reason":"stop"}]}"#,
    );
    let body = format!("{start}{}{end}", "x".repeat(bytes.saturating_sub(start.len() + end.len())));
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer: &'static [u8] = answer.into_bytes().leak();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move { drop(serve(stream, answer).await) });
        }
    })
}

async fn serve(mut stream: TcpStream, answer: &[u8]) -> anyhow::Result<()> {
    let mut buffer = vec![0; 8 * 1024];
    let mut end = 0;
    loop {
        let Some((head, length, script, close)) = head(&buffer[..end])? else {
            end += more(&mut stream, &mut buffer[end..]).await?;
            continue;
        };
        while end < head + 128.min(length) {
            end += more(&mut stream, &mut buffer[end..]).await?;
        }
        let begin = buffer[head..end.min(head + 128)].to_vec();
        let mut left = (head + length).saturating_sub(end);
        buffer.copy_within((head + length).min(end)..end, 0);
        end = end.saturating_sub(head + length);
        let mut sink = if left > 0 { vec![0; 64 * 1024] } else { Vec::new() };
        while left > 0 {
            let most = left.min(sink.len());
            left -= more(&mut stream, &mut sink[..most]).await?;
        }
        if memchr::memmem::find(&begin, b"\"stream\":true").is_some() {
            let tag = blake3::hash(&begin).to_hex();
            events(&mut stream, &tag[..16], &script).await?;
        } else {
            stream.write_all(answer).await?;
        }
        if close {
            return Ok(());
        }
    }
}

async fn more(stream: &mut TcpStream, into: &mut [u8]) -> anyhow::Result<usize> {
    let read = stream.read(into).await?;
    ensure!(read > 0, "closed");
    Ok(read)
}

/// Length of the head, length of the body, the script in `x-simulate`, and whether this is the
/// connection's last request.
fn head(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize, String, bool)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes)? else { return Ok(None) };
    let value = |name: &str| {
        let header = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    let length = value("content-length").map_or(Ok(0), |length| length.parse())?;
    let close = value("connection").is_some_and(|value| value == "close");
    Ok(Some((head, length, value("x-simulate").unwrap_or_default(), close)))
}

async fn events(stream: &mut TcpStream, tag: &str, script: &str) -> anyhow::Result<()> {
    let setting = |name: &str| {
        let found = script.split(';').filter_map(|part| part.trim().split_once('='));
        found.into_iter().find_map(|(key, value)| (key == name).then_some(value))
    };
    let tokens: u32 = setting("tokens").unwrap_or("32").parse()?;
    let gap = setting("gap").unwrap_or("0ms");
    let gap = match gap.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(millis.parse()?),
        None => Duration::from_secs(gap.trim_end_matches('s').parse()?),
    };
    let mut out = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                   transfer-encoding: chunked\r\n\r\n"
        .to_owned();
    let start = Instant::now();
    for token in 0..tokens {
        sleep_until(start + gap * token).await;
        let event = format!(
            "data: {{\"id\":\"{tag}\",\"object\":\"chat.completion.chunk\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word{token} \"}}}}]}}\n\n"
        );
        write!(out, "{:x}\r\n{event}\r\n", event.len())?;
        stream.write_all(out.as_bytes()).await?;
        out.clear();
    }
    stream.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await?;
    Ok(())
}
