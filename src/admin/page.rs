//! The files of the page: in the binary, each with its hash for a tag, plain and compressed.
//!
//! They hold no data, so they are given without a proof. The page runs its own scripts and no other,
//! asks this door and no other, and stands in no frame: the policy of its content says so (CSP level 3).
use std::io::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::respond::{self, Body};
use super::script;

const CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'",
);
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

macro_rules! modules {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("page/", $name, ".js")))),*]
    };
}

/// In the order in which they need each other.
const MODULES: [(&str, &str); 15] = modules! {
    "format" "model" "dom" "actions" "stream" "limits" "chart" "curve" "figures" "agents" "calls"
    "upstreams" "tasks" "cache" "page"
};

static SCRIPT: LazyLock<String> = LazyLock::new(|| script::linked(&MODULES));

fn files() -> [(&'static str, &'static str); 4] {
    [
        ("index.html", include_str!("page/index.html")),
        ("page.css", include_str!("page/page.css")),
        ("icon.svg", include_str!("page/icon.svg")),
        ("page.js", &SCRIPT),
    ]
}

/// One file, ready to be sent.
pub(super) struct File {
    name: &'static str,
    content_type: &'static str,
    plain: Coded,
    gzip: Coded,
}

struct Coded {
    body: Bytes,
    tag: HeaderValue,
}

static READY: LazyLock<Vec<File>> = LazyLock::new(|| {
    files()
        .into_iter()
        .map(|(name, content)| {
            let hash = blake3::hash(content.as_bytes()).to_hex();
            let tag = |coding: &str| {
                let tag = format!("\"{}{coding}\"", &hash[..16]);
                HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
            };
            File {
                name,
                content_type: content_type(name),
                plain: Coded { body: Bytes::from_static(content.as_bytes()), tag: tag("") },
                gzip: Coded { body: compressed(content.as_bytes()), tag: tag("-gzip") },
            }
        })
        .collect()
});

/// The file of a path: `/` or `/page/NAME`.
pub(super) fn find(path: &str) -> Option<&'static File> {
    let name = match path {
        "/" => "index.html",
        path => path.strip_prefix("/page/").filter(|name| *name != "index.html")?,
    };
    READY.iter().find(|file| file.name == name)
}

pub(super) fn answer(file: &'static File, asked: &HeaderMap) -> Response<Body> {
    let coded = if takes_gzip(asked) { &file.gzip } else { &file.plain };
    let known = asked.get_all(IF_NONE_MATCH).iter().any(|tags| is_among(&coded.tag, tags));
    let (status, body) = if known {
        (StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        (StatusCode::OK, coded.body.clone())
    };
    let mut response = respond::answer(status, file.content_type, body);
    let headers = response.headers_mut();
    headers.insert(ETAG, coded.tag.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if takes_gzip(asked) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(CONTENT_SECURITY_POLICY, CSP);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CORP, HeaderValue::from_static("same-origin"));
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    }
}

fn compressed(content: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // writing to a Vec cannot fail
    let _ = encoder.write_all(content);
    encoder.finish().unwrap_or_default().into()
}

/// `gzip` is named, and not with a weight of nothing (RFC 9110, section 12.5.3).
fn takes_gzip(asked: &HeaderMap) -> bool {
    let values = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map(|weight| weight.trim().parse::<f32>());
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight, Some(Ok(0.0) | Err(_)))
    })
}

/// `If-None-Match` compares weakly (RFC 9110, section 13.1.2).
fn is_among(tag: &HeaderValue, tags: &HeaderValue) -> bool {
    let Ok(tags) = tags.to_str() else { return false };
    tags.split(',')
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Read as _;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_binary() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/page");
        let there: BTreeSet<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let modules = MODULES.iter().map(|(name, _)| format!("{name}.js"));
        let known: BTreeSet<_> =
            files().iter().map(|(name, _)| (*name).to_owned()).chain(modules).collect();
        assert_eq!(there, known);
    }

    #[test]
    fn modules_stand_behind_those_that_they_need() {
        let mut before = BTreeSet::new();
        let mut imports = 0;
        for (name, text) in MODULES {
            for from in text.split(" from './").skip(1) {
                let from = from.split_once(".js';").expect("a module is named so").0;
                assert!(before.contains(from), "{name} imports {from}");
                imports += 1;
            }
            before.insert(name);
        }
        assert!(imports > 20, "{imports}");
        let left = |line: &&str| line.starts_with("import") || line.starts_with("export");
        assert_eq!(SCRIPT.lines().find(left), None);
    }

    #[test]
    fn what_is_compressed_is_the_same_and_smaller() {
        for file in READY.iter() {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&file.gzip.body[..]).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, file.plain.body, "{}", file.name);
            assert_ne!(file.gzip.tag, file.plain.tag);
        }
        let sent: usize = READY.iter().map(|file| file.gzip.body.len()).sum();
        assert!(sent < 60_000, "{sent}");
    }

    #[test]
    fn gzip_is_for_who_takes_it() {
        let takes = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
            takes_gzip(&headers)
        };
        for yes in ["gzip", "deflate, gzip;q=1.0", "br;q=1, GZIP ; q=0.1", "gzip, deflate, br"] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["", "identity", "br", "gzip;q=0", "gzip;q=0.0", "gzip;q=x", "xgzip"] {
            assert!(!takes(no), "{no}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn paths_are_names_and_nothing_else() {
        for there in ["/", "/page/page.js", "/page/page.css", "/page/icon.svg"] {
            assert!(find(there).is_some(), "{there}");
        }
        for not in ["/page/", "/page", "/page/index.html", "/page/../page.js", "/page/x.js", "/x"] {
            assert!(find(not).is_none(), "{not}");
        }
    }
}
