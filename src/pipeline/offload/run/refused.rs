//! What an answer that is none means for the task.
use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};

use super::Came;
use crate::pipeline::refusal::CANCELLED;
use crate::pipeline::reply::{ReplyBody, SHOULD_RETRY, SOURCE};
use crate::pipeline::worker::Worker;
use crate::tasks::TaskError;

/// The longest that a backend may put it off.
const LONGEST_HINT: Duration = Duration::from_mins(10);

/// We have answered it ourselves: an operator has ended it before there was an answer.
pub fn is_ended(response: &Response<ReplyBody>) -> bool {
    response.status().as_u16() == CANCELLED && is_ours(response.headers())
}

fn is_ours(headers: &HeaderMap) -> bool {
    headers.get(SOURCE).is_some_and(|source| source.as_bytes() == b"policy")
}

/// How long to wait, as an answer says.
pub fn hint(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
    };
    number("retry-after-ms")
        .map(|millis| millis / 1e3)
        .or_else(|| number("retry-after"))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map(|hint| hint.min(LONGEST_HINT))
}

/// What a refusal means for the task: ours, or a backend's.
pub fn said_no(worker: &Worker, headers: &HeaderMap, status: StatusCode) -> Came {
    let ours = is_ours(headers);
    let hint = hint(headers);
    let error = TaskError {
        r#type: "refused".to_owned(),
        message: format!("The call was answered with status {}.", status.as_u16()),
        status: Some(status.as_u16()),
    };
    let over = headers.get(SHOULD_RETRY).is_some_and(|value| value.as_bytes() == b"false");
    let again = |begun, counts| Came::Again {
        error: error.clone(),
        after: hint,
        begun,
        counts,
        whole: true,
    };
    match status {
        // a limit of ours is no attempt; where waiting does not help it says so
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::SERVICE_UNAVAILABLE
            if ours && !(over && hint.is_none()) =>
        {
            if worker.drain.stage() >= crate::drain::Stage::Draining {
                return Came::Again {
                    error,
                    after: Some(Duration::ZERO),
                    begun: false,
                    counts: false,
                    whole: true,
                };
            }
            again(false, false)
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => again(false, true),
        StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => again(true, true),
        _ if status.as_u16() == 529 => again(false, true),
        _ if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => again(true, true),
        _ => Came::Said(error),
    }
}
