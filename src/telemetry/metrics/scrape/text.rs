//! The text that `/metrics` answers with: `OpenMetrics` 1.0, exemplars included.
//!
//! By hand, for the official client makes no exemplar of a trace that somebody else counted: its
//! exemplars have no constructor outside of its own histograms, which take a lock a touch.
use std::fmt::{self, Write};

use super::out::{Families, Number};
use crate::telemetry::metrics::histogram::{Exemplar, Histogram};
use crate::telemetry::metrics::names::{Kind, Name};

/// Appends to a text.
pub(in crate::telemetry) struct Text<'a> {
    out: &'a mut String,
    family: &'static str,
    /// What the samples of the family have behind its name.
    suffix: &'static str,
}

impl<'a> Text<'a> {
    pub(in crate::telemetry) fn new(out: &'a mut String) -> Self {
        Self { out, family: "", suffix: "" }
    }

    fn head(
        &mut self,
        suffix: &str,
        labels: &[(&'static str, &str)],
        bound: Option<f64>,
    ) -> fmt::Result {
        self.out.push_str(self.family);
        self.out.push_str(suffix);
        if labels.is_empty() && bound.is_none() {
            return self.out.write_char(' ');
        }
        let mut before = '{';
        for (name, value) in labels {
            self.out.push(before);
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(self.out, value);
            self.out.push('"');
            before = ',';
        }
        if let Some(bound) = bound {
            self.out.push(before);
            self.out.push_str("le=\"");
            real(self.out, bound)?;
            self.out.push('"');
        }
        self.out.write_str("} ")
    }
}

impl Families for Text<'_> {
    fn family(&mut self, name: &'static Name) -> fmt::Result {
        let Name { full, help, kind } = name;
        (self.family, self.suffix) = (full, kind.suffix());
        self.out.push_str("# HELP ");
        self.out.push_str(full);
        self.out.push(' ');
        escape(self.out, help);
        writeln!(self.out, "\n# TYPE {full} {}", kind.as_str())?;
        match name.unit() {
            Some(unit) => writeln!(self.out, "# UNIT {full} {unit}"),
            None => Ok(()),
        }
    }

    fn number(&mut self, labels: &[(&'static str, &str)], value: Number) -> fmt::Result {
        self.head(self.suffix, labels, None)?;
        match value {
            Number::Whole(value) => writeln!(self.out, "{value}"),
            Number::Signed(value) => writeln!(self.out, "{value}"),
            Number::Real(value) => {
                real(self.out, value)?;
                self.out.write_char('\n')
            }
        }
    }

    fn histogram(&mut self, labels: &[(&'static str, &str)], row: &Histogram) -> fmt::Result {
        self.head("_sum", labels, None)?;
        real(self.out, row.sum())?;
        self.out.push('\n');
        self.head("_count", labels, None)?;
        writeln!(self.out, "{}", row.count())?;
        let mut so_far = 0;
        for (at, (bound, count)) in row.buckets().into_iter().enumerate() {
            so_far += count;
            self.head("_bucket", labels, Some(bound))?;
            write!(self.out, "{so_far}")?;
            if let Some(exemplar) = row.exemplar(at) {
                write_exemplar(self.out, exemplar, row)?;
            }
            self.out.push('\n');
        }
        Ok(())
    }
}

fn write_exemplar(out: &mut String, exemplar: &Exemplar, row: &Histogram) -> fmt::Result {
    let Exemplar { value, seen } = exemplar;
    write!(out, " # {{trace_id=\"{:032x}\",span_id=\"{:016x}\"}} ", seen.trace, seen.span)?;
    real(out, row.in_unit(*value))?;
    let millis = seen.unix_nanos / 1_000_000;
    write!(out, " {}.{:03}", millis / 1000, millis % 1000)
}

fn escape(out: &mut String, text: &str) {
    for part in text.split_inclusive(['\\', '"', '\n']) {
        let (plain, special) = match part.as_bytes().last() {
            Some(b'\\') => (&part[..part.len() - 1], "\\\\"),
            Some(b'"') => (&part[..part.len() - 1], "\\\""),
            Some(b'\n') => (&part[..part.len() - 1], "\\n"),
            _ => (part, ""),
        };
        out.push_str(plain);
        out.push_str(special);
    }
}

/// Never an exponent; a whole number with `.0` behind it.
fn real(out: &mut String, value: f64) -> fmt::Result {
    if value.is_nan() {
        return out.write_str("NaN");
    }
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    write!(out, "{value}")?;
    if value.fract() == 0.0 { out.write_str(".0") } else { Ok(()) }
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram => "",
        }
    }
}
