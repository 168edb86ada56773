//! What an answer says about the backend that gave it: whether another try, another key or another
//! target could do better, and whose fault it was.
//!
//! The status tells most; where vendors put two meanings under one status, the error's own words tell
//! them apart: its code, its type, its status word, the reason among its details. They agree on no
//! names but on no contradiction either, so one table serves all dialects; vendors speak those of
//! others. A message is free text and may repeat what the caller wrote: it counts by its beginning
//! alone, so that no caller can have a key set aside by a clever word.
//! Sources: the vendors' pages on errors, November 2026; see `tests/fixtures/verdicts`.
use super::Dialect;
use super::json::Raw;

/// What an answer says about the backend, and about the key that it was asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// An answer.
    Fine,
    /// The caller's: 400, 404, 413, 422, …. It would fail anywhere.
    TheirFault,
    /// This key may not use that model, or may not make that call. Another may; nothing else is
    /// wrong with it.
    Denied,
    /// 429: too fast.
    Limited,
    /// The key is wrong, expired, revoked or blocked.
    KeyRefused,
    /// Its credit, or the most that may be spent, is used up.
    KeySpent,
    /// 408, 503, 529: the backend has not begun, and says so.
    Overloaded,
    /// The backend broke: any other 5xx.
    Failed,
}

/// What the head of an answer says, with the beginning of its body if it says an error (64 KiB are
/// plenty; empty if it was not read). An error in the body of a 200 counts by its own words.
pub fn verdict(dialect: Dialect, status: u16, body: &[u8]) -> Verdict {
    use Verdict::{Failed, TheirFault};
    // of a service that nobody knows, a 403 may be about anything the caller has asked for; elsewhere
    // it may be a firewall in front, which has seen something that it did not like
    if status == 403 && (dialect == Dialect::Http || body.trim_ascii_start().starts_with(b"<")) {
        return TheirFault;
    }
    if dialect == Dialect::Http {
        return by_status(status);
    }
    let error = Error::of(body, status >= 400);
    let said = error.as_ref().and_then(Error::verdict);
    match said {
        _ if error.is_none() => by_status(status),
        said if (200..400).contains(&status) => said.unwrap_or(Failed),
        Some(said) if counts(status, said) => said,
        Some(TheirFault) if status == 403 && error.is_some_and(|error| error.flagged) => TheirFault,
        _ => by_status(status),
    }
}

/// Whether an answer with that status may mean what its error says.
fn counts(status: u16, said: Verdict) -> bool {
    match said {
        Verdict::KeySpent => matches!(status, 400 | 401 | 403 | 422 | 429),
        Verdict::KeyRefused => matches!(status, 400 | 422),
        Verdict::Denied => matches!(status, 400 | 401 | 403 | 404 | 422),
        Verdict::Limited => matches!(status, 400 | 403 | 422),
        Verdict::Overloaded => matches!(status, 400 | 403 | 422 | 429 | 500 | 502..600),
        Verdict::Fine | Verdict::TheirFault | Verdict::Failed => false,
    }
}

/// Whether a body is an object whose first member is an error: a good status cannot make it an answer.
pub fn opens_with_error(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    let Some(mut members) = Raw(body).members() else { return false };
    let Ok(Some((key, value))) = members.next() else { return false };
    // `false` and numbers say that there was none
    key.0 == b"error" && matches!(value.0, [b'{' | b'"', ..]) && !value.is_empty()
}

/// What an error event inside a stream says, or a whole body that is an error. `data` is the event's
/// data. What is not known is [`Verdict::Failed`].
pub fn event_verdict(dialect: Dialect, data: &[u8]) -> Verdict {
    if dialect == Dialect::Http {
        return Verdict::Failed;
    }
    Error::of(data, true).and_then(|error| error.verdict()).unwrap_or(Verdict::Failed)
}

/// The same of what stands under the name `error`.
pub(super) fn error_verdict(error: Raw<'_>) -> Verdict {
    let mut found = Error::default();
    found.read(error);
    found.verdict().unwrap_or(Verdict::Failed)
}

