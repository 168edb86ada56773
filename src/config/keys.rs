//! Every key of the policy file: its shape, its default as one would write it, and one line of
//! why. The readers refuse what is not in here, and the JSON Schema is made from here, so the
//! two cannot drift apart. Defaults are only told here; they are decided by the `Default` impls
//! in `config.rs`, and a test holds the two together.

mod agents;
mod cache;
mod otlp;
mod policies;
mod resilience;
mod route;
mod tasks;
mod upstream;

pub(super) use agents::{ACCESS, AGENT_KEY, AGENTS, CERTIFICATE, PEER, RUNGS, STATE};
pub(super) use cache::{CACHE, EMBEDDER, MODES, REPLAYS, SCOPES, SEMANTIC};
pub(super) use otlp::{OTLP, PROTOCOLS};
pub(super) use policies::{
    ACTIONS, CLASSES, LIMITS, MATCH, PERS, POLICY, PRICE, QUEUE, RUNAWAY, TOKEN_WEIGHTS,
};
pub(super) use resilience::{BALANCES, BREAKER, HEALTH, HEDGE, RETRY, WEBSOCKET};
pub(super) use route::{EXHAUSTED, GOAL, ROUTE};
pub(super) use tasks::{ENDS, OFFLOADS, PER_AGENT, TASKS, WEBHOOK};
pub(super) use upstream::{POOL, TIMEOUTS, UPSTREAM, UPSTREAM_TLS};

/// A mapping with a fixed set of keys.
pub(super) struct Section {
    pub title: &'static str,
    pub keys: &'static [Key],
    /// Keys that must be there.
    pub required: &'static [&'static str],
    /// Keys of the format that this version does not act on: refused, and by name.
    pub later: &'static [&'static str],
}

pub(super) struct Key {
    pub name: &'static str,
    pub shape: &'static Shape,
    /// As written in the file; `None` where leaving the key out is the default.
    pub default: Option<&'static str>,
    pub doc: &'static str,
}

