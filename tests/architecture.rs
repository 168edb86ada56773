//! The law of the house, held against the sources: which room may use which, how large a file and
//! a function may be, and which words belong where. ARCHITECTURE.md gives the reasons.
//!
//! Every rule is first tried on a snippet that breaks it, so that none passes by seeing nothing.
#[path = "architecture/law.rs"]
mod law;
#[path = "architecture/source.rs"]
mod source;

use std::path::Path;

use source::{Breach, Source};

type Rule = fn(&[Source]) -> Vec<Breach>;

/// The project keeps the rule.
#[track_caller]
fn kept(rule: Rule) {
    let sources = source::all();
    assert!(sources.len() > 100, "the sources are not where they were");
    let breaches: Vec<_> = rule(sources).iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

/// The rule finds something at each of these lines of a snippet, and nothing elsewhere.
#[track_caller]
fn caught(rule: Rule, path: &str, text: &str, lines: &[usize]) {
    let found: Vec<_> = rule(&[Source::new(path, text)])
        .into_iter()
        // what the tables say of the files that this snippet does not have
        .filter(|breach| breach.path == path && !breach.rule.contains("no longer"))
        .map(|breach| breach.line)
        .collect();
    assert_eq!(found, lines, "src/{path}:\n{text}");
}

#[test]
fn rooms_use_what_is_below_them() {
    kept(law::layers);
    let up = "//! Doc.\nuse crate::config::Config;\nuse crate::{wire::Kind, pipeline, clock};\n";
    caught(law::layers, "upstream/pool.rs", up, &[3]);
    caught(law::layers, "wire/json.rs", up, &[2, 3, 3]);
    caught(law::layers, "listen/tls.rs", "use crate::admin;", &[1]);
    caught(law::layers, "route.rs", "use crate::upstream::Upstream;", &[]);
    caught(law::layers, "upstream.rs", "use crate::route::Route;", &[1]);
    caught(law::layers, "upstream/h1.rs", "use super::super::app::Start;", &[1]);
    caught(law::layers, "upstream/h1.rs", "use super::pool;\nmod x { use super::super::y; }", &[]);
    caught(law::layers, "wire.rs", "fn f() { super::config::load() }", &[1]);
    caught(law::layers, "nowhere.rs", "use crate::clock;", &[1]);
    caught(law::layers, "clock.rs", "use crate::elsewhere;", &[1]);
    let tests =
        "#[cfg(test)]\nmod tests {\n    use crate::app;\n}\nfn f() {\n    crate::app::x()\n}";
    caught(law::layers, "wire.rs", tests, &[6]);
}

#[test]
fn no_rooms_use_each_other_in_a_circle() {
    kept(law::circles);
    let there = Source::new("listen.rs", "use crate::admin;");
    let back = Source::new("admin.rs", "use crate::telemetry;\nuse crate::listen;");
    let breaches = law::circles(&[there, back]);
    assert_eq!(breaches.len(), 1);
    assert_eq!(
        breaches[0].to_string(),
        "src/admin.rs:2: a circle of rooms: listen → admin → listen"
    );
}

#[test]
fn the_tables_name_what_is_there() {
    kept(law::table);
    let breaches = law::table(&[Source::new("flight.rs", "use crate::clock::Tick;")]);
    let about = |room: &str, part: &str| {
        breaches.iter().any(|breach| breach.path == room && breach.rule.contains(part))
    };
    assert!(about("wire", "not there") && !about("flight", "not there"));
    assert!(about("flight", "`request_id`") && !about("flight", "`clock`"));
}

#[test]
fn words_stay_where_they_belong() {
    kept(law::bans);
    caught(law::bans, "wire/sse.rs", "use tokio::io;\nuse hyper::body::Body;", &[1, 2]);
    caught(law::bans, "wire/sse.rs", "async fn read() {}\nstruct Tokio;", &[1]);
    caught(law::bans, "pipeline.rs", "use hyper::client::conn;\nuse hyper::body;", &[1]);
    caught(law::bans, "upstream/h2.rs", "use hyper::client::conn;", &[]);
    caught(law::bans, "route.rs", "fn f() {\n    tokio::task::spawn_local(g());\n}", &[2]);
    caught(law::bans, "clock.rs", "fn f() {\n    std::thread::spawn(|| ());\n}", &[2]);
    caught(law::bans, "config/read.rs", "use serde_yaml::Spanned;", &[1]);
    caught(law::bans, "limits/budget.rs", "use redb::Database;", &[1]);
    caught(law::bans, "pipeline/admit.rs", "use tower::limit::ConcurrencyLimit;", &[1]);
    caught(law::bans, "pipeline/admit.rs", "fn f() { head.extensions_mut().insert(1); }", &[1]);
    caught(law::bans, "io.rs", "fn f() {\n    unsafe { g() }\n}", &[2]);
    let panics = "fn f() {\n    g().unwrap();\n    g().unwrap_or(1);\n    panic!(\"no\");\n}";
    caught(law::bans, "units.rs", panics, &[2, 4]);
    caught(law::bans, "units.rs", "fn f() {\n    g()\n        .expect(\"a reason\")\n}", &[3]);
    caught(
        law::bans,
        "units.rs",
        "/// Never `.unwrap()`.\nconst A: &str = \"unsafe panic!\";",
        &[],
    );
    caught(
        law::bans,
        "units.rs",
        "#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap(); }\n}",
        &[],
    );
    caught(law::bans, "units/tests.rs", "fn f() { g().unwrap(); }", &[]);
}

#[test]
fn an_exception_must_be_needed() {
    let breaches = law::bans(&[Source::new("upstream/h2.rs", "fn f() { spawn_blocking(g); }")]);
    let idle = |path: &str| breaches.iter().any(|breach| breach.path == path);
    assert!(idle("upstream/tls.rs") && !idle("upstream/h2.rs"));
}

#[test]
fn status_codes_are_named_where_we_answer() {
    kept(law::statuses);
    let named = "fn f(status: StatusCode) -> bool {\n    status == StatusCode::NOT_FOUND\n}";
    caught(law::statuses, "pipeline/dispatch.rs", named, &[2]);
    caught(law::statuses, "pipeline/refusal.rs", named, &[]);
    caught(law::statuses, "upstream/pool.rs", "fn f() { StatusCode::from_u16(1); }", &[]);
}

#[test]
fn metric_names_stand_in_telemetry() {
    kept(law::metric_names);
    caught(law::metric_names, "upstream/pool.rs", "const A: &str =\n    \"tidegate_pool\";", &[2]);
    caught(law::metric_names, "upstream/pool.rs", "const A: &str = r\"gen_ai_x\";", &[1]);
    caught(law::metric_names, "upstream/pool.rs", "// \"tidegate_pool\"", &[]);
    caught(law::metric_names, "telemetry/log.rs", "const A: &str = \"tidegate_pool\";", &[]);
}

#[test]
fn files_can_be_read_in_one_go() {
    kept(law::file_sizes);
    let lines = "// a line\n".repeat(400);
    let tests = "#[cfg(test)]\nmod tests {\n".to_owned() + &"// a test\n".repeat(100) + "}\n";
    caught(law::file_sizes, "io.rs", &(lines.clone() + &tests), &[]);
    caught(law::file_sizes, "io.rs", &(lines.clone() + "// more\n" + &tests), &[1]);
    caught(law::file_sizes, "io/tests.rs", &lines.repeat(2), &[]);
}

#[test]
fn functions_fit_on_a_screen() {
    kept(law::function_sizes);
    let function =
        |head: &str, lines: usize| format!("{head} {{\n{}}}\n", "    f();\n".repeat(lines));
    caught(law::function_sizes, "io.rs", &function("fn f()", 78), &[]);
    caught(law::function_sizes, "io.rs", &function("\npub fn f(a: [u8; 2])", 79), &[2]);
    caught(law::function_sizes, "io.rs", &function("fn drop(&mut self)", 10), &[]);
    caught(law::function_sizes, "io.rs", &function("fn drop(&mut self)", 11), &[1]);
}

#[test]
fn files_are_called_after_what_is_in_them() {
    kept(law::file_names);
    caught(law::file_names, "wire/mod.rs", "", &[1]);
    caught(law::file_names, "utils.rs", "", &[1]);
    caught(law::file_names, "model.rs", "", &[]);
}

#[test]
fn files_say_what_they_are_for() {
    kept(law::module_docs);
    caught(law::module_docs, "io.rs", "use std::io;\n", &[1]);
    caught(law::module_docs, "io.rs", "//!\nuse std::io;\n", &[1]);
    caught(law::module_docs, "io.rs", "//! Sockets.\n", &[]);
}

/// What ARCHITECTURE.md says of the rooms is what the law says, and its links lead somewhere.
#[test]
fn the_document_says_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    assert!(document.lines().count() <= 150, "ARCHITECTURE.md is read in one go");
    let links: Vec<_> =
        document.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
    assert!(links.len() > 10, "{links:?}");
    for link in links {
        assert!(root.join(link).exists(), "ARCHITECTURE.md points to {link}");
    }
    for (layer, rooms) in law::LAYERS.iter().enumerate() {
        let row = document.lines().find(|line| line.starts_with(&format!("| {layer} |")));
        let named: Vec<_> = row.unwrap_or_default().split('`').skip(1).step_by(2).collect();
        assert_eq!(sorted(&named), sorted(rooms), "layer {layer} of ARCHITECTURE.md");
    }
}

fn sorted<'w>(words: &[&'w str]) -> Vec<&'w str> {
    let mut words = words.to_vec();
    words.sort_unstable();
    words
}

/// The views of a file hold what the rules rely on.
#[test]
fn code_is_told_from_what_looks_like_it() {
    let text = r##"fn f<'a>(a: &'a str) -> char { '"' } // panic!
/* unsafe */ const B: &[u8] = br#"un"safe"#; const C: char = '\''; "\"unsafe" 'x' word"##;
    let source = Source::new("io.rs", text);
    assert_eq!(source.code.len(), text.len());
    assert!(source.code.contains("fn f<'a>(a: &'a str) -> char {     }"), "{}", source.code);
    assert!(source.code.ends_with(" word"));
    assert!(!source.code.contains("safe") && !source.code.contains("panic"));
    assert!(source.literal.contains(r##"br#"un"safe"#"##) && !source.literal.contains("panic"));
    assert_eq!(source.functions()[0].lines, 1);
}
