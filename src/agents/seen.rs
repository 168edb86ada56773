//! What a connection itself says of its peer: gathered once, when it is accepted.
//!
//! The address and a Unix peer's user and group are the kernel's word, the names of a certificate
//! its CA's. A process may choose its own name (`prctl(2)`, `PR_SET_NAME`), so a rule on the name
//! of a process trusts every program of that user.
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::config::Network;
use crate::identity::Name;

/// Longest name of a certificate that is looked at; SPIFFE ids have 2,048 bytes at most.
const LONGEST_SAN: usize = 2048;
/// Names of one certificate that are looked at.
const MOST_SANS: usize = 32;

/// Facts of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub origin: Origin,
    /// Of the verified client certificate; DNS names in small letters, then URIs.
    pub sans: Vec<San>,
    /// `10.0.0.7`, or `uid:1000`
    pub address: Name,
    /// It is encrypted as far as us.
    pub tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Tcp(IpAddr),
    Unix {
        uid: u32,
        gid: u32,
        pid: Option<i32>,
        /// `None` if it could not be asked for.
        process: Option<Name>,
    },
}

/// A subject's alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct San {
    pub name: Name,
    /// How it names an agent: itself, or the last part of a SPIFFE id.
    pub agent: Name,
}

impl Seen {
    pub fn new<'n>(origin: Origin, sans: impl Iterator<Item = &'n str>) -> Self {
        let address = match &origin {
            Origin::Tcp(ip) => ip.to_canonical().to_string().into(),
            Origin::Unix { uid, .. } => format!("uid:{uid}").into(),
        };
        let sans = sans.filter_map(San::new).take(MOST_SANS).collect();
        Self { origin, sans, address, tls: false }
    }

    /// Whether it comes from one of these networks.
    pub(super) fn comes_from(&self, networks: &[Network]) -> bool {
        match self.origin {
            Origin::Tcp(ip) => networks.iter().any(|network| network.holds(ip)),
            Origin::Unix { .. } => false,
        }
    }
}

/// A caller on this machine, of whom nothing else is known.
impl Default for Seen {
    fn default() -> Self {
        Self::new(Origin::Tcp(Ipv4Addr::LOCALHOST.into()), std::iter::empty())
    }
}

impl San {
    fn new(name: &str) -> Option<Self> {
        if name.is_empty()
            || name.len() > LONGEST_SAN
            || !name.bytes().all(|b| b.is_ascii_graphic())
        {
            return None;
        }
        let Some((_, rest)) = name.split_once("://") else {
            let name = Name::from(name.to_ascii_lowercase());
            return Some(Self { agent: Arc::clone(&name), name });
        };
        let is_spiffe = name.get(..9).is_some_and(|s| s.eq_ignore_ascii_case("spiffe://"));
        let last = rest.split_once('/').and_then(|(_, path)| path.rsplit('/').next());
        let name = Name::from(name);
        let agent = match last.filter(|last| is_spiffe && !last.is_empty()) {
            Some(last) => Name::from(last),
            None => Arc::clone(&name),
        };
        Some(Self { name, agent })
    }
}

impl Network {
    /// Whether it holds this address. An IPv4 address in IPv6 form is the same address.
    pub fn holds(&self, ip: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let prefix = u32::from(self.prefix) + if self.address.is_ipv4() { 96 } else { 0 };
        (bits(self.address) ^ bits(ip)).leading_zeros() >= prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses() {
        for (network, prefix, ip, holds) in [
            ("10.0.0.0", 8, "10.255.0.1", true),
            ("10.0.0.0", 8, "11.0.0.1", false),
            ("10.0.0.0", 8, "::ffff:10.0.0.1", true),
            ("10.1.2.3", 32, "10.1.2.3", true),
            ("10.1.2.3", 32, "10.1.2.2", false),
            ("0.0.0.0", 0, "1.2.3.4", true),
            ("0.0.0.0", 0, "::1", false),
            ("::ffff:10.0.0.0", 104, "10.1.2.3", true),
            ("fd00::", 8, "fd12::1", true),
            ("::1", 128, "::1", true),
            ("::1", 128, "::2", false),
        ] {
            let network = Network { address: network.parse().unwrap(), prefix };
            assert_eq!(network.holds(ip.parse().unwrap()), holds, "{network:?} {ip}");
        }
    }

    #[test]
    fn a_san_names_an_agent() {
        for (name, want) in [
            ("Research.Agents.Test", "research.agents.test"),
            ("spiffe://cluster.local/ns/prod/sa/research", "research"),
            ("SPIFFE://td/a", "a"),
            ("spiffe://td", "spiffe://td"),
            ("spiffe://td/a/", "spiffe://td/a/"),
            ("https://agents.test/research", "https://agents.test/research"),
        ] {
            assert_eq!(&*San::new(name).unwrap().agent, want);
        }
        for bad in ["", "a b", "a\u{1b}", "é.test", &"x".repeat(LONGEST_SAN + 1)] {
            assert_eq!(San::new(bad), None);
        }
        let many = Seen::new(Origin::Tcp(Ipv4Addr::LOCALHOST.into()), std::iter::repeat_n("a", 99));
        assert_eq!(many.sans.len(), MOST_SANS);
    }
}
