//! Where an upstream is: its urls, completed by what is known of the vendor, and the version
//! segment of its API.
use std::sync::Arc;

use crate::config::fault::nearest;
use crate::config::read::{At, Fields, Reader};
use crate::config::vendors::{self, VENDORS, Vendor};
use crate::config::{Host, Origin, url};
use crate::wire::Dialect;

const URL: &str = "http://host[:port][/path], https://… or unix:/path";

/// Exactly one of `url`, `urls` and `builtin`; or none, for a vendor that is known by name.
pub(super) fn urls(
    reader: &Reader<'_>,
    fields: &Fields<'_, '_>,
    name: &str,
    at: &At<'_>,
) -> Option<Vec<Origin>> {
    let given: Vec<At<'_>> =
        ["url", "urls", "builtin"].iter().filter_map(|key| fields.get(key)).collect();
    for extra in given.iter().skip(1) {
        reader.wrong(extra, "a second source of addresses", "only one of url, urls and builtin");
    }
    if let Some(url) = fields.get("url") {
        return origin(reader, &url).map(|origin| vec![origin]);
    }
    if let Some(list) = fields.get("urls") {
        let items = reader.list(&list, "a list of urls");
        let mut origins: Vec<Origin> = Vec::with_capacity(items.len());
        for item in &items {
            match origin(reader, item) {
                Some(origin) if origins.contains(&origin) => {
                    reader.wrong(item, "the same url a second time", "each url once");
                }
                Some(origin) => origins.push(origin),
                None => {}
            }
        }
        return (!origins.is_empty()).then_some(origins);
    }
    if fields.get("builtin").is_some() {
        return Some(Vec::new());
    }
    if let Some(base) = vendors::by_name(name).and_then(|vendor| vendor.base) {
        return url::origin(base).ok().map(|origin| vec![origin]);
    }
    let known = VENDORS.iter().filter(|vendor| vendor.base.is_some()).map(|vendor| vendor.name);
    let hint = nearest(name, known);
    let expected = "`url`, `urls` or `builtin`: no vendor of this name is known";
    reader.fault_near(fields.place, &at.path, "no address", expected, hint);
    None
}

pub(super) fn origin(reader: &Reader<'_>, at: &At<'_>) -> Option<Origin> {
    let text = reader.text(at, URL)?;
    url::origin(&text.value).map_err(|expected| reader.wrong(at, text.shown(), expected)).ok()
}

/// Takes the version off the urls and says which one it is. A bare host of a vendor whose API
/// lives under a path gets that path.
pub(super) fn complete(
    mut urls: Vec<Origin>,
    vendor: Option<&Vendor>,
    dialect: Dialect,
) -> Result<(Vec<Origin>, Arc<str>), &'static str> {
    let vendor = vendor.filter(|vendor| vendor.dialect == dialect);
    let usual = vendor.map_or(usual_prefix(dialect), |vendor| vendor.api_prefix);
    let mut prefix: Option<Arc<str>> = None;
    for origin in &mut urls {
        let (path, version) = split_version(&origin.path, usual);
        let version = Arc::from(version.unwrap_or(usual));
        if prefix.as_ref().is_some_and(|prefix| *prefix != version) {
            return Err("the same version (or none) at the end of each url");
        }
        let path = match vendor {
            Some(vendor) if path.is_empty() && is_host_of(vendor, origin) => vendor.path,
            _ => path,
        };
        origin.path = Arc::from(path);
        prefix = Some(version);
    }
    Ok((urls, prefix.unwrap_or_else(|| Arc::from(usual))))
}

fn is_host_of(vendor: &Vendor, origin: &Origin) -> bool {
    matches!(&origin.host, Host::Name(host)
        if vendors::by_host(host).is_some_and(|found| found.name == vendor.name))
}

/// `/openai/v1` → (`/openai`, `/v1`). The vendor's own prefix may have several segments.
fn split_version<'p>(path: &'p str, usual: &str) -> (&'p str, Option<&'p str>) {
    if !usual.is_empty() && path.ends_with(usual) {
        let (path, version) = path.split_at(path.len() - usual.len());
        return (path, Some(version));
    }
    match path.rfind('/') {
        Some(at) if is_version(&path[at + 1..]) => (&path[..at], Some(&path[at..])),
        _ => (path, None),
    }
}

/// `v1`, `v1beta`, `v1beta2`, `v1alpha`
fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('v') else { return false };
    let word = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let stage = word.trim_end_matches(|c: char| c.is_ascii_digit());
    rest.len() > word.len()
        && matches!(stage, "" | "alpha" | "beta")
        && (!stage.is_empty() || word.is_empty())
}

fn usual_prefix(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi | Dialect::Anthropic => "/v1",
        Dialect::Gemini => "/v1beta",
        Dialect::Ollama | Dialect::Http => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_from_words() {
        for yes in ["v1", "v2", "v12", "v1beta", "v1beta2", "v1alpha"] {
            assert!(is_version(yes), "{yes}");
        }
        for no in ["v", "", "vx", "v1x", "beta", "va1", "version1", "v1beta2x", "v1.1"] {
            assert!(!is_version(no), "{no}");
        }
    }
}
