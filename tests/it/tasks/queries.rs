//! What makes no sense in a query is said to make none.
use super::*;
use crate::support::client::get;

#[tokio::test]
async fn a_query_that_makes_no_sense_is_refused_by_name() {
    let origin = prompt().await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
    rig.over(&task).await;
    let list = "/-/tasks".to_owned();
    let digits = "9".repeat(40);
    let mut bad = Vec::new();
    for (path, name) in
        [(&task, "wait"), (&list, "limit"), (&list, "wait"), (&task, "starting_after")]
    {
        for value in ["", "x", "-1", "1.5", "1s", " 1", "%31", "1%00", "+1", "0x1", "1e3", &digits]
        {
            bad.push((path, format!("{name}={}", value.replace(' ', "+")), name));
        }
    }
    for value in ["0", "101", "18446744073709551615"] {
        bad.push((&list, format!("limit={value}"), "limit"));
    }
    for value in ["", "done", "QUEUED", "queued,running", "queued%20"] {
        bad.push((&list, format!("state={value}"), "state"));
    }
    for value in ["", "x", "task_", "task_x", &format!("resp_{}", "0".repeat(26))] {
        bad.push((&list, format!("after={value}"), "after"));
    }
    for (one, two) in
        [("limit=1", "limit=2"), ("wait=1", "wait=1"), ("state=queued", "state=running")]
    {
        bad.push((&list, format!("{one}&x=y&{two}"), one.split('=').next().unwrap()));
    }
    let events = format!("{task}/events");
    bad.push((&events, "starting_after=x".to_owned(), "starting_after"));
    for (path, query, name) in bad {
        let got = rig.get(&format!("{path}?{query}")).await;
        assert_eq!(got.status, 400, "{path}?{query}: {}", got.text());
        let error = &got.json()["error"];
        assert_eq!(error["code"], "invalid_query", "{query}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("`{name}`")), "{query}: {message}");
    }
    for value in ["", "x", "-1", "1 2", &digits] {
        let got = rig.ask(&get(&events, &format!("last-event-id: {value}\r\n"))).await;
        assert_eq!(got.status, 400, "{value}");
        let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("Last-Event-ID"), "{message}");
    }
    // what is not known is passed over, and so is an empty query
    for query in
        ["?", "?&", "?x=y", "?x", "?limit=1&", "?limit=100&&unknown=%ff", "?state=queued&limit=1"]
    {
        assert_eq!(rig.get(&format!("{list}{query}")).await.status, 200, "{query}");
    }
    let most = u64::MAX;
    assert_eq!(rig.get(&format!("{task}?wait={most}")).await.status, 200);
    assert_eq!(rig.get(&format!("{events}?starting_after={most}")).await.status, 200);
    let unknown = format!("?after=task_{}", "0".repeat(26));
    assert_eq!(rig.get(&format!("{list}{unknown}")).await.status, 404);
}
