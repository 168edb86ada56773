//! What a session may ask for. Its model is one: the opening's, or where that names none, the first
//! that a message names (Responses over WebSocket). The key's right and the limits were asked for that
//! model and no other, so a message that names another one ends the session. Where no policy and no
//! right hangs on a model, messages are nobody's business but the backend's.
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::request::Parts;

use super::session::Cut;
use crate::identity::Identity;
use crate::pipeline::admit::Lease;
use crate::pipeline::call::Call;
use crate::pipeline::gate;
use crate::pipeline::refusal::Refusal;
use crate::route::{Aim, Asked};
use crate::snapshot::Snapshot;
use crate::wire::{Kind, Said, Unclear};

pub struct Terms {
    snapshot: Arc<Snapshot>,
    who: Rc<Identity>,
    aim: Aim,
    /// As it was admitted.
    call: Call,
    /// Something hangs on the model.
    bound: bool,
    /// The opening's head, while routes are still to be asked.
    head: Option<Box<(http::Method, http::Uri, HeaderMap)>>,
}

impl Terms {
    pub fn new(
        snapshot: &Arc<Snapshot>,
        who: &Rc<Identity>,
        aim: &Aim,
        call: Call,
        head: &Parts,
    ) -> Self {
        let routed = snapshot.routes.need_model();
        let right = who.grant.as_ref().is_some_and(|grant| !grant.allows_model(None));
        let ask_routes = routed && call.model().is_none();
        let head = || Box::new((head.method.clone(), head.uri.clone(), head.headers.clone()));
        Self {
            bound: routed || right || !snapshot.rules.is_empty(),
            head: ask_routes.then(head),
            snapshot: Arc::clone(snapshot),
            who: Rc::clone(who),
            aim: aim.clone(),
            call,
        }
    }

    /// A message that nobody can look into.
    pub fn binary(&self) -> Option<Cut> {
        self.bound.then(Cut::binary)
    }

    /// What the message asks for, if it may. `fresh`: nothing has been used yet.
    pub fn judge(
        &mut self,
        said: &Result<Said, Unclear>,
        lease: Option<&mut Lease>,
        fresh: bool,
    ) -> Option<Cut> {
        if !self.bound {
            return None;
        }
        let Ok(said) = said else { return Some(Cut::unclear()) };
        if let Some(model) = said.writes.as_deref()
            && let Some(cut) = self.forbidden(Some(model))
        {
            return Some(cut);
        }
        match (self.call.model(), said.model.as_deref()) {
            (Some(known), Some(named)) if known == named => None,
            (Some(_), Some(named)) => {
                self.forbidden(Some(named)).or_else(|| Some(Cut::other_model()))
            }
            (None, None) if said.asks => self.forbidden(None),
            (_, None) => None,
            (None, Some(_)) if !fresh => Some(Cut::other_model()),
            (None, Some(model)) => self.settle_on(model, lease),
        }
    }

    fn forbidden(&self, model: Option<&str>) -> Option<Cut> {
        let grant = self.who.grant.as_ref()?;
        (!grant.allows_model(model)).then(Cut::forbidden)
    }

    /// The session is of this model from now on: limits are asked anew.
    pub fn settle_on(&mut self, model: &str, lease: Option<&mut Lease>) -> Option<Cut> {
        if !self.bound || self.call.model().is_some() {
            return None;
        }
        if let Some(cut) = self.forbidden(Some(model)) {
            return Some(cut);
        }
        if !self.leads_here(model) {
            return Some(Cut::policy(Refusal::session_elsewhere()));
        }
        self.head = None;
        self.call.names(model);
        let lease = lease?;
        let leave = lease.ask_anew(&self.snapshot, &self.who, &self.aim, &self.call);
        lease.sent(Instant::now());
        leave.err().map(Cut::policy)
    }

    /// Whether routes, asked for this model, send it where the session is.
    fn leads_here(&self, model: &str) -> bool {
        let Some((method, uri, headers)) = self.head.as_deref() else { return true };
        let Ok(path) = gate::normalise(uri.path()) else { return false };
        let asked = Asked { method, path: &path, who: &self.who, headers };
        let found = self.snapshot.routes.select(asked, Some(model), Kind::Session);
        found.is_some_and(|found| Arc::ptr_eq(found.route, &self.aim.route))
    }
}
