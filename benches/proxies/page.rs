//! Somebody who looks at the page while the load runs: readers of `/live`, as many as there are open tabs.
//! Threads of the driver, so that their work is nobody's who is measured.
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::onlookers::Taken;

/// Tabs that are open at once.
const TABS: usize = 4;
/// Before it is tried again: the instance may not listen yet.
const PAUSE: Duration = Duration::from_millis(200);

/// They come back whenever their stream ends, for as long as the driver lives. What each has got.
pub fn look(at: SocketAddr) -> Vec<Taken> {
    let tabs: Vec<Taken> = (0..TABS).map(|_| Taken::new("events of a page")).collect();
    for taken in tabs.clone() {
        thread::spawn(move || {
            loop {
                // the next try shows whether it is over
                let _ = read(at, &taken);
                thread::park_timeout(PAUSE);
            }
        });
    }
    tabs
}

fn read(at: SocketAddr, taken: &Taken) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(at)?;
    write!(stream, "GET /live HTTP/1.1\r\nhost: {at}\r\naccept: text/event-stream\r\n\r\n")?;
    let mut lines = BufReader::with_capacity(64 << 10, stream);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if line.starts_with(b"event: now") {
            taken.one();
        }
        line.clear();
    }
    Ok(())
}
