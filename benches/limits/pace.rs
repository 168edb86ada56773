//! Pacing before a provider's refusals: the real `Pace` on a virtual clock, beside what others do.
//!
//! A discrete-event simulation with fixed seeds: the same figures each time. Calls
//! ([`workload`]) come to one queue, first come, first served, and fail after a minute in it; a
//! refused call goes back to its head. The queue asks its [`policy`] before each call goes to the
//! [`backend`]. A refusal is back after 80 ms, a first byte after 300 ms and the prompt at 8,000
//! tokens a second, give or take a quarter; answers come at 60 tokens a second.
//!
//! In one queue a large call holds up those behind it, and the SDKs' calls, each for itself, slip
//! past: at load 0.8 they wait less than anyone in it. So our wait is judged by the oracle's in the
//! same queue. A 99th percentile of few seeds is noise: with three that target is missed by 36 ms.
mod backend;
mod policy;
mod workload;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Write};

use tidegate::limits::pace::Need;

use self::backend::{Backend, REFILL, RESERVED, Verdict};
use self::policy::{Kind, Policy, Trace};
use self::workload::{Call, Random};

/// Simulated seconds, and what is then given to those on their way.
const LENGTH: f64 = 1_800.0;
const LONGEST_WAIT: f64 = 60.0;
const RETRIES: u32 = 4;
const REFUSAL: f64 = 0.08;
const SPEED: f64 = 60.0;

/// What the table is judged by.
const MOST_REFUSED: f64 = 0.09;
const LEAST_GOODPUT: f64 = 0.99;
/// Seconds of waiting beyond what the bucket itself makes one wait, at the median and the 99th
/// percentile: nothing, to the eye.
const ADDED_P50: f64 = 0.001;
const ADDED_P99: f64 = 0.5;

/// Mean figures of the seeds.
#[derive(Debug, Default, Clone, Copy)]
struct Figures {
    refused: f64,
    attempts: f64,
    goodput: f64,
    failed: f64,
    latency: [f64; 2],
    wait: [f64; 2],
}

struct Scenario {
    name: &'static str,
    load: f64,
    others: [f64; 2],
    /// Whether the head of an answer comes before its body is made.
    streamed: bool,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "load 0.8, alone", load: 0.8, others: [0.0, 0.0], streamed: true },
    Scenario { name: "load 1.4, alone", load: 1.4, others: [0.0, 0.0], streamed: true },
    Scenario {
        name: "load 1.4, others take 0 and 50 % in turn",
        load: 1.4,
        others: [0.0, 0.5],
        streamed: true,
    },
    Scenario {
        name: "the same, and no answer is streamed",
        load: 1.4,
        others: [0.0, 0.5],
        streamed: false,
    },
];

/// Prints the tables; whether every target was reached.
pub fn run(seeds: u64, out: &mut dyn Write) -> io::Result<bool> {
    let mut reached = true;
    for scenario in &SCENARIOS {
        writeln!(out, "\nPacing: {}; 100,000 tokens/min, {seeds} seeds", scenario.name)?;
        writeln!(
            out,
            "{:<31} {:>6} {:>9} {:>8} {:>7} {:>13} {:>13}",
            "", "429s", "attempts", "goodput", "failed", "latency", "wait"
        )?;
        writeln!(
            out,
            "{:<31} {:>6} {:>9} {:>8} {:>7} {:>6} {:>6} {:>6} {:>6}",
            "", "%", "/success", "tok/s", "%", "p50 s", "p99 s", "p50 s", "p99 s"
        )?;
        let rows = Kind::ALL.map(|kind| (kind, mean(scenario, kind, seeds)));
        for (kind, figures) in &rows {
            row(out, kind.name(), figures)?;
        }
        reached &= judge(out, scenario, &rows)?;
    }
    Ok(reached)
}

fn row(out: &mut dyn Write, name: &str, of: &Figures) -> io::Result<()> {
    writeln!(
        out,
        "{name:<31} {:>6.1} {:>9.2} {:>8.0} {:>7.1} {:>6.1} {:>6.1} {:>6.1} {:>6.1}",
        of.refused * 100.0,
        of.attempts,
        of.goodput,
        of.failed * 100.0,
        of.latency[0],
        of.latency[1],
        of.wait[0],
        of.wait[1],
    )
}

