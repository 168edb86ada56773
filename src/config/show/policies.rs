//! `prices`, `price_file` and `policies` as YAML.
use std::fmt::{self, Write as _};

use super::cache::write_cache;
use super::quoted;
use crate::config::{Limit, Matcher, Measure, Mode, Policy, Prices, Window};
use crate::units::{show_duration, show_price, show_weight};

pub(super) fn write_prices(out: &mut String, prices: &Prices) -> fmt::Result {
    if !prices.models.is_empty() {
        writeln!(out, "prices:")?;
    }
    for (glob, price) in &prices.models {
        let (input, output) = (show_price(price.input), show_price(price.output));
        write!(out, "  {}: {{ input: {input}, output: {output}", quoted(glob))?;
        for (name, value) in [
            ("cached_input", price.cached_input),
            ("cache_write", price.cache_write),
            ("reasoning", price.reasoning),
        ] {
            if let Some(value) = value {
                write!(out, ", {name}: {}", show_price(value))?;
            }
        }
        writeln!(out, " }}")?;
    }
    match &prices.file {
        Some(file) => writeln!(out, "price_file: {}", quoted(file.display())),
        None => Ok(()),
    }
}

pub(super) fn write_policies(out: &mut String, policies: &[Policy]) -> fmt::Result {
    if !policies.is_empty() {
        writeln!(out, "policies:")?;
    }
    policies.iter().try_for_each(|policy| write_policy(out, policy))
}

fn write_policy(out: &mut String, policy: &Policy) -> fmt::Result {
    writeln!(out, "  - name: {}", quoted(&policy.name))?;
    match facts(&policy.matches).as_str() {
        "" => writeln!(out, "    match: {{}}")?,
        facts => writeln!(out, "    match: {{ {facts} }}")?,
    }
    writeln!(out, "    per: {}\n    weight: {}", policy.per.as_str(), policy.weight)?;
    if let Some(priority) = policy.priority {
        writeln!(out, "    priority: {}", priority.as_str())?;
    }
    if !policy.limits.is_empty() {
        writeln!(out, "    limits:")?;
    }
    for measure in Measure::ALL {
        write_limits(out, measure, &policy.limits)?;
    }
    let some = |of: &dyn Fn(&Limit) -> bool| policy.limits.iter().any(of);
    let weights = &policy.token_weights;
    if some(&|limit| limit.measure.is_tokens()) {
        writeln!(
            out,
            "    token_weights: {{ cached_input: {}, cache_write: {}, reasoning: {} }}",
            show_weight(weights.cached_input),
            show_weight(weights.cache_write),
            show_weight(weights.reasoning)
        )?;
    }
    if let Some(queue) = &policy.queue {
        let wait = show_duration(queue.wait);
        writeln!(out, "    queue: {{ wait: {wait}, depth: {} }}", queue.depth)?;
    }
    if let Some(runaway) = &policy.runaway {
        writeln!(
            out,
            "    runaway: {{ repeats: {}, factor: {}, action: {} }}",
            runaway.repeats,
            runaway.factor,
            runaway.action.as_str()
        )?;
    }
    if let Some(cache) = &policy.cache {
        write_cache(out, cache)?;
    }
    if let Some(resume) = policy.resume {
        writeln!(out, "    resume: {}", show_duration(resume))?;
    }
    if some(&|limit| limit.measure == Measure::Spend && limit.mode == Mode::Hard) {
        writeln!(out, "    cut_streams: {}", policy.cut_streams)?;
    }
    if some(&|limit| matches!(limit.window, Window::Calendar(_))) {
        writeln!(out, "    time_zone: {}", quoted(&policy.time_zone))?;
    }
    Ok(())
}

fn facts(matches: &Matcher) -> String {
    let globs = [
        ("agent", &matches.agent),
        ("team", &matches.team),
        ("session", &matches.session),
        ("model", &matches.model),
        ("route", &matches.route),
        ("upstream", &matches.upstream),
    ];
    let globs = globs
        .into_iter()
        .filter_map(|(name, glob)| Some(format!("{name}: {}", quoted(glob.as_ref()?))));
    let class = matches.class.map(|class| format!("class: {}", class.as_str()));
    globs.chain(class).collect::<Vec<_>>().join(", ")
}

fn write_limits(out: &mut String, measure: Measure, limits: &[Limit]) -> fmt::Result {
    let limits: Vec<String> =
        limits.iter().filter(|limit| limit.measure == measure).map(quoted).collect();
    match limits.as_slice() {
        [] => Ok(()),
        [one] => writeln!(out, "      {}: {one}", measure.as_str()),
        several => writeln!(out, "      {}: [{}]", measure.as_str(), several.join(", ")),
    }
}
