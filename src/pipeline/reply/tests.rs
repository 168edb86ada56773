use std::pin::Pin;

use http_body::Body as _;
mod silence;

use std::future::poll_fn;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::LocalSet;

use super::*;
use crate::clock::Tick;
use crate::drain;
use crate::flight::{About, Expired, Limits};
use crate::identity::{Class, Identity, Rung};
use crate::pipeline::call::Call;
use crate::pipeline::gate::HeadFacts;
use crate::pipeline::worker::Worker;
use crate::pipeline::{Caller, admit};
use crate::route::{Aim, Asked, Match};
use crate::snapshot::{Lasting, Live, Snapshot};
use crate::telemetry::access::AccessLog;
use crate::telemetry::logs::Logs;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstream;
use crate::upstream::call::{Outbound, send};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::visit::Spread;

const SSE: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

const LONG: Duration = Duration::from_secs(30);
const LIMITS: Limits = Limits {
    reading: LONG,
    queued: LONG,
    first_byte: LONG,
    idle: LONG,
    total: LONG,
    ..Limits::UNBOUNDED
};

/// What the log has been given.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A worker, an upstream on a socket of its own, and the log.
struct World {
    worker: Rc<Worker>,
    listener: UnixListener,
    log: AccessLog,
    written: Log,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let text = format!(
            "upstreams:\n  a: {{ url: 'unix:{}', dialect: openai, concurrency: 1 }}\nroutes: [{{ to: a }}]\n",
            socket.display()
        );
        let config = crate::config::parse("test.yaml", &text, &|_| None).unwrap();
        let metrics = Arc::new(Metrics::new());
        let snapshot = Snapshot::prepare(config, &Lasting::default(), &metrics, &|_| None).unwrap();
        let written = Log::default();
        let log = AccessLog::to(Box::new(written.clone()), false, metrics.access_lines()).unwrap();
        let (_, drain) = drain::pair();
        let live = Arc::new(Live::new(snapshot));
        let worker = Rc::new(Worker::new(
            live,
            metrics,
            Logs::from(log.clone()).lines(),
            drain,
            1,
            Default::default(),
        ));
        Self { worker, listener, log, written, _dir: dir }
    }

    fn upstream(&self) -> Arc<Upstream> {
        Arc::clone(&self.worker.snapshot().upstreams[0])
    }

    /// Lines of the access log, as JSON.
    fn lines(&self) -> Vec<serde_json::Value> {
        self.worker.lines.borrow_mut().flush();
        assert!(self.log.close(Duration::from_secs(10)));
        let written = self.written.0.lock();
        written
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    /// Calls in flight, connections open and idle, and calls in the list.
    fn counted(&self) -> (i64, i64, i64, usize) {
        let gauges = &self.upstream().shared.gauges;
        (
            gauges.in_flight.load(Relaxed),
            gauges.open.load(Relaxed),
            gauges.idle.load(Relaxed),
            self.worker.flights.list().len(),
        )
    }

    fn record(&self) -> Record {
        let (head, ()) = http::Request::post("/v1/chat/completions").body(()).unwrap().into_parts();
        let (seen, facts) = (Arc::default(), HeadFacts::default());
        let caller =
            Caller { peer: Arc::from("test"), seen, facts, place: Rc::new(()), task: None };
        Record::open(&self.worker, &caller, &head, Instant::now())
    }

    fn ticket(&self, record: &Record, limits: Limits) -> Ticket {
        let about = About::new(record.id, "chat", record.started());
        self.worker.flights.begin(&self.worker.clock, limits, about)
    }

    async fn lease(
        &self,
        snapshot: &Snapshot,
        ticket: &Ticket,
        aim: &Aim,
        kind: Kind,
        record: &mut Record,
    ) -> admit::Lease {
        let who = Rc::new(nobody());
        let call = Call::empty(kind);
        admit::admit(&self.worker, snapshot, ticket, &who, aim, &call, record).await.ok().unwrap()
    }

    /// A call up to the reply, and the backend's end after it has sent `answer`.
    async fn reply(&self, answer: &str) -> (Response<ReplyBody>, UnixStream) {
        self.reply_under(LIMITS, false, answer).await
    }

    async fn reply_under(
        &self,
        limits: Limits,
        hides_usage: bool,
        answer: &str,
    ) -> (Response<ReplyBody>, UnixStream) {
        let mut record = self.record();
        let ticket = self.ticket(&record, limits);
        let snapshot = self.worker.snapshot();
        let upstream = self.upstream();
        let Match { route, endpoint, .. } = route(&snapshot);
        let kind = endpoint.kind;
        let aim = Aim::new(route, 0);
        record.routed(&aim, kind);
        let lease = self.lease(&snapshot, &ticket, &aim, kind, &mut record).await;
        let mut headers = HeaderMap::new();
        let body = Outgoing::whole(Bytes::from_static(b"{}"));
        let (method, repeats) = (&Method::POST, &|_: &HeaderMap| true);
        let mut call = Outbound { method, target: "/", headers: &mut headers, body, repeats };
        let backend = async {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"{}") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        };
        let visit = upstream.choose(Spread::default(), &[], Instant::now()).unwrap();
        let sending = send(&self.worker.pools, &ticket, &upstream, visit, &mut call);
        let (answer, stream) = tokio::join!(sending, backend);
        let answer = answer.unwrap();
        record.answered(&answer);
        let clock = Arc::clone(&self.worker.clock);
        let form = form_of(&answer.headers);
        let sent =
            Sent { answer, kind, form, hides_usage, clock, retried: false, substituted: false };
        (sent.reply(ticket, lease, Dialect::OpenAi).into_response(record), stream)
    }
}

