use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Method};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::task::LocalSet;

use super::*;
use crate::io::Stream;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Registry;
use crate::upstream::connect::{Phase, Timing};
use crate::upstream::outgoing::Outgoing;

const LONG: Duration = Duration::from_hours(1);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn upstream(pool: &str) -> Upstream {
    prepared(&format!(
        "upstreams:\n  a: {{ url: 'unix:/nowhere', dialect: openai, pool: {{ {pool} }} }}\n"
    ))
}

fn prepared(text: &str) -> Upstream {
    let config = crate::config::parse("test.yaml", text, &|_| None).unwrap();
    let registry = Registry::default();
    Upstream::prepare(&config.upstreams[0], &registry, 0, &Metrics::new(), &|_| None).unwrap()
}

fn pool(max_idle: usize) -> Rc<Pool> {
    let upstream = upstream(&format!("max_idle: {max_idle}"));
    Pools::new(Arc::default(), 1).pool(&upstream, &upstream.addresses[0])
}

fn connected(stream: UnixStream, http2: bool) -> Connected {
    Connected { stream: Stream::Unix(stream), http2, peer: None, timing: Timing::default() }
}

/// A new connection and its far end.
async fn dialled(pool: &Rc<Pool>) -> (Pooled, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    match pool.adopt(connected(near, false)).await.unwrap() {
        Checkout::H1(pooled) => (pooled, far),
        Checkout::H2(_) => panic!("HTTP/1.1 was dialled"),
    }
}

fn take(pool: &Rc<Pool>) -> Option<Pooled> {
    match pool.take()? {
        Checkout::H1(pooled) => Some(pooled),
        Checkout::H2(_) => panic!("nobody speaks HTTP/2"),
    }
}

/// A call to the head of its answer, of which so much has been sent.
async fn call(pooled: &mut Pooled, far: &mut UnixStream, answer: &[u8]) {
    far.write_all(answer).await.unwrap();
    let connection = pooled.connection().unwrap();
    let mut body = Outgoing::whole(Bytes::new());
    connection
        .exchange(&Method::GET, "/", &mut HeaderMap::new(), &mut body, &|_| {})
        .await
        .unwrap();
}

async fn drain_body(pooled: &mut Pooled) {
    let connection = pooled.connection().unwrap();
    while let Some(data) = std::future::poll_fn(|cx| connection.poll_data(cx)).await {
        data.unwrap();
    }
}

fn gauges(pool: &Pool) -> (i64, i64) {
    (pool.gauges.open.load(Relaxed), pool.gauges.idle.load(Relaxed))
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap()
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), future).await.expect("it hangs")
    })
}

/// What may happen to a pool; the numbers choose a connection.
#[derive(Debug, Clone)]
enum Step {
    Dial,
    Take,
    /// A call that ends well, and its connection comes back.
    Finish(usize),
    /// Given back in the middle of an answer.
    FinishEarly(usize),
    Drop(usize),
    Upgrade(usize),
    /// The backend closes an idle connection, or says something on it.
    PeerCloses(usize),
    PeerTalks(usize),
    Rest(usize),
    Age(usize),
    Sweep,
    Shrink(usize),
    CloseIdle,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..8_usize;
    prop_oneof![
        4 => Just(Step::Dial),
        4 => Just(Step::Take),
        6 => at.clone().prop_map(Step::Finish),
        1 => at.clone().prop_map(Step::FinishEarly),
        1 => at.clone().prop_map(Step::Drop),
        1 => at.clone().prop_map(Step::Upgrade),
        1 => at.clone().prop_map(Step::PeerCloses),
        1 => at.clone().prop_map(Step::PeerTalks),
        1 => at.clone().prop_map(Step::Rest),
        1 => at.clone().prop_map(Step::Age),
        2 => Just(Step::Sweep),
        1 => (1..4_usize).prop_map(Step::Shrink),
        1 => Just(Step::CloseIdle),
    ]
}

/// A pool, what callers hold of it, and the far ends of everything.
struct World {
    pool: Rc<Pool>,
    held: Vec<(Pooled, usize)>,
    fars: Vec<Option<UnixStream>>,
    upgraded: Vec<h1::Connection>,
}

impl World {
    fn pick(&mut self, at: usize) -> Option<(Pooled, usize)> {
        (!self.held.is_empty()).then(|| self.held.swap_remove(at % self.held.len()))
    }

