//! Somebody who looks at the page while the load runs: readers of `/live`, as many as there are open tabs.
//! Threads of the driver, so that their work is nobody's who is measured.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// Tabs that are open at once.
const TABS: usize = 4;
/// Before it is tried again: the instance may not listen yet.
const PAUSE: Duration = Duration::from_millis(200);

/// They come back whenever their stream ends, for as long as the driver lives.
pub fn look(at: SocketAddr) {
    for _ in 0..TABS {
        thread::spawn(move || {
            loop {
                // the next try shows whether it is over
                let _ = read(at);
                thread::park_timeout(PAUSE);
            }
        });
    }
}

fn read(at: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(at)?;
    write!(stream, "GET /live HTTP/1.1\r\nhost: {at}\r\naccept: text/event-stream\r\n\r\n")?;
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}
