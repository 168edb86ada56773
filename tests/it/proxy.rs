//! The data path from outside: the program in a process of its own, real sockets on both sides.
//!
//! The simulator is the usual backend; where exact bytes matter, a scripted origin. Names that begin
//! with `case_` are cases of a catalogue of what goes wrong between clients and model backends.
mod deadlines;
mod dying;
mod http2;
mod leaving;
mod passing;
mod pooling;
mod refusing;
mod retrying;
mod seen;
mod silence;
mod stale;
mod stalling;
mod streaming;
mod thinking;
mod upgrading;

use tidegate::simulate::{Options, Simulator, start};

use crate::support::app::App;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GEMINI: &str = "/v1beta/models/m:streamGenerateContent?alt=sse";
const OLLAMA: &str = "/api/chat";

/// What every face of the simulator understands.
const PLAIN: &str = r#"{"model":"m","stream":false,"messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

fn simulator() -> Simulator {
    start(Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() }).unwrap()
}

/// A policy with one upstream, called `up`, for every path. `more` are its settings, each
/// followed by a comma.
fn policy(url: &str, more: &str) -> String {
    // tests of faults fail many times in a row, and breakers have tests of their own
    format!(
        "upstreams: {{ up: {{ breaker: off, {more} url: '{url}' }} }}\nroutes: [{{ to: up }}]\n"
    )
}

/// The program in front of a simulator.
fn simulated(more: &str) -> (App, Simulator) {
    let simulator = simulator();
    let app = App::start(&policy(&format!("http://{}", simulator.addr), more));
    (app, simulator)
}
