use crate::upstream::visit::Spread;
use std::future::poll_fn;
use std::path::PathBuf;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::LocalSet;

use super::*;
use crate::clock::Tick;
use crate::flight::{About, Flights, Limits, Ticket};
use crate::request_id::RequestIds;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Registry;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One worker's view of an upstream whose addresses are sockets in a directory of its own.
struct World {
    dir: tempfile::TempDir,
    upstream: Upstream,
    pools: Pools,
    flights: Rc<Flights>,
    /// May the work be done twice?
    repeats: bool,
}

impl World {
    fn new(sockets: &[&str], extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = |name: &&str| format!("'unix:{}'", dir.path().join(name).display());
        let urls: Vec<String> = sockets.iter().map(url).collect();
        let text =
            format!("upstreams:\n  a: {{ urls: [{}], dialect: openai{extra} }}\n", urls.join(", "));
        let config = crate::config::parse("test.yaml", &text, &|_| None).unwrap();
        let (registry, metrics) = (Registry::default(), Metrics::new());
        let upstream =
            Upstream::prepare(&config.upstreams[0], &registry, 0, &metrics, &|_| None).unwrap();
        let pools = Pools::new(Arc::default(), 1);
        Self { dir, upstream, pools, flights: Rc::default(), repeats: true }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn listen(&self, name: &str) -> UnixListener {
        UnixListener::bind(self.path(name)).unwrap()
    }

    fn flight(&self) -> Ticket {
        let limits = Limits {
            reading: Duration::from_secs(30),
            queued: Duration::from_secs(30),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(30),
            ..Limits::UNBOUNDED
        };
        let about = About::new(RequestIds::new().next(), "", Instant::now());
        self.flights.begin(&self.pools.clock, limits, about)
    }

    async fn call(&self) -> Result<Answer, CallError> {
        let flight = self.flight();
        self.call_on(&flight).await
    }

    async fn call_on(&self, flight: &Flight) -> Result<Answer, CallError> {
        let mut headers = HeaderMap::new();
        let body = Outgoing::whole(Bytes::from_static(b"{\"a\":1}"));
        let (method, target) = (&Method::POST, "/v1/x");
        let repeats = &|_: &HeaderMap| self.repeats;
        let mut call = Outbound { method, target, headers: &mut headers, body, repeats };
        let visit = self.upstream.choose(Spread::default(), &[], Instant::now());
        let visit = visit.map_err(CallError::Closed)?;
        let sent = send(&self.pools, flight, &self.upstream, visit, &mut call).await;
        sent.map_err(|missed| missed.error)
    }

    /// Connections and calls that are counted.
    fn counted(&self) -> (i64, usize) {
        let busy = self.upstream.roster.seen(Instant::now()).map(|seen| seen.busy).sum();
        (self.upstream.shared.gauges.open.load(Relaxed), busy)
    }
}

async fn body_of(answer: &mut Answer) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(data) = poll_fn(|cx| answer.body.poll_data(cx)).await {
        body.extend_from_slice(&data?);
    }
    Ok(body)
}

/// Reads one whole request of [`World::call`]; nothing at the connection's end.
async fn request(stream: &mut UnixStream) -> String {
    let mut got = Vec::new();
    let mut buf = [0; 1024];
    while !got.ends_with(b"{\"a\":1}") {
        let n = stream.read(&mut buf).await.unwrap();
        if n == 0 {
            break;
        }
        got.extend_from_slice(&buf[..n]);
    }
    String::from_utf8(got).unwrap()
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), future).await.expect("it hangs")
    })
}

/// A connection that answered once, then gave `last` to the next call and closed.
async fn used_connection(listener: &UnixListener, last: &[u8]) {
    let (mut stream, _) = listener.accept().await.unwrap();
    request(&mut stream).await;
    stream.write_all(OK).await.unwrap();
    request(&mut stream).await;
    stream.write_all(last).await.unwrap();
}

