//! The bytes of an access line. Pure; written by hand, because a formatter or serializer per
//! field would cost more than the rest of the record together.
use std::time::Duration;

use super::Entry;
use super::memo::{Memo, Memos};
use crate::identity::Rung;
use crate::telemetry::metrics::{Held, Kept, Who};
use crate::telemetry::redact;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Text,
}

// Longest part of a text that is shown, in bytes.
const CAP_PATH: usize = 256;
const CAP_MODEL: usize = 128;
const CAP_NAME: usize = 64;
const CAP_LIMIT: usize = 128;

impl Form {
    /// Appends one line with its end.
    pub(super) fn write(self, out: &mut Vec<u8>, memos: &mut Memos, entry: &Entry<'_>) {
        match self {
            Self::Json => json(out, memos, entry),
            Self::Text => text(out, memos, entry),
        }
    }
}

fn json(out: &mut Vec<u8>, memos: &mut Memos, entry: &Entry<'_>) {
    let call = entry.call;
    out.extend_from_slice(b"{\"time\":\"");
    memos.stamp.write(out, entry.time_ms);
    out.extend_from_slice(b"\",\"log\":\"access\"");
    field(out, b",\"request_id\":\"", entry.request_id, CAP_NAME);
    field(out, b",\"peer\":\"", entry.peer, CAP_NAME);
    who(out, memos, &call.who);
    field(out, b",\"method\":\"", entry.method, CAP_NAME);
    chosen(out, &mut memos.paths, b",\"path\":\"", entry.path, CAP_PATH);
    field(out, b",\"route\":\"", entry.route, CAP_NAME);
    field(out, b",\"upstream\":\"", entry.upstream, CAP_NAME);
    word(out, b",\"operation\":\"", call.operation);
    chosen(out, &mut memos.models, b",\"model\":\"", call.model, CAP_MODEL);
    number(out, b",\"status\":", call.status.into());
    word(out, b",\"outcome\":\"", call.outcome.as_str());
    out.extend_from_slice(if call.stream { b",\"stream\":true" } else { b",\"stream\":false" });
    number(out, b",\"request_bytes\":", call.request_bytes);
    number(out, b",\"response_bytes\":", call.response_bytes);
    millis(out, b",\"duration_ms\":", Some(call.duration));
    millis(out, b",\"first_byte_ms\":", call.first_byte);
    millis(out, b",\"first_token_ms\":", call.first_token);
    number(out, b",\"overhead_us\":", whole_micros(call.overhead));
    millis(out, b",\"queued_ms\":", Some(call.queued));
    number(out, b",\"attempts\":", entry.attempts.into());
    out.extend_from_slice(if entry.reused { b",\"reused\":true" } else { b",\"reused\":false" });
    if entry.resumed {
        out.extend_from_slice(b",\"resumed\":true");
    }
    field(out, b",\"task\":\"", entry.task, CAP_NAME);
    if let Some(usage) = &call.usage {
        number(out, b",\"input_tokens\":", usage.input);
        number(out, b",\"output_tokens\":", usage.output);
        some(out, b",\"cached_input_tokens\":", usage.cached_input);
        some(out, b",\"cache_write_tokens\":", usage.cache_write);
        some(out, b",\"reasoning_tokens\":", usage.reasoning);
    }
    held(out, &call.held);
    cached(out, &call.kept);
    word(out, b",\"error\":\"", call.error.unwrap_or_default());
    let user_agent = entry.user_agent.unwrap_or_default();
    chosen(out, &mut memos.user_agents, b",\"user_agent\":\"", user_agent, CAP_NAME);
    out.extend_from_slice(b"}\n");
}

fn who(out: &mut Vec<u8>, memos: &mut Memos, who: &Who<'_>) {
    if who.agent.is_empty() {
        return;
    }
    chosen(out, &mut memos.agents, b",\"agent\":\"", who.agent, CAP_NAME);
    word(out, b",\"rung\":\"", who.rung.map_or("", Rung::as_str));
    chosen(out, &mut memos.teams, b",\"team\":\"", who.team, CAP_NAME);
    chosen(out, &mut memos.parents, b",\"parent\":\"", who.parent, CAP_NAME);
    chosen(out, &mut memos.sessions, b",\"session\":\"", who.session, CAP_NAME);
    word(out, b",\"class\":\"", who.class.as_str());
}

