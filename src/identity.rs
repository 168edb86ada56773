//! Who makes a call: separate facts, each of which may be unknown.
//!
//! `agent` is whose share a call counts against; which rung of the ladder told it is in `rung`. Only
//! the first three rungs prove anything: names from the others are good for labels, fairness and
//! affinity, never for authorization. Names come from an interner that bounds them, so a client
//! that invents names cannot take memory or labels without end. Whom that leaves no place is shown
//! as `other`, and shares its limits; what belongs to one caller goes by the whole name.
use std::fmt;
use std::sync::Arc;

/// A name that was checked and is shared: an agent's, a team's, a session's.
pub type Name = Arc<str>;

/// What told us the agent's name; the ladder, most trusted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// A tidegate key.
    Key,
    /// A client certificate.
    Mtls,
    /// The peer of a Unix socket.
    Peer,
    /// A header that the policy names.
    Header,
    /// The session headers that agents send as they are.
    Session,
    /// A hash of the credential.
    Credential,
    /// The peer's address.
    Address,
}

impl Rung {
    pub const ALL: [Self; 7] = [
        Self::Key,
        Self::Mtls,
        Self::Peer,
        Self::Header,
        Self::Session,
        Self::Credential,
        Self::Address,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Mtls => "mtls",
            Self::Peer => "peer",
            Self::Header => "header",
            Self::Session => "session",
            Self::Credential => "credential",
            Self::Address => "address",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rung| rung.as_str() == text)
    }

    /// Whether it proves who calls; the others are the client's own word.
    pub fn authorizes(self) -> bool {
        matches!(self, Self::Key | Self::Mtls | Self::Peer)
    }
}

/// How urgent a call is; the fair queue serves the first class first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Class {
    Interactive,
    #[default]
    Default,
    Batch,
}

impl Class {
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Default, Self::Batch];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Default => "default",
            Self::Batch => "batch",
        }
    }
}

/// A keyed hash of a credential: tells two apart, and tells nothing of either. Shown by its first half.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// Its first half, where a stray likeness would do no harm.
    pub fn short(self) -> u64 {
        self.0.first_chunk().map_or(0, |half| u64::from_be_bytes(*half))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a tidegate key allows.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// Names the key without telling it.
    pub id: Name,
    /// Globs; empty for any model.
    pub models: Vec<Arc<str>>,
    /// Names of routes, as globs; empty for any route.
    pub routes: Vec<Arc<str>>,
}

/// Who makes one call. Fixed once the call has been read.
#[derive(Debug, Clone)]
pub struct Identity {
    pub agent: Name,
    pub rung: Rung,
    /// The agent that started this one.
    pub parent: Option<Name>,
    pub session: Option<Name>,
    pub team: Option<Name>,
    /// By a key, a certificate or a peer; else the client says so.
    pub team_proven: bool,
    pub class: Class,
    pub credential: Option<Fingerprint>,
    /// With a tidegate key.
    pub grant: Option<Arc<Grant>>,
    /// Where agent or team are shown as `other`.
    pub unlisted: Option<Box<Unlisted>>,
}

/// The whole names for which there was no place. For walls alone: neither label nor limit, for
/// they are without end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisted {
    pub agent: Option<Name>,
    pub team: Option<Name>,
}

impl Identity {
    /// The agent's name as it was before the table of names was asked: the same whether there was
    /// a place for it or not. Walls are made of it.
    pub fn whole_agent(&self) -> &str {
        self.unlisted.as_ref().and_then(|whole| whole.agent.as_ref()).unwrap_or(&self.agent)
    }

    /// The same of its team.
    pub fn whole_team(&self) -> Option<&str> {
        let whole = self.unlisted.as_ref().and_then(|whole| whole.team.as_ref());
        whole.or(self.team.as_ref()).map(|team| &**team)
    }
}
