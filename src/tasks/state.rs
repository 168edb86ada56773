//! The states of a task, and the one table of what may follow what.
//!
//! `queued → running → succeeded | failed | cancelled | expired | interrupted`, with
//! `running → retry_wait → running`, and `cancelling` between the cancel of a task whose answer is
//! being made and its end. The last five are terminal: nothing follows them.
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Queued,
    Running,
    /// An attempt has failed, or was lost with the process; another follows.
    RetryWait,
    /// To be cancelled, and its answer still being made: here, or where it is held.
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
    /// Not done within its age.
    Expired,
    /// Lost with the process, and not to be repeated.
    Interrupted,
}

impl State {
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Running,
        Self::RetryWait,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Interrupted,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::RetryWait => "retry_wait",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Interrupted => "interrupted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub fn is_terminal(self) -> bool {
        self >= Self::Succeeded
    }

    /// Whether it waits for a place to run.
    pub fn is_waiting(self) -> bool {
        matches!(self, Self::Queued | Self::RetryWait)
    }

    pub fn may_become(self, next: Self) -> bool {
        use State::{
            Cancelled, Cancelling, Expired, Failed, Interrupted, Queued, RetryWait, Running,
            Succeeded,
        };
        match self {
            // failed: what it needs was lost with the process
            Queued => matches!(next, Running | Cancelled | Expired | Failed),
            // queued: given back before any of it was made
            Running => {
                matches!(next, Queued | RetryWait | Cancelling)
                    || matches!(next, Succeeded | Failed | Cancelled | Expired | Interrupted)
            }
            // cancelling: its answer is made elsewhere
            RetryWait => {
                matches!(next, Running | Cancelling)
                    || matches!(next, Cancelled | Expired | Failed | Interrupted)
            }
            Cancelling => next == Cancelled,
            Succeeded | Failed | Cancelled | Expired | Interrupted => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From each, in the order of [`State::ALL`].
    const TABLE: [&str; 9] = [
        "·R···FCX·", // queued
        "Q·WKSFCXI", // running
        "·R·K·FCXI", // retry_wait
        "······C··", // cancelling
        "·········", // succeeded
        "·········", // failed
        "·········", // cancelled
        "·········", // expired
        "·········", // interrupted
    ];

    #[test]
    fn every_transition_of_the_table() {
        for (from, row) in State::ALL.into_iter().zip(TABLE) {
            for (to, sign) in State::ALL.into_iter().zip(row.chars()) {
                assert_eq!(from.may_become(to), sign != '·', "{from:?} → {to:?}");
            }
            assert_eq!(from.is_terminal(), row.chars().all(|sign| sign == '·'), "{from:?}");
            assert_eq!(State::parse(from.as_str()), Some(from));
            let json = serde_json::to_string(&from).unwrap();
            assert_eq!(json, format!("\"{}\"", from.as_str()));
        }
        assert_eq!(State::parse("done"), None);
    }
}
