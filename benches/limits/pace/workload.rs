//! Calls as agents make them: Poisson arrivals, sizes from a published trace.
//!
//! Prompt and answer sizes are log-normal, with the mean and the deviation of the logarithms of the
//! Azure LLM inference trace 2023, "conversation" (19,366 calls; CC-BY; described in Patel et al.,
//! "Splitwise: Efficient generative LLM inference using phase splitting", ISCA 2024; its medians are
//! 1,020 and 129 tokens, its means 1,155 and 211): prompts exp(6.633 ± 0.985), mean 1,235; answers
//! exp(5.019 ± 0.859), mean 219; cut at the trace's longest, 14,050 and 1,000. Agents carry their
//! history and their tools along, so both are four times that.
const PROMPT: (f64, f64, f64) = (6.633, 0.985, 14_050.0);
const ANSWER: (f64, f64, f64) = (5.019, 0.859, 1_000.0);
const AGENTS: f64 = 4.0;

/// A generator whose whole state is a seed: `SplitMix64` (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In (0, 1].
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// Box and Muller 1958.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    fn size(&mut self, (mean, deviation, most): (f64, f64, f64)) -> u64 {
        ((mean + deviation * self.normal()).exp().clamp(1.0, most) * AGENTS) as u64
    }
}

/// One call that an agent wants to make.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Seconds.
    pub arrives: f64,
    pub input: u64,
    pub output: u64,
}

/// So many seconds of calls that ask for `rate` tokens a second on the whole.
pub fn calls(seed: u64, seconds: f64, rate: f64) -> Vec<Call> {
    let mut random = Random::new(seed);
    let mut sizes = || (random.size(PROMPT), random.size(ANSWER));
    let sample: Vec<_> = (0..20_000).map(|_| sizes()).collect();
    let mean = sample.iter().map(|(input, output)| (input + output) as f64).sum::<f64>()
        / sample.len() as f64;
    let mut arrives = 0.0;
    let mut calls = Vec::new();
    for (input, output) in sample.into_iter().cycle() {
        arrives += random.exponential(mean / rate);
        if arrives >= seconds {
            break;
        }
        calls.push(Call { arrives, input, output });
    }
    calls
}
