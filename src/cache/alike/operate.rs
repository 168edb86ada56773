//! What an operator sees of likeness, and takes out of it.
//!
//! A purge is complete for what was put in before it: it looks at each row of each partition.
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::quarantine::Ban;
use super::rows::{Row, Rows};
use super::standing::Learnt;
use super::table::Partition;
use super::{Alike, millis};
use crate::cache::{Filter, Key};

/// What all of it takes and has done.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub budget: u64,
    /// About.
    pub bytes: u64,
    /// Partitions that had to go for others.
    pub given_up: u64,
    /// By name.
    pub policies: Vec<PolicyFigures>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PolicyFigures {
    pub policy: Arc<str>,
    pub partitions: usize,
    pub questions: usize,
    pub learnt: Learnt,
}

impl Alike {
    /// Digits of a key that [`Alike::wrong`] asks for: fewer could mean anybody's entry.
    pub const LEAST_DIGITS: usize = 8;

    /// An operator says that answers whose key begins so, in hexadecimal, were wrong: they are found
    /// by their exact key alone from now on. How many those were; none for less than
    /// [`Alike::LEAST_DIGITS`].
    pub fn wrong(&self, entry: &str) -> usize {
        if entry.len() < Self::LEAST_DIGITS || !entry.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return 0;
        }
        let mut all = 0;
        for (_, partition) in self.table.all() {
            let meant = |row: &&Row| row.entry.begins_with(entry);
            let named: Vec<Key> =
                partition.read(|rows| rows.entries().filter(meant).map(|row| row.entry).collect());
            for entry in named {
                if self.table.ban(entry, Ban::Both) {
                    partition.standing.count(|counts| {
                        counts.quarantined += 1;
                        counts.reported += 1;
                    });
                }
                self.table.write(&partition, |rows| rows.remove(&entry));
                all += 1;
            }
        }
        all
    }

    /// An operator gives up what a policy's threshold learnt. Whether there is such a policy.
    pub fn reset(&self, policy: &str) -> bool {
        let standing = self.table.standing(policy);
        standing.inspect(|standing| standing.reset()).is_some()
    }

    /// Takes questions out; how many those were.
    pub fn purge(&self, filter: &Filter, now: SystemTime) -> usize {
        let now = millis(now);
        let of_policy = |partition: &Partition| {
            let name = partition.standing.policy();
            filter.policy.as_deref().is_none_or(|glob| crate::units::glob_matches(glob, name))
        };
        let meant = |row: &Row| {
            let age = Duration::from_millis(now.saturating_sub(row.kept));
            filter.takes(&row.entry, &row.author, age)
        };
        self.remove_if(of_policy, meant)
    }

    /// The entry is not there any more.
    pub fn forget(&self, partition: &Key, entry: &Key) {
        if let Some(partition) = self.table.peek(partition) {
            self.table.write(&partition, |rows| rows.remove(entry));
        }
    }

    /// Takes out what is past its time, and partitions that are empty. Looks at every row; not for an
    /// I/O thread.
    pub fn sweep(&self, now: SystemTime) -> usize {
        let now = millis(now);
        self.remove_if(|_| true, |row| row.until <= now)
    }

    fn remove_if(
        &self,
        partitions: impl Fn(&Partition) -> bool,
        rows: impl Fn(&Row) -> bool,
    ) -> usize {
        let all = self.table.all();
        let meant = all.iter().filter(|(_, partition)| partitions(partition));
        let removed = meant.filter_map(|(_, partition)| {
            self.table.write(partition, |inside| inside.remove_if(&rows))
        });
        let removed = removed.sum();
        self.table.tidy();
        removed
    }

    pub fn figures(&self) -> Figures {
        let mut policies: Vec<_> = self
            .table
            .standings()
            .iter()
            .map(|standing| PolicyFigures {
                policy: standing.policy().clone(),
                partitions: 0,
                questions: 0,
                learnt: standing.learnt(),
            })
            .collect();
        policies.sort_by(|a, b| a.policy.cmp(&b.policy));
        for (_, partition) in self.table.all() {
            let name = partition.standing.policy();
            if let Ok(at) = policies.binary_search_by(|figures| figures.policy.cmp(name)) {
                policies[at].partitions += 1;
                policies[at].questions += partition.read(Rows::len);
            }
        }
        Figures {
            budget: self.table.budget(),
            bytes: self.table.bytes(),
            given_up: self.table.given_up(),
            policies,
        }
    }
}
