//! `cache` of a policy as YAML.
use std::fmt::{self, Write as _};

use super::quoted;
use crate::config::{CacheRule, Embedder, Semantic};
use crate::units::{show_duration, show_size, show_weight};

pub(super) fn write_cache(out: &mut String, rule: &CacheRule) -> fmt::Result {
    let cache = match rule {
        CacheRule::Off => return writeln!(out, "    cache: off"),
        CacheRule::On(cache) => cache,
    };
    writeln!(out, "    cache:\n      ttl: {}", show_duration(cache.ttl))?;
    writeln!(out, "      scope: {}", cache.scope.as_str())?;
    writeln!(out, "      memory: {}", show_size(cache.memory))?;
    match cache.disk {
        0 => writeln!(out, "      disk: off")?,
        disk => writeln!(out, "      disk: {}", show_size(disk))?,
    }
    writeln!(out, "      max_entry: {}", show_size(cache.max_entry))?;
    if let Some(temperature) = cache.temperature {
        writeln!(out, "      temperature: {}", quoted(format_args!("<={temperature}")))?;
    }
    writeln!(out, "      tool_calls: {}", cache.tool_calls)?;
    writeln!(out, "      replay: {}", cache.replay.as_str())?;
    writeln!(out, "      coalesce: {}", cache.coalesce)?;
    writeln!(out, "      embeddings: {}", cache.embeddings)?;
    writeln!(out, "      control: {}", cache.control)?;
    writeln!(out, "      canonical: {}", cache.canonical)?;
    match &cache.semantic {
        Some(semantic) => write_semantic(out, semantic),
        None => writeln!(out, "      semantic: off"),
    }
}

fn write_semantic(out: &mut String, semantic: &Semantic) -> fmt::Result {
    writeln!(out, "      semantic:\n        mode: {}", semantic.mode.as_str())?;
    writeln!(out, "        threshold: {}", semantic.threshold)?;
    writeln!(out, "        ttl: {}", show_duration(semantic.ttl))?;
    writeln!(out, "        explore: {}", share(semantic.explore))?;
    writeln!(out, "        max_wrong: {}", share(semantic.max_wrong))?;
    writeln!(out, "        temperature: {}", semantic.temperature)?;
    writeln!(out, "        entries: {}", semantic.entries)?;
    match &semantic.embedder {
        Embedder::Builtin => writeln!(out, "        embedder: builtin"),
        Embedder::Remote { upstream, model } => {
            let (upstream, model) = (quoted(upstream), quoted(model));
            writeln!(out, "        embedder: {{ upstream: {upstream}, model: {model} }}")
        }
    }
}

/// It was read in thousandths.
fn share(fraction: f64) -> String {
    show_weight((fraction * 1000.0).round() as u32)
}
