//! The bytes of a usage record; the fields are told in `docs/logs.md`, and in
//! `packaging/usage.schema.json`. Pure.
use super::Billed;
use crate::telemetry::access::Entry;
use crate::telemetry::access::format::{chosen, dollars, field, number, word};
use crate::telemetry::access::memo::Memos;

/// Names are told apart as far as limits and metrics tell them.
const CAP_NAME: usize = crate::telemetry::metrics::MAX_NAME_BYTES;

/// `run`: its name, and the number of the record in it.
pub(super) fn record(
    out: &mut Vec<u8>,
    memos: &mut Memos,
    run: (&str, u64),
    entry: &Entry<'_>,
    billed: &Billed<'_>,
) {
    let call = entry.call;
    start(out, memos, entry.time_ms, "usage", run.0);
    number(out, b",\"seq\":", run.1);
    field(out, b",\"request_id\":\"", entry.request_id, CAP_NAME);
    chosen(out, &mut memos.agents, b",\"agent\":\"", call.who.agent, CAP_NAME);
    chosen(out, &mut memos.teams, b",\"team\":\"", call.who.team, CAP_NAME);
    chosen(out, &mut memos.sessions, b",\"session\":\"", call.who.session, CAP_NAME);
    field(out, b",\"task\":\"", entry.task, CAP_NAME);
    field(out, b",\"route\":\"", entry.route, CAP_NAME);
    field(out, b",\"upstream\":\"", entry.upstream, CAP_NAME);
    word(out, b",\"operation\":\"", call.operation);
    chosen(out, &mut memos.models, b",\"model\":\"", call.model, CAP_NAME);
    field(out, b",\"sent_model\":\"", billed.sent_model, CAP_NAME);
    number(out, b",\"status\":", call.status.into());
    word(out, b",\"outcome\":\"", call.outcome.as_str());
    word(out, b",\"cache\":\"", call.kept.how.unwrap_or_default());
    number(out, b",\"attempts\":", entry.attempts.into());
    tokens(out, entry, billed);
    money(out, b",\"spend_nano\":", b",\"spend_dollars\":\"", call.held.spend());
    flag(out, b",\"priced\":", call.held.priced && !billed.sunk.unpriced);
    number(out, b",\"saved_tokens\":", call.kept.tokens);
    money(out, b",\"saved_nano\":", b",\"saved_dollars\":\"", call.kept.nano);
    let millis = u64::try_from(call.duration.as_millis()).unwrap_or(u64::MAX);
    number(out, b",\"duration_ms\":", millis);
    out.extend_from_slice(b"}\n");
}

/// The last line of a run: its name, and how many records there were.
pub(super) fn end(out: &mut Vec<u8>, memos: &mut Memos, time_ms: u64, run: (&str, u64)) {
    start(out, memos, time_ms, "usage_end", run.0);
    number(out, b",\"records\":", run.1);
    out.extend_from_slice(b"}\n");
}

fn start(out: &mut Vec<u8>, memos: &mut Memos, time_ms: u64, log: &'static str, instance: &str) {
    out.extend_from_slice(b"{\"time\":\"");
    memos.stamp.write(out, time_ms);
    word(out, b"\",\"log\":\"", log);
    field(out, b",\"instance\":\"", instance, CAP_NAME);
}

fn tokens(out: &mut Vec<u8>, entry: &Entry<'_>, billed: &Billed<'_>) {
    let usage = &billed.usage;
    number(out, b",\"input_tokens\":", usage.input);
    number(out, b",\"cached_input_tokens\":", usage.cached_input);
    number(out, b",\"cache_write_tokens\":", usage.cache_write);
    number(out, b",\"output_tokens\":", usage.output);
    number(out, b",\"reasoning_tokens\":", usage.reasoning);
    flag(out, b",\"estimated\":", billed.estimated);
    if billed.estimated {
        let reported = entry.call.usage.unwrap_or_default();
        number(out, b",\"reported_input_tokens\":", reported.input);
        number(out, b",\"reported_output_tokens\":", reported.output);
    }
    flag(out, b",\"unknown\":", billed.unknown);
    let sunk = &billed.sunk;
    if sunk.attempts > 0 {
        number(out, b",\"other_attempts\":", sunk.attempts.into());
        number(out, b",\"other_input_tokens\":", sunk.input);
        number(out, b",\"other_output_tokens\":", sunk.output);
        number(out, b",\"other_spend_nano\":", u64::try_from(sunk.nano).unwrap_or(0));
    }
}

/// Billionths as a number, and the same in dollars as text: a float would not hold it.
fn money(out: &mut Vec<u8>, nano: &[u8], text: &[u8], amount: u64) {
    number(out, nano, amount);
    out.extend_from_slice(text);
    dollars(out, i64::try_from(amount).unwrap_or(i64::MAX));
    out.push(b'"');
}

fn flag(out: &mut Vec<u8>, prefix: &[u8], value: bool) {
    out.extend_from_slice(prefix);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}
