//! One request to a collector, and what its answer means: OTLP/HTTP with protobuf bodies, and OTLP/gRPC
//! (<https://opentelemetry.io/docs/specs/otlp/>, <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::StartError;
use crate::config::{self, Http2, Otlp, OtlpProtocol, Pool};
use crate::io::base64;
use crate::telemetry::otlp::{Rejected, rejected, retry_delay};
use crate::upstream::connect::Connector;
use crate::upstream::post::{Posted, Poster};
use crate::wire::quota;

/// What is sent to: over HTTP, and over gRPC.
const TRACES: [&str; 2] =
    ["/v1/traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"];
const METRICS: [&str; 2] =
    ["/v1/metrics", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"];
/// The longest that a collector may put us off.
const LONGEST_HINT: Duration = Duration::from_mins(1);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// What a collector said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of it, or all but some.
    Taken { rejected: Option<Rejected> },
    /// Not now: to be tried again, after so long if it says so.
    Later { why: String, after: Option<Duration> },
    /// Not this.
    Never(String),
}

impl Answer {
    pub(super) fn later(why: impl Into<String>) -> Self {
        Self::Later { why: why.into(), after: None }
    }
}

/// A connection to the collector, for one signal.
pub(super) struct Client {
    poster: Poster,
    protocol: OtlpProtocol,
    headers: HeaderMap,
}

