use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};

use super::near::blocks;
use super::proto::{Value, fields};
use super::*;
use crate::telemetry::metrics::{Finished, Held, Kept, Metrics, Outcome, Seen, Usage, Who};
use crate::telemetry::trace::{Begun, CallTrace, Goes, Ids, Sampler, TRACEPARENT};

/// A message as its fields, in order.
#[derive(Debug)]
struct Fields(Vec<(u64, Vec<u8>, u64)>);

impl Fields {
    fn of(bytes: &[u8]) -> Self {
        let all = fields(bytes).map(|(field, value)| match value {
            Value::Number(number) => (field, Vec::new(), number),
            Value::Bytes(bytes) => (field, bytes.to_vec(), 0),
        });
        Self(all.collect())
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |row| row.0 == field).map(|row| &row.1[..])
    }

    fn bytes(&self, field: u64) -> &[u8] {
        self.all(field).next().unwrap_or_default()
    }

    fn number(&self, field: u64) -> u64 {
        self.0.iter().find(|row| row.0 == field).map_or(0, |row| row.2)
    }

    fn name(&self, field: u64) -> String {
        String::from_utf8(self.bytes(field).to_vec()).unwrap()
    }

    fn attributes(&self, field: u64) -> HashMap<String, String> {
        let pairs = self.all(field).map(|pair| {
            let pair = Self::of(pair);
            let value = Self::of(pair.bytes(2));
            let shown = match value.0.first().unwrap() {
                (1, text, _) => String::from_utf8(text.clone()).unwrap(),
                (4, _, bits) => f64::from_bits(*bits).to_string(),
                (_, _, number) => number.to_string(),
            };
            (pair.name(1), shown)
        });
        pairs.collect()
    }
}

fn sampled() -> Rc<CallTrace> {
    let mut headers = HeaderMap::new();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert(TRACEPARENT, HeaderValue::from_static(parent));
    match CallTrace::begin(Sampler::new(0.0, true), &Ids::default(), &headers, false) {
        Begun::Sampled(trace) => trace,
        other => panic!("{other:?}"),
    }
}

fn call(trace: &CallTrace) -> Finished<'static> {
    Finished {
        status: 200,
        outcome: Outcome::Complete,
        model: "gpt-4o",
        operation: "chat",
        inference: true,
        duration: Duration::from_millis(900),
        first_byte: Some(Duration::from_millis(90)),
        first_token: Some(Duration::from_millis(100)),
        overhead: Duration::from_micros(30),
        queued: Duration::ZERO,
        request_bytes: 1000,
        response_bytes: 20_000,
        usage: Some(Usage { input: 12, output: 101, cached_input: 4, ..Usage::default() }),
        stream: true,
        content_events: 100,
        error: None,
        who: Who { agent: "tester", session: "s-1", ..Who::default() },
        held: Held { spend_nano: Some(1_500_000), priced: true, ..Held::default() },
        kept: Kept::default(),
        seen: Some(Seen { trace: trace.trace, span: trace.span, unix_nanos: 2_000_000_000 }),
    }
}

fn ended<'a>(call: &'a Finished<'a>, trace: &'a CallTrace, started: Instant) -> Ended<'a> {
    Ended {
        call,
        trace,
        started,
        now: started + call.duration,
        unix_nanos: 2_000_000_000,
        request_id: "req_1",
        method: "POST",
        scheme: "https",
        path: "/v1/chat/completions/sk-abcdefghij0123",
        peer: "[::1]:5000",
        user_agent: Some("test/1"),
        route: "openai",
        upstream: "openai",
        attempts: 2,
        task: "",
        late: false,
    }
}

fn spans(ended: &Ended<'_>) -> Vec<Fields> {
    let mut out = Vec::new();
    let count = span::write(&mut out, &mut span::Memos::default(), ended);
    let all: Vec<_> = Fields::of(&out).all(2).map(Fields::of).collect();
    assert_eq!(all.len() as u64, count);
    all
}

