//! Taking a call on as a task.
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, request};

use super::prefer::{APPLIED, Prefer};
use super::{IDEMPOTENCY_KEY, WEBHOOK, Wish, background, object, result};
use crate::agents::Places;
use crate::drain::Stage;
use crate::identity::Identity;
use crate::pipeline::call::Call;
use crate::pipeline::gate;
use crate::pipeline::identify;
use crate::pipeline::lookup;
use crate::pipeline::record::Record;
use crate::pipeline::refusal::Refusal;
use crate::pipeline::reply::Reply;
use crate::pipeline::resume::RESUME;
use crate::pipeline::worker::Worker;
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::tasks::{
    Caller, Credential, Form, Idempotency, NewTask, Owner, Request, SubmitError, Tasks, View,
};
use crate::telemetry::trace::TRACEPARENT;
use crate::wire::{self, Repeat};

/// How soon to ask again, in seconds.
const SOON: u64 = 2;
/// The longest `Idempotency-Key`, in bytes.
const LONGEST_KEY: usize = 512;
/// What is of the caller's connection; `Connection` itself may name more.
const OF_CONNECTION: [&str; 8] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "http2-settings",
];

/// A call that is to be answered later.
pub struct Submission<'c> {
    pub worker: &'c Rc<Worker>,
    pub snapshot: &'c Arc<Snapshot>,
    pub who: &'c Rc<Identity>,
    pub head: &'c request::Parts,
    /// Where keys of ours stood.
    pub ours: Places,
    pub route: &'c Arc<Route>,
    pub call: &'c Call,
}

/// Answers when the task is durable; or with its answer, if that comes while the caller waits.
pub async fn submit(
    submission: Submission<'_>,
    wish: Wish,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    let tasks = submission.worker.tasks.as_ref().ok_or_else(Refusal::no_tasks)?;
    let owner = lookup::owner(submission.worker, submission.who, &submission.head.headers);
    let mut new = submission.task(owner, wish)?;
    if let Some(context) = record.traceparent() {
        follows(&mut new.request.headers, &context);
    }
    let submitted = tasks.submit(new, now_ms()).await.map_err(Refusal::not_taken_on)?;
    let id = submitted.view.record.id;
    record.is_of(id);
    let stream = submission.call.stream;
    if wish.form == Form::Responses {
        return if stream {
            background::stream(submission.worker, tasks, owner, id, 0)
        } else {
            Ok(background::reply(&submitted.view, &id.as_response(), None))
        };
    }
    // events are followed, not waited for
    let prefer = Prefer { wait: wish.prefer.wait.filter(|_| !stream), ..wish.prefer };
    let patience = prefer.patience();
    let view = if patience.is_zero() {
        submitted.view
    } else {
        tokio::select! {
            view = wait(tasks, &owner, &submitted.view, patience) => view,
            () = submission.worker.drain.reached(Stage::Draining) => submitted.view,
        }
    };
    if view.record.state.is_terminal() && prefer.wait.is_some() {
        let mut reply = result::verbatim(tasks, &owner, &view).await?;
        applied(&mut reply, prefer, false);
        return Ok(reply);
    }
    let mut reply = object::reply(&view);
    if !view.record.state.is_terminal() {
        reply.status = StatusCode::ACCEPTED;
    }
    reply.headers.insert(header::RETRY_AFTER, HeaderValue::from(SOON));
    if let Ok(location) = HeaderValue::try_from(format!("/-/tasks/{id}")) {
        reply.headers.insert(header::LOCATION, location);
    }
    applied(&mut reply, prefer, true);
    Ok(reply)
}

fn applied(reply: &mut Reply, prefer: Prefer, later: bool) {
    if let Some(value) = prefer.applied(later) {
        reply.headers.insert(APPLIED, value);
    }
}

/// Until it is over, or for so long.
async fn wait(tasks: &Tasks, owner: &Owner, view: &View, patience: Duration) -> View {
    let mut view = view.clone();
    let over = tokio::time::sleep(patience);
    let mut over = std::pin::pin!(over);
    while !view.record.state.is_terminal() {
        tokio::select! {
            () = &mut over => break,
            () = tasks.changed(view.record.id, view.version) => {}
        }
        let Some(now) = tasks.view(owner, view.record.id) else { break };
        view = now;
    }
    view
}

