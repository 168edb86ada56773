//! The database of budgets, keys and tasks.
use std::fmt;

use super::Out;
use crate::telemetry::metrics::names;
use crate::telemetry::view::StoreView;

pub(super) fn encode(out: &mut Out<'_>, store: &StoreView) -> fmt::Result {
    out.gauges(&names::STORE_HEALTHY, [([], u64::from(store.healthy))])?;
    out.counters(&names::STORE_COMMITS, [([], store.commits)])?;
    out.counters(&names::STORE_OPERATIONS, [([], store.operations)])?;
    out.counters(&names::STORE_REFUSED, [([], store.refused)])?;
    out.gauges(&names::STATE_FREE, store.free_bytes.map(|bytes| ([], bytes)))
}
