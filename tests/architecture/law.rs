//! The rules. Each takes sources and returns what breaks it; each is tried on a bad snippet.
//!
//! An exception stands in a table with its reason, and must be needed: one that nothing uses any
//! more is a breach itself.
use crate::source::{Breach, Source};

/// The rooms, lowest layer first. A file may use its own room and those of lower layers.
pub const LAYERS: [&[&str]; 10] = [
    &[
        "wire",
        "semantic",
        "clock",
        "flight",
        "identity",
        "request_id",
        "sync",
        "units",
        "drain",
        "io",
        "pressure",
    ],
    &["config"],
    &["telemetry", "store"],
    &["upstream", "route", "limits", "agents", "cache", "tasks"],
    &["snapshot"],
    &["pipeline"],
    &["reload", "webhook", "work", "collector"],
    &["listen", "admin", "simulate"],
    &["app"],
    &["demo", "cli", "lib", "main"],
];

/// A room that may use another of its own layer, and why.
pub const SIBLINGS: [(&str, &str, &str); 5] = [
    ("flight", "clock", "a deadline is a difference of two ticks"),
    ("flight", "request_id", "a call in flight is shown by its name"),
    ("flight", "pressure", "a call in flight counts for what it holds"),
    ("route", "upstream", "a route ends at its upstream"),
    ("cli", "demo", "the command line starts the demo"),
];

/// Words that only some places may use.
pub struct Ban {
    pub words: &'static [&'static str],
    pub place: Place,
    /// Files that break it, and why that is right.
    pub exceptions: &'static [(&'static str, &'static str)],
    pub why: &'static str,
}

/// Where a ban holds; a place is a room, a folder or a file below `src/`, without `.rs`.
pub enum Place {
    OutsideOf(&'static [&'static str]),
    Inside(&'static [&'static str]),
    Everywhere,
}

pub const BANS: &[Ban] = &[
    Ban {
        words: &["tokio", "hyper", "hyper_util", "http_body", "async"],
        place: Place::Inside(&["wire"]),
        exceptions: &[],
        why: "`wire` is pure: bytes in, meaning out; no I/O, no client, no async",
    },
    Ban {
        words: &["hyper::client", "hyper_util::client", "tokio::net::TcpStream::connect"],
        place: Place::OutsideOf(&["upstream"]),
        exceptions: &[],
        why: "only `upstream` is a client of HTTP",
    },
    Ban {
        words: &[
            "spawn_local",
            "spawn_blocking",
            "tokio::spawn",
            "thread::spawn",
            "thread::Builder",
            "JoinSet",
        ],
        place: Place::OutsideOf(&["app", "demo", "listen", "reload", "admin", "simulate"]),
        exceptions: &[
            ("telemetry/sink.rs", "the log's writer is a thread, so that no call waits for a disk"),
            ("store/writer.rs", "the store's writer is a thread, so that no call waits for a disk"),
            (
                "cache/disk/owner.rs",
                "one thread owns the cache's files, so that no call waits for them",
            ),
            ("cache/disk/readers.rs", "reading a file blocks; its threads end when nobody asks"),
            ("tasks/kept.rs", "reading the database blocks; it ends with what it reads"),
            ("collector.rs", "traces and metrics are sent by a thread that no call waits for"),
            (
                "cli/top/aside.rs",
                "a key must not wait for an instance that hangs; ends with the process",
            ),
            ("work.rs", "a task's call is nobody's; it ends with the task, or with the sidecar"),
            (
                "upstream/post.rs",
                "hyper splits an HTTP/2 connection from its calls; it needs a task",
            ),
            ("upstream/h2.rs", "hyper splits an HTTP/2 connection from its calls; it needs a task"),
            ("upstream/tls.rs", "reading the system's roots blocks for milliseconds"),
            ("pipeline/upgrade.rs", "a tunnel outlives the answer that opened it"),
            (
                "pipeline/produce.rs",
                "a shared call outlives the caller who began it; it ends with its last reader, and what is \
                 kept of it with its grace time",
            ),
            (
                "pipeline/similar.rs",
                "comparing questions and answers takes longer than a stream may wait",
            ),
        ],
        why: "who starts a task or a thread must own its end: app, demo, listen, reload, admin, simulate",
    },
    Ban {
        words: &["serde_yaml", "serde_saphyr"],
        place: Place::OutsideOf(&["config/file"]),
        exceptions: &[],
        why: "the YAML crate is known to `config/file.rs` alone, so that it can be changed",
    },
    Ban {
        words: &["redb"],
        place: Place::OutsideOf(&["store"]),
        exceptions: &[],
        why: "the database is known to `store` alone, so that it can be changed",
    },
    Ban {
        words: &["tower"],
        place: Place::OutsideOf(&["admin", "listen", "upstream"]),
        exceptions: &[],
        why: "tower stands at the edges; the steps of the pipeline are plain functions",
    },
    Ban {
        words: &["Extensions", "extensions", "extensions_mut"],
        place: Place::Everywhere,
        exceptions: &[(
            "pipeline/upgrade/opening.rs",
            "hyper hands the upgraded connection over in there",
        )],
        why: "steps give each other typed values, not an untyped bag",
    },
    Ban { words: &["unsafe"], place: Place::Everywhere, exceptions: &[], why: "no unsafe code" },
    Ban {
        words: &[
            ".unwrap()",
            ".unwrap_err()",
            ".expect(",
            ".expect_err(",
            "panic!",
            "unreachable!",
            "todo!",
            "unimplemented!",
        ],
        place: Place::Everywhere,
        exceptions: &[],
        why: "nothing panics outside tests",
    },
];

