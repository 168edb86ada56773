use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::LocalSet;

use super::*;
use crate::drain::{self, Trigger};
use crate::io::Stream;
use crate::listen::Door;
use crate::listen::socket::Peer;
use crate::pipeline::worker::Worker;
use crate::snapshot::{Lasting, Live, Snapshot};
use crate::telemetry::logs::Logs;
use crate::telemetry::metrics::Metrics;

const BOUNDS: Bounds = Bounds {
    head: Duration::from_secs(10),
    idle: Duration::from_secs(75),
    write: Duration::from_mins(1),
};

fn tick(seconds: u32) -> Tick {
    Tick::from_raw(seconds * 1000)
}

fn watch() -> Arc<Watch> {
    Arc::new(Watch::new(Arc::default()))
}

/// Whether a connection is still within its bounds at that second, and beyond them at this one.
fn ends_between(watch: &Watch, alive: u32, dead: u32) {
    assert!(!watch.overdue(tick(alive), &BOUNDS), "cut at {alive} s");
    assert!(watch.overdue(tick(dead), &BOUNDS), "alive at {dead} s");
}

#[test]
fn each_state_has_its_own_bound() {
    let silent = watch();
    ends_between(&silent, 75, 76);

    let inside = watch();
    inside.read(b"POST /v1/chat HTTP/1.1\r\nho");
    ends_between(&inside, 10, 11);
    inside.read(b"st: a\r\n\r\n");
    ends_between(&inside, 75, 76);

    let busy = watch();
    let (one, two) = (busy.begin_call(), busy.begin_call());
    assert!(!busy.overdue(tick(100_000), &BOUNDS), "calls take as long as they take");
    drop(one);
    assert!(!busy.overdue(tick(100_000), &BOUNDS));
    drop(two);
    ends_between(&busy, 75, 76);

    let stalled = watch();
    let call = stalled.begin_call();
    stalled.wrote(true);
    ends_between(&stalled, 60, 61);
    stalled.wrote(true);
    ends_between(&stalled, 60, 61);
    stalled.wrote(false);
    assert!(!stalled.overdue(tick(100_000), &BOUNDS), "it reads again");
    drop(call);
}

/// A worker without calls looks at the clock once a second. What begins in between is not born old.
#[test]
fn a_stale_clock_makes_nobody_old() {
    let clock = Arc::new(Clock::new());
    let spin = |for_: Duration| {
        let begun = std::time::Instant::now();
        while begun.elapsed() < for_ {
            std::hint::spin_loop();
        }
    };
    let old = clock.now();
    spin(Duration::from_millis(5));
    let watch = Watch::new(Arc::clone(&clock));
    let since = || Tick::from_raw(watch.since.load(Relaxed));
    let entered = since();
    assert!(entered.since(old) >= Duration::from_millis(5));
    spin(Duration::from_millis(5));
    watch.read(b"GET / HT");
    assert!(since().since(entered) >= Duration::from_millis(4));
}

/// A door with nothing behind it, and the means to move its life on.
struct House {
    door: Rc<Door>,
    trigger: Trigger,
}

impl House {
    fn new() -> Self {
        let config = crate::config::parse("test.yaml", "upstreams: { ollama: {} }", &|_| None);
        let metrics = Arc::new(Metrics::new());
        let lasting = Lasting::default();
        let snapshot = Snapshot::prepare(config.unwrap(), &lasting, &metrics, &|_| None).unwrap();
        let live = Arc::new(Live::new(snapshot));
        let (trigger, drain) = drain::pair();
        let lines = Logs::off().lines();
        let worker = Rc::new(Worker::new(live, metrics, lines, drain, 1, Default::default()));
        Self { door: Rc::new(Door::new(worker, 100, 32 * 1024)), trigger }
    }

    /// A client's end of a new connection.
    fn enter(&self) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        let peer = Peer::Unix { uid: 0, gid: 0, pid: None };
        tokio::task::spawn_local(Rc::clone(&self.door).serve(
            Stream::Unix(near),
            peer,
            Rc::new(()),
        ));
        far
    }

    fn sweep(&self, seconds: u32) {
        self.door.connections.sweep(tick(seconds), &BOUNDS);
    }

    async fn left(&self, connections: usize) {
        while self.door.connections.len() != connections {
            tokio::task::yield_now().await;
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), future).await.expect("it hangs")
    })
}

/// An answer's head and body.
async fn answer(client: &mut UnixStream) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"\"}\n") {
        assert!(client.read_buf(&mut got).await.unwrap() > 0, "it ended early");
    }
    String::from_utf8(got).unwrap()
}

#[test]
fn the_sweep_ends_connections_that_stand_too_long() {
    block_on(async {
        let house = House::new();
        let mut silent = house.enter();
        let mut slow = house.enter();
        let mut good = house.enter();
        slow.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
        house.left(3).await;
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        house.sweep(9);
        house.sweep(12);
        house.left(2).await;
        assert_eq!(slow.read(&mut [0; 8]).await.unwrap(), 0);
        // the others serve on
        for client in [&mut good, &mut silent] {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            assert!(answer(client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        }
        house.sweep(70);
        assert_eq!(house.door.connections.len(), 2);
        house.sweep(80);
        house.left(0).await;
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(good.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

/// Draining ends idle connections, and others behind the answer they wait for.
#[test]
fn draining_ends_connections_after_their_answer() {
    block_on(async {
        let house = House::new();
        let mut idle = house.enter();
        let mut late = house.enter();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        answer(&mut idle).await;
        late.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await.unwrap();
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        house.trigger.advance(Stage::Draining);
        house.door.connections.nudge_all();
        assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
        house.left(1).await;
        late.write_all(b"\r\n").await.unwrap();
        let mut got = Vec::new();
        late.read_to_end(&mut got).await.unwrap();
        let got = String::from_utf8(got).unwrap();
        assert!(got.starts_with("HTTP/1.1 503 ") && got.contains("connection: close"), "{got}");
        house.left(0).await;
    });
}

#[test]
fn the_end_cuts_what_is_left() {
    block_on(async {
        let house = House::new();
        let mut client = house.enter();
        client.write_all(b"POST /v1/chat/completions HTTP/1.1\r\n").await.unwrap();
        house.left(1).await;
        house.trigger.advance(Stage::Ending);
        house.door.connections.nudge_all();
        house.left(0).await;
        // a reset, where it had sent more than was read
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
    });
}
