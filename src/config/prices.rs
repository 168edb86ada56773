//! What tokens cost: `prices` and `price_file`. Dollars for a million tokens are read as decimal
//! text, never as a float; they are whole trillionths of a dollar for one token.
use std::path::PathBuf;
use std::sync::Arc;

use super::keys::PRICE;
use super::read::{At, Fields, Reader};
use crate::units::{self, glob_covers};

/// Largest price file that is read, in bytes; what is published has about two million.
const LARGEST: u64 = 16 << 20;

/// The `prices` and `price_file` keys; both win over the table that is built in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// By a glob over the model's name; the first that matches.
    pub models: Vec<(Arc<str>, Price)>,
    /// In the format of litellm's `model_prices_and_context_window.json`.
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

/// Both keys, from the fields of the root.
pub(super) fn prices(fields: &Fields<'_, '_>) -> Prices {
    let models = fields.read("prices", Vec::new(), |r, at| Some(models(r, at)));
    let path = |r: &Reader<'_>, at: &At<'_>| r.file(at, "the path of a JSON file", LARGEST);
    Prices { models, file: fields.maybe("price_file", path) }
}

fn models<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Vec<(Arc<str>, Price)> {
    let mut models: Vec<(Arc<str>, Price)> = Vec::new();
    for (glob, place, at) in reader.names(at, "globs over names of models, each with its prices") {
        if let Some((wider, _)) = models.iter().find(|(earlier, _)| glob_covers(earlier, glob)) {
            let found = format!("prices that are never used: `{wider}` takes all these models");
            reader.fault(place, &at.path, found, "the narrower glob before the wider one");
        }
        // kept also where its prices are at fault: what follows may be shadowed by it
        models.push((Arc::from(glob), price(reader, &at).unwrap_or_default()));
    }
    models
}

fn price<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Price> {
    const EXPECTED: &str = "dollars for a million tokens, like 0.50";
    let fields = reader.section(at, &PRICE)?;
    let read = |r: &Reader<'_>, at: &At<'_>| r.quantity(at, EXPECTED, units::price);
    let both = "`input` and `output`, both; 0 where it is free";
    for name in PRICE.required {
        fields.needed(name, both);
    }
    Some(Price {
        input: fields.read("input", 0, read),
        output: fields.read("output", 0, read),
        cached_input: fields.maybe("cached_input", read),
        cache_write: fields.maybe("cache_write", read),
        reasoning: fields.maybe("reasoning", read),
    })
}
