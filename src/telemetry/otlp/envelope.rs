//! The messages around spans and metrics, and what a collector answers.
use std::time::Duration;

use super::names::SCHEMA;
use super::near::Block;
use super::points::{self, Chunk};
use super::proto::{self, Out, Value};
use crate::telemetry::metrics::Metrics;

/// What all messages say of this process.
#[derive(Debug)]
pub struct Envelope {
    /// Fields of a `Resource`.
    resource: Vec<u8>,
    /// Fields of an `InstrumentationScope`.
    scope: Vec<u8>,
}

/// What a collector did not take, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Spans or data points. With none, the rest is a warning.
    pub count: u64,
    pub why: String,
}

impl Envelope {
    /// `instance`: tells this process from others of its name. `attributes`: of the resource; they win.
    pub fn new(service: &str, instance: &str, attributes: &[(String, String)]) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let ours = [
            ("service.name", service),
            ("service.version", version),
            ("service.instance.id", instance),
        ];
        let said = |name: &str| attributes.iter().any(|(key, _)| key == name);
        let (mut resource, mut scope) = (Vec::new(), Vec::new());
        for (key, value) in ours.iter().filter(|(key, _)| *key == "service.name" || !said(key)) {
            proto::text(&mut resource, 1, key, value);
        }
        for (key, value) in attributes.iter().filter(|(key, _)| key != "service.name") {
            proto::text(&mut resource, 1, key, value);
        }
        proto::bytes(&mut scope, 1, b"tidegate");
        proto::bytes(&mut scope, 2, version.as_bytes());
        Self { resource, scope }
    }

    /// `ExportTraceServiceRequest`
    pub fn traces<'b>(&self, blocks: impl IntoIterator<Item = &'b Block>) -> Vec<u8> {
        let spans: Vec<&[u8]> = blocks.into_iter().map(|block| &block.bytes[..]).collect();
        self.around(&spans)
    }

    /// `ExportMetricsServiceRequest`
    pub fn metrics(&self, chunk: &Chunk) -> Vec<u8> {
        self.around(&[&chunk.bytes])
    }

    /// All that is counted now. `unix_nanos`: when that is.
    pub fn read(metrics: &Metrics, unix_nanos: u64) -> Vec<Chunk> {
        points::read(metrics, unix_nanos)
    }

    /// `ResourceSpans` and `ResourceMetrics` have the same fields, and so have what is in them.
    fn around(&self, parts: &[&[u8]]) -> Vec<u8> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut out = Out::with_capacity(len + self.resource.len() + 256);
        proto::message(&mut out, 1, |out| {
            proto::bytes(out, 1, &self.resource);
            proto::message(out, 2, |out| {
                proto::bytes(out, 1, &self.scope);
                for part in parts {
                    out.extend_from_slice(part);
                }
                proto::bytes(out, 3, SCHEMA.as_bytes());
            });
            proto::bytes(out, 3, SCHEMA.as_bytes());
        });
        out
    }
}

/// The `partial_success` of an answer, where there is one that says anything.
pub fn rejected(answer: &[u8]) -> Option<Rejected> {
    let mut rejected = Rejected { count: 0, why: String::new() };
    for (field, value) in proto::fields(answer) {
        let (1, Value::Bytes(partial)) = (field, value) else { continue };
        for part in proto::fields(partial) {
            match part {
                (1, Value::Number(count)) => rejected.count = count,
                (2, Value::Bytes(why)) => rejected.why = String::from_utf8_lossy(why).into(),
                _ => {}
            }
        }
    }
    (rejected.count > 0 || !rejected.why.is_empty()).then_some(rejected)
}

/// When to come back, from a `google.rpc.Status` with a `google.rpc.RetryInfo` among its details. `None`:
/// it has none; zero where that says no time.
/// <https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto>
pub fn retry_delay(status: &[u8]) -> Option<Duration> {
    let info = proto::fields(status).find_map(|field| match field {
        (3, Value::Bytes(detail)) => retry_info(detail),
        _ => None,
    })?;
    let mut delay = Duration::ZERO;
    for (field, value) in proto::fields(info) {
        let (1, Value::Bytes(time)) = (field, value) else { continue };
        for part in proto::fields(time) {
            // a negative number is one of 64 bits: no time at all
            match part {
                (1, Value::Number(seconds)) if i64::try_from(seconds).is_ok() => {
                    delay = Duration::new(seconds, delay.subsec_nanos());
                }
                (2, Value::Number(nanos)) if nanos < 1_000_000_000 => {
                    delay = Duration::new(delay.as_secs(), nanos as u32);
                }
                _ => {}
            }
        }
    }
    Some(delay)
}

/// What is in a `google.protobuf.Any`, where that is of our type.
fn retry_info(any: &[u8]) -> Option<&[u8]> {
    let (mut ours, mut value) = (false, &[][..]);
    for field in proto::fields(any) {
        match field {
            (1, Value::Bytes(name)) => ours = name.ends_with(b"/google.rpc.RetryInfo"),
            (2, Value::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    ours.then_some(value)
}
