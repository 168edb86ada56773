//! From a request to its answer, before any byte of it is sent: which endpoint, which script,
//! whether a fault replaces the answer. Pure but for the counters; all waiting and writing is
//! `send.rs`.
mod route;

use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;

use self::route::Route;
use super::answer::{Answer, Face};
use super::ask::Ask;
use super::embed;
use super::faults::{self, Fault};
use super::http::{self, Head};
use super::quota::{Charge, put_retry, put_standing};
use super::script::Script;
use super::text::{Put, hash, mix};
use super::worker::Worker;
use super::{Usage, anthropic, gemini, ollama, openai};
use crate::wire::Dialect;

/// What to send, and how.
pub(super) struct Plan {
    pub reply: Reply,
    pub script: Script,
    /// The fault that this answer meets.
    pub fault: Option<Fault>,
    pub dialect: Dialect,
    pub id: u64,
    /// More header lines.
    pub fields: Vec<u8>,
    /// What it took of its credential's limits; settled when the plan is dropped.
    pub charge: Option<Charge>,
}

pub(super) enum Reply {
    /// The body is in the buffer that the planning was given.
    Plain {
        status: u16,
        content_type: &'static str,
    },
    Stream(Box<Answer>),
    /// 101, then every byte comes back.
    Tunnel,
}

const JSON: Reply = Reply::Plain { status: 200, content_type: "application/json" };

/// A request, read: its head, the buffer the head's positions refer to, and its body.
#[derive(Clone, Copy)]
pub(super) struct Received<'a> {
    pub head: &'a Head,
    pub buffer: &'a [u8],
    pub body: &'a [u8],
}

/// Decides the answer; a plain body is written to `out`.
pub(super) fn plan(worker: &Worker, received: Received<'_>, out: &mut Vec<u8>) -> Plan {
    let Received { head, buffer, body } = received;
    let target = std::str::from_utf8(&buffer[head.target.clone()]).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let route = Route::of(path, query);
    let mut script = worker.script();
    if route.is_control() {
        script.fault = None;
    }
    let mut plan = Plan {
        reply: JSON,
        script,
        fault: None,
        dialect: route::dialect(path, head),
        id: 0,
        fields: Vec::new(),
        charge: None,
    };
    if let Some(range) = &head.script {
        let header = std::str::from_utf8(&buffer[range.clone()]).unwrap_or("not UTF-8");
        if let Err(message) = plan.script.apply(header) {
            plan.refuse(400, Some(&message), out);
            return plan;
        }
    }
    plan.id = hash(body, mix(plan.script.seed));
    plan.fault = worker.meets(&plan.script, || {
        let header = head.script.clone().map_or(&b""[..], |range| &buffer[range]);
        hash(header, plan.id)
    });
    if plan.replaced(out) {
        return plan;
    }
    let written = if route.takes(head.method) {
        plan.write(worker, received, route, out)
    } else {
        Err((405, None))
    };
    if let Err((status, message)) = written {
        out.clear();
        plan.refuse(status, message.as_deref(), out);
    }
    plan
}

/// Why a request is refused: a status, and a message where the status' own words are not enough.
type Refused = (u16, Option<String>);

impl Plan {
    /// Turns the answer into an error in the dialect.
    fn refuse(&mut self, status: u16, message: Option<&str>, out: &mut Vec<u8>) {
        faults::put_error(out, self.dialect, status, message, self.id);
        self.reply = Reply::Plain { status, content_type: "application/json" };
    }

    /// Whether a fault takes the answer's place.
    fn replaced(&mut self, out: &mut Vec<u8>) -> bool {
        match self.fault {
            Some(Fault::Status(status)) => {
                if status >= 400 {
                    self.refuse(status, None, out);
                    let Script { retry, retry_after, .. } = self.script;
                    faults::put_retry(&mut self.fields, retry, status, retry_after);
                } else {
                    self.reply = Reply::Plain { status, content_type: "" };
                }
            }
            Some(Fault::Redirect) => {
                self.reply = Reply::Plain { status: 302, content_type: "" };
                self.fields.put("location: /simulate/echo?redirected\r\n");
            }
            Some(Fault::Error200) => {
                self.refuse(500, None, out);
                self.reply = JSON;
            }
            Some(Fault::Empty) => self.reply = Reply::Plain { status: 200, content_type: "" },
            _ => return false,
        }
        true
    }

