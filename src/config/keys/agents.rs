//! The keys under `agents` and `state`.
use super::{DIRECTORY, GLOB, Section, Shape, key, optional};

pub(in crate::config) const ACCESS: &[&str] = &["open", "known"];
/// In the order of `Rung::ALL`.
pub(in crate::config) const RUNGS: &[&str] =
    &["key", "mtls", "peer", "header", "session", "credential", "address"];

const NAME: Shape = Shape::Text("a name");
const HEADER: Shape = Shape::Text("the name of a header");

pub(in crate::config) static STATE: Section = Section {
    title: "What outlives the process",
    keys: &[optional("dir", &DIRECTORY, "The directory; made if it is not there.")],
    required: &["dir"],
    later: &["shared", "on_shared_error"],
};

pub(in crate::config) static AGENTS: Section = Section {
    title: "Who may call",
    keys: &[
        optional(
            "access",
            &Shape::Word(ACCESS),
            "open: whoever can connect; known: only whom a key, a certificate or a Unix peer \
             names. Without it: known where one of the three lists below is there.",
        ),
        key(
            "identify",
            &Shape::List(&Shape::Word(RUNGS)),
            "[key, mtls, peer, header, session, credential, address]",
            "What names the agent: the first that answers. Only key, mtls and peer prove it.",
        ),
        key("header", &HEADER, "x-agent-id", "Names the agent."),
        optional("team_header", &HEADER, "Names the team."),
        optional(
            "trust",
            &Shape::List(&Shape::Text("a network like 10.0.0.0/8, or an address")),
            "Whose word counts in these two headers. Without it: everybody's.",
        ),
        optional(
            "pepper",
            &Shape::Secret,
            "The key of the hashes under `hmac`: ${NAME} or file:/path.",
        ),
        optional(
            "keys",
            &Shape::List(&Shape::Section(&AGENT_KEY)),
            "Tidegate keys, by their hashes; `tidegate keys new` makes one.",
        ),
        optional(
            "certificates",
            &Shape::List(&Shape::Section(&CERTIFICATE)),
            "Client certificates; the first match wins. A listener must ask for them with \
             `client_ca`.",
        ),
        optional(
            "peers",
            &Shape::List(&Shape::Section(&PEER)),
            "Peers on Unix sockets; the first match wins.",
        ),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static AGENT_KEY: Section = Section {
    title: "A tidegate key: its hash, and what it allows",
    keys: &[
        optional("agent", &NAME, "Whom it names. Without it: the next that answers does."),
        optional("team", &NAME, "Whose agent this is."),
        optional("sha256", &Shape::Hash, "SHA-256 of the key."),
        optional("hmac", &Shape::Hash, "HMAC-SHA256 of the key under `pepper`, instead."),
        optional(
            "expires",
            &Shape::Text("2027-01-31 or 2027-01-31T12:00:00Z"),
            "From then on it is refused; a date begins at midnight UTC. Without it: never.",
        ),
        optional("models", &Shape::List(&GLOB), "Models it allows. Without it: all."),
        optional("routes", &Shape::List(&GLOB), "Names of routes it allows. Without it: all."),
    ],
    required: &[],
    later: &[],
};

pub(in crate::config) static CERTIFICATE: Section = Section {
    title: "A client certificate",
    keys: &[
        optional(
            "san",
            &Shape::Text("a glob like spiffe://cluster/ns/*/sa/research"),
            "Over the DNS names and URIs of the certificate.",
        ),
        optional(
            "agent",
            &NAME,
            "Whom it names. Without it: the name itself, or the last part of a SPIFFE id.",
        ),
        optional("team", &NAME, "Whose agent this is."),
    ],
    required: &["san"],
    later: &[],
};

pub(in crate::config) static PEER: Section = Section {
    title: "A peer on a Unix socket; all that is said must hold",
    keys: &[
        optional("uid", &Shape::Count(0), "Its user."),
        optional("gid", &Shape::Count(0), "Its group."),
        optional("process", &Shape::Text("a glob like python*"), "The name of its process."),
        optional("agent", &NAME, "Whom it names. Without it: the name of the process."),
        optional("team", &NAME, "Whose agent this is."),
    ],
    required: &[],
    later: &[],
};