fn nobody() -> Identity {
    Identity {
        agent: "test".into(),
        rung: Rung::Address,
        parent: None,
        session: None,
        team: None,
        team_proven: false,
        class: Class::Default,
        credential: None,
        grant: None,
        unlisted: None,
    }
}

/// Where every call of these tests goes.
fn route(snapshot: &Snapshot) -> Match<'_, 'static> {
    let path = "/v1/chat/completions";
    let (who, headers) = (nobody(), HeaderMap::new());
    let asked = Asked { method: &Method::POST, path, who: &who, headers: &headers };
    snapshot.routes.first(asked).unwrap()
}

async fn frame(body: &mut ReplyBody) -> Option<Result<Bytes, BrokenOff>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

async fn data(body: &mut ReplyBody) -> Bytes {
    frame(body).await.unwrap().unwrap()
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), future).await.expect("it hangs")
    })
}

async fn is_gone(stream: &mut UnixStream) {
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "the backend is still asked");
}

#[test]
fn a_stream_that_ends_well_gives_everything_back_with_its_last_frame() {
    block_on(async {
        let world = World::new();
        let answer = format!("{SSE}{}", chunk("data: {\"choices\":[]}\n\n"));
        let (reply, mut stream) = world.reply(&answer).await;
        let mut body = reply.into_body();
        data(&mut body).await;
        assert!(!body.is_end_stream());
        assert_eq!(world.counted(), (1, 1, 0, 1));
        let last = format!("{}0\r\n\r\n", chunk("data: [DONE]\n\n"));
        stream.write_all(last.as_bytes()).await.unwrap();
        data(&mut body).await;
        assert!(body.is_end_stream());
        assert_eq!(world.counted(), (0, 1, 1, 1));
        drop(body);
        assert_eq!(world.counted(), (0, 1, 1, 0));
        let lines = world.lines();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["outcome"], "complete");
    });
}

/// The error event is a frame like others, and no end: hyper must not take it for one.
#[test]
fn a_stream_that_dies_ends_with_an_event_and_then_breaks_off() {
    for dies in ["", "ffffz", "5\r\nab"] {
        block_on(async {
            let world = World::new();
            let first = chunk("data: {\"choices\":[]}\n\n");
            let (reply, mut stream) = world.reply(&format!("{SSE}{first}")).await;
            let mut body = reply.into_body();
            data(&mut body).await;
            stream.write_all(dies.as_bytes()).await.unwrap();
            drop(stream);
            let mut event = data(&mut body).await;
            if dies.ends_with("ab") {
                assert_eq!(event, "ab");
                event = data(&mut body).await;
                assert!(event.starts_with(b"\n\n"), "the torn event is ended first");
            }
            let text = std::str::from_utf8(&event).unwrap().trim_start();
            assert!(text.starts_with("data: {\"error\":") && text.ends_with("\n\n"), "{text}");
            assert!(!body.is_end_stream(), "a clean end after {dies:?}");
            assert!(frame(&mut body).await.unwrap().is_err());
            assert!(!body.is_end_stream());
            assert_eq!(world.counted(), (0, 0, 0, 1));
            drop(body);
            let lines = world.lines();
            assert_eq!(lines.len(), 1);
            assert_eq!(lines[0]["outcome"], "upstream_broken");
        });
    }
}