    /// Something happens to an idle connection, through `edit`.
    fn idle(&self, at: usize, edit: impl FnOnce(&mut Idle)) {
        let mut idle = self.pool.idle.borrow_mut();
        let many = idle.len();
        if many > 0 {
            edit(&mut idle[at % many]);
        }
    }

    async fn run(&mut self, step: &Step) {
        match *step {
            Step::Dial => {
                let (pooled, far) = dialled(&self.pool).await;
                self.held.push((pooled, self.fars.len()));
                self.fars.push(Some(far));
            }
            // whose far end that is, is found by its first answer: see `Finish`
            Step::Take => self.held.extend(take(&self.pool).map(|pooled| (pooled, usize::MAX))),
            Step::Finish(at) => {
                if let Some((mut pooled, far)) = self.pick(at) {
                    if let Some(Some(far)) = self.fars.get_mut(far) {
                        call(&mut pooled, far, ANSWER).await;
                        drain_body(&mut pooled).await;
                    }
                    pooled.finish();
                }
            }
            Step::FinishEarly(at) => {
                if let Some((mut pooled, far)) = self.pick(at)
                    && let Some(Some(far)) = self.fars.get_mut(far)
                {
                    call(&mut pooled, far, &ANSWER[..ANSWER.len() - 1]).await;
                    let idle = self.pool.idle.borrow().len();
                    pooled.finish();
                    assert_eq!(self.pool.idle.borrow().len(), idle, "half an answer is left in it");
                }
            }
            Step::Drop(at) => drop(self.pick(at)),
            Step::Upgrade(at) => {
                let pooled = self.pick(at);
                let own = pooled.and_then(|(pooled, _)| pooled.into_connection());
                self.upgraded.extend(own.map(|own| *own));
            }
            Step::PeerCloses(at) => {
                let many = self.fars.len().max(1);
                drop(self.fars.get_mut(at % many).and_then(Option::take));
            }
            Step::PeerTalks(at) => {
                let many = self.fars.len().max(1);
                if let Some(Some(far)) = self.fars.get_mut(at % many) {
                    // it may be one that we have closed
                    let _ = far.try_write(b"HTTP/1.1 200 OK\r\n\r\n");
                }
            }
            Step::Rest(at) => self.idle(at, |idle| idle.since = idle.since.before(2 * LONG)),
            Step::Age(at) => self.idle(at, |idle| idle.born = idle.born.before(2 * LONG)),
            Step::Sweep => self.pool.sweep(),
            Step::Shrink(max_idle) => {
                let limits = self.pool.limits.get();
                self.pool.limits.set(Limits { max_idle, ..limits });
            }
            Step::CloseIdle => self.pool.close_idle(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happens in whatever order: `open` is what is held and what is idle, `idle` what is
    /// idle, and both are zero in the end.
    #[test]
    fn gauges_follow_the_connections(steps in vec(step(), 1..40)) {
        block_on(async {
            let pool = pool(3);
            pool.limits.set(Limits { idle_timeout: LONG, max_age: LONG, ..pool.limits.get() });
            let gauges_after = Arc::clone(&pool.gauges);
            let mut world = World { pool, held: Vec::new(), fars: Vec::new(), upgraded: Vec::new() };
            for step in &steps {
                // a call on a connection that its backend has closed or talked on would not end well
                if matches!(step, Step::PeerCloses(_) | Step::PeerTalks(_)) {
                    world.held.clear();
                }
                world.run(step).await;
                tokio::task::yield_now().await;
                let idle = world.pool.idle.borrow().len();
                assert!(idle <= 3);
                let want = (count(world.held.len() + idle), count(idle));
                assert_eq!(gauges(&world.pool), want, "{step:?}");
            }
            drop(world);
            assert_eq!(gauges_after.open.load(Relaxed), 0);
            assert_eq!(gauges_after.idle.load(Relaxed), 0);
        });
    }
}

#[test]
fn the_warmest_comes_first_and_a_spoilt_one_never() {
    block_on(async {
        let pool = pool(8);
        let mut fars = Vec::new();
        let mut held = Vec::new();
        for _ in 0..4 {
            let (pooled, far) = dialled(&pool).await;
            held.push(pooled);
            fars.push(far);
        }
        held.into_iter().for_each(Pooled::finish);
        assert_eq!(gauges(&pool), (4, 4));
        // the last is too old, the one below closed, the next has talked
        pool.idle.borrow_mut()[3].born = Tick::default().before(2 * LONG);
        drop(fars.remove(2));
        fars[1].write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await.unwrap();
        tokio::task::yield_now().await;
        let mut pooled = take(&pool).unwrap();
        assert!(pooled.reused);
        assert_eq!(gauges(&pool), (1, 0));
        assert_eq!(pool.gauges.reused.load(Relaxed), 1);
        let mut retired = pool.gauges.retired.read();
        retired.sort_unstable();
        assert_eq!(retired, [(["age"], 1), (["closed"], 2)]);
        call(&mut pooled, &mut fars[0], ANSWER).await;
        assert!(take(&pool).is_none());
    });
}

#[test]
fn the_sweep_closes_what_is_spent_and_keeps_the_rest() {
    block_on(async {
        let pool = pool(8);
        let mut fars = Vec::new();
        let mut held = Vec::new();
        for _ in 0..200 {
            let (pooled, far) = dialled(&pool).await;
            held.push(pooled);
            fars.push(far);
        }
        pool.limits.set(Limits { max_idle: 200, ..pool.limits.get() });
        held.into_iter().for_each(Pooled::finish);
        // more of them than one turn of a task may look at
        let kept = fars.split_off(198);
        drop(fars);
        tokio::task::yield_now().await;
        pool.sweep();
        assert_eq!(gauges(&pool), (2, 2));
        pool.idle.borrow_mut()[0].since = Tick::default().before(LONG);
        pool.sweep();
        assert_eq!(gauges(&pool), (1, 1));
        assert_eq!(pool.gauges.retired.total(), 199);
        drop(kept);
    });
}

#[test]
fn ages_differ_by_a_fifth_at_most() {
    let age = |_| jittered(Duration::from_secs(1000)).as_secs();
    let ages: Vec<u64> = (0..200).map(age).collect();
    let (least, most) = (*ages.iter().min().unwrap(), *ages.iter().max().unwrap());
    assert!(least >= 800 && most <= 1200, "{least} to {most} s");
    assert!(most - least > 100, "they would all end at once");
}

#[test]
fn a_new_policy_changes_limits_and_closes_what_it_does_not_name() {
    block_on(async {
        let (two, one) = (upstream("max_idle: 2"), upstream("max_idle: 1"));
        let pools = Pools::new(Arc::default(), 1);
        let pool = pools.pool(&two, &two.addresses[0]);
        let mut fars = Vec::new();
        let mut held = Vec::new();
        for _ in 0..3 {
            let (pooled, far) = dialled(&pool).await;
            held.push(pooled);
            fars.push(far);
        }
        held.pop().unwrap().finish();
        pools.retain([&one].into_iter());
        assert_eq!(pool.limits.get().max_idle, 1);
        held.pop().unwrap().finish();
        assert_eq!(gauges(&pool), (2, 1));
        pools.retain(std::iter::empty());
        assert_eq!(gauges(&pool), (1, 0));
        // the last one comes back to a pool that nobody knows any more
        let gauges_after = Arc::clone(&pool.gauges);
        drop(pool);
        held.pop().unwrap().finish();
        assert_eq!(gauges_after.open.load(Relaxed), 0);
        assert_eq!(gauges_after.idle.load(Relaxed), 0);
    });
}

/// An HTTP/2 backend on the far end that answers every call when asked to.
fn serve_h2(far: UnixStream) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_local(async move {
        let service = service_fn(|_| async {
            Ok::<_, Infallible>(http::Response::new(http_body_util::Empty::<Bytes>::new()))
        });
        let builder = hyper::server::conn::http2::Builder::new(h2::Local);
        // it ends when the client does, or the test
        let _ = builder.serve_connection(TokioIo::new(far), service).await;
    })
}

async fn settled(done: impl Fn() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_shared_connection_counts_its_calls() {
    block_on(async {
        let pool = pool(8);
        let (near, far) = UnixStream::pair().unwrap();
        let backend = serve_h2(far);
        let Ok(Checkout::H2(first)) = pool.adopt(connected(near, true)).await else {
            panic!("HTTP/2 was dialled")
        };
        let shared = Rc::clone(first.of());
        assert!(!shared.is_idle() && shared.has_room());
        let more: Vec<_> = (1..h2::STREAMS).map(|_| pool.take().unwrap()).collect();
        assert!(!shared.has_room() && pool.take().is_none(), "it is full");
        drop(first);
        assert!(shared.has_room());
        drop(more);
        assert!(shared.is_idle());

        // retired by age, but not while a call is on it
        let call = pool.take().unwrap();
        pool.limits.set(Limits { max_age: Duration::ZERO, ..pool.limits.get() });
        tokio::time::sleep(Duration::from_millis(2)).await;
        pool.clock.advance();
        pool.sweep();
        assert!(shared.retired.get() && pool.shared.borrow().len() == 1);
        assert!(pool.take().is_none());
        drop(call);
        pool.sweep();
        assert!(pool.shared.borrow().is_empty());
        assert_eq!(gauges(&pool), (1, 0));
        drop(shared);
        settled(|| gauges(&pool) == (0, 0)).await;
        backend.await.unwrap();
    });
}

#[test]
fn a_backend_that_ends_a_shared_connection_ends_its_count() {
    block_on(async {
        let pool = pool(8);
        let (near, far) = UnixStream::pair().unwrap();
        let backend = serve_h2(far);
        let Ok(Checkout::H2(call)) = pool.adopt(connected(near, true)).await else {
            panic!("HTTP/2 was dialled")
        };
        assert_eq!(gauges(&pool), (1, 0));
        backend.abort();
        settled(|| gauges(&pool) == (0, 0)).await;
        assert!(pool.take().is_none(), "it is not given out again");
        drop(call);
        pool.sweep();
        assert!(pool.shared.borrow().is_empty());
    });
}

/// An upstream by HTTP/2 whose address takes connections and says nothing in its TLS handshake.
async fn silent(timeout: &str) -> (Upstream, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!(
        "upstreams:\n  a: {{ url: 'https://{}', dialect: openai, http2: always, \
         pool: {{ connect_timeout: {timeout} }} }}\n",
        listener.local_addr().unwrap()
    );
    (prepared(&text), listener)
}

async fn dials(pool: &Rc<Pool>, upstream: &Upstream) -> Result<Checkout, Phase> {
    match pool.dial(upstream, &upstream.addresses[0]).await {
        Ok(checkout) => Ok(checkout),
        Err(DialError::Connect(error)) => match *error {
            ConnectError::TimedOut { phase, .. } => Err(phase),
            ref error => panic!("{error}"),
        },
        Err(DialError::Handshake(error)) => panic!("{error}"),
    }
}

#[test]
fn all_that_waited_for_a_dial_share_its_failure() {
    block_on(async {
        let (upstream, listener) = silent("300ms").await;
        let pool = Pools::new(Arc::default(), 1).pool(&upstream, &upstream.addresses[0]);
        let (start, upstream) = (std::time::Instant::now(), Rc::new(upstream));
        let mut waiting = tokio::task::JoinSet::new();
        for nth in 0..12_u32 {
            let (pool, upstream) = (Rc::clone(&pool), Rc::clone(&upstream));
            waiting.spawn_local(async move {
                // some come while the dial goes on
                tokio::time::sleep(Duration::from_millis(50) * (nth / 4)).await;
                dials(&pool, &upstream).await.err()
            });
        }
        let ended = waiting.join_all().await;
        assert!(ended.iter().all(Option::is_some), "{ended:?}");
        assert_eq!(pool.gauges.dial_failed.total(), 1);
        let took = start.elapsed();
        assert!(took < Duration::from_millis(1500), "they waited one for another: {took:?}");
        // what failed before says nothing to a call that comes now
        assert_eq!(dials(&pool, &upstream).await.err(), Some(Phase::Tls));
        assert_eq!(pool.gauges.dial_failed.total(), 2);
        drop(listener);
    });
}

/// Whoever dials may be given up, and the next begins anew: nobody waits for all of them.
#[test]
fn a_turn_to_dial_is_waited_for_no_longer_than_a_connection() {
    block_on(async {
        let (upstream, _listener) = silent("200ms").await;
        let pool = Pools::new(Arc::default(), 1).pool(&upstream, &upstream.addresses[0]);
        let dialling = pool.dialling.lock().await;
        assert_eq!(dials(&pool, &upstream).await.err(), Some(Phase::Turn));
        assert_eq!(pool.gauges.dial_failed.total(), 0, "nothing was dialled");
        drop(dialling);
        assert_eq!(dials(&pool, &upstream).await.err(), Some(Phase::Tls));
    });
}