impl Submission<'_> {
    fn task(&self, owner: Owner, wish: Wish) -> Result<NewTask, Refusal> {
        let Self { snapshot, who, head, ours, route, call, .. } = self;
        let request::Parts { method, uri, headers, .. } = head;
        let body = call.bytes_read();
        let view = wire::view(call.kind, &body).ok();
        let repeats = wire::repeat(method, call.kind, view.as_ref(), false) != Repeat::WhenUnbegun
            // what is lasting about it is ours to do
            || wish.form == Form::Responses && self.repeats_in_foreground(&body);
        let (path_and_query, credential) = credential(uri, *ours, headers);
        // a target that has a key of its own does not see the caller's
        let needs = route.targets.iter().any(|target| !target.upstream.holds_key());
        let credential = credential.filter(|_| needs);
        let background = call.background
            && wish.form == Form::Plain
            && route.targets.iter().all(|target| target.upstream.answers_later());
        let request = Request {
            method: method.as_str().to_owned(),
            path_and_query,
            headers: kept(headers, uri),
            body_bytes: 0,
            stream: call.stream,
            kind: call.kind,
            needs_credential: credential.is_some(),
            repeats,
            background,
        };
        let caller = Caller {
            // whole: the task is run behind the walls of its caller
            agent: who.whole_agent().to_owned(),
            rung: who.rung.as_str().to_owned(),
            parent: who.parent.as_deref().map(str::to_owned),
            session: who.session.as_deref().map(str::to_owned),
            team: who.whole_team().map(str::to_owned),
            team_proven: who.team_proven,
            class: Some(who.class.as_str().to_owned()),
            credential: who.credential.map(|print| print.0),
            key_id: who.grant.as_ref().map(|grant| grant.id.to_string()),
        };
        let idempotency = self.idempotency(&owner, &request, &body)?;
        Ok(NewTask {
            owner,
            request,
            caller,
            route: route.name.to_string(),
            model: call.model().map(str::to_owned),
            idempotency,
            webhooks: webhooks(snapshot, headers)?,
            form: wish.form,
            body,
            credential,
            max_age: None,
        })
    }

    fn repeats_in_foreground(&self, body: &Bytes) -> bool {
        let kind = self.call.kind;
        let Ok(view) = wire::view(kind, body) else { return false };
        let body = wire::Edits::in_foreground(&view).apply(body);
        let view = wire::view(kind, &body).ok();
        wire::repeat(&self.head.method, kind, view.as_ref(), false) != Repeat::WhenUnbegun
    }

    fn idempotency(
        &self,
        owner: &Owner,
        request: &Request,
        body: &[u8],
    ) -> Result<Option<Idempotency>, Refusal> {
        let mut all = self.head.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(key) = all.next() else { return Ok(None) };
        if key.is_empty() || key.len() > LONGEST_KEY || all.next().is_some() {
            return Err(Refusal::idempotency_key_unread());
        }
        let mut fingerprint = blake3::Hasher::new();
        for part in [request.method.as_bytes(), request.path_and_query.as_bytes(), body] {
            fingerprint.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let mut named = blake3::Hasher::new();
        named.update(owner).update(key.as_bytes());
        Ok(Some(Idempotency {
            key: *named.finalize().as_bytes(),
            fingerprint: *fingerprint.finalize().as_bytes(),
        }))
    }
}

/// Path and query as they may be kept, and what may not.
fn credential(uri: &Uri, ours: Places, headers: &HeaderMap) -> (String, Option<Credential>) {
    let bare = |replaced| {
        let query = identify::without_keys(ours, uri.query(), replaced);
        match query.as_deref() {
            Some(query) if !query.is_empty() => format!("{}?{query}", uri.path()),
            _ => uri.path().to_owned(),
        }
    };
    let (open, closed) = (bare(true), bare(false));
    let authorizes = |name: &HeaderName| wire::header_may_authorize(name.as_str());
    let mut secret: Vec<_> = headers
        .iter()
        .filter(|(name, _)| authorizes(name))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    if open != closed {
        secret.push((super::run::TARGET.to_owned(), closed.into_bytes()));
    }
    (open, (!secret.is_empty()).then(|| Credential::new(secret)))
}

/// The headers that go with the call when it is made: not those of this connection, not what may
/// be a credential, and not what is said of being answered later.
fn kept(headers: &HeaderMap, uri: &Uri) -> Vec<(String, Vec<u8>)> {
    let mut kept = headers.clone();
    // over HTTP/2 the target says it
    let authority = uri.authority().and_then(|place| HeaderValue::from_str(place.as_str()).ok());
    if let Some(host) = authority {
        kept.entry(header::HOST).or_insert(host);
    }
    Prefer::strip(&mut kept);
    for name in
        [WEBHOOK, RESUME, IDEMPOTENCY_KEY, header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
    {
        kept.remove(name);
    }
    for name in OF_CONNECTION {
        kept.remove(name);
    }
    kept.iter()
        .filter(|(name, _)| !wire::header_may_authorize(name.as_str()))
        .filter(|(name, _)| !gate::named_by_connection(headers, name))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

/// The call that is made later is linked to this one.
fn follows(headers: &mut Vec<(String, Vec<u8>)>, context: &HeaderValue) {
    headers.retain(|(name, _)| *name != TRACEPARENT.as_str());
    headers.push((TRACEPARENT.as_str().to_owned(), context.as_bytes().to_vec()));
}

/// Those whom the caller names.
fn webhooks(snapshot: &Snapshot, headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    let known = snapshot.config.tasks.as_ref().map_or(&[][..], |tasks| &tasks.webhooks);
    let mut named = Vec::new();
    for value in headers.get_all(WEBHOOK) {
        let text = value.to_str().map_err(|_| Refusal::unknown_webhook())?;
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if !known.iter().any(|webhook| *webhook.name == *name) {
                return Err(Refusal::unknown_webhook());
            }
            if !named.iter().any(|known| known == name) {
                named.push(name.to_owned());
            }
        }
    }
    Ok(named)
}

pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

impl Refusal {
    fn not_taken_on(why: SubmitError) -> Self {
        match why {
            SubmitError::Full { what } => Self::too_many_tasks(what),
            SubmitError::Mismatch => Self::idempotency_mismatch(),
            SubmitError::NoSpace => Self::no_space(),
            SubmitError::Broken => Self::tasks_broken(),
        }
    }
}
