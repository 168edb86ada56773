//! The floors: the least a proxy on hyper can do, in three arrangements.
//!
//! They pass requests and answers through and do nothing else: no gate, no deadlines, no metering,
//! no log. hyper's and hyper-util's default settings, `TCP_NODELAY` on both sides. A floor that
//! fails drops its client's connection; the load counts that as broken.
mod conn;
mod legacy;

use std::net::SocketAddr;

use anyhow::{Context, bail};

/// Runs the floor called `role` until it is killed. `args`: where to listen, where the backend is.
pub fn main(role: &str, args: &[String]) -> anyhow::Result<()> {
    let [listen, upstream] = args else { bail!("usage: --role {role} LISTEN UPSTREAM") };
    let listen: SocketAddr = listen.parse().context("LISTEN")?;
    let upstream: SocketAddr = upstream.parse().context("UPSTREAM")?;
    match role {
        "floor-legacy" => legacy::run(listen, upstream, 1),
        "floor-multi" => legacy::run(listen, upstream, 2),
        _ => conn::run(listen, upstream),
    }
}
