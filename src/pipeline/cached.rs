//! A call that a policy caches: from what is kept, from what is on its way, or by a call that others
//! may join. And one whose stream can be taken up again: its caller reads as one of several would.
//!
//! What is found costs neither tokens nor money nor a place at the upstream; it counts as a request.
//! It is looked for twice: before the call asks for leave, and once it has it, since the answer may
//! have come while it stood in line.
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderValue, request};

use super::admit::{self, Lease};
use super::call::Call;
use super::dispatch::Prepared;
use super::follow::{Reader, Told, follow};
use super::lookup::{Claimed, Facts, Found, Leading, Lookup, Miss};
use super::produce::Production;
use super::record::Record;
use super::refusal::Refusal;
use super::replay;
use super::reply::Reply;
use super::resume::{self, Wish};
use super::shared::{Lead, Seat, Tab};
use super::similar::Similar;
use super::status::{JOINED, MISS, PARTIAL, Saved, word};
use super::worker::Worker;
use crate::cache::Vectors;
use crate::flight::Ticket;
use crate::identity::Identity;
use crate::limits::book::Standing;
use crate::snapshot::Snapshot;
use crate::wire::Dialect;

/// A call and all that is known of it.
pub struct Asking<'c> {
    pub worker: &'c Rc<Worker>,
    pub snapshot: &'c Arc<Snapshot>,
    pub ticket: Ticket,
    pub who: &'c Rc<Identity>,
    pub to: Prepared<'c>,
    pub head: &'c mut request::Parts,
    pub call: &'c mut Call,
    pub dialect: Dialect,
    pub record: &'c mut Record,
    /// Its stream is to be one that can be taken up again.
    pub wish: Option<Box<Wish>>,
}

impl Asking<'_> {
    pub fn facts(&self) -> Facts<'_> {
        let Self { who, to, head, call, .. } = self;
        Facts { who, route: &to.aim.route, target: &to.target, head, call }
    }

    /// Answers it, as a policy caches it.
    pub async fn look(mut self, mut lookup: Box<Lookup>) -> Result<Reply, Refusal> {
        let (now, begun) = (SystemTime::now(), Instant::now());
        self.record.looks();
        let mut found = lookup.peek(self.worker, now);
        if found.is_none() {
            found = lookup.peek_on_disk(now).await;
        }
        if found.is_none() {
            found = self.look_around(&mut lookup).await;
        }
        self.record.searched(begun.elapsed());
        if let Some(found) = found {
            return self.spared(found, &lookup).await;
        }
        if lookup.only_if_cached() {
            self.record.looked("miss");
            return Err(Refusal::not_kept());
        }
        let Self { worker, snapshot, ticket, who, to, call, record, wish, .. } = &mut self;
        if let Some(vectors) = &lookup.vectors {
            // the rest is not sent
            call.asks.prompt_bytes = vectors.asked_share(call.asks.prompt_bytes);
        }
        let admitted = admit::admit(worker, snapshot, ticket, who, &to.aim, call, record).await;
        let mut lease = match admitted {
            Ok(lease) => lease,
            Err(refusal) => {
                // another may have been let go meanwhile, with the same question
                let found = lookup.peek(worker, SystemTime::now()).ok_or(refusal)?;
                return self.spared(found, &lookup).await;
            }
        };
        record.admitted(&lease);
        let least = if wish.is_some() { resume::LONGEST } else { 0 };
        match lookup.claim(worker, lease.clamp().is_some(), least, SystemTime::now()) {
            Claimed::Found(found, lookup) => {
                let standing = std::mem::take(&mut lease.standing);
                lease.spare();
                self.found(found, &lookup, standing).await
            }
            Claimed::Miss(leading) => {
                let Leading { lead, seat, miss, lookup } = *leading;
                self.lead((lead, seat), miss, Some(lookup), lease, None).await
            }
        }
    }

    /// Found before there was leave: no more is needed than for a request.
    pub async fn spared(mut self, found: Found, lookup: &Lookup) -> Result<Reply, Refusal> {
        let Self { worker, snapshot, ticket, who, to, call, record, .. } = &mut self;
        let standing =
            admit::admit_here(worker, snapshot, ticket, who, &to.aim, call, record).await?;
        self.found(found, lookup, standing).await
    }

    /// Whether the same was asked in other words.
    async fn look_around(&self, lookup: &mut Lookup) -> Option<Found> {
        let Self { worker, snapshot, .. } = self;
        let mut similar = Arc::new(Similar::of(worker, &self.facts(), lookup)?);
        let found =
            if lookup.no_cache() { None } else { similar.look(worker, snapshot, lookup).await };
        lookup.similar = Some(similar);
        found
    }

    async fn found(
        self,
        found: Found,
        lookup: &Lookup,
        standing: Vec<Standing>,
    ) -> Result<Reply, Refusal> {
        let Self { worker, ticket, call, dialect, record, .. } = self;
        let rate = call.asks.counted.then(|| lookup.rate(worker));
        match found {
            Found::Hit(hit) => {
                let saved = Saved { how: word(hit.tier), rate };
                record.looked(saved.how);
                Ok(replay::reply(hit, lookup.rule.replay, dialect, &standing, saved))
            }
            Found::Join(seat) => {
                let saved = Saved { how: "joined", rate };
                record.looked(saved.how);
                let reader = Reader::Joined(ticket, saved);
                let told = Told { standing, status: Some(JOINED) };
                follow(worker, seat, reader, call.kind, told, record).await
            }
        }
    }

    /// No cache has to do with it: asks for its caller alone, who may lose the connection.
    pub async fn alone(
        self,
        lease: Lease,
        miss: Miss,
        status: Option<HeaderValue>,
    ) -> Result<Reply, Refusal> {
        let hub = self.worker.hubs.alone(resume::key(), resume::LONGEST);
        self.lead(hub, miss, None, lease, status).await
    }

    /// Nobody knows: asks, for all who will want to know.
    async fn lead(
        self,
        (lead, seat): (Lead, Seat),
        miss: Miss,
        lookup: Option<Box<Lookup>>,
        mut lease: Lease,
        status: Option<HeaderValue>,
    ) -> Result<Reply, Refusal> {
        let Self { worker, snapshot, ticket, who, to, head, call, dialect, record, wish } = self;
        let tab = Rc::new(Tab::default());
        tab.trace.borrow_mut().spans = record.trace().cloned();
        let standing = std::mem::take(&mut lease.standing);
        let status = lookup.as_ref().map_or(status, |lookup| {
            record.looked("miss");
            let known = lookup.vectors.as_ref().is_some_and(Vectors::any_known);
            Some(if known { PARTIAL } else { MISS })
        });
        let told = Told { standing, status };
        let kind = call.kind;
        let call = std::mem::replace(call, Call::empty(kind));
        let (empty, ()) = http::Request::new(()).into_parts();
        let production = Production {
            worker: Rc::clone(worker),
            snapshot: Arc::clone(snapshot),
            who: Rc::clone(who),
            lead,
            miss,
            tab: Rc::clone(&tab),
            ticket,
            lease,
            to: to.owned(),
            head: std::mem::replace(head, empty),
            call,
            dialect,
            lookup,
            wish,
            spent: None,
        };
        production.start();
        follow(worker, seat, Reader::First(tab), kind, told, record).await
    }
}
