//! Each upstream as a call would reach it: name, TCP, proxy, TLS, and one cheap request.
//!
//! `HEAD` on its path, without any credential; with `--keys`, its list of models with each key that
//! the policy holds for it. All are asked at once, over HTTP/1.1 where both are spoken, each under
//! the connection's own deadline and one for its answer.
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::timeout;

use super::finding::{Finding, Verdict};
use super::{certificates, clock};
use crate::config::{Config, Host, Http2, Origin, Upstream};
use crate::io::Stream;
use crate::listen::tls::validity;
use crate::upstream::connect::{ConnectError, Connector, Timing, TlsFault};
use crate::upstream::h1::Connection;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::{credential, host_of};
use crate::wire::Dialect;

const CHECK: &str = "upstreams";
/// For the answer's head.
const ANSWER: Duration = Duration::from_secs(10);

/// What was learned of all of them.
pub(super) struct Asked {
    pub findings: Vec<Finding>,
    /// By how many seconds their clocks are before ours.
    pub offsets: Vec<i64>,
}

/// One address, and what is asked of it.
struct Visit<'c> {
    upstream: &'c Upstream,
    origin: &'c Origin,
    /// The place of its key in the policy. `None`: no credential is sent.
    key: Option<usize>,
}

struct Told {
    status: StatusCode,
    timing: Timing,
    /// From the request to its answer's head.
    answer: Duration,
    offset: Option<i64>,
    dates: Option<(SystemTime, SystemTime)>,
}

/// `keys`: they are sent. `named`: the policy names these upstreams, so that each one counts.
pub(super) async fn ask(config: &Config, keys: bool, named: bool) -> Asked {
    let mut asked = Asked { findings: Vec::new(), offsets: Vec::new() };
    let mut visits = Vec::new();
    for upstream in &config.upstreams {
        if upstream.builtin {
            asked.findings.push(Finding::ok(CHECK, format!("{}: built in", upstream.name)));
        }
        for origin in &upstream.urls {
            let places = if keys { upstream.keys.len() } else { 0 };
            let one = |key| Visit { upstream, origin, key };
            match places {
                0 => visits.push(one(None)),
                _ => visits.extend((0..places).map(|key| one(Some(key)))),
            }
        }
    }
    let results: Vec<(Finding, Option<i64>)> =
        all(visits.iter().map(|visit| Box::pin(visit.pay()) as _).collect()).await;
    for (finding, offset) in results {
        let finding = match finding.verdict {
            Verdict::Fail if !named => Finding { verdict: Verdict::Warn, ..finding },
            _ => finding,
        };
        asked.findings.push(finding);
        asked.offsets.extend(offset);
    }
    asked
}

type Pending<'v, T> = Pin<Box<dyn Future<Output = T> + 'v>>;

