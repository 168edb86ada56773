//! `agents` as YAML. Of a key no more than the first digits of its hash.
use std::fmt::{self, Display, Write as _};
use std::sync::Arc;

use super::{REDACTED, quoted};
use crate::config::{Access, AgentKey, Agents, Certificate, Peer};
use crate::units::show_instant;

pub(super) fn write_agents(out: &mut String, agents: &Agents) -> fmt::Result {
    let access = match agents.access {
        Access::Open => "open",
        Access::Known => "known",
    };
    let identify: Vec<&str> = agents.identify.iter().map(|rung| rung.as_str()).collect();
    writeln!(out, "agents:\n  access: {access}\n  identify: [{}]", identify.join(", "))?;
    if agents.identify.contains(&crate::identity::Rung::Header) {
        writeln!(out, "  header: {}", quoted(&agents.header))?;
    }
    if let Some(header) = &agents.team_header {
        writeln!(out, "  team_header: {}", quoted(header))?;
    }
    if !agents.trust.is_empty() {
        writeln!(out, "  trust: {}", list(&agents.trust))?;
    }
    if agents.pepper.is_some() {
        writeln!(out, "  pepper: {REDACTED:?}")?;
    }
    section(out, "keys", &agents.keys, write_key)?;
    section(out, "certificates", &agents.certificates, write_certificate)?;
    section(out, "peers", &agents.peers, write_peer)
}

fn section<T>(
    out: &mut String,
    name: &str,
    items: &[T],
    write: fn(&mut String, &T) -> fmt::Result,
) -> fmt::Result {
    if !items.is_empty() {
        writeln!(out, "  {name}:")?;
    }
    items.iter().try_for_each(|item| write(out, item))
}

fn write_key(out: &mut String, key: &AgentKey) -> fmt::Result {
    write!(out, "    - {{ {}: \"{}…\"", key.hash.kind(), key.hash.short())?;
    field(out, "agent", key.agent.as_ref())?;
    field(out, "team", key.team.as_ref())?;
    field(out, "expires", key.expires.map(show_instant))?;
    for (name, globs) in [("models", &key.models), ("routes", &key.routes)] {
        if !globs.is_empty() {
            write!(out, ", {name}: {}", list(globs))?;
        }
    }
    writeln!(out, " }}")
}

fn write_certificate(out: &mut String, certificate: &Certificate) -> fmt::Result {
    write!(out, "    - {{ san: {}", quoted(&certificate.san))?;
    names(out, certificate.agent.as_ref(), certificate.team.as_ref())
}

fn write_peer(out: &mut String, peer: &Peer) -> fmt::Result {
    let process = peer.process.as_ref().map(quoted);
    let facts = [
        ("uid", peer.uid.map(|uid| uid.to_string())),
        ("gid", peer.gid.map(|gid| gid.to_string())),
        ("process", process),
    ];
    let facts: Vec<String> = facts
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name}: {value}")))
        .collect();
    write!(out, "    - {{ {}", facts.join(", "))?;
    names(out, peer.agent.as_ref(), peer.team.as_ref())
}

fn names(out: &mut String, agent: Option<&Arc<str>>, team: Option<&Arc<str>>) -> fmt::Result {
    field(out, "agent", agent)?;
    field(out, "team", team)?;
    writeln!(out, " }}")
}

fn field(out: &mut String, name: &str, value: Option<impl Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(out, ", {name}: {}", quoted(value)))
}

fn list(items: &[impl Display]) -> String {
    let items: Vec<String> = items.iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}
