//! The keys under `upstreams`.
use super::{BUILTINS, DIALECTS, HTTP2, PACINGS, Section, Shape, URL, key, optional};

pub(in crate::config) static UPSTREAM: Section = Section {
    title: "A backend",
    keys: &[
        key(
            "dialect",
            &Shape::Word(DIALECTS),
            "openai",
            "How it speaks. Known vendors need not say it.",
        ),
        optional("url", &URL, "Where it is. A trailing /v1 may be there or not."),
        optional(
            "urls",
            &Shape::List(&URL),
            "Several replicas instead of one url; the least busy is taken.",
        ),
        optional(
            "builtin",
            &Shape::Word(BUILTINS),
            "A backend inside this process instead of a url, for trying things out.",
        ),
        optional(
            "key",
            &Shape::Secret,
            "Sent instead of the agent's credential: ${NAME} or file:/path. Without it the \
             agent's own passes through.",
        ),
        key(
            "auth",
            &Shape::Text("bearer, or the name of a header: x-api-key"),
            "bearer",
            "How the key is sent. Known vendors need not say it.",
        ),
        optional(
            "headers",
            &Shape::Names(&Shape::Text("the header's value")),
            "Added to every request; replaces what the agent sent under that name.",
        ),
        optional("concurrency", &Shape::Count(1), "Most calls at once; more wait in line."),
        optional("pool", &Shape::Section(&POOL), "Connections to it."),
        optional("timeouts", &Shape::Section(&TIMEOUTS), "How long each part may take."),
        optional("tls", &Shape::Section(&UPSTREAM_TLS), "A private CA, a client certificate."),
        key(
            "http2",
            &Shape::Word(HTTP2),
            "auto",
            "auto: if the server offers it over TLS; always: also on cleartext.",
        ),
        key(
            "proxy",
            &Shape::Text("env, off or http://[user:password@]host[:port]"),
            "env",
            "env: HTTPS_PROXY and NO_PROXY, for https urls.",
        ),
        key(
            "pacing",
            &Shape::Word(PACINGS),
            "auto",
            "Slowing down before the backend says 429: by its headers, else by its 429s. \
             latency: also by its time to the first token, for backends of your own.",
        ),
    ],
    required: &[],
    later: &["balance", "retry", "breaker", "fallback", "limits", "prices", "health", "weight"],
};

pub(in crate::config) static POOL: Section = Section {
    title: "Connections to a backend",
    keys: &[
        key("connect_timeout", &Shape::Duration, "5s", "Name, TCP and TLS together."),
        key(
            "idle_timeout",
            &Shape::Duration,
            "55s",
            "An idle connection is closed; below the 60s of most load balancers.",
        ),
        key("max_idle", &Shape::Count(1), "256", "Idle connections kept."),
        key(
            "max_age",
            &Shape::Duration,
            "5m",
            "A connection is retired after this, so that DNS changes are followed.",
        ),
        key("warm", &Shape::Count(0), "0", "Connections opened before they are needed."),
    ],
    required: &[],
    later: &["max_requests"],
};

pub(in crate::config) static TIMEOUTS: Section = Section {
    title: "How long each part of a call may take",
    keys: &[
        key(
            "queue",
            &Shape::Duration,
            "10s",
            "Waiting for a place under `concurrency`, or for an upstream that is paced.",
        ),
        key(
            "first_byte",
            &Shape::Duration,
            "10m",
            "From the request's last byte to the answer's first; reasoning models take long.",
        ),
        key("idle", &Shape::Duration, "2m", "Longest silence inside an answer."),
        key(
            "total",
            &Shape::Duration,
            "1h",
            "From start to end. A stream that is sending is never cut by it.",
        ),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static UPSTREAM_TLS: Section = Section {
    title: "TLS to a backend",
    keys: &[
        optional("ca", &Shape::File, "A private CA in PEM, instead of the system's roots."),
        optional("cert", &Shape::File, "Client certificate chain in PEM."),
        optional("key", &Shape::File, "Its private key in PEM."),
    ],
    required: &[],
    later: &["insecure"],
};
