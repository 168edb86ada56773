//! The effective configuration as YAML, with every default written out and no secret in it.
//!
//! For `tidegate check --print` and the admin listener. What it writes can be read back, but for
//! the secrets, which stand as `<redacted>`, and the hashes of keys, which are cut short.
mod agents;
mod cache;
mod policies;

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use agents::write_agents;
use policies::{write_policies, write_prices};

use super::{
    AccessLog, Address, Auth, Config, Host, Http2, Listen, LogForm, Origin, Pacing, ProxyRule,
    Route, Server, Upstream,
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
        Some(admin) => writeln!(out, "admin: {}", quoted(&admin.at))?,
        None => writeln!(out, "admin: off")?,
    }
    write_server(out, &config.server)?;
    if let Some(dir) = &config.state {
        writeln!(out, "state:\n  dir: {}", quoted(dir.display()))?;
    }
    writeln!(out, "upstreams:")?;
    for upstream in &config.upstreams {
        write_upstream(out, upstream)?;
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
    let access = match telemetry.access_log {
        AccessLog::Off => "off",
        AccessLog::Stdout => "stdout",
        AccessLog::Stderr => "stderr",
    };
    writeln!(out, "  form: {form}\n  access_log: {access}")
}

fn write_listen(out: &mut String, listen: &Listen) -> fmt::Result {
    writeln!(out, "  - at: {}", quoted(&listen.at))?;
    let Some(tls) = &listen.tls else { return Ok(()) };
    writeln!(out, "    tls:")?;
    writeln!(out, "      cert: {}", quoted(tls.cert.display()))?;
    writeln!(out, "      key: {}", quoted(tls.key.display()))?;
    if let Some(ca) = &tls.client_ca {
        let auth = if tls.client_required { "required" } else { "optional" };
        writeln!(out, "      client_ca: {}", quoted(ca.display()))?;
        writeln!(out, "      client_auth: {auth}")?;
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
    writeln!(out, "  drain:")?;
    times(out, "    ", &[("delay", server.drain_delay), ("timeout", server.drain_timeout)])
}

fn write_upstream(out: &mut String, upstream: &Upstream) -> fmt::Result {
    writeln!(out, "  {}:", quoted(&upstream.name))?;
    writeln!(out, "    dialect: {}", dialect(upstream.dialect))?;
    if upstream.builtin {
        writeln!(out, "    builtin: simulator")?;
    } else {
        writeln!(out, "    urls:")?;
        for origin in &upstream.urls {
            writeln!(out, "      - {}", quoted(Url(origin, &upstream.api_prefix)))?;
        }
    }
    if !upstream.keys.is_empty() {
        writeln!(out, "    key: {REDACTED:?}")?;
        match &upstream.auth {
            Auth::Bearer => writeln!(out, "    auth: bearer")?,
            Auth::Header(name) => writeln!(out, "    auth: {}", quoted(name))?,
        }
    }
    if !upstream.headers.is_empty() {
        writeln!(out, "    headers:")?;
        for (name, _) in &upstream.headers {
            writeln!(out, "      {}: {REDACTED:?}", quoted(name))?;
        }
    }
    if let Some(concurrency) = upstream.concurrency {
        writeln!(out, "    concurrency: {concurrency}")?;
    }
    write_transport(out, upstream)
}

fn write_transport(out: &mut String, upstream: &Upstream) -> fmt::Result {
    let (pool, timeouts, tls) = (&upstream.pool, &upstream.timeouts, &upstream.tls);
    writeln!(out, "    pool:\n      max_idle: {}\n      warm: {}", pool.max_idle, pool.warm)?;
    times(
        out,
        "      ",
        &[
            ("connect_timeout", pool.connect_timeout),
            ("idle_timeout", pool.idle_timeout),
            ("max_age", pool.max_age),
        ],
    )?;
    writeln!(out, "    timeouts:")?;
    if upstream.concurrency.is_some() {
        times(out, "      ", &[("queue", timeouts.queue)])?;
    }
    times(
        out,
        "      ",
        &[("first_byte", timeouts.first_byte), ("idle", timeouts.idle), ("total", timeouts.total)],
    )?;
    let files = [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)];
    if files.iter().any(|(_, file)| file.is_some()) {
        writeln!(out, "    tls:")?;
        for (name, file) in files {
            if let Some(file) = file {
                writeln!(out, "      {name}: {}", quoted(file.display()))?;
            }
        }
    }
    let pacing = match upstream.pacing {
        Pacing::Auto => "auto",
        Pacing::Latency => "latency",
        Pacing::Off => "off",
    };
    writeln!(out, "    pacing: {pacing}")?;
    if upstream.builtin {
        return Ok(());
    }
    let http2 = match upstream.http2 {
        Http2::Auto => "auto",
        Http2::Never => "never",
        Http2::Always => "always",
    };
    writeln!(out, "    http2: {http2}")?;
    if !upstream.urls.iter().any(|origin| origin.tls) {
        return Ok(());
    }
    match &upstream.proxy {
        ProxyRule::Environment => writeln!(out, "    proxy: env"),
        ProxyRule::Never => writeln!(out, "    proxy: off"),
        ProxyRule::Through { host, port, authorization } => {
            let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
            let user = if authorization.is_some() { "<redacted>@" } else { "" };
            writeln!(out, "    proxy: {}", quoted(format!("http://{user}{bracketed}:{port}")))
        }
    }
}

fn write_route(out: &mut String, route: &Route, config: &Config) -> fmt::Result {
    let first = route.to.first().and_then(|goal| config.upstreams.get(goal.to));
    let to = first.map_or("", |upstream| &*upstream.name);
    if let Some(told) = route.dialect {
        // made for the bare paths of the SDKs; no file can say this
        let told = dialect(told);
        return writeln!(out, "  # bare paths of the {told} SDKs: {to} ({})", route.name);
    }
    let path = if route.path.is_empty() { "/" } else { &route.path };
    write!(out, "  - {{ path: {}, to: {}", quoted(path), quoted(to))?;
    if let Some(model) = &route.model {
        write!(out, ", model: {}", quoted(model))?;
    }
    writeln!(out, ", name: {} }}", quoted(&route.name))
}

fn times(out: &mut String, indent: &str, all: &[(&str, Duration)]) -> fmt::Result {
    for (name, value) in all {
        writeln!(out, "{indent}{name}: {}", show_duration(*value))?;
    }
    Ok(())
}

fn dialect(dialect: Dialect) -> &'static str {
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

/// An origin with the API's prefix, as a file would give it.
struct Url<'u>(&'u Origin, &'u str);

impl Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if matches!(self.0.host, Host::Unix(_)) { "" } else { self.1 };
        write!(f, "{}{prefix}", self.0)
    }
}
