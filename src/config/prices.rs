//! What tokens cost.
use std::path::PathBuf;
use std::sync::Arc;

/// The `prices` and `price_file` keys; both win over the table that is built in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// By a glob over the model's name; the first that matches.
    pub models: Vec<(Arc<str>, Price)>,
    /// In the format of `LiteLLM`'s `model_prices_and_context_window.json`.
    pub file: Option<PathBuf>,
}

/// In trillionths of a dollar a token: a dollar for a million tokens is 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    /// `None`: as `input`.
    pub cached_input: Option<u64>,
    /// `None`: as `input`.
    pub cache_write: Option<u64>,
    /// `None`: as `output`.
    pub reasoning: Option<u64>,
}
