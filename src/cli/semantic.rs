//! `tidegate semantic`: how the semantic cache would judge pairs of questions.
//!
//! `eval` reads pairs that a person has labelled and prints, for each category, how many of the
//! same ones would be served and how many of the others. `features` prints what the trees see, for
//! the training. Neither asks anyone: the judge is in the program.
mod pairs;
mod report;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::pairs::{Form, Pair};
use self::report::Report;
use super::{CANNOT_START, say, tell};
use crate::semantic::{self, FEATURE_NAMES};

/// A line of the file is no pair.
const BAD_PAIRS: u8 = 1;

#[derive(Debug, Subcommand)]
pub(super) enum Semantic {
    /// Say how many labelled pairs would be answered from the cache, rightly and wrongly
    #[command(after_help = EXAMPLE)]
    Eval(Eval),
    /// Print what the verifier sees of each pair, for its training
    #[command(hide = true)]
    Features(Features),
}

const EXAMPLE: &str = "\
A line of the file is one pair; label 1 says that one answer may serve both:
  {\"a\":\"How do I reset my password?\",\"b\":\"how can i reset my password\",\"label\":1,\"category\":\"manners\"}
a and b may be lists of messages, {\"role\":…,\"content\":…}: then all but the last must be equal.
A file that ends in .tsv has columns named label, category, a and b.

Exit codes:
  0  done
  1  a line is no pair
  3  the file cannot be read";

#[derive(Debug, Args)]
pub(super) struct Eval {
    /// Labelled pairs, JSON lines or TSV
    #[arg(value_name = "PAIRS")]
    file: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Print the pairs that came out wrong at the shipped point, too
    #[arg(long, conflicts_with = "json")]
    errors: bool,
}

#[derive(Debug, Args)]
pub(super) struct Features {
    #[arg(value_name = "PAIRS")]
    file: PathBuf,
}

pub(super) fn run(command: &Semantic) -> ExitCode {
    match command {
        Semantic::Eval(options) => with_pairs(&options.file, |pairs| eval(options, pairs)),
        Semantic::Features(options) => with_pairs(&options.file, features),
    }
}

fn with_pairs(file: &PathBuf, then: impl FnOnce(&[Pair]) -> ExitCode) -> ExitCode {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            let wrong = error.kind() == io::ErrorKind::InvalidData;
            tell(&format!("{}: {error}\n", file.display()));
            return ExitCode::from(if wrong { BAD_PAIRS } else { CANNOT_START });
        }
    };
    match pairs::read(&text, Form::of(file)) {
        Ok(pairs) => then(&pairs),
        Err(faults) => {
            for fault in faults {
                tell(&format!("{}: {fault}\n", file.display()));
            }
            ExitCode::from(BAD_PAIRS)
        }
    }
}

fn eval(options: &Eval, pairs: &[Pair]) -> ExitCode {
    let report = Report::of(pairs);
    if options.json {
        return say(&format!("{:#}\n", report.json()));
    }
    let errors = if options.errors { report::errors(pairs) } else { String::new() };
    say(&format!("{report}{errors}"))
}

/// A header, then a line for each pair: label, category, what the guards say, the features.
fn features(pairs: &[Pair]) -> ExitCode {
    let mut out = format!("label\tcategory\tveto\t{}\ta\tb\n", FEATURE_NAMES.join("\t"));
    for pair in pairs {
        let (a, b) = pair.questions();
        let veto = semantic::judge(&a, &b, 1.0).veto.unwrap_or("-");
        let values = semantic::features(&a, &b).map(|value| value.to_string()).join("\t");
        let plain = |text: &str| text.replace(['\t', '\n'], " ");
        let (label, category) = (u8::from(pair.same), &pair.category);
        let (a, b) = (plain(a.text()), plain(b.text()));
        // a String takes all that is written
        let _ = writeln!(out, "{label}\t{category}\t{veto}\t{values}\t{a}\t{b}");
    }
    say(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pair_of_the_help_is_served() {
        let line = EXAMPLE.lines().find(|line| line.starts_with("  {")).unwrap();
        let report = Report::of(&pairs::read(line, Form::Json).unwrap_or_default()).json();
        let points = report["categories"][0]["points"].as_array().unwrap();
        let shipped = points.iter().find(|point| point["shipped"] == true).unwrap();
        assert_eq!(shipped["hits"], 1, "{report:#}");
    }
}
