//! What admission costs: a call asks and is settled, among ten thousand live agents with five limits
//! each. Time is this thread's on a CPU, so that what else runs counts little; allocations are counted
//! by the allocator itself.
//!
//! "The book" is its arithmetic alone, "with its lock and clock" what the pipeline calls. Agents are
//! taken in an order that no cache can guess, as calls come.
use std::alloc::System;
use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tidegate::config::{Limit, Measure, Mode, Per, Policy, Window};
use tidegate::identity::Identity;
use tidegate::limits::Limits;
use tidegate::limits::book::{Book, Decision, End, Fate, PoolId, PoolRule};
use tidegate::limits::bucket::Moment;
use tidegate::limits::rules::Rules;
use tidegate::telemetry::metrics::Metrics;
use tidegate::wire::Usage;

use crate::Options;
use crate::random::Random;
use crate::real::{ask, identity};
use crate::report::{self, Verdict};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

const AGENTS: usize = 10_000;
/// Pairs in a round.
const PAIRS: usize = 50_000;
const MOST_NANOS: f64 = 2_000.0;
/// What a call holds while it runs is one box; its lists are used again.
const MOST_ALLOCATIONS: f64 = 1.0;

fn policy() -> Policy {
    let limit = |measure: Measure, amount: i64, mode| Limit {
        measure,
        amount: amount * measure.scale(),
        window: Window::Rate(Duration::from_mins(1)),
        burst: None,
        mode,
    };
    let at_once = Limit {
        measure: Measure::Concurrency,
        amount: 64,
        window: Window::Now,
        burst: None,
        mode: Mode::Soft,
    };
    let limits = vec![
        limit(Measure::Requests, 1_000_000, Mode::Soft),
        limit(Measure::InputTokens, 1_000_000_000, Mode::Soft),
        limit(Measure::OutputTokens, 1_000_000_000, Mode::Soft),
        limit(Measure::Tokens, 1_000_000_000, Mode::Soft),
        at_once,
    ];
    Policy { per: Per::Agent, limits, ..Policy::default() }
}

/// The policy, and an upstream with places for all.
fn open(book: &mut Book, now: Moment) -> PoolId {
    let wait = Duration::from_secs(30);
    let upstream = PoolRule { name: "upstream".into(), slots: Some(1_000), pacing: None, wait };
    let pool = book.pool_of(&upstream.name);
    book.apply(Arc::new(Rules::prepare(&[policy()], &Metrics::new())), [upstream], [], now);
    pool
}

fn end() -> End {
    let usage = Usage { input: 500, output: 250, ..Usage::default() };
    End {
        fate: Fate::Answered,
        usage: Some(usage),
        produced: 250,
        complete: true,
        first_token: Some(Duration::from_millis(600)),
        generating: Some(Duration::from_secs(4)),
        elapsed: Duration::from_secs(5),
    }
}

/// Of one pair.
#[derive(Debug, Clone, Copy)]
struct Cost {
    nanos: f64,
    allocations: f64,
}

/// Nanoseconds of this thread on a CPU, or those of the clock where no kernel tells.
fn time() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let on_cpu = told.and_then(|told| told.split(' ').next()?.parse().ok());
    on_cpu.unwrap_or_else(|| BEGIN.elapsed().as_nanos() as f64)
}

/// The median of the rounds; the first only warms up.
fn measure(rounds: usize, order: &[usize], mut pair: impl FnMut(usize)) -> Cost {
    let mut round = || {
        let begin = time();
        let region = Region::new(COUNTED);
        for agent in order {
            pair(*agent);
        }
        let change = region.change();
        let nanos = (time() - begin) / order.len() as f64;
        let allocations = (change.allocations + change.reallocations) as f64;
        Cost { nanos, allocations: allocations / order.len() as f64 }
    };
    round();
    let mut all: Vec<Cost> = (0..rounds).map(|_| round()).collect();
    all.sort_by(|one, other| one.nanos.total_cmp(&other.nanos));
    all[all.len() / 2]
}

/// The book alone; time goes on by itself.
fn book(rounds: usize, agents: &[Identity], order: &[usize]) -> Cost {
    let mut book = Book::new();
    let mut now = Moment { at: 0, wall: 1_800_000_000 };
    let pool = open(&mut book, now);
    let end = end();
    measure(rounds, order, |agent| {
        now.at += 10_000;
        match book.ask(&ask(&agents[agent], pool, 2_000, 1_000), now) {
            Decision::Go(grant) => drop(black_box(book.settle(grant, &end, now))),
            other => drop(black_box(other)),
        }
    })
}

/// As the pipeline has it: two locks, two looks at the clock.
fn whole(rounds: usize, agents: &[Identity], order: &[usize]) -> Cost {
    let limits = Limits::new();
    let pool = limits.with(open);
    let end = end();
    measure(rounds, order, |agent| {
        match limits.with(|book, now| book.ask(&ask(&agents[agent], pool, 2_000, 1_000), now)) {
            Decision::Go(grant) => {
                black_box(limits.with(|book, now| book.settle(grant, &end, now)));
            }
            other => drop(black_box(other)),
        }
    })
}

pub fn run(options: &Options, verdicts: &mut Vec<Verdict>) -> String {
    let rounds = if options.quick { 5 } else { 15 };
    let agents: Vec<Identity> = (0..AGENTS).map(identity).collect();
    let mut random = Random::new(&[1]);
    let one = |_| (random.uniform() * AGENTS as f64) as usize;
    let order: Vec<usize> = (0..PAIRS).map(one).collect();
    let costs = [
        ("the book", book(rounds, &agents, &order)),
        ("with its lock and clock", whole(rounds, &agents, &order)),
    ];
    let row = |(name, cost): &(&str, Cost)| {
        vec![(*name).to_owned(), nanos(cost.nanos), count(cost.allocations)]
    };
    let rows: Vec<_> = costs.iter().map(row).collect();
    let (_, worst) = costs[1];
    verdicts.push(Verdict::at_most("ask and settle, time", worst.nanos, MOST_NANOS, nanos));
    let what = "ask and settle, allocations";
    verdicts.push(Verdict::at_most(what, worst.allocations, MOST_ALLOCATIONS, count));
    let about = "\nAsk and settle at 10,000 live agents, five limits each\n";
    format!("{about}{}", report::table(&["", "time", "allocations"], &rows))
}

fn nanos(nanos: f64) -> String {
    format!("{nanos:.0} ns")
}

fn count(allocations: f64) -> String {
    format!("{allocations:.2}")
}
