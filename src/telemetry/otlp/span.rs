//! The spans of one call, made when it is over: the call itself (`SERVER`), what it waited for, and each
//! attempt (`CLIENT`, by the `GenAI` conventions).
//!
//! Texts that a client chose are cut and masked as they are in the access log.
use std::time::{Duration, Instant};

use super::content;
use super::names as said;
use super::proto::{self, Out, flag, real, text, whole};
use crate::telemetry::metrics::{Finished, Outcome};
use crate::telemetry::redact;
use crate::telemetry::trace::{Attempt, CallTrace, Parent, Told};

const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// Sampled; and that what follows is known: whether the parent is another process.
const OURS: u32 = 0x101;
const REMOTE: u32 = 0x301;
/// What makes the ids of spans that no one else names.
const QUEUE: u64 = 0x7175_6575_6500_0000;
const CACHE: u64 = 0x6361_6368_6500_0000;
/// Fields of a `Span`.
const ATTRIBUTE: u64 = 9;
/// Longest text of a client's, in bytes.
const LONGEST: usize = 256;

/// A call that is over. Empty texts are left out.
#[derive(Debug)]
pub struct Ended<'a> {
    pub call: &'a Finished<'a>,
    pub trace: &'a CallTrace,
    pub started: Instant,
    pub now: Instant,
    /// The same since 1970.
    pub unix_nanos: u64,
    pub request_id: &'a str,
    pub method: &'a str,
    /// `http`, `https`; empty for a call that nobody sent.
    pub scheme: &'static str,
    /// Without the query: queries carry keys.
    pub path: &'a str,
    pub peer: &'a str,
    pub user_agent: Option<&'a str>,
    pub route: &'a str,
    pub upstream: &'a str,
    pub attempts: u32,
    /// The id of the task whose call it is, or which it asked for.
    pub task: &'a str,
    /// Nobody has sampled it: it is here because it failed.
    pub late: bool,
}

/// What the last call said, mostly said again: comparing is cheaper than looking for keys.
#[derive(Debug, Default)]
pub(super) struct Memos {
    path: Memo,
    user_agent: Memo,
    agent: Memo,
    team: Memo,
    session: Memo,
    model: Memo,
    answered_by: Memo,
}

#[derive(Debug, Default)]
struct Memo {
    text: String,
    shown: String,
}

impl Memo {
    fn show(&mut self, text: &str) -> &str {
        // masked before it is cut: the beginning of a key is not known for one
        let head = &text[..text.floor_char_boundary(4 * LONGEST)];
        if self.text != head {
            head.clone_into(&mut self.text);
            self.shown = redact::mask(head).into_owned();
            self.shown.truncate(self.shown.floor_char_boundary(LONGEST));
        }
        &self.shown
    }
}

/// Appends the spans, as fields of a `ScopeSpans`; says how many.
pub(super) fn write(out: &mut Out, memos: &mut Memos, ended: &Ended<'_>) -> u64 {
    let told = ended.trace.told();
    proto::message(out, 2, |out| root(out, memos, ended, &told));
    if let Some((since, until)) = told.queued {
        inner(out, ended, (QUEUE, "tidegate.queue"), (since, until), |out| {
            text(out, ATTRIBUTE, "tidegate.class", ended.call.who.class.as_str());
            some(out, "tidegate.limited_by", ended.call.held.limited_by.unwrap_or_default());
        });
    }
    let looked = told.looked.and_then(|(since, until)| Some((since, until?)));
    if let Some(times) = looked {
        inner(out, ended, (CACHE, "tidegate.cache"), times, |out| {
            some(out, "tidegate.cache.result", ended.call.kept.how.unwrap_or_default());
        });
    }
    for (at, attempt) in told.attempts.iter().enumerate() {
        let last = at + 1 == told.attempts.len();
        proto::message(out, 2, |out| client(out, memos, ended, &told, (attempt, last)));
    }
    1 + u64::from(told.queued.is_some()) + u64::from(looked.is_some()) + told.attempts.len() as u64
}

impl Ended<'_> {
    fn unix(&self, at: Instant) -> u64 {
        let ago = self.now.saturating_duration_since(at).as_nanos() as u64;
        self.unix_nanos.saturating_sub(ago)
    }

    /// It went wrong, and not by its caller's doing alone.
    fn failed(&self) -> bool {
        self.call.status >= 500
            || !matches!(
                self.call.outcome,
                Outcome::Complete | Outcome::Refused | Outcome::ClientGone
            )
    }

    fn error(&self) -> &str {
        match (self.call.outcome, self.call.error) {
            (_, Some(error)) => error,
            (Outcome::Complete, None) => "",
            (outcome, None) => outcome.as_str(),
        }
    }
}

