//! What a request may say of the cache, and that nothing of it goes further than it should.
use std::time::Duration;

use super::{
    Backend, OPENAI_CHAT, Script, ask, at_once, is_hit, quiet, sent, status, until_inside, whole,
};
use crate::support::app::App;
use crate::support::client::Answer;
use crate::support::until;

async fn backend() -> Backend {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=9").await;
    Backend::start(script, Duration::ZERO).await
}

async fn say(app: &App, lines: &str) -> Answer {
    ask(app, &OPENAI_CHAT.call_with("controlled?", true, lines)).await
}

#[tokio::test]
async fn http_says_whether_a_kept_answer_will_do() {
    let backend = backend().await;
    let app = backend.behind("{ ttl: 1h }");
    let said = |directives: &str| format!("cache-control: {directives}\r\n");
    assert_eq!(status(&say(&app, "").await), "tidegate; fwd=miss");
    for (directives, hit) in [
        ("max-age=600", true),
        ("min-fresh=600", true),
        ("min-fresh=3601", false),
        ("max-age=0", false),
        ("no-cache", false),
        ("only-if-cached", true),
        ("no-transform, max-stale=5, Max-Age=\"60\"", true),
        ("nonsense=7, , max-age=x", true),
    ] {
        let answer = say(&app, &said(directives)).await;
        assert_eq!(is_hit(&answer), hit, "{directives}: {}", status(&answer));
        if !hit {
            assert_eq!(status(&answer), "tidegate; fwd=miss", "{directives}");
        }
    }
    let answer = say(&app, &said("no-store")).await;
    assert_eq!(status(&answer), "tidegate; fwd=request");
}

#[tokio::test]
async fn server_timing_tells_of_the_search() {
    let backend = backend().await;
    let app = backend.behind("{ ttl: 1h }");
    let steps = |answer: &Answer| -> Vec<String> {
        let said = answer.head.get("server-timing").unwrap_or_default().to_owned();
        let step = |one: &str| {
            let (name, time) = one.split_once(";dur=").unwrap();
            assert!(time.parse::<f64>().unwrap() < 5000.0, "{said}");
            name.to_owned()
        };
        said.split(", ").map(step).collect()
    };
    // nothing is known of the backend when the answer to those who share it begins
    assert!(steps(&say(&app, "").await).starts_with(&["queue".to_owned(), "cache".to_owned()]));
    assert_eq!(steps(&say(&app, "").await), ["queue", "cache"], "of a hit");
}

#[tokio::test]
async fn what_was_asked_for_anew_takes_the_place_of_the_old() {
    let backend = backend().await;
    let app = backend.behind("{ ttl: 1h }");
    say(&app, "").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let age = |answer: &Answer| answer.head.get("age").unwrap().parse::<u64>().unwrap();
    assert!(age(&say(&app, "").await) >= 1);
    assert!(!is_hit(&say(&app, "cache-control: no-cache\r\n").await));
    assert_eq!(age(&say(&app, "").await), 0, "it is the new one");
    assert_eq!(backend.calls(), 2);
}

#[tokio::test]
async fn no_store_keeps_nothing_and_shares_nothing() {
    let backend = backend().await;
    backend.release(0);
    let app = backend.behind("{ ttl: 1h }");
    let call = OPENAI_CHAT.call_with("secret?", true, "cache-control: no-store\r\n");
    let to = app.addr;
    let asking = tokio::spawn(async move { at_once(to, &call, 3).await });
    until("each asks", async || backend.calls() == 3).await;
    backend.release(usize::MAX);
    for answer in asking.await.unwrap() {
        whole(&answer, &backend.script.body());
        assert_eq!(status(&answer), "tidegate; fwd=request");
    }
    assert!(!is_hit(&ask(&app, &OPENAI_CHAT.call("secret?", true)).await));
    quiet(&app).await;
}

#[tokio::test]
async fn who_wants_nothing_old_joins_nobody() {
    let backend = backend().await;
    backend.release(0);
    let app = backend.behind("{ ttl: 1h }");
    let mut first = sent(app.addr, &OPENAI_CHAT.call("fresh?", true)).await;
    until("it is asked", async || backend.calls() == 1).await;
    let lines = "cache-control: no-cache\r\n";
    let mut fresh = sent(app.addr, &OPENAI_CHAT.call_with("fresh?", true, lines)).await;
    until("another is asked", async || backend.calls() == 2).await;
    // but who asks now may join the first
    let mut third = sent(app.addr, &OPENAI_CHAT.call("fresh?", true)).await;
    until_inside(&app, 3).await;
    backend.release(usize::MAX);
    for client in [&mut first, &mut fresh, &mut third] {
        whole(&client.answer().await, &backend.script.body());
    }
    assert_eq!(backend.calls(), 2);
    quiet(&app).await;
}

