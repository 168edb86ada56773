//! Tasks, webhooks and kept streams in a scrape.
use super::*;
use crate::telemetry::view::{OffloadView, StreamsView, TasksView, WebhooksView};

fn by(rows: &[(&str, u64)]) -> std::collections::BTreeMap<String, u64> {
    rows.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
}

#[test]
fn each_figure_of_tasks_has_its_family() {
    let metrics = Metrics::new();
    assert!(!scrape(&metrics).contains("tidegate_task"), "nobody has said where to ask");
    let counts = Arc::new(TaskCounts::default());
    let view = OffloadView {
        tasks: Some(TasksView {
            states: by(&[("queued", 3), ("running", 0)]),
            submitted: 9,
            ended: by(&[("failed", 2)]),
            retries: by(&[("limits", 4)]),
            refused: by(&[("no_space", 1)]),
            oldest_queued_ms: Some(1500),
            request_bytes: 10,
            result_bytes: 20,
        }),
        webhooks: Some(WebhooksView { sent: 1, failed: 2, given_up: 3, waiting: 4 }),
        streams: StreamsView { kept: 5, resumed: 6 },
    };
    metrics.watch_tasks(Some(Arc::clone(&counts)), move || view.clone());
    for (took, waited) in [(2, 100), (4, 60_000)] {
        counts.submitted(Duration::from_millis(took));
        counts.started(Duration::from_millis(waited));
    }
    let text = scrape(&metrics);
    for (name, labels, want) in [
        ("tidegate_tasks", &[("state", "queued")][..], 3.0),
        ("tidegate_tasks", &[("state", "running")], 0.0),
        ("tidegate_tasks_submitted_total", &[], 9.0),
        ("tidegate_tasks_ended_total", &[("state", "failed")], 2.0),
        ("tidegate_task_retries_total", &[("reason", "limits")], 4.0),
        ("tidegate_tasks_refused_total", &[("reason", "no_space")], 1.0),
        ("tidegate_task_oldest_queued_seconds", &[], 1.5),
        ("tidegate_task_kept_bytes", &[("kind", "requests")], 10.0),
        ("tidegate_task_kept_bytes", &[("kind", "results")], 20.0),
        ("tidegate_task_submit_seconds_count", &[], 2.0),
        ("tidegate_task_submit_seconds_sum", &[], 0.006),
        ("tidegate_task_queue_wait_seconds_sum", &[], 60.1),
        ("tidegate_task_queue_wait_seconds_bucket", &[("le", "0.1")], 1.0),
        ("tidegate_webhooks_sent_total", &[], 1.0),
        ("tidegate_webhooks_failed_total", &[], 2.0),
        ("tidegate_webhooks_given_up_total", &[], 3.0),
        ("tidegate_webhooks_waiting", &[], 4.0),
        ("tidegate_streams_kept", &[], 5.0),
        ("tidegate_streams_resumed_total", &[], 6.0),
    ] {
        assert_eq!(value(&text, name, labels), Some(want), "{name} {labels:?}");
    }
}

#[test]
fn where_there_are_no_tasks_only_streams_are_told_of() {
    let metrics = Metrics::new();
    metrics.watch_tasks(None, OffloadView::default);
    let text = scrape(&metrics);
    assert!(!text.contains("tidegate_task") && !text.contains("tidegate_webhooks"), "{text}");
    assert_eq!(value(&text, "tidegate_streams_kept", &[]), Some(0.0));
}
