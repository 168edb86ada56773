//! What calls hold in memory, and what became of those for whom there was none.
use std::fmt;
use std::sync::atomic::Ordering;

use super::super::{Shared, names};
use super::Out;

pub(super) fn encode_memory(out: &mut Out<'_>, shared: &Shared) -> fmt::Result {
    let Some(pressure) = shared.pressure.get() else { return Ok(()) };
    out.gauges(&names::MEMORY_HELD, [([], pressure.used())])?;
    out.gauges(&names::MEMORY_BUDGET, [([], pressure.budget())])?;
    out.gauges(&names::PRESSURE, [([], pressure.level() as u64)])?;
    let refused = shared.overload_refused.read().into_iter();
    out.counters(
        &names::OVERLOAD_REFUSED,
        refused.map(|([level], count)| ([("level", level)], count)),
    )?;
    out.counters(&names::OVERLOAD_CUT, [([], shared.overload_cut.load(Ordering::Relaxed))])
}
