//! From the tree of a file to a [`Config`]: the root, and what concerns several sections.
use std::path::PathBuf;
use std::time::Duration;

use super::fault::{Faults, nearest};
use super::file::{Kind, Node};
use super::keys::{DRAIN, LOG_FORMS, LOGS, ROOT, SERVER, STATE, TELEMETRY};
use super::known::Known;
use super::listen::{self, DEFAULT, DEFAULT_ADMIN, Placed};
use super::read::{At, Fields, Reader};
use super::{
    Address, Admin, Agents, Config, Listen, LogForm, LogTo, Prices, Reach, Server, Tasks,
    Telemetry, Upstream,
};
use super::{admin, agents, otlp, policies, prices, routes, tasks, upstream};
use crate::units::{UnitError, duration, show_size};

/// Largest body that may be let in, in bytes.
const LARGEST: u64 = 1 << 40;

/// Walks the whole tree; every fault is noted in `reader`.
pub(super) fn root<'r>(reader: &'r Reader<'r>, node: &Node) -> Result<Config, Faults> {
    walk(reader, node, |fields| sections(reader, fields))
}

/// The same file, read for no more than where its instance is.
pub(super) fn reach<'r>(reader: &'r Reader<'r>, node: &Node) -> Result<Reach, Faults> {
    walk(reader, node, |fields| {
        let admin = match fields.get("admin") {
            Some(at) => admin::admin(reader, &at).map(|(_, admin)| admin),
            None => Some(default_admin()),
        };
        let state = fields.maybe("state", state);
        let pepper = match state {
            Some(_) => None,
            None => fields.maybe("agents", agents::pepper),
        };
        Reach { admin, state, pepper }
    })
}

fn walk<'r, T>(
    reader: &'r Reader<'r>,
    node: &Node,
    read: impl FnOnce(&Fields<'r, '_>) -> T,
) -> Result<T, Faults> {
    // a file of comments alone is a mapping without keys
    let nothing = Node::new(node.place, Kind::Map(Vec::new()));
    let node = if matches!(node.kind, Kind::Null) { &nothing } else { node };
    let at = At { node, path: String::new() };
    let made = reader.section(&at, &ROOT).map(|fields| read(&fields));
    match (Faults::of(reader.faults.take()), made) {
        (None, Some(made)) => Ok(made),
        (Some(faults), _) => Err(faults),
        (None, None) => Err(Faults::whole(reader.file, "no mapping".to_owned(), "a mapping")),
    }
}

fn sections<'r>(reader: &'r Reader<'r>, fields: &Fields<'r, '_>) -> Config {
    let mut placed = match fields.get("listen") {
        Some(at) => listen::listeners(reader, &at),
        None => vec![Placed::default_at(DEFAULT, "listen")],
    };
    let listeners = placed.len();
    let (place, admin) = match fields.get("admin") {
        Some(at) => admin::admin(reader, &at).unzip(),
        None => (Some(Placed::default_at(DEFAULT_ADMIN, "admin")), Some(default_admin())),
    };
    placed.extend(place);
    listen::clashes(reader, &placed);
    let listeners_sound = reader.faults.borrow().is_empty();
    placed.truncate(listeners);
    let listen: Vec<_> = placed.into_iter().map(|placed| placed.listen).collect();

    let has_state = fields.get("state").is_some();
    let before = reader.faults.borrow().len();
    let tasks = match fields.get("tasks") {
        Some(at) => tasks::tasks(reader, &at, has_state),
        None => has_state.then(Tasks::default),
    };
    let tasks_sound = reader.faults.borrow().len() == before;
    let lanes = fields.get("routes").is_some_and(|at| routes::some_wait(at.node));
    let (upstreams, names) = match fields.get("upstreams") {
        Some(at) => (upstream::upstreams(reader, &at, lanes), written_names(at.node)),
        None => (upstream::all_vendors(), Vec::new()),
    };
    let vendors: Vec<String> = upstreams.iter().map(|u: &Upstream| u.name.to_string()).collect();
    let names = if names.is_empty() { vendors.iter().map(String::as_str).collect() } else { names };
    let faults = || reader.faults.borrow().len();
    let before = faults();
    let routes = match fields.get("routes") {
        Some(at) => {
            routes::routes(reader, &at, &upstreams, &names, tasks.is_some() || !tasks_sound)
        }
        None => routes::standard(&upstreams),
    };
    let routes_sound = upstreams.len() == names.len() && faults() == before;
    let known = Known {
        routes: routes_sound.then(|| routes.iter().map(|route| &*route.name).collect()),
        upstreams: &names,
        sound: &upstreams,
        certificates: !listeners_sound || listen.iter().any(asks_for_certificates),
        state: has_state,
    };
    let agents = fields.read("agents", Agents::default(), |r, at| agents::agents(r, at, &known));
    let policies =
        fields.read("policies", Vec::new(), |r, at| Some(policies::policies(r, at, &known)));
    Config {
        listen,
        admin,
        server: fields.read("server", Server::default(), server),
        upstreams,
        routes,
        state: fields.maybe("state", state),
        tasks,
        agents,
        prices: prices::prices(fields),
        policies,
        telemetry: telemetry(reader, fields),
    }
}

