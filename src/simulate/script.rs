//! How one request is to be answered: the process's flags, overridden by the request's
//! `x-simulate` header. Small and `Copy`, so that a request without the header costs nothing.
//!
//! `help.txt` documents every key; a key or a value that is not known is an error, never ignored.
use std::time::Duration;

use clap::ValueEnum;

use super::Usage;
use super::faults::Fault;
use crate::units;

/// What decides an answer, besides the request itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Script {
    pub ttft: Duration,
    pub early_head: bool,
    pub gap: Duration,
    pub tokens: u32,
    pub token_bytes: u32,
    pub answer_bytes: Option<u32>,
    pub reasoning: u32,
    /// `None`: as the request asks.
    pub tool: Option<bool>,
    pub usage: Usage,
    pub sse: Sse,
    pub seed: u64,
    pub fault: Option<Fault>,
    /// Share of the requests that meet the fault, 0 to 1.
    pub fault_rate: f64,
    /// Only the first so many equal requests meet the fault.
    pub times: Option<u32>,
    pub retry: Retry,
    /// Seconds.
    pub retry_after: u32,
    pub early: bool,
    /// Requests and tokens a minute for each credential; 0: no limit.
    pub rpm: u32,
    pub tpm: u32,
}

/// How a server-sent event is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sse {
    Plain,
    CrLf,
    Cr,
    Tight,
    Comments,
}

/// How an error says when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// `Seconds` for 429, 503 and 529, nothing for the others.
    Usual,
    None,
    Seconds,
    Millis,
    Date,
    Past,
    Huge,
    Garbage,
    RateLimit,
    Anthropic,
}

impl Script {
    /// Applies an `x-simulate` header. The error is a sentence for the caller.
    pub fn apply(&mut self, header: &str) -> Result<(), String> {
        for entry in header.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.set(key.trim(), value.trim())?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "ttft" => self.ttft = duration(value)?,
            "early-head" => self.early_head = flag(value)?,
            "gap" => self.gap = duration(value)?,
            "rate" => self.gap = gap(number(value)?)?,
            "tokens" => self.tokens = number(value)?,
            "token-bytes" => self.token_bytes = size(value)?,
            "answer-bytes" => self.answer_bytes = Some(size(value)?),
            "reasoning" => self.reasoning = number(value)?,
            "tool" => self.tool = Some(flag(value)?),
            "usage" => self.usage = usage(value)?,
            "sse" => self.sse = sse(value)?,
            "seed" => self.seed = number(value)?,
            "fault" => self.fault = fault(value)?,
            "fault-rate" => self.fault_rate = share(value)?,
            "times" => self.times = Some(number(value)?),
            "id" => {}
            "retry" => self.retry = retry(value)?,
            "retry-after" => self.retry_after = number(value)?,
            "early" => self.early = flag(value)?,
            "rpm" => self.rpm = number(value)?,
            "tpm" => self.tpm = number(value)?,
            _ => {
                return Err(format!(
                    "x-simulate has no key {key:?}; `tidegate simulate --help` lists them"
                ));
            }
        }
        Ok(())
    }
}

/// As in the policy file (`250ms`, `2s`), or a bare `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    units::duration(text).map_err(|fault| format!("{text:?} is not {fault}"))
}

/// As in the policy file (`40KiB`, `20MiB`), or a bare number of bytes; 1 GiB at most.
pub(super) fn size(text: &str) -> Result<u32, String> {
    let bytes = match text.parse() {
        Ok(bytes) => bytes,
        Err(_) => units::size(text).map_err(|fault| format!("{text:?} is not {fault}"))?,
    };
    u32::try_from(bytes)
        .ok()
        .filter(|&bytes| bytes <= 1 << 30)
        .ok_or_else(|| format!("{text:?} is more than 1GiB"))
}

/// Tokens a second to the time between two; 0 means none.
pub(super) fn gap(rate: f64) -> Result<Duration, String> {
    if rate == 0.0 {
        return Ok(Duration::ZERO);
    }
    Duration::try_from_secs_f64(1.0 / rate).map_err(|_| format!("{rate} is not a rate"))
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    let share: f64 = number(text)?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(format!("{text:?} is not between 0 and 1"))
    }
}

pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number, or out of range"))
}

fn fault(text: &str) -> Result<Option<Fault>, String> {
    if text == "none" { Ok(None) } else { text.parse().map(Some) }
}

/// A key without a value is on.
fn flag(text: &str) -> Result<bool, String> {
    match text {
        "" | "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err(format!("{text:?} is neither 1 nor 0")),
    }
}

fn usage(text: &str) -> Result<Usage, String> {
    Usage::from_str(text, false)
        .map_err(|_| format!("usage={text} is none of always, asked, never"))
}

fn sse(text: &str) -> Result<Sse, String> {
    match text {
        "plain" => Ok(Sse::Plain),
        "crlf" => Ok(Sse::CrLf),
        "cr" => Ok(Sse::Cr),
        "tight" => Ok(Sse::Tight),
        "comments" => Ok(Sse::Comments),
        _ => Err(format!("sse={text} is none of plain, crlf, cr, tight, comments")),
    }
}

fn retry(text: &str) -> Result<Retry, String> {
    match text {
        "none" => Ok(Retry::None),
        "seconds" => Ok(Retry::Seconds),
        "ms" => Ok(Retry::Millis),
        "date" => Ok(Retry::Date),
        "past" => Ok(Retry::Past),
        "huge" => Ok(Retry::Huge),
        "garbage" => Ok(Retry::Garbage),
        "x-ratelimit" => Ok(Retry::RateLimit),
        "anthropic" => Ok(Retry::Anthropic),
        _ => Err(format!("retry={text} is not a way to say when to come back")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Options;

    fn script(header: &str) -> Result<Script, String> {
        let mut script = Options::default().script();
        script.apply(header).map(|()| script)
    }

    #[test]
    fn reads_every_kind_of_value() {
        let got =
            script("ttft=200ms; gap=20ms;tokens = 50;; fault=reset-mid=3; tool; early=0").unwrap();
        assert_eq!(got.ttft, Duration::from_millis(200));
        assert_eq!(got.gap, Duration::from_millis(20));
        assert_eq!(got.tokens, 50);
        assert_eq!(got.fault, Some(Fault::ResetMid(3)));
        assert_eq!(got.tool, Some(true));
        assert!(!got.early);
        assert_eq!(script("rate=50").unwrap().gap, Duration::from_millis(20));
        assert_eq!(script("answer-bytes=2KiB").unwrap().answer_bytes, Some(2048));
        assert_eq!(script("answer-bytes=512").unwrap().answer_bytes, Some(512));
        assert_eq!(script("gap=0; usage=never").unwrap().usage, Usage::Never);
        assert_eq!(script("fault=429; fault=none").unwrap().fault, None);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for wrong in [
            "tokns=5",
            "ttft=5",
            "ttft=0.2s",
            "ttft=-1s",
            "tokens=-1",
            "tokens",
            "fault=99",
            "fault=reset-midd",
            "fault=split=word",
            "fault-rate=1.5",
            "usage=maybe",
            "retry=later",
            "answer-bytes=5GiB",
            "rate=-1",
        ] {
            assert!(script(wrong).is_err(), "{wrong}");
        }
    }
}
