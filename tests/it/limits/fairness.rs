//! Forty agents at one upstream of eight places, one of which floods it.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{CHAT, PLAIN, by, limited, quiet, until_waiting};
use crate::support::app::App;
use crate::support::client::{Client, ask};

const CALL: Duration = Duration::from_millis(60);
const SCRIPT: &str = "ttft=60ms; tokens=8";
const PLACES: usize = 8;

/// Keeps so many calls of one agent going until told to stop; counts those that were served.
fn flood(
    load: &mut JoinSet<()>,
    app: &App,
    agent: &str,
    calls: usize,
    stop: &Arc<AtomicBool>,
) -> Arc<AtomicUsize> {
    let served = Arc::new(AtomicUsize::new(0));
    for _ in 0..calls {
        let (to, call) = (app.addr, by(agent, CHAT, SCRIPT, PLAIN));
        let (served, stop) = (Arc::clone(&served), Arc::clone(stop));
        load.spawn(async move {
            let mut client = Client::connect(to).await;
            while !stop.load(Relaxed) {
                client.send(&call).await;
                assert_eq!(client.answer().await.status, 200);
                served.fetch_add(1, Relaxed);
            }
        });
    }
    served
}

/// So many calls that their length is known.
async fn warm_up(app: &App) {
    for _ in 0..8 {
        assert_eq!(ask(app.addr, &by("first", CHAT, SCRIPT, PLAIN)).await.status, 200);
    }
}

#[tokio::test]
async fn one_of_forty_that_floods_does_not_slow_the_others() {
    let (app, _simulator) = limited("concurrency: 8, ", "");
    let stop = Arc::default();
    let mut load = JoinSet::new();
    flood(&mut load, &app, "flood", 100, &stop);
    until_waiting(&app, (100 - PLACES) as u64).await;
    let mut light = JoinSet::new();
    for n in 0..39_u64 {
        let (to, call) = (app.addr, by(&format!("light-{n}"), CHAT, SCRIPT, PLAIN));
        light.spawn(async move {
            let mut client = Client::connect(to).await;
            let mut took = Vec::new();
            for _ in 0..3 {
                // out of step with each other, and far below what the upstream can do
                tokio::time::sleep(Duration::from_millis(300 + n * 37 % 500)).await;
                let from = Instant::now();
                client.send(&call).await;
                assert_eq!(client.answer().await.status, 200, "every light call succeeds");
                took.push(from.elapsed().saturating_sub(CALL));
            }
            took
        });
    }
    let mut waits: Vec<_> = light.join_all().await.concat();
    stop.store(true, Relaxed);
    load.join_all().await;
    waits.sort();
    let median = waits[waits.len() / 2];
    // first come, first served: a hundred calls stand before each
    let unfair = CALL * 100 / PLACES as u32;
    assert!(median <= CALL * 3, "{median:?}, where a plain line takes {unfair:?}");
    quiet(&app).await;
    let agents = app.state()["agents"].as_array().unwrap().len();
    assert_eq!(agents, 40);
}

#[tokio::test]
async fn where_all_are_busy_the_flooder_gets_no_more_than_the_others() {
    let (app, _simulator) = limited("concurrency: 8, ", "");
    warm_up(&app).await;
    let stop = Arc::default();
    let mut load = JoinSet::new();
    let flooder = flood(&mut load, &app, "flood", 100, &stop);
    until_waiting(&app, (100 - PLACES) as u64).await;
    let light: Vec<_> =
        (0..39).map(|n| flood(&mut load, &app, &format!("light-{n}"), 2, &stop)).collect();
    until_waiting(&app, (100 + 78 - PLACES) as u64).await;
    // until those that came first have made up for what they were charged ahead
    tokio::time::sleep(Duration::from_secs(1)).await;
    let count = || light.iter().map(|one| one.load(Relaxed)).collect::<Vec<_>>();
    let (before, flooder_before) = (count(), flooder.load(Relaxed));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let served: Vec<_> = count().iter().zip(&before).map(|(now, then)| now - then).collect();
    let flooded = flooder.load(Relaxed) - flooder_before;
    stop.store(true, Relaxed);
    load.join_all().await;
    let sum: usize = served.iter().sum();
    let mean = sum as f64 / 39.0;
    let squares: f64 = served.iter().map(|one| (*one as f64).powi(2)).sum();
    let jain = (sum as f64).powi(2) / (39.0 * squares);
    assert!(mean >= 3.0, "the machine is too slow to judge: {mean}");
    assert!(flooded as f64 <= mean + 2.0, "{flooded}, the others {mean}: {served:?}");
    assert!(jain >= 0.95, "{jain}: {served:?}");
    quiet(&app).await;
}

#[tokio::test]
async fn a_weight_of_three_gets_three_times_as_much() {
    let (app, _simulator) =
        limited("concurrency: 4, ", "  - { match: { agent: heavy }, weight: 3 }\n");
    let stop = Arc::default();
    let mut load = JoinSet::new();
    let heavy = flood(&mut load, &app, "heavy", 20, &stop);
    let usual = flood(&mut load, &app, "usual", 20, &stop);
    until_waiting(&app, 36).await;
    let (a, b) = (heavy.load(Relaxed), usual.load(Relaxed));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (heavy, usual) = (heavy.load(Relaxed) - a, usual.load(Relaxed) - b);
    stop.store(true, Relaxed);
    load.join_all().await;
    let ratio = heavy as f64 / usual as f64;
    assert!((2.2..=4.0).contains(&ratio), "{heavy} to {usual}");
    quiet(&app).await;
}
