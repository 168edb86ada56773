//! What a run came to, seen from outside: nothing here asks the limiter how it thinks it did.
//!
//! Overshoot is the worst excess over the arrival curve of the limit: in no window of length w may
//! more than `burst + rate * w` tokens pass. A bucket that drains at the rate and never refuses finds
//! the worst of all windows in one pass; what stands above the burst is the excess.
use crate::workload::{Call, Nanos, seconds};

/// Of one agent.
#[derive(Debug, Default, Clone)]
pub struct Agent {
    /// Seconds, of those that went.
    pub waits: Vec<f64>,
    /// Counted as the fair queue counts: an output token is worth four of input.
    pub offered: f64,
    pub served: f64,
    pub arrived: usize,
    pub refused: usize,
}

#[derive(Debug)]
pub struct Seen {
    rate: f64,
    burst: f64,
    /// Calls come until then.
    end: Nanos,
    level: f64,
    last: Nanos,
    worst: f64,
    /// Tokens until the end, and after it.
    used: u64,
    drained: u64,
    pub done: usize,
    pub agents: Vec<Agent>,
}

/// What an output token counts, against one of input.
pub const OUTPUT: f64 = 4.0;

impl Seen {
    /// `rate` in tokens a second, `burst` in tokens.
    pub fn new(rate: f64, burst: f64, end: Nanos, agents: usize) -> Self {
        let agents = vec![Agent::default(); agents];
        Self {
            rate,
            burst,
            end,
            level: 0.0,
            last: 0,
            worst: 0.0,
            used: 0,
            drained: 0,
            done: 0,
            agents,
        }
    }

    pub fn arrived(&mut self, call: &Call) {
        let agent = &mut self.agents[call.agent];
        agent.arrived += 1;
        agent.offered += call.input as f64 + OUTPUT * call.output as f64;
    }

    pub fn refused(&mut self, call: &Call) {
        self.agents[call.agent].refused += 1;
    }

    pub fn went(&mut self, call: &Call, now: Nanos) {
        let agent = &mut self.agents[call.agent];
        agent.waits.push(seconds(now - call.at));
        agent.served += call.input as f64;
        self.take(call.input, now);
    }

    pub fn passed(&mut self, call: &Call, tokens: u64, now: Nanos) {
        self.agents[call.agent].served += OUTPUT * tokens as f64;
        self.take(tokens, now);
    }

    pub fn done(&mut self) {
        self.done += 1;
    }

    fn take(&mut self, tokens: u64, now: Nanos) {
        let drained = self.rate * seconds(now - self.last);
        self.level = (self.level - drained).max(0.0) + tokens as f64;
        self.last = now;
        self.worst = self.worst.max(self.level);
        if now <= self.end { self.used += tokens } else { self.drained += tokens }
    }

    /// In shares of the burst.
    pub fn overshoot(&self) -> f64 {
        ((self.worst - self.burst) / self.burst).max(0.0)
    }

    /// Of what the limit allows while calls come: its burst and its rate.
    pub fn used(&self) -> f64 {
        self.used as f64 / self.allowed()
    }

    /// The same, with what those calls took after the last had come.
    pub fn used_to_the_last(&self) -> f64 {
        (self.used + self.drained) as f64 / self.allowed()
    }

    fn allowed(&self) -> f64 {
        self.rate * seconds(self.end) + self.burst
    }

    pub fn refusals(&self) -> f64 {
        let of = |count: fn(&Agent) -> usize| self.agents.iter().map(count).sum::<usize>() as f64;
        of(|agent| agent.refused) / of(|agent| agent.arrived).max(1.0)
    }

    /// Of these agents, sorted.
    pub fn waits(&self, of: &[usize]) -> Vec<f64> {
        let mut waits: Vec<f64> =
            of.iter().flat_map(|agent| self.agents[*agent].waits.iter().copied()).collect();
        waits.sort_by(f64::total_cmp);
        waits
    }

    /// What each agent got, as a share of what max-min fairness gives it of the same total.
    pub fn shares(&self) -> Vec<f64> {
        let offered: Vec<f64> = self.agents.iter().map(|agent| agent.offered).collect();
        let total = self.agents.iter().map(|agent| agent.served).sum();
        let ideal = max_min(&offered, total);
        let shares = self.agents.iter().zip(ideal);
        shares.map(|(agent, ideal)| if ideal > 0.0 { agent.served / ideal } else { 1.0 }).collect()
    }
}

/// Everybody the same, but nobody more than offered.
fn max_min(offered: &[f64], total: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..offered.len()).collect();
    order.sort_by(|a, b| offered[*a].total_cmp(&offered[*b]));
    let mut ideal = vec![0.0; offered.len()];
    let mut rest = total;
    for (done, agent) in order.into_iter().enumerate() {
        ideal[agent] = offered[agent].min(rest / (offered.len() - done) as f64);
        rest -= ideal[agent];
    }
    ideal
}

/// 1 when all are the same, 1/n when one has it all (Jain, Chiu, Hawe, 1984).
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares > 0.0 { sum * sum / (shares.len() as f64 * squares) } else { 1.0 }
}

/// Of sorted values; `otherwise` where there are none.
pub fn quantile(sorted: &[f64], share: f64, otherwise: f64) -> f64 {
    let at = (share * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(otherwise)
}