#[test]
fn a_call_is_a_tree_of_spans() {
    let (trace, started) = (sampled(), Instant::now());
    let goes = |model: Option<&str>| Goes {
        upstream: "openai".into(),
        provider: "openai".into(),
        model: model.map(Into::into),
        host: Some("api.example".into()),
        port: 443,
    };
    let (first, _) = trace.attempt(goes(None), started + Duration::from_millis(1)).unwrap();
    trace.failed(first, "overloaded", 503);
    let (second, _) =
        trace.attempt(goes(Some("mini")), started + Duration::from_millis(2)).unwrap();
    trace.answers(second, 200);
    trace.answered_by("mini-2026-01-31");
    trace.waited(started);
    trace.looks();
    trace.looked();
    let call = call(&trace);
    let all = spans(&ended(&call, &trace, started));
    let [root, queue, cache, first, second] = &all[..] else { panic!("{}", all.len()) };
    let names: Vec<_> = all.iter().map(|span| span.name(5)).collect();
    let want = ["POST openai", "tidegate.queue", "tidegate.cache", "chat gpt-4o", "chat mini"];
    assert_eq!(names, want);
    let kinds: Vec<_> = all.iter().map(|span| span.number(6)).collect();
    assert_eq!(kinds, [2, 1, 1, 3, 3]);
    for span in &all {
        assert_eq!(span.bytes(1), trace.trace.to_be_bytes());
        assert!(span.number(7) <= span.number(8) && span.number(7) > 0);
    }
    assert_eq!(root.bytes(4), 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!((root.number(16), queue.number(16)), (0x301, 0x101));
    for span in [queue, cache, first, second] {
        assert_eq!(span.bytes(4), root.bytes(2), "children of the call");
    }
    // from its beginning to its end
    assert_eq!((root.number(7), root.number(8)), (1_100_000_000, 2_000_000_000));
    let said = root.attributes(9);
    assert_eq!(said["http.response.status_code"], "200");
    assert_eq!(said["url.scheme"], "https");
    assert_eq!(said["url.path"], "/v1/chat/completions/***");
    assert_eq!(
        (said["client.address"].as_str(), said["tidegate.agent"].as_str()),
        ("::1", "tester")
    );
    assert_eq!(said["tidegate.spend_dollars"], "0.0015");
    assert!(root.all(15).next().is_none(), "no error");
    let said = first.attributes(9);
    assert_eq!((said["error.type"].as_str(), first.all(15).count()), ("overloaded", 1));
    assert!(!said.contains_key("gen_ai.usage.input_tokens"));
    let said = second.attributes(9);
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "mini"),
        ("gen_ai.response.model", "mini-2026-01-31"),
        ("gen_ai.request.stream", "1"),
        ("gen_ai.conversation.id", "s-1"),
        ("gen_ai.usage.input_tokens", "12"),
        ("gen_ai.usage.output_tokens", "101"),
        ("gen_ai.usage.cache_read.input_tokens", "4"),
        ("gen_ai.response.time_to_first_chunk", "0.098"),
        ("server.address", "api.example"),
        ("server.port", "443"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(said.get(name).map(String::as_str), Some(value), "{name}");
    }
    let event = Fields::of(second.bytes(11));
    assert_eq!((event.name(2).as_str(), event.number(1)), ("first_token", 1_200_000_000));
}

#[test]
fn a_call_without_an_answer_has_its_failure() {
    let (trace, started) = (sampled(), Instant::now());
    let call = Finished {
        status: 502,
        outcome: Outcome::UpstreamBroken,
        error: Some("upstream_broken"),
        first_token: None,
        ..call(&trace)
    };
    let ended = Ended { method: "BREW\u{7f}", route: "", ..ended(&call, &trace, started) };
    let all = spans(&ended);
    assert_eq!((all.len(), all[0].name(5).as_str(), all[0].all(15).count()), (1, "HTTP", 1));
    let said = all[0].attributes(9);
    assert_eq!(said["error.type"], "upstream_broken");
    assert_eq!(said["http.request.method"], "_OTHER");
}

#[test]
fn what_is_no_inference_is_called_by_its_method() {
    let (trace, started) = (sampled(), Instant::now());
    let (upstream, provider) = ("openai".into(), "openai".into());
    let goes = Goes { upstream, provider, model: None, host: None, port: 0 };
    let (first, _) = trace.attempt(goes, started).unwrap();
    trace.answers(first, 200);
    trace.asks(&bytes::Bytes::from_static(br#"{"messages":[{"content":"Hi"}]}"#));
    let call = Finished { operation: "other", inference: false, usage: None, ..call(&trace) };
    let ended = Ended { method: "PUT", scheme: "", ..ended(&call, &trace, started) };
    let all = spans(&ended);
    assert_eq!(all[1].name(5), "PUT");
    let said = all[1].attributes(9);
    assert!(!said.contains_key("gen_ai.operation.name"));
    assert!(!said.contains_key("gen_ai.input.messages"), "a body that nobody understands");
    assert!(!all[0].attributes(9).contains_key("url.scheme"));
}

#[test]
fn what_is_asked_is_shown_only_where_it_was_kept() {
    let (trace, started) = (sampled(), Instant::now());
    let call = call(&trace);
    let shown = |trace: &CallTrace| {
        let all = spans(&ended(&call, trace, started));
        all[0].attributes(9).remove("gen_ai.input.messages")
    };
    assert_eq!(shown(&trace), None);
    trace.asks(&bytes::Bytes::from_static(
        br#"{"messages":[{"role":"system","content":"Be short."},{"role":"user","content":
            [{"type":"text","text":"Hi"},{"type":"image_url","image_url":{"url":"data:x"}}]}]}"#,
    ));
    let want = serde_json::json!([
        {"role": "system", "parts": [{"type": "text", "content": "Be short."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}, {"type": "image_url"}]},
    ]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown(&trace).unwrap()).unwrap(), want);
    let long = format!(r#"{{"input":"{}"}}"#, "é".repeat(100_000));
    trace.asks(&long.into());
    assert!((64_000..66_000).contains(&shown(&trace).unwrap().len()));
    trace.asks(&bytes::Bytes::from_static(b"no json"));
    assert_eq!(shown(&trace), None);
}

