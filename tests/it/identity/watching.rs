//! `tidegate agents` against a real instance: the same figures as everywhere else.
use std::process::Stdio;
use std::time::Duration;

use tidegate::simulate::{Options, start};
use tokio::task::JoinSet;

use super::*;

fn agents(app: &App, args: &[&str]) -> String {
    let admin = app.admin.to_string();
    let mut command = tidegate();
    command.args(["agents", "--once", "--admin", &admin]).args(args).stdout(Stdio::piped());
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap()
}

fn told(app: &App) -> Value {
    serde_json::from_str(&agents(app, &["--json"])).unwrap()
}

/// One agent of what was told.
fn one<'v>(view: &'v Value, agent: &str) -> &'v Value {
    let all = view["agents"].as_array().unwrap();
    all.iter().find(|one| one["agent"] == agent).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn the_table_and_its_json_are_the_figures_of_the_metrics() {
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator = start(Options { listen, tokens: 7, ..Options::default() }).unwrap();
    let app = App::start(&format!(
        "upstreams: {{ up: {{ url: 'http://{}', dialect: openai }} }}\nroutes: [{{ to: up }}]\n\
         prices: {{ m: {{ input: 1000, output: 2000 }} }}\n\
         policies: [{{ name: share, per: agent, limits: {{ requests: 40/day, spend: $9/day }} }}]\n",
        simulator.addr
    ));
    let mut calls = JoinSet::new();
    for (agent, count, script) in [("busy", 30, ""), ("slow", 6, "x-simulate: ttft=1500ms\r\n")] {
        for _ in 0..count {
            let lines = format!("x-agent-id: {agent}\r\n{script}");
            let to = app.addr;
            calls.spawn(async move { chat(to, &lines).await.status });
        }
    }
    crate::support::until("the slow ones run", async || one(&told(&app), "slow")["in_flight"] == 6)
        .await;
    // under load: what is told is told whole, and never goes back
    let mut before = 0;
    while !calls.is_empty() {
        let view = told(&app);
        let calls_now = view["agents"].as_array().unwrap().iter();
        let sum = calls_now.map(|one| one["calls"].as_u64().unwrap()).sum();
        assert!(sum >= before, "{sum} after {before}");
        before = sum;
        while calls.try_join_next().is_some() {}
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // one that is refused as well
    for _ in 0..11 {
        chat(app.addr, "x-agent-id: busy\r\n").await;
    }
    let lines = app.lines(47).await;
    let view = told(&app);
    for agent in ["busy", "slow"] {
        let label = format!("agent=\"{agent}\"");
        let one = one(&view, agent);
        let sum = |field: &str| {
            let of = lines.iter().filter(|line| at(line, "agent") == agent);
            of.filter_map(|line| line[field].as_u64()).sum::<u64>()
        };
        let metric = |name: &str, with: &str| app.count(name, &[&label, with]) as u64;
        let count = lines.iter().filter(|line| at(line, "agent") == agent).count() as u64;
        assert_eq!(one["calls"], count, "{one}");
        assert_eq!(metric("tidegate_agent_requests_total", ""), count);
        for (field, kind) in
            [("input_tokens", "type=\"input\""), ("output_tokens", "type=\"output\"")]
        {
            assert_eq!(one[field], sum(field), "{field}: {one}");
            assert_eq!(metric("tidegate_agent_tokens_total", kind), sum(field), "{field}");
        }
        let cost = sum("input_tokens") * 1_000_000 + sum("output_tokens") * 2_000_000;
        assert_eq!(one["spend_nano"], cost, "{one}");
        let dollars = app.metric("tidegate_agent_spend_dollars_total", &[&label]);
        assert!((dollars - cost as f64 / 1e9).abs() < 1e-9, "{dollars} {cost}");
        assert_eq!(one["refused"], metric("tidegate_agent_refusals_total", ""), "{one}");
        let spent = one["limits"].as_array().unwrap().iter().find(|l| l["measure"] == "spend");
        assert_eq!(spent.unwrap()["used"], cost, "the bucket has the same: {one}");
    }
    assert_eq!(
        (&one(&view, "busy")["refused"], &one(&view, "slow")["refused"]),
        (&1.into(), &0.into())
    );
    let table = agents(&app, &[]);
    let row = table.lines().find(|line| line.starts_with("busy ")).expect("a row");
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells[2..6], ["default", "0", "0", "41"], "{table}");
    // a thousandth of the next request has come back already
    let full = ["requests 39/40", "requests 40/40"].iter().any(|limit| row.contains(limit));
    assert!(full && row.contains("spend $1.04/$9.00"), "{table}");
}