#[test]
fn a_reused_connection_that_died_is_tried_once_more() {
    block_on(async {
        let world = World::new(&["s"], "");
        let listener = world.listen("s");
        let backend = async {
            used_connection(&listener, b"").await;
            let (mut stream, _) = listener.accept().await.unwrap();
            let again = request(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            again
        };
        let calls = async {
            let mut first = world.call().await.unwrap();
            assert_eq!(body_of(&mut first).await.unwrap(), b"ok");
            assert!(!first.reused);
            drop(first);
            let mut second = world.call().await.unwrap();
            assert_eq!(body_of(&mut second).await.unwrap(), b"ok");
            second.reused
        };
        let (again, tried) = tokio::join!(backend, calls);
        assert!(!tried);
        assert!(again.starts_with("POST /v1/x HTTP/1.1\r\nhost: localhost\r\n"), "{again:?}");
        assert!(again.ends_with("\r\n\r\n{\"a\":1}"), "the body is sent whole again: {again:?}");
        assert_eq!(world.upstream.shared.gauges.retried.load(Relaxed), 1);
        assert_eq!(world.counted(), (1, 0));
    });
}

/// The backend has read the call and gone: only who may do the work twice sends it again.
#[test]
fn what_may_not_be_done_twice_is_not_tried_again() {
    block_on(async {
        let world = World { repeats: false, ..World::new(&["s"], "") };
        let listener = world.listen("s");
        let calls = async {
            body_of(&mut world.call().await.unwrap()).await.unwrap();
            world.call().await
        };
        let ((), second) = tokio::join!(used_connection(&listener, b""), calls);
        assert!(matches!(second, Err(CallError::H1(H1Error::Closed | H1Error::Io(_)))));
        assert_eq!(world.upstream.shared.gauges.dialled.load(Relaxed), 1);
        assert_eq!(world.upstream.shared.gauges.retried.load(Relaxed), 0);
        assert_eq!(world.counted(), (0, 0));
    });
}

/// It was closed while idle, and nobody has noticed: the runtime had no turn in between.
#[test]
fn a_connection_that_was_closed_while_idle_is_not_used() {
    block_on(async {
        let world = World { repeats: false, ..World::new(&["s"], "") };
        let listener = world.listen("s");
        for nth in 1..=20 {
            let backend = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                request(&mut stream).await;
                stream.write_all(OK).await.unwrap();
                stream
            };
            let (stream, answer) = tokio::join!(backend, world.call());
            assert_eq!(body_of(&mut answer.unwrap()).await.unwrap(), b"ok");
            assert_eq!(world.counted(), (1, 0), "it is kept");
            drop(stream);
            assert_eq!(world.upstream.shared.gauges.dialled.load(Relaxed), nth);
        }
        assert_eq!(world.upstream.shared.gauges.retried.load(Relaxed), 0);
    });
}

/// Bytes of an answer, or a connection that was new: the work may have been done.
#[test]
fn nothing_else_is_tried_again() {
    for last in ["H", "HTTP/1.1 100 Continue\r\n\r\n", "nonsense\r\n\r\n"] {
        block_on(async {
            let world = World::new(&["s"], "");
            let listener = world.listen("s");
            let calls = async {
                body_of(&mut world.call().await.unwrap()).await.unwrap();
                world.call().await
            };
            let ((), second) = tokio::join!(used_connection(&listener, last.as_bytes()), calls);
            assert!(matches!(second, Err(CallError::H1(_))), "{last:?}");
            assert_eq!(world.upstream.shared.gauges.dialled.load(Relaxed), 1, "{last:?}");
            assert_eq!(world.counted(), (0, 0));
        });
    }
    block_on(async {
        let world = World::new(&["s"], "");
        let listener = world.listen("s");
        let backend = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await;
        };
        let ((), first) = tokio::join!(backend, world.call());
        assert!(matches!(first, Err(CallError::H1(H1Error::Closed))));
        assert_eq!(world.upstream.shared.gauges.dialled.load(Relaxed), 1);
        assert_eq!(world.counted(), (0, 0));
    });
}

#[test]
fn a_call_whose_time_is_up_is_not_tried_again() {
    block_on(async {
        let world = World::new(&["s"], "");
        let listener = world.listen("s");
        let flight = world.flight();
        let backend = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await;
            world.flights.sweep(Tick::from_raw(10));
            world.flights.sweep(Tick::from_raw(60_000));
            // our end closes at once: so the backend learns of it
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        };
        let (answer, ()) = tokio::join!(world.call_on(&flight), backend);
        assert!(matches!(answer, Err(CallError::Expired(Expired::FirstByte))));
        assert_eq!(world.counted(), (0, 0));
    });
}

#[test]
fn a_101_that_nobody_asked_for_is_an_error() {
    block_on(async {
        let world = World::new(&["s"], "");
        let listener = world.listen("s");
        let backend = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n").await.unwrap();
            stream
        };
        let (_stream, answer) = tokio::join!(backend, world.call());
        assert!(matches!(answer, Err(CallError::H1(H1Error::Malformed(_)))));
        assert_eq!(world.counted(), (0, 0));
    });
}