/// What all spans have.
fn span(
    out: &mut Out,
    ended: &Ended<'_>,
    (id, parent): (u64, u64),
    kind: u64,
    (since, until): (Instant, Instant),
) {
    proto::bytes(out, 1, &ended.trace.trace.to_be_bytes());
    proto::bytes(out, 2, &id.to_be_bytes());
    if let Some(state) = ended.trace.state.as_ref().and_then(|state| state.to_str().ok()) {
        proto::bytes(out, 3, state.as_bytes());
    }
    if parent != 0 {
        proto::bytes(out, 4, &parent.to_be_bytes());
    }
    proto::varint(out, 6, kind);
    proto::fixed64(out, 7, ended.unix(since));
    proto::fixed64(out, 8, ended.unix(until.max(since)));
    let remote = parent != 0 && parent == ended.trace.parent;
    proto::fixed32(out, 16, if remote { REMOTE } else { OURS });
}

fn name(out: &mut Out, parts: [&str; 2]) {
    let gap = if parts.contains(&"") { "" } else { " " };
    proto::message(out, 5, |out| {
        for part in [parts[0], gap, parts[1]] {
            out.extend_from_slice(part.as_bytes());
        }
    });
}

fn some(out: &mut Out, key: &str, value: &str) {
    if !value.is_empty() {
        text(out, ATTRIBUTE, key, value);
    }
}

fn count(out: &mut Out, key: &str, value: u64) {
    if value > 0 {
        whole(out, ATTRIBUTE, key, value);
    }
}

/// `STATUS_CODE_ERROR`
fn fails(out: &mut Out) {
    proto::message(out, 15, |out| proto::varint(out, 3, 2));
}

fn inner(
    out: &mut Out,
    ended: &Ended<'_>,
    (id, name): (u64, &str),
    times: (Instant, Instant),
    more: impl FnOnce(&mut Out),
) {
    proto::message(out, 2, |out| {
        span(out, ended, (ended.trace.span ^ id, ended.trace.span), INTERNAL, times);
        proto::bytes(out, 5, name.as_bytes());
        more(out);
    });
}

/// The call as its caller sees it.
fn root(out: &mut Out, memos: &mut Memos, ended: &Ended<'_>, told: &Told) {
    let Ended { call, trace, .. } = ended;
    span(out, ended, (trace.span, trace.parent), SERVER, (ended.started, ended.now));
    let method = known_method(ended.method);
    name(out, [method, ended.route]);
    text(out, ATTRIBUTE, said::METHOD, if method == "HTTP" { "_OTHER" } else { method });
    text(out, ATTRIBUTE, said::PATH, memos.path.show(ended.path));
    some(out, said::SCHEME, ended.scheme);
    whole(out, ATTRIBUTE, said::STATUS, call.status.into());
    text(out, ATTRIBUTE, said::CLIENT, without_port(ended.peer));
    if let Some(agent) = ended.user_agent {
        text(out, ATTRIBUTE, said::USER_AGENT, memos.user_agent.show(agent));
    }
    text(out, ATTRIBUTE, "tidegate.request_id", ended.request_id);
    text(out, ATTRIBUTE, "tidegate.outcome", call.outcome.as_str());
    some(out, "tidegate.route", ended.route);
    some(out, "tidegate.upstream", ended.upstream);
    some(out, "tidegate.agent", memos.agent.show(call.who.agent));
    some(out, "tidegate.team", memos.team.show(call.who.team));
    some(out, said::CONVERSATION, memos.session.show(call.who.session));
    some(out, said::MODEL, memos.model.show(call.model));
    some(out, "tidegate.task", ended.task);
    some(out, "tidegate.cache.result", call.kept.how.unwrap_or_default());
    some(out, "tidegate.limited_by", call.held.limited_by.unwrap_or_default());
    count(out, "tidegate.attempts", ended.attempts.into());
    count(out, "tidegate.saved_tokens", call.kept.tokens);
    real(out, ATTRIBUTE, "tidegate.overhead", call.overhead.as_secs_f64());
    if let Some(nano) = call.held.spend_nano {
        real(out, ATTRIBUTE, "tidegate.spend_dollars", nano as f64 / 1e9);
    }
    if ended.late {
        flag(out, ATTRIBUTE, "tidegate.kept_because_failed", true);
    }
    some(out, said::ERROR, ended.error());
    if told.attempts.is_empty() {
        first_token(out, ended, call.first_token);
        asks(out, ended, told);
    }
    if let Some(link) = &trace.link {
        write_link(out, link);
    }
    if ended.failed() {
        fails(out);
    }
}

