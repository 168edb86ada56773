//! A collector of telemetry that takes everything and looks at none of it but where it was sent: threads of
//! the driver, so that its work is nobody's who is measured.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::onlookers::Taken;

/// Lives as long as the driver. Where it is, and what it has got.
pub fn start() -> anyhow::Result<(SocketAddr, [Taken; 2])> {
    let taken = [Taken::new("reports of spans"), Taken::new("reports of metrics")];
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    let of_all = taken.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let taken = of_all.clone();
            thread::spawn(move || take(stream, &taken));
        }
    });
    Ok((at, taken))
}

/// Until the other side has enough.
fn take(mut stream: TcpStream, [spans, metrics]: &[Taken; 2]) -> std::io::Result<()> {
    let mut read = BufReader::with_capacity(1 << 20, stream.try_clone()?);
    loop {
        let (mut length, mut goes_to) = (0, None);
        loop {
            let mut line = String::new();
            if read.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            if line.starts_with("POST /v1/traces ") {
                goes_to = Some(spans);
            } else if line.starts_with("POST /v1/metrics ") {
                goes_to = Some(metrics);
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let came = std::io::copy(&mut (&mut read).take(length), &mut std::io::sink())?;
        if let Some(taken) = goes_to.filter(|_| came > 0) {
            taken.one();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}