fn held(out: &mut Vec<u8>, held: &Held<'_>) {
    if let Some(nano) = held.spend_nano {
        out.extend_from_slice(b",\"spend_dollars\":");
        dollars(out, nano);
        if !held.priced {
            out.extend_from_slice(b",\"priced\":false");
        }
    }
    field(out, b",\"limited_by\":\"", held.limited_by.unwrap_or_default(), CAP_LIMIT);
    field(out, b",\"would_refuse\":\"", held.would_refuse.unwrap_or_default(), CAP_LIMIT);
    if let Some(tokens) = held.clamped {
        number(out, b",\"clamped\":", tokens);
    }
    if held.runaway {
        out.extend_from_slice(b",\"runaway\":true");
    }
}

fn cached(out: &mut Vec<u8>, kept: &Kept) {
    word(out, b",\"cache\":\"", kept.how.unwrap_or_default());
    some(out, b",\"saved_tokens\":", kept.tokens);
    if kept.nano > 0 {
        out.extend_from_slice(b",\"saved_dollars\":");
        dollars(out, kept.nano.cast_signed());
    }
}

/// `2026-11-22T15:22:09.123Z 200 POST /v1/chat/completions → openai gpt-4o 812.002ms …`
fn text(out: &mut Vec<u8>, memos: &mut Memos, entry: &Entry<'_>) {
    let call = entry.call;
    memos.stamp.write(out, entry.time_ms);
    number(out, b" ", call.status.into());
    out.push(b' ');
    escape(out, entry.method, CAP_NAME);
    out.push(b' ');
    memos.paths.write(out, entry.path, CAP_PATH);
    if !entry.upstream.is_empty() {
        out.extend_from_slice(" → ".as_bytes());
        escape(out, entry.upstream, CAP_NAME);
    }
    if !call.model.is_empty() {
        out.push(b' ');
        memos.models.write(out, call.model, CAP_MODEL);
    }
    millis(out, b" ", Some(call.duration));
    out.extend_from_slice(b"ms");
    if let Some(first) = call.first_token.or(call.first_byte) {
        millis(out, b", first ", Some(first));
        out.extend_from_slice(b"ms");
    }
    number(out, b", ours ", whole_micros(call.overhead));
    out.extend_from_slice("µs".as_bytes());
    if let Some(usage) = &call.usage {
        number(out, b", tokens ", usage.input);
        number(out, b" + ", usage.output);
    }
    if !call.who.agent.is_empty() {
        out.extend_from_slice(b", ");
        memos.agents.write(out, call.who.agent, CAP_NAME);
    }
    if entry.resumed {
        out.extend_from_slice(b", resumed");
    }
    if !entry.task.is_empty() {
        out.extend_from_slice(b", ");
        escape(out, entry.task, CAP_NAME);
    }
    held_text(out, &call.held);
    cached_text(out, &call.kept);
    out.extend_from_slice(b", ");
    out.extend_from_slice(call.outcome.as_str().as_bytes());
    if let Some(error) = call.error {
        out.extend_from_slice(b" (");
        out.extend_from_slice(error.as_bytes());
        out.push(b')');
    }
    out.extend_from_slice(b" ");
    escape(out, entry.request_id, CAP_NAME);
    out.push(b'\n');
}

fn held_text(out: &mut Vec<u8>, held: &Held<'_>) {
    if let Some(nano) = held.spend_nano {
        out.extend_from_slice(if held.priced { b", $" } else { b", ~$" });
        dollars(out, nano);
    }
    if let Some(limit) = held.limited_by {
        out.extend_from_slice(b", limited by ");
        escape(out, limit, CAP_LIMIT);
    }
    if let Some(limit) = held.would_refuse {
        out.extend_from_slice(b", would be refused by ");
        escape(out, limit, CAP_LIMIT);
    }
    if let Some(tokens) = held.clamped {
        number(out, b", clamped to ", tokens);
    }
    if held.runaway {
        out.extend_from_slice(b", runaway");
    }
}

fn cached_text(out: &mut Vec<u8>, kept: &Kept) {
    let Some(how) = kept.how else { return };
    out.extend_from_slice(b", cache ");
    out.extend_from_slice(how.as_bytes());
    if kept.tokens > 0 {
        number(out, b", saved ", kept.tokens);
        out.extend_from_slice(b" tokens");
    }
    if kept.nano > 0 {
        out.extend_from_slice(b", $");
        dollars(out, kept.nano.cast_signed());
    }
}