impl Client {
    pub(super) fn new(
        otlp: &Otlp,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, StartError> {
        let grpc = otlp.protocol == OtlpProtocol::Grpc;
        let config = config::Upstream {
            http2: if grpc { Http2::Always } else { Http2::Never },
            pool: Pool { connect_timeout: CONNECT_PATIENCE, ..Pool::default() },
            ..config::Upstream::new("otlp")
        };
        let connector = Connector::new(&config, env)?;
        let mut endpoint = otlp.endpoint.clone();
        if grpc {
            // a service has its name for a path
            endpoint.path = "".into();
        }
        let poster = Poster::new(connector, endpoint).ok_or(StartError::Host)?;
        let kind = if grpc { "application/grpc" } else { "application/x-protobuf" };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let agent = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        if grpc {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        for (name, value) in &otlp.headers {
            headers.insert(name.clone(), value.clone());
        }
        Ok(Self { poster, protocol: otlp.protocol, headers })
    }

    pub(super) async fn traces(&mut self, body: &Bytes) -> Answer {
        self.send(TRACES, body).await
    }

    pub(super) async fn metrics(&mut self, body: &Bytes) -> Answer {
        self.send(METRICS, body).await
    }

    async fn send(&mut self, [http, grpc]: [&str; 2], body: &Bytes) -> Answer {
        let posted = match self.protocol {
            OtlpProtocol::Http => self.poster.post(http, &self.headers, body).await,
            OtlpProtocol::Grpc => self.poster.post(grpc, &self.headers, &framed(body)).await,
        };
        match (posted, self.protocol) {
            (Err(error), _) => Answer::later(error.to_string()),
            (Ok(posted), OtlpProtocol::Http) => over_http(&posted),
            (Ok(posted), OtlpProtocol::Grpc) => over_grpc(&posted),
        }
    }
}

/// Not compressed, and so long.
fn framed(body: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 5);
    out.put_u8(0);
    out.put_u32(body.len() as u32);
    out.put_slice(body);
    out.freeze()
}

fn over_http(posted: &Posted) -> Answer {
    let Posted { status, headers, body, .. } = posted;
    match status.as_u16() {
        200..=299 => Answer::Taken { rejected: rejected(body) },
        429 | 502 | 503 | 504 => Answer::Later { why: status.to_string(), after: hint(headers) },
        _ => Answer::Never(status.to_string()),
    }
}

fn over_grpc(posted: &Posted) -> Answer {
    const STATUS: HeaderName = HeaderName::from_static("grpc-status");
    const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
    let Posted { status, headers, trailers, body } = posted;
    // a refusal may be all in the head
    let said = |name| trailers.get(&name).or_else(|| headers.get(&name))?.to_str().ok();
    let code = said(STATUS).and_then(|code| code.parse::<u8>().ok());
    let Some(code) = code else {
        if status.is_success() {
            // UNKNOWN
            return Answer::Never("no gRPC status".to_owned());
        }
        // no gRPC: something between us and it
        return over_http(&Posted {
            status: *status,
            headers: headers.clone(),
            trailers: HeaderMap::new(),
            body: body.clone(),
        });
    };
    let why = || format!("gRPC status {code}");
    let delay = said(DETAILS).and_then(details).and_then(|details| retry_delay(&details));
    // who says no time leaves it to us
    let after = || match delay.filter(|delay| !delay.is_zero()) {
        Some(delay) => Some(delay.min(LONGEST_HINT)),
        None => hint(headers),
    };
    match code {
        0 => Answer::Taken { rejected: body.get(5..).and_then(rejected) },
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
        1 | 4 | 10 | 11 | 14 | 15 => Answer::Later { why: why(), after: after() },
        // RESOURCE_EXHAUSTED can be got over only where the collector says when
        8 if delay.is_some() => Answer::Later { why: why(), after: after() },
        _ => Answer::Never(why()),
    }
}

/// Binary values are base64, which may lack its padding.
fn details(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    let missing = match bare.len() % 4 {
        2 => "==",
        3 => "=",
        _ => "",
    };
    base64::decode(&format!("{bare}{missing}"))
}

fn hint(headers: &HeaderMap) -> Option<Duration> {
    quota(headers, SystemTime::now).retry_after.map(|after| after.min(LONGEST_HINT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(
        status: u16,
        headers: &[(&'static str, &'static str)],
        trailers: &[(&'static str, &'static str)],
        body: &'static [u8],
    ) -> Posted {
        let map = |pairs: &[(&'static str, &'static str)]| {
            pairs
                .iter()
                .map(|(name, value)| {
                    (HeaderName::from_static(name), HeaderValue::from_static(value))
                })
                .collect()
        };
        Posted {
            status: http::StatusCode::from_u16(status).unwrap(),
            headers: map(headers),
            trailers: map(trailers),
            body: Bytes::from_static(body),
        }
    }

    const TAKEN: Answer = Answer::Taken { rejected: None };

    #[test]
    fn answers_over_http_are_judged_by_the_specification() {
        assert_eq!(over_http(&posted(200, &[], &[], b"")), TAKEN);
        for status in [429, 502, 503, 504] {
            let answer = over_http(&posted(status, &[("retry-after", "7")], &[], b""));
            assert!(
                matches!(answer, Answer::Later { after: Some(after), .. } if after.as_secs() == 7)
            );
        }
        for status in [301, 400, 401, 404, 413, 500, 501] {
            assert!(matches!(over_http(&posted(status, &[], &[], b"")), Answer::Never(_)));
        }
    }

    #[test]
    fn answers_over_grpc_are_judged_by_the_specification() {
        let of = |code: &'static str| {
            over_grpc(&posted(200, &[], &[("grpc-status", code)], b"\0\0\0\0\0"))
        };
        assert_eq!(of("0"), TAKEN);
        for code in ["1", "4", "10", "11", "14", "15"] {
            assert!(matches!(of(code), Answer::Later { .. }), "{code}");
        }
        for code in ["2", "3", "5", "7", "8", "12", "13", "16"] {
            assert!(matches!(of(code), Answer::Never(_)), "{code}");
        }
        // in the head alone, and by something that speaks no gRPC
        assert!(matches!(
            over_grpc(&posted(200, &[("grpc-status", "14")], &[], b"")),
            Answer::Later { .. }
        ));
        assert!(matches!(over_grpc(&posted(503, &[], &[], b"")), Answer::Later { .. }));
        assert!(matches!(over_grpc(&posted(200, &[], &[], b"<html>")), Answer::Never(_)));
        assert!(matches!(of("OK"), Answer::Never(_)));
    }

    #[test]
    fn a_collector_that_has_no_room_is_asked_again_when_it_says() {
        let said = |code: &'static str, details| {
            let pairs = [("grpc-status", code), ("grpc-status-details-bin", details)];
            let in_head = over_grpc(&posted(200, &pairs, &[], b""));
            assert_eq!(over_grpc(&posted(200, &[], &pairs, b"")), in_head);
            match in_head {
                Answer::Later { after, .. } => Some(after),
                _ => None,
            }
        };
        let after = |millis| Some(Some(Duration::from_millis(millis)));
        // a status with the text "full", and a RetryInfo of 7.5 s; with and without padding
        let padded = "CAgSBGZ1bGwaNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIBxCAyrXuAQ==";
        assert_eq!(said("8", padded), after(7500));
        assert_eq!(said("8", padded.trim_end_matches('=')), after(7500));
        assert_eq!(said("14", padded), after(7500));
        // 7 s behind a Help; an hour, which is cut; no time; five seconds less than none
        let late = "CAgSBGZ1bGwaJwojdHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLkhlbHASABowCih0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuUmV0cnlJbmZvEgQKAggH";
        assert_eq!(said("8", late), after(7000));
        let hour =
            "CAgSBGZ1bGwaMQoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIFCgMIkBw";
        assert_eq!(said("8", hour), after(60_000));
        let unsaid = "CAgSBGZ1bGwaLAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIA";
        assert_eq!(said("8", unsaid), Some(None));
        let negative = "CAgSBGZ1bGwaOQoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxINCgsI+///////////AQ";
        assert_eq!(said("8", negative), Some(None));
        // a Help alone, nothing, and no base64
        for none in ["CAgaJwojdHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLkhlbHASAA", "", "%"] {
            assert_eq!(said("8", none), None, "{none}");
        }
        assert_eq!(said("14", "%"), Some(None));
    }

    #[test]
    fn a_partial_success_says_what_was_left_out() {
        let body = b"\x0a\x08\x08\x03\x12\x04full";
        let Answer::Taken { rejected: Some(left) } = over_http(&posted(200, &[], &[], body)) else {
            panic!("taken in part")
        };
        assert_eq!((left.count, left.why.as_str()), (3, "full"));
        let framed = b"\0\0\0\0\x0a\x0a\x08\x08\x03\x12\x04full";
        let answer = over_grpc(&posted(200, &[], &[("grpc-status", "0")], framed));
        assert!(matches!(answer, Answer::Taken { rejected: Some(left) } if left.count == 3));
        assert_eq!(over_http(&posted(200, &[], &[], b"\x0a\x00")), TAKEN);
        assert_eq!(over_http(&posted(200, &[], &[], b"\xff\xff\xff")), TAKEN);
    }
}
