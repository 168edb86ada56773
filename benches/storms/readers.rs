//! A thousand clients that read their streams far more slowly than these come: what the process
//! holds for them must not grow with time, whatever the backend would send.
use std::net::SocketAddr;
use std::time::Duration;

use tidegate::simulate;
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};

use crate::ask::chat;
use crate::http::Connection;
use crate::report::Line;
use crate::{Lab, machine};

/// Ten megabytes, as fast as they are taken.
const HOW: &str = "tokens=10000; token-bytes=1KiB";
/// A reader takes a kilobyte that often.
const SIP: Duration = Duration::from_millis(500);
const MIB: f64 = 1024.0 * 1024.0;
/// Growth that is noise.
const NOISE: f64 = 4.0;

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Line>> {
    let listen = ([127, 0, 0, 1], 0).into();
    let backend = simulate::start(simulate::Options { listen, ..simulate::Options::default() })?;
    let policy = format!(
        "upstreams: {{ one: {{ dialect: openai, url: \"http://{}\" }} }}
routes: [{{ path: /, to: one }}]
",
        backend.addr
    );
    let child = lab.child("readers", &policy)?;
    let rss = || machine::rss(child.id()) as f64 / MIB;
    let before = rss();
    let count = lab.size(1_000, 100);
    let until = Instant::now() + lab.size(Duration::from_secs(30), Duration::from_secs(10));
    let readers: Vec<_> =
        (0..count).map(|_| tokio::task::spawn_local(read(child.at, until))).collect();
    let mut samples = Vec::new();
    while Instant::now() < until {
        sleep(Duration::from_millis(250)).await;
        samples.push(rss());
    }
    let (mut open, mut taken) = (0, 0);
    for reader in readers {
        if let Ok(bytes) = reader.await? {
            open += 1;
            taken += bytes;
        }
    }
    child.end()?;
    // the first third is for opening them
    let most = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let third = samples.len() / 3;
    let (early, late) = (most(&samples[third..2 * third]), most(&samples[2 * third..]));
    let figure = format!(
        "{open} of {count} open to the end, {:.1} MiB read; resident {before:.0} MiB, then {early:.1}, \
         then {late:.1}: {:.0} kB each",
        taken as f64 / MIB,
        (late - before) * MIB / 1e3 / f64::from(count),
    );
    let passed = open == count && taken > 0 && late <= early + NOISE.max(early * 0.02);
    let what = format!("{count} slow readers: memory");
    Ok(vec![Line::that(passed, &what, figure, "the last third as the one before")])
}

/// Reads until the time is over; a stream that ends before that is an error. Returns the bytes.
async fn read(to: SocketAddr, until: Instant) -> anyhow::Result<usize> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut connection = Connection::over(socket.connect(to).await?, 2048);
    let status = connection.send(&chat("", true, 1, HOW)).await?;
    anyhow::ensure!(status == 200, "status {status}");
    let mut bytes = 0;
    while Instant::now() < until {
        anyhow::ensure!(connection.data(|piece| bytes += piece.len()).await?, "an early end");
        sleep(SIP).await;
    }
    Ok(bytes)
}
