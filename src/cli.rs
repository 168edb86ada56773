//! The command line: what each command prints where, and what it exits with.
//!
//! Stdout holds what was asked for, stderr everything else; a reader of stdout that has left is
//! no error. Each flag of `run` has a `TIDEGATE_*` variable, for what is set per machine; the
//! flag wins over the variable, and both win over the policy file. Commands that serve are
//! started in `cli/start.rs`.
mod agents;
mod cache;
mod cells;
mod doctor;
mod health;
mod instance;
mod keys;
mod man;
mod policy;
mod semantic;
mod start;
mod tasks;
mod top;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use self::policy::Policy;
use crate::app;
use crate::config::{self, Address, Config, Faults, LogForm, Secret};

/// The policy file is wrong.
const BAD_POLICY: u8 = 1;
/// What the command line says makes no sense.
const BAD_USAGE: u8 = 2;
/// The directory of `state` cannot be used.
const NO_STORE: u8 = 2;
/// Something that it needs is not to be had.
const CANNOT_START: u8 = 3;
/// A fault of this program.
const INTERNAL: u8 = 70;

const EXIT_CODES: &str = "\
Exit codes:
  0   done, or ended after a drain
  1   the policy file is wrong
  2   the command line is wrong, or the directory of `state` cannot be used
  3   could not start: an address that is taken, a certificate that cannot be read; for the
      commands that ask a running instance: nobody answers
  70  a fault inside Tidegate";

const ABOUT: &str = "\
A sidecar between AI agents and their models.

Without a policy file it serves the known vendors under /openai, /anthropic, and so on, and the \
bare paths of their SDKs.";

#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about = "A sidecar between AI agents and their models",
    long_about = ABOUT,
    after_help = EXIT_CODES,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve; the same as no command at all
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Say what is wrong with a policy file, all of it at once
    Check(Check),
    /// Look whether this machine is ready for a policy, and say what to do
    Doctor(doctor::Options),
    /// Say by the exit code whether a running instance is well
    Health(health::Options),
    /// Print the JSON Schema of the policy file
    Schema {
        /// As a page for people
        #[arg(long)]
        markdown: bool,
    },
    /// Show who calls a running instance, and what each agent uses
    Agents(agents::Options),
    /// Watch a running instance: calls, tokens, money, limits, upstreams
    Top(top::Options),
    /// Show what a running instance keeps of answers, and take them out
    #[command(subcommand)]
    Cache(cache::Cache),
    /// Show the tasks of a running instance, cancel them, and wait for them
    #[command(subcommand)]
    Tasks(tasks::Tasks),
    /// Make, list and revoke the keys of agents
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Try the semantic cache on pairs of questions of your own
    #[command(subcommand)]
    Semantic(semantic::Semantic),
    /// Serve a simulated backend, for tests and trials
    Simulate(crate::simulate::Options),
    /// Show Tidegate at work in front of a simulated backend
    Demo(crate::demo::Options),
    /// Print a completion script for a shell
    Completions { shell: Shell },
    /// Print the manual, for `man -l -`
    Man(man::Options),
    /// Print the version
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    policy: Policy,
    /// Worker threads; without it, one for each processor
    #[arg(
        long,
        value_name = "N",
        env = "TIDEGATE_WORKERS",
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    workers: Option<u16>,
    /// What is logged: error, warn, info, debug, trace, or a filter like tidegate=debug,warn
    #[arg(long, value_name = "LEVEL", env = "TIDEGATE_LOG", value_parser = level)]
    log: Option<String>,
    /// How the log is written: text on a terminal and JSON elsewhere (auto), json, text
    #[arg(
        long,
        value_name = "FORM",
        env = "TIDEGATE_LOG_FORM",
        value_parser = PossibleValuesParser::new(["auto", "json", "text"]).map(log_form)
    )]
    log_form: Option<LogForm>,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    policy: Policy,
    /// Print what is in effect, with every default and without secrets
    #[arg(long)]
    print: bool,
}

/// `None`: no admin listener.
#[derive(Debug, Clone)]
struct Admin(Option<Address>);

fn admin(text: &str) -> Result<Admin, String> {
    if text == "off" {
        return Ok(Admin(None));
    }
    config::address(text)
        .map(|at| Admin(Some(at)))
        .map_err(|expected| format!("expected off, or {expected}"))
}

/// What the admin listener asks for: of the environment, since everybody can read a command line.
fn admin_token() -> Option<Secret> {
    std::env::var("TIDEGATE_ADMIN_TOKEN").ok().filter(|token| !token.is_empty()).map(Secret::new)
}

fn level(text: &str) -> Result<String, &'static str> {
    let wrong =
        "expected off, error, warn, info, debug, trace or a filter like tidegate=debug,warn";
    if config::is_level(text) { Ok(text.to_owned()) } else { Err(wrong) }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that clap's map asks for")]
fn log_form(word: String) -> LogForm {
    match word.as_str() {
        "json" => LogForm::Json,
        "text" => LogForm::Text,
        _ => LogForm::Auto,
    }
}

