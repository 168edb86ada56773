//! A backend that needs no key and no network: OpenAI, Anthropic, Gemini and Ollama, streamed and
//! not, with tools, reasoning, embeddings, and every fault that real backends show.
//!
//! For tests, demonstrations and measurements, ours and yours. Answers follow from the seed and the
//! request alone: the same request gets the same bytes, ids and times included (`date` is never
//! sent; the only clock is in the headers of errors and of rate limits). It knows no model and no key.
//!
//! It must not be what a measurement measures, so it speaks HTTP/1.1 by hand: one thread or more,
//! each with its own listener and connections, one write for a plain answer, one for each token of
//! a stream. HTTP/2 and TLS are not spoken. What it answers is controlled by flags and by a header:
//!
#![doc = concat!("```text\n", include_str!("simulate/help.txt"), "```")]
mod answer;
mod anthropic;
mod ask;
mod connection;
mod embed;
mod faults;
mod gemini;
mod gzip;
mod http;
mod ollama;
mod openai;
mod plan;
mod quota;
mod responses;
mod script;
mod send;
mod text;
mod worker;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use self::faults::{Fault, Split};
use self::script::{Retry, Script, Sse};

/// What every answer is like, unless its request says otherwise.
#[derive(clap::Args, Debug, Clone, Copy, PartialEq)]
#[command(after_long_help = include_str!("simulate/help.txt"))]
pub struct Options {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
    pub listen: SocketAddr,
    /// Threads, each with connections of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads)]
    pub threads: usize,
    /// Another seed gives other answers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Time to first token
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = script::duration)]
    pub ttft: Duration,
    /// Tokens a second; 0: as fast as it goes
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = rate)]
    pub rate: f64,
    /// Time between two tokens, instead of --rate
    #[arg(long, value_name = "DURATION", value_parser = script::duration, conflicts_with = "rate")]
    pub gap: Option<Duration>,
    /// Tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub tokens: u32,
    /// Bytes of every token; 0: words of a list
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = script::size)]
    pub token_bytes: u32,
    /// Rough size of an answer that is not streamed, instead of --tokens
    #[arg(long, value_name = "SIZE", value_parser = script::size)]
    pub answer_bytes: Option<u32>,
    /// Tokens of reasoning before the answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub reasoning: u32,
    /// When token counts are sent
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Usage::Asked)]
    pub usage: Usage,
    /// A fault that every request meets (see below)
    #[arg(long, value_name = "FAULT")]
    pub fault: Option<Fault>,
    /// Share of the requests that meet it, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = script::share)]
    pub fault_rate: f64,
    /// Tokens a minute for each credential; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub tpm: u32,
    /// Requests a minute for each credential; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rpm: u32,
}

/// When token counts are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Usage {
    /// Whether asked or not
    Always,
    /// As the vendor does: OpenAI streams only on `stream_options.include_usage`
    Asked,
    /// Not even when asked
    Never,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9900)),
            threads: 1,
            seed: 0,
            ttft: Duration::ZERO,
            rate: 0.0,
            gap: None,
            tokens: 32,
            token_bytes: 0,
            answer_bytes: None,
            reasoning: 0,
            usage: Usage::Asked,
            fault: None,
            fault_rate: 1.0,
            tpm: 0,
            rpm: 0,
        }
    }
}

impl Options {
    fn script(&self) -> Script {
        Script {
            ttft: self.ttft,
            early_head: false,
            gap: self.gap.unwrap_or_else(|| script::gap(self.rate).unwrap_or_default()),
            tokens: self.tokens,
            token_bytes: self.token_bytes,
            answer_bytes: self.answer_bytes,
            reasoning: self.reasoning,
            tool: None,
            usage: self.usage,
            sse: Sse::Plain,
            seed: self.seed,
            fault: self.fault,
            fault_rate: self.fault_rate,
            times: None,
            retry: Retry::Usual,
            retry_after: 1,
            early: false,
            rpm: self.rpm,
            tpm: self.tpm,
        }
    }
}

