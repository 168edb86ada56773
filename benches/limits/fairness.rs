//! How fairly a shared upstream is divided: six agents, one key, sixteen places.
//!
//! One agent sends long batch jobs, one floods with small calls, four call now and then, as people
//! wait for them. Together they offer almost three times what the key allows. Sizes are log-normal
//! around what is typical of each; the four are the light agents of the table.
use crate::engine::{self, Limiter};
use crate::policies::Limit;
use crate::random::Random;
use crate::real::{Rule, Tidegate};
use crate::report::{self, Verdict, index, percent, time};
use crate::seen::{Seen, jain, quantile};
use crate::slots::{Order, Shared};
use crate::workload::{Call, Nanos, SECOND, nanos};
use crate::{Options, SEEDS};

#[derive(Debug, Clone, Copy)]
struct Profile {
    /// Calls a second.
    rate: f64,
    input: f64,
    output: f64,
}

const fn profile(rate: f64, input: f64, output: f64) -> Profile {
    Profile { rate, input, output }
}

const AGENTS: [Profile; 6] = [
    profile(0.50, 2_500.0, 900.0),
    profile(4.00, 120.0, 60.0),
    profile(0.12, 900.0, 350.0),
    profile(0.12, 900.0, 350.0),
    profile(0.06, 1_500.0, 500.0),
    profile(0.03, 400.0, 200.0),
];
const LIGHT: [usize; 4] = [2, 3, 4, 5];
const SLOTS: usize = 16;
/// 60k tokens a minute, with a burst of ten seconds.
const LIMIT: Limit = Limit { rate: 1_000.0, burst: 10_000.0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Others(Order),
    Tidegate,
}

const ALL: [(&str, Who); 5] = [
    ("first come, first served", Who::Others(Order::FirstCome)),
    ("round robin", Who::Others(Order::RoundRobin)),
    ("deficit round robin", Who::Others(Order::Deficit)),
    ("token counters, as published", Who::Others(Order::Counters)),
    ("tidegate", Who::Tidegate),
];

fn calls(seed: u64, end: Nanos) -> Vec<Call> {
    let mut calls = Vec::new();
    for (agent, profile) in AGENTS.iter().enumerate() {
        let mut random = Random::new(&[seed, agent as u64]);
        let mut at = 0;
        loop {
            at += nanos(random.exponential(1.0 / profile.rate));
            if at >= end {
                break;
            }
            let mut size = |typical: f64| (typical * (0.8 * random.normal() - 0.3).exp()) as u64;
            let (input, output) = (size(profile.input).max(1), size(profile.output).max(1));
            let guess = (input as f64 * random.between(0.85, 1.15)) as u64;
            let bound = 16_384;
            let (guess, leaves) = (guess.max(1), None);
            calls.push(Call { id: 0, agent, at, input, guess, output, bound, leaves, turns: 0 });
        }
    }
    calls
}

/// Means over all seeds.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    jain: f64,
    least: f64,
    p50: f64,
    p99: f64,
    refused: f64,
    used: f64,
}

fn simulate(who: Who, seed: u64, end: Nanos) -> Figures {
    let mut seen = Seen::new(LIMIT.rate, LIMIT.burst, end, AGENTS.len());
    let mut limiter: Box<dyn Limiter> = match who {
        Who::Others(order) => Box::new(Shared::new(order, LIMIT, SLOTS, AGENTS.len())),
        Who::Tidegate => {
            let rule = Rule { limit: LIMIT, hard: false, shared: true, at_once: None };
            Box::new(Tidegate::new(&rule, Some(SLOTS), AGENTS.len()))
        }
    };
    engine::run(limiter.as_mut(), calls(seed, end), &|_, _| None, Some(end), &mut seen);
    let shares = seen.shares();
    let waits = seen.waits(&LIGHT);
    let light = |of: fn(&crate::seen::Agent) -> usize| -> f64 {
        LIGHT.iter().map(|agent| of(&seen.agents[*agent])).sum::<usize>() as f64
    };
    Figures {
        jain: jain(&shares),
        least: shares.iter().copied().fold(f64::INFINITY, f64::min),
        // nobody was let go: all have waited to the end
        p50: quantile(&waits, 0.5, 30.0),
        p99: quantile(&waits, 0.99, 30.0),
        refused: light(|agent| agent.refused) / light(|agent| agent.arrived).max(1.0),
        used: seen.used(),
    }
}

pub fn run(options: &Options, verdicts: &mut Vec<Verdict>) -> String {
    let (seeds, end) = (options.seeds(SEEDS), 20 * 60 * SECOND);
    let mut rows = Vec::new();
    for (name, who) in ALL {
        let mut mean = Figures::default();
        for run in (0..seeds).map(|seed| simulate(who, seed, end)) {
            let of = |sum: &mut f64, figure: f64| *sum += figure / seeds as f64;
            of(&mut mean.jain, run.jain);
            of(&mut mean.least, run.least);
            of(&mut mean.p50, run.p50);
            of(&mut mean.p99, run.p99);
            of(&mut mean.refused, run.refused);
            of(&mut mean.used, run.used);
        }
        if who == Who::Tidegate {
            verdicts.push(Verdict::at_most("light agents, wait p50", mean.p50, 3.0, time));
            verdicts.push(Verdict::at_least("Jain index", mean.jain, 0.99, index));
        }
        rows.push(vec![
            name.to_owned(),
            index(mean.jain),
            index(mean.least),
            time(mean.p50),
            time(mean.p99),
            percent(mean.refused),
            percent(mean.used),
        ]);
    }
    let head =
        ["", "Jain", "least share", "light: wait p50", "wait p99", "refused", "all: limit used"];
    let about = "\nSix agents on one key: 16 places, 60k tokens/min, 2.8 times that offered\n";
    format!("{about}{}", report::table(&head, &rows))
}
