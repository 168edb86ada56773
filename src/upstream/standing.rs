//! What is known of one address: calls in flight, latency of late, whether it is out.
//!
//! Two things take an address out, each by itself: its own breaker (the calls that went there), and
//! active checks. Shared by all workers, found again by its key after a reload.
use super::PoolKey;
use super::balance::Latency;
use super::breaker::Switch;
use crate::config::{HealthCheck, Host, Origin};
use crate::sync::{AtomicUsize, Mutex, Ordering::Relaxed};

pub struct Standing {
    pub(super) key: PoolKey,
    /// `host:port`, or `unix:/path`: for people. There are no credentials in an origin.
    pub shown: Box<str>,
    /// A hash of where it is, the same in every process.
    pub(super) identity: u64,
    /// Attempts that have not ended.
    pub busy: AtomicUsize,
    pub(super) latency: Latency,
    pub(super) breaker: Switch,
    checks: Mutex<Checks>,
    /// 1 when active checks have taken it out.
    unwell: AtomicUsize,
}

#[derive(Default)]
struct Checks {
    /// That said the other thing than is believed, in a row.
    against: u32,
}

impl Standing {
    pub(super) fn new(key: PoolKey, origin: &Origin) -> Self {
        let shown = match &origin.host {
            Host::Name(name) if name.contains(':') => format!("[{name}]:{}", origin.port),
            Host::Name(name) => format!("{name}:{}", origin.port),
            Host::Unix(path) => format!("unix:{}", path.display()),
        };
        let place = format!("{} {shown}{}", origin.tls, origin.path);
        let hash = blake3::hash(place.as_bytes());
        Self {
            key,
            shown: shown.into(),
            identity: hash.as_bytes().first_chunk().map_or(0, |half| u64::from_le_bytes(*half)),
            busy: AtomicUsize::new(0),
            latency: Latency::default(),
            breaker: Switch::default(),
            checks: Mutex::default(),
            unwell: AtomicUsize::new(0),
        }
    }

    /// As active checks have it.
    pub fn is_well(&self) -> bool {
        self.unwell.load(Relaxed) == 0
    }

    /// An active check has ended. Whether that has changed what is believed.
    pub(super) fn checked(&self, well: bool, rule: &HealthCheck) -> bool {
        let mut checks = self.checks.lock();
        if well == self.is_well() {
            checks.against = 0;
            return false;
        }
        checks.against += 1;
        let needed = if well { rule.successes } else { rule.failures };
        let changed = checks.against >= needed;
        if changed {
            checks.against = 0;
            self.unwell.store(usize::from(!well), Relaxed);
        }
        changed
    }
}
