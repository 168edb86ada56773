//! Streams that can be taken up again: who lost the connection reads on where it had been, and the
//! backend is not asked twice.
//!
//! Such a call is a production of its own (see `produce.rs`); its log is kept whole up to
//! [`LONGEST`] bytes, in memory alone. With nobody left to read it goes on for the grace time that a
//! policy or its caller says, and stays for as long behind its end. Beyond the bound, or under
//! pressure, it goes on as a plain stream. Whoever is not the same caller does not see it: its name
//! is of no use without the wall that its owner stands behind. Stopping is not leaving: there is a
//! verb for it.
mod answer;
mod had;
mod id;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::answer::answer;
pub use self::had::Been;
pub use self::id::StreamId;
use super::cached::Asking;
use super::lookup;
use super::refusal::Refusal;
use super::shared::{Head, Lead, Log};
use crate::cache::Key;
use crate::limits::rules::Subject;
use crate::pressure::Pressure;
use crate::units;
use crate::wire::Kind;

/// For how long; on requests as a wish, on answers as it was granted.
pub const RESUME: HeaderName = HeaderName::from_static("x-tidegate-resume");
pub const STREAM: HeaderName = HeaderName::from_static("x-tidegate-stream");
pub const URL: HeaderName = HeaderName::from_static("x-tidegate-resume-url");

/// Most bytes of an answer that are kept for readers who come back.
pub const LONGEST: usize = 4 << 20;
/// The longest grace time where no policy says another.
const GRACE: Duration = Duration::from_mins(1);
/// Most streams at a time; further ones are plain streams.
const MOST: usize = 10_000;
/// Most readers of one stream, beside those whom the cache let join.
pub const READERS: usize = 8;
/// How often it is looked whether memory has become short.
const LOOK: Duration = Duration::from_secs(1);

/// A stream that is to be taken up again.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    grace: Duration,
    owner: [u8; 16],
}

impl Wish {
    /// What policy and caller want of a call. `None`: a plain stream, or none.
    pub fn of(asking: &Asking<'_>) -> Result<Option<Box<Self>>, Refusal> {
        let Asking { worker, snapshot, who, to, head, call, .. } = asking;
        let said = head.headers.contains_key(RESUME);
        if !said && !snapshot.rules.has_resumes() || !call.kind.reads_body() {
            return Ok(None);
        }
        let said = if said { Some(read(&head.headers)?) } else { None };
        let (route, upstream) = (&to.aim.route.name, &to.aim.upstream().config.name);
        let model = call.model().unwrap_or("");
        let most = snapshot.rules.resume_of(&Subject { who, model, route, upstream });
        let grace = said.map_or(most, |said| Some(said.min(most.unwrap_or(GRACE))));
        let grace = grace.filter(|grace| call.stream && !grace.is_zero());
        Ok(grace.map(|grace| {
            let owner = lookup::owner(worker, who, &head.headers);
            Box::new(Self { grace, owner })
        }))
    }
}

fn read(headers: &HeaderMap) -> Result<Duration, Refusal> {
    let mut all = headers.get_all(RESUME).iter();
    let (first, more) = (all.next(), all.next());
    let text = first.filter(|_| more.is_none()).and_then(|value| value.to_str().ok());
    text.and_then(|text| units::duration(text.trim()).ok()).ok_or_else(Refusal::resume_unread)
}

/// All streams that can be taken up again; one for all workers.
#[derive(Default)]
pub struct Streams {
    all: DashMap<StreamId, Arc<Stream>>,
    /// Times that one was taken up again.
    resumed: AtomicU64,
}

/// One of them.
struct Stream {
    owner: [u8; 16],
    head: Arc<Head>,
    kind: Kind,
    log: Log,
}

/// Keeps a stream in the list; dropping it takes the stream off.
pub struct Kept {
    streams: Arc<Streams>,
    id: StreamId,
    grace: Duration,
    log: Log,
}

/// What the caller who began it is told.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    id: StreamId,
    grace: Duration,
}

impl Offer {
    pub fn tell(&self, headers: &mut HeaderMap) {
        let id = self.id.text();
        let url = format!("/-/streams/{id}");
        let grace = units::show_duration(self.grace);
        for (name, text) in [(STREAM, id.to_string()), (URL, url), (RESUME, grace)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }
}

/// The name of a call that nobody joins.
pub fn key() -> Key {
    Key([0; 32])
}

impl Streams {
    /// Takes in a stream whose answer begins. `None`: there is no room for it.
    pub fn begin(
        self: &Arc<Self>,
        wish: &Wish,
        head: &Arc<Head>,
        kind: Kind,
        lead: &Lead,
    ) -> Option<Kept> {
        let Wish { grace, owner } = *wish;
        let id = (self.all.len() < MOST).then(StreamId::new).flatten()?;
        // first of all: whoever finds the stream finds what it is offered under
        head.offer.set(Offer { id, grace }).ok()?;
        let stream = Stream { owner, head: Arc::clone(head), kind, log: lead.log() };
        self.all.insert(id, Arc::new(stream));
        Some(Kept { streams: Arc::clone(self), id, grace, log: lead.log() })
    }

    fn find(&self, id: &StreamId, owner: [u8; 16]) -> Option<Arc<Stream>> {
        let stream = self.all.get(id)?;
        (stream.owner == owner).then(|| Arc::clone(&stream))
    }

    /// How many there are now, and how often one was taken up again.
    pub fn figures(&self) -> (u64, u64) {
        (self.all.len() as u64, self.resumed.load(Relaxed))
    }

    fn forget(&self, id: &StreamId) {
        self.all.remove(id);
    }
}

impl Kept {
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// The answer has ended: keeps it until nobody has read for the grace time.
    pub async fn outlive(self, pressure: Arc<Pressure>) {
        let ended = Instant::now();
        while !self.log.is_cancelled() && pressure.may_share() {
            let idle = self.log.left().map_or(Duration::ZERO, |left| left.max(ended).elapsed());
            if idle >= self.grace {
                return;
            }
            tokio::time::sleep(LOOK.min(self.grace.saturating_sub(idle))).await;
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.streams.forget(&self.id);
    }
}
