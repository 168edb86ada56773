//! Tasks, webhooks and kept streams, as `/tasks`, `/state` and `/metrics` show them.
use std::sync::Arc;

use super::tasks::{Offload, now_ms};
use crate::admin::TasksDoor;
use crate::pipeline::resume::Streams;
use crate::tasks::{State, Tasks};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::view::{OffloadView, StreamsView, TasksView, WebhooksView};
use crate::webhook::Webhooks;

/// What outlives the connection that asked for it.
#[derive(Clone)]
pub struct Shown {
    pub offload: Option<Offload>,
    pub streams: Arc<Streams>,
}

impl Shown {
    /// Has scrapes look here.
    pub fn watch(&self, metrics: &Metrics) {
        let counts = self.offload.as_ref().map(|offload| Arc::clone(offload.tasks.counts()));
        let shown = self.clone();
        metrics.watch_tasks(counts, move || shown.view());
    }

    pub fn view(&self) -> OffloadView {
        let (kept, resumed) = self.streams.figures();
        OffloadView {
            tasks: self.offload.as_ref().map(|offload| tasks(&offload.tasks)),
            webhooks: self.offload.as_ref().map(|offload| webhooks(&offload.webhooks)),
            streams: StreamsView { kept, resumed },
        }
    }

    pub fn door(&self) -> Option<TasksDoor> {
        self.offload.as_ref().map(|offload| TasksDoor { tasks: Arc::clone(&offload.tasks) })
    }
}

fn tasks(tasks: &Tasks) -> TasksView {
    let (figures, counts) = (tasks.figures(), tasks.counts());
    let by = |rows: Vec<([&'static str; 1], u64)>| {
        rows.into_iter().map(|([word], count)| (word.to_owned(), count)).collect()
    };
    let states = State::ALL.map(|state| (state.as_str().to_owned(), figures.of(state) as u64));
    TasksView {
        states: states.into(),
        submitted: counts.submissions(),
        ended: by(counts.ends()),
        retries: by(counts.retries()),
        refused: by(counts.refusals()),
        oldest_queued_ms: figures.oldest_due_ms.map(|made| now_ms().saturating_sub(made)),
        request_bytes: figures.request_bytes,
        result_bytes: figures.result_bytes,
    }
}

fn webhooks(webhooks: &Webhooks) -> WebhooksView {
    let figures = webhooks.figures();
    WebhooksView {
        sent: figures.delivered,
        failed: figures.failed,
        given_up: figures.given_up,
        waiting: figures.waiting as u64,
    }
}