/// Files that may name a status code beside those that answer with one.
const STATUS_EXCEPTIONS: &[(&str, &str)] = &[
    ("pipeline/admit.rs", "what a backend's status means for the bill, and for its pace"),
    ("pipeline/offload/api.rs", "what is told of a task: 200, 202, 204, 304"),
    ("pipeline/offload/background.rs", "a response object that is no refusal is a 200"),
    ("pipeline/offload/object.rs", "a task is shown with a 200"),
    (
        "pipeline/offload/result.rs",
        "the status that an answer was kept with; 202 before there is one",
    ),
    ("pipeline/offload/run.rs", "what a task is told of a call that could not be made"),
    ("pipeline/offload/run/refused.rs", "what a refusal means for the task: again, or never"),
    ("pipeline/offload/submit.rs", "202 says that a task is taken on"),
    ("pipeline/local.rs", "the two answers of ours that refuse nothing"),
    ("pipeline/embeddings.rs", "only a 200 is kept"),
    ("pipeline/produce/ending.rs", "only a 200 is kept"),
    ("pipeline/replay.rs", "what was kept was a 200"),
    ("pipeline/resume/answer.rs", "204 says that a stream is stopped, and no more"),
    ("pipeline/upgrade/opening.rs", "101 tells a tunnel from an answer"),
    ("webhook/send.rs", "what a receiver's status means for the next attempt"),
    ("upstream/call.rs", "101 tells a tunnel from an answer"),
    ("upstream/h1/head.rs", "some statuses have no body (RFC 9112, 6.3)"),
];

const LONGEST_FILE: usize = 400;
const LONGEST_FUNCTION: usize = 80;
const LONGEST_DROP: usize = 10;
const NAMELESS: [&str; 7] = ["mod", "util", "utils", "helper", "helpers", "common", "misc"];