    fn write(
        &mut self,
        worker: &Worker,
        received: Received<'_>,
        route: Route<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let body = received.body;
        let input_tokens = body.len().div_ceil(4) as u32;
        match route {
            Route::Generate { face, model, stream } => {
                self.dialect = face.dialect();
                let ask = Ask::read(body).map_err(|message| (400, Some(message)))?;
                let answer = self.answer(face, model, stream, &ask, input_tokens);
                let expected = ask.max_tokens.map_or(answer.output_tokens(), u64::from);
                self.take(worker, received, u64::from(input_tokens) + expected)?;
                let streams = stream.or(ask.stream).unwrap_or(self.dialect == Dialect::Ollama);
                if streams {
                    self.used(&answer, 0);
                    self.reply = Reply::Stream(Box::new(answer));
                } else {
                    let bound = ask.max_tokens.unwrap_or(u32::MAX);
                    self.write_whole(answer, bound, out);
                }
            }
            Route::Embed(form) => {
                let ask = Ask::read(body).map_err(|message| (400, Some(message)))?;
                self.take(worker, received, input_tokens.into())?;
                embed::put(form, &ask, self.script.seed, input_tokens, out)
                    .map_err(|message| (400, Some(message)))?;
            }
            Route::Count => match self.dialect {
                Dialect::Gemini => {
                    out.put(r#"{"totalTokens":"#).num(input_tokens.into()).put("}");
                }
                Dialect::Anthropic => {
                    out.put(r#"{"input_tokens":"#).num(input_tokens.into()).put("}");
                }
                _ => {
                    out.put(r#"{"object":"response.input_tokens","input_tokens":"#);
                    out.num(input_tokens.into()).put("}");
                }
            },
            Route::Models => match self.dialect {
                Dialect::Anthropic => anthropic::models(out),
                Dialect::Gemini => gemini::models(out),
                _ => openai::models(out),
            },
            Route::Model(id) => match self.dialect {
                Dialect::Anthropic => anthropic::put_model(id, out),
                Dialect::Gemini => gemini::put_model(id, out),
                _ => openai::put_model(id, out),
            },
            Route::Tags => ollama::tags(out),
            Route::Version => _ = out.put(r#"{"version":"0.0.0"}"#),
            Route::Health => {
                out.put("simulating\n");
                self.reply = Reply::Plain { status: 200, content_type: "text/plain" };
            }
            Route::Seen => out.extend(serde_json::to_vec(&worker.seen()).unwrap_or_default()),
            Route::Echo => echo(received, out),
            Route::Mirror => {
                out.extend_from_slice(body);
                self.reply = Reply::Plain { status: 200, content_type: "application/octet-stream" };
            }
            Route::Tunnel => self.tunnel(received)?,
            Route::Unknown => return Err((404, None)),
        }
        Ok(())
    }

    /// Takes a request and so many tokens from the credential's limits, if it has any.
    fn take(
        &mut self,
        worker: &Worker,
        received: Received<'_>,
        tokens: u64,
    ) -> Result<(), Refused> {
        let Script { rpm, tpm, .. } = self.script;
        if rpm == 0 && tpm == 0 {
            return Ok(());
        }
        let credential = received.head.credential.clone();
        let credential = credential.map_or(&b""[..], |range| &received.buffer[range]);
        let (taken, standing) = worker.quotas().take(credential, rpm, tpm, tokens);
        put_standing(&mut self.fields, self.dialect, &standing);
        match taken {
            Ok(charge) => {
                self.charge = Some(charge);
                Ok(())
            }
            Err(full) => {
                worker.counters().limited.fetch_add(1, Relaxed);
                put_retry(&mut self.fields, self.dialect, full.wait);
                Err((429, Some(full.message)))
            }
        }
    }

    /// So many tokens of the answer were made.
    pub fn used(&self, answer: &Answer, tokens: u64) {
        if let Some(charge) = &self.charge {
            let tokens = tokens.min(answer.output_tokens());
            charge.used(u64::from(answer.input_tokens) + tokens);
        }
    }

    fn tunnel(&mut self, received: Received<'_>) -> Result<(), Refused> {
        let Some(protocol) = received.head.upgrade.clone() else {
            return Err((400, Some("The request asks for no upgrade.".to_owned())));
        };
        self.reply = Reply::Tunnel;
        self.fields.put("upgrade: ").extend_from_slice(&received.buffer[protocol]);
        self.fields.put("\r\n");
        Ok(())
    }

    fn answer(
        &self,
        face: Face,
        model: Option<&str>,
        stream: Option<bool>,
        ask: &Ask<'_>,
        input_tokens: u32,
    ) -> Answer {
        let script = &self.script;
        let bound = ask.max_tokens.unwrap_or(u32::MAX);
        // reasoning counts against the bound, and comes first
        let wanted = if face == Face::Completion { 0 } else { script.reasoning };
        let reasoning = wanted.min(bound);
        let left = bound - reasoning;
        let calls = !matches!(face, Face::Completion | Face::OllamaGenerate)
            && script.tool.unwrap_or_else(|| ask.wants_tool());
        let asks_usage =
            matches!(face, Face::Chat | Face::Completion) && stream.or(ask.stream) == Some(true);
        let usage = match script.usage {
            _ if self.fault == Some(Fault::NoUsage) => false,
            Usage::Always => true,
            Usage::Never => false,
            Usage::Asked => !asks_usage || ask.include_usage,
        };
        let tool = if calls { ask.tool_call(face.dialect(), self.id) } else { None };
        // half a call is none: the answer ends as text does
        let tool = tool.filter(|tool| tool.tokens() <= left);
        Answer {
            face,
            model: model.or(ask.model.as_deref()).unwrap_or("sim-small").to_owned(),
            id: self.id,
            tokens: script.tokens.min(left),
            reasoning,
            token_bytes: script.token_bytes,
            big: if let Some(Fault::BigEvent(bytes)) = self.fault { bytes } else { 0 },
            pad: 0,
            cut: reasoning < wanted || (tool.is_none() && left < script.tokens),
            tool,
            input_tokens,
            usage,
            sse: script.sse,
        }
    }

    fn write_whole(&self, mut answer: Answer, bound: u32, out: &mut Vec<u8>) {
        if let Some(wanted) = self.script.answer_bytes {
            let most = bound.saturating_sub(answer.reasoning);
            fit(&mut answer, wanted as usize, most, out);
        }
        self.used(&answer, u64::MAX);
        answer.put_whole(out);
    }
}

/// Gives the text as many tokens, and then letters, as bring the body to about `wanted` bytes, or
/// as many tokens as it may have.
fn fit(answer: &mut Answer, wanted: usize, most: u32, out: &mut Vec<u8>) {
    answer.tokens = 0;
    answer.cut = most == 0;
    answer.put_whole(out);
    let mut left = wanted.saturating_sub(out.len());
    loop {
        out.clear();
        answer.put_piece(out, super::answer::Kind::Text, answer.tokens);
        if out.len() > left {
            answer.pad = left as u32;
            break;
        }
        answer.cut = answer.tokens == most;
        if answer.cut {
            break;
        }
        left -= out.len();
        answer.tokens += 1;
    }
    out.clear();
}

/// The request as it arrived. Text that is not UTF-8 is shown with replacement characters.
fn echo(received: Received<'_>, out: &mut Vec<u8>) {
    /// More of a body is not shown.
    const SHOWN: usize = 64 << 10;
    let Received { head, buffer, body } = received;
    let method = buffer.split(|&byte| byte == b' ').next().unwrap_or_default();
    let shown = json!({
        "method": String::from_utf8_lossy(method),
        "target": String::from_utf8_lossy(&buffer[head.target.clone()]),
        "version": if head.chunks { "HTTP/1.1" } else { "HTTP/1.0" },
        "headers": http::fields(&buffer[..head.bytes]),
        "body_bytes": body.len(),
        "body_hash": format!("{:016x}", hash(body, 0)),
        "body": String::from_utf8_lossy(&body[..body.len().min(SHOWN)]),
    });
    out.extend(shown.to_string().into_bytes());
}