fn threads(text: &str) -> Result<usize, String> {
    script::number(text).and_then(|n| {
        if (1..=256).contains(&n) { Ok(n) } else { Err("1 to 256 threads".to_owned()) }
    })
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = script::number(text)?;
    script::gap(rate).map(|_| rate)
}

/// What a simulator has seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Requests whose head was read.
    pub requests: u64,
    /// Answers that were streamed, whole or not.
    pub streams: u64,
    /// Requests that met a fault.
    pub faults: u64,
    /// Requests beyond the rate limits, which were told so.
    pub limited: u64,
    /// Answers that the client did not wait for.
    pub cancelled: u64,
    /// Connections ever.
    pub accepted: u64,
    /// Connections now.
    pub open: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// A running simulator; dropping it ends its threads and connections.
#[derive(Debug)]
pub struct Simulator {
    pub addr: SocketAddr,
    shared: Arc<worker::Shared>,
    stop: Option<watch::Sender<()>>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// Starts a simulator. The error is the listener's.
pub fn start(options: Options) -> io::Result<Simulator> {
    let threads = options.threads.max(1);
    let listeners = worker::bind(options.listen, threads)?;
    let shared = Arc::new(worker::Shared::new(options.script(), threads));
    let (stop, stopped) = watch::channel(());
    let mut simulator = Simulator {
        addr: options.listen,
        shared: Arc::clone(&shared),
        stop: Some(stop),
        threads: Vec::new(),
    };
    for (index, listener) in listeners.into_iter().enumerate() {
        simulator.addr = listener.local_addr()?;
        let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
        let serve = move || worker::run(listener, shared, index, stopped);
        let thread = std::thread::Builder::new().name(format!("simulate-{index}"));
        simulator.threads.push(thread.spawn(serve)?);
    }
    Ok(simulator)
}

impl Simulator {
    pub fn seen(&self) -> Seen {
        self.shared.seen()
    }

    /// Ends every connection and thread; returns when they are gone.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            // a thread that could not start its runtime served nothing; there is no one to tell
            _ = thread.join();
        }
    }
}

/// Serves until SIGINT or SIGTERM. Says on standard output where, and how to point SDKs at it.
pub fn run(options: Options) -> ExitCode {
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let at = options.listen;
            _ = writeln!(io::stderr(), "tidegate simulate: cannot serve on {at}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> io::Result<()> {
    let simulator = start(options)?;
    let addr = simulator.addr;
    let mut out = io::stdout();
    writeln!(out, "simulating OpenAI, Anthropic, Gemini and Ollama on http://{addr}")?;
    writeln!(
        out,
        "export OPENAI_BASE_URL=http://{addr}/v1 OPENAI_API_KEY=any \
         ANTHROPIC_BASE_URL=http://{addr} ANTHROPIC_API_KEY=any"
    )?;
    out.flush()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    })?;
    simulator.stop();
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        let command = Options::augment_args(Command::new("simulate"));
        let matches = command.try_get_matches_from([&["simulate"], args].concat())?;
        Options::from_arg_matches(&matches)
    }

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        assert_eq!(parse(&[]).unwrap(), Options::default());
    }

    #[test]
    fn flags_are_read_and_the_help_names_the_header() {
        let options = parse(&["--rate", "50", "--fault", "stall-mid=3"]).unwrap();
        assert_eq!(options.script().gap, Duration::from_millis(20));
        assert_eq!(options.fault, Some(Fault::StallMid(3)));
        assert!(parse(&["--rate", "50", "--gap", "1ms"]).is_err());
        assert!(parse(&["--threads", "0"]).is_err());
        let mut command = Options::augment_args(Command::new("simulate"));
        assert!(command.render_long_help().to_string().contains("x-simulate:"));
    }
}
