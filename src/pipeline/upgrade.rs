//! WebSocket: the upgrade is passed on, and once both sides agree, bytes go both ways as they came.
//!
//! Nothing is sent to the backend beyond the request until it has said 101. The tunnel is a task of
//! its own: it holds the call's place, its lease and its record, and ends when either side does, when
//! no message has gone by for long, or when the sidecar drains. A session whose messages we know
//! ([`session`]) is metered while it lasts and ended with a close frame (RFC 6455, section 7.4); for
//! that its request loses `Sec-WebSocket-Extensions`, as compressed messages could not be read. Any
//! other WebSocket is a tunnel of bytes. Only HTTP/1.1 has upgrades here: the extended CONNECT of
//! HTTP/2 (RFC 8441) is not offered.
mod opening;
mod session;
mod terms;
mod unpaid;
mod way;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use self::opening::Opening;
use self::session::{Cut, Meter};
use self::terms::Terms;
use self::way::{End, Way};
use super::Place;
use super::admit::Lease;
use super::gate::Upgrade;
use super::record::Record;
use super::refusal::Refusal;
use crate::config::WebSocket;
use crate::drain::{Drain, Hold, Stage};
use crate::flight::{Expired, Ticket};
use crate::io::Stream;
use crate::pressure;
use crate::route::Match;
use crate::telemetry::metrics::Outcome;
use crate::upstream::session::Seat;
use crate::upstream::visit::Visit;
use crate::wire::{
    Dialect, Endpoint, Frame, Frames, Kind, close_frame, is_session, masked_close_frame,
};

/// How long one side may go on when the other has ended, and how long a goodbye may take.
const LINGER: Duration = Duration::from_secs(1);
/// How long a session may last after one side has said goodbye.
const PARTING: Duration = Duration::from_secs(10);

/// Two streams to be joined, once the client has been told.
pub struct Tunnel {
    client: OnUpgrade,
    backend: Stream,
    /// What the backend sent behind its 101.
    first: BytesMut,
    /// `None`: its messages are not read.
    terms: Option<Terms>,
    bounds: WebSocket,
    lease: Lease,
    drain: Drain,
    held: Held,
}

/// What is given back with the tunnel's end.
struct Held {
    visit: Option<Visit>,
    ticket: Ticket,
    _buffers: pressure::Held,
    _seat: Seat,
    _place: Place,
    _hold: Hold,
}

/// Whether this path takes upgrades: a session, what no dialect knows, or a backend of no dialect.
/// Elsewhere the client's wish is ignored, as RFC 9110 (section 7.8) allows.
pub fn is_offered(found: &Match<'_, '_>) -> bool {
    let plain = || found.route.targets.iter().all(|to| to.upstream.config.dialect == Dialect::Http);
    is_session(found.rest) || found.endpoint.dialect.is_none() || plain()
}

/// What is asked for, now that the upgrade is known of.
pub fn endpoint<'p>(of: Endpoint<'p>, rest: &str, upgrade: Option<Upgrade>) -> Endpoint<'p> {
    let kind = if upgrade.is_some() && is_session(rest) { Kind::Session } else { of.kind };
    Endpoint { kind, ..of }
}

impl Tunnel {
    /// Joins the two in the background: until either side ends, or the sidecar does.
    pub fn start(self, record: Record) {
        tokio::task::spawn_local(async move {
            let Self { client, backend, first, terms, bounds, lease, drain, held } = self;
            let metered = terms.is_some();
            let meter = Meter::new(record, lease, terms);
            let Ok(client) = client.await else { return };
            let joined = Joined {
                client: tokio::io::split(TokioIo::new(client)),
                backend: tokio::io::split(backend),
                down: Way::new(&first, metered.then(Frames::new)),
                up: Way::new(&[], metered.then(Frames::in_parts)),
                meter: RefCell::new(meter),
                watched: metered,
            };
            let ended = poll_fn(|cx| held.ticket.poll_cut(cx).map_or(Poll::Pending, Poll::Ready));
            joined.run(&bounds, (&drain, ended), held.visit).await;
        });
    }
}

type Ends<S> = (tokio::io::ReadHalf<S>, tokio::io::WriteHalf<S>);

/// A tunnel that is open.
struct Joined<C, B> {
    client: Ends<C>,
    backend: Ends<B>,
    down: Way,
    up: Way,
    meter: RefCell<Meter>,
    watched: bool,
}

/// Why the tunnel is no longer simply open.
enum What {
    Down(End),
    Up(End),
    Cut(Cut),
    /// One side has said goodbye and the other says nothing to it.
    Parted,
}

