//! An operator ends the call of a task: the task is cancelled, and so is the answer at its backend.
use super::*;

const ACTIONS: &str = "admin: { at: '127.0.0.1:0', actions: on }\n";

impl Rig {
    /// Ends the call that runs, by its id.
    async fn end_call(&self) {
        let mut id = None;
        until("a call runs", async || {
            let state = self.app.state();
            id = state["calls"][0]["request_id"].as_str().map(str::to_owned);
            id.is_some()
        })
        .await;
        let (id, host) = (id.unwrap(), self.app.admin);
        let line = format!(
            "POST /calls/{id}/cancel HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\n\
             x-tidegate-page: 1\r\ncontent-length: 0\r\n\r\n"
        );
        let said = ask(host, line.as_bytes()).await;
        assert_eq!(said.status, 202, "{}", said.text());
    }
}

#[tokio::test]
async fn a_call_that_an_operator_ends_is_a_task_that_is_cancelled() {
    for stream in [false, true] {
        for begun in [false, true] {
            // before there is an answer; and in the middle of it
            let bytes = match (begun, stream) {
                (false, _) => Vec::new(),
                (true, false) => b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"id\"".to_vec(),
                (true, true) => part(&["data: {\"choices\":[]}\n\n".to_owned()], ""),
            };
            let origin = backend(move |_| (bytes.clone(), Then::Hang)).await;
            let rig = Rig::new(&origin.url(), "{}", ACTIONS);
            let task = rig.submit(&OPENAI_CHAT, "hi", stream).await;
            until("it is asked", async || origin.requests() == 1).await;
            if begun {
                let some = async || rig.object(&task).await["progress"]["bytes"] != 0;
                until("some has come", some).await;
            }
            rig.end_call().await;
            let over = rig.over(&task).await;
            assert_eq!((&over["state"], &over["error"]), (&"cancelled".into(), &Value::Null));
            let result = rig.result(&task).await;
            if begun {
                let partial = result.head.get("x-tidegate-partial");
                assert_eq!((result.status, partial), (200, Some("true")));
            } else {
                let code = &result.json()["error"]["code"];
                assert_eq!((result.status, code), (409, &"task_cancelled".into()));
            }
            until("the backend is let go", async || origin.open() == 0).await;
            assert_eq!(origin.requests(), 1, "it is asked once");
            let said = async || rig.app.written().iter().any(|line| line["outcome"] == "cancelled");
            until("its record says so", said).await;
            rig.quiet().await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_made_elsewhere_is_cancelled_there_too() {
    // while the first answer comes; and while it is asked for again
    for then in [|| Then::Hang, || Then::Reset] {
        let all = events(9);
        let origin = backend(move |request| match (&*request.method, &*request.target) {
            ("POST", target) if target.ends_with("/cancel") => {
                (said("200 OK", "", &object("cancelled")), Then::Stay)
            }
            ("POST", _) => (part(&all[..4], ""), then()),
            _ => (part(&all[4..6], ""), Then::Hang),
        })
        .await;
        let state = tempfile::tempdir().unwrap();
        let policy = policy(state.path(), &origin, "{}", KEY);
        let rig = Rig { app: started(&format!("{ACTIONS}{policy}")), state };
        let task = rig.later(true).await;
        let reset = matches!(then(), Then::Reset);
        let there = if reset { 6 } else { 4 };
        let bytes = events(9)[..there].concat().len();
        let came = async || rig.object(&task).await["progress"]["bytes"] == bytes;
        until("some has come", came).await;
        rig.end_call().await;
        let over = rig.over(&task).await;
        assert_eq!((&over["state"], &over["error"]), (&"cancelled".into(), &Value::Null));
        let told = || origin.requests() == 2 + usize::from(reset);
        until("its backend is told", async || told()).await;
        let asked = origin.take();
        assert!(asked.last().unwrap().target.ends_with("/cancel"), "{asked:?}");
        rig.quiet().await;
    }
}
