//! The command line as scripts see it: exit codes, and what goes to which stream.
mod top;

use std::process::{Command, Output, Stdio};

use crate::support::app::App;
use crate::support::until;

fn tidegate(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.args(args).envs(env.iter().copied()).stdin(Stdio::null());
    command.output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn root(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_says_ok_in_one_line() {
    let example = root("config.example.yaml");
    let out = tidegate(&["check", "-c", &example], &[]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let said = text(&out.stdout);
    assert_eq!(said.lines().count(), 1);
    assert!(said.starts_with(&format!("{example}: ok: 1 listener, ")), "{said}");
    assert!(out.stderr.is_empty());
    // the variable stands for the flag, also beside a command
    let by_env = tidegate(&["check"], &[("TIDEGATE_CONFIG", &example)]);
    assert_eq!(text(&by_env.stdout), said);
}

#[test]
fn check_prints_all_faults_to_stderr_and_exits_1() {
    let bad = root("tests/fixtures/config/bad/many_at_once.yaml");
    for args in [&["check", "-c", &bad][..], &["run", "-c", &bad], &["-c", &bad]] {
        let out = tidegate(args, &[]);
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        assert!(out.stdout.is_empty());
        let said = text(&out.stderr);
        assert!(said.contains(&format!("{bad}:3:3: server.max_bdy")), "{said}");
        assert!(said.ends_with("7 faults\n"), "{said}");
    }
    assert_eq!(tidegate(&["check", "-c", "/no/such/file"], &[]).status.code(), Some(1));
}

#[test]
fn check_prints_what_is_in_effect_without_secrets() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("p.yaml");
    std::fs::write(&file, "upstreams: { groq: { key: '${CANARY}' } }\n").expect("written");
    let file = file.display().to_string();
    let canary = "canary-0e5b77";
    let out = tidegate(&["check", "--print", "-c", &file], &[("CANARY", canary)]);
    let said = text(&out.stdout);
    assert!(said.contains("https://api.groq.com:443/openai/v1"), "{said}");
    assert!(said.contains("first_byte: 10m"), "{said}");
    assert!(!said.contains(canary) && !text(&out.stderr).contains(canary), "{said}");
}

const TWO_VENDORS: &str = "upstreams: { openai: {}, groq: {} }\n\
    routes: [{ to: openai, fallback: [groq] }]\n";

#[test]
fn check_warns_where_a_callers_credential_reaches_a_second_vendor() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("p.yaml").display().to_string();
    for (policy, warned) in [
        (TWO_VENDORS.to_owned(), true),
        (TWO_VENDORS.replace("groq: {}", "groq: { key: '${CANARY}' }"), false),
    ] {
        std::fs::write(&file, policy).expect("written");
        let out = tidegate(&["check", "-c", &file], &[("CANARY", "canary-0e5b77")]);
        assert_eq!(out.status.code(), Some(0), "it is sound all the same");
        assert!(text(&out.stdout).starts_with(&format!("{file}: ok: ")));
        let said = text(&out.stderr);
        let telling = "warning: route *: calls for openai may go to groq, which has no `key`: ";
        assert_eq!(said.starts_with(telling), warned, "{said}");
        assert_eq!(said.contains("at api.groq.com\n"), warned, "{said}");
        assert_eq!(said.lines().count(), usize::from(warned), "{said}");
    }
}

#[tokio::test]
async fn a_second_vendor_is_told_at_start_and_at_each_reload() {
    let app = App::start(TWO_VENDORS);
    let told = || app.events().matches("shown to a second vendor").count();
    until("it is told", async || told() == 1).await;
    let events = app.events();
    let line = events.lines().find(|line| line.contains("second vendor")).expect("there");
    assert!(line.contains("WARN") && line.contains("api.groq.com"), "{line}");
    app.reload(&TWO_VENDORS.replace("groq: {}", "groq: { key: '${CANARY}' }")).await;
    assert_eq!(told(), 1, "it is put right");
    app.reload(&TWO_VENDORS.replace("openai: {}", "openai: { concurrency: 9 }")).await;
    assert_eq!(told(), 2);
}

#[test]
fn check_and_doctor_read_what_run_is_told_from_outside() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    let file = file.to_str().unwrap();
    std::fs::write(file, "listen: 127.0.0.1:1\nadmin: 0.0.0.0:0\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let token = ("TIDEGATE_ADMIN_TOKEN", "canary-0123456789abcdef");

    assert_eq!(tidegate(&["check", "-c", file], &[]).status.code(), Some(1), "open to all");
    let known = tidegate(&["check", "--print", "-c", file], &[token, ("TIDEGATE_LISTEN", &at)]);
    assert!(text(&known.stdout).contains(&at), "{}", text(&known.stdout));
    assert!(!text(&known.stdout).contains("canary"), "{}", text(&known.stdout));
    let doctor = tidegate(&["doctor", "--offline", "-c", file, "--listen", &at], &[token]);
    let said = text(&doctor.stdout);
    assert!(said.contains("ok   policy") && said.contains(&format!("{at}: taken")), "{said}");
}

#[test]
fn bad_usage_exits_2() {
    for args in
        [&["--nonsense"][..], &["check", "extra"], &["--workers", "0"], &["completions", "x"]]
    {
        let out = tidegate(args, &[]);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(out.stdout.is_empty() && !out.stderr.is_empty(), "{args:?}");
    }
    let out = tidegate(&["run"], &[("TIDEGATE_WORKERS", "many")]);
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn help_names_the_exit_codes_and_variables() {
    let out = tidegate(&["--help"], &[]);
    assert_eq!(out.status.code(), Some(0));
    let said = text(&out.stdout);
    for word in
        ["Exit codes:", "could not start", "TIDEGATE_CONFIG", "TIDEGATE_LOG_FORM", "simulate"]
    {
        assert!(said.contains(word), "{word} in {said}");
    }
}

#[test]
fn version_schema_and_completions_print() {
    let version = text(&tidegate(&["version"], &[]).stdout);
    assert_eq!(version, format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
    let json = text(&tidegate(&["version", "--json"], &[]).stdout);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    let shipped = std::fs::read_to_string(root("packaging/config.schema.json")).expect("shipped");
    assert_eq!(text(&tidegate(&["schema"], &[]).stdout), shipped);
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&tidegate(&["completions", shell], &[]).stdout);
        assert!(script.contains("simulate") && script.contains("listen"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_left_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0));
    assert!(out.stderr.is_empty(), "{}", text(&out.stderr));
}

#[test]
fn semantic_eval_reports_pairs_and_names_bad_lines() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).expect("written");
        file.display().to_string()
    };
    let turns = |first: &str, last: &str| {
        format!(r#"[{{"role":"system","content":"{first}"}},{{"role":"user","content":"{last}"}}]"#)
    };
    let lines = [
        r#"{"a":"How do I park here?","b":"hi, how do I park here","label":1,"category":"manners"}"#.to_owned(),
        r#"{"a":"Can I pay with PayPal?","b":"Can I pay with Klarna?","label":0,"category":"names"}"#.to_owned(),
        // the last turns are equal, what came before is not
        format!(
            r#"{{"a":{},"b":{},"label":0,"category":"talks"}}"#,
            turns("Speak Danish.", "How do I park here?"),
            turns("Speak Welsh.", "How do I park here?")
        ),
    ];
    let good = write("good.jsonl", &lines.join("\n"));
    let out = tidegate(&["semantic", "eval", "--json", &good], &[]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let all = report["categories"].as_array().and_then(|rows| rows.last()).expect("a row");
    assert_eq!((&all["same"], &all["different"]), (&1.into(), &2.into()), "{all}");
    for point in all["points"].as_array().expect("points").iter().take(3) {
        assert_eq!((&point["hits"], &point["false_hits"]), (&1.into(), &0.into()), "{point}");
    }
    let table =
        write("good.tsv", "label\tcategory\ta\tb\n1\tmanners\tHow do I park?\thow do i park\n");
    let said = text(&tidegate(&["semantic", "eval", &table], &[]).stdout);
    assert!(said.contains("score 2.00 *") && said.contains("manners"), "{said}");

    let bad = write("bad.jsonl", &format!("{}\n{{\n{}\n{{\"a\":1}}\n", lines[0], lines[1]));
    let out = tidegate(&["semantic", "eval", &bad], &[]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    assert!(
        out.stdout.is_empty() && said.contains("line 2: ") && said.contains("line 4: "),
        "{said}"
    );
    assert_eq!(tidegate(&["semantic", "eval", "/no/such/file"], &[]).status.code(), Some(3));
}

#[test]
fn check_warns_of_hedging_that_has_nowhere_to_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("p.yaml");
    let warned = |routes: &str| {
        let ups = "a: { url: http://a, hedge: on }, b: { urls: [http://b, http://c], hedge: on }";
        let policy = format!("upstreams: {{ {ups} }}\nroutes: [{routes}]\n");
        std::fs::write(&file, policy).expect("written");
        let out = tidegate(&["check", "-c", &file.display().to_string()], &[]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert_eq!(text(&out.stdout).lines().count(), 1);
        text(&out.stderr)
    };
    let said = warned("{ path: /a, to: a }, { to: b }");
    assert_eq!(said.lines().count(), 1);
    assert!(said.starts_with("warning: upstreams.a.hedge: of no use: "), "{said}");
    assert_eq!(warned("{ to: a, fallback: [b] }"), "");
    assert_eq!(warned("{ to: { a: 1, b: 1 } }"), "");
    assert_eq!(warned("{ path: /b, to: b }, { to: a, fallback: [{ to: a, model: other }] }"), "");
}
