//! What they got who look on while the load runs: a page its events, a collector its spans and points.
//! One that got nothing has cost nothing, and would pass for cheap.
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::peers::Running;
use crate::process::pause;

/// Metrics are reported once a minute.
const PATIENCE: Duration = Duration::from_secs(75);

#[derive(Debug, Clone)]
pub struct Taken {
    what: &'static str,
    many: Arc<AtomicU64>,
}

impl Taken {
    pub fn new(what: &'static str) -> Self {
        Self { what, many: Arc::default() }
    }

    pub fn one(&self) {
        self.many.fetch_add(1, Ordering::Relaxed);
    }

    fn many(&self) -> u64 {
        self.many.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.many(), self.what)
    }
}

/// Waits until each has got something; how much goes into the notes.
pub fn told(running: &[Running], notes: &mut Vec<String>) -> anyhow::Result<()> {
    let begun = Instant::now();
    let lacks = |one: &&Running| one.onlookers.iter().any(|taken| taken.many() == 0);
    while running.iter().any(|one| lacks(&one)) && begun.elapsed() < PATIENCE {
        pause(Duration::from_millis(100));
    }
    for one in running.iter().filter(|one| !one.onlookers.is_empty()) {
        let got: Vec<String> = one.onlookers.iter().map(ToString::to_string).collect();
        notes.push(format!("beside {}: {}", one.peer.name, got.join(", ")));
    }
    let unseen: Vec<&str> = running.iter().filter(lacks).map(|one| one.peer.name).collect();
    ensure!(unseen.is_empty(), "nothing came from {}: see the notes", unseen.join(", "));
    Ok(())
}