/// Runs the process; what it returns is the exit code.
pub fn main() -> ExitCode {
    match std::panic::catch_unwind(parse_and_run) {
        Ok(code) => code,
        // the panic hook has said what happened
        Err(_) => ExitCode::from(INTERNAL),
    }
}

fn parse_and_run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // help and version come this way too; a reader that has left is no error
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        None => run(cli.run),
        Some(Command::Run(args)) => run(args),
        Some(Command::Check(args)) => check(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Health(args)) => health::run(&args),
        Some(Command::Agents(args)) => agents::run(&args),
        Some(Command::Top(args)) => top::run(&args),
        Some(Command::Schema { markdown: false }) => say(&format!("{:#}\n", config::schema())),
        Some(Command::Schema { markdown: true }) => say(&config::reference()),
        Some(Command::Cache(command)) => cache::run(&command),
        Some(Command::Tasks(command)) => tasks::run(&command),
        Some(Command::Keys(command)) => keys::run(&command),
        Some(Command::Semantic(command)) => semantic::run(&command),
        Some(Command::Simulate(args)) => start::simulate(&args),
        Some(Command::Demo(args)) => start::demo(&args),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Man(options)) => man::run(&options),
        Some(Command::Version { json }) => version(json),
    }
}

fn run(args: Run) -> ExitCode {
    let mut source = args.policy.source();
    source.overrides.level = args.log;
    source.overrides.form = args.log_form;
    match source.load() {
        Ok(loaded) => start::serve(app::Start {
            source,
            loaded,
            workers: args.workers.map(usize::from),
            metrics: Arc::default(),
        }),
        Err(faults) => refuse(&faults),
    }
}

fn check(args: &Check) -> ExitCode {
    let source = args.policy.source();
    let config = match source.load() {
        Ok(loaded) => loaded.config,
        Err(faults) => return refuse(&faults),
    };
    for warning in config::warnings(&config) {
        tell(&format!("warning: {warning}\n"));
    }
    if args.print {
        return say(&config::redacted(&config));
    }
    let what = match &source.path {
        Some(path) => format!("{}: ok", path.display()),
        None => "no policy file, the known vendors are served".to_owned(),
    };
    say(&format!("{what}: {}\n", counts(&config)))
}

/// `1 listener, 2 upstreams, 3 routes`, and fallbacks, keys and policies where there are any.
fn counts(config: &Config) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let policies = match config.policies.len() {
        0 => String::new(),
        1 => ", 1 policy".to_owned(),
        n => format!(", {n} policies"),
    };
    let keys = match config.agents.keys.len() {
        0 => String::new(),
        n => format!(", {}", count(n, "key")),
    };
    let fallbacks = match config.routes.iter().map(|route| route.fallback.len()).sum() {
        0 => String::new(),
        n => format!(", {}", count(n, "fallback")),
    };
    format!(
        "{}, {}, {}{fallbacks}{keys}{policies}",
        count(config.listen.len(), "listener"),
        count(config.upstreams.len(), "upstream"),
        count(config.routes.len(), "route")
    )
}

fn refuse(faults: &Faults) -> ExitCode {
    tell(&format!("{faults}\n"));
    ExitCode::from(BAD_POLICY)
}

fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
    say(&String::from_utf8_lossy(&script))
}

fn version(json: bool) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    if !json {
        return say(&format!("tidegate {version}\n"));
    }
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let answer =
        serde_json::json!({ "name": "tidegate", "version": version, "os": os, "arch": arch });
    say(&format!("{answer}\n"))
}

/// Writes what was asked for to stdout.
fn say(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("stdout: {error}\n"));
            ExitCode::from(INTERNAL)
        }
    }
}

/// Writes a message to stderr. If nobody can read it, there is no one to tell.
fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_command() {
        for line in [
            &["tidegate", "-c", "x.yaml", "--workers", "2"][..],
            &["tidegate", "run", "-c", "x.yaml", "--workers", "2"],
        ] {
            let cli = Cli::try_parse_from(line).expect("right");
            let args = match cli.command {
                Some(Command::Run(args)) => args,
                None => cli.run,
                other => panic!("{other:?}"),
            };
            assert_eq!(args.policy.config, Some(PathBuf::from("x.yaml")));
            assert_eq!(args.workers, Some(2));
        }
    }

    #[test]
    fn addresses_repeat_and_admin_may_be_off() {
        let line = [
            "tidegate",
            "--listen",
            "127.0.0.1:1",
            "--listen",
            "unix:/a,systemd:",
            "--admin",
            "off",
        ];
        let run = Cli::try_parse_from(line).expect("right").run;
        assert_eq!(run.policy.listen.len(), 3);
        assert!(matches!(run.policy.admin, Some(Admin(None))));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            &["tidegate", "--listen", "localhost"][..],
            &["tidegate", "--workers", "0"],
            &["tidegate", "--log", "loud"],
            &["tidegate", "--log-form", "xml"],
            &["tidegate", "--listen", "127.0.0.1:1", "version"],
            &["tidegate", "serve"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
