//! Where the families of a scrape go, one after the other: the text of `/metrics`, or OTLP's points.
//! Families without a sample are left out.
use std::fmt;

use crate::telemetry::metrics::histogram::Histogram;
use crate::telemetry::metrics::names::Name;

/// Label names and values.
pub(in crate::telemetry) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// One value of a counter or a gauge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::telemetry) enum Number {
    Whole(u64),
    Signed(i64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// A form of saying what is counted.
pub(in crate::telemetry) trait Families {
    /// What follows is of this family, up to the next.
    fn family(&mut self, name: &'static Name) -> fmt::Result;
    fn number(&mut self, labels: &[(&'static str, &str)], value: Number) -> fmt::Result;
    fn histogram(&mut self, labels: &[(&'static str, &str)], row: &Histogram) -> fmt::Result;
}

/// Writes families.
pub(super) struct Out<'a>(pub(super) &'a mut dyn Families);

impl Out<'_> {
    pub(super) fn counters<'l, const N: usize, V: Into<Number>>(
        &mut self,
        name: &'static Name,
        rows: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        self.numbers(name, rows)
    }

    pub(super) fn gauges<'l, const N: usize, V: Into<Number>>(
        &mut self,
        name: &'static Name,
        rows: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        self.numbers(name, rows)
    }

    /// One sample of 1, whose labels say it all.
    pub(super) fn info<const N: usize>(
        &mut self,
        name: &'static Name,
        labels: Labels<'_, N>,
    ) -> fmt::Result {
        self.numbers(name, [(labels, 1_u64)])
    }

    fn numbers<'l, const N: usize, V: Into<Number>>(
        &mut self,
        name: &'static Name,
        rows: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        self.0.family(name)?;
        rows.try_for_each(|(labels, value)| self.0.number(&labels, value.into()))
    }

    /// Histograms without a value are left out.
    pub(super) fn histograms<'l, 'h, const N: usize>(
        &mut self,
        name: &'static Name,
        rows: impl IntoIterator<Item = (Labels<'l, N>, &'h Histogram)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().filter(|(_, row)| row.count() > 0).peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        self.0.family(name)?;
        rows.try_for_each(|(labels, row)| self.0.histogram(&labels, row))
    }
}
