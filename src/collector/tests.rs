use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::*;
use crate::config::{Host, Origin};
use crate::telemetry::otlp::Tracer;

/// A collector that answers as it is told, one connection after the other.
struct Scripted {
    port: u16,
    bodies: Arc<Mutex<Vec<(String, usize)>>>,
}

fn scripted(answers: &'static [&'static str]) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let (kept, mut answers) = (Arc::clone(&bodies), answers.iter());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            while let Some(asked) = read_request(&mut stream) {
                kept.lock().unwrap().push(asked);
                let status = answers.next().unwrap_or(&"200 OK");
                if *status == "hang" {
                    pause(Duration::from_mins(1));
                }
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    Scripted { port, bodies }
}

/// Its target, and how long its body was.
fn read_request(stream: &mut TcpStream) -> Option<(String, usize)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let target = head.split(' ').nth(1).unwrap().to_owned();
    Some((target, length))
}

fn otlp(port: u16) -> Otlp {
    let host = Host::Name("127.0.0.1".into());
    Otlp {
        metrics: false,
        sample: 1.0,
        ..Otlp::new(Origin { tls: false, host, port, path: "/base".into() })
    }
}

fn start(otlp: &Otlp) -> (Collector, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    (Collector::start(otlp, &metrics, &|_| None).unwrap(), metrics)
}

/// Hands over so many blocks of one span each.
fn offer(collector: &Collector, blocks: usize) {
    let to = &collector.traces.as_ref().unwrap().to;
    for _ in 0..blocks {
        to.try_send(Block { bytes: vec![0x12, 0], spans: 1 }).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of the test's own")]
fn pause(time: Duration) {
    thread::sleep(time);
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Relaxed)
}

#[test]
fn what_is_left_is_sent_at_the_end() {
    let scripted = scripted(&[]);
    let (collector, metrics) = start(&otlp(scripted.port));
    offer(&collector, 3);
    assert!(collector.close(Duration::from_secs(20)));
    let bodies = scripted.bodies.lock().unwrap();
    assert_eq!(bodies.len(), 1);
    assert_eq!(bodies[0].0, "/base/v1/traces");
    assert_eq!(read(&metrics.signals().traces.sent), 3);
}

#[test]
fn a_collector_that_is_not_ready_is_asked_again() {
    let scripted = scripted(&["503 Service Unavailable", "429 Too Many Requests", "200 OK"]);
    let (collector, metrics) = start(&otlp(scripted.port));
    let to = collector.traces.as_ref().unwrap().to.clone();
    to.try_send(Block { bytes: Vec::new(), spans: 512 }).unwrap();
    let counts = metrics.signals();
    let begun = Instant::now();
    while read(&counts.traces.sent) < 512 && begun.elapsed() < Duration::from_secs(30) {
        pause(Duration::from_millis(20));
    }
    assert_eq!((read(&counts.traces.sent), read(&counts.traces.dropped)), (512, 0));
    let bodies = scripted.bodies.lock().unwrap();
    assert!(bodies.len() == 3 && bodies.iter().all(|body| body == &bodies[0]));
}

#[test]
fn what_it_never_takes_is_dropped_and_counted() {
    let scripted = scripted(&["400 Bad Request"]);
    let (collector, metrics) = start(&otlp(scripted.port));
    offer(&collector, 2);
    assert!(collector.close(Duration::from_secs(20)));
    let counts = metrics.signals();
    assert_eq!((read(&counts.traces.sent), read(&counts.traces.dropped)), (0, 2));
}

#[test]
fn a_collector_that_hangs_holds_nobody_up() {
    let scripted = scripted(&["hang"]);
    let (collector, metrics) = start(&otlp(scripted.port));
    let settings = collector.traces.clone().unwrap();
    let counts = metrics.signals();
    // far more than fits; each is taken or dropped at once
    for _ in 0..400 {
        let block = Block { bytes: vec![0; 60_000], spans: 500 };
        if settings.to.try_send(block).is_err() {
            drops(&counts.traces, 500);
        }
        pause(Duration::from_micros(200));
    }
    let begun = Instant::now();
    while read(&counts.traces.dropped) == 0 && begun.elapsed() < Duration::from_secs(20) {
        pause(Duration::from_millis(10));
    }
    assert!(read(&counts.traces.dropped) > 0);
    drop(Tracer::new(settings));
    let begun = Instant::now();
    assert!(!collector.close(Duration::from_millis(300)));
    assert!(begun.elapsed() < Duration::from_secs(5));
}
