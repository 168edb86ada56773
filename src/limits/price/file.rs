//! The price file: LiteLLM's `model_prices_and_context_window.json`, dollars a token.
//!
//! Read are the prices of plain, cached and written input, of output and of reasoning, each also
//! `_above_Nk_tokens`; `tiered_pricing`; `max_output_tokens`. All other members are passed over, and
//! so are models that are not priced by the token. A price that is no price is an error that names
//! it: a silent zero would be a gift. `gemini/model` is also found as `model`; so is `host/model`
//! of those who serve others' models, the dearest of them.
use std::collections::{BTreeMap, HashMap};

use serde_json::value::RawValue;

use super::decimal::trillionths;
use super::{LongContext, Rate};
use crate::config::Price;

/// The models of a price file.
#[derive(Debug, Default)]
pub(super) struct Models {
    /// With and without the prefix of the model's own vendor.
    named: HashMap<Box<str>, Rate>,
    /// Without the prefix of another host.
    hosted: HashMap<Box<str>, Rate>,
}

/// Prefixes that say nothing more than whose model it is.
const VENDORS: [&str; 12] = [
    "anthropic",
    "cohere",
    "dashscope",
    "deepseek",
    "gemini",
    "minimax",
    "mistral",
    "moonshot",
    "openai",
    "voyage",
    "xai",
    "zai",
];

/// It explains the format; its prices are zeros.
const SAMPLE: &str = "sample_spec";

type Members<'f> = BTreeMap<String, &'f RawValue>;

impl Models {
    pub(super) fn named(&self, name: &str) -> Option<Rate> {
        self.named.get(name).copied()
    }

    pub(super) fn without_host(&self, name: &str) -> Option<Rate> {
        self.hosted.get(name).copied()
    }
}

/// The error says what is wrong, and with which model.
pub(super) fn read(text: &str) -> Result<Models, String> {
    let all: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut models = Models::default();
    for (name, entry) in all.iter().filter(|(name, _)| *name != SAMPLE) {
        let in_model = |why: String| format!("model {name:?}: {why}");
        if let Some(rate) = rate(entry).map_err(in_model)? {
            models.named.insert(name.as_str().into(), rate);
        }
    }
    for name in all.keys() {
        let (Some(rate), Some((host, tail))) = (models.named(name), name.split_once('/')) else {
            continue;
        };
        if VENDORS.contains(&host) {
            models.named.entry(tail.into()).or_insert(rate);
        } else {
            let kept = models.hosted.entry(tail.into()).or_insert(rate);
            *kept = if weight(&rate) > weight(kept) { rate } else { *kept };
        }
    }
    Ok(models)
}

fn weight(rate: &Rate) -> (u64, u64) {
    (rate.price.output, rate.price.input)
}

/// `None`: it is not priced by the token.
fn rate(entry: &RawValue) -> Result<Option<Rate>, String> {
    let members: Members<'_> =
        serde_json::from_str(entry.get()).map_err(|error| error.to_string())?;
    let steps = match members.get("tiered_pricing") {
        Some(tiers) => tiered(tiers)?,
        None => Vec::new(),
    };
    // the first step of a tiered price begins at nothing and is the usual price
    let usual = steps.first().map(|(_, price)| *price);
    let Some(price) = price(&members, "", usual)? else { return Ok(None) };
    let mut steps: Vec<_> = steps.into_iter().skip(1).collect();
    for above in thresholds(&members) {
        let suffix = format!("_above_{above}k_tokens");
        if let Some(step) = self::price(&members, &suffix, Some(price))? {
            steps.push((above.saturating_mul(1000), step));
        }
    }
    let max_output = members.get("max_output_tokens").and_then(|raw| raw.get().parse().ok());
    Ok(Some(Rate { long: dearest(&steps), ..Rate::flat(price, max_output) }))
}

/// The price under names with this ending; what is missing is as `otherwise`.
///
/// `None`: there is no price of input.
fn price(
    members: &Members<'_>,
    suffix: &str,
    otherwise: Option<Price>,
) -> Result<Option<Price>, String> {
    let part = |name: &str| amount(members, &format!("{name}{suffix}"));
    let Some(input) = part("input_cost_per_token")?.or(otherwise.map(|price| price.input)) else {
        return Ok(None);
    };
    let output = part("output_cost_per_token")?.or(otherwise.map(|price| price.output));
    let output = output.unwrap_or(if embeds(members) { 0 } else { input });
    let otherwise = otherwise.unwrap_or_default();
    Ok(Some(Price {
        input,
        output,
        cached_input: part("cache_read_input_token_cost")?.or(otherwise.cached_input),
        // zero stands for "not priced apart" where writing is automatic
        cache_write: part("cache_creation_input_token_cost")?
            .filter(|price| *price > 0)
            .or(otherwise.cache_write.map(|price| price.max(input))),
        reasoning: part("output_cost_per_reasoning_token")?
            .or(otherwise.reasoning.map(|price| price.max(output))),
    }))
}

/// Some embeddings have no price of output, as they have no output.
fn embeds(members: &Members<'_>) -> bool {
    members.get("mode").is_some_and(|mode| mode.get() == r#""embedding""#)
}

fn amount(members: &Members<'_>, name: &str) -> Result<Option<u64>, String> {
    let Some(raw) = members.get(name).filter(|raw| raw.get() != "null") else { return Ok(None) };
    // numbers stand in quotes where a YAML reader took 5e-06 for text
    let price = trillionths(raw.get().trim_matches('"'));
    price.map(Some).ok_or_else(|| format!("{name} is {}, not a price", raw.get()))
}

/// Every N of a member `…_cost_per_token_above_Nk_tokens`, the smallest first.
fn thresholds(members: &Members<'_>) -> Vec<u64> {
    let mut found: Vec<u64> = members.keys().filter_map(|name| threshold(name)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn threshold(name: &str) -> Option<u64> {
    let (what, above) = name.split_once("_above_")?;
    let priced = matches!(what, "input_cost_per_token" | "output_cost_per_token");
    above.strip_suffix("k_tokens").filter(|_| priced)?.parse().ok()
}

/// The steps of `tiered_pricing`: where each begins, and its price.
fn tiered(tiers: &RawValue) -> Result<Vec<(u64, Price)>, String> {
    let tiers: Vec<Members<'_>> =
        serde_json::from_str(tiers.get()).map_err(|error| format!("tiered_pricing: {error}"))?;
    let mut steps = Vec::new();
    for tier in &tiers {
        let Some(range) = tier.get("range") else { continue };
        let range: Vec<&RawValue> =
            serde_json::from_str(range.get()).map_err(|error| format!("range: {error}"))?;
        // written as 256000.0; a count of tokens reads as dollars do
        let begin = range.first().and_then(|raw| trillionths(raw.get()));
        let begin = begin.ok_or("range has no beginning")? / 1_000_000_000_000;
        if let Some(price) = price(tier, "", None)? {
            steps.push((begin, price));
        }
    }
    steps.sort_by_key(|(begin, _)| *begin);
    Ok(steps)
}

/// One step for all: from the first on, each part at its dearest.
fn dearest(steps: &[(u64, Price)]) -> Option<LongContext> {
    let above = steps.iter().map(|(above, _)| *above).min()?;
    let price = steps.iter().map(|(_, price)| *price).reduce(|one, other| Price {
        input: one.input.max(other.input),
        output: one.output.max(other.output),
        cached_input: Some(one.cached().max(other.cached())),
        cache_write: Some(one.written().max(other.written())),
        reasoning: Some(one.thought().max(other.thought())),
    })?;
    Some(LongContext { above, price })
}
