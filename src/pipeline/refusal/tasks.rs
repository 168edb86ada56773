//! Tasks: what cannot be taken on, and what is not there.
use std::time::Duration;

use http::StatusCode;

use super::{Refusal, Retry, Source};
use crate::tasks::{Quota, TaskId};

impl Refusal {
    fn task(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self::new(status, code, Source::Agent, message)
    }

    /// Or another agent's.
    pub fn unknown_task() -> Self {
        Self::task(StatusCode::NOT_FOUND, "task_not_found", "There is no such task.")
    }

    pub fn task_gone() -> Self {
        let message = "The answer of this task is not kept any more.";
        let mut refusal = Self::task(StatusCode::GONE, "task_gone", message);
        refusal.retry = Retry::No;
        refusal
    }

    /// What became of it is known for a while longer.
    pub fn events_gone(id: TaskId) -> Self {
        let message = format!(
            "The events of this task are not kept any more; see /-/tasks/{id} for its end."
        );
        let mut refusal = Self::new(StatusCode::GONE, "task_gone", Source::Agent, message);
        refusal.retry = Retry::No;
        refusal
    }

    pub fn task_cancelled() -> Self {
        let message = "The task was cancelled before there was an answer.";
        let mut refusal = Self::task(StatusCode::CONFLICT, "task_cancelled", message);
        refusal.retry = Retry::No;
        refusal
    }

    pub fn task_expired() -> Self {
        let message = "The task was not done in time, and has no answer.";
        let mut refusal = Self::task(StatusCode::GATEWAY_TIMEOUT, "task_expired", message);
        refusal.retry = Retry::No;
        refusal
    }

    /// Nobody answered it; `message` and `status` are what an attempt was told.
    pub fn task_failed(message: Option<String>, status: Option<u16>) -> Self {
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.filter(|status| !status.is_success() && !status.is_informational());
        let message = message.unwrap_or_else(|| "The task has failed.".to_owned());
        let status = status.unwrap_or(StatusCode::BAD_GATEWAY);
        let mut refusal = Self::new(status, "task_failed", Source::Us, message);
        refusal.retry = Retry::No;
        refusal
    }

    pub fn task_not_over() -> Self {
        let message = "The task is not over: cancel it first.";
        Self::task(StatusCode::CONFLICT, "task_not_over", message)
    }

    pub fn too_many_tasks(what: Quota) -> Self {
        let message = match what {
            Quota::Count => "As many tasks of this agent wait or run as may.",
            Quota::Bytes => {
                "The tasks of this agent take as much room as they may: results that are no longer \
                 needed can be deleted."
            }
            Quota::Memory => "This sidecar has as many tasks as its memory allows.",
        };
        let (status, seconds) = match what {
            Quota::Count => (StatusCode::TOO_MANY_REQUESTS, 5),
            Quota::Bytes => (StatusCode::TOO_MANY_REQUESTS, 30),
            Quota::Memory => (StatusCode::SERVICE_UNAVAILABLE, 30),
        };
        let mut refusal = Self::task(status, "too_many_tasks", message);
        refusal.retry = Retry::After(Duration::from_secs(seconds));
        refusal
    }

    pub fn idempotency_mismatch() -> Self {
        let message = "This Idempotency-Key was used for another request.";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let mut refusal = Self::task(status, "idempotency_mismatch", message);
        refusal.retry = Retry::No;
        refusal
    }

    pub fn idempotency_key_unread() -> Self {
        let message = "The header Idempotency-Key must be there once, with 1 to 512 bytes.";
        Self::task(StatusCode::BAD_REQUEST, "invalid_idempotency_key", message)
    }

    pub fn unknown_webhook() -> Self {
        let message = "The header x-tidegate-webhook names no webhook of the policy.";
        Self::task(StatusCode::BAD_REQUEST, "unknown_webhook", message)
    }

    /// `message`: what it must be.
    pub fn bad_task_query(message: &'static str) -> Self {
        Self::task(StatusCode::BAD_REQUEST, "invalid_query", message)
    }

    /// For new tasks alone: everything else goes on.
    pub fn no_space() -> Self {
        let message = "There is no room on the disk for another task.";
        let status = StatusCode::INSUFFICIENT_STORAGE;
        let mut refusal = Self::new(status, "no_space", Source::Us, message);
        refusal.retry = Retry::After(Duration::from_secs(30));
        refusal
    }

    pub fn tasks_broken() -> Self {
        let message = "This sidecar can keep no tasks now.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut refusal = Self::new(status, "tasks_unavailable", Source::Us, message);
        refusal.retry = Retry::After(Duration::from_secs(30));
        refusal
    }

    /// The policy has no directory for them, or wants none.
    pub fn no_tasks() -> Self {
        let message = "This sidecar keeps no tasks: its policy names no state directory, or \
                       switches tasks off.";
        let mut refusal = Self::new(StatusCode::NOT_IMPLEMENTED, "no_tasks", Source::Us, message);
        refusal.retry = Retry::No;
        refusal
    }
}
