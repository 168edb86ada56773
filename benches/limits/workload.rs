//! The load: who calls when, with how many tokens. Ours; only the sizes come from elsewhere.
//!
//! Sizes are drawn from the quantiles of published traces, with straight lines (in logarithms)
//! between them: a log-normal of the same mean misses the two humps that all of them have. Input and
//! output are tied by a Gaussian copula with the trace's own correlation. Scaled for agents, and with
//! a heavy tail, where a scenario says so. A call is drawn whole before the run: what a policy does
//! changes nothing in what comes next, so that all policies see the same load.
//!
//! Arrivals are a Poisson process. With sessions, the next turn comes when the last is answered and
//! a tool has run; its prompt holds all that was said before.
use clap::ValueEnum;

use crate::random::{Random, below};

/// Virtual time.
pub type Nanos = u64;

pub const SECOND: Nanos = 1_000_000_000;

pub fn nanos(seconds: f64) -> Nanos {
    (seconds * SECOND as f64) as Nanos
}

pub fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

/// One call, as it will turn out. What a policy may know of it: all but `output` and `leaves`.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Its place in the run.
    pub id: usize,
    pub agent: usize,
    pub at: Nanos,
    /// Tokens of the prompt, as the backend counts them.
    pub input: u64,
    /// The same, as far as can be told from its bytes.
    pub guess: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// `max_tokens`.
    pub bound: u64,
    /// The client goes away after so many tokens.
    pub leaves: Option<u64>,
    /// Turns of its session still to come.
    pub turns: u32,
}

/// Where the sizes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// 1,500 calls to Chatbot Arena (LMSYS), as published with "Fairness in Serving Large Language
    /// Models" (Sheng et al., OSDI 2024): on average 136 tokens in, 256 out
    Arena,
    /// Azure LLM inference trace 2023, conversation (Patel et al., "Splitwise", ISCA 2024): 1,155 in,
    /// 211 out
    AzureConversation,
    /// The same, code completion: 2,048 in, 28 out
    AzureCode,
}

/// Quantiles 0, 10, 25, 50, 75, 90, 99 and 100 %.
struct Quantiles([f64; 8]);

const AT: [f64; 8] = [0.0, 0.10, 0.25, 0.50, 0.75, 0.90, 0.99, 1.0];

impl Quantiles {
    fn draw(&self, share: f64) -> f64 {
        let upper = AT.iter().position(|at| *at > share).unwrap_or(AT.len() - 1).max(1);
        let (low, high) = (self.0[upper - 1], self.0[upper]);
        let part = (share - AT[upper - 1]) / (AT[upper] - AT[upper - 1]);
        low * (high / low).powf(part)
    }
}

struct Sizes {
    input: Quantiles,
    output: Quantiles,
    /// Of the logarithms.
    correlation: f64,
}

impl Family {
    fn sizes(self) -> Sizes {
        let (input, output, correlation) = match self {
            Self::Arena => (
                [2., 5., 13., 40., 161., 432., 929., 1_021.],
                [2., 18., 62., 211., 462., 513., 785., 977.],
                0.29,
            ),
            Self::AzureConversation => (
                [2., 207., 396., 1_020., 1_189., 2_735., 4_142., 14_050.],
                [7., 54., 85., 129., 395., 424., 601., 1_000.],
                0.09,
            ),
            Self::AzureCode => (
                [3., 147., 578., 1_469., 2_745., 5_194., 7_436., 7_437.],
                [6., 7., 9., 13., 24., 55., 252., 1_899.],
                0.0,
            ),
        };
        Sizes { input: Quantiles(input), output: Quantiles(output), correlation }
    }
}

impl Sizes {
    fn draw(&self, random: &mut Random) -> (f64, f64) {
        let (one, other) = (random.normal(), random.normal());
        let tied = self.correlation * one + (1.0 - self.correlation.powi(2)).sqrt() * other;
        (self.input.draw(below(one)), self.output.draw(below(tied)))
    }
}

/// Turns of a session after each other.
#[derive(Debug, Clone, Copy)]
pub struct Sessions {
    pub mean_turns: f64,
    /// A tool runs, or a person thinks.
    pub mean_pause: f64,
    /// A prompt that would be longer ends the session.
    pub context: u64,
}

/// How one agent calls.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub family: Family,
    /// Both sizes are so many times the trace's; agents send and get more than people who chat.
    pub scale: f64,
    /// One in so many answers (2 %) is twelve times as long, at most 8,000 tokens.
    pub heavy: f64,
    /// Callers that go away when 95 % of the answer have come.
    pub leave: f64,
    pub sessions: Option<Sessions>,
}

/// The prompt's tokens are known up to this share.
pub const GUESS: f64 = 0.15;

impl Shape {
    fn call(&self, random: &mut Random, agent: usize, at: Nanos, said: u64) -> Call {
        let (input, output) = self.family.sizes().draw(random);
        let heavy = random.chance(self.heavy);
        let bound = if random.chance(0.6) { 4_096 } else { 16_384 };
        let input = ((input * self.scale) as u64).max(1) + said;
        let output = (output * self.scale) as u64;
        let output = if heavy { (output * 12).min(8_000) } else { output }.clamp(1, bound);
        let guess = (input as f64 * random.between(1.0 - GUESS, 1.0 + GUESS)) as u64;
        let leaves = random.chance(self.leave).then_some(output * 95 / 100);
        let turns = self.sessions.map_or(0, |sessions| random.geometric(sessions.mean_turns) - 1);
        Call { id: 0, agent, at, input, guess: guess.max(1), output, bound, leaves, turns }
    }

    /// The turn after this one, if there is one.
    pub fn next_turn(&self, seed: u64, call: &Call, now: Nanos) -> Option<Call> {
        let sessions = self.sessions.filter(|_| call.turns > 0)?;
        let key = [seed, call.at, call.agent as u64, u64::from(call.turns)];
        let mut random = Random::new(&key);
        let at = now + nanos(random.exponential(sessions.mean_pause));
        let next = self.call(&mut random, call.agent, at, call.input + call.output);
        (next.input <= sessions.context).then_some(Call { turns: call.turns - 1, ..next })
    }

    /// Tokens of a call, or of all calls of a session, on average.
    pub fn mean(&self) -> f64 {
        const DRAWS: u64 = 20_000;
        let mut total = 0;
        for draw in 0..DRAWS {
            let mut call = self.call(&mut Random::new(&[0, draw]), 0, draw, 0);
            total += call.input + call.output;
            while let Some(next) = self.next_turn(0, &call, draw) {
                call = Call { at: draw, ..next };
                total += call.input + call.output;
            }
        }
        total as f64 / DRAWS as f64
    }

    /// Calls that come by themselves until `end`, `rate` a second; the first `burst` at once.
    pub fn calls(&self, seed: u64, agent: usize, rate: f64, burst: usize, end: Nanos) -> Vec<Call> {
        let mut random = Random::new(&[seed, agent as u64]);
        let mut calls: Vec<_> = (0..burst).map(|_| self.call(&mut random, agent, 0, 0)).collect();
        let mut at = 0;
        loop {
            at += nanos(random.exponential(1.0 / rate));
            if at >= end {
                return calls;
            }
            calls.push(self.call(&mut random, agent, at, 0));
        }
    }
}
