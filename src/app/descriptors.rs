//! File descriptors: as many as the system gives, and no more connections than they allow.
//!
//! A call takes two, one on each side; listeners, logs, the store and the admin door take some as
//! well, and must never find them gone. Who comes beyond that waits in the kernel's queue.
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the program needs beside connections, and for each of its workers.
const OURS: u64 = 64;
const A_WORKER: u64 = 8;

/// What the system gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// `None`: no bound.
    pub limit: Option<u64>,
    /// The most connections of clients that it allows.
    pub connections: usize,
}

impl Descriptors {
    /// Raises the process's own limit as far as it may.
    pub fn raise(workers: usize) -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let wanted = Rlimit { current: maximum, maximum };
        let raised = current == maximum || setrlimit(Resource::Nofile, wanted).is_ok();
        let limit = if raised { maximum } else { current };
        Self { limit, connections: connections(limit, workers) }
    }

    /// Says what of the policy cannot be had.
    pub fn check(&self, max_connections: usize) {
        if self.connections < max_connections {
            tracing::warn!(
                descriptors = self.limit,
                max_connections,
                connections = self.connections,
                "there are too few file descriptors for server.max_connections: it is lowered"
            );
        }
    }
}

fn connections(limit: Option<u64>, workers: usize) -> usize {
    let Some(limit) = limit else { return usize::MAX };
    let ours = (OURS + A_WORKER * workers as u64).min(limit / 2);
    usize::try_from((limit - ours) / 2).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_may_have_one_behind_it() {
        assert_eq!(connections(Some(1024), 4), (1024 - 64 - 32) / 2);
        assert_eq!(connections(Some(20_100), 2), 10_010);
        assert_eq!(connections(None, 4), usize::MAX);
    }

    #[test]
    fn few_descriptors_are_shared_out_all_the_same() {
        assert_eq!(connections(Some(64), 64), 16);
        assert_eq!(connections(Some(1), 1), 1);
        assert_eq!(connections(Some(0), 1), 1);
    }

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        let raised = Descriptors::raise(1);
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(raised.limit, now.maximum);
    }
}
