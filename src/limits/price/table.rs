//! Prices that are built in: `table.csv`, dated, from the vendors' public pages.
//!
//! A start for who has no price file; prices change, and a file or the policy's own prices win.
//! Names stand there without a vendor's prefix, and without a date where one price holds for all.
use std::collections::HashMap;
use std::sync::LazyLock;

use super::decimal::trillionths;
use super::{LongContext, Rate};
use crate::config::Price;

pub(super) const TEXT: &str = include_str!("table.csv");

/// The prices in it are for so many tokens.
const MILLION: u64 = 1_000_000;

static TABLE: LazyLock<HashMap<&str, Rate>> = LazyLock::new(|| rows(TEXT).flatten().collect());

pub(super) fn named(name: &str) -> Option<Rate> {
    TABLE.get(name).copied()
}

/// `None` for a row that is wrong.
pub(super) fn rows(text: &str) -> impl Iterator<Item = Option<(&str, Rate)>> {
    text.lines().filter(|line| !line.starts_with('#')).map(row)
}

fn row(line: &str) -> Option<(&str, Rate)> {
    let mut cells = line.split(',');
    let name = cells.next().filter(|name| !name.is_empty())?;
    let price = prices(&mut cells)?;
    let max_output = match cells.next()? {
        "" => None,
        tokens => Some(tokens.parse().ok()?),
    };
    let long = match cells.next() {
        None => None,
        Some(above) => Some(LongContext { above: above.parse().ok()?, price: prices(&mut cells)? }),
    };
    cells.next().is_none().then_some((name, Rate { long, ..Rate::flat(price, max_output) }))
}

/// Input, cached, written, output.
fn prices<'t>(cells: &mut impl Iterator<Item = &'t str>) -> Option<Price> {
    let mut cell = || match cells.next()? {
        "" => Some(None),
        dollars => Some(Some(trillionths(dollars)? / MILLION)),
    };
    let (input, cached_input, cache_write, output) = (cell()??, cell()?, cell()?, cell()??);
    Some(Price { input, output, cached_input, cache_write, reasoning: None })
}
