//! Refusals of limits, queues and keys: which limit, whose, and when it may fit.
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::{Refusal, Retry, Source};
use crate::agents::Unknown;
use crate::config::{Measure, Per};
use crate::flight::Expired;
use crate::identity::Identity;
use crate::limits::book::{Denial, Why};
use crate::limits::rules::LimitOf;
use crate::telemetry::metrics::Outcome;

/// Where nobody knows how long a place takes to become free.
const A_WHILE: Duration = Duration::from_secs(1);

impl Refusal {
    /// A caller who is not known, and has to be; or whose key is not valid.
    pub fn unknown(unknown: &Unknown) -> Self {
        let message = match unknown {
            Unknown::NoKey => {
                "This sidecar asks for a key of its own: as bearer token, x-api-key or x-tidegate-key."
            }
            Unknown::UnknownKey | Unknown::Revoked(_) => {
                "The tidegate key of this request is not valid."
            }
            Unknown::Expired(_) => "The tidegate key of this request has expired.",
        };
        let code = match unknown {
            Unknown::NoKey => "no_key",
            Unknown::Expired(_) => "key_expired",
            Unknown::UnknownKey | Unknown::Revoked(_) => "invalid_api_key",
        };
        let mut refusal = Self::new(StatusCode::UNAUTHORIZED, code, Source::Agent, message);
        refusal.retry = Retry::No;
        refusal
    }

    /// The key is valid, and not for this.
    pub fn not_allowed(what: &str) -> Self {
        let message = format!("The tidegate key of this request does not allow its {what}.");
        let mut refusal = Self::new(StatusCode::FORBIDDEN, "not_allowed", Source::Agent, message);
        refusal.retry = Retry::No;
        refusal
    }

    /// A body that limits cannot look into.
    pub fn encoded() -> Self {
        let message = "The policy has limits, so the request body must not be compressed.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoded_body", Source::Agent, message)
    }

    /// A hard limit that cannot be held: the call has no place for a bound on its output.
    pub fn unboundable() -> Self {
        let message = "A hard limit applies, and this request's output cannot be bounded: its own bound is not a number.";
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, "unbounded", Source::Agent, message);
        refusal.retry = Retry::No;
        refusal
    }

    /// A budget ended a stream that was going past it.
    pub fn budget_ended() -> Self {
        let message = "The money budget that applies to this call is spent; its stream was ended.";
        let mut refusal =
            Self::new(StatusCode::PAYMENT_REQUIRED, "insufficient_quota", Source::Agent, message);
        refusal.outcome = Outcome::Refused;
        refusal.retry = Retry::No;
        refusal
    }

    /// The guard against loops stopped it.
    pub fn runaway(who: &Identity) -> Self {
        let message = format!(
            "The guard against runaway agents stopped `{}`: it repeats the same tool call, or uses far more than it used to.",
            who.agent
        );
        let mut refusal =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "runaway", Source::Agent, message);
        refusal.runaway = true;
        refusal.retry = Retry::No;
        refusal
    }

    /// The guard against loops has flagged the call, whatever refused it.
    pub fn is_runaway(&self) -> bool {
        self.runaway
    }

    /// A limit, or a queue, that has no room.
    pub fn limited(denial: &Denial, who: &Identity) -> Self {
        let (status, code) = match denial.why {
            Why::Full | Why::Unsaved => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded"),
            Why::QueueFull => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
            Why::TooLarge => (StatusCode::BAD_REQUEST, "request_exceeds_limit"),
            Why::Spent => (StatusCode::PAYMENT_REQUIRED, "insufficient_quota"),
            Why::Unpriced => (StatusCode::FORBIDDEN, "model_unpriced"),
            Why::Runaway => return Self::runaway(who),
        };
        let mut refusal = Self::new(status, code, Source::Agent, message(denial, who));
        refusal.limit = denial.limit.as_ref().map(|(limit, _)| Arc::clone(&limit.label));
        refusal.standing.clone_from(&denial.standing);
        refusal.runaway = denial.runaway.is_some();
        refusal.retry = match denial.why {
            Why::TooLarge | Why::Spent | Why::Unpriced | Why::Runaway => Retry::No,
            Why::Full | Why::QueueFull | Why::Unsaved => {
                Retry::After(denial.retry.unwrap_or(A_WHILE))
            }
        };
        refusal
    }

    /// The time to wait in line is over. Without a limit that was full it is the upstream's places
    /// that were.
    pub fn waited(denial: Option<&Denial>, who: &Identity, longest: Duration) -> Self {
        let mut refusal = Self::expired(Expired::Queued);
        let seconds = longest.as_secs_f64();
        let Some((denial, (limit, label))) = denial.and_then(|it| Some((it, it.limit.as_ref()?)))
        else {
            let lane = denial.and_then(|denial| denial.lane.as_ref());
            let full = lane.map_or_else(|| "upstream".to_owned(), |lane| format!("route `{lane}`"));
            refusal.message =
                format!("The {full} had no free place for this call within {seconds} s.").into();
            return refusal;
        };
        refusal.message = format!(
            "The limit `{}` {} had no room for this call of `{}` within {seconds} s ({}).",
            limit.label,
            whose(limit, label),
            who.agent,
            noun(limit.measure)
        )
        .into();
        refusal.limit = Some(Arc::clone(&limit.label));
        refusal.standing.clone_from(&denial.standing);
        refusal.retry = Retry::After(denial.retry.unwrap_or(A_WHILE));
        refusal
    }
}

