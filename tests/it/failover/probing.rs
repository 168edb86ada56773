//! Backends that are tried again after trouble, and say nothing.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::*;
use crate::support::client::Client;
use crate::support::origin::Conn;
use crate::support::until;

/// How long a breaker stays open here.
const OPEN: Duration = Duration::from_secs(1);
const TOUCHY: &str = "retry: off, breaker: { failures: 1, open: 1s },";

fn breaker(app: &App) -> serde_json::Value {
    app.upstream()["breaker"]["state"].clone()
}

/// Fails its first request, and is silent to the second until it is told to fail that as well; all
/// later ones are answered.
async fn hanging(end: &Arc<Notify>) -> Origin {
    let end = Arc::clone(end);
    let turn = Arc::new(AtomicUsize::new(0));
    Origin::start(move |mut conn: Conn| {
        let (end, turn) = (Arc::clone(&end), Arc::clone(&turn));
        async move {
            while conn.request().await.is_some() {
                let bad = json("500 Internal Server Error", "{}");
                match turn.fetch_add(1, Relaxed) {
                    0 => conn.send(&bad).await,
                    1 => {
                        end.notified().await;
                        conn.send(&bad).await;
                    }
                    _ => conn.send(&good()).await,
                }
            }
        }
    })
    .await
}

/// Its own deadline is ten minutes away; the calls behind it do not wait for that.
#[tokio::test]
async fn a_probe_that_hangs_makes_room_for_another() {
    let end = Arc::new(Notify::new());
    let origin = hanging(&end).await;
    let app = App::start(&policy(&[up("a", &origin.url(), TOUCHY)], ""));
    assert_eq!(call(&app).await.status, 500);
    assert_eq!((call(&app).await.status, origin.requests()), (503, 1), "it is open");

    sleep(OPEN).await;
    let mut probe = Client::connect(app.addr).await;
    probe.send(&post(CHAT, "", PLAIN)).await;
    until("the probe is on its way", async || origin.requests() == 2).await;
    let got = call(&app).await;
    assert_eq!((got.status, origin.requests()), (503, 2), "all others wait for it");
    assert_eq!(breaker(&app), "half_open");

    sleep(OPEN).await;
    assert_eq!((call(&app).await.status, origin.requests()), (200, 3));
    assert_eq!(breaker(&app), "closed");

    // one failure would open it; this one is older than what has closed it
    end.notify_one();
    assert_eq!(probe.answer().await.status, 500);
    assert_eq!((breaker(&app), call(&app).await.status), ("closed".into(), 200));
    app.lines(6).await;
    app.quiet().await;
}

/// However many calls come: one in each such time.
#[tokio::test]
async fn a_backend_that_hangs_for_good_gets_one_probe_in_each_open_time() {
    let origin = Origin::start(|mut conn: Conn| async move {
        if conn.request().await.is_some() && conn.number == 0 {
            conn.send(&json("500 Internal Server Error", "{}")).await;
        } else {
            conn.until_gone().await;
        }
    })
    .await;
    let app = App::start(&policy(&[up("a", &origin.url(), TOUCHY)], ""));
    let start = std::time::Instant::now();
    assert_eq!(call(&app).await.status, 500);
    let (mut waiting, mut spared) = (Vec::new(), 0);
    while start.elapsed() < OPEN * 4 {
        let mut client = Client::connect(app.addr).await;
        client.send(&post(CHAT, "", PLAIN)).await;
        match tokio::time::timeout(Duration::from_millis(60), client.head()).await {
            Ok(head) => {
                assert_eq!(head.expect("an answer").status, 503);
                spared += 1;
            }
            Err(_) => waiting.push(client),
        }
        sleep(Duration::from_millis(20)).await;
    }
    let passed = start.elapsed().as_secs() as usize;
    let probes = origin.requests() - 1;
    assert!((2..=passed).contains(&probes), "{probes} in {passed} s");
    assert!(spared > probes, "{spared}");
    drop(waiting);
    app.quiet().await;
}
