//! Who may call, and how callers are told apart. The readers of the section are in
//! `agents/read.rs`.
mod read;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;

pub(super) use read::{agents, pepper};

use super::Secret;
use crate::identity::Rung;

/// The `agents` section.
#[derive(Debug, Clone, PartialEq)]
pub struct Agents {
    pub access: Access,
    /// The ladder: the first rung that answers names the agent.
    pub identify: Vec<Rung>,
    /// Names the agent, where the peer is trusted.
    pub header: HeaderName,
    /// Names the team, where the peer is trusted. `None`: no header does.
    pub team_header: Option<HeaderName>,
    /// Networks whose word counts in the two headers. Empty: any peer's.
    pub trust: Vec<Network>,
    /// The key of the keyed hashes in `keys`.
    pub pepper: Option<Secret>,
    pub keys: Vec<AgentKey>,
    pub certificates: Vec<Certificate>,
    pub peers: Vec<Peer>,
}

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody who can connect.
    Open,
    /// Only whom a key, a certificate or a Unix peer credential names.
    Known,
}

/// One tidegate key: never itself, only its hash.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentKey {
    pub hash: KeyHash,
    /// `None`: lower rungs may name the agent.
    pub agent: Option<Arc<str>>,
    pub team: Option<Arc<str>>,
    /// Unix seconds.
    pub expires: Option<i64>,
    pub models: Vec<Arc<str>>,
    pub routes: Vec<Arc<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyHash {
    Sha256([u8; 32]),
    /// HMAC-SHA256 under `pepper`.
    Hmac([u8; 32]),
}

impl KeyHash {
    /// Enough to tell keys apart, and too little to compare one with: 8 hexadecimal digits.
    pub fn short(&self) -> String {
        let (Self::Sha256(hash) | Self::Hmac(hash)) = self;
        let [a, b, c, d, ..] = hash;
        format!("{a:02x}{b:02x}{c:02x}{d:02x}")
    }

    /// As in the policy file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Hmac(_) => "hmac",
        }
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}…)", self.kind(), self.short())
    }
}

/// A client certificate by its subject's alternative name.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// A glob over DNS names and URIs (`spiffe://cluster/ns/*/sa/research`).
    pub san: Arc<str>,
    /// `None`: the name itself, or the last part of a SPIFFE id.
    pub agent: Option<Arc<str>>,
    pub team: Option<Arc<str>>,
}

/// A peer on a Unix socket. What is `None` is not asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// A glob over the name of the process.
    pub process: Option<Arc<str>>,
    /// `None`: the name of the process.
    pub agent: Option<Arc<str>>,
    pub team: Option<Arc<str>>,
}

/// `10.0.0.0/8`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Default for Agents {
    fn default() -> Self {
        Self {
            access: Access::Open,
            identify: Rung::ALL.to_vec(),
            header: HeaderName::from_static("x-agent-id"),
            team_header: None,
            trust: Vec::new(),
            pepper: None,
            keys: Vec::new(),
            certificates: Vec::new(),
            peers: Vec::new(),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
