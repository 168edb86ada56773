//! A backend in trouble is spared, an address that fails is left alone, and both come back.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::app::App;
use crate::support::client::{ask, get, post};
use crate::support::origin::{Origin, whole};
use crate::support::until;

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// An origin that is well, or answers 500 to all, and the switch.
async fn moody(well: bool) -> (Origin, Arc<AtomicBool>) {
    let mood = Arc::new(AtomicBool::new(well));
    let is_well = Arc::clone(&mood);
    let origin = Origin::start(move |mut conn| {
        let is_well = Arc::clone(&is_well);
        async move {
            while conn.request().await.is_some() {
                let status = if is_well.load(Relaxed) { "200 OK" } else { "500 Oh No" };
                conn.send(&whole(status, "Content-Type: application/json\r\n", "{}")).await;
            }
        }
    });
    (origin.await, mood)
}

fn policy(origins: &[&Origin], more: &str) -> String {
    let urls: Vec<_> = origins.iter().map(|origin| origin.url()).collect();
    format!(
        "upstreams: {{ up: {{ dialect: openai, urls: [{}], {more} }} }}\nroutes: [{{ to: up }}]\n",
        urls.join(", ")
    )
}

#[tokio::test]
async fn a_backend_in_trouble_is_spared_and_probed_by_one_call() {
    let (origin, well) = moody(false).await;
    let breaker = "retry: { attempts: 1 }, breaker: { failures: 5, open: 2s, longest: 2s }";
    let app = App::start(&policy(&[&origin], breaker));
    let call = post(CHAT, "", PLAIN);
    for _ in 0..5 {
        assert_eq!(ask(app.addr, &call).await.status, 500, "it is the backend's own answer");
    }
    let refused = ask(app.addr, &call).await;
    assert_eq!(refused.status, 503);
    assert!(matches!(refused.head.get("retry-after"), Some("1" | "2")), "{}", refused.head.text);
    assert_eq!(app.upstream()["breaker"]["state"], "open");
    assert_eq!(app.count("tidegate_upstream_breaker_opened_total", &["why=\"consecutive\""]), 1);
    assert_eq!(app.count("tidegate_upstream_breaker_state", &[]), 2);
    assert_eq!(origin.requests(), 5, "it has not seen the sixth");

    // a probe that fails is one call, and the next one waits as long again
    until("the probe has failed", async || {
        let status = ask(app.addr, &call).await.status;
        assert!(matches!(status, 500 | 503));
        status == 500
    })
    .await;
    assert_eq!(origin.requests(), 6);
    assert_eq!(ask(app.addr, &call).await.status, 503);

    well.store(true, Relaxed);
    until("it is back", async || ask(app.addr, &call).await.status == 200).await;
    assert_eq!(origin.requests(), 7);
    assert_eq!(app.upstream()["breaker"]["state"], "closed");
    let events = app.events();
    for said in ["the breaker has opened", "the breaker has closed"] {
        assert!(events.contains(said), "{said}: {events}");
    }
}

#[tokio::test]
async fn an_address_that_fails_is_left_alone_and_no_call_fails_for_it() {
    let ((good, _), (bad, mood)) = (moody(true).await, moody(false).await);
    let more = "balance: round_robin, breaker: { failures: 5, open: 2s, longest: 2s }";
    let app = App::start(&policy(&[&bad, &good], more));
    for _ in 0..40 {
        assert_eq!(ask(app.addr, &post(CHAT, "", PLAIN)).await.status, 200);
    }
    assert!((5..=6).contains(&bad.requests()), "{} and perhaps one probe", bad.requests());
    let addresses = app.upstream()["addresses"].clone();
    assert_eq!(addresses[1]["state"], "well", "{addresses}");
    assert!(["ejected", "probing"].contains(&addresses[0]["state"].as_str().unwrap()));
    assert_eq!(app.upstream()["breaker"]["state"], "closed", "the upstream is well");
    assert!(app.count("tidegate_upstream_ejections_total", &["why=\"consecutive\""]) == 1);
    mood.store(true, Relaxed);
    until("it is back", async || {
        assert_eq!(ask(app.addr, &post(CHAT, "", PLAIN)).await.status, 200);
        app.upstream()["addresses"][0]["state"] == "well"
    })
    .await;
    until("it shows", async || app.count("tidegate_upstream_ejected_addresses", &[]) == 0).await;
}

#[tokio::test]
async fn active_checks_take_an_address_out_and_back() {
    let ((good, _), (bad, mood)) = (moody(true).await, moody(false).await);
    let check =
        "health: { path: /health, every: 100ms, timeout: 100ms, failures: 2, successes: 2 }";
    let app = App::start(&policy(&[&good, &bad], &format!("breaker: off, {check}")));
    let state = || app.upstream()["addresses"][1]["state"].clone();
    until("it is out", async || state() == "unwell").await;
    assert!(bad.take().iter().all(|request| request.target == "/health"));
    for _ in 0..20 {
        assert_eq!(ask(app.addr, &post(CHAT, "", PLAIN)).await.status, 200);
    }
    assert!(bad.take().iter().all(|request| request.target == "/health"), "no call went there");
    assert!(app.count("tidegate_upstream_health_check_failures_total", &[]) >= 2);
    mood.store(true, Relaxed);
    until("it is back", async || state() == "well").await;
    // a policy without checks ends them
    app.reload(&policy(&[&good, &bad], "breaker: off")).await;
    until("they have ended", async || {
        bad.take();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        bad.take().is_empty()
    })
    .await;
    assert_eq!(ask(app.addr, &get("/v1/models", "")).await.status, 200);
}

#[tokio::test]
async fn an_upstream_that_a_reload_removed_is_in_no_trouble() {
    let (origin, _) = moody(false).await;
    let more = "concurrency: 3, retry: { attempts: 1 }, breaker: { failures: 5, open: 5m }";
    let app = App::start(&policy(&[&origin], more));
    for _ in 0..5 {
        ask(app.addr, &post(CHAT, "", PLAIN)).await;
    }
    let up = |name: &str| app.count(name, &["upstream=\"up\""]);
    until("it is seen", async || up("tidegate_upstream_slots") == 3).await;
    assert_eq!(up("tidegate_upstream_breaker_state"), 2);
    app.reload(&policy(&[&origin], more).replace("up:", "next:").replace("to: up", "to: next"))
        .await;
    until("its breaker is nobody's", async || up("tidegate_upstream_breaker_state") == 0).await;
    until("its places are gone", async || up("tidegate_upstream_slots") == 0).await;
    assert_eq!(app.count("tidegate_upstream_slots", &["upstream=\"next\""]), 3);
    assert_eq!(up("tidegate_upstream_breaker_opened_total"), 1, "counters stay");
}