fn judge(out: &mut dyn Write, scenario: &Scenario, rows: &[(Kind, Figures)]) -> io::Result<bool> {
    let of = |kind| rows.iter().find(|row| row.0 == kind).map_or(Figures::default(), |row| row.1);
    let ours = of(Kind::Learned);
    let mut all = true;
    let mut say = |reached: bool, what: String| {
        all &= reached;
        writeln!(out, "  {} {what}", if reached { "PASS" } else { "FAIL" })
    };
    if scenario.load < 1.0 {
        for (at, most, name) in [(0, ADDED_P50, "median"), (1, ADDED_P99, "99th percentile")] {
            let added = ours.wait[at] - of(Kind::Oracle).wait[at];
            say(
                added <= most,
                format!("{name} wait beyond the oracle's: {added:.3} s, ≤ {most} s"),
            )?;
        }
        return Ok(all);
    }
    let refused = ours.refused * 100.0;
    say(
        ours.refused <= MOST_REFUSED,
        format!("429s {refused:.1} %, ≤ {:.0} %", MOST_REFUSED * 100.0),
    )?;
    let sighted = rows.iter().filter(|row| row.0 != Kind::Oracle);
    let best = sighted.map(|row| row.1.goodput).fold(0.0, f64::max);
    let share = ours.goodput / best * 100.0;
    let least = LEAST_GOODPUT * 100.0;
    say(
        share >= least,
        format!("goodput {share:.1} % of the best that sees headers only, ≥ {least:.0} %"),
    )?;
    Ok(all)
}

fn mean(scenario: &Scenario, kind: Kind, seeds: u64) -> Figures {
    let mut sum = Figures::default();
    for seed in 0..seeds {
        let one = Simulation::new(scenario, kind, seed).run();
        sum.refused += one.refused;
        sum.attempts += one.attempts;
        sum.goodput += one.goodput;
        sum.failed += one.failed;
        for at in 0..2 {
            sum.latency[at] += one.latency[at];
            sum.wait[at] += one.wait[at];
        }
    }
    let share = |sum: f64| sum / seeds.max(1) as f64;
    Figures {
        refused: share(sum.refused),
        attempts: share(sum.attempts),
        goodput: share(sum.goodput),
        failed: share(sum.failed),
        latency: sum.latency.map(share),
        wait: sum.wait.map(share),
    }
}

/// What happens next; the number is the call's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    Retries(usize),
    Polls,
    Heard(usize),
    Ends(usize),
}

/// A call's fate so far.
#[derive(Debug, Default)]
struct Fate {
    tries: u32,
    sent_at: f64,
    way: Option<(Trace, Verdict)>,
}

struct Simulation {
    calls: Vec<Call>,
    fates: Vec<Fate>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    queue: VecDeque<usize>,
    backend: Backend,
    policy: Policy,
    streamed: bool,
    random: Random,
    attempts: u64,
    refused: u64,
    tokens: u64,
    failed: u64,
    latencies: Vec<f64>,
    waits: Vec<f64>,
}

impl Simulation {
    fn new(scenario: &Scenario, kind: Kind, seed: u64) -> Self {
        let calls = workload::calls(seed, LENGTH, scenario.load * REFILL);
        let mut simulation = Self {
            fates: calls.iter().map(|_| Fate::default()).collect(),
            calls,
            events: BinaryHeap::new(),
            number: 0,
            queue: VecDeque::new(),
            backend: Backend::new(scenario.others),
            policy: Policy::new(kind, seed),
            streamed: scenario.streamed,
            random: Random::new(seed ^ 0x5eed),
            attempts: 0,
            refused: 0,
            tokens: 0,
            failed: 0,
            latencies: Vec::new(),
            waits: Vec::new(),
        };
        for which in 0..simulation.calls.len() {
            simulation.at(simulation.calls[which].arrives, Event::Arrives(which));
        }
        simulation
    }

    /// Microseconds order the events, and their number where these are equal.
    fn at(&mut self, when: f64, event: Event) {
        self.number += 1;
        self.events.push(Reverse(((when * 1e6).ceil() as u64, self.number, event)));
    }

