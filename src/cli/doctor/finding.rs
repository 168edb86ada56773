//! What was found, and how it is shown: one line each, and below it what to do.
use std::fmt::Write as _;

use serde_json::{Value, json};

/// The worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Ok,
    /// Nothing could be seen.
    Skip,
    Warn,
    Fail,
}

/// Of one thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// One word: `ports`.
    pub check: &'static str,
    pub verdict: Verdict,
    /// What is so.
    pub says: String,
    /// What to do; empty where all is well.
    pub advice: String,
}

impl Finding {
    pub fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, says: says.into(), advice: String::new() }
    }

    pub fn skip(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Skip, says: says.into(), advice: String::new() }
    }

    pub fn warn(check: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, says: says.into(), advice: advice.into() }
    }

    pub fn fail(check: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, says: says.into(), advice: advice.into() }
    }
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|finding| finding.verdict == verdict).count()
}

pub(super) fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut out = String::new();
    // a String takes all that is written
    for Finding { check, verdict, says, advice } in findings {
        let indent = format!("\n{:width$}", "", width = width + 7);
        let says = says.trim_end().replace('\n', &indent);
        let _ = writeln!(out, "{:<4} {check:<width$}  {says}", verdict.as_str());
        if !advice.is_empty() {
            let _ = writeln!(out, "{:width$}→ {advice}", "", width = width + 7);
        }
    }
    let figures = (count(findings, Verdict::Warn), count(findings, Verdict::Fail));
    let _ = match figures {
        (0, 0) => writeln!(out, "\nall is well"),
        (warned, failed) => writeln!(out, "\n{failed} failed, {warned} to look at"),
    };
    out
}

pub(super) fn json(findings: &[Finding]) -> String {
    let list: Vec<Value> = findings
        .iter()
        .map(|Finding { check, verdict, says, advice }| {
            json!({ "check": check, "verdict": verdict.as_str(), "says": says, "advice": advice })
        })
        .collect();
    let told = json!({
        "failed": count(findings, Verdict::Fail),
        "warned": count(findings, Verdict::Warn),
        "findings": list,
    });
    format!("{told:#}\n")
}
