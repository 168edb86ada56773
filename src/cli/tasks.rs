//! `tidegate tasks`: the tasks of a running instance, everybody's; cancels one, and waits for one.
//!
//! It asks the admin listener, for `/tasks` and what is below it. Tasks are kept in a store, so all
//! of it needs the policy file of the instance: that says where the token of the store is. It shows
//! facts about calls; what is in them is their callers' alone.
mod show;

use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Deserialize as _;
use serde_json::Value;

use super::instance::{Failure, Which};
use super::{BAD_USAGE, say};
use crate::tasks::{State, TaskId};
use crate::telemetry::view::{TaskListView, TaskView};

/// What an instance tells about.
const ABOUT: &str = "tasks";
/// It ended otherwise than well.
const NO_SUCCESS: u8 = 1;
/// Between two looks of `wait`.
const LOOK: Duration = Duration::from_millis(500);
/// How long an instance that was there may be gone: it may be restarted, and tasks outlive that.
const GONE: Duration = Duration::from_secs(30);

const WAIT_CODES: &str = "\
Exit codes:
  0   the task succeeded
  1   it ended otherwise: failed, cancelled, expired or interrupted
  2   there is no such task
  3   nobody answers, or not for more than 30 s";

#[derive(Debug, Subcommand)]
pub(super) enum Tasks {
    /// List tasks, newest first
    List(List),
    /// Show one task
    Show(One),
    /// Cancel a task that is not over
    Cancel(One),
    /// Wait until a task is over, and show it
    #[command(after_help = WAIT_CODES)]
    Wait(One),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only tasks in this state: queued, running, succeeded, …
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// At most so many
    #[arg(
        long,
        value_name = "N",
        default_value_t = 30,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    limit: u16,
    /// Those that are older than this task
    #[arg(long, value_name = "ID", value_parser = id)]
    after: Option<TaskId>,
    #[command(flatten)]
    which: Which,
    /// Print what the instance told as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// `task_` and 26 characters
    #[arg(value_name = "ID", value_parser = id)]
    id: TaskId,
    #[command(flatten)]
    which: Which,
    /// Print what the instance told as JSON
    #[arg(long)]
    json: bool,
}

fn state(text: &str) -> Result<State, String> {
    let wrong = || format!("expected one of {}", State::ALL.map(State::as_str).join(", "));
    State::parse(text).ok_or_else(wrong)
}

fn id(text: &str) -> Result<TaskId, &'static str> {
    TaskId::parse(text).ok_or("expected task_ and 26 characters")
}

pub(super) fn run(command: &Tasks) -> ExitCode {
    let done = match command {
        Tasks::List(list) => list.run().map(|text| say(&text)),
        Tasks::Show(one) => one.ask("GET", "").and_then(|told| one.text(&told)).map(|it| say(&it)),
        Tasks::Cancel(one) => one.cancel().map(|text| say(&text)),
        Tasks::Wait(one) => one.wait(),
    };
    done.unwrap_or_else(|failure| failure.end("tidegate tasks"))
}

impl List {
    fn run(&self) -> Result<String, Failure> {
        let instance = self.which.with_proof()?;
        let mut path = format!("/tasks?limit={}", self.limit);
        if let Some(state) = self.state {
            path.push_str("&state=");
            path.push_str(state.as_str());
        }
        if let Some(after) = self.after {
            path.push_str("&after=");
            path.push_str(&after.to_string());
        }
        let told = instance.told("GET", &path, "", ABOUT)?;
        if self.json {
            return Ok(format!("{told}\n"));
        }
        let list = TaskListView::deserialize(&told).map_err(|_| instance.stranger(ABOUT))?;
        Ok(show::list(&list))
    }
}

impl One {
    fn ask(&self, method: &str, verb: &str) -> Result<Value, Failure> {
        let instance = self.which.with_proof()?;
        instance.told(method, &format!("/tasks/{}{verb}", self.id), "", ABOUT)
    }

    fn view(told: &Value) -> Result<TaskView, Failure> {
        let strange = |_| Failure::Said(BAD_USAGE, "what it tells is no task".to_owned());
        TaskView::deserialize(told).map_err(strange)
    }

    fn text(&self, told: &Value) -> Result<String, Failure> {
        if self.json { Ok(format!("{told}\n")) } else { Self::view(told).map(|it| show::one(&it)) }
    }

    fn cancel(&self) -> Result<String, Failure> {
        let told = self.ask("POST", "/cancel")?;
        if self.json {
            return Ok(format!("{told}\n"));
        }
        Ok(format!("{}: {}\n", self.id, Self::view(&told)?.state))
    }

    /// Progress goes to stderr, where that is a terminal; the end to stdout.
    fn wait(&self) -> Result<ExitCode, Failure> {
        let drawn = io::stderr().is_terminal();
        let told = self.end(&mut |task| {
            if drawn {
                draw(&show::progress(task));
            }
        });
        if drawn {
            draw("");
        }
        let told = told?;
        let printed = say(&self.text(&told)?);
        let well = told["state"] == State::Succeeded.as_str();
        Ok(if well { printed } else { ExitCode::from(NO_SUCCESS) })
    }

    /// What is told of it when it is over; `seen`: and before.
    fn end(&self, seen: &mut dyn FnMut(&TaskView)) -> Result<Value, Failure> {
        let mut answered: Option<Instant> = None;
        loop {
            // found anew each time: an instance that was restarted has another token
            match self.ask("GET", "") {
                Ok(told) => {
                    answered = Some(Instant::now());
                    let task = Self::view(&told)?;
                    if State::parse(&task.state).is_some_and(State::is_terminal) {
                        return Ok(told);
                    }
                    seen(&task);
                }
                Err(Failure::Nobody(_) | Failure::Lost(_))
                    if answered.is_some_and(|at| at.elapsed() < GONE) => {}
                Err(failure) => return Err(failure),
            }
            #[expect(clippy::disallowed_methods, reason = "nothing else runs in this process")]
            sleep(LOOK);
        }
    }
}

/// Over what was drawn before.
fn draw(text: &str) {
    // if nobody can see it, there is no one to tell
    let _ = write!(io::stderr().lock(), "\r\x1b[K{text}");
}
