//! What is left of a call when its answer is over here and goes on at its backend: who makes the
//! answer, and the lease, which is settled by whoever sees the end.
use std::cell::{Cell, OnceCell};
use std::fmt;
use std::rc::Rc;
use std::time::Instant;

use super::{Content, Reply, Streamed};
use crate::pipeline::admit::{Came, Lease};
use crate::route::Aim;
use crate::tasks::Holder;

/// Where a call leaves it, for a task that goes on with it.
#[derive(Default)]
pub struct Handover {
    holder: OnceCell<Holder>,
    lease: Cell<Option<Lease>>,
}

impl Handover {
    /// Where the call has gone: the upstream, the address by its place there, and the key. The id of
    /// the answer is not known yet.
    pub fn went_to(&self, aim: &Aim, at: Option<usize>, key: Option<u64>) {
        let upstream = aim.upstream();
        let Some(address) = at.and_then(|at| upstream.roster.seen(Instant::now()).nth(at)) else {
            return;
        };
        // an error: it was told before
        let _ = self.holder.set(Holder {
            response: String::new(),
            upstream: upstream.config.name.to_string(),
            address: address.address.to_owned(),
            key: key.unwrap_or_default(),
        });
    }

    /// Who makes the answer with this id. `None`: it is no id that could stand in a path.
    pub fn holder_of(&self, response: &str) -> Option<Holder> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if response.is_empty() || !response.bytes().all(plain) {
            return None;
        }
        let holder = self.holder.get()?;
        Some(Holder { response: response.to_owned(), ..holder.clone() })
    }

    /// The lease, if the call has not settled it.
    pub fn lease(&self) -> Option<Lease> {
        self.lease.take()
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").field("holder", &self.holder).finish_non_exhaustive()
    }
}

impl Reply {
    /// Somebody will go on where this answer ends, whatever ends it: nothing of ours is added to it.
    pub fn hand_over(&mut self, heir: &Rc<Handover>) {
        if let Content::Streamed(streamed) = &mut self.content
            && streamed.status.is_success()
        {
            streamed.eventful = false;
            streamed.ticket.end_beats();
            streamed.heir = Some(Rc::clone(heir));
        }
    }
}

impl Streamed {
    /// The lease, where this is the end of the call.
    pub(super) fn settled_by_me(&self, lease: Lease, came: &Came) -> Option<Lease> {
        match &self.heir {
            Some(heir) if came.usage.is_none() => {
                heir.lease.set(Some(lease));
                None
            }
            _ => Some(lease),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_leads_elsewhere_is_none() {
        let handover = Handover::default();
        assert_eq!(handover.holder_of("resp_1"), None, "nobody knows where it went");
        let holder = Holder {
            response: String::new(),
            upstream: "openai".to_owned(),
            address: "http://a".to_owned(),
            key: 0,
        };
        handover.holder.set(holder).unwrap();
        assert_eq!(handover.holder_of("resp_A-1").unwrap().response, "resp_A-1");
        for id in ["", "..", "a/b", "a?b", "a#b", "a%2fb", "a b", "a\r\n", "ä"] {
            assert_eq!(handover.holder_of(id), None, "{id:?}");
        }
    }
}
