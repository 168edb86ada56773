//! Sockets, TLS and proxies: real connections over loopback, both sides in this process.
mod activation;
pub mod certs;
mod connecting;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tidegate::config::{self, Host, Http2, Origin, Pacing, ProxyRule, Upstream, UpstreamTls};
use tidegate::wire::Dialect;

/// An upstream with nothing special; the tests change what they are about.
pub fn upstream() -> Upstream {
    let second = Duration::from_secs(1);
    Upstream {
        name: "test".into(),
        dialect: Dialect::OpenAi,
        provider: "openai".into(),
        urls: Vec::new(),
        api_prefix: "".into(),
        keys: Vec::new(),
        auth: config::Auth::Bearer,
        headers: Vec::new(),
        concurrency: None,
        pool: config::Pool {
            connect_timeout: 5 * second,
            idle_timeout: second,
            max_idle: 1,
            max_age: second,
            warm: 0,
        },
        timeouts: config::Timeouts {
            queue: second,
            first_byte: second,
            first_content: second,
            idle: Some(second),
            between_tokens: second,
            total: second,
        },
        tls: UpstreamTls::default(),
        http2: Http2::Auto,
        proxy: ProxyRule::Never,
        pacing: Pacing::Off,
        ..Upstream::new("test")
    }
}

fn origin(tls: bool, host: &str, port: u16) -> Origin {
    Origin { tls, host: Host::Name(host.into()), port, path: Arc::from("") }
}

fn no_env(_: &str) -> Option<String> {
    None
}