pub(super) enum Shape {
    Duration,
    Size,
    /// A whole number, at least this.
    Count(u64),
    /// A decimal number that is not negative.
    Decimal,
    Flag,
    /// `10%`, which may be more than all.
    Weight,
    /// `AMOUNT/PERIOD` and words.
    Rate,
    /// The same in dollars.
    Spend,
    /// `<=0.3`
    AtMost,
    /// Calls at once, and a word.
    AtOnce,
    /// 64 hexadecimal digits.
    Hash,
    Word(&'static [&'static str]),
    /// Text, and what it looks like.
    Text(&'static str),
    /// `${NAME}` or `file:/path`: never shown.
    Secret,
    /// Path of a file that must be there.
    File,
    /// Path of a file, told from a word by how it begins.
    LogFile,
    Section(&'static Section),
    /// Names of the user's own, each with a value of this shape.
    Names(&'static Shape),
    /// Not empty.
    List(&'static Shape),
    AnyOf(&'static [&'static Shape]),
}

impl Section {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(
    name: &'static str,
    shape: &'static Shape,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, shape, default: Some(default), doc }
}

/// A key whose absence is its default.
const fn optional(name: &'static str, shape: &'static Shape, doc: &'static str) -> Key {
    Key { name, shape, default: None, doc }
}

pub(super) const DIALECTS: &[&str] = &["openai", "anthropic", "gemini", "ollama", "http"];
pub(super) const CLIENT_AUTH: &[&str] = &["optional", "required"];
pub(super) const SWITCH: &[&str] = &["off", "on"];
pub(super) const HTTP2: &[&str] = &["auto", "never", "always"];
pub(super) const BACKGROUNDS: &[&str] = &["auto", "on", "off"];
pub(super) const PACINGS: &[&str] = &["auto", "latency", "off"];
pub(super) const LOG_FORMS: &[&str] = &["auto", "json", "text"];
pub(super) const LOGS: &[&str] = &["off", "stdout", "stderr"];
pub(super) const BUILTINS: &[&str] = &["simulator"];

const ADDRESS: Shape = Shape::Text("127.0.0.1:8080, unix:/path, systemd: or systemd:NAME");
const DIRECTORY: Shape = Shape::Text("path of a directory");
const GLOB: Shape = Shape::Text("a glob like gpt-*");
const LOG: Shape = Shape::AnyOf(&[&Shape::Word(LOGS), &Shape::LogFile]);
const URL: Shape = Shape::Text("http://host[:port][/path], https://… or unix:/path");
const LISTENER: Shape = Shape::AnyOf(&[&ADDRESS, &Shape::Section(&LISTEN)]);

pub(super) static ROOT: Section = Section {
    title: "Tidegate policy file",
    keys: &[
        key(
            "listen",
            &Shape::AnyOf(&[&LISTENER, &Shape::List(&LISTENER)]),
            "127.0.0.1:8080",
            "Where agents connect: one address or a list.",
        ),
        key(
            "admin",
            &Shape::AnyOf(&[&ADDRESS, &Shape::Section(&ADMIN)]),
            "127.0.0.1:8081",
            "The page, health, metrics and state, or `off`. Open to all on loopback and on a Unix \
             socket; elsewhere it needs `token`, client certificates or `state`.",
        ),
        optional("server", &Shape::Section(&SERVER), "Bounds on what a client may do."),
        optional(
            "state",
            &Shape::AnyOf(&[&DIRECTORY, &Shape::Section(&STATE)]),
            "Where budgets, keys and tasks outlive the process. Without it: in memory only, and no tasks.",
        ),
        optional(
            "tasks",
            &Shape::AnyOf(&[&cache::OFF, &Shape::Section(&TASKS)]),
            "Calls that are answered at once and made in the background; or `off`, as without \
             `state`.",
        ),
        optional(
            "upstreams",
            &Shape::Names(&Shape::AnyOf(&[&URL, &Shape::Section(&UPSTREAM)])),
            "The backends, by name. Without it: every vendor that Tidegate knows.",
        ),
        optional(
            "routes",
            &Shape::List(&Shape::Section(&ROUTE)),
            "Which call goes where; the first match wins. Without it: each upstream under \
             /NAME, and the bare paths of the SDKs to the first upstream of their dialect.",
        ),
        optional(
            "agents",
            &Shape::Section(&AGENTS),
            "Who may call, and how callers are told apart.",
        ),
        optional(
            "prices",
            &Shape::Names(&Shape::Section(&PRICE)),
            "What models cost, by a glob over their names; the first match wins. Wins over the \
             price file, and that over the table that is built in.",
        ),
        optional(
            "price_file",
            &Shape::Text("path of a JSON file"),
            "Prices in the format of LiteLLM's model_prices_and_context_window.json.",
        ),
        optional(
            "policies",
            &Shape::List(&Shape::Section(&POLICY)),
            "What calls may use up, and which answers are given a second time. Every policy that \
             matches a call applies, and all its limits must hold; of caches the last decides.",
        ),
        optional("telemetry", &Shape::Section(&TELEMETRY), "What is logged, and how."),
    ],
    required: &[],
    later: &[],
};

pub(super) static LISTEN: Section = Section {
    title: "A listener",
    keys: &[
        optional("at", &ADDRESS, "The address."),
        optional("tls", &Shape::Section(&LISTEN_TLS), "Serve TLS here."),
    ],
    required: &["at"],
    later: &[],
};

pub(super) static ADMIN: Section = Section {
    title: "The admin listener",
    keys: &[
        optional("at", &ADDRESS, "The address."),
        optional(
            "tls",
            &Shape::Section(&LISTEN_TLS),
            "Serve TLS here. With `client_ca`, a certificate is the proof that is asked for.",
        ),
        optional(
            "token",
            &Shape::Secret,
            "Asked of everybody as `Authorization: Bearer`, but for /livez, /readyz and /healthz. \
             16 characters at least; TIDEGATE_ADMIN_TOKEN wins over it.",
        ),
        key(
            "actions",
            &Shape::Word(SWITCH),
            "off",
            "Whether the page may end calls and tasks, and where there is no token, whoever is here may purge.",
        ),
    ],
    required: &["at"],
    later: &[],
};

pub(super) static LISTEN_TLS: Section = Section {
    title: "TLS of a listener",
    keys: &[
        optional("cert", &Shape::File, "Certificate chain in PEM; reread when it changes."),
        optional("key", &Shape::File, "Its private key in PEM."),
        optional("client_ca", &Shape::File, "Clients may show a certificate of this CA, in PEM."),
        key(
            "client_auth",
            &Shape::Word(CLIENT_AUTH),
            "required",
            "With client_ca: whether a client without a certificate is let in.",
        ),
    ],
    required: &["cert", "key"],
    later: &[],
};

pub(super) static SERVER: Section = Section {
    title: "Bounds on what a client may do",
    keys: &[
        key("max_connections", &Shape::Count(1), "10000", "Open connections from agents."),
        key("max_body", &Shape::Size, "32MiB", "Largest request body that is read into memory."),
        key("max_head", &Shape::Size, "32KiB", "Request line and headers together."),
        key("max_headers", &Shape::Count(1), "100", "Header lines of a request."),
        key("max_target", &Shape::Size, "8KiB", "Path and query."),
        key("head_timeout", &Shape::Duration, "10s", "From the first byte of a head to its last."),
        key(
            "body_timeout",
            &Shape::Duration,
            "30s",
            "Longest time until a body gets on: by 1 KiB for each second of it, and a sixteenth of \
             its length; one that streams through, by 1 KiB.",
        ),
        key(
            "idle_timeout",
            &Shape::Duration,
            "75s",
            "An idle connection is closed after this; longer than any SDK keeps one.",
        ),
        key(
            "write_timeout",
            &Shape::Duration,
            "60s",
            "Longest time a client may leave our bytes unread.",
        ),
        key(
            "memory",
            &Shape::Size,
            "512MiB",
            "Most that is held of bodies, answers and streams at once; near it, new work is \
             refused. At least `max_body`; without it, never less than four of those; at most 60 % \
             of what the container may take.",
        ),
        key(
            "heartbeat",
            &Shape::AnyOf(&[&cache::OFF, &Shape::Duration]),
            "15s",
            "A client that waits for its stream gets a comment this often, which SDKs skip; or \
             `off`.",
        ),
        optional("drain", &Shape::Section(&DRAIN), "How the process ends."),
    ],
    required: &[],
    later: &[],
};

pub(super) static DRAIN: Section = Section {
    title: "How the process ends",
    keys: &[
        key(
            "delay",
            &Shape::Duration,
            "5s",
            "Readiness fails this long before new work is refused.",
        ),
        key("timeout", &Shape::Duration, "10m", "How long running calls may take to finish."),
    ],
    required: &[],
    later: &[],
};

pub(super) static TELEMETRY: Section = Section {
    title: "What is logged, and how",
    keys: &[
        key(
            "level",
            &Shape::Text(
                "a level (error, warn, info, debug, trace) or a filter like tidegate=debug,warn",
            ),
            "info",
            "What goes to the log on stderr.",
        ),
        key("form", &Shape::Word(LOG_FORMS), "auto", "auto: text on a terminal, JSON elsewhere."),
        key(
            "access_log",
            &LOG,
            "stdout",
            "One line a request. A file is appended to, and opened anew at SIGUSR1.",
        ),
        key(
            "usage",
            &LOG,
            "off",
            "One JSON line for each call that was sent to a backend or spared, for billing: tokens \
             and billionths of a dollar as whole numbers.",
        ),
        optional(
            "otlp",
            &Shape::AnyOf(&[&cache::OFF, &URL, &Shape::Section(&OTLP)]),
            "The OpenTelemetry collector that traces and metrics are sent to. Without it the \
             standard variables (OTEL_EXPORTER_OTLP_ENDPOINT, …) say where to; `off`: nowhere.",
        ),
    ],
    required: &[],
    later: &[],
};
