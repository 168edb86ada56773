//! The guard against runaway agents, from outside: agents that really go round, each with its whole
//! conversation in every request, and agents that only look like it.
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::simulate::{Options, Simulator, start};

use crate::support::app::App;
use crate::support::client::{Answer, Client, ask, request};
use crate::support::until;

/// The program in front of a simulator whose model calls the same tool whatever it is told.
fn guarded(runaway: &str) -> (App, Simulator) {
    let simulator = start(Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() });
    let simulator = simulator.expect("a simulator");
    let app = App::start(&format!(
        "upstreams: {{ up: {{ url: 'http://{}' }} }}\nroutes: [{{ to: up }}]\n\
         policies: [{{ match: {{}}, runaway: {runaway} }}]\n",
        simulator.addr
    ));
    (app, simulator)
}

/// An agent's loop: ask the model, do what it says, tell it the result.
struct Agent {
    name: &'static str,
    path: &'static str,
    messages: Vec<Value>,
    turns: u64,
}

impl Agent {
    fn new(name: &'static str, path: &'static str) -> Self {
        let first = json!({"role": "user", "content": format!("I am {name}. When is high tide?")});
        Self { name, path, messages: vec![first], turns: 0 }
    }

    fn speaks_anthropic(&self) -> bool {
        self.path == "/v1/messages"
    }

    fn request(&self) -> Vec<u8> {
        let schema = json!({"type": "object", "properties": {}});
        let (tools, choice) = if self.speaks_anthropic() {
            (json!([{"name": "tide", "input_schema": schema}]), json!({"type": "any"}))
        } else {
            let function = json!({"name": "tide", "parameters": schema});
            (json!([{"type": "function", "function": function}]), json!("required"))
        };
        let body = json!({
            "model": "m", "max_tokens": 100, "messages": self.messages,
            "tools": tools, "tool_choice": choice,
        });
        let lines = format!("content-type: application/json\r\nx-agent-id: {}\r\n", self.name);
        request("POST", self.path, &lines, &body.to_string())
    }

    /// One request; the model's call is carried out if there is one.
    async fn step(&mut self, app: &App) -> Answer {
        let got = ask(app.addr, &self.request()).await;
        if got.status == 200 {
            self.turns += 1;
            self.carry_out(&got.json(), None);
        }
        got
    }

    /// `arguments`: as if the model had said these.
    fn carry_out(&mut self, said: &Value, arguments: Option<Value>) {
        let result = format!("not yet, at {}", self.turns);
        if self.speaks_anthropic() {
            let mut content = said["content"].clone();
            let call = &mut content[0];
            assert_eq!(call["type"], "tool_use", "{said}");
            if let Some(arguments) = arguments {
                call["input"] = arguments;
            }
            let id = call["id"].clone();
            self.messages.push(json!({"role": "assistant", "content": content}));
            let result = json!({"type": "tool_result", "tool_use_id": id, "content": result});
            self.messages.push(json!({"role": "user", "content": [result]}));
        } else {
            let mut message = said["choices"][0]["message"].clone();
            let call = &mut message["tool_calls"][0];
            assert_eq!(call["function"]["name"], "tide", "{said}");
            if let Some(arguments) = arguments {
                call["function"]["arguments"] = arguments.to_string().into();
            }
            let id = call["id"].clone();
            self.messages.push(message);
            self.messages.push(json!({"role": "tool", "tool_call_id": id, "content": result}));
        }
    }

    /// The user interrupts.
    fn told(&mut self, words: &str) {
        self.messages.push(json!({"role": "assistant", "content": "I was interrupted."}));
        self.messages.push(json!({"role": "user", "content": words}));
    }
}

fn flagged(app: &App, action: &str) -> usize {
    app.count("tidegate_runaway_total", &[&format!("action=\"{action}\"")])
}

fn here(app: &App, name: &str) -> Value {
    let state = app.state();
    let agents = state["agents"].as_array().expect("agents").iter();
    agents.clone().find(|agent| agent["agent"] == name).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_loop_is_stopped_and_told_once() {
    let (app, _simulator) = guarded("{ repeats: 4, action: stop }");
    let mut calls = 0;
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let name = if path.ends_with("messages") { "anthropic" } else { "openai" };
        let mut agent = Agent::new(name, path);
        let refused = loop {
            let got = agent.step(&app).await;
            calls += 1;
            assert!(calls < 20, "it is stopped at some time");
            if got.status != 200 {
                break got;
            }
        };
        assert_eq!(agent.turns, 4, "four calls of the tool were let through, and no fifth turn");
        assert_eq!(refused.status, 429);
        assert_eq!(refused.head.get("x-should-retry"), Some("false"));
        assert_eq!(refused.head.get("x-tidegate-source"), Some("policy"));
        assert!(refused.text().contains("runaway agents stopped"), "{}", refused.text());
        // trying again changes nothing, and others go on
        assert_eq!(agent.step(&app).await.status, 429);
        assert_eq!(Agent::new("other", path).step(&app).await.status, 200);
        assert_eq!(here(&app, name)["runaway"], true);
        // another word of the user does
        agent.told("Do something else.");
        assert_eq!(agent.step(&app).await.status, 200);
        assert_eq!(here(&app, name)["runaway"], false);
        calls += 3;
    }
    assert_eq!(flagged(&app, "stop"), 4);
    let lines = app.lines(calls).await;
    let stopped: Vec<_> = lines.iter().filter(|line| line["runaway"] == true).collect();
    assert_eq!(stopped.len(), 4);
    assert!(stopped.iter().all(|line| line["status"] == 429 && line["error"] == "runaway"));
    assert_eq!(app.events().matches("an agent runs away").count(), 2, "once for each agent");
}