/// Silence for longer than is allowed: the backend is left at once, not when the client has read on.
#[test]
fn a_stream_that_falls_silent_is_left() {
    block_on(async {
        let world = World::new();
        let token = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
        let answer = format!("{SSE}{}", chunk(token));
        let (reply, mut stream) = world.reply(&answer).await;
        let mut body = reply.into_body();
        data(&mut body).await;
        world.worker.flights.sweep(Tick::from_raw(100));
        world.worker.flights.sweep(Tick::from_raw(60_000));
        let event = data(&mut body).await;
        assert!(event.starts_with(b"data: {\"error\":"));
        is_gone(&mut stream).await;
        assert!(!body.is_end_stream());
        assert!(frame(&mut body).await.unwrap().is_err());
        drop(body);
        let lines = world.lines();
        assert_eq!((lines.len(), lines[0]["outcome"].as_str()), (1, Some("deadline_idle")));
        let deadlines = world.upstream().shared.gauges.deadlines().total();
        assert_eq!((world.counted(), deadlines), ((0, 0, 0, 0), 1));
    });
}

#[test]
fn a_client_that_leaves_ends_the_call() {
    block_on(async {
        let world = World::new();
        let answer = format!("{SSE}{}", chunk("data: {\"choices\":[]}\n\n"));
        let (reply, mut stream) = world.reply(&answer).await;
        let mut body = reply.into_body();
        data(&mut body).await;
        drop(body);
        is_gone(&mut stream).await;
        assert_eq!(world.counted(), (0, 0, 0, 0));
        let lines = world.lines();
        assert_eq!((lines.len(), lines[0]["outcome"].as_str()), (1, Some("client_gone")));
    });
}

/// Where a length was announced there is no room for an event.
#[test]
fn an_answer_of_known_length_just_breaks_off() {
    block_on(async {
        let world = World::new();
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
        let (reply, stream) = world.reply(head).await;
        let mut body = reply.into_body();
        assert_eq!(data(&mut body).await, "{");
        drop(stream);
        assert!(frame(&mut body).await.unwrap().is_err());
        assert!(!body.is_end_stream());
        drop(body);
        assert_eq!(world.counted(), (0, 0, 0, 0));
        assert_eq!(world.lines().len(), 1);
    });
}

/// An answer of ours is sent whole; the record says what it stands for.
#[test]
fn a_refusal_is_recorded_as_what_it_was() {
    for (expired, outcome, deadlines) in [
        (Expired::FirstByte, "deadline_first_byte", 1),
        (Expired::Total, "deadline_total", 1),
        (Expired::Queued, "deadline_queue", 1),
    ] {
        block_on(async {
            let world = World::new();
            let mut record = world.record();
            let snapshot = world.worker.snapshot();
            let Match { route, endpoint, .. } = route(&snapshot);
            record.routed(&Aim::new(route, 0), endpoint.kind);
            let refusal = Refusal::expired(expired);
            drop(refusal.answer(Dialect::OpenAi, record));
            let lines = world.lines();
            assert_eq!((lines.len(), lines[0]["outcome"].as_str()), (1, Some(outcome)));
            let gauges = &world.upstream().shared.gauges;
            assert_eq!(gauges.deadlines().total(), deadlines);
        });
    }
    let world = block_on(async { World::new() });
    drop(Refusal::no_route("/x").answer(Dialect::OpenAi, world.record()));
    drop(world.record());
    let lines = world.lines();
    assert_eq!(lines[0]["outcome"], "refused");
    assert_eq!(
        (lines[1]["outcome"].as_str(), &lines[1]["status"]),
        (Some("client_gone"), &499.into())
    );
}
