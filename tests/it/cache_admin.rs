//! What operators see of the cache and take out of it: the program and a simulator, `tidegate cache`
//! beside them.
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tidegate::simulate::{Options, Simulator, start};
use tokio::task::JoinSet;

use crate::support::app::App;
use crate::support::client::{Answer, ask, request};
use crate::support::until;

/// For an instance that has no token to be shown.
const ACTIONS: &str = "admin: { at: '127.0.0.1:0', actions: on }\n";

fn simulator() -> Simulator {
    start(Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() }).unwrap()
}

/// One upstream, a price of a thousandth of a dollar a token, and answers kept an hour.
fn policy(simulator: &Simulator, state: Option<&Path>, cache: &str) -> String {
    let state = state.map_or_else(String::new, |state| format!("state: '{}'\n", state.display()));
    format!(
        "{state}server: {{ drain: {{ delay: 0s }} }}\n\
         prices: {{ m: {{ input: 1000, output: 1000 }} }}\n\
         upstreams: {{ up: {{ pacing: off, url: 'http://{}' }} }}\n\
         routes: [{{ name: all, to: up }}]\n\
         policies:\n  - {{ name: kept, cache: {{ ttl: 1h, scope: agent, {cache} }} }}\n",
        simulator.addr
    )
}

fn question(agent: &str, text: &str, more: &str) -> Vec<u8> {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] });
    let lines = format!("content-type: application/json\r\nx-agent-id: {agent}\r\n{more}");
    request("POST", "/v1/chat/completions", &lines, &body.to_string())
}

/// Asks; whether it was a hit, and where from.
async fn status(app: &App, agent: &str, text: &str) -> String {
    let answer = ask(app.addr, &question(agent, text, "")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.head.get("cache-status").expect("a status").to_owned()
}

fn tidegate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.arg("cache").args(args).stdin(Stdio::null()).output().expect("it runs")
}