#[tokio::test]
async fn only_what_is_kept_or_on_its_way_will_do_for_some() {
    let backend = backend().await;
    backend.release(0);
    let app = backend.behind("{ ttl: 1h }");
    let only = OPENAI_CHAT.call_with("kept?", true, "cache-control: only-if-cached\r\n");
    let refused = ask(&app, &only).await;
    assert_eq!(refused.status, 504, "RFC 9111, 5.2.1.7: {}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "not_cached");
    assert_eq!(refused.head.get("x-should-retry"), Some("false"), "{}", refused.head.text);
    assert_eq!(backend.calls(), 0);
    let mut first = sent(app.addr, &OPENAI_CHAT.call("kept?", true)).await;
    until("it is asked", async || backend.calls() == 1).await;
    let mut second = sent(app.addr, &only).await;
    until_inside(&app, 2).await;
    backend.release(usize::MAX);
    whole(&first.answer().await, &backend.script.body());
    let joined = second.answer().await;
    whole(&joined, &backend.script.body());
    assert_eq!(status(&joined), "tidegate; fwd=miss; collapsed");
    assert!(is_hit(&ask(&app, &only).await));
    assert_eq!(backend.calls(), 1);
    quiet(&app).await;
}

#[tokio::test]
async fn headers_of_ours_narrow_and_never_widen() {
    let backend = backend().await;
    let app = backend.behind("{ ttl: 2s }");
    let hit = async |lines: &str| is_hit(&say(&app, lines).await);
    assert!(!hit("x-tidegate-cache-ttl: 1h\r\n").await);
    // longer than the policy's own life: it stays at that
    assert!(hit("x-tidegate-cache-mode: semantic\r\n").await, "no more than the policy has");
    tokio::time::sleep(Duration::from_millis(2050)).await;
    assert!(!hit("x-tidegate-cache-ttl: 1h\r\nx-tidegate-cache-min-similarity: 0\r\n").await);
    assert!(hit("x-tidegate-cache-mode: exact\r\n").await);
    assert!(!hit("x-tidegate-cache-ttl: 0\r\n").await);
    // a wall of the caller's own
    assert!(!hit("x-tidegate-cache-namespace: mine\r\n").await);
    assert!(hit("x-tidegate-cache-namespace: mine\r\n").await);
    assert!(!hit("x-tidegate-cache-namespace: yours\r\n").await);
    for mode in ["off", "no", "everything"] {
        let answer = say(&app, &format!("x-tidegate-cache-mode: {mode}\r\n")).await;
        assert_eq!(status(&answer), "tidegate; fwd=request");
    }
}

#[tokio::test]
async fn a_shorter_life_holds_for_what_is_written_and_what_is_read() {
    let backend = backend().await;
    let app = backend.behind("{ ttl: 1h }");
    assert!(!is_hit(&say(&app, "x-tidegate-cache-ttl: 1\r\n").await));
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert!(!is_hit(&say(&app, "").await), "written for a second");
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert!(!is_hit(&say(&app, "x-tidegate-cache-ttl: 1s\r\n").await), "older than it may be");
}

#[tokio::test]
async fn a_policy_may_listen_to_none_of_it() {
    let backend = backend().await;
    let app = backend.behind("{ ttl: 1h, control: false }");
    assert_eq!(status(&say(&app, "cache-control: no-store\r\n").await), "tidegate; fwd=miss");
    for lines in [
        "cache-control: no-cache, max-age=0, no-store\r\n",
        "x-tidegate-cache-mode: off\r\n",
        "x-tidegate-cache-ttl: 0\r\n",
        "x-tidegate-cache-namespace: mine\r\n",
    ] {
        assert!(is_hit(&say(&app, lines).await), "{lines}");
    }
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn what_is_ours_goes_no_further() {
    let backend = backend().await;
    for cache in ["{ ttl: 1h }", "{ ttl: 1h, control: false }", "off"] {
        let app = backend.behind(cache);
        backend.origin.take();
        let lines = "x-tidegate-cache-mode: exact\r\nx-tidegate-cache-ttl: 5m\r\n\
                     x-tidegate-cache-namespace: mine\r\nx-tidegate-cache-min-similarity: 0.9\r\n\
                     cache-control: max-age=7\r\n";
        whole(&say(&app, lines).await, &backend.script.body());
        let [request] = &backend.origin.take()[..] else { panic!("one call") };
        for (name, value) in &request.headers {
            let name = name.to_ascii_lowercase();
            assert!(!name.starts_with("x-tidegate"), "{cache}: {name}: {value}");
        }
        assert_eq!(request.get("cache-control"), Some("max-age=7"), "HTTP's own goes on");
    }
}

#[tokio::test]
async fn without_a_policy_that_caches_nothing_is_said_of_it() {
    let backend = backend().await;
    let app = App::start(&super::policy(&backend.origin.url(), "", "  - { weight: 1 }\n"));
    for _ in 0..2 {
        assert_eq!(status(&say(&app, "").await), "");
    }
    assert_eq!(backend.calls(), 2);
}
