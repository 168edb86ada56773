//! Tasks in the process: opened with the store, held to the policy of the day, told of when over.
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::StartError;
use crate::config::Config;
use crate::pipeline::worker::Worker;
use crate::snapshot::Lasting;
use crate::store::{Store, StoreError, Table};
use crate::tasks::{Settings, Tasks};
use crate::webhook::Webhooks;
use crate::work;

/// Calls that are made in the background, and the messages of their ends.
#[derive(Clone)]
pub struct Offload {
    pub tasks: Arc<Tasks>,
    pub webhooks: Arc<Webhooks>,
}

/// `None`: the policy has no directory for them, or wants none. Blocks.
pub fn open(config: &Config, lasting: &Lasting) -> Result<Option<Offload>, StartError> {
    let Some(store) = &lasting.store else { return Ok(None) };
    let Some(wanted) = &config.tasks else {
        let rests = |table| has_rows(store, table);
        if rests(Table::Tasks)? || rests(Table::Webhooks)? {
            tracing::warn!(
                "tasks are off: those of an earlier run rest in the store, with their results and \
                 messages, until tasks are on again"
            );
        }
        return Ok(None);
    };
    let pressure = Arc::clone(&lasting.pressure);
    let tasks = Tasks::open(Arc::clone(store), settings(wanted), pressure, now_ms())?;
    let found = tasks.recovered();
    if found.tasks + found.unreadable > 0 {
        tracing::info!(?found, "tasks of the last run");
    }
    let webhooks = Arc::new(Webhooks::new(Arc::clone(store), &wanted.webhooks)?);
    let waiting = webhooks.figures().waiting;
    if waiting > 0 {
        tracing::info!(waiting, "webhooks of the last run");
    }
    Ok(Some(Offload { tasks, webhooks }))
}

impl Offload {
    /// Takes the policy's word for what comes.
    pub fn follow(&self, config: &Config) {
        if let Some(wanted) = &config.tasks {
            self.tasks.set_settings(settings(wanted));
            self.webhooks.set(&wanted.webhooks);
        }
    }

    /// A worker's part of it, on its thread, for as long as that lives. `first`: of all workers,
    /// the one that tells of ends, for that is done once.
    pub fn begin(&self, worker: &Rc<Worker>, first: bool) {
        tokio::task::spawn_local(work::work(Rc::clone(worker), Arc::clone(&self.tasks)));
        if !first {
            return;
        }
        let (this, drain) = (self.clone(), worker.drain.clone());
        tokio::task::spawn_local(async move {
            tokio::join!(this.webhooks.tell(&this.tasks), this.webhooks.run(&drain));
        });
    }
}

fn has_rows(store: &Store, table: Table) -> Result<bool, StoreError> {
    let mut found = false;
    store.each(table, &[], &[], |_, _| {
        found = true;
        false
    })?;
    Ok(found)
}

fn settings(config: &crate::config::Tasks) -> Settings {
    Settings {
        workers: config.workers,
        per_agent_count: config.per_agent_count,
        per_agent_bytes: config.per_agent_bytes,
        keep: config.keep,
        max_age: config.max_age,
        attempts: config.attempts,
        max_result: config.max_result,
    }
}

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