fn by_status(status: u16) -> Verdict {
    match status {
        0..400 => Verdict::Fine,
        401 | 403 => Verdict::KeyRefused,
        402 => Verdict::KeySpent,
        408 | 503 | 529 => Verdict::Overloaded,
        429 => Verdict::Limited,
        // what was asked for does not exist there, however often it is asked for
        400..=499 | 501 => Verdict::TheirFault,
        _ => Verdict::Failed,
    }
}

/// An error's own words, in whatever shape: `{"error": {…}}`, `{"error": "…"}`, a failed response
/// that holds it, an event that is it, or a list of one.
#[derive(Default)]
struct Error<'a> {
    code: Option<Raw<'a>>,
    kind: Option<Raw<'a>>,
    status: Option<Raw<'a>>,
    message: Option<Raw<'a>>,
    details: Option<Raw<'a>>,
    /// Someone's moderation has flagged the prompt.
    flagged: bool,
}

impl<'a> Error<'a> {
    /// `sure`: it is known that the body says an error; else it must look like one. `None`: it does
    /// not.
    fn of(body: &'a [u8], mut sure: bool) -> Option<Self> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        let mut whole = Raw(body);
        if body.starts_with(b"[") {
            whole = whole.elements()?.next()?;
        }
        let (mut found, mut around) = (Self::default(), Self::default());
        let mut members = whole.members()?;
        while let Ok(Some((key, value))) = members.next() {
            match key.0 {
                b"error" if !value.is_empty() => {
                    sure = true;
                    found.read(value);
                }
                b"response" => {
                    if let Some(error) = value.get(b"error").filter(|error| !error.is_empty()) {
                        sure = true;
                        found.read(error);
                    }
                }
                b"type" | b"object" if value.0 == br#""error""# => sure = true,
                name => around.take(name, value),
            }
        }
        found.or(&around);
        sure.then_some(found)
    }

    /// The error itself: an object, or no more than a message.
    fn read(&mut self, error: Raw<'a>) {
        let Some(mut members) = error.members() else {
            self.message = Some(error);
            return;
        };
        while let Ok(Some((key, value))) = members.next() {
            self.take(key.0, value);
        }
    }

    fn take(&mut self, name: &[u8], value: Raw<'a>) {
        match name {
            b"code" => self.code = Some(value),
            b"type" => self.kind = Some(value),
            b"status" => self.status = Some(value),
            b"message" => self.message = Some(value),
            b"details" => self.details = Some(value),
            b"metadata" => self.flagged |= value.get(b"flagged_input").is_some(),
            _ => {}
        }
    }

    /// What it does not say itself, it says around itself.
    fn or(&mut self, around: &Self) {
        self.code = self.code.or(around.code);
        self.kind = self.kind.or(around.kind);
        self.status = self.status.or(around.status);
        self.message = self.message.or(around.message);
    }

    /// The most exact word counts. `None`: no word is known.
    fn verdict(&self) -> Option<Verdict> {
        if self.flagged {
            return Some(Verdict::TheirFault);
        }
        self.details
            .and_then(detail)
            .or_else(|| word(self.code))
            .or_else(|| self.message.and_then(opening))
            .or_else(|| word(self.status))
            .or_else(|| word(self.kind))
            .or_else(|| number(self.code))
    }
}

/// Among Google's details the one with a reason; Anthropic's are one object.
fn detail(details: Raw<'_>) -> Option<Verdict> {
    if let Some(code) = details.get(b"error_code") {
        return word(Some(code));
    }
    details.elements()?.find_map(|detail| word(detail.get(b"reason")))
}

/// Some vendors give a status for a code, in an answer that has another.
fn number(code: Option<Raw<'_>>) -> Option<Verdict> {
    let status = u16::try_from(code?.number()?).ok()?;
    (400..600).contains(&status).then(|| by_status(status))
}

fn word(value: Option<Raw<'_>>) -> Option<Verdict> {
    let [b'"', word @ .., b'"'] = value?.0 else { return None };
    known(std::str::from_utf8(word).ok()?)
}