fn write_link(out: &mut Out, link: &Parent) {
    proto::message(out, 13, |out| {
        proto::bytes(out, 1, &link.trace.to_be_bytes());
        proto::bytes(out, 2, &link.span.to_be_bytes());
        proto::fixed32(out, 6, 0x300 | u32::from(link.flags));
    });
}

/// One attempt, as a client of the backend sees it; and whether it was the last.
fn client(
    out: &mut Out,
    memos: &mut Memos,
    ended: &Ended<'_>,
    told: &Told,
    (attempt, last): (&Attempt, bool),
) {
    let Ended { call, trace, .. } = ended;
    let Attempt { goes, begun, status, verdict, .. } = attempt;
    let shows = attempt.answers || last && !told.attempts.iter().any(|other| other.answers);
    // one that another has beaten ended when that had its answer
    let beaten = || call.first_byte.map_or(ended.now, |after| ended.started + after);
    let left = || if shows { ended.now } else { beaten().max(*begun) };
    let until = attempt.ended.unwrap_or_else(left);
    span(out, ended, (attempt.span, trace.span), CLIENT, (*begun, until));
    let model = goes.model.as_deref().unwrap_or_else(|| memos.model.show(call.model));
    if call.inference {
        name(out, [call.operation, model]);
        text(out, ATTRIBUTE, said::OPERATION, call.operation);
    } else {
        name(out, [known_method(ended.method), ""]);
    }
    some(out, said::PROVIDER, &goes.provider);
    some(out, said::MODEL, model);
    if call.stream {
        flag(out, ATTRIBUTE, said::STREAM, true);
    }
    some(out, "tidegate.upstream", &goes.upstream);
    if let Some(host) = &goes.host {
        text(out, ATTRIBUTE, said::SERVER, host);
        whole(out, ATTRIBUTE, said::PORT, goes.port.into());
    }
    count(out, said::STATUS, (*status).into());
    let error = match *verdict {
        "" if shows => ended.error(),
        "" => "cancelled",
        verdict => verdict,
    };
    some(out, said::ERROR, error);
    if shows {
        some(out, said::CONVERSATION, memos.session.show(call.who.session));
        some(
            out,
            said::ANSWERED_BY,
            memos.answered_by.show(told.answered_by.as_deref().unwrap_or("")),
        );
        usage(out, call);
        let waited = call.first_token.map(|after| (ended.started + after).duration_since(*begun));
        if let Some(waited) = waited {
            real(out, ATTRIBUTE, said::FIRST_CHUNK, waited.as_secs_f64());
        }
        first_token(out, ended, call.first_token);
        asks(out, ended, told);
    }
    if *status >= 400 || !verdict.is_empty() || shows && ended.failed() {
        fails(out);
    }
}

/// Input tokens include those that were read from a cache or written to one; so they do here.
fn usage(out: &mut Out, call: &Finished<'_>) {
    let Some(usage) = &call.usage else { return };
    whole(out, ATTRIBUTE, said::INPUT_TOKENS, usage.input);
    whole(out, ATTRIBUTE, said::OUTPUT_TOKENS, usage.output);
    count(out, said::CACHE_READ_TOKENS, usage.cached_input);
    count(out, said::CACHE_WRITE_TOKENS, usage.cache_write);
    count(out, said::REASONING_TOKENS, usage.reasoning);
}

fn first_token(out: &mut Out, ended: &Ended<'_>, after: Option<Duration>) {
    let Some(after) = after else { return };
    proto::message(out, 11, |out| {
        proto::fixed64(out, 1, ended.unix(ended.started + after));
        proto::bytes(out, 2, b"first_token");
    });
}

/// What was asked, where the policy wants it shown.
fn asks(out: &mut Out, ended: &Ended<'_>, told: &Told) {
    let body = told.asks.as_ref().filter(|_| ended.call.inference);
    if let Some(messages) = body.and_then(|body| content::messages(body)) {
        text(out, ATTRIBUTE, said::INPUT_MESSAGES, &messages);
    }
}

/// A client may send any word, and each would be a name of its own.
fn known_method(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "CONNECT" | "TRACE" => {
            method
        }
        _ => "HTTP",
    }
}

fn without_port(peer: &str) -> &str {
    let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}
