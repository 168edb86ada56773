//! `telemetry.otlp` as YAML.
use std::fmt::{self, Write as _};

use super::{REDACTED, quoted};
use crate::config::Otlp;
use crate::units::show_duration;

pub(super) fn write_otlp(out: &mut String, otlp: Option<&Otlp>) -> fmt::Result {
    let Some(otlp) = otlp else { return writeln!(out, "  otlp: off") };
    let switch = |on| if on { "on" } else { "off" };
    writeln!(out, "  otlp:\n    endpoint: {}", quoted(&otlp.endpoint))?;
    writeln!(out, "    protocol: {}", otlp.protocol.as_str())?;
    if !otlp.headers.is_empty() {
        writeln!(out, "    headers:")?;
    }
    for (name, _) in &otlp.headers {
        writeln!(out, "      {}: {REDACTED}", quoted(name))?;
    }
    writeln!(out, "    traces: {}", switch(otlp.traces))?;
    writeln!(out, "    metrics: {}", switch(otlp.metrics))?;
    // in tenths of a percent, as it is read
    let tenths = (otlp.sample * 1000.0).round() as u64;
    writeln!(out, "    sample: {}.{}%", tenths / 10, tenths % 10)?;
    writeln!(out, "    content: {}", switch(otlp.content))?;
    writeln!(out, "    interval: {}", show_duration(otlp.interval))?;
    writeln!(out, "    service: {}", quoted(&otlp.service))
}
