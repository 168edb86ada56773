//! An upstream as YAML.
use std::fmt::{self, Display, Write as _};

use super::resilience::write_resilience;
use super::{REDACTED, dialect, quoted, times};
use crate::config::{Auth, Host, Http2, Origin, Pacing, ProxyRule, Upstream};

pub(super) fn write_upstream(out: &mut String, upstream: &Upstream, waits: bool) -> fmt::Result {
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
        write_keys(out, upstream.keys.len())?;
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
    write_transport(out, upstream, waits)?;
    write_resilience(out, upstream)
}

/// Numbered where there are several: no two of them may be alike.
fn write_keys(out: &mut String, keys: usize) -> fmt::Result {
    if keys == 1 {
        return writeln!(out, "    key: {REDACTED:?}");
    }
    writeln!(out, "    keys:")?;
    (1..=keys).try_for_each(|number| writeln!(out, "      - \"<redacted {number}>\""))
}

fn write_transport(out: &mut String, upstream: &Upstream, waits: bool) -> fmt::Result {
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
    if waits {
        times(out, "      ", &[("queue", timeouts.queue)])?;
    }
    times(
        out,
        "      ",
        &[
            ("first_byte", timeouts.first_byte),
            ("first_content", timeouts.first_content),
            ("between_tokens", timeouts.between_tokens),
            ("total", timeouts.total),
        ],
    )?;
    if let Some(idle) = timeouts.idle {
        times(out, "      ", &[("idle", idle)])?;
    }
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
    let background = if upstream.background { "on" } else { "off" };
    writeln!(out, "    background: {background}")?;
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

/// An origin with the API's prefix, as a file would give it.
struct Url<'u>(&'u Origin, &'u str);

impl Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if matches!(self.0.host, Host::Unix(_)) { "" } else { self.1 };
        write!(f, "{}{prefix}", self.0)
    }
}
