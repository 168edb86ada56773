//! What an upstream says of the days when something fails.
//!
//! A part that is off is not there, or does nothing by its values. A default that another key
//! bounds is cut to it; one that was written past it is a fault, as is a key that does nothing
//! beside the others.
use std::time::Duration;

use crate::config::file::Kind;
use crate::config::keys::{BALANCES, BREAKER, HEALTH, HEDGE, RETRY, WEBSOCKET};
use crate::config::read::{At, Fields, Reader};
use crate::config::{Balance, Breaker, HealthCheck, Hedge, Retry, Upstream, WebSocket};

/// Past it, a call is the backend's load more than its caller's luck.
const MOST_ATTEMPTS: u64 = 20;
/// Most of anything that is counted.
const MOST: u64 = 1_000_000;

/// Reads all of it; the urls and the timeouts are known by then.
pub(super) fn read(fields: &Fields<'_, '_>, upstream: &mut Upstream) {
    upstream.balance = fields.read("balance", upstream.balance, |r, at| balance(r, at, upstream));
    let patience = upstream.timeouts.first_content;
    upstream.retry = fields.read("retry", Retry::default(), |r, at| retry(r, at, patience));
    if fields.get("breaker").is_some() {
        upstream.breaker = fields.maybe("breaker", breaker);
    }
    upstream.health = fields.maybe("health", health);
    upstream.hedge = fields.maybe("hedge", |r, at| hedge(r, at, patience));
    upstream.websocket = fields.read("websocket", WebSocket::default(), websocket);
}

fn balance(reader: &Reader<'_>, at: &At<'_>, upstream: &Upstream) -> Option<Balance> {
    let balance = reader.choice(at, BALANCES, &Balance::ALL)?;
    let alone = upstream.urls.len() == 1 || upstream.builtin;
    if alone && balance != Balance::LeastBusy {
        let found = format!("`{}`, but one address", balance.as_str());
        reader.wrong(at, found, "`urls` with several addresses beside it");
    }
    Some(balance)
}

/// `patience`: how long a stream's first content is waited for.
fn retry<'r>(reader: &'r Reader<'r>, at: &At<'_>, patience: Duration) -> Option<Retry> {
    const PATIENCE: &str = "timeouts.first_content";
    if !matches!(at.node.kind, Kind::Map(_)) {
        let expected = "`off`, or a mapping like { attempts: 3 }";
        return reader.instead(at, &["off"], expected).map(|_| Retry::off());
    }
    let fields = reader.section(at, &RETRY)?;
    let default = Retry::default();
    let attempts =
        fields.read("attempts", default.attempts.into(), |r, at| r.count(at, 1, MOST_ATTEMPTS));
    let longest = fields.read("longest", default.longest, Reader::some_time);
    let hold = fields.maybe_within("hold", patience, PATIENCE, Reader::duration);
    let retry = Retry {
        attempts: attempts as u32,
        budget: fields.read("budget", default.budget, |r, at| r.percentage(at, 0)),
        backoff: fields.time_within("backoff", default.backoff, longest, "longest"),
        longest,
        hold: hold.unwrap_or(default.hold.min(patience)),
        slow: fields.maybe_within("slow", patience, PATIENCE, Reader::some_time),
        on_timeout: fields.read("on_timeout", default.on_timeout, Reader::flag),
        in_place: fields.read("in_place", default.in_place, Reader::flag),
    };
    if attempts > 1 {
        return Some(retry);
    }
    for key in RETRY.keys.iter().filter(|key| key.name != "attempts") {
        if let Some(at) = fields.get(key.name) {
            let found = format!("`{}`, but a call is sent once", key.name);
            reader.wrong(&at, found, "`attempts` of 2 at least, or no such key");
        }
    }
    Some(Retry::off())
}

/// `None`: off, or at fault.
fn breaker<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Breaker> {
    if !matches!(at.node.kind, Kind::Map(_)) {
        let expected = "`off`, or a mapping like { errors: 50% }";
        reader.instead(at, &["off"], expected);
        return None;
    }
    let fields = reader.section(at, &BREAKER)?;
    let default = Breaker::default();
    let count = |name: &str, default: u32| {
        fields.read(name, default.into(), |r, at| r.count(at, 1, MOST)) as u32
    };
    let longest = fields.read("longest", default.longest, Reader::some_time);
    Some(Breaker {
        errors: fields.read("errors", default.errors, |r, at| r.percentage(at, 1)),
        window: fields.read("window", default.window, Reader::some_time),
        least: count("least", default.least),
        failures: count("failures", default.failures),
        open: fields.time_within("open", default.open, longest, "longest"),
        longest,
    })
}

fn health<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<HealthCheck> {
    let fields = match &at.node.kind {
        Kind::Text(_) => return health_path(reader, at).map(|path| HealthCheck::new(&path)),
        Kind::Map(_) => reader.section(at, &HEALTH)?,
        _ => {
            reader.wrong(at, at.node.what(), "a path like /health, or { path: /health }");
            return None;
        }
    };
    let path = fields.needed("path", "the key `path`, like /health");
    let path = path.and_then(|at| health_path(reader, &at));
    let default = HealthCheck::new(path.as_deref().unwrap_or_default());
    let count = |name: &str, default: u32| {
        fields.read(name, default.into(), |r, at| r.count(at, 1, MOST)) as u32
    };
    let every = fields.read("every", default.every, Reader::some_time);
    let check = HealthCheck {
        every,
        timeout: fields.time_within("timeout", default.timeout, every, "every"),
        failures: count("failures", default.failures),
        successes: count("successes", default.successes),
        path: default.path,
    };
    path.map(|_| check)
}

/// It is put below the url's own path as it stands.
fn health_path(reader: &Reader<'_>, at: &At<'_>) -> Option<String> {
    const EXPECTED: &str = "a path that starts with /, like /health";
    let text = reader.text(at, EXPECTED)?;
    let path = text.value.split('?').next().unwrap_or_default();
    let expected = if !path.starts_with('/') {
        EXPECTED
    } else if !text.value.bytes().all(|b| b.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&b)) {
        "a path of plain ASCII characters, without spaces and `#`"
    } else if path.split('/').any(|segment| segment == "." || segment == "..") {
        "a path without `.` and `..`"
    } else {
        return Some(text.value.into_owned());
    };
    reader.wrong(at, text.shown(), expected);
    None
}

/// `None`: off, or at fault.
fn hedge<'r>(reader: &'r Reader<'r>, at: &At<'_>, patience: Duration) -> Option<Hedge> {
    if !matches!(at.node.kind, Kind::Map(_)) {
        let expected = "`off`, `on`, or a mapping like { after: 3s }";
        let word = reader.instead(at, &["off", "on"], expected)?;
        return (word == 1).then(Hedge::default);
    }
    let fields = reader.section(at, &HEDGE)?;
    let default = Hedge::default();
    let of = "timeouts.first_content";
    Some(Hedge {
        after: fields.maybe_within("after", patience, of, Reader::some_time),
        budget: fields.read("budget", default.budget, |r, at| r.percentage(at, 1)),
    })
}

fn websocket<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<WebSocket> {
    let fields = reader.section(at, &WEBSOCKET)?;
    let default = WebSocket::default();
    let longest = fields.read("longest", default.longest, Reader::some_time);
    let sessions = fields.maybe("sessions", |r, at| r.count(at, 1, MOST));
    Some(WebSocket {
        sessions: sessions.map(|sessions| sessions as usize),
        idle: fields.time_within("idle", default.idle, longest, "longest"),
        longest,
    })
}
