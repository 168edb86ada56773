//! Reading an upstream call that is made for several: the one who began it reads like all others.
//!
//! The head is waited for, then the pieces pass as they come. An answer that dies ends for everybody
//! as it would for one: the dialect's error event, and the connection is broken off.
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::record::Record;
use super::refusal::Refusal;
use super::reply::beat::{KEEP_ALIVE, Tail, may_beat, numbers_events};
use super::reply::{BrokenOff, Content, Failing, Reply, ReplyBody, after_a_torn_event};
use super::resume::Been;
use super::shared::{Failure, Head, Seat, Tab};
use super::status::{CACHE_STATUS, Saved};
use super::told;
use super::worker::Worker;
use crate::cache::{Gone, Had as _};
use crate::flight::{Due, Stage, Ticket};
use crate::limits::book::Standing;
use crate::telemetry::metrics::Outcome;
use crate::wire::{Form, Kind};

/// Who reads.
pub enum Reader {
    /// The call that began it, and what it shares with the task that makes it.
    First(Rc<Tab>),
    /// A call that joined, with a flight of its own.
    Joined(Ticket, Saved),
    /// Its own caller who came back, and what that has had.
    Resumed(Ticket, Box<Been>),
}

/// What the answer's head is told besides.
pub struct Told {
    pub standing: Vec<Standing>,
    /// What the cache made of it, where a policy has one.
    pub status: Option<HeaderValue>,
}

/// An answer that is read as it comes.
pub struct Following {
    worker: Rc<Worker>,
    seat: Seat,
    head: Arc<Head>,
    reader: Reader,
    kind: Kind,
    /// Taken when it is closed.
    record: Option<Record>,
    failing: Failing,
    /// What it has read.
    tail: Tail,
}

/// The record of the first caller, which goes to the task if it leaves before an answer.
struct Waiting<'r> {
    record: &'r mut Record,
    tab: Option<Rc<Tab>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(tab) = self.tab.take() {
            tab.leave(self.record.hand_over(), None);
        }
    }
}

/// Waits for the head.
pub async fn follow(
    worker: &Rc<Worker>,
    seat: Seat,
    reader: Reader,
    kind: Kind,
    told: Told,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    let tab = match &reader {
        Reader::First(tab) => Some(Rc::clone(tab)),
        Reader::Joined(..) | Reader::Resumed(..) => None,
    };
    let mut waiting = Waiting { record, tab };
    let head = std::future::poll_fn(|cx| seat.poll_head(cx));
    let head = match &reader {
        Reader::First(_) => Ok(head.await),
        Reader::Joined(ticket, _) | Reader::Resumed(ticket, _) => {
            ticket.enter(Stage::FirstByte, worker.clock.now());
            ticket.guard(head).await
        }
    };
    let tab = waiting.tab.take();
    let record = &mut *waiting.record;
    if let Some(tab) = &tab {
        record.follow(&tab.trace.borrow());
    }
    let mut head = head.map_err(Refusal::expired)?.map_err(|gone| refusal(&gone))?;
    if let Reader::Joined(ticket, _) = &reader {
        ticket.enter(Stage::Answering, worker.clock.now());
        if matches!(head.form, Form::Sse | Form::NdJson) {
            ticket.set_streaming();
        }
    }
    // nobody else will want them, if nobody else has them
    let own = Arc::get_mut(&mut head).map(|head| std::mem::take(&mut head.headers));
    let mut headers = own.unwrap_or_else(|| head.headers.clone());
    if let Reader::Joined(..) = &reader {
        for name in of_the_first(&headers) {
            headers.remove(name);
        }
    }
    told::tell(&mut headers, head.dialect, &told.standing);
    if let Some(status) = told.status {
        headers.append(CACHE_STATUS, status);
    }
    if let (Reader::First(_), Some(offer)) = (&reader, head.offer.get()) {
        offer.tell(&mut headers);
    }
    let following = Following {
        worker: Rc::clone(worker),
        seat,
        head,
        reader,
        kind,
        record: None,
        failing: Failing::No,
        tail: Tail::default(),
    };
    following.begin();
    let status = following.head.status;
    Ok(Reply { status, headers, content: Content::Shared(Box::new(following)) })
}

/// Headers that tell the first caller of its own account, and nobody else: its limits, its cookies,
/// who it is to the vendor.
fn of_the_first(headers: &HeaderMap) -> Vec<HeaderName> {
    let own = |name: &&HeaderName| {
        let name = name.as_str();
        let of_an_account = [
            "ratelimit",
            "organization",
            "project",
            "workspace",
            "account",
            "tenant",
            "user",
            "quota",
            "budget",
            "spend",
            "credit",
            "balance",
            "billing",
            "subscription",
        ];
        name.starts_with("set-cookie") || of_an_account.iter().any(|word| name.contains(word))
    };
    headers.keys().filter(own).cloned().collect()
}

fn refusal(gone: &Gone<Failure>) -> Refusal {
    match gone {
        Gone::Failed(failure) => failure.refusal.clone(),
        Gone::Lost => Refusal::lost(),
    }
}

impl Following {
    /// For a caller who has come back, and has been there before.
    pub fn resumed(
        worker: Rc<Worker>,
        seat: Seat,
        head: Arc<Head>,
        kind: Kind,
        (ticket, been): (Ticket, Been),
    ) -> Self {
        let reader = Reader::Resumed(ticket, Box::new(been));
        let (failing, tail) = (Failing::No, Tail::default());
        Self { worker, seat, head, reader, kind, record: None, failing, tail }
    }

