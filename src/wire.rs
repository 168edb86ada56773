//! What the bytes of each vendor mean: pure functions on bytes, no I/O, no config, no async.
//!
//! One file a dialect. A dialect is a way of speaking (paths, fields, events, errors); a vendor
//! is only data in `config`. Two things change what passes, and only as far as a limit demands:
//! [`Edits`] a request's bound, its wish for usage and the model's name, [`Hide`] the event that this
//! wish brings.
//!
//! On the way in: [`endpoint()`] reads the path, [`view()`] looks into the body,
//! [`conversation()`] into what was said; [`question()`] cuts out of it what an answer depends on;
//! [`embed`] reads a request for embeddings input by input; [`prefix()`] tells which conversation a
//! call continues, and [`repeat()`] whether it may be sent again.
//! On the way out: [`quota()`] reads the head, a [`Meter`] watches the answer go by; [`facts()`] tells
//! what a recorded one is worth, [`fold()`] and [`unfold()`] make one form of it from the other. Where
//! we must say no, [`error_body`] and [`error_event`] say it in the caller's dialect; where a backend
//! does, [`verdict()`] tells whether another could do better. Behind an upgrade, [`Frames`] watches a
//! WebSocket, and [`session_event`] reads what it carries.
mod answer;
mod anthropic;
pub mod embed;
mod endpoint;
mod fault;
mod frames;
mod gemini;
mod hide;
mod json;
mod meter;
mod ollama;
mod openai;
mod prefix;
mod question;
mod quota;
mod realtime;
mod repeat;
mod response;
mod seek;
mod splice;
mod split;
mod tools;
mod usage;
mod verdict;
mod view;
mod watch;

pub use answer::{Facts, Finish, Unfolded, facts, fold, restream, text, unfold};
pub use endpoint::{Endpoint, Kind, endpoint, is_session, names_model_later};
pub use fault::{Fault, FaultKind, error_body, error_event};
pub use frames::{Frame, Frames, close_frame, masked_close_frame};
pub use hide::Hide;
pub use meter::{Ending, Form, Meter, form};
pub use prefix::prefix;
pub use question::{
    NotAlike, Question, Turn, Unasked, changing_headers, header_changes_answer,
    header_is_a_condition, header_may_authorize, question,
};
pub use quota::{Allowance, Quota, quota};
pub use realtime::{
    Listener, Said, SessionEvent, Unclear, long_session_event, session_content, session_event,
};
pub use repeat::{Repeat, repeat};
pub use response::{
    event_response_id, event_status, last_response, renamed_response, response_id, response_status,
    said, sequence_number,
};
pub use splice::{Edits, Wish, path_with_model};
pub use split::{Event, Line, MAX_EVENT, NdJsonSplit, Past, SseSplit, WholeEvents};
pub use tools::{Conversation, ToolCall, conversation, last_tool_call};
pub use usage::Usage;
pub use verdict::{Verdict, event_verdict, opens_with_error, verdict};
pub use view::{View, ViewFault, view};

/// A way of speaking. Closed on purpose: a new OpenAI-compatible vendor is configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
    Ollama,
    /// Anything else over HTTP: proxied as it is, errors in the OpenAI shape.
    Http,
}