/// A path points down, to its own room, or to a sibling that is named above.
pub fn layers(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (source, at, room) in edges(sources) {
        let own = source.room();
        let (Some(mine), Some(theirs)) = (layer(own), layer(&room)) else {
            let unknown = if layer(own).is_none() { own } else { &room };
            breaches.push(source.breach(at, format!("`{unknown}` is no room of any layer")));
            continue;
        };
        if theirs > mine {
            let rule = format!("`{own}` (layer {mine}) may not use `{room}` (layer {theirs})");
            breaches.push(source.breach(at, rule));
        } else if theirs == mine && !sibling(own, &room) {
            let rule = format!("`{own}` may not use `{room}` of the same layer ({mine})");
            breaches.push(source.breach(at, rule));
        }
    }
    breaches
}

/// No room comes back to itself by the siblings that it uses; through other layers it cannot, by
/// `layers`. One breach a circle, at its last step.
pub fn circles(sources: &[Source]) -> Vec<Breach> {
    let mut edges = edges(sources);
    edges.retain(|(source, _, room)| layer(source.room()) == layer(room));
    let mut breaches = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for source in sources {
        if done.contains(&source.room()) {
            continue;
        }
        walk(&edges, &mut vec![source.room()], &mut done, &mut breaches);
    }
    breaches
}

type Edge<'s> = (&'s Source, usize, String);

fn walk<'s>(
    edges: &'s [Edge<'s>],
    path: &mut Vec<&'s str>,
    done: &mut Vec<&'s str>,
    breaches: &mut Vec<Breach>,
) {
    let here = path[path.len() - 1];
    for (source, at, room) in edges.iter().filter(|(source, ..)| source.room() == here) {
        if let Some(begin) = path.iter().position(|seen| seen == room) {
            let circle = [&path[begin..], &[room.as_str()]].concat().join(" → ");
            breaches.push(source.breach(*at, format!("a circle of rooms: {circle}")));
        } else if !done.contains(&room.as_str()) {
            path.push(room);
            walk(edges, path, done, breaches);
            path.pop();
        }
    }
    done.push(here);
}

/// Every use of another room; the crate's root uses all and is no one's room.
fn edges(sources: &[Source]) -> Vec<Edge<'_>> {
    let from = |source| move |(at, room)| (source, at, room);
    let all = sources.iter().flat_map(|source| {
        let references = source.references().into_iter().map(|found| (found.at, found.room));
        references.filter(|(_, room)| room != source.room()).map(from(source))
    });
    all.collect()
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

fn sibling(from: &str, to: &str) -> bool {
    SIBLINGS.iter().any(|(a, b, _)| (*a, *b) == (from, to))
}

/// Every room of the table is there, and every sibling is needed.
pub fn table(sources: &[Source]) -> Vec<Breach> {
    let edges = edges(sources);
    let gone = |room: &&str| !sources.iter().any(|source| source.room() == *room);
    let mut breaches: Vec<_> = LAYERS
        .concat()
        .into_iter()
        .filter(|room| gone(room))
        .map(|room| stale(room, "the layers name this room, and it is not there"))
        .collect();
    for (from, to, _) in SIBLINGS {
        if !edges.iter().any(|(source, _, room)| source.room() == from && room == to) {
            breaches.push(stale(from, &format!("it no longer uses its sibling `{to}`")));
        }
    }
    breaches
}

fn stale(path: &str, rule: &str) -> Breach {
    Breach { path: path.to_owned(), line: 1, rule: rule.to_owned() }
}

/// Words stay where the bans leave them.
pub fn bans(sources: &[Source]) -> Vec<Breach> {
    BANS.iter().flat_map(|ban| ban.breaches(sources)).collect()
}

impl Ban {
    fn breaches(&self, sources: &[Source]) -> Vec<Breach> {
        let held = sources.iter().filter(|source| self.place.holds(&source.path));
        let found = held.flat_map(|source| {
            let places = self.words.iter().flat_map(|word| source.find(word));
            places.map(|at| source.breach(at, self.why))
        });
        except(found.collect(), self.exceptions)
    }
}

impl Place {
    fn holds(&self, path: &str) -> bool {
        let within = |place: &&str| {
            path.strip_prefix(place).is_some_and(|rest| rest.starts_with(['/', '.']))
        };
        match self {
            Self::OutsideOf(places) => !places.iter().any(within),
            Self::Inside(places) => places.iter().any(within),
            Self::Everywhere => true,
        }
    }
}