/// What each of them comes to, in their order.
async fn all<T>(mut pending: Vec<Pending<'_, T>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = pending.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (at, one) in pending.iter_mut().enumerate() {
            if done[at].is_none()
                && let Poll::Ready(outcome) = one.as_mut().poll(cx)
            {
                done[at] = Some(outcome);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

impl Visit<'_> {
    async fn pay(&self) -> (Finding, Option<i64>) {
        let at = match &self.origin.host {
            Host::Unix(path) => format!("unix:{}", path.display()),
            Host::Name(_) => host_of(self.origin),
        };
        let what = match self.key {
            Some(key) => format!("{} at {at}, key {}", self.upstream.name, key + 1),
            None => format!("{} at {at}", self.upstream.name),
        };
        match self.talk().await {
            Ok(told) => (self.judge(&what, &told), told.offset),
            Err(finding) => (finding.about(&what), None),
        }
    }

    async fn talk(&self) -> Result<Told, Trouble> {
        // where both are spoken, the simpler one says as much
        let http2 = match self.upstream.http2 {
            Http2::Always => Http2::Always,
            Http2::Auto | Http2::Never => Http2::Never,
        };
        let upstream = Upstream { http2, ..self.upstream.clone() };
        let connector = Connector::new(&upstream, &crate::app::environment);
        let connector = connector.map_err(|error| Trouble::Setup(error.to_string()))?;
        let connected = connector.connect(self.origin).await.map_err(Trouble::Connect)?;
        let dates = match &connected.stream {
            Stream::ClientTls(stream) => {
                let shown = stream.get_ref().1.peer_certificates();
                shown.and_then(|chain| validity::dates(chain.first()?))
            }
            _ => None,
        };
        if connected.http2 {
            return Err(Trouble::Untold(connected.timing));
        }
        let mut headers = self.headers().ok_or(Trouble::Key)?;
        let (method, target) = self.request();
        let mut connection = Connection::new(connected.stream);
        let mut body = Outgoing::whole(Bytes::new());
        let begun = Instant::now();
        let asking = connection.exchange(&method, &target, &mut headers, &mut body, &|_| ());
        let head = timeout(ANSWER, asking).await.map_err(|_| Trouble::Silent)?;
        let head = head.map_err(|failure| Trouble::Garbled(failure.error.to_string()))?;
        let date = head.headers.get(header::DATE).and_then(|date| date.to_str().ok());
        Ok(Told {
            status: head.status,
            timing: connected.timing,
            answer: begun.elapsed(),
            offset: date.and_then(|date| clock::offset(date, SystemTime::now())),
            dates,
        })
    }

    /// `None`: a key that no header can carry.
    fn headers(&self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(&host_of(self.origin)).ok()?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static("tidegate-doctor"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if let Some(key) = self.key.and_then(|at| self.upstream.keys.get(at)) {
            // they may be a credential, too
            for (name, value) in &self.upstream.headers {
                headers.insert(name, value.clone());
            }
            if self.upstream.dialect == Dialect::Anthropic {
                let version = HeaderValue::from_static("2023-06-01");
                headers.entry("anthropic-version").or_insert(version);
            }
            let (name, value) = credential(&self.upstream.auth, key).ok()?;
            headers.insert(name, value);
        }
        Some(headers)
    }

    fn request(&self) -> (Method, String) {
        let path = &self.origin.path;
        if self.key.is_none() {
            return (Method::HEAD, format!("{path}/"));
        }
        let models = match self.upstream.dialect {
            Dialect::Ollama => "/api/tags".to_owned(),
            _ => format!("{}/models", self.upstream.api_prefix),
        };
        (Method::GET, format!("{path}{models}"))
    }

    fn judge(&self, what: &str, told: &Told) -> Finding {
        if let Some(dates) = told.dates {
            let dated = certificates::dated(what, dates, SystemTime::now());
            if dated.verdict == Verdict::Warn {
                let advice = "its operator has to renew its certificate";
                return Finding::warn(CHECK, dated.says, advice);
            }
        }
        let says = format!("{what}: {}, {}", shown(told.timing, told.answer), told.status.as_u16());
        match (self.key, told.status.as_u16()) {
            // who is shown a wrong key by Gemini is told INVALID_ARGUMENT
            (Some(_), 400) if self.upstream.dialect != Dialect::Gemini => untried(&says),
            (Some(_), 400 | 401 | 403) => {
                let says = format!("{says}: it does not take the key");
                Finding::fail(CHECK, says, "a new key from its console, in the policy's `key`")
            }
            (Some(_), 200..300) => Finding::ok(CHECK, format!("{says}: it takes the key")),
            (Some(_), 404) => {
                let says = format!("{says}: it lists no models, the key is not tried");
                Finding::skip(CHECK, says)
            }
            (_, 500..600) => {
                let says = format!("{says}: it is in trouble");
                Finding::warn(CHECK, says, "look at its own log, or its status page")
            }
            (Some(_), 300..500) => untried(&says),
            _ => Finding::ok(CHECK, says),
        }
    }
}

/// Neither taken nor refused: 402, 429, a redirect.
fn untried(says: &str) -> Finding {
    let says = format!("{says}: that does not say that it takes the key");
    Finding::warn(CHECK, says, "ask it for its models with curl, and read what it answers")
}

fn shown(timing: Timing, answer: Duration) -> String {
    let ms = |time: Duration| (time.as_secs_f64() * 1e3).ceil() as u64;
    format!(
        "name {} ms, TCP {} ms, TLS {} ms, answer {} ms",
        ms(timing.dns),
        ms(timing.tcp),
        ms(timing.tls),
        ms(answer)
    )
}

/// Why there is no answer.
enum Trouble {
    Setup(String),
    Connect(ConnectError),
    /// Not asked: it speaks HTTP/2 alone.
    Untold(Timing),
    Key,
    Silent,
    Garbled(String),
}

impl Trouble {
    fn about(self, what: &str) -> Finding {
        let (says, advice) = match self {
            Self::Setup(why) => (why, "mend the policy, or the variable that it names"),
            // it says itself where it wanted to go
            Self::Connect(error) => {
                let name = what.split(' ').next().unwrap_or(what);
                return Finding::fail(CHECK, format!("{name} at {error}"), advice(&error));
            }
            Self::Untold(timing) => {
                let says = format!("{what}: {}", shown(timing, Duration::ZERO));
                return Finding::ok(CHECK, format!("{says}; over HTTP/2, not asked further"));
            }
            Self::Key => ("the key holds what no header can carry".to_owned(), "mend the key"),
            Self::Silent => {
                ("it is connected, and does not answer".to_owned(), "look at its own log")
            }
            Self::Garbled(why) => (why, "is it an HTTP server, and https:// or http:// right?"),
        };
        Finding::fail(CHECK, format!("{what}: {says}"), advice)
    }
}

fn advice(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Dns { .. } => "look at the name, and at /etc/resolv.conf",
        ConnectError::Refused { .. } => "nobody listens there: is it running, is the port right?",
        ConnectError::TimedOut { .. } => "a firewall, a route, or a proxy: try it with curl",
        ConnectError::Proxy { .. } => "look at HTTPS_PROXY and NO_PROXY, or `proxy` in the policy",
        ConnectError::Tls { fault, .. } => match fault {
            TlsFault::Expired => "its operator has to renew it; or this machine's clock is wrong",
            TlsFault::NotYetValid => "the clock of this machine is wrong, most likely",
            TlsFault::WrongName => "use the name that its certificate has, in `url`",
            TlsFault::Untrusted => "name its CA in `tls.ca`, or add it to the system's",
            TlsFault::NoHttp2 => "`http2: auto`, or mend the backend",
            TlsFault::Other => "is it https:// at all?",
        },
        ConnectError::NotPublic { .. } | ConnectError::Io { .. } => "look at the url",
    }
}
