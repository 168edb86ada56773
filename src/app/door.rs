//! The operators' door of a process: its socket, its certificate, and what it asks of who comes.
//!
//! What the policy cannot tell is decided here: whether a socket that was handed over can be reached
//! from other machines. One that can, and asks for nothing, is not served.
use std::io;
use std::sync::Arc;

use super::{StartError, entrance};
use crate::admin::{Guard, Handshake, Listener};
use crate::config::{Admin, is_far, open_to_strangers, remedy};
use crate::listen::socket::{self, Bound, Inherited};
use crate::listen::tls::ServerTls;
use crate::store::Token;
use crate::telemetry::metrics::ListenerUse;

/// A socket that is bound, and not yet served.
pub struct Door {
    pub bound: Bound,
    pub tls: Option<Arc<ServerTls>>,
    admin: Admin,
}

impl Door {
    /// `state`: a token will lie in its directory.
    pub fn bind(
        admin: &Admin,
        inherited: &mut Inherited,
        state: bool,
    ) -> Result<Option<Self>, StartError> {
        let tls = admin.tls.as_ref().map(ServerTls::without_http2).transpose()?.map(Arc::new);
        let bound = socket::bind(&admin.at, inherited)?.into_iter().next();
        let Some(bound) = bound else { return Ok(None) };
        let door = Self { bound, tls, admin: admin.clone() };
        if door.is_far() && open_to_strangers(admin, state) {
            let (at, expected) = (door.shown(), remedy(&admin.at));
            return Err(StartError::OpenDoor { at, expected });
        }
        Ok(Some(door))
    }

    /// How metrics find it, for as long as the process lives.
    pub fn watched(&self) -> impl Fn() -> ListenerUse + Send + Sync + 'static {
        let (name, faults, tls) = (self.shown(), Arc::clone(self.bound.faults()), self.tls.clone());
        move || entrance::view(name.clone(), &faults, tls.as_deref())
    }

    /// Whether other machines reach it.
    fn is_far(&self) -> bool {
        self.bound.addr.is_some_and(|addr| is_far(addr.ip()))
    }

    /// `http://127.0.0.1:8081`, `unix:/run/tidegate-admin.sock`
    pub fn shown(&self) -> String {
        match (self.bound.addr, &self.tls) {
            (Some(addr), None) => format!("http://{addr}"),
            (Some(addr), Some(_)) => format!("https://{addr}"),
            (None, _) => self.bound.at.clone(),
        }
    }

    /// What it asks; `kept`: the token in the directory of the store.
    pub fn guard(&self, kept: Option<Token>) -> Guard {
        let own = self.admin.token.as_ref().map(|token| Token::of(token.expose()));
        let strangers = self.is_far() && !self.admin.asks_for_certificates();
        Guard {
            demanded: own.is_some() || strangers,
            tokens: own.into_iter().chain(kept).collect(),
            actions: self.admin.actions,
        }
    }

    pub fn listener(&self) -> io::Result<Listener> {
        let socket = self.bound.duplicate()?;
        if self.bound.addr.is_none() {
            return Ok(Listener::Unix(socket.into()));
        }
        let Some(tls) = &self.tls else { return Ok(Listener::Tcp(socket.into())) };
        let tls = Arc::clone(tls);
        let shake: Handshake = Box::new(move |stream| {
            let tls = Arc::clone(&tls);
            Box::pin(async move { tls.accept(stream).await })
        });
        Ok(Listener::Tls(socket.into(), shake))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::{Address, Secret};

    fn door(at: &str, admin: &Admin, state: bool) -> Result<Door, StartError> {
        let socket = TcpListener::bind(at).unwrap().into();
        let mut inherited = Inherited::from_sockets(vec![("admin".to_owned(), socket)]);
        Door::bind(admin, &mut inherited, state).map(|door| door.unwrap())
    }

    fn handed_over(token: Option<&str>) -> Admin {
        let token = token.map(Secret::new);
        Admin { token, ..Admin::at(Address::Inherited(Some("admin".to_owned()))) }
    }

    #[test]
    fn a_socket_that_was_handed_over_is_judged_by_where_it_listens() {
        let open = handed_over(None);
        assert!(!door("127.0.0.1:0", &open, false).unwrap().guard(None).demanded);
        let refused = door("0.0.0.0:0", &open, false).err().unwrap().to_string();
        for word in ["other machines", "token:", "systemd:admin", "client_ca"] {
            assert!(refused.contains(word), "{word}: {refused}");
        }
        let shut = handed_over(Some("a-token-of-a-test"));
        assert!(door("0.0.0.0:0", &shut, false).unwrap().guard(None).demanded);
    }

    #[test]
    fn what_is_asked_follows_from_where_it_is_and_what_there_is() {
        let (own, kept) = (Some("a-token-of-a-test"), || Some(Token::of("that-of-the-store")));
        for (at, token, kept, demanded, tokens) in [
            ("127.0.0.1:0", None, None, false, 0),
            ("127.0.0.1:0", None, kept(), false, 1),
            ("127.0.0.1:0", own, None, true, 1),
            ("127.0.0.1:0", own, kept(), true, 2),
            ("0.0.0.0:0", None, kept(), true, 1),
            ("0.0.0.0:0", own, kept(), true, 2),
        ] {
            let state = kept.is_some();
            let guard = door(at, &handed_over(token), state).unwrap().guard(kept);
            assert_eq!((guard.demanded, guard.tokens.len()), (demanded, tokens), "{at} {token:?}");
        }
    }
}
