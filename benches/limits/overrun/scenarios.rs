//! The loads and the limits of the overrun tables.
use crate::policies::Limit;
use crate::workload::{Family, Sessions, Shape};

/// One load and one limit.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub shape: Shape,
    pub limit: Limit,
    /// Times what the limit allows.
    pub load: f64,
    /// Calls that all come at the first moment.
    pub burst: usize,
}

pub const AGENT_SIZED: &str = "agent-sized";
pub const TIGHT: &str = "tight";
pub const COLD_BURST: &str = "cold burst";

const CHAT: Shape =
    Shape { family: Family::Arena, scale: 1.0, heavy: 0.02, leave: 0.0, sessions: None };
const AGENT: Shape = Shape { scale: 4.0, ..CHAT };
const PER_MINUTE: Limit = Limit { rate: 40_000.0 / 60.0, burst: 40_000.0 };

pub fn all() -> Vec<Scenario> {
    let agent = Scenario {
        name: AGENT_SIZED,
        about: "sizes x4, 40k tokens/min, burst of a minute, load x1.5",
        shape: AGENT,
        limit: PER_MINUTE,
        load: 1.5,
        burst: 0,
    };
    let sessions = Sessions { mean_turns: 6.0, mean_pause: 3.0, context: 24_000 };
    vec![
        agent,
        Scenario {
            name: "small key",
            about: "sizes x1, 10k tokens/min, burst of a minute, load x1.5",
            shape: CHAT,
            limit: Limit { rate: 10_000.0 / 60.0, burst: 10_000.0 },
            ..agent
        },
        Scenario {
            name: TIGHT,
            about: "sizes x4, 40k tokens/min, burst of ten seconds, load x1.5",
            limit: Limit { burst: PER_MINUTE.rate * 10.0, ..PER_MINUTE },
            ..agent
        },
        Scenario {
            name: "disconnects",
            about: "agent-sized; 15 % of the clients leave at 95 % of the answer",
            shape: Shape { leave: 0.15, ..AGENT },
            ..agent
        },
        Scenario {
            name: COLD_BURST,
            about: "agent-sized, load x0.5, and 40 calls at the first moment with no history",
            load: 0.5,
            burst: 40,
            ..agent
        },
        Scenario {
            name: "sessions",
            about: "sizes x2, six turns a session, each prompt holds the turns before it",
            shape: Shape { scale: 2.0, sessions: Some(sessions), ..CHAT },
            ..agent
        },
        Scenario {
            name: "azure chat",
            about: "agent-sized, with the sizes of the Azure conversation trace",
            shape: Shape { family: Family::AzureConversation, ..AGENT },
            ..agent
        },
        Scenario {
            name: "azure code",
            about: "agent-sized, with the sizes of the Azure code trace",
            shape: Shape { family: Family::AzureCode, ..AGENT },
            ..agent
        },
    ]
}
