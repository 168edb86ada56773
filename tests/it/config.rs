//! The policy file from outside: each wrong key has its message, each right file its meaning.
//!
//! `tests/fixtures/config/bad/NAME.yaml` must give exactly the faults in `NAME.txt`. Run with
//! `UPDATE=1` to write the messages anew, then read the difference.
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate::config::{
    self, AccessLog, Address, Auth, Config, Faults, Host, Http2, LogForm, ProxyRule, Secret,
};
use tidegate::wire::Dialect;

/// Stands wherever a secret may stand, also in the wrong places; no message may show it.
const CANARY: &str = "canary-7f3a91c4";

fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config").join(kind)
}

fn env(name: &str) -> Option<String> {
    match name {
        "KEY" => Some(format!("sk-{CANARY}")),
        "EMPTY" => Some(String::new()),
        "NUMBER" => Some("64".to_owned()),
        "WORDS" => Some("not a number".to_owned()),
        "LINES" => Some(format!("{CANARY}\r\nx-evil: 1")),
        "YAML" => Some("{ url: http://evil }".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, Faults> {
    config::parse("tests/fixtures/config/policy.yaml", text, &env)
}

#[test]
fn every_wrong_key_has_its_message() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut names: Vec<PathBuf> = fs::read_dir(fixtures("bad"))
        .expect("the fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 40, "{} fixtures", names.len());
    let mut wrong = Vec::new();
    for path in names {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("text");
        let Err(faults) = config::parse(&path.display().to_string(), &text, &env) else {
            wrong.push(format!("{name}: accepted"));
            continue;
        };
        // a path of this machine must not stand in the expected message
        let here = format!("{}/", fixtures("bad").display());
        let got = format!("{faults}\n").replace(&here, "");
        assert!(!got.contains(CANARY), "{name} shows a secret:\n{got}");
        assert!(!format!("{faults:?}").contains(CANARY), "{name} shows a secret in Debug");
        let lines: Vec<u32> = faults.as_slice().iter().map(|fault| fault.line).collect();
        assert!(lines.is_sorted(), "{name}: {lines:?}");
        let expected = path.with_extension("txt");
        if update {
            fs::write(&expected, &got).expect("writable");
        } else if fs::read_to_string(&expected).unwrap_or_default() != got {
            wrong.push(format!("{name}: now says\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn right(text: &str) -> Config {
    parse(text).unwrap_or_else(|faults| panic!("{faults}"))
}

fn url(text: &str) -> (String, String) {
    let config = right(&format!("upstreams: {{ a: {text} }}"));
    let upstream = &config.upstreams[0];
    (upstream.urls[0].to_string(), upstream.api_prefix.to_string())
}

#[test]
fn an_empty_file_is_as_no_file() {
    for text in ["", "# nothing\n", "---\n", "{}", "server: {}"] {
        assert_eq!(right(text), config::without_file(), "{text:?}");
    }
}

#[test]
fn without_a_file_vendors_come_by_prefix_and_sdk_paths_by_dialect() {
    let config = config::without_file();
    assert_eq!(config.listen[0].at, Address::Tcp(([127, 0, 0, 1], 8080).into()));
    for name in ["openai", "anthropic", "gemini", "groq", "mistral", "openrouter", "ollama"] {
        let route = config.routes.iter().find(|route| *route.path == format!("/{name}"));
        let to = route.expect(name).to;
        assert_eq!(&*config.upstreams[to].name, name);
    }
    let bare: Vec<_> = config.routes.iter().filter(|route| route.path.is_empty()).collect();
    let bare: Vec<_> =
        bare.iter().map(|route| (route.dialect, &*config.upstreams[route.to].name)).collect();
    assert_eq!(
        bare,
        [
            (Some(Dialect::OpenAi), "openai"),
            (Some(Dialect::Anthropic), "anthropic"),
            (Some(Dialect::Gemini), "gemini"),
            (Some(Dialect::Ollama), "ollama"),
        ]
    );
    let first_bare = config.routes.iter().position(|route| route.path.is_empty());
    assert!(config.routes[first_bare.expect("some")..].iter().all(|route| route.path.is_empty()));
    for upstream in &config.upstreams {
        assert_eq!(upstream.key, None, "the caller's credential passes through");
    }
}

#[test]
fn a_url_is_right_with_and_without_its_version() {
    for (given, origin, prefix) in [
        ("https://api.openai.com", "https://api.openai.com:443", "/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com:443", "/v1"),
        ("https://api.groq.com", "https://api.groq.com:443/openai", "/v1"),
        ("https://api.groq.com/openai", "https://api.groq.com:443/openai", "/v1"),
        ("https://api.groq.com/openai/v1", "https://api.groq.com:443/openai", "/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "/v1"),
        ("http://127.0.0.1:8000/llm/v4", "http://127.0.0.1:8000/llm", "/v4"),
        ("http://127.0.0.1:8000/llm", "http://127.0.0.1:8000/llm", "/v1"),
        ("https://x.openai.azure.com", "https://x.openai.azure.com:443", "/openai/v1"),
        ("https://x.openai.azure.com/openai/v1", "https://x.openai.azure.com:443", "/openai/v1"),
    ] {
        assert_eq!(url(given), (origin.to_owned(), prefix.to_owned()), "{given}");
    }
    let gemini = "https://generativelanguage.googleapis.com";
    for given in [gemini.to_owned(), format!("{gemini}/v1beta")] {
        assert_eq!(url(&given), (format!("{gemini}:443"), "/v1beta".to_owned()));
    }
    let ollama = right("upstreams: { ollama: { url: http://10.0.0.9:11434 } }");
    assert_eq!(ollama.upstreams[0].dialect, Dialect::Ollama);
    assert_eq!(&*ollama.upstreams[0].api_prefix, "");
}

#[test]
fn a_preset_goes_by_host_and_then_by_name() {
    let config = right(
        "upstreams:\n  mine: { url: https://api.anthropic.com, key: '${KEY}' }\n  anthropic: { url: http://127.0.0.1:1 }\n  plain: http://h\n",
    );
    let [mine, named, plain] = &config.upstreams[..] else { panic!("three") };
    assert_eq!(mine.dialect, Dialect::Anthropic);
    assert_eq!(mine.auth, Auth::Header("x-api-key".parse().expect("a name")));
    assert_eq!(&*mine.provider, "anthropic");
    assert_eq!(mine.key.as_ref().map(Secret::expose), Some(&*format!("sk-{CANARY}")));
    assert_eq!(named.dialect, Dialect::Anthropic);
    assert_eq!((plain.dialect, &*plain.provider), (Dialect::OpenAi, "plain"));
    assert!(!format!("{config:?}").contains(CANARY));
    assert!(!config::redacted(&config).contains(CANARY));
}

#[test]
fn upstreams_without_routes_get_their_prefix_and_the_bare_paths() {
    let config = right("upstreams: { a: http://a, b: http://b, ollama: {} }");
    let routes: Vec<_> =
        config.routes.iter().map(|route| (&*route.path, route.dialect, route.to)).collect();
    assert_eq!(
        routes,
        [
            ("/a", None, 0),
            ("/b", None, 1),
            ("/ollama", None, 2),
            ("", Some(Dialect::OpenAi), 0),
            ("", Some(Dialect::Ollama), 2),
        ]
    );
}

#[test]
fn every_form_is_understood() {
    let text = fs::read_to_string(fixtures("good").join("all_forms.yaml")).expect("text");
    let name = fixtures("good").join("all_forms.yaml");
    let config = config::parse(&name.display().to_string(), &text, &env)
        .unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.listen.len(), 4);
    assert_eq!(config.listen[1].at, Address::Unix(PathBuf::from("/run/tidegate.sock")));
    assert_eq!(config.listen[2].at, Address::Inherited(Some("web".to_owned())));
    let tls = config.listen[3].tls.as_ref().expect("tls");
    assert!(tls.cert.is_absolute() && tls.client_ca.is_some() && !tls.client_required);
    assert_eq!(config.admin, None);
    assert_eq!((config.server.max_body, config.server.drain_delay), (1_000_000, Duration::ZERO));

    let local = &config.upstreams[0];
    assert_eq!(local.key.as_ref().map(Secret::expose), Some("from-a-file"));
    assert_eq!(local.concurrency, Some(64), "digits from the environment");
    assert_eq!((local.pool.max_idle, local.pool.warm), (8, 4), "merged from the anchor");
    assert_eq!(local.timeouts.total, Duration::from_mins(5));
    assert_eq!(local.timeouts.first_byte, local.timeouts.total, "a default is cut to total");
    assert_eq!(local.http2, Http2::Always);
    assert_eq!(local.headers[0].1, "a: b # c");
    assert!(local.headers[0].1.is_sensitive());
    assert_eq!(config.upstreams[1].urls[0].host, Host::Unix(PathBuf::from("/run/llm.sock")));
    assert!(matches!(
        &config.upstreams[2].proxy,
        ProxyRule::Through { port: 3128, authorization: Some(_), .. }
    ));
    assert!(config.upstreams[3].builtin && config.upstreams[3].urls.is_empty());

    let routes: Vec<_> = config
        .routes
        .iter()
        .map(|route| (&*route.path, route.model.as_deref(), route.to, &*route.name))
        .collect();
    assert_eq!(
        routes,
        [
            ("/a/b", None, 0, "/a/b"),
            ("/v1", Some("llama-*"), 1, "/v1 llama-*"),
            ("/v1", Some("*"), 2, "rest"),
            ("", None, 3, "*"),
        ]
    );
    assert_eq!(config.telemetry.level, "tidegate=debug,warn");
    assert_eq!(
        (config.telemetry.form, config.telemetry.access_log),
        (LogForm::Json, AccessLog::Off)
    );
}

#[test]
fn routes_may_name_known_vendors_without_upstreams() {
    let config = right("routes: [{ path: /x, to: anthropic }]");
    assert_eq!(&*config.upstreams[config.routes[0].to].name, "anthropic");
}

#[test]
fn a_hostile_file_is_refused_in_bounded_time() {
    let large = "#".repeat((1 << 20) + 1);
    assert!(parse(&large).expect_err("large").to_string().contains("1 MiB"));
    let keys: String =
        (0..20_000).flat_map(|n| ["k".to_owned(), n.to_string(), ": {}\n".to_owned()]).collect();
    let start = std::time::Instant::now();
    assert!(parse(&keys).expect_err("unknown").as_slice().len() >= 1_000);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn load_knows_what_to_watch_and_when_nothing_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, secret) = (dir.path().join("policy.yaml"), dir.path().join("secret"));
    fs::write(&secret, "one\n").expect("written");
    fs::write(&file, "upstreams: { a: { url: http://a, key: 'file:secret' } }\n").expect("written");
    let first = config::load(&file).expect("right");
    assert_eq!(first.files, [file.clone(), secret.clone()]);
    assert_eq!(first.config.upstreams[0].key.as_ref().map(Secret::expose), Some("one"));
    assert_eq!(config::load(&file).expect("right").digest, first.digest);
    fs::write(&secret, "two\n").expect("written");
    assert_ne!(config::load(&file).expect("right").digest, first.digest);

    fs::write(&file, [b'a', 0xff]).expect("written");
    assert!(config::load(&file).expect_err("bytes").to_string().contains("UTF-8"));
    let faults = config::load(dir.path()).expect_err("a directory").to_string();
    assert!(faults.contains("cannot be read"), "{faults}");
    assert!(config::load(&dir.path().join("none.yaml")).is_err());
}

#[test]
fn the_command_line_wins_and_is_checked() {
    let address = |text| config::address(text).expect(text);
    let mut source = config::Source::default();
    source.overrides.listen = vec![address("127.0.0.1:1"), address("unix:/run/x.sock")];
    source.overrides.admin = Some(None);
    source.overrides.level = Some("debug".to_owned());
    let config = source.load().expect("right").config;
    assert_eq!(config.listen.len(), 2);
    assert_eq!((config.admin, config.telemetry.level.as_str()), (None, "debug"));
    source.overrides.admin = Some(Some(address("0.0.0.0:1")));
    assert!(source.load().expect_err("a clash").to_string().contains("command line"));
}

#[test]
fn names_are_shared_not_copied() {
    let config = right("upstreams: { a: http://a }");
    assert!(Arc::ptr_eq(&config.routes[0].name, &config.upstreams[0].name));
}