fn default_admin() -> Admin {
    Admin::at(Address::Tcp(DEFAULT_ADMIN))
}

fn asks_for_certificates(listen: &Listen) -> bool {
    listen.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

/// `state`: a directory, or a mapping with one.
fn state<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<PathBuf> {
    const EXPECTED: &str = "the path of a directory";
    if !matches!(at.node.kind, Kind::Map(_)) {
        return reader.path(at, EXPECTED);
    }
    let fields = reader.section(at, &STATE)?;
    reader.path(&fields.needed("dir", "the key `dir` with the path of a directory")?, EXPECTED)
}

/// Also those at fault, so that a route to one of them is not a second fault.
fn written_names(node: &Node) -> Vec<&str> {
    match &node.kind {
        Kind::Map(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        _ => Vec::new(),
    }
}

fn server<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Server> {
    const KIB: u64 = 1 << 10;
    let fields = reader.section(at, &SERVER)?;
    let default = Server::default();
    let (drain_delay, drain_timeout) =
        fields.read("drain", (default.drain_delay, default.drain_timeout), drain);
    let max_connections =
        fields.read("max_connections", default.max_connections as u64, |r, at| {
            r.count(at, 1, 1 << 20)
        });
    let max_headers =
        fields.read("max_headers", default.max_headers as u64, |r, at| r.count(at, 1, 1 << 10));
    // the parser's own buffer cannot be made smaller than 8 KiB
    let max_head =
        fields.read("max_head", default.max_head as u64, |r, at| r.size(at, 8 * KIB, KIB * KIB));
    let target = fields.maybe("max_target", |r, at| r.size(at, 1, KIB * KIB));
    if let (Some(size), Some(at)) = (target, fields.get("max_target"))
        && size > max_head
    {
        let expected = format!("at most max_head, which is {}", show_size(max_head));
        reader.wrong(&at, format!("`{}`", show_size(size)), &expected);
    }
    let max_body = fields.read("max_body", default.max_body, |r, at| r.size(at, 1, LARGEST));
    Some(Server {
        max_connections: max_connections as usize,
        max_body,
        max_head: max_head as usize,
        max_headers: max_headers as usize,
        max_target: target.unwrap_or((default.max_target as u64).min(max_head)) as usize,
        head_timeout: fields.read("head_timeout", default.head_timeout, Reader::some_time),
        body_timeout: fields.read("body_timeout", default.body_timeout, Reader::some_time),
        idle_timeout: fields.read("idle_timeout", default.idle_timeout, Reader::some_time),
        write_timeout: fields.read("write_timeout", default.write_timeout, Reader::some_time),
        memory: memory(&fields, max_body),
        heartbeat: Some(fields.read("heartbeat", default.heartbeat.unwrap_or_default(), heartbeat))
            .filter(|time| !time.is_zero()),
        drain_delay,
        drain_timeout,
    })
}

/// Several calls must have room at once, or one would keep out all others.
fn memory(fields: &Fields<'_, '_>, max_body: u64) -> u64 {
    let written = fields.maybe("memory", |r, at| {
        let size = r.size(at, 1, 4 * LARGEST)?;
        if size < max_body {
            let expected = format!("at least max_body, which is {}", show_size(max_body));
            r.wrong(at, format!("`{}`", show_size(size)), &expected);
        }
        Some(size)
    });
    written.unwrap_or_else(|| Server::default().memory.max(max_body.saturating_mul(4)))
}

/// `off` is no time at all.
fn heartbeat(reader: &Reader<'_>, at: &At<'_>) -> Option<Duration> {
    const EXPECTED: &str = "a duration like 15s, or off";
    reader.quantity(at, EXPECTED, |text| match text {
        "off" => Ok(Duration::ZERO),
        _ => match duration(text)? {
            Duration::ZERO => Err(UnitError::expected(EXPECTED)),
            time => Ok(time),
        },
    })
}

type Drain = (Duration, Duration);

/// Zero is right here: no delay, or no patience.
fn drain<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Drain> {
    let fields = reader.section(at, &DRAIN)?;
    let default = Server::default();
    Some((
        fields.read("delay", default.drain_delay, Reader::duration),
        fields.read("timeout", default.drain_timeout, Reader::duration),
    ))
}

fn telemetry<'r>(reader: &'r Reader<'r>, root: &Fields<'r, '_>) -> Telemetry {
    let default = Telemetry::default();
    let fields = root.maybe("telemetry", |r, at| r.section(at, &TELEMETRY));
    let Some(fields) = fields else {
        return Telemetry { otlp: otlp::otlp(reader, None), ..default };
    };
    let form = match fields.maybe("form", |r, at| r.word(at, LOG_FORMS)) {
        Some(1) => LogForm::Json,
        Some(2) => LogForm::Text,
        _ => LogForm::Auto,
    };
    let access_log = fields.read("access_log", default.access_log, log_to);
    let usage = fields.read("usage", default.usage, log_to);
    if let (LogTo::File(one), LogTo::File(other)) = (&access_log, &usage)
        && one == other
        && let Some(at) = fields.get("usage")
    {
        reader.wrong(&at, "the file of the access log", "a file of its own");
    }
    let otlp = otlp::otlp(reader, fields.get("otlp").as_ref());
    let level = fields.read("level", default.level, level);
    Telemetry { level, form, access_log, usage, otlp }
}

/// A word, or a path: which of the two is told by how it begins.
fn log_to(reader: &Reader<'_>, at: &At<'_>) -> Option<LogTo> {
    const EXPECTED: &str = "one of off, stdout or stderr, or a path that begins with / or ./";
    let text = reader.text(at, EXPECTED)?;
    if ["/", "./", "../"].iter().any(|start| text.value.starts_with(start)) {
        return if text.value.ends_with('/') {
            reader.wrong(at, text.shown(), "the path of a file, and not of a directory");
            None
        } else {
            // `./` in it is not shown again
            reader.path(at, EXPECTED).map(|path| LogTo::File(path.components().collect()))
        };
    }
    let known = [LogTo::Off, LogTo::Stdout, LogTo::Stderr];
    let index = LOGS.iter().position(|word| *word == text.value);
    if index.is_none() {
        let hint = nearest(&text.value, LOGS.iter().copied());
        reader.fault_near(at.node.place, &at.path, text.shown(), EXPECTED, hint);
    }
    index.map(|index| known[index].clone())
}

fn level(reader: &Reader<'_>, at: &At<'_>) -> Option<String> {
    let text = reader.text(at, LEVEL)?;
    if is_level(&text.value) {
        return Some(text.value.into_owned());
    }
    let hint = nearest(&text.value, LEVELS);
    reader.fault_near(at.node.place, &at.path, text.shown(), LEVEL, hint);
    None
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const LEVEL: &str =
    "a level (off, error, warn, info, debug, trace) or a filter like tidegate=debug,warn";

/// `LEVEL` or `target=LEVEL`, separated by commas: the part of `RUST_LOG`'s language that needs
/// no regular expressions. A bare target is refused: it is a mistyped level far more often.
pub fn is_level(text: &str) -> bool {
    let level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let target = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:-".contains(&b))
    };
    text.split(',').map(str::trim).all(|part| match part.split_once('=') {
        Some((name, word)) => target(name) && level(word),
        None => level(part),
    })
}

/// The default configuration: every known vendor, by prefix and by bare SDK paths.
pub(super) fn standard() -> Config {
    let upstreams = upstream::all_vendors();
    let routes = routes::standard(&upstreams);
    Config {
        listen: vec![Placed::default_at(DEFAULT, "").listen],
        admin: Some(default_admin()),
        server: Server::default(),
        upstreams,
        routes,
        state: None,
        tasks: None,
        agents: Agents::default(),
        prices: Prices::default(),
        policies: Vec::new(),
        telemetry: Telemetry::default(),
    }
}