#[tokio::test]
async fn observing_only_tells() {
    let (app, _simulator) = guarded("{ repeats: 3 }");
    let mut agent = Agent::new("looper", "/v1/chat/completions");
    for _ in 0..8 {
        assert_eq!(agent.step(&app).await.status, 200);
    }
    let marks: Vec<_> = app.lines(8).await.iter().map(|line| line["runaway"] == true).collect();
    assert_eq!(marks, [false, false, false, true, true, true, true, true]);
    assert_eq!(
        (flagged(&app, "observe"), here(&app, "looper")["runaway"].clone()),
        (5, true.into())
    );
    assert_eq!(app.events().matches("an agent runs away").count(), 1);
}

#[tokio::test]
async fn a_slowed_agent_waits_alone_and_may_leave() {
    let (app, _simulator) = guarded("{ repeats: 2, action: slow }");
    let mut agent = Agent::new("looper", "/v1/chat/completions");
    for _ in 0..2 {
        agent.step(&app).await;
    }
    let from = Instant::now();
    let mut waiting = Client::connect(app.addr).await;
    waiting.send(&agent.request()).await;
    until("it waits", async || here(&app, "looper")["waiting"] == 1).await;
    // others pass it by
    for _ in 0..5 {
        let got = Agent::new("other", "/v1/chat/completions").step(&app).await;
        assert_eq!(got.status, 200);
    }
    assert_eq!(here(&app, "looper")["waiting"], 1, "it still waits, and they did not");
    let got = waiting.answer().await;
    assert_eq!(got.status, 200);
    assert!(from.elapsed() >= Duration::from_secs(1), "{:?}", from.elapsed());
    agent.carry_out(&got.json(), None);
    // the next one waits two seconds; its client leaves before
    let mut leaving = Client::connect(app.addr).await;
    leaving.send(&agent.request()).await;
    until("it waits", async || here(&app, "looper")["waiting"] == 1).await;
    drop(leaving);
    until("it has left", async || here(&app, "looper")["waiting"] == 0).await;
    let lines = app.lines(9).await;
    assert_eq!(lines[8]["status"], 499, "it left before its turn");
    let slowed = lines.iter().find(|line| line["runaway"] == true).expect("a mark");
    assert!(slowed["queued_ms"].as_f64().expect("a time") >= 950.0, "{slowed}");
    // what it does next is something else: no wait, where four seconds would be due
    agent.told("Do something else.");
    let from = Instant::now();
    assert_eq!(agent.step(&app).await.status, 200);
    assert!(from.elapsed() < Duration::from_secs(3));
    assert_eq!(flagged(&app, "slow"), 2);
}

#[tokio::test]
async fn work_is_left_alone() {
    let (app, _simulator) = guarded("{ repeats: 3, action: stop }");
    for path in ["/v1/chat/completions", "/v1/messages"] {
        // the same tool, each time for another port
        let mut agent = Agent::new("poller", path);
        for port in 0..100 {
            let got = ask(app.addr, &agent.request()).await;
            assert_eq!(got.status, 200, "{port}");
            agent.turns += 1;
            agent.carry_out(&got.json(), Some(json!({"port": port})));
        }
        // an SDK sends one request again and again
        let mut retrying = Agent::new("retrying", path);
        retrying.step(&app).await;
        for _ in 0..20 {
            assert_eq!(ask(app.addr, &retrying.request()).await.status, 200);
        }
    }
    // a team under one name: each asks for the same thing first
    for worker in 0..20 {
        let mut agent = Agent::new("team", "/v1/messages");
        agent.messages[0]["content"] = format!("You are worker {worker}.").into();
        assert_eq!(agent.step(&app).await.status, 200);
        assert_eq!(agent.step(&app).await.status, 200);
    }
    assert_eq!(flagged(&app, "stop"), 0);
    assert!(!app.events().contains("runs away"));
}