impl<C, B> Joined<C, B>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    async fn run(
        mut self,
        bounds: &WebSocket,
        (drain, ended): (&Drain, impl Future<Output = Expired>),
        visit: Option<Visit>,
    ) {
        let what = self.open(bounds, drain, ended).await;
        let ended = self.part(what).await;
        if let Some(visit) = visit {
            match &ended {
                Some(cut) if cut.refusal.outcome() == Outcome::UpstreamBroken => {
                    visit.failed(std::time::Instant::now());
                }
                _ => visit.worked(),
            }
        }
        let (received, sent) = (self.down.passed, self.up.passed);
        self.meter.into_inner().finish(ended, received, sent);
    }

    /// Bytes go both ways, until something ends that.
    async fn open(
        &mut self,
        bounds: &WebSocket,
        drain: &Drain,
        ended: impl Future<Output = Expired>,
    ) -> What {
        let (last, goodbye) = (Cell::new(Instant::now()), Notify::new());
        let (clients, backends, meter) = (&mut self.client, &mut self.backend, &self.meter);
        let down = self.down.pump(&mut backends.0, &mut clients.1, &last, &goodbye, |frame| {
            meter.borrow_mut().backend_says(frame)
        });
        let up = self.up.pump(&mut clients.0, &mut backends.1, &last, &goodbye, |frame| {
            meter.borrow_mut().client_says(frame)
        });
        // a bound that is reached is told, however much there is to copy
        tokio::select! {
            biased;
            () = drain.reached(Stage::Draining) => What::Cut(Cut::going(Refusal::draining())),
            why = ended => What::Cut(Cut::going(Refusal::expired(why))),
            () = sleep(bounds.longest) => What::Cut(Cut::going(Refusal::session_too_long())),
            () = silence(&last, bounds.idle) => What::Cut(Cut::going(Refusal::session_idle())),
            () = async { goodbye.notified().await; sleep(PARTING).await } => What::Parted,
            end = down => What::Down(end),
            end = up => What::Up(end),
        }
    }

    /// Ends both sides as they are to end. `None`: they have done so themselves.
    async fn part(&mut self, what: What) -> Option<Cut> {
        let cut = match what {
            What::Cut(cut) | What::Down(End::Cut(cut)) | What::Up(End::Cut(cut)) => cut,
            What::Parted => return None,
            What::Down(End::Over | End::Unread)
                if self.down.closed || self.up.closed || !self.watched =>
            {
                self.linger(false).await;
                return None;
            }
            What::Up(End::Over | End::Unread)
                if self.down.closed || self.up.closed || !self.watched =>
            {
                self.linger(true).await;
                return None;
            }
            What::Down(End::Over) => Cut::broken(),
            What::Up(End::Unread) => {
                // it may have said why
                self.linger(true).await;
                if self.down.closed {
                    return None;
                }
                Cut::broken()
            }
            What::Down(End::Unread) | What::Up(End::Over) => Cut::deserted(),
        };
        self.take_leave(&cut).await;
        Some(cut)
    }

    /// One direction has ended: the end is passed on, which over TLS is a write that a peer may not take,
    /// and the other goes on for a moment.
    async fn linger(&mut self, down: bool) {
        let (last, goodbye) = (Cell::new(Instant::now()), Notify::new());
        let (clients, backends, meter) = (&mut self.client, &mut self.backend, &self.meter);
        if down {
            _ = timeout(LINGER, backends.1.shutdown()).await;
            let rest = self.down.pump(&mut backends.0, &mut clients.1, &last, &goodbye, |frame| {
                meter.borrow_mut().backend_says(frame)
            });
            _ = timeout(LINGER, rest).await;
        } else {
            _ = timeout(LINGER, clients.1.shutdown()).await;
            let rest = self.up.pump(&mut clients.0, &mut backends.1, &last, &goodbye, |frame| {
                meter.borrow_mut().client_says(frame)
            });
            _ = timeout(LINGER, rest).await;
        }
    }

    /// Says goodbye to both sides, between two frames, and waits a moment for their answers.
    async fn take_leave(&mut self, cut: &Cut) {
        if !self.watched {
            return;
        }
        let to_client = close_frame(cut.client, cut.reason());
        let mask = (super::attempts::dice() as u32).to_ne_bytes();
        let to_backend = masked_close_frame(cut.backend, cut.reason(), mask);
        let (clients, backends, meter) = (&mut self.client, &mut self.backend, &self.meter);
        let (down, up) = (&mut self.down, &mut self.up);
        let told = |frame: Frame<'_>| {
            _ = meter.borrow_mut().backend_says(frame);
            true
        };
        let asked = |frame: Frame<'_>| meter.borrow_mut().client_says(frame).is_none();
        let said = async {
            tokio::join!(
                down.say(&mut backends.0, &mut clients.1, &to_client, told),
                up.say(&mut clients.0, &mut backends.1, &to_backend, asked),
            );
            tokio::join!(down.hear(&mut backends.0), up.hear(&mut clients.0));
        };
        _ = timeout(LINGER, said).await;
        _ = timeout(LINGER, async { tokio::join!(clients.1.shutdown(), backends.1.shutdown()) })
            .await;
    }
}

/// Resolves when no message has gone by for so long.
async fn silence(last: &Cell<Instant>, idle: Duration) {
    loop {
        let due = last.get() + idle;
        if due <= Instant::now() {
            return;
        }
        sleep_until(due).await;
    }
}
