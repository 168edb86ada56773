//! How exactly a token limit is held: one agent, one limit, more load than it allows.
use std::fmt::Write as _;

use crate::Options;
use crate::engine::{self, Limiter};
use crate::policies::{Clamp, Held, Limit, Line, PostHoc, Reserve, Reserved};
use crate::report::{self, Verdict, percent, time};
use crate::seen::{Seen, quantile};
use crate::workload::{Family, Nanos, SECOND, Sessions, Shape, nanos};

/// Who holds the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    PostHoc,
    Clamp,
    Input,
    MaxTokens,
    Likely,
    HeldInFull,
    RateAware,
}

const ALL: [Who; 7] = [
    Who::PostHoc,
    Who::Clamp,
    Who::Input,
    Who::MaxTokens,
    Who::Likely,
    Who::HeldInFull,
    Who::RateAware,
];

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::PostHoc => "post-hoc counter",
            Self::Clamp => "clamp at zero",
            Self::Input => "reserve input",
            Self::MaxTokens => "reserve max_tokens",
            Self::Likely => "reserve q80, ticks",
            Self::HeldInFull => "held in full",
            Self::RateAware => "rate-aware, formula",
        }
    }

    fn build(self, limit: Limit) -> Box<dyn Limiter> {
        let reserve = |what| Box::new(Line::new(Reserve::new(limit, what)));
        match self {
            Self::PostHoc => Box::new(Line::new(PostHoc::new(limit))),
            Self::Clamp => Box::new(Line::new(Clamp::new(limit))),
            Self::Input => reserve(Reserved::Input),
            Self::MaxTokens => reserve(Reserved::MaxTokens),
            Self::Likely => reserve(Reserved::Likely),
            Self::HeldInFull => Box::new(Line::new(Held::new(limit, false))),
            Self::RateAware => Box::new(Line::new(Held::new(limit, true))),
        }
    }
}

/// One load and one limit.
struct Scenario {
    name: &'static str,
    about: &'static str,
    shape: Shape,
    limit: Limit,
    /// Times what the limit allows.
    load: f64,
    /// Calls that all come at the first moment.
    burst: usize,
}

const CHAT: Shape =
    Shape { family: Family::Arena, scale: 1.0, heavy: 0.02, leave: 0.0, sessions: None };
const AGENT: Shape = Shape { scale: 4.0, ..CHAT };
const PER_MINUTE: Limit = Limit { rate: 40_000.0 / 60.0, burst: 40_000.0 };

fn scenarios() -> Vec<Scenario> {
    let agent = Scenario {
        name: "agent-sized",
        about: "sizes x4, 40k tokens/min, burst of a minute, load x1.5",
        shape: AGENT,
        limit: PER_MINUTE,
        load: 1.5,
        burst: 0,
    };
    let sessions = Sessions { mean_turns: 6.0, mean_pause: 3.0, context: 24_000 };
    vec![
        Scenario {
            name: "small key",
            about: "sizes x1, 10k tokens/min, burst of a minute, load x1.5",
            shape: CHAT,
            limit: Limit { rate: 10_000.0 / 60.0, burst: 10_000.0 },
            ..agent
        },
        Scenario {
            name: "tight",
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
            name: "cold burst",
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
        agent,
    ]
    .into_iter()
    .rev()
    .collect()
}

/// The worst overshoot of all seeds; else means.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Figures {
    overshoot: f64,
    used: f64,
    drained: f64,
    done: f64,
    refused: f64,
    p50: f64,
    p99: f64,
}

fn simulate(scenario: &Scenario, who: Who, seed: u64, end: Nanos) -> Figures {
    let Scenario { shape, limit, load, burst, .. } = scenario;
    let rate = load * limit.rate / shape.mean();
    let calls = shape.calls(seed, 0, rate, *burst, end);
    let mut seen = Seen::new(limit.rate, limit.burst, end, 1);
    let mut limiter = who.build(*limit);
    let follow = |call: &_, now| shape.next_turn(seed, call, now).filter(|next| next.at < end);
    engine::run(limiter.as_mut(), calls, &follow, None, &mut seen);
    let waits = seen.waits(&[0]);
    Figures {
        overshoot: seen.overshoot(),
        used: seen.used(),
        drained: seen.used_to_the_last(),
        done: seen.done as f64,
        refused: seen.refusals(),
        p50: quantile(&waits, 0.5, 0.0),
        p99: quantile(&waits, 0.99, 0.0),
    }
}

fn all_seeds(scenario: &Scenario, who: Who, seeds: u64, end: Nanos) -> Figures {
    let mut sum = Figures::default();
    for seed in 0..seeds {
        let run = simulate(scenario, who, seed, end);
        sum.overshoot = sum.overshoot.max(run.overshoot);
        sum.used += run.used / seeds as f64;
        sum.drained += run.drained / seeds as f64;
        sum.done += run.done / seeds as f64;
        sum.refused += run.refused / seeds as f64;
        sum.p50 += run.p50 / seeds as f64;
        sum.p99 += run.p99 / seeds as f64;
    }
    sum
}

pub fn run(options: &Options, verdicts: &mut Vec<Verdict>) -> String {
    let end = nanos(options.minutes() * 60.0);
    let mut text = String::new();
    for scenario in scenarios() {
        let _ = writeln!(text, "\n{}: {}", scenario.name, scenario.about);
        let mut rows = Vec::new();
        for who in ALL {
            let figures = all_seeds(&scenario, who, options.seeds(), end);
            let Figures { overshoot, used, drained, done, refused, p50, p99 } = figures;
            rows.push(vec![
                who.name().to_owned(),
                percent(overshoot),
                percent(used),
                percent(drained),
                format!("{done:.0}"),
                percent(refused),
                time(p50),
                time(p99),
            ]);
        }
        let head =
            ["", "overshoot", "used", "and drained", "done", "refused", "wait p50", "wait p99"];
        text += &report::table(&head, &rows);
    }
    let _ = (SECOND, verdicts);
    text
}
