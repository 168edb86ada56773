//! Random numbers that are the same on every run: `SplitMix64` (Steele, Lea, Flood, "Fast splittable
//! pseudorandom number generators", OOPSLA 2014), and the few distributions that the load needs.
use std::f64::consts::TAU;

#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Streams of different `parts` have nothing to do with each other.
    pub fn new(parts: &[u64]) -> Self {
        let mut state = 0;
        for part in parts {
            state = Self(state ^ part).next();
        }
        Self(state)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Above 0 and below 1.
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.uniform().ln()
    }

    /// Box and Muller's; the second number is thrown away, so that there is no state.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    /// How many tries until one ends with this mean; 1 or more.
    pub fn geometric(&mut self, mean: f64) -> u32 {
        let go_on = 1.0 - 1.0 / mean;
        1 + (self.uniform().ln() / go_on.ln()) as u32
    }
}

/// The share of a normal distribution below `z` (Abramowitz and Stegun, 26.2.17; error < 8e-8).
pub fn below(z: f64) -> f64 {
    const FACTORS: [f64; 5] =
        [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = FACTORS.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    let above = (-z * z / 2.0).exp() / TAU.sqrt() * series;
    if z < 0.0 { above } else { 1.0 - above }
}
