//! A task that rests while its answer is made elsewhere: its end is told there.
use super::*;

#[tokio::test]
async fn what_is_cancelled_while_it_rests_is_cancelled_there_too() {
    for stream in [false, true] {
        let all = events(9);
        let origin = backend(move |request| match &*request.method {
            "POST" if request.target.ends_with("/cancel") => {
                (said("200 OK", "", &object("cancelled")), Then::Stay)
            }
            "POST" if stream => (part(&all[..4], ""), Then::Hang),
            "POST" => (said("200 OK", "", &object("queued")), Then::Stay),
            _ => (said("200 OK", "", &object("in_progress")), Then::Stay),
        })
        .await;
        let state = tempfile::tempdir().unwrap();
        // it has leave once a day
        let once = "policies:\n  - { name: few, limits: { requests: 1/day calendar } }\n";
        let policy = policy(state.path(), &origin, "{}", KEY).replace(COUNTED, once);
        let mut rig = Rig { app: started(&policy), state };
        let task = rig.later(stream).await;
        let asked = if stream { 1 } else { 2 };
        until("it is made", async || origin.requests() >= asked).await;
        let begun = async || !stream || rig.object(&task).await["progress"]["bytes"] != 0;
        until("its id is known", begun).await;
        rig.killed(&policy).await;
        rig.until_state(&task, "retry_wait").await;
        origin.take();
        let said = rig.post(&format!("{task}/cancel")).await;
        assert!(said.status < 300, "{}", said.text());
        let over = rig.over(&task).await;
        assert_eq!((&over["state"], &over["error"]), (&"cancelled".into(), &Value::Null));
        until("it is told", async || origin.requests() > 0).await;
        let told = origin.take();
        let [told] = &told[..] else { panic!("it is told once: {told:?}") };
        let target = format!("/v1/responses/{ID}/cancel");
        assert_eq!((&*told.method, &*told.target), ("POST", &*target));
        assert_eq!(told.get("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));
        rig.quiet().await;
    }
}
