//! `tidegate cache`: what a running instance keeps of answers; takes them out, and says that one was
//! wrong.
//!
//! It asks the admin listener, for `/cache` and what is below it. Where the instance keeps a store,
//! what changes something needs the policy file of the instance: that says where its token is.
mod show;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::instance::{self, Failure, Which};
use super::{BAD_USAGE, say};
use crate::telemetry::view::CacheView;
use crate::units;

/// What an instance tells about.
const ABOUT: &str = "a cache";

#[derive(Debug, Subcommand)]
pub(super) enum Cache {
    /// Show what is kept, and what it saved
    Stats(Stats),
    /// Take answers out, in memory and on disk; all that is said must hold
    Purge(Purge),
    /// Say that an answer was wrong: it is no longer given to questions in other words
    Wrong(Wrong),
}

#[derive(Debug, Args)]
pub(super) struct Stats {
    #[command(flatten)]
    which: Which,
    /// Print what the instance told as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Purge {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    which: Which,
    /// Print how much was taken out as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct What {
    /// Kept under policies of this name, as a glob
    #[arg(long, value_name = "GLOB")]
    policy: Option<String>,
    /// First asked for by agents of this name, as a glob
    #[arg(long, value_name = "GLOB")]
    agent: Option<String>,
    /// Of models of this name, as a glob
    #[arg(long, value_name = "GLOB")]
    model: Option<String>,
    /// That came by routes of this name, as a glob
    #[arg(long, value_name = "GLOB")]
    route: Option<String>,
    /// Kept for longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Whose key begins so, as `Cache-Status` shows it
    #[arg(long, value_name = "HEX")]
    prefix: Option<String>,
    /// Everything
    #[arg(
        long,
        conflicts_with_all = ["policy", "agent", "model", "route", "older_than", "prefix"]
    )]
    all: bool,
}

#[derive(Debug, Args)]
pub(super) struct Wrong {
    /// The beginning of the answer's key, as `Cache-Status` shows it; 8 digits at least
    #[arg(value_name = "KEY")]
    entry: String,
    #[command(flatten)]
    which: Which,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|fault| format!("expected {fault}"))
}

pub(super) fn run(command: &Cache) -> ExitCode {
    let done = match command {
        Cache::Stats(stats) => stats.run(),
        Cache::Purge(purge) => purge.run(),
        Cache::Wrong(wrong) => wrong.run(),
    };
    match done {
        Ok(text) => say(&text),
        Err(failure) => failure.end("tidegate cache"),
    }
}

impl Stats {
    fn run(&self) -> Result<String, Failure> {
        let instance = self.which.to_look()?;
        let told = instance.told("GET", "/cache", "", ABOUT)?;
        if self.json {
            return Ok(format!("{told}\n"));
        }
        let view = CacheView::deserialize(&told).map_err(|_| instance.stranger(ABOUT))?;
        Ok(show::stats(&instance::show(&instance.at), &view))
    }
}

impl Purge {
    fn run(&self) -> Result<String, Failure> {
        let instance = self.which.with_proof()?;
        let told = instance.told("POST", "/cache/purge", &self.what.body().to_string(), ABOUT)?;
        if self.json {
            return Ok(format!("{told}\n"));
        }
        let count = |what: &str| told[what].as_u64().unwrap_or(0);
        Ok(format!(
            "taken out: {} answers in memory, {} on disk, and {} questions in other words\n",
            count("memory"),
            count("disk"),
            count("questions")
        ))
    }
}

impl What {
    fn body(&self) -> Value {
        let Self { policy, agent, model, route, older_than, prefix, all } = self;
        let older_than = older_than.map(units::show_duration);
        let named = [
            ("policy", policy),
            ("agent", agent),
            ("model", model),
            ("route", route),
            ("older_than", &older_than),
            ("prefix", prefix),
        ];
        let mut body = Map::new();
        for (name, value) in named {
            body.extend(value.iter().map(|value| (name.to_owned(), Value::from(value.as_str()))));
        }
        if *all {
            body.insert("all".to_owned(), Value::Bool(true));
        }
        Value::Object(body)
    }
}

impl Wrong {
    fn run(&self) -> Result<String, Failure> {
        let instance = self.which.with_proof()?;
        let body = serde_json::json!({ "entry": self.entry, "wrong": true });
        let told = instance.told("POST", "/cache/feedback", &body.to_string(), ABOUT)?;
        match told["entries"].as_u64() {
            Some(0) => {
                let why = "no answer of that key is found by questions in other words";
                Err(Failure::Said(BAD_USAGE, why.to_owned()))
            }
            Some(entries) => {
                Ok(format!("no longer given to questions in other words: {entries}\n"))
            }
            None => Err(instance.stranger(ABOUT)),
        }
    }
}
