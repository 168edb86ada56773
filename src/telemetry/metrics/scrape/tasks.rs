//! The families of tasks, of webhooks, and of streams that can be taken up again.
use std::collections::BTreeMap;
use std::fmt;

use super::{Labels, Out};
use crate::telemetry::metrics::names;
use crate::telemetry::metrics::tasks::TaskCounts;
use crate::telemetry::view::{OffloadView, TasksView, WebhooksView};

pub(super) fn encode(
    out: &mut Out<'_>,
    counts: Option<&TaskCounts>,
    view: &OffloadView,
) -> fmt::Result {
    if let Some(tasks) = &view.tasks {
        encode_tasks(out, tasks)?;
    }
    if let Some(counts) = counts {
        out.histograms(&names::TASK_SUBMIT, [([], &counts.submit_times())])?;
        out.histograms(&names::TASK_WAIT, [([], &counts.waits())])?;
    }
    if let Some(WebhooksView { sent, failed, given_up, waiting }) = &view.webhooks {
        out.counters(&names::WEBHOOKS_SENT, [([], *sent)])?;
        out.counters(&names::WEBHOOKS_FAILED, [([], *failed)])?;
        out.counters(&names::WEBHOOKS_GIVEN_UP, [([], *given_up)])?;
        out.gauges(&names::WEBHOOKS_WAITING, [([], *waiting)])?;
    }
    out.gauges(&names::STREAMS_KEPT, [([], view.streams.kept)])?;
    out.counters(&names::STREAMS_RESUMED, [([], view.streams.resumed)])
}

fn encode_tasks(out: &mut Out<'_>, tasks: &TasksView) -> fmt::Result {
    out.gauges(&names::TASKS, by("state", &tasks.states))?;
    out.counters(&names::TASKS_SUBMITTED, [([], tasks.submitted)])?;
    out.counters(&names::TASKS_ENDED, by("state", &tasks.ended))?;
    out.counters(&names::TASK_RETRIES, by("reason", &tasks.retries))?;
    out.counters(&names::TASKS_REFUSED, by("reason", &tasks.refused))?;
    let oldest = tasks.oldest_queued_ms.unwrap_or(0) as f64 / 1e3;
    out.gauges(&names::TASK_OLDEST, [([], oldest)])?;
    let kept = [("requests", tasks.request_bytes), ("results", tasks.result_bytes)];
    out.gauges(&names::TASK_BYTES, kept.map(|(kind, bytes)| ([("kind", kind)], bytes)))
}

fn by<'a>(
    label: &'static str,
    rows: &'a BTreeMap<String, u64>,
) -> impl Iterator<Item = (Labels<'a, 1>, u64)> {
    rows.iter().map(move |(value, count)| ([(label, value.as_str())], *count))
}
