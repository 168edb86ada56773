#![allow(clippy::unwrap_used)]
use std::cell::RefCell;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::*;
use crate::config;
use crate::sync::Ordering::Relaxed;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Registry;

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const BAD: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
const MOVED: &str = "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        timeout(Duration::from_mins(1), future).await.expect("it hangs")
    })
}

/// An address, what it answers, and what it was asked.
struct World {
    upstream: Arc<Upstream>,
    metrics: Metrics,
    answer: Rc<RefCell<String>>,
    asked: Rc<RefCell<Vec<String>>>,
}

impl World {
    async fn new(http2: &str, patience: u64) -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/below", listener.local_addr().unwrap());
        let text = format!(
            "upstreams:\n  a:\n    urls: ['{url}', 'http://127.0.0.1:1']\n    dialect: openai\n    \
             key: sk-inside\n    http2: {http2}\n    headers: {{ x-ours: yes }}\n"
        );
        let mut config = config::parse("test.yaml", &text, &|_| None).unwrap();
        config.upstreams[0].health = Some(HealthCheck {
            path: "/health?deep=1".into(),
            every: Duration::from_millis(10),
            timeout: Duration::from_millis(patience),
            failures: 2,
            successes: 2,
        });
        let (registry, metrics) = (Registry::default(), Metrics::new());
        let upstream =
            Upstream::prepare(&config.upstreams[0], &registry, 0, &metrics, &|_| None).unwrap();
        let (answer, asked) = (Rc::new(RefCell::new(OK.to_owned())), Rc::default());
        (Self { upstream: Arc::new(upstream), metrics, answer, asked }, listener)
    }

    /// Answers on every connection, many times.
    fn serve(&self, listener: TcpListener) {
        let (answer, asked) = (Rc::clone(&self.answer), Rc::clone(&self.asked));
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, asked) = (Rc::clone(&answer), Rc::clone(&asked));
                tokio::task::spawn_local(connection(stream, answer, asked));
            }
        });
    }

    fn watch(&self) {
        let pools = Rc::new(Pools::new(Arc::default(), 1));
        tokio::task::spawn_local(watch(pools, Arc::clone(&self.upstream), 0));
    }

    fn answers(&self, answer: &str) {
        answer.clone_into(&mut self.answer.borrow_mut());
    }

    async fn until(&self, state: &str) {
        let now = || self.upstream.roster.seen(Instant::now()).next().unwrap().state;
        while now() != state {
            sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn connection(
    mut stream: TcpStream,
    answer: Rc<RefCell<String>>,
    asked: Rc<RefCell<Vec<String>>>,
) {
    let mut got = Vec::new();
    let mut buf = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buf).await {
        got.extend_from_slice(&buf[..n]);
        if got.ends_with(b"\r\n\r\n") {
            asked.borrow_mut().push(String::from_utf8(std::mem::take(&mut got)).unwrap());
            let answer = answer.borrow().clone();
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

#[test]
fn failures_in_a_row_take_an_address_out_and_successes_bring_it_back() {
    block_on(async {
        let (world, listener) = World::new("never", 20_000).await;
        world.serve(listener);
        world.watch();
        while world.asked.borrow().len() < 3 {
            sleep(Duration::from_millis(2)).await;
        }
        world.until("well").await;
        for answer in [BAD, MOVED] {
            world.answers(answer);
            world.until("unwell").await;
            world.answers(OK);
            world.until("well").await;
        }
        let asked = world.asked.borrow().first().unwrap().to_lowercase();
        assert!(asked.starts_with("get /below/health?deep=1 http/1.1\r\n"), "{asked}");
        for line in ["authorization: bearer sk-inside", "x-ours: yes", "host: 127.0.0.1:"] {
            assert_eq!(asked.matches(line).count(), 1, "{line}: {asked}");
        }
        let mut text = String::new();
        world.metrics.encode(&mut text);
        let name = "tidegate_upstream_health_check_failures_total{upstream=\"a\"} ";
        let failures = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert!(failures.parse::<u64>().unwrap() >= 4);
        assert!(world.upstream.shared.gauges.dialled.load(Relaxed) <= 2);
    });
}

#[test]
fn an_address_that_does_not_answer_is_unwell() {
    block_on(async {
        let (world, listener) = World::new("never", 50).await;
        world.watch();
        world.until("unwell").await;
        // nobody listens at all
        drop(listener);
        world.until("unwell").await;
    });
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    block_on(async {
        let (world, listener) = World::new("never", 20_000).await;
        let long =
            format!("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}", " ".repeat(BODY));
        world.answers(&format!("{long}{}", " ".repeat(2 * BODY)));
        world.serve(listener);
        world.watch();
        // each ends well, and takes a connection with it
        while world.asked.borrow().len() < 4 {
            sleep(Duration::from_millis(2)).await;
        }
        world.until("well").await;
        let gauges = &world.upstream.shared.gauges;
        assert_eq!(gauges.check_failed.load(Relaxed), 0);
    });
}

#[test]
fn an_address_that_speaks_only_http2_is_asked_so() {
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    block_on(async {
        let (world, listener) = World::new("always", 20_000).await;
        let asked = Rc::clone(&world.asked);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let asked = Rc::clone(&asked);
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    asked.borrow_mut().push(request.uri().to_string());
                    let body = http_body_util::Full::new(Bytes::from_static(b"fine"));
                    async { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
                });
                let builder = hyper::server::conn::http2::Builder::new(crate::upstream::h2::Local);
                tokio::task::spawn_local(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        world.watch();
        while world.asked.borrow().len() < 3 {
            sleep(Duration::from_millis(2)).await;
        }
        let first = world.asked.borrow()[0].clone();
        assert!(first.starts_with("http://127.0.0.1:"), "{first}");
        assert!(first.ends_with("/below/health?deep=1"), "{first}");
        assert_eq!(world.upstream.shared.gauges.check_failed.load(Relaxed), 0);
    });
}