#[test]
fn lengths_and_numbers_are_written_as_they_are_read() {
    for len in [0_usize, 1, 127, 128, 200, 16_383, 16_384, 70_000] {
        let mut out = Vec::new();
        proto::message(&mut out, 7, |out| out.resize(out.len() + len, 0xab));
        proto::text(&mut out, 9, "key", &"v".repeat(len));
        let read = Fields::of(&out);
        assert!(read.bytes(7).len() == len && read.bytes(7).iter().all(|byte| *byte == 0xab));
        assert_eq!(read.attributes(9)["key"].len(), len);
    }
    for number in [0, 1, 127, 128, u64::from(u32::MAX), u64::MAX] {
        let mut out = Vec::new();
        proto::varint(&mut out, 1, number);
        proto::whole(&mut out, 2, "n", number);
        let read = Fields::of(&out);
        assert_eq!(
            (read.number(1), read.attributes(2)["n"].as_str()),
            (number, &*number.to_string())
        );
    }
    assert_eq!(fields(b"\x0a\x7fshort").count(), 0, "a length beyond the end");
}

#[test]
fn metrics_say_what_a_scrape_says() {
    let metrics = Metrics::new();
    let trace = sampled();
    metrics.target("r", "u", "openai").finished(&call(&trace));
    let chunks = Envelope::read(&metrics, 5_000_000_000);
    let envelope = Envelope::new("svc", "1", &[("a".to_owned(), "b".to_owned())]);
    let body = Fields::of(&envelope.metrics(&chunks[0]));
    let resource = Fields::of(body.bytes(1));
    let said = Fields::of(resource.bytes(1)).attributes(1);
    assert_eq!((said["service.name"].as_str(), said["a"].as_str()), ("svc", "b"));
    let scope = Fields::of(resource.bytes(2));
    let all: HashMap<String, Fields> =
        scope.all(2).map(Fields::of).map(|metric| (metric.name(1), metric)).collect();
    let tokens = Fields::of(all["tidegate_tokens"].bytes(7));
    assert_eq!((tokens.number(2), tokens.number(3)), (2, 1), "cumulative, and only grows");
    let points: HashMap<String, u64> = tokens
        .all(1)
        .map(Fields::of)
        .map(|point| (point.attributes(7).remove("type").unwrap(), point.number(6)))
        .collect();
    assert_eq!((points["input"], points["output"], points["cached_input"]), (12, 101, 4));
    let spend = Fields::of(Fields::of(all["tidegate_spend_dollars"].bytes(7)).bytes(1));
    assert!((f64::from_bits(spend.number(4)) - 0.0015).abs() < f64::EPSILON);
    let duration = &all["gen_ai.client.operation.duration"];
    assert_eq!(duration.name(3), "s");
    let point = Fields::of(Fields::of(duration.bytes(9)).bytes(1));
    let said = point.attributes(9);
    assert_eq!((said["gen_ai.request.model"].as_str(), said.get("error.type")), ("gpt-4o", None));
    assert_eq!((point.number(4), point.bytes(6).len(), point.bytes(7).len()), (1, 120, 112));
    let point = Fields::of(Fields::of(all["tidegate_request_duration_seconds"].bytes(9)).bytes(1));
    let exemplar = Fields::of(point.bytes(8));
    assert_eq!(exemplar.bytes(5), trace.trace.to_be_bytes());
    assert!((f64::from_bits(exemplar.number(3)) - 0.9).abs() < 1e-9);
    let mut text = String::new();
    metrics.encode(&mut text);
    let id = "# {trace_id=\"0af7651916cd43dd8448eb211c80319c\"";
    assert!(
        text.lines().any(|line| line.contains(id) && line.contains("_duration_seconds_bucket"))
    );
}

#[test]
fn what_nobody_takes_is_dropped_and_counted() {
    let metrics = Metrics::new();
    let (to, mut from) = blocks();
    let (sampler, counts) = (Sampler::new(1.0, true), metrics.signals());
    let tracer = Tracer::new(Settings { sampler, content: false, to, counts });
    let trace = sampled();
    let (call, started) = (call(&trace), Instant::now());
    for _ in 0..100 * 512 {
        tracer.ended(&ended(&call, &trace, started));
    }
    let mut taken = 0;
    while let Ok(block) = from.try_recv() {
        assert!(block.bytes.len() < 80_000);
        taken += block.spans;
    }
    tracer.flush();
    taken += from.try_recv().map_or(0, |block| block.spans);
    let dropped = metrics.signals().traces.dropped.load(std::sync::atomic::Ordering::Relaxed);
    assert!(taken > 0 && dropped > 0);
    assert_eq!(taken + dropped, 100 * 512);
}
