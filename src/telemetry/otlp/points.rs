//! Metrics: the families of a scrape as OTLP's sums, gauges and histograms, cumulative from the start of
//! the process.
use std::fmt;

use super::names;
use super::proto::{self, Out};
use crate::telemetry::metrics::{Families, Histogram, Kind, Metrics, Name, Number};

/// A message is closed beyond this: receivers of gRPC take 4 MiB by default.
const CHUNK: usize = 1 << 20;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u64 = 2;

/// Metrics of one message: fields of a `ScopeMetrics`.
#[derive(Debug, Default, Clone)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    /// Data points.
    pub points: u64,
}

pub(super) fn read(metrics: &Metrics, unix_nanos: u64) -> Vec<Chunk> {
    let mut points = Points {
        begun: metrics.started_unix_nanos(),
        now: unix_nanos,
        name: None,
        chunk: Chunk::default(),
        data: Vec::new(),
        chunks: Vec::new(),
    };
    // fails only where a writer of text would
    let _ = metrics.tell(&mut points);
    points.close();
    points.chunks.push(points.chunk);
    points.chunks.retain(|chunk| chunk.points > 0);
    points.chunks
}

struct Points {
    begun: u64,
    now: u64,
    /// The family, of which `data` are the points so far.
    name: Option<&'static Name>,
    data: Vec<u8>,
    chunk: Chunk,
    chunks: Vec<Chunk>,
}

impl Points {
    /// Writes the metric that is open.
    fn close(&mut self) {
        let Some(name) = self.name.filter(|_| !self.data.is_empty()) else { return };
        let data = std::mem::take(&mut self.data);
        let (called, unit) = names::metric(name.full, name.unit());
        proto::message(&mut self.chunk.bytes, 2, |out| {
            proto::bytes(out, 1, called.as_bytes());
            proto::bytes(out, 2, name.help.as_bytes());
            proto::bytes(out, 3, unit.as_bytes());
            let field = match name.kind {
                Kind::Gauge | Kind::Info => 5,
                Kind::Counter => 7,
                Kind::Histogram => 9,
            };
            proto::message(out, field, |out| {
                out.extend_from_slice(&data);
                if field != 5 {
                    proto::varint(out, 2, CUMULATIVE);
                }
                if field == 7 {
                    proto::varint(out, 3, 1);
                }
            });
        });
        if self.chunk.bytes.len() >= CHUNK {
            self.chunks.push(std::mem::take(&mut self.chunk));
        }
    }

    fn counted(&mut self) {
        self.chunk.points += 1;
        if self.data.len() >= CHUNK {
            self.close();
        }
    }
}

fn attributes(out: &mut Out, field: u64, labels: &[(&'static str, &str)]) {
    for (name, value) in labels {
        let name = names::label(name);
        // that a call has not failed is said by the want of it
        if !(name == names::ERROR && value.is_empty()) {
            proto::text(out, field, name, value);
        }
    }
}

impl Families for Points {
    fn family(&mut self, name: &'static Name) -> fmt::Result {
        self.close();
        self.name = Some(name);
        Ok(())
    }

    fn number(&mut self, labels: &[(&'static str, &str)], value: Number) -> fmt::Result {
        let (begun, now) = (self.begun, self.now);
        let sums = self.name.is_some_and(|name| name.kind == Kind::Counter);
        proto::message(&mut self.data, 1, |out| {
            if sums {
                proto::fixed64(out, 2, begun);
            }
            proto::fixed64(out, 3, now);
            match value {
                Number::Whole(value) => proto::fixed64(out, 6, value),
                Number::Signed(value) => proto::fixed64(out, 6, value.cast_unsigned()),
                Number::Real(value) => proto::double(out, 4, value),
            }
            attributes(out, 7, labels);
        });
        self.counted();
        Ok(())
    }

    fn histogram(&mut self, labels: &[(&'static str, &str)], row: &Histogram) -> fmt::Result {
        let (begun, now) = (self.begun, self.now);
        let buckets = row.buckets();
        proto::message(&mut self.data, 1, |out| {
            proto::fixed64(out, 2, begun);
            proto::fixed64(out, 3, now);
            proto::fixed64(out, 4, row.count());
            proto::double(out, 5, row.sum());
            proto::message(out, 6, |out| {
                for (_, count) in &buckets {
                    out.extend_from_slice(&count.to_le_bytes());
                }
            });
            proto::message(out, 7, |out| {
                let bounds = buckets.iter().map(|(bound, _)| bound).filter(|at| at.is_finite());
                for bound in bounds {
                    out.extend_from_slice(&bound.to_le_bytes());
                }
            });
            for exemplar in (0..buckets.len()).filter_map(|at| row.exemplar(at)) {
                proto::message(out, 8, |out| {
                    proto::fixed64(out, 2, exemplar.seen.unix_nanos);
                    proto::double(out, 3, row.in_unit(exemplar.value));
                    proto::bytes(out, 4, &exemplar.seen.span.to_be_bytes());
                    proto::bytes(out, 5, &exemplar.seen.trace.to_be_bytes());
                });
            }
            attributes(out, 9, labels);
        });
        self.counted();
        Ok(())
    }
}