    fn run(mut self) -> Figures {
        while let Some(Reverse((micros, _, event))) = self.events.pop() {
            let now = micros as f64 / 1e6;
            if now > LENGTH + LONGEST_WAIT {
                break;
            }
            match event {
                Event::Arrives(which) if self.policy.kind == Kind::Sdk => self.send(which, now),
                Event::Arrives(which) => {
                    self.queue.push_back(which);
                    self.drain(now);
                }
                Event::Retries(which) => self.send(which, now),
                Event::Polls => self.drain(now),
                Event::Heard(which) => self.heard(which, now),
                Event::Ends(which) => self.ends(which, now),
            }
        }
        self.figures()
    }

    fn need(&self, which: usize) -> Need {
        Need { input_tokens: self.calls[which].input, output_tokens: RESERVED }
    }

    fn drain(&mut self, now: f64) {
        while let Some(&which) = self.queue.front() {
            let arrived = self.calls[which].arrives;
            if now - arrived > LONGEST_WAIT {
                self.failed += 1;
                self.queue.pop_front();
                continue;
            }
            match self.policy.ready(self.need(which), &mut self.backend, now) {
                Ok(()) => {
                    self.queue.pop_front();
                    self.send(which, now);
                }
                Err(again) => {
                    let again = again.max(now + 1e-6).min(arrived + LONGEST_WAIT + 1e-3);
                    self.at(again, Event::Polls);
                    return;
                }
            }
        }
    }

    fn send(&mut self, which: usize, now: f64) {
        let need = self.need(which);
        let trace = self.policy.sent(need, now);
        let verdict = self.backend.ask(need.input_tokens + need.output_tokens, now);
        self.attempts += 1;
        let fate = &mut self.fates[which];
        fate.tries += 1;
        fate.sent_at = now;
        fate.way = Some((trace, verdict));
        if !verdict.admitted {
            self.at(now + REFUSAL, Event::Heard(which));
            return;
        }
        let first =
            now + 0.3 + need.input_tokens as f64 / 8_000.0 * self.random.between(0.75, 1.25);
        let end = first + self.calls[which].output as f64 / SPEED;
        self.at(if self.streamed { first } else { end }, Event::Heard(which));
        self.at(end, Event::Ends(which));
    }

    fn heard(&mut self, which: usize, now: f64) {
        let Some((mut trace, verdict)) = self.fates[which].way.take() else { return };
        self.policy.heard(&mut trace, &verdict.quota, !verdict.admitted, now);
        if verdict.admitted {
            self.fates[which].way = Some((trace, verdict));
        } else {
            self.refused += 1;
            self.policy.finished(trace, None, now);
            self.refused_again(which, now);
        }
        self.drain(now);
    }

    fn refused_again(&mut self, which: usize, now: f64) {
        if self.policy.kind != Kind::Sdk {
            self.queue.push_front(which);
            return;
        }
        let tries = self.fates[which].tries;
        if tries > RETRIES {
            self.failed += 1;
            return;
        }
        let pause = (0.5 * f64::from(1 << (tries - 1))).min(8.0) * self.random.between(0.75, 1.0);
        self.at(now + pause, Event::Retries(which));
    }

    fn ends(&mut self, which: usize, now: f64) {
        let call = self.calls[which];
        let Some((trace, _)) = self.fates[which].way.take() else { return };
        self.backend.settle(call.output, now);
        let used = Need { input_tokens: call.input, output_tokens: call.output };
        self.policy.finished(trace, Some(used), now);
        self.latencies.push(now - call.arrives);
        self.waits.push(self.fates[which].sent_at - call.arrives);
        if now <= LENGTH {
            self.tokens += call.input + call.output;
        }
        self.drain(now);
    }

    fn figures(mut self) -> Figures {
        let done = self.latencies.len() as f64;
        Figures {
            refused: self.refused as f64 / self.attempts as f64,
            attempts: self.attempts as f64 / done,
            goodput: self.tokens as f64 / LENGTH,
            failed: self.failed as f64 / (done + self.failed as f64),
            latency: [quantile(&mut self.latencies, 0.5), quantile(&mut self.latencies, 0.99)],
            wait: [quantile(&mut self.waits, 0.5), quantile(&mut self.waits, 0.99)],
        }
    }
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(((values.len() as f64 * share) as usize).min(last)).copied().unwrap_or_default()
}