/// Stdout of a command that goes well, asked of an instance.
fn said(app: &App, args: &[&str]) -> String {
    let admin = app.admin.to_string();
    let out = tidegate(&[args, &["--admin", &admin]].concat());
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!((out.status.code(), stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

/// Exit code and stderr of one that does not.
fn refused(app: &App, args: &[&str]) -> (i32, String) {
    let admin = app.admin.to_string();
    let out = tidegate(&[args, &["--admin", &admin]].concat());
    assert!(out.stdout.is_empty(), "{}", text(&out.stdout));
    (out.status.code().expect("a code"), text(&out.stderr))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[tokio::test]
async fn a_purge_takes_one_agents_answers_out_of_both_tiers_for_good() {
    let simulator = simulator();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let policy = policy(&simulator, Some(&state), "");
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, &policy).unwrap();
    let file = file.display().to_string();
    let mut app = App::start(&policy);
    for agent in ["researcher", "writer"] {
        assert_eq!(status(&app, agent, "who?").await, "tidegate; fwd=miss");
        assert!(status(&app, agent, "who?").await.contains("detail=memory"));
    }
    let purge = ["purge", "--agent", "research*", "--json", "--config", &file];
    let taken = json!({ "memory": 1, "disk": 1, "questions": 0 });
    assert_eq!(parsed(&said(&app, &purge)), taken);
    assert_eq!(parsed(&said(&app, &purge))["memory"], 0);
    assert!(status(&app, "writer", "who?").await.contains("detail=memory"));
    assert_eq!(status(&app, "researcher", "who?").await, "tidegate; fwd=miss");
    assert_eq!(parsed(&said(&app, &purge)), taken);
    app.lines(6).await;
    app.end().await;

    let mut app = App::start(&policy);
    assert_eq!(status(&app, "researcher", "who?").await, "tidegate; fwd=miss");
    assert!(status(&app, "writer", "who?").await.contains("detail=disk"), "it was written");
    let all = ["purge", "--all", "--config", &file];
    let words = said(&app, &all);
    assert!(words.starts_with("taken out: 2 answers in memory, 2 on disk, and 0 "), "{words}");
    app.end().await;

    let app = App::start(&policy);
    for agent in ["researcher", "writer"] {
        assert_eq!(status(&app, agent, "who?").await, "tidegate; fwd=miss");
    }
}

#[tokio::test]
async fn a_purge_by_the_beginning_of_a_key_takes_that_answer() {
    let simulator = simulator();
    let app = App::start(&format!("{ACTIONS}{}", policy(&simulator, None, "")));
    status(&app, "a", "one").await;
    status(&app, "a", "two").await;
    let shown = status(&app, "a", "one").await;
    let (_, key) = shown.split_once("key=\"").expect("a key");
    let key = key.trim_end_matches('"');
    assert_eq!(parsed(&said(&app, &["purge", "--json", "--prefix", key]))["memory"], 1);
    assert_eq!(status(&app, "a", "one").await, "tidegate; fwd=miss");
    assert!(status(&app, "a", "two").await.contains("; hit"));
    assert_eq!(parsed(&said(&app, &["purge", "--json", "--older-than", "1h"]))["memory"], 0);
}

/// Dollars as whole billionths, from the text of a JSON number.
fn nano(line: &Value, field: &str) -> i64 {
    line[field].as_f64().map_or(0, |dollars| (dollars * 1e9).round() as i64)
}

async fn at_once(app: &App, calls: Vec<Vec<u8>>) -> Vec<Answer> {
    let mut all = JoinSet::new();
    for call in calls {
        let to = app.addr;
        all.spawn(async move { ask(to, &call).await });
    }
    all.join_all().await
}

#[tokio::test]
async fn log_metrics_and_stats_agree_on_what_was_saved() {
    let simulator = simulator();
    let app = App::start(&policy(&simulator, None, ""));
    for text in ["one", "one and two", "one and two and three"] {
        for _ in 0..4 {
            status(&app, "researcher", text).await;
        }
    }
    let uncached = question("researcher", "one", "cache-control: no-store\r\n");
    assert_eq!(ask(app.addr, &uncached).await.status, 200);
    let slow = "x-simulate: ttft=400ms\r\n";
    let answers = at_once(&app, vec![question("writer", "together", slow); 5]).await;
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));

    let lines = app.lines(18).await;
    let results = json!({ "hit": 9, "joined": 4, "miss": 4, "bypass": 1 });
    for (how, count) in results.as_object().unwrap() {
        let logged = lines.iter().filter(|line| line["cache"] == **how).count();
        assert_eq!(Some(logged as u64), count.as_u64(), "{how}: {lines:#?}");
        let metric = app.count("tidegate_cache_requests_total", &[&format!("result=\"{how}\"")]);
        assert_eq!(Some(metric as u64), count.as_u64(), "{how}");
    }
    // what was asked again saves what it cost at first
    let of_size = |line: &Value| line["response_bytes"].as_u64();
    for miss in lines.iter().filter(|line| line["cache"] == "miss") {
        let same = |line: &&Value| {
            line["agent"] == miss["agent"]
                && line["request_bytes"] == miss["request_bytes"]
                && matches!(line["cache"].as_str(), Some("hit" | "joined"))
        };
        let again: Vec<_> = lines.iter().filter(same).collect();
        assert_eq!(again.len(), if miss["agent"] == "writer" { 4 } else { 3 });
        let tokens =
            miss["input_tokens"].as_u64().unwrap() + miss["output_tokens"].as_u64().unwrap();
        for line in again {
            assert_eq!(nano(line, "saved_dollars"), nano(miss, "spend_dollars"), "{line}");
            assert_eq!(line["saved_tokens"].as_u64(), Some(tokens), "{line}");
            assert_eq!(of_size(line), of_size(miss));
            for field in ["spend_dollars", "input_tokens", "output_tokens"] {
                assert_eq!(line[field], Value::Null, "{line}");
            }
        }
    }
    let sum = |field| lines.iter().map(|line| nano(line, field)).sum::<i64>();
    let (saved, spent) = (sum("saved_dollars"), sum("spend_dollars"));
    assert!(saved > spent, "13 of 18 cost nothing: {saved} {spent}");
    let close = |metric: f64, nano: i64| (metric - nano as f64 / 1e9).abs() < 1e-9;
    assert!(close(app.metric("tidegate_cache_saved_dollars_total", &[]), saved));
    assert!(close(app.metric("tidegate_agent_saved_dollars_total", &[]), saved));
    assert!(close(app.metric("tidegate_spend_dollars_total", &[]), spent));
    for (field, kind) in [("input_tokens", "input"), ("output_tokens", "output")] {
        let logged: u64 = lines.iter().filter_map(|line| line[field].as_u64()).sum();
        let counted = app.count("tidegate_tokens_total", &[&format!("type=\"{kind}\"")]);
        assert_eq!(counted as u64, logged, "{kind}");
    }
    let tokens: u64 = lines.iter().filter_map(|line| line["saved_tokens"].as_u64()).sum();
    assert_eq!(app.count("tidegate_cache_saved_tokens_total", &[]) as u64, tokens);
    assert_eq!(app.ended("complete"), 18);
    assert_eq!(app.count("tidegate_request_duration_seconds_count", &[]), 18);

    let told = parsed(&said(&app, &["stats", "--json"]));
    assert_eq!(told["calls"], results);
    let figures = (&told["saved_calls"], &told["saved_tokens"], &told["saved_nano"]);
    assert_eq!(figures, (&json!(13), &json!(tokens), &json!(saved)));
    assert_eq!((&told["in_flight"], &told["policies"][0]["policy"]), (&json!(0), &json!("kept")));
    let memory = &told["policies"][0]["memory"];
    assert_eq!((&memory["entries"], &memory["stores"]), (&json!(4), &json!(4)));
    let entries = app.count("tidegate_cache_entries", &["policy=\"kept\",tier=\"memory\""]);
    assert_eq!(entries, 4);
    let weight = app.count("tidegate_cache_bytes", &["tier=\"memory\""]) as u64;
    assert_eq!(memory["bytes"].as_u64(), Some(weight));
    assert_eq!(app.state()["cache"], told);
    let table = said(&app, &["stats"]);
    assert!(table.contains("calls 18: hit 9, joined 4, miss 4, bypass 1; saved $"), "{table}");
    let agents = app.state()["agents"].clone();
    let writer = agents.as_array().unwrap().iter().find(|one| one["agent"] == "writer").unwrap();
    assert_eq!((&writer["calls"], &writer["saved_calls"]), (&json!(5), &json!(4)));
}

#[tokio::test]
async fn calls_that_others_may_join_are_seen_while_they_last() {
    let simulator = simulator();
    let app = App::start(&policy(&simulator, None, ""));
    let (to, call) = (app.addr, question("a", "slow", "x-simulate: ttft=600ms\r\n"));
    let asked = tokio::spawn(async move { ask(to, &call).await });
    let flying = async || app.count("tidegate_cache_in_flight", &[]) == 1;
    until("one is in flight", flying).await;
    assert_eq!(asked.await.unwrap().status, 200);
    assert_eq!(app.count("tidegate_cache_in_flight", &[]), 0);
}

#[tokio::test]
async fn an_answer_that_was_wrong_is_given_to_its_own_question_only() {
    let simulator = simulator();
    let policy = policy(&simulator, None, "canonical: true");
    let app = App::start(&format!("{ACTIONS}{policy}"));
    status(&app, "a", "What is the capital of France?").await;
    // it is put in behind the answer
    let known = async || app.count("tidegate_cache_questions", &[]) == 1;
    until("the question is known", known).await;
    let shown = status(&app, "a", "what is the capital of france").await;
    assert!(shown.contains("detail=canonical"), "{shown}");
    let (_, key) = shown.split_once("key=\"").expect("a key");
    let key = key.trim_end_matches('"');
    let words = said(&app, &["wrong", key]);
    assert_eq!(words, "no longer given to questions in other words: 1\n");
    assert_eq!(status(&app, "a", "what is the capital of FRANCE!").await, "tidegate; fwd=miss");
    assert!(status(&app, "a", "What is the capital of France?").await.contains("detail=memory"));
    let alike = app.state()["cache"]["policies"][0]["alike"].clone();
    assert_eq!(alike["reported"], 1, "{alike}");
    let (code, why) = refused(&app, &["wrong", "00c0ffee"]);
    assert!(code == 2 && why.contains("no answer of that key"), "{code} {why}");
    let taken = parsed(&said(&app, &["purge", "--all", "--json"]));
    assert!(taken["questions"].as_u64().unwrap() > 0, "{taken}");
}

#[tokio::test]
async fn an_instance_without_a_token_may_only_be_looked_at_unless_that_is_on() {
    let simulator = simulator();
    let app = App::start(&policy(&simulator, None, ""));
    status(&app, "a", "one").await;
    for deed in [&["purge", "--all"][..], &["wrong", "00c0ffee"]] {
        let (code, why) = refused(&app, deed);
        assert!(code == 3 && why.contains("actions: on"), "{code} {why}");
    }
    assert!(status(&app, "a", "one").await.contains("; hit"));
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let simulator = simulator();
    let directory = tempfile::tempdir().unwrap();
    let policy = policy(&simulator, Some(&directory.path().join("state")), "");
    let app = App::start(&policy);
    status(&app, "a", "one").await;
    let (code, why) = refused(&app, &["purge"]);
    assert!(code == 2 && why.contains("--all"), "{code} {why}");
    let (code, why) = refused(&app, &["purge", "--all", "--agent", "a"]);
    assert!(code == 2 && why.contains("cannot be used with"), "{code} {why}");
    let (code, why) = refused(&app, &["purge", "--older-than", "5"]);
    assert!(code == 2 && why.contains("a duration"), "{code} {why}");
    let (code, why) = refused(&app, &["purge", "--all"]);
    assert!(code == 3 && why.contains("--config"), "{code} {why}");
    let file = directory.path().join("other.yaml");
    let other = directory.path().join("other");
    std::fs::write(&file, format!("state: '{}'\n", other.display())).unwrap();
    let file = file.display().to_string();
    let (code, why) = refused(&app, &["purge", "--all", "--config", &file]);
    assert!(code == 3 && why.contains("token"), "no store is there yet: {code} {why}");
    let (code, why) = refused(&app, &["purge", "--prefix", "xyz"]);
    assert!(code == 3, "the proof comes first: {code} {why}");
    assert!(status(&app, "a", "one").await.contains("; hit"));
    let nobody = tidegate(&["stats", "--admin", "127.0.0.1:1"]);
    let why = text(&nobody.stderr);
    assert!(nobody.status.code() == Some(3) && why.contains("nobody answers"), "{why}");
    let stranger = simulator.addr.to_string();
    let why = text(&tidegate(&["stats", "--admin", &stranger]).stderr);
    assert!(why.contains("no Tidegate"), "{why}");
}
