//! Questions that were not asked before: to fill an index, and to have it searched beside streams.
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::http::Connection;
use super::{Beside, Outcome, body, post};
use crate::questions::question;

/// Connections that questions are asked on.
const ASKING: u64 = 8;

/// Asks so many, as fast as they are answered.
pub(super) async fn ask_all(to: SocketAddr, from: u64, count: u64) -> anyhow::Result<Outcome> {
    let next = Rc::new(Cell::new(from));
    let mut tasks = JoinSet::new();
    for _ in 0..ASKING {
        let next = Rc::clone(&next);
        tasks.spawn_local(async move {
            let mut connection = Connection::open(to, 16 * 1024).await?;
            while next.get() < from + count {
                ask(&mut connection, next.replace(next.get() + 1)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(Outcome { done: count, ..Outcome::default() })
}

/// Asks one after the other for as long as it is polled, and never ends but by an error.
pub(super) async fn ask_on(
    to: SocketAddr,
    beside: Beside,
) -> anyhow::Result<std::convert::Infallible> {
    let mut connection = Connection::open(to, 16 * 1024).await?;
    let mut due = interval(Duration::from_millis(beside.gap_ms));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in beside.from.. {
        due.tick().await;
        ask(&mut connection, number).await?;
    }
    anyhow::bail!("there are no more questions")
}

async fn ask(connection: &mut Connection, number: u64) -> anyhow::Result<()> {
    // a temperature that lookups are done at
    let body = body("\"temperature\":0", &question(number));
    let status = connection.send(&post(&body, "")).await?;
    ensure!(status == 200, "status {status}");
    while connection.data(|_| ()).await? {}
    Ok(())
}
