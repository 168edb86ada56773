//! The keys under `upstreams`.
use super::resilience::{BALANCES, BREAKERS, CHECKS, HEDGES, RETRIES, WEBSOCKET};
use super::{BACKGROUNDS, BUILTINS, DIALECTS, HTTP2, PACINGS, Section, Shape, URL, key, optional};

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
        optional("urls", &Shape::List(&URL), "Several replicas instead of one url; see `balance`."),
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
        optional(
            "keys",
            &Shape::List(&Shape::Secret),
            "Several instead of one key: one that is refused or used up is set aside.",
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
        key(
            "balance",
            &Shape::Word(BALANCES),
            "least_busy",
            "Which of several urls gets a call. prefix: calls that begin alike go to one, whose \
             prompt cache is warm; session: those of a session do; round_robin: one after another.",
        ),
        optional("retry", &RETRIES, "Trying again, here and elsewhere; or `off`."),
        optional("breaker", &BREAKERS, "When it gets no calls for a while; or `off`: never."),
        optional(
            "health",
            &CHECKS,
            "Asking each address whether it is well: a path, or a mapping.",
        ),
        key(
            "hedge",
            &HEDGES,
            "off",
            "A second request when the first token is late. on: by the model's own history.",
        ),
        key(
            "background",
            &Shape::Word(BACKGROUNDS),
            "auto",
            "Whether it makes responses with `background: true` itself. auto: OpenAI and Azure do, \
             known by the hosts of their urls. off: they become tasks here.",
        ),
        optional("websocket", &Shape::Section(&WEBSOCKET), "Sessions over WebSocket."),
    ],
    required: &[],
    later: &["fallback", "limits", "prices", "weight"],
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
            "Waiting for a place under `concurrency`, its own or a route's, or while it is paced.",
        ),
        key(
            "first_byte",
            &Shape::Duration,
            "10m",
            "From the request's last byte to the answer's first; reasoning models take long.",
        ),
        key(
            "first_content",
            &Shape::Duration,
            "15m",
            "From the request's last byte to the first token of a stream, thoughts included, or the \
             first byte of a plain answer's body.",
        ),
        optional(
            "idle",
            &Shape::Duration,
            "Longest silence inside an answer; any byte ends it. Without it: 2m, and only once its \
             content has begun; until then `first_content` is the bound, for a model may think \
             without a word.",
        ),
        key(
            "between_tokens",
            &Shape::Duration,
            "5m",
            "Longest time between two tokens of a stream; pings do not count.",
        ),
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
