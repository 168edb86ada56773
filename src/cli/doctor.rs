//! `tidegate doctor`: whether this machine is ready for a policy, and what to do where it is not.
//!
//! It looks and changes nothing: no port is kept, no file is made, and an upstream is sent no key
//! unless `--keys` says so, a collector none of its headers. Upstreams are asked at the same time,
//! each under a deadline. Every finding is `ok`, `warn` or `fail`, or `skip` where nothing could be
//! seen; what is told holds no secret. Without a policy file it looks at what would be served then.
mod certificates;
mod clock;
mod collector;
mod finding;
mod hosts;
mod machine;
mod ports;
mod state;
mod upstreams;

use std::process::ExitCode;

use clap::Args;
use tokio::runtime::LocalRuntime;

use self::finding::{Finding, Verdict};
use super::policy::Policy;
use super::{INTERNAL, say, tell};
use crate::config::{self, Config, Source};

/// Something may bite later.
const WARNED: u8 = 1;
/// Something does not work.
const FAILED: u8 = 2;

const CODES: &str = "\
Exit codes:
  0  all is well
  1  there are warnings
  2  something does not work: the policy, a port, a certificate, an upstream, …";

#[derive(Debug, Args)]
#[command(after_help = CODES)]
pub(super) struct Options {
    #[command(flatten)]
    policy: Policy,
    /// Ask each upstream for its models, with each key that the policy has for it; send the
    /// collector its headers
    #[arg(long, conflicts_with = "offline")]
    keys: bool,
    /// Ask no upstream and no collector
    #[arg(long)]
    offline: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let runtime = match LocalRuntime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(&format!("tidegate doctor: {error}\n"));
            return ExitCode::from(INTERNAL);
        }
    };
    let findings = runtime.block_on(examine(options));
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    let text = if options.json { finding::json(&findings) } else { finding::text(&findings) };
    let printed = say(&text);
    match worst {
        Verdict::Fail => ExitCode::from(FAILED),
        Verdict::Warn => ExitCode::from(WARNED),
        Verdict::Skip | Verdict::Ok => printed,
    }
}

/// In the order in which a person would mend them.
async fn examine(options: &Options) -> Vec<Finding> {
    let (config, mut findings) = policy(&options.policy.source());
    let Some(config) = config else {
        // the machine can be looked at all the same
        let standing = config::without_file();
        findings.extend(machine::findings(&standing));
        let why = "not looked at: the policy file has to be mended first";
        for check in ["ports", "certificates", "state", "upstreams", "clock"] {
            findings.push(Finding::skip(check, why));
        }
        return findings;
    };
    findings.extend(machine::findings(&config));
    findings.extend(hosts::findings(&config));
    findings.extend(ports::findings(&config));
    findings.extend(certificates::findings(&config));
    findings.extend(state::findings(&config));
    if options.offline {
        findings.push(Finding::skip("upstreams", "not asked: --offline"));
        findings.push(Finding::skip("clock", "not compared: nobody was asked"));
        if config.telemetry.otlp.is_some() {
            findings.push(Finding::skip("collector", "not asked: --offline"));
        }
        return findings;
    }
    // nobody has said that all of the known vendors are needed
    let named = options.policy.config.is_some();
    let asked = upstreams::ask(&config, options.keys, named).await;
    findings.extend(asked.findings);
    findings.push(clock::finding(asked.offsets));
    findings.extend(collector::findings(&config, options.keys).await);
    findings
}

fn policy(source: &Source) -> (Option<Config>, Vec<Finding>) {
    const CHECK: &str = "policy";
    match source.load() {
        Err(faults) => {
            let told = faults.to_string();
            let advice = "mend it; `tidegate check` says the same";
            (None, vec![Finding::fail(CHECK, told, advice)])
        }
        Ok(loaded) => {
            let what = match &source.path {
                Some(path) => format!("{}: {}", path.display(), super::counts(&loaded.config)),
                None => "no policy file: the known vendors are served".to_owned(),
            };
            let mut findings = vec![Finding::ok(CHECK, what)];
            for warning in config::warnings(&loaded.config) {
                let advice = "see `tidegate check`; it is sound, if you mean it";
                findings.push(Finding::warn(CHECK, warning.to_string(), advice));
            }
            (Some(loaded.config), findings)
        }
    }
}
