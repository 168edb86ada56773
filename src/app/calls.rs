//! Calls in flight, over all workers: what they do, and the end of one.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::crew::Crew;
use super::worker::Message;
use crate::flight::Seen;
use crate::limits::Limits;
use crate::telemetry::view::CallView;

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// One call, as it can leave its worker's thread.
pub fn seen(seen: Seen, limits: &Limits) -> CallView {
    let about = seen.about;
    let position = about.in_line.and_then(|call| limits.with(|book, _| book.position(call)));
    CallView {
        request_id: about.request_id.as_str().to_owned(),
        upstream: about.upstream.as_deref().map(str::to_owned),
        operation: about.operation.to_owned(),
        model: about.model.as_deref().map(str::to_owned),
        agent: about.agent.as_deref().map(str::to_owned),
        position: position.map(|before| before as u64),
        stage: seen.stage.as_str().to_owned(),
        age_ms: seen.age.as_millis() as u64,
        bytes: seen.bytes,
        tokens: seen.tokens,
    }
}

/// All of them, the oldest first.
pub async fn in_flight(crew: &Crew) -> Vec<CallView> {
    let mut all: Vec<_> = asked(crew, Message::Report).await.into_iter().flatten().collect();
    all.sort_by_key(|call| std::cmp::Reverse(call.age_ms));
    all
}

/// Ends the call of that id. Whether it was there.
pub async fn cancel(crew: &Crew, request_id: Arc<str>) -> bool {
    let message = |answer| Message::Cancel(Arc::clone(&request_id), answer);
    asked(crew, message).await.contains(&true)
}

/// What each worker answers that does in time.
async fn asked<T>(crew: &Crew, message: impl Fn(oneshot::Sender<T>) -> Message) -> Vec<T> {
    let asked: Vec<_> = crew
        .mailboxes()
        .into_iter()
        .filter_map(|mailbox| {
            let (answer, receiver) = oneshot::channel();
            mailbox.send(message(answer)).ok().map(|()| receiver)
        })
        .collect();
    // one end for all of them: many that stand still are no longer waited for than one
    let end = Instant::now() + PATIENCE;
    let mut answers = Vec::new();
    for receiver in asked {
        if let Ok(Ok(answer)) = timeout_at(end, receiver).await {
            answers.push(answer);
        }
    }
    answers
}