/// Whatever came behind an answer: the next call is made on a connection of its own.
#[test]
fn a_surplus_ends_the_connection() {
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        block_on(async {
            let world = World::new(&["s"], "");
            let listener = world.listen("s");
            let backend = async {
                let (mut first, _) = listener.accept().await.unwrap();
                request(&mut first).await;
                first.write_all(format!("{head}{forged}").as_bytes()).await.unwrap();
                let (mut second, _) = listener.accept().await.unwrap();
                request(&mut second).await;
                second.write_all(OK).await.unwrap();
            };
            let calls = async {
                assert!(body_of(&mut world.call().await.unwrap()).await.unwrap().len() <= 2);
                assert_eq!(world.counted(), (0, 0), "{head:?}");
                body_of(&mut world.call().await.unwrap()).await.unwrap()
            };
            let ((), body) = tokio::join!(backend, calls);
            assert_eq!(body, b"ok");
        });
    }
}

#[test]
fn the_least_busy_address_is_called() {
    block_on(async {
        let world = World::new(&["a", "b"], "");
        let (a, b) = (world.listen("a"), world.listen("b"));
        let half = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no";
        let one = async |listener: &UnixListener| {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await;
            stream.write_all(half).await.unwrap();
            stream
        };
        // among equals, chance decides
        let (first, (mut at_first, other)) = tokio::join!(
            async {
                let flight = world.flight();
                world.call_on(&flight).await.unwrap()
            },
            async {
                tokio::select! {
                    stream = one(&a) => (stream, &b),
                    stream = one(&b) => (stream, &a),
                }
            }
        );
        assert_eq!(world.counted(), (1, 1));
        let (second, _at_other) = tokio::join!(world.call(), one(other));
        assert_eq!(world.counted(), (2, 2));
        drop(second.unwrap());
        assert_eq!(world.counted(), (1, 1));
        let mut first = first;
        first.body.abandon();
        assert!(first.body.ended());
        // a call that is given up ends at the backend
        assert_eq!(at_first.read(&mut [0; 8]).await.unwrap(), 0);
        drop(first);
        assert_eq!(world.counted(), (0, 0));
    });
}

/// Dropped in any phase, a call leaves nothing counted.
#[test]
fn a_call_may_be_dropped_anywhere() {
    block_on(async {
        let world = World::new(&["s"], "");
        let listener = world.listen("s");
        for polls in 0..6 {
            let flight = world.flight();
            let mut call = Box::pin(world.call_on(&flight));
            for _ in 0..polls {
                assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await);
                tokio::task::yield_now().await;
            }
            drop(call);
            assert_eq!(world.counted(), (0, 0), "after {polls} polls");
        }
        drop(listener);
    });
}

/// One call's failure on a shared connection says nothing about another: only what was handed back
/// unsent goes out again.
#[test]
fn a_shared_connection_fails_each_call_for_itself() {
    block_on(async {
        let world = World::new(&["s"], ", http2: always");
        let listener = world.listen("s");
        let seen = Rc::new(Cell::new(0));
        let (fail, failing) = (Rc::new(tokio::sync::Notify::new()), Rc::new(Cell::new(false)));
        let counting = (Rc::clone(&seen), Rc::clone(&fail), Rc::clone(&failing));
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, fail, failing) = counting.clone();
                let service = service_fn(move |_| {
                    let (seen, fail, failing) = (seen.clone(), fail.clone(), failing.clone());
                    async move {
                        seen.set(seen.get() + 1);
                        if !failing.get() {
                            let body = http_body_util::Full::new(Bytes::from_static(b"ok"));
                            return Ok(http::Response::new(body));
                        }
                        fail.notified().await;
                        // becomes RST_STREAM
                        Err(std::io::Error::other("no"))
                    }
                });
                tokio::task::spawn_local(async move {
                    let builder = hyper::server::conn::http2::Builder::new(h2::Local);
                    // the client's end is this one's
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let mut first = world.call().await.unwrap();
        assert_eq!(body_of(&mut first).await.unwrap(), b"ok");
        drop(first);
        failing.set(true);
        let failures = async {
            while seen.get() < 3 {
                tokio::task::yield_now().await;
            }
            // one after the other
            fail.notify_one();
            tokio::task::yield_now().await;
            fail.notify_one();
        };
        let (one, two, ()) = tokio::join!(world.call(), world.call(), failures);
        assert!(matches!(one, Err(CallError::H2(_))) && matches!(two, Err(CallError::H2(_))));
        assert_eq!(seen.get(), 3, "a call that the backend had begun was sent again");
        assert_eq!(world.counted().1, 0);
    });
}