/// `prefix` ends with the opening quote.
pub(in crate::telemetry) fn field(out: &mut Vec<u8>, prefix: &[u8], value: &str, cap: usize) {
    if !value.is_empty() {
        out.extend_from_slice(prefix);
        escape(out, value, cap);
        out.push(b'"');
    }
}

/// A field with a word of the program: nothing to escape.
pub(in crate::telemetry) fn word(out: &mut Vec<u8>, prefix: &[u8], value: &'static str) {
    if !value.is_empty() {
        out.extend_from_slice(prefix);
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }
}

/// A field whose text a client chose.
pub(in crate::telemetry) fn chosen(
    out: &mut Vec<u8>,
    memo: &mut Memo,
    prefix: &[u8],
    value: &str,
    cap: usize,
) {
    if !value.is_empty() {
        out.extend_from_slice(prefix);
        memo.write(out, value, cap);
        out.push(b'"');
    }
}

pub(super) fn masked(out: &mut Vec<u8>, value: &str, cap: usize) {
    // Masked before it is cut: half a key must not pass because the other half is missing. What
    // lies far behind the cut need not be looked at.
    let head = &value[..value.floor_char_boundary(4 * cap)];
    escape(out, &redact::mask(head), cap);
}

pub(in crate::telemetry) fn number(out: &mut Vec<u8>, prefix: &[u8], value: u64) {
    out.extend_from_slice(prefix);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn some(out: &mut Vec<u8>, prefix: &[u8], value: u64) {
    if value > 0 {
        number(out, prefix, value);
    }
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, prefix: &[u8], time: Option<Duration>) {
    let Some(time) = time else { return };
    let micros = whole_micros(time);
    number(out, prefix, micros / 1000);
    let rest = micros % 1000;
    if rest > 0 {
        let digit = |value: u64| b'0' + (value % 10) as u8;
        out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }
}

/// Billionths as dollars, exactly: money is never a float here.
pub(in crate::telemetry) fn dollars(out: &mut Vec<u8>, nano: i64) {
    if nano < 0 {
        out.push(b'-');
    }
    let nano = nano.unsigned_abs();
    number(out, b"", nano / 1_000_000_000);
    let mut rest = nano % 1_000_000_000;
    let mut place = 100_000_000;
    if rest > 0 {
        out.push(b'.');
    }
    while rest > 0 {
        out.push(b'0' + (rest / place) as u8);
        rest %= place;
        place /= 10;
    }
}

fn whole_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Only printable ASCII without quote and backslash: passes as it is. Eight bytes at a time.
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Each term has the high bit of some byte set if and only if some byte is meant.
    let odd = |word: u64| {
        let below = |bound: u64, word: u64| word.wrapping_sub(ONES * bound) & !word;
        let equals = |byte: u8| below(1, word ^ (ONES * u64::from(byte)));
        (word | below(0x20, word) | equals(b'"') | equals(b'\\') | equals(0x7f)) & HIGH
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    words
        .iter()
        .fold(odd(u64::from_ne_bytes(last)), |so_far, word| so_far | odd(u64::from_ne_bytes(*word)))
        == 0
}

/// The inside of a JSON string: at most `cap` bytes of `text`, then `…`. Control characters (C1
/// too), line separators and the marks that turn the direction of writing are escaped, so that
/// neither a terminal nor a reader is led astray.
fn escape(out: &mut Vec<u8>, text: &str, cap: usize) {
    let shown = if text.len() > cap { &text[..text.floor_char_boundary(cap)] } else { text };
    if is_plain(shown.as_bytes()) {
        out.extend_from_slice(shown.as_bytes());
    } else {
        escape_slowly(out, shown);
    }
    if shown.len() < text.len() {
        out.extend_from_slice("…".as_bytes());
    }
}

#[cold]
fn escape_slowly(out: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                unicode_escape(out, character);
            }
            _ if character.is_control() => unicode_escape(out, character),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// `\uXXXX`; only for characters of the first plane.
fn unicode_escape(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(b"0123456789abcdef"[(character as usize >> shift) & 15]);
    }
}