fn message(denial: &Denial, who: &Identity) -> String {
    let Some((limit, label)) = &denial.limit else {
        return match denial.why {
            Why::QueueFull | Why::Full if let Some(lane) = &denial.lane => format!("As many calls of the route `{lane}` run or wait as may."),
            Why::Unpriced => "A hard money budget applies, and the price of this model is not known; the policy's `prices` can tell it.".to_owned(),
            Why::QueueFull => format!("As many calls of `{}` wait for this upstream as may.", who.agent),
            _ => "The upstream has no room for this call, and asks to wait longer than the policy allows.".to_owned(),
        };
    };
    let whose = whose(limit, label);
    let what = noun(limit.measure);
    let name = &limit.label;
    match denial.why {
        Why::TooLarge => {
            format!("The request needs more {what} than the limit `{name}` {whose} allows at once.")
        }
        Why::Spent => format!(
            "The budget `{name}` {whose} is spent; it begins anew in {}.",
            when(denial.retry)
        ),
        Why::QueueFull => {
            format!(
                "The limit `{name}` {whose} is reached ({what}), and as many calls wait as may."
            )
        }
        _ => match denial.retry {
            Some(_) => format!(
                "The limit `{name}` {whose} is reached ({what}); it has room again in {}.",
                when(denial.retry)
            ),
            None => format!("The limit `{name}` {whose} is reached ({what})."),
        },
    }
}

/// `of agent "researcher"`
fn whose(limit: &LimitOf, label: &str) -> String {
    match limit.per {
        Per::All => "for everyone".to_owned(),
        per => format!("of {} \"{label}\"", per.as_str()),
    }
}

fn noun(measure: Measure) -> &'static str {
    match measure {
        Measure::Requests => "requests",
        Measure::InputTokens => "input tokens",
        Measure::OutputTokens => "output tokens",
        Measure::Tokens => "tokens",
        Measure::Spend => "money",
        Measure::Concurrency => "calls at once",
    }
}

fn when(retry: Option<Duration>) -> String {
    match retry {
        Some(wait) if wait >= Duration::from_hours(48) => {
            format!("{} days", wait.as_secs().div_ceil(24 * 3600))
        }
        Some(wait) if wait >= Duration::from_hours(3) => {
            format!("{} hours", wait.as_secs().div_ceil(3600))
        }
        Some(wait) if wait >= Duration::from_mins(2) => {
            format!("{} min", wait.as_secs().div_ceil(60))
        }
        Some(wait) => format!("{} s", wait.as_millis().div_ceil(1000)),
        None => "later".to_owned(),
    }
}