#[rustfmt::skip]
fn known(word: &str) -> Option<Verdict> {
    Some(match word {
        "insufficient_quota" | "billing_hard_limit_reached" | "billing_not_active" | "billing_limit_exceeded"
        | "credit_balance_exhausted" | "organization_spend_limit_exceeded" | "project_spend_limit_exceeded"
        | "organization_usage_limit_exceeded" | "billing_error" | "enforced_spend_limit_reached"
        | "exceeded_current_quota_error" | "insufficient_balance" | "insufficient_credits" | "Arrearage"
        | "AllocationQuota.FreeTierOnly" | "BILLING_DISABLED" => Verdict::KeySpent,

        "invalid_api_key" | "account_deactivated" | "invalid_organization" | "organization_restricted"
        | "authentication_error" | "invalid_authentication_error" | "UNAUTHENTICATED" | "API_KEY_INVALID"
        | "API_KEY_EXPIRED" | "API_KEY_SERVICE_BLOCKED" | "API_KEY_IP_ADDRESS_BLOCKED"
        | "API_KEY_HTTP_REFERRER_BLOCKED" | "ACCESS_TOKEN_EXPIRED" | "CONSUMER_INVALID" | "CONSUMER_SUSPENDED"
        | "SERVICE_DISABLED" | "InvalidApiKey" => Verdict::KeyRefused,

        "model_not_found" | "DeploymentNotFound" | "permission_error" | "insufficient_permissions" | "missing_scope"
        | "model_permission_blocked_org" | "model_permission_blocked_project" | "model_decommissioned"
            => Verdict::Denied,

        "overloaded_error" | "server_is_overloaded" | "slow_down" | "service_unavailable_error"
        | "service_unavailable" | "engine_overloaded_error" | "UNAVAILABLE" | "MODEL_CAPACITY_EXHAUSTED"
            => Verdict::Overloaded,

        "rate_limit_error" | "rate_limit_exceeded" | "rate_limit_reached_error" | "rate_limited" | "too_many_requests" | "tokens"
        | "requests" | "RESOURCE_EXHAUSTED" | "RATE_LIMIT_EXCEEDED" | "RateLimitReached" => Verdict::Limited,

        "api_error" | "server_error" | "internal_error" | "internal_server_error" | "timeout_error" | "INTERNAL"
        | "DEADLINE_EXCEEDED" | "UNKNOWN" | "ABORTED" => Verdict::Failed,

        "not_found_error" | "request_too_large" | "conflict_error" | "context_length_exceeded" | "content_filter"
        | "empty_image_file" | "failed_to_download_image" | "string_above_max_length" | "previous_response_not_found"
        | "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" | "NOT_FOUND" | "UNIMPLEMENTED"
        | "BadRequestError" | "NotFoundError" => Verdict::TheirFault,

        _ if ["invalid_", "image_", "unsupported_"].iter().any(|front| word.starts_with(front))
            || word.ends_with("_policy_violation") => Verdict::TheirFault,
        _ => return None,
    })
}

/// Where a vendor has no better word for it than a sentence.
fn opening(message: Raw<'_>) -> Option<Verdict> {
    const OPENINGS: [(&str, Verdict); 13] = [
        ("Your credit balance is too low", Verdict::KeySpent),
        ("You have reached your specified API usage limits", Verdict::KeySpent),
        ("You have reached your specified workspace API usage limits", Verdict::KeySpent),
        ("Billing hard limit has been reached", Verdict::KeySpent),
        ("Incorrect API key provided", Verdict::KeyRefused),
        ("This organization has been disabled", Verdict::KeyRefused),
        ("Your API key was reported as leaked", Verdict::KeyRefused),
        ("API key expired", Verdict::KeyRefused),
        ("You have insufficient permissions for this operation", Verdict::Denied),
        ("Permission '", Verdict::Denied),
        ("The model `", Verdict::Denied),
        ("model: ", Verdict::Denied),
        ("server busy", Verdict::Overloaded),
    ];
    let text = message.0.strip_prefix(b"\"")?;
    let opens = |front: &str| text.starts_with(front.as_bytes());
    if let Some((_, verdict)) = OPENINGS.iter().find(|(front, _)| opens(front)) {
        return Some(*verdict);
    }
    // Ollama's only word for it
    let missing = opens("model ") && memchr::memmem::find(text, b"not found").is_some();
    missing.then_some(Verdict::Denied)
}

#[cfg(test)]
mod tests;
