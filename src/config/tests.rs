//! What needs to see inside: that table, readers, schema, example and defaults agree.
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::file::{Kind, Node};
use super::keys::{ROOT, Section, Shape};
use super::*;
use crate::io::base64;

const EXAMPLE: &str = include_str!("../../config.example.yaml");
const SCHEMA: &str = include_str!("../../packaging/config.schema.json");
const REFERENCE: &str = include_str!("../../docs/policy.md");

fn any_variable(name: &str) -> Option<String> {
    // these say something without being named
    if name.starts_with("OTEL_") {
        return None;
    }
    if name.starts_with("OPS_SECRET") {
        return Some(format!("whsec_{}", base64::encode(format!("{name:-^48}").as_bytes())));
    }
    // no two keys of an upstream may be alike
    Some(format!("some-value-of-{name}"))
}

#[expect(clippy::unnecessary_wraps, reason = "stands in for a reader of files")]
fn any_file(_: &Path, _: u64) -> io::Result<Vec<u8>> {
    Ok(b"-----BEGIN CERTIFICATE-----\n".to_vec())
}

fn parse_here(text: &str) -> Result<Config, Faults> {
    load::parse_with("policy.yaml", text, &any_variable, &any_file)
}

/// The example with the settings that are commented out, and without those they stand in for.
fn example_in_full() -> String {
    let short = ["listen: ", "admin: "];
    let lines = EXAMPLE.lines().filter(|line| !short.iter().any(|short| line.starts_with(short)));
    let setting =
        |line: &str| line.strip_prefix('#').filter(|rest| is_setting(rest)).map(str::to_owned);
    lines.map(|line| setting(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// `#key:` and what is nested under it with two spaces or more; prose has one space.
fn is_setting(rest: &str) -> bool {
    !rest.is_empty() && (!rest.starts_with(' ') || rest.starts_with("  "))
}

#[test]
fn the_reference_is_the_one_that_is_printed() {
    let page = reference();
    assert!(page == REFERENCE, "docs/policy.md: tidegate schema --markdown >docs/policy.md");
    // every section is told once, and every link leads to one
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let unique: BTreeSet<&str> = headings.iter().copied().collect();
    assert_eq!(headings.len(), unique.len());
    for link in page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        let leads = |heading: &&str| {
            heading.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
                == link.replace(['_', '-'], "")
        };
        assert!(headings.iter().any(leads), "{link}");
    }
}

#[test]
fn the_example_changes_nothing() {
    assert_eq!(parse_here(EXAMPLE).expect("right"), without_file());
}

#[test]
fn the_example_in_full_is_right_and_shows_the_defaults() {
    let config = parse_here(&example_in_full()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.server, Server::default());
    let otlp = config.telemetry.otlp.clone().expect("there");
    let plain = Otlp::new(otlp.endpoint.clone());
    assert_eq!(Otlp { headers: Vec::new(), ..otlp }, plain);
    assert_eq!(Telemetry { otlp: None, ..config.telemetry }, Telemetry::default());
    let tasks = config.tasks.expect("there");
    let ops = &tasks.webhooks[0];
    assert_eq!((&ops.events[..], ops.private), (&TaskEnd::ALL[..], false));
    assert_eq!(Tasks { webhooks: Vec::new(), ..tasks }, Tasks::default());
    let local = config.upstreams.iter().find(|u| &*u.name == "local").expect("there");
    let plain = Upstream::new("local");
    let slow = Some(Duration::from_secs(20));
    assert_eq!(local.retry, Retry { slow, ..plain.retry });
    assert_eq!((local.breaker, local.balance), (plain.breaker, plain.balance));
    assert_eq!(local.health, Some(HealthCheck::new("/health")));
    let after = Some(Duration::from_secs(3));
    assert_eq!(local.hedge, Some(Hedge { after, ..Hedge::default() }));
    assert_eq!(local.websocket, WebSocket { sessions: Some(100), ..plain.websocket });
    assert_eq!(local.pool, plain.pool);
    let idle = Some(Duration::from_secs(90));
    assert_eq!(local.timeouts, Timeouts { idle, ..plain.timeouts });
    assert_eq!((&local.auth, local.http2, &local.proxy), (&plain.auth, plain.http2, &plain.proxy));
    assert_eq!((local.dialect, &local.api_prefix), (plain.dialect, &plain.api_prefix));
}

/// Every key of the table by its path, without the names that users choose.
fn all_keys(section: &Section, path: &str, out: &mut BTreeSet<String>) {
    for key in section.keys {
        let path = format!("{path}/{}", key.name);
        inner(key.shape, &path, out);
        out.insert(path);
    }
}

fn inner(shape: &Shape, path: &str, out: &mut BTreeSet<String>) {
    match shape {
        Shape::Section(section) => all_keys(section, path, out),
        Shape::Names(value) | Shape::List(value) => inner(value, path, out),
        Shape::AnyOf(shapes) => {
            for shape in *shapes {
                inner(shape, path, out);
            }
        }
        _ => {}
    }
}

/// The keys that a document uses, in the same form; `chosen` keys are names of the user's own.
fn used_keys(node: &Node, path: &str, chosen: bool, out: &mut BTreeSet<String>) {
    match &node.kind {
        Kind::Map(entries) if chosen => {
            for entry in entries {
                used_keys(&entry.value, path, false, out);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                let path = format!("{path}/{}", entry.key);
                let chosen = ["upstreams", "headers", "prices", "models", "to", "webhooks"];
                let chosen = chosen.contains(&entry.key.as_str());
                used_keys(&entry.value, &path, chosen, out);
                out.insert(path);
            }
        }
        Kind::List(items) => {
            for item in items {
                used_keys(item, path, false, out);
            }
        }
        _ => {}
    }
}

#[test]
fn the_example_names_every_key() {
    let mut known = BTreeSet::new();
    all_keys(&ROOT, "", &mut known);
    let mut used = BTreeSet::new();
    used_keys(&file::parse("", &example_in_full()).expect("YAML"), "", false, &mut used);
    let missing: Vec<_> = known.difference(&used).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What stands under a key.
enum Inside {
    Keys,
    Names,
    List,
}

fn inside(key: &str) -> Inside {
    match key {
        "upstreams" | "prices" | "webhooks" => Inside::Names,
        "routes" | "policies" | "keys" | "certificates" | "peers" | "fallback" => Inside::List,
        _ => Inside::Keys,
    }
}

/// A value that no reader takes, under every key of the table: a reader that does not look at a
/// key would let it pass, and the schema would promise what does nothing.
#[test]
fn every_key_of_the_table_is_read() {
    let mut known = BTreeSet::new();
    all_keys(&ROOT, "", &mut known);
    assert!(known.len() > 50, "{}", known.len());
    for key in known {
        let mut text = "[[]]".to_owned();
        let mut path = String::new();
        let names: Vec<&str> = key.split('/').skip(1).collect();
        for (depth, name) in names.iter().enumerate().rev() {
            text = match depth.checked_sub(1).map(|under| inside(names[under])) {
                Some(Inside::Names) => format!("{{ local: {{ {name}: {text} }} }}"),
                Some(Inside::List) => format!("[{{ {name}: {text} }}]"),
                Some(Inside::Keys) => format!("{{ {name}: {text} }}"),
                None => format!("{name}: {text}"),
            };
        }
        for (depth, name) in names.iter().enumerate() {
            path += match depth.checked_sub(1).map(|under| inside(names[under])) {
                None => "",
                Some(Inside::Names) => ".local.",
                Some(Inside::List) => "[0].",
                Some(Inside::Keys) => ".",
            };
            path += name;
        }
        let faults = parse_here(&text).expect_err(&text);
        let told = faults.as_slice().iter().any(|fault| fault.path.starts_with(&path));
        assert!(told, "{key} in `{text}`, wanted at {path}: {faults}");
    }
}

/// The defaults in the table, written out, are the defaults in the types.
#[test]
fn the_told_defaults_are_the_real_ones() {
    let mut told = 0;
    for (section, path) in [
        (&keys::SERVER, "server: { KEY }"),
        (&keys::DRAIN, "server: { drain: { KEY } }"),
        (&keys::TELEMETRY, "telemetry: { KEY }"),
        (&keys::AGENTS, "agents: { KEY }"),
        (&ROOT, "KEY"),
    ] {
        for key in section.keys {
            let Some(default) = key.default else { continue };
            let text = path.replace("KEY", &format!("{}: {default}", key.name));
            assert_eq!(parse_here(&text).expect(&text), without_file(), "{text}");
            told += 1;
        }
    }
    let plain = parse_here("upstreams: { a: { url: https://a } }").expect("right");
    for (section, path) in [
        (&keys::UPSTREAM, "KEY"),
        (&keys::POOL, "pool: { KEY }"),
        (&keys::TIMEOUTS, "timeouts: { KEY }"),
        (&keys::RETRY, "retry: { KEY }"),
        (&keys::BREAKER, "breaker: { KEY }"),
        (&keys::WEBSOCKET, "websocket: { KEY }"),
    ] {
        for key in section.keys {
            // refused without a key to send, or a bound to wait for: the example covers them
            let alone = !["auth", "queue"].contains(&key.name);
            let Some(default) = key.default.filter(|_| alone) else { continue };
            let setting = path.replace("KEY", &format!("{}: {default}", key.name));
            let text = format!("upstreams: {{ a: {{ url: https://a, {setting} }} }}");
            assert_eq!(parse_here(&text).expect(&text), plain, "{text}");
            told += 1;
        }
    }
    // with all that some key would be refused without
    let policy = |name: &str, value: &str| {
        let mut settings = vec![
            ("limits", "{ tokens: 1/s, spend: $1/day hard }"),
            ("token_weights", "{}"),
            ("queue", "{}"),
            ("runaway", "{}"),
        ];
        settings.retain(|(other, _)| *other != name);
        settings.push((name, value));
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let text = format!("policies: [{{ {} }}]", settings.join(", "));
        parse_here(&text).expect(&text)
    };
    let plain = policy("queue", "{}");
    for (section, within) in [
        (&keys::POLICY, None),
        (&keys::TOKEN_WEIGHTS, Some("token_weights")),
        (&keys::QUEUE, Some("queue")),
        (&keys::RUNAWAY, Some("runaway")),
    ] {
        for key in section.keys {
            let Some(default) = key.default else { continue };
            let config = match within {
                Some(name) => policy(name, &format!("{{ {}: {default} }}", key.name)),
                None => policy(key.name, default),
            };
            assert_eq!(config, plain, "{}", key.name);
            told += 1;
        }
    }
    assert!(told > 35, "{told}");
}

/// Of parts that are off without a word.
#[test]
fn the_told_defaults_of_health_hedge_and_routes_are_the_real_ones() {
    let config = |setting: &str| {
        let text = "upstreams: { a: { url: http://a, health: { path: /ok, HEALTH }, \
                    hedge: { HEDGE } } }\nroutes: [{ to: a, ROUTE }]";
        let (part, setting) = setting.split_once('/').unwrap_or(("", ""));
        let text = ["HEALTH", "HEDGE", "ROUTE"].iter().fold(text.to_owned(), |text, name| {
            text.replace(name, if part == *name { setting } else { "" })
        });
        parse_here(&text).expect(&text)
    };
    let plain = config("");
    assert_eq!(plain.upstreams[0].health, Some(HealthCheck::new("/ok")));
    assert_eq!(plain.upstreams[0].hedge, Some(Hedge::default()));
    assert_eq!(plain.routes[0].on_exhausted, Exhausted::Refuse);
    assert_eq!(plain.routes[0].offload, Offload::Offered);
    let mut told = 0;
    for (section, part) in
        [(&keys::HEALTH, "HEALTH"), (&keys::HEDGE, "HEDGE"), (&keys::ROUTE, "ROUTE")]
    {
        for key in section.keys {
            let Some(default) = key.default else { continue };
            assert_eq!(config(&format!("{part}/{}: {default}", key.name)), plain, "{}", key.name);
            told += 1;
        }
    }
    assert_eq!(told, 7);
}

#[test]
fn the_told_defaults_of_a_cache_are_the_real_ones() {
    let mut told = 0;
    for (section, path) in [
        (&keys::CACHE, "cache: { ttl: 1h, KEY }"),
        (&keys::SEMANTIC, "cache: { ttl: 1h, semantic: { KEY } }"),
    ] {
        let config = |setting: &str| {
            let text = format!("state: ./x\npolicies: [{{ {} }}]", path.replace("KEY", setting));
            parse_here(&text).expect(&text)
        };
        let plain = config("");
        for key in section.keys {
            let Some(default) = key.default else { continue };
            assert_eq!(config(&format!("{}: {default}", key.name)), plain, "{}", key.name);
            told += 1;
        }
    }
    assert_eq!(told, 19);
    let whole = parse_here("state: ./x\npolicies: [{ cache: { ttl: 1h, semantic: shadow } }]");
    let cache = Cache { semantic: Some(Semantic::default()), ..Cache::default() };
    let expected = Some(CacheRule::On(Arc::new(cache)));
    assert_eq!(whole.expect("right").policies[0].cache, expected);
}

#[test]
fn the_told_defaults_of_tasks_are_the_real_ones() {
    let mut told = 0;
    let webhook = "webhooks: { a: { url: https://a, secret: '${OPS_SECRET}', KEY } }";
    for (section, path) in
        [(&keys::TASKS, "KEY"), (&keys::PER_AGENT, "per_agent: { KEY }"), (&keys::WEBHOOK, webhook)]
    {
        let config = |setting: &str| {
            let text = format!("state: ./x\ntasks: {{ {} }}", path.replace("KEY", setting));
            parse_here(&text).expect(&text)
        };
        let plain = config("");
        for key in section.keys {
            let Some(default) = key.default else { continue };
            assert_eq!(config(&format!("{}: {default}", key.name)), plain, "{}", key.name);
            told += 1;
        }
    }
    assert_eq!(told, 9);
    assert_eq!(parse_here("state: ./x").expect("right").tasks, Some(Tasks::default()));
    assert_eq!(parse_here("state: ./x\ntasks: off").expect("right").tasks, None);
}

#[test]
fn the_shipped_schema_is_the_one_that_is_printed() {
    let now = serde_json::to_string_pretty(&schema()).expect("JSON") + "\n";
    if std::env::var_os("UPDATE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/config.schema.json");
        std::fs::write(path, &now).expect("writable");
        return;
    }
    assert!(SCHEMA == now, "run the tests with UPDATE=1 and look at the difference");
}

/// The properties of the schema, as paths.
fn schema_keys(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    for (name, inner) in value["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        schema_keys(inner, &path, out);
        out.insert(path);
    }
    for inner in value["anyOf"].as_array().into_iter().flatten() {
        schema_keys(inner, path, out);
    }
    for inner in [&value["items"], &value["additionalProperties"]] {
        if inner.is_object() {
            schema_keys(inner, path, out);
        }
    }
}

#[test]
fn the_schema_has_the_keys_of_the_table() {
    let (mut table, mut schema_has) = (BTreeSet::new(), BTreeSet::new());
    all_keys(&ROOT, "", &mut table);
    schema_keys(&schema(), "", &mut schema_has);
    assert_eq!(table, schema_has);
}

#[test]
fn what_is_shown_reads_back_and_holds_no_secret() {
    let config = parse_here(&example_in_full()).expect("right");
    let shown = redacted(&config);
    assert!(!shown.contains("some-value"), "{shown}");
    assert!(!shown.contains("acme") && !shown.contains("whsec_"), "{shown}");
    // of a hash, a few digits are shown: put the rest back
    let whole = config.agents.keys.iter().fold(shown.clone(), |text, key| {
        let (KeyHash::Sha256(hash) | KeyHash::Hmac(hash)) = key.hash;
        let hex = hash.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert!(!shown.contains(&hex[..12]) && !format!("{config:?}").contains(&hex[..12]));
        text.replace(&format!("{}…", &hex[..8]), &hex)
    });
    // nor does the place of a secret read as one that signs
    let whole = whole.lines().map(|line| {
        let secret = line.trim_start().starts_with("secret: ");
        let line =
            if secret { "      secret: ['${OPS_SECRET_NEW}', '${OPS_SECRET}']" } else { line };
        format!("{line}\n")
    });
    let whole: String = whole.collect();
    let mut back = parse_here(&whole).unwrap_or_else(|faults| panic!("{faults}\n{shown}"));
    assert_eq!(back.agents.pepper.is_some(), config.agents.pepper.is_some());
    back.agents.pepper.clone_from(&config.agents.pepper);
    let (Some(door), Some(real)) = (&mut back.admin, &config.admin) else { panic!("no door") };
    assert!(door.token.is_some() && real.token.is_some());
    door.token.clone_from(&real.token);
    for (back, real) in back.upstreams.iter_mut().zip(&config.upstreams) {
        assert_eq!(back.keys.len(), real.keys.len());
        back.keys.clone_from(&real.keys);
        back.headers.clone_from(&real.headers);
        // no preset goes with a name of one's own
        back.provider = Arc::clone(&real.provider);
    }
    if let (Some(back), Some(real)) = (&mut back.telemetry.otlp, &config.telemetry.otlp) {
        assert_eq!(back.headers.len(), real.headers.len());
        back.headers.clone_from(&real.headers);
    }
    let mut hooks = back.tasks.iter_mut().flat_map(|tasks| &mut tasks.webhooks);
    let real = config.tasks.iter().flat_map(|tasks| &tasks.webhooks);
    // what is in a path lets whoever knows it in
    real.for_each(|real| hooks.next().expect("as many").path.clone_from(&real.path));
    drop(hooks);
    assert_eq!(back, config);
    assert!(!format!("{config:?}").contains("some-value"));
}

/// A vendor does `background` itself where its own hosts are called, whatever the upstream's name.
#[test]
fn who_answers_in_the_background_is_known_by_its_hosts() {
    let background = |upstream: &str| {
        let text = format!("upstreams: {{ {upstream} }}\nroutes: [{{ to: one }}]");
        let text = text.replace("to: one", &format!("to: {}", upstream.split(':').next().unwrap()));
        parse_here(&text).unwrap_or_else(|faults| panic!("{faults}\n{text}")).upstreams[0]
            .background
    };
    assert!(background("openai: {}"));
    assert!(background("mine: { url: 'https://api.openai.com/v1' }"));
    assert!(background("azure: { url: 'https://x.openai.azure.com' }"));
    assert!(background("gateway: { url: 'https://llm.example.com', background: on }"));
    for other in [
        "openai: { url: 'http://127.0.0.1:8000/v1' }",
        "azure: { url: 'https://eu.example.com' }",
        "mine: { url: 'https://api.openai.com.example.com' }",
        "openai: { urls: ['https://api.openai.com', 'https://eu.example.com'] }",
        "openai: { background: off }",
        "groq: {}",
        "trial: { builtin: simulator }",
    ] {
        assert!(!background(other), "{other}");
    }
    assert!(super::upstream::all_vendors()[0].background, "without a file, too");
}

/// The tables of words are in the order of the values they stand for.
#[test]
fn words_stand_for_their_values() {
    use crate::identity::{Class, Rung};
    assert_eq!(keys::RUNGS, Rung::ALL.map(Rung::as_str));
    assert_eq!(keys::CLASSES, Class::ALL.map(Class::as_str));
    assert_eq!(keys::PERS, Per::ALL.map(Per::as_str));
    assert_eq!(keys::ACTIONS, RunawayAction::ALL.map(RunawayAction::as_str));
    assert_eq!(keys::SCOPES, Scope::ALL.map(Scope::as_str));
    assert_eq!(keys::REPLAYS, Replay::ALL.map(Replay::as_str));
    assert_eq!(keys::BALANCES, Balance::ALL.map(Balance::as_str));
    assert_eq!(keys::OFFLOADS, Offload::ALL.map(Offload::as_str));
    assert_eq!(keys::ENDS, TaskEnd::ALL.map(TaskEnd::as_str));
    assert_eq!(keys::MODES, SemanticMode::ALL.map(SemanticMode::as_str));
    let limits: Vec<_> = keys::LIMITS.keys.iter().map(|key| key.name).collect();
    assert_eq!(limits, Measure::ALL.map(Measure::as_str));
}

/// Money does not pass through a float.
#[test]
fn digits_are_taken_from_the_file_as_they_are() {
    let price = |text: &str| {
        let text = format!("prices: {{ a: {{ input: {text}, output: 1 }} }}");
        parse_here(&text).map(|config| config.prices.models[0].1.input)
    };
    for (text, trillionths) in [
        ("0.50", 500_000),
        ("0.1", 100_000),
        ("2", 2_000_000),
        ("'1.25'", 1_250_000),
        ("!!float 0.3", 300_000),
        ("9999.999999", 9_999_999_999),
    ] {
        assert_eq!(price(text), Ok(trillionths), "{text}");
    }
    // as floats these would be taken for 0.3 and 100
    for text in ["0.30000000000000001", "1e2", "-0.5", ".inf", ".5"] {
        assert!(price(text).is_err(), "{text}");
    }
    let after_a_mark = "\u{feff}# é\nprices: { é: { input: 0.30000000000000001, output: 1 } }";
    assert!(parse_here(after_a_mark).is_err());
    let anchored =
        "prices: { a: &p { input: 0.30, output: 0.7 }, b: *p, c: { <<: *p, input: 0.10 } }";
    let models = parse_here(anchored).expect("right").prices.models;
    let input: Vec<_> = models.iter().map(|(_, price)| (price.input, price.output)).collect();
    assert_eq!(input, [(300_000, 700_000), (300_000, 700_000), (100_000, 700_000)]);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z:{}\\[\\]\"'#&*!|>$ \n-]{0,200}") {
        let _ = parse_here(&text);
    }

    #[test]
    fn no_value_under_a_known_key_makes_it_panic(value in any::<String>(), which in 0_usize..8) {
        let value = Value::from(value).to_string();
        let key = ["url", "key", "auth", "http2", "proxy", "dialect", "concurrency", "timeouts"][which];
        let _ = parse_here(&format!("upstreams: {{ a: {{ {key}: {value} }} }}"));
        let rule = ["requests", "spend", "concurrency", "tokens"][which % 4];
        let _ = parse_here(&format!("policies: [{{ name: {value}, limits: {{ {rule}: {value} }} }}]"));
        let key = ["disk", "temperature", "semantic"][which % 3];
        let _ = parse_here(&format!("policies: [{{ cache: {{ ttl: 1h, {key}: {value} }} }}]"));
        let key = ["threshold", "explore", "temperature", "embedder"][which % 4];
        let _ = parse_here(&format!(
            "policies: [{{ cache: {{ ttl: {value}, semantic: {{ {key}: {value} }} }} }}]"
        ));
        let key = ["retry", "breaker", "health", "hedge", "websocket", "balance"][which % 6];
        let _ = parse_here(&format!("upstreams: {{ a: {{ url: http://a, {key}: {value} }} }}"));
        let key = ["to", "fallback", "headers", "models", "on_exhausted"][which % 5];
        let _ = parse_here(&format!(
            "upstreams: {{ a: http://a }}\nroutes: [{{ to: a, {key}: {{ {value}: {value} }} }}]"
        ));
        let agents = ["header", "trust", "pepper", "access"][which % 4];
        let _ = parse_here(&format!("agents: {{ {agents}: {value}, keys: [{{ sha256: {value} }}] }}"));
        let _ = parse_here(&format!("listen: {value}\nroutes: [{{ path: {value}, to: {value} }}]"));
    }
}

#[test]
fn where_an_instance_is_needs_no_variable_of_its_upstreams() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.yaml");
    let reach = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Source { path: Some(path.clone()), overrides: Overrides::default() }.reach()
    };
    let upstreams =
        "upstreams: { a: { url: https://a.example, key: \"${SET_NOWHERE_AT_ALL}\" } }\n";
    let secret = "agents: { pepper: \"${SET_NOWHERE_AT_ALL}\" }\n";

    let found = reach(&format!("admin: unix:/run/a\nstate: data\n{upstreams}{secret}")).unwrap();
    assert_eq!(found.admin.unwrap().at, Address::Unix("/run/a".into()));
    assert_eq!((found.state, found.pepper), (Some(directory.path().join("data")), None));
    assert_eq!(reach(upstreams).unwrap(), Reach::from(&without_file()));
    // without a store a new key is hashed with it
    assert!(reach(secret).unwrap_err().to_string().contains("agents.pepper"));
    assert!(reach("admin: nowhere\n").unwrap_err().to_string().contains("admin"));
}
