//! Any text as a policy file: faults, or a configuration whose secrets are never shown and that
//! reads back as what it is.
//!
//! Input: the text.
#![no_main]

use std::sync::LazyLock;

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tidegate::config::{self, Config, ProxyRule, Secret};

/// What every variable holds; nothing else says it.
const CANARY: &str = "canary-4d1f0c77";
/// What stands in the place of each secret.
const PLANTED: &str = "planted-81c2aa90";

/// Where the files are that the fixtures name.
static HERE: LazyLock<TempDir> = LazyLock::new(|| {
    let here = tempfile::tempdir().expect("a directory");
    let files = here.path().join("files");
    std::fs::create_dir(&files).expect("a directory");
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/config/files");
    for file in std::fs::read_dir(fixtures).expect("the fixtures").flatten() {
        std::fs::copy(file.path(), files.join(file.file_name())).expect("a copy");
    }
    here
});

fn parsed(text: &str) -> Result<Config, config::Faults> {
    let name = HERE.path().join("policy.yaml");
    config::parse(&name.display().to_string(), text, &|name| {
        // these say something without being named
        (!name.starts_with("OTEL_")).then(|| CANARY.to_owned())
    })
}

fuzz_target!(|text: &str| {
    if text.contains(CANARY) {
        return;
    }
    let config = match parsed(text) {
        Ok(config) => config,
        Err(faults) => {
            let said = faults.to_string();
            assert!(!said.is_empty() && !said.contains(CANARY), "{said}");
            return;
        }
    };
    let planted = planted(config.clone());
    for shown in [config::redacted(&planted), format!("{planted:?}")] {
        assert!(!shown.contains(PLANTED), "{shown}");
    }
    reads_back(&config);
});

/// What is shown of it is a policy file that says the same.
fn reads_back(config: &Config) {
    let through =
        |rule: &ProxyRule| matches!(rule, ProxyRule::Through { authorization: Some(_), .. });
    let hides = config.upstreams.iter().any(|upstream| through(&upstream.proxy))
        || config.agents.pepper.is_some()
        || !config.agents.keys.is_empty();
    // routes for the bare paths of SDKs are made, and no file can say them
    if hides || config.routes.is_empty() || config.routes.iter().any(|it| it.dialect.is_some()) {
        return;
    }
    let shown = config::redacted(config);
    let back = parsed(&shown).unwrap_or_else(|faults| panic!("{faults}\n{shown}"));
    assert_eq!(back.policies, config.policies, "{shown}");
    assert_eq!(back.server, config.server, "{shown}");
    assert_eq!(back.listen, config.listen, "{shown}");
    assert_eq!(back.routes, config.routes, "{shown}");
    assert_eq!(back.prices, config.prices, "{shown}");
    assert_eq!(config::redacted(&back), shown, "it is shown in two ways");
}

/// The same with another secret in each place that holds one.
fn planted(mut config: Config) -> Config {
    let secret = || Secret::new(PLANTED);
    for upstream in &mut config.upstreams {
        upstream.keys.iter_mut().for_each(|key| *key = secret());
        for (name, value) in &mut upstream.headers {
            assert!(value.is_sensitive(), "{name} would be shown");
            *value = HeaderValue::from_static(PLANTED);
            value.set_sensitive(true);
        }
        if let ProxyRule::Through { authorization, .. } = &mut upstream.proxy {
            *authorization = authorization.as_ref().map(|_| secret());
        }
    }
    config
}
