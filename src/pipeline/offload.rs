//! Calls that are answered later: any call to a model, as a task.
//!
//! A call becomes a task where its route says so or its caller asks for it, once it has been
//! identified, read and routed, and before it asks for leave: limits are asked when it runs. It is
//! answered with the task's id when that is durable ([`submit`]). Its owner follows it below
//! `/-/tasks` (`api`, `events`), or as OpenAI's background mode has it (`background`); another's
//! task is as if it were not there. Running one ([`run`]) goes the path of every call, as a caller
//! that is known already; an answer that its backend makes in the background is followed there
//! (`attach`). The book of tasks itself is [`crate::tasks`].
mod api;
mod attach;
mod background;
mod events;
mod live;
mod object;
mod prefer;
mod result;
mod run;
mod submit;

pub use self::api::answer;
pub use self::background::answer as answer_response;
pub use self::live::Live;
pub use self::object::{brief, event_name};
pub use self::run::run;
pub use self::submit::{Submission, submit};

use http::{HeaderMap, HeaderName};

use self::prefer::Prefer;
use super::call::Call;
use super::worker::Worker;
use crate::config::Offload;
use crate::route::Route;
use crate::tasks::Form;
use crate::upstream::Upstream;

/// On every answer about a task: its id.
pub const TASK: HeaderName = HeaderName::from_static("x-tidegate-task");
/// On a call: who is to be told of the task's end, by name.
const WEBHOOK: HeaderName = HeaderName::from_static("x-tidegate-webhook");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How a call is to be answered later.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    pub form: Form,
    prefer: Prefer,
}

impl Wish {
    /// `None`: it is answered at once.
    pub fn of(
        worker: &Worker,
        headers: &HeaderMap,
        route: &Route,
        upstream: &Upstream,
        call: &Call,
    ) -> Option<Self> {
        if route.offload == Offload::Never || !call.kind.generates() && !call.kind.embeds() {
            return None;
        }
        let prefer = Prefer::read(headers);
        // some vendors can do so themselves, and then the response is theirs; where no tasks are
        // kept that is the backend's to say
        let kept = worker.tasks.is_some();
        let background = call.background && kept && !upstream.answers_later();
        let form = if background { Form::Responses } else { Form::Plain };
        let asked = background || prefer.respond_async || route.offload == Offload::Always;
        asked.then_some(Self { form, prefer })
    }
}