/// Takes the exceptions out, and reports those that nothing needs.
fn except(mut breaches: Vec<Breach>, exceptions: &[(&str, &str)]) -> Vec<Breach> {
    let needed = |path: &str| breaches.iter().any(|breach| breach.path == path);
    let idle: Vec<_> = exceptions.iter().filter(|(path, _)| !needed(path)).collect();
    breaches.retain(|breach| !exceptions.iter().any(|(path, _)| *path == breach.path));
    breaches.extend(
        idle.into_iter()
            .map(|(path, why)| stale(path, &format!("the exception is no longer needed: {why}"))),
    );
    breaches
}

/// A status code is chosen where we answer.
pub fn statuses(sources: &[Source]) -> Vec<Breach> {
    let place = Place::OutsideOf(&["pipeline/refusal", "admin", "simulate"]);
    let held = sources.iter().filter(|source| place.holds(&source.path));
    let found = held.flat_map(|source| {
        let constant = |at: &usize| {
            let rest = &source.code[at + "StatusCode::".len()..];
            rest.starts_with(|c: char| c.is_ascii_uppercase())
        };
        let places = source.find("StatusCode::").filter(constant);
        places.map(|at| source.breach(at, "a status code is named where we answer: refusal, admin"))
    });
    except(found.collect(), STATUS_EXCEPTIONS)
}

/// The names of measures stand in `telemetry`.
pub fn metric_names(sources: &[Source]) -> Vec<Breach> {
    let outside = sources.iter().filter(|source| source.room() != "telemetry");
    let found = outside.flat_map(|source| {
        let names = ["\"tidegate_", "\"gen_ai_", "\"gen_ai."];
        let places = names.into_iter().flat_map(|name| source.literal.match_indices(name));
        places.map(|(at, _)| source.breach(at, "the names of measures stand in `telemetry`"))
    });
    found.collect()
}

/// A file can be read in one go.
pub fn file_sizes(sources: &[Source]) -> Vec<Breach> {
    let found = sources.iter().filter_map(|source| {
        let lines = source.production_lines();
        (lines > LONGEST_FILE).then(|| {
            source.breach(0, format!("{lines} lines beside its tests, {LONGEST_FILE} at most"))
        })
    });
    found.collect()
}

/// A function fits on a screen, and what happens on `Drop` in a glance.
pub fn function_sizes(sources: &[Source]) -> Vec<Breach> {
    let found = sources.iter().flat_map(|source| {
        source.functions().into_iter().filter_map(|function| {
            let most = match function.name {
                // with the lines of its signature and its last brace
                "drop" => LONGEST_DROP + 2,
                _ => LONGEST_FUNCTION,
            };
            let rule = format!("`{}` has {} lines, {most} at most", function.name, function.lines);
            (function.lines > most).then(|| source.breach(function.at, rule))
        })
    });
    found.collect()
}

/// A file is called after what is in it.
pub fn file_names(sources: &[Source]) -> Vec<Breach> {
    let found = sources.iter().filter_map(|source| {
        let name = source.path.rsplit('/').next()?.strip_suffix(".rs")?;
        let rule = format!("`{name}.rs` does not say what is in it");
        NAMELESS.contains(&name).then(|| source.breach(0, rule))
    });
    found.collect()
}

/// A file begins by saying what it is for; its tests need not.
pub fn module_docs(sources: &[Source]) -> Vec<Breach> {
    let found = sources.iter().filter_map(|source| {
        let first = source.text.lines().next().unwrap_or_default();
        let said = first.strip_prefix("//!").is_some_and(|doc| !doc.trim().is_empty());
        (!said && source.production_lines() > 0)
            .then(|| source.breach(0, "a file begins with a `//!` line that says what it is for"))
    });
    found.collect()
}
