//! The keys under `telemetry.otlp`.
use super::{SWITCH, Section, Shape, URL, key, optional};

/// In the order of `OtlpProtocol::ALL`.
pub(in crate::config) const PROTOCOLS: &[&str] = &["http", "grpc"];

pub(in crate::config) static OTLP: Section = Section {
    title: "An OpenTelemetry collector",
    keys: &[
        optional(
            "endpoint",
            &URL,
            "Where it is; over HTTP, /v1/traces and /v1/metrics are put behind it.",
        ),
        key("protocol", &Shape::Word(PROTOCOLS), "http", "http: protobuf over HTTP/1.1."),
        optional(
            "headers",
            &Shape::Names(&Shape::Secret),
            "Added to every request to it: its credential.",
        ),
        key("traces", &Shape::Word(SWITCH), "on", "Whether traces are sent."),
        key("metrics", &Shape::Word(SWITCH), "on", "Whether metrics are sent."),
        key(
            "sample",
            &Shape::Weight,
            "5%",
            "The share of calls that are traced where no traceparent says; failed ones always are.",
        ),
        key(
            "content",
            &Shape::Word(SWITCH),
            "off",
            "Whether spans hold what was asked: prompts, up to 64 KiB of each.",
        ),
        key("interval", &Shape::Duration, "60s", "Between two reports of metrics."),
        key(
            "service",
            &Shape::Text("the name of this service"),
            "tidegate",
            "service.name of all that is sent.",
        ),
    ],
    required: &[],
    later: &[],
};
