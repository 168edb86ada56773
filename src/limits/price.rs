//! What tokens cost, in whole billionths of a dollar.
//!
//! Where a price comes from: the policy's `prices` (the first glob that matches), then its
//! `price_file` in LiteLLM's format ([`file`]), then a small dated table (`table`). A model that is
//! in none of them gets a stand-in price and is told as unknown: nothing is free by accident.
//! Prices are whole trillionths of a dollar a token, bills are integer sums that are rounded up
//! once a call; no float is ever involved. What the price depends on beside the counts (service
//! tier, how long a cache entry lives) is not known here: the standard price is taken.
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use thiserror::Error;

use crate::config::{Price, Prices};
use crate::units::glob_matches;
use crate::wire::Usage;

mod decimal;
mod file;
mod name;
mod table;
#[cfg(test)]
mod tests;

#[derive(Debug, Error)]
pub enum PriceError {
    #[error("price_file {path}: {why}")]
    File { path: String, why: String },
}

/// Every price that is known. Answers are kept, so that a name is worked out once.
#[derive(Debug, Default)]
pub struct PriceList {
    globs: Vec<(Arc<str>, Price)>,
    file: file::Models,
    answers: RwLock<HashMap<Box<str>, Rate>>,
}

/// What one model costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub price: Price,
    /// Holds for all tokens of a call whose prompt is long.
    pub long: Option<LongContext>,
    /// The longest answer that the model gives, in tokens.
    pub max_output: Option<u64>,
    /// `false`: nobody told us; a stand-in, so that it is not free.
    pub known: bool,
}

/// The price of long prompts. A list with several steps is cut to one: the dearest from the first on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongContext {
    /// A prompt of more input tokens than this is long; cached ones count.
    pub above: u64,
    pub price: Price,
}

/// Names whose answers are kept; a client can invent more.
const MAX_ANSWERS: usize = 1_000;
/// Longest name whose answer is kept, in bytes.
pub const MAX_NAME: usize = 128;
/// LiteLLM's own file has 3 MB.
const MAX_FILE: u64 = 64 << 20;

/// Dearer than most, so that a budget errs on the safe side.
const STAND_IN: Rate =
    Rate { known: false, ..Rate::flat(Price::of_tokens(5_000_000, 25_000_000), None) };

impl PriceList {
    /// Reads the price file: call it off the I/O threads.
    pub fn prepare(config: &Prices) -> Result<Self, PriceError> {
        let file = match &config.file {
            None => file::Models::default(),
            Some(path) => read(path).map_err(|why| {
                let path = path.display().to_string();
                PriceError::File { path, why }
            })?,
        };
        Ok(Self { globs: config.models.clone(), file, answers: RwLock::default() })
    }

    /// The price of a model by the name that the call gives it.
    pub fn of(&self, model: &str) -> Rate {
        if let Some(rate) = self.answers.read().get(model) {
            return *rate;
        }
        let rate = self.work_out(model);
        if model.len() <= MAX_NAME {
            let mut answers = self.answers.write();
            // names that are still in use come back at once
            if answers.len() >= MAX_ANSWERS {
                answers.clear();
            }
            answers.insert(model.into(), rate);
        }
        rate
    }

    fn work_out(&self, model: &str) -> Rate {
        let listed = || {
            let exact = name::find(model, |name| self.file.named(name));
            let or_built_in = exact.or_else(|| name::find(model, table::named));
            or_built_in.or_else(|| name::find(model, |name| self.file.without_host(name)))
        };
        match self.globs.iter().find(|(glob, _)| glob_matches(glob, model)) {
            Some((_, price)) => Rate::flat(*price, listed().and_then(|rate| rate.max_output)),
            None => listed().unwrap_or(STAND_IN),
        }
    }
}

fn read(path: &Path) -> Result<file::Models, String> {
    let text = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = text().map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("more than {} MiB", MAX_FILE >> 20));
    }
    file::read(&text)
}

impl Rate {
    const fn flat(price: Price, max_output: Option<u64>) -> Self {
        Self { price, long: None, max_output, known: true }
    }

    /// The rate as it holds for a prompt of so many tokens, long or not. For reservations, where
    /// [`Rate::output`] must know.
    #[must_use]
    pub fn for_prompt(&self, tokens: u64) -> Self {
        Self { price: *self.price_at(tokens), long: None, ..*self }
    }

    /// A prompt of so many tokens, none of them cached. Billionths of a dollar, rounded up.
    pub fn input(&self, tokens: u64) -> i64 {
        bill(product(tokens, self.price_at(tokens).input))
    }

    /// An answer of so many tokens after a prompt that is not long.
    pub fn output(&self, tokens: u64) -> i64 {
        bill(product(tokens, self.price.output))
    }

    /// The most that a call with so many tokens can cost: each of its dearest class.
    pub fn most(&self, input: u64, output: u64) -> i64 {
        let price = self.price_at(input);
        let dearest_input = price.input.max(price.cached()).max(price.written());
        let dearest_output = price.output.max(price.thought());
        bill(product(input, dearest_input).saturating_add(product(output, dearest_output)))
    }

    /// What the call cost. Billionths of a dollar, rounded up once.
    ///
    /// Counts that contradict each other are cut: no more is cached than was read, no more is
    /// reasoning than was written.
    pub fn cost(&self, usage: &Usage) -> i64 {
        let price = self.price_at(usage.input);
        let cached = usage.cached_input.min(usage.input);
        let written = usage.cache_write.min(usage.input - cached);
        let fresh = usage.input - cached - written;
        let thought = usage.reasoning.min(usage.output);
        let said = usage.output - thought;
        let parts = [
            (fresh, price.input),
            (cached, price.cached()),
            (written, price.written()),
            (said, price.output),
            (thought, price.thought()),
        ];
        let add = |sum: u128, (tokens, price)| sum.saturating_add(product(tokens, price));
        bill(parts.into_iter().fold(0, add))
    }

    fn price_at(&self, input: u64) -> &Price {
        match &self.long {
            Some(long) if input > long.above => &long.price,
            _ => &self.price,
        }
    }
}

impl Price {
    const fn of_tokens(input: u64, output: u64) -> Self {
        Self { input, output, cached_input: None, cache_write: None, reasoning: None }
    }

    fn cached(&self) -> u64 {
        self.cached_input.unwrap_or(self.input)
    }

    fn written(&self) -> u64 {
        self.cache_write.unwrap_or(self.input)
    }

    fn thought(&self) -> u64 {
        self.reasoning.unwrap_or(self.output)
    }
}

fn product(tokens: u64, price: u64) -> u128 {
    u128::from(tokens) * u128::from(price)
}

/// Trillionths to billionths, rounded up.
fn bill(trillionths: u128) -> i64 {
    // a bill that fits 64 bits is the rule, and divides several times faster
    let whole = match u64::try_from(trillionths) {
        Ok(small) => u128::from(small.div_ceil(1000)),
        Err(_) => trillionths.div_ceil(1000),
    };
    i64::try_from(whole).unwrap_or(i64::MAX)
}
