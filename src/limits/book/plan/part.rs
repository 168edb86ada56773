//! How much one bucket is asked for.
use super::{Ask, Plan, Prompt, TOKEN, count};
use crate::config::{Measure, Mode};
use crate::limits::bucket::Demand;
use crate::limits::price::Rate;
use crate::limits::rules::LimitOf;

/// What is asked of one bucket.
#[derive(Debug, Clone, Copy)]
pub struct PlanPart {
    pub bucket: usize,
    pub demand: Demand,
    /// What one token of output costs there.
    pub per_token: i64,
    /// The call has been charged already, as it moves from another upstream.
    pub paid: Option<Paid>,
}

/// A request that an earlier attempt was charged.
#[derive(Debug, Clone, Copy)]
pub struct Paid {
    /// That attempt was sent: it stays charged, whatever comes after.
    pub sunk: bool,
}

impl PlanPart {
    /// The same of a request that an earlier attempt was charged, and that was sent.
    pub fn paid(self) -> Self {
        Self { paid: Some(Paid { sunk: true }), demand: Demand::default(), ..self }
    }

    /// What the call is charged when it goes, and before.
    pub fn counted(&self) -> i64 {
        if self.paid.is_some() { TOKEN } else { self.demand.now }
    }
}

/// What a call asks of one bucket.
pub fn part(
    ask: &Ask<'_>,
    plan: &Plan,
    prompt: &Prompt,
    limit: &LimitOf,
    bucket: usize,
) -> PlanPart {
    let hard = limit.shape.mode == Mode::Hard;
    let Prompt { likely: input, most, .. } = *prompt;
    let tokens = |tokens| count(tokens).saturating_mul(TOKEN);
    // long prompts may cost more, also for what is answered to them
    let rate = ask.rate.map(|rate| rate.for_prompt(if hard { most } else { input }));
    let spend = |of: fn(&Rate, u64) -> i64, count| rate.map_or(0, |rate| of(&rate, count));
    let dearest = |input, output| rate.map_or(0, |rate| rate.most(input, output));
    let generates = i64::from(ask.generates);
    // what the call uses at once, at most, and for each token of output
    let (now, worst, per_token) = match limit.measure {
        Measure::Requests => (TOKEN, TOKEN, 0),
        Measure::InputTokens => (tokens(input), tokens(most), 0),
        Measure::OutputTokens => (0, 0, TOKEN * generates),
        Measure::Tokens => (tokens(input), tokens(most), TOKEN * generates),
        Measure::Spend if hard => {
            (spend(Rate::input, input), dearest(most, 0), dearest(0, 1) * generates)
        }
        Measure::Spend => {
            let each = spend(Rate::output, 1) * generates;
            (spend(Rate::input, input), spend(Rate::input, most), each)
        }
        Measure::Concurrency => (0, 0, 0),
    };
    let (worst, per_token) = if hard && limit.measure.is_tokens() {
        limit.weights.at_most(worst, per_token)
    } else {
        (worst, per_token)
    };
    let margin = match worst.saturating_sub(now).max(0) {
        margin if hard => margin,
        margin if prompt.known => margin.min(now / 2),
        _ => 0,
    };
    let output = count(plan.output);
    let speed = if per_token > 0 { count(prompt.speed) } else { 0 };
    let demand = Demand {
        now,
        margin,
        growth: per_token.saturating_mul(output),
        speed: per_token.saturating_mul(speed).saturating_mul(count(plan.answers)),
    };
    PlanPart { bucket, demand, per_token, paid: None }
}
