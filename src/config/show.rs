//! The effective configuration as YAML, with every default written out and no secret in it.
//!
//! For `tidegate check --print` and the admin listener. What it writes can be read back, but for
//! the secrets, which stand as `<redacted>`, and the hashes of keys, which are cut short.
mod agents;
mod cache;
mod otlp;
mod policies;
mod resilience;
mod route;
mod tasks;
mod upstream;

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use agents::write_agents;
use otlp::write_otlp;
use policies::{write_policies, write_prices};
use route::write_route;
use tasks::write_tasks;
use upstream::write_upstream;

use super::{
    Address, Admin, Config, Exhausted, Host, Listen, ListenTls, LogForm, LogTo, Origin, Pacing,
    Server, Upstream,
};
use crate::units::{show_duration, show_size};
use crate::wire::Dialect;

const REDACTED: &str = "<redacted>";

pub fn redacted(config: &Config) -> String {
    let mut out = String::new();
    // writing to a String cannot fail
    let _ = write_config(&mut out, config);
    out
}

fn write_config(out: &mut String, config: &Config) -> fmt::Result {
    writeln!(out, "listen:")?;
    for listen in &config.listen {
        write_listen(out, listen)?;
    }
    match &config.admin {
        Some(admin) => write_admin(out, admin)?,
        None => writeln!(out, "admin: off")?,
    }
    write_server(out, &config.server)?;
    if let Some(dir) = &config.state {
        writeln!(out, "state:\n  dir: {}", quoted(dir.display()))?;
    }
    write_tasks(out, config.tasks.as_ref())?;
    writeln!(out, "upstreams:")?;
    for upstream in &config.upstreams {
        write_upstream(out, upstream, waits(config, upstream))?;
    }
    writeln!(out, "routes:")?;
    for route in &config.routes {
        write_route(out, route, config)?;
    }
    write_agents(out, &config.agents)?;
    write_prices(out, &config.prices)?;
    write_policies(out, &config.policies)?;
    let telemetry = &config.telemetry;
    writeln!(out, "telemetry:\n  level: {}", quoted(&telemetry.level))?;
    let form = match telemetry.form {
        LogForm::Auto => "auto",
        LogForm::Json => "json",
        LogForm::Text => "text",
    };
    let (access, usage) = (log_to(&telemetry.access_log), log_to(&telemetry.usage));
    writeln!(out, "  form: {form}\n  access_log: {access}\n  usage: {usage}")?;
    write_otlp(out, telemetry.otlp.as_ref())
}

fn log_to(to: &LogTo) -> String {
    match to {
        LogTo::Off => "off".to_owned(),
        LogTo::Stdout => "stdout".to_owned(),
        LogTo::Stderr => "stderr".to_owned(),
        LogTo::File(path) => quoted(path.display()),
    }
}

/// Whether a call may wait for this upstream: `timeouts.queue` says how long.
fn waits(config: &Config, upstream: &Upstream) -> bool {
    upstream.concurrency.is_some()
        || upstream.pacing != Pacing::Off
        || config
            .routes
            .iter()
            .any(|route| route.concurrency.is_some() || route.on_exhausted == Exhausted::Queue)
}

fn write_listen(out: &mut String, listen: &Listen) -> fmt::Result {
    writeln!(out, "  - at: {}", quoted(&listen.at))?;
    write_tls(out, "    ", listen.tls.as_ref())
}

fn write_admin(out: &mut String, admin: &Admin) -> fmt::Result {
    writeln!(out, "admin:\n  at: {}", quoted(&admin.at))?;
    write_tls(out, "  ", admin.tls.as_ref())?;
    if admin.token.is_some() {
        writeln!(out, "  token: {REDACTED}")?;
    }
    writeln!(out, "  actions: {}", if admin.actions { "on" } else { "off" })
}

fn write_tls(out: &mut String, indent: &str, tls: Option<&ListenTls>) -> fmt::Result {
    let Some(tls) = tls else { return Ok(()) };
    writeln!(out, "{indent}tls:")?;
    writeln!(out, "{indent}  cert: {}", quoted(tls.cert.display()))?;
    writeln!(out, "{indent}  key: {}", quoted(tls.key.display()))?;
    if let Some(ca) = &tls.client_ca {
        let auth = if tls.client_required { "required" } else { "optional" };
        writeln!(out, "{indent}  client_ca: {}", quoted(ca.display()))?;
        writeln!(out, "{indent}  client_auth: {auth}")?;
    }
    Ok(())
}

fn write_server(out: &mut String, server: &Server) -> fmt::Result {
    writeln!(out, "server:")?;
    writeln!(out, "  max_connections: {}", server.max_connections)?;
    writeln!(out, "  max_body: {}", show_size(server.max_body))?;
    writeln!(out, "  max_head: {}", show_size(server.max_head as u64))?;
    writeln!(out, "  max_headers: {}", server.max_headers)?;
    writeln!(out, "  max_target: {}", show_size(server.max_target as u64))?;
    times(
        out,
        "  ",
        &[
            ("head_timeout", server.head_timeout),
            ("body_timeout", server.body_timeout),
            ("idle_timeout", server.idle_timeout),
            ("write_timeout", server.write_timeout),
        ],
    )?;
    writeln!(out, "  memory: {}", show_size(server.memory))?;
    match server.heartbeat {
        Some(time) => writeln!(out, "  heartbeat: {}", show_duration(time))?,
        None => writeln!(out, "  heartbeat: off")?,
    }
    writeln!(out, "  drain:")?;
    times(out, "    ", &[("delay", server.drain_delay), ("timeout", server.drain_timeout)])
}

fn times(out: &mut String, indent: &str, all: &[(&str, Duration)]) -> fmt::Result {
    for (name, value) in all {
        writeln!(out, "{indent}{name}: {}", show_duration(*value))?;
    }
    Ok(())
}

pub(super) fn dialect(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => "openai",
        Dialect::Anthropic => "anthropic",
        Dialect::Gemini => "gemini",
        Dialect::Ollama => "ollama",
        Dialect::Http => "http",
    }
}

/// A YAML double-quoted scalar. JSON's escapes are YAML's as well. A `$` that would begin a
/// variable is doubled, so that it reads back as itself.
fn quoted(value: impl Display) -> String {
    serde_json::Value::from(value.to_string().replace("${", "$${")).to_string()
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(name) => write!(f, "systemd:{}", name.as_deref().unwrap_or_default()),
        }
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match &self.host {
            Host::Unix(path) => write!(f, "unix:{}", path.display()),
            Host::Name(host) if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{}{}", self.port, self.path)
            }
            Host::Name(host) => write!(f, "{scheme}://{host}:{}{}", self.port, self.path),
        }
    }
}