    /// The body, with the record that it closes; whole, if all of it has come.
    pub fn open(mut self: Box<Self>, mut record: Record) -> ReplyBody {
        record.streaming(matches!(self.head.form, Form::Sse | Form::NdJson));
        if let Reader::Joined(_, saved) = &self.reader {
            record.looked(saved.how);
        }
        self.record = Some(record);
        if let Some(mut rest) = self.seat.rest() {
            if let Reader::Resumed(_, been) = &mut self.reader {
                rest = rest.split_off(been.of(&rest));
            }
            self.passed(&rest);
            self.end();
            return ReplyBody::Whole(rest);
        }
        ReplyBody::Shared(self)
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if let Some(step) = self.failing.poll_step(cx) {
            return step;
        }
        match self.poll_piece(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                self.passed(&piece);
                if self.seat.ended() {
                    self.end();
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(gone))) => {
                let between = matches!(&gone, Gone::Failed(failure) if failure.between);
                self.fail(&refusal(&gone), between, cx)
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => loop {
                match self.due(cx) {
                    None => return Poll::Pending,
                    Some(Due::Expired(expired)) => {
                        return self.fail(&Refusal::expired(expired), false, cx);
                    }
                    Some(Due::Heartbeat) if self.may_beat() => {
                        self.spoke();
                        return Poll::Ready(Some(Ok(KEEP_ALIVE)));
                    }
                    Some(Due::Heartbeat) => {}
                }
            },
        }
    }

    /// The next piece of what it has not had.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone<Failure>>>> {
        loop {
            let next = self.seat.poll_piece(cx);
            let Reader::Resumed(_, been) = &mut self.reader else { return next };
            let Poll::Ready(Some(Ok(mut piece))) = next else { return next };
            let had = been.of(&piece);
            if had < piece.len() {
                return Poll::Ready(Some(Ok(piece.split_off(had))));
            }
        }
    }

    /// As [`super::reply::Streamed::has_ended`].
    pub fn has_ended(&self) -> bool {
        self.failing == Failing::No && self.record.is_none() && self.seat.ended()
    }

    fn begin(&self) {
        if let Reader::Joined(ticket, _) = &self.reader
            && may_beat(self.kind, self.head.form, self.head.eventful)
        {
            ticket.begin_beats(self.worker.clock.now());
        }
    }

    /// The first caller's deadlines are the task's, which also tells it when to speak.
    fn due(&self, cx: &mut Context<'_>) -> Option<Due> {
        match &self.reader {
            Reader::First(tab) => tab.poll_beat(cx).then_some(Due::Heartbeat),
            Reader::Joined(ticket, _) | Reader::Resumed(ticket, _) => ticket.poll_due(cx),
        }
    }

    /// The stream is not over, and what was read of it ends with a whole event.
    fn may_beat(&self) -> bool {
        self.head.ended().is_none() && self.tail.between_events()
    }

    /// The client is sent something.
    fn spoke(&self) {
        match &self.reader {
            Reader::First(tab) => tab.spoke(),
            Reader::Joined(ticket, _) | Reader::Resumed(ticket, _) => {
                ticket.spoke(self.worker.clock.now());
            }
        }
    }

    fn passed(&mut self, piece: &Bytes) {
        self.spoke();
        if let Reader::Joined(ticket, _) | Reader::Resumed(ticket, _) = &self.reader {
            ticket.moved(piece.len(), self.worker.clock.now());
            if self.tail.is_empty() && numbers_events(piece) {
                ticket.end_beats();
            }
        }
        self.tail.passed(piece);
        if let Some(record) = &mut self.record {
            record.passed(piece.len());
        }
    }

    /// The answer has come to its end.
    fn end(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        let ended = self.head.ended();
        match &self.reader {
            Reader::First(tab) => record.follow(&tab.trace.borrow()),
            Reader::Joined(_, saved) => {
                record.saved(saved, ended.and_then(|ended| ended.usage));
            }
            // what it has cost stands in the record of the first
            Reader::Resumed(..) => {}
        }
        record.close(ended.map_or(Outcome::Complete, |ended| ended.outcome));
    }

    fn fail(
        &mut self,
        refusal: &Refusal,
        between: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        self.failing = Failing::Flush;
        let Some(mut record) = self.record.take() else { return self.poll_next(cx) };
        if let Reader::First(tab) = &self.reader {
            record.follow(&tab.trace.borrow());
        }
        let Head { form, dialect, eventful, .. } = *self.head;
        let event = if eventful { refusal.event(dialect, form, self.kind, &record) } else { None };
        record.fail(refusal);
        match event {
            Some(event) if between => Poll::Ready(Some(Ok(event))),
            Some(event) => Poll::Ready(Some(Ok(after_a_torn_event(form, &event)))),
            None => self.poll_next(cx),
        }
    }
}

impl Drop for Following {
    /// The client has left. Who has seen the terminal event, or as many bytes as there are, has all
    /// of the answer: clients wait for no more.
    fn drop(&mut self) {
        let ended = self.head.ended().filter(|_| self.seat.caught_up());
        match &self.reader {
            Reader::First(tab) => {
                if let Some(record) = self.record.take() {
                    tab.leave(Some(record), ended.map(|ended| ended.outcome));
                }
            }
            Reader::Joined(..) | Reader::Resumed(..) if ended.is_some() => self.end(),
            Reader::Joined(..) | Reader::Resumed(..) => {}
        }
    }
}
