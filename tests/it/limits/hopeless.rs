//! Who waits for a budget that is used up meanwhile.
use std::time::{Duration, Instant};

use super::{
    CHAT, MESSAGES, PLAIN, by, error, limited, number, quiet, sent, until_running, until_waiting,
};

/// Longer than anything else here takes.
const PATIENCE: Duration = Duration::from_secs(25);

#[tokio::test]
async fn who_waits_for_a_budget_is_told_at_once_when_it_is_spent() {
    let (app, simulator) = limited(
        "",
        "  - { name: month, per: all, limits: { spend: $1/month hard }, queue: { wait: 25s } }\n",
    );
    // holds all that there is, and uses it
    let mut first = sent(app.addr, &by("a", CHAT, "ttft=1500ms; tokens=5000", PLAIN)).await;
    until_running(&app, 1).await;
    let mut waiting = Vec::new();
    for (n, path) in [CHAT, MESSAGES].into_iter().cycle().take(40).enumerate() {
        let agent = format!("agent-{}", n % 5);
        waiting.push((path, sent(app.addr, &by(&agent, path, "", PLAIN)).await));
    }
    until_waiting(&app, 40).await;
    assert_eq!(first.answer().await.status, 200);
    let spent = Instant::now();
    for (path, client) in &mut waiting {
        let answer = client.answer().await;
        assert_eq!(answer.status, 402, "{}", answer.text());
        let (message, word) = error(path, &answer);
        assert_eq!(word, if *path == CHAT { "insufficient_quota" } else { "billing_error" });
        assert!(message.contains("`month/spend`") && message.contains("begins anew"), "{message}");
        assert_eq!(answer.head.get("x-should-retry"), Some("false"));
        assert_eq!(answer.head.get("retry-after"), None);
        assert!(answer.head.get("x-tidegate-spend-remaining").is_some());
    }
    assert!(spent.elapsed() < PATIENCE / 4, "{:?}", spent.elapsed());
    assert_eq!(simulator.seen().requests, 1);
    let lines = app.lines(41).await;
    let refused: Vec<_> = lines.iter().filter(|line| line["status"] == 402).collect();
    assert_eq!(refused.len(), 40);
    for line in refused {
        assert_eq!(
            (&line["error"], &line["outcome"]),
            (&"insufficient_quota".into(), &"refused".into())
        );
        assert_eq!(line["limited_by"], "month/spend", "{line}");
        assert!(line["queued_ms"].as_f64() > Some(0.0), "{line}");
    }
    quiet(&app).await;
}

#[tokio::test]
async fn a_soft_budget_says_to_its_waiters_when_to_come_again() {
    let (app, _simulator) = limited(
        "",
        "  - { name: soft, per: all, limits: { output_tokens: 5000/month calendar }, queue: { wait: 25s } }\n",
    );
    // more than anybody predicts
    let mut first = sent(app.addr, &by("a", CHAT, "ttft=1500ms; tokens=6000", PLAIN)).await;
    until_running(&app, 1).await;
    let mut second = sent(app.addr, &by("b", CHAT, "", PLAIN)).await;
    until_waiting(&app, 1).await;
    assert_eq!(first.answer().await.status, 200);
    let spent = Instant::now();
    let answer = second.answer().await;
    assert_eq!((answer.status, error(CHAT, &answer).1.as_str()), (429, "rate_limit_exceeded"));
    assert!(spent.elapsed() < PATIENCE / 4, "{:?}", spent.elapsed());
    assert!(number(&answer, "retry-after") > 25, "{}", answer.head.text);
    app.lines(2).await;
    quiet(&app).await;
}
