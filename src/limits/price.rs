//! What tokens cost, in whole billionths of a dollar.
use thiserror::Error;

use crate::config::{Price, Prices};
use crate::wire::Usage;

#[derive(Debug, Error)]
pub enum PriceError {
    #[error("price_file {path}: {why}")]
    File { path: String, why: String },
}

/// Every price that is known.
#[derive(Debug, Default)]
pub struct PriceList {}

/// What one model costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub price: Price,
    /// `false`: nobody told us; a stand-in, so that it is not free.
    pub known: bool,
}

impl PriceList {
    /// Reads the price file: call it off the I/O threads.
    pub fn prepare(_config: &Prices) -> Result<Self, PriceError> {
        Ok(Self {})
    }

    pub fn of(&self, _model: &str) -> Rate {
        Rate {
            price: Price { input: 5_000_000, output: 25_000_000, ..Price::default() },
            known: false,
        }
    }
}

impl Rate {
    /// Billionths of a dollar, rounded up.
    pub fn input(&self, tokens: u64) -> i64 {
        (tokens.saturating_mul(self.price.input).div_ceil(1000)) as i64
    }

    pub fn output(&self, tokens: u64) -> i64 {
        (tokens.saturating_mul(self.price.output).div_ceil(1000)) as i64
    }

    /// The longest answer of the model, in tokens, if the list says.
    pub fn max_output(&self) -> Option<u64> {
        None
    }

    pub fn cost(&self, usage: &Usage) -> i64 {
        self.input(usage.input) + self.output(usage.output)
    }
}
