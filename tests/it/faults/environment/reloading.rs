//! New policies while calls run: cases 89 to 91.
use std::process::Stdio;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{CHAT, COUNTED, Gate, PLAIN, STREAM, after, answering, ask, limited, many, plain};
use super::{policy, rest, served};
use crate::identity::new_key;
use crate::life::tidegate;
use crate::support::app::App;
use crate::support::client::{self, post};
use crate::support::until;

/// Each policy is in force at once and whole, and no call fails by it. What calls have used is not
/// forgotten.
#[tokio::test]
async fn a89_reloads_under_load() {
    let origin = answering().await;
    let both =
        [policy(&origin.url(), "", COUNTED), policy(&origin.url(), "", &format!("{COUNTED}#\n"))];
    let app = App::start(&both[0]);
    let (stop, stopped) = watch::channel(false);
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let (to, stopped) = (app.addr, stopped.clone());
        load.spawn(async move {
            let mut calls = 0_usize;
            while !*stopped.borrow() {
                assert_eq!(client::ask(to, &plain()).await.status, 200);
                calls += 1;
            }
            calls
        });
    }
    for nth in 0..many(8, 50) {
        app.reload(&both[(nth + 1) % 2]).await;
    }
    stop.send(true).unwrap();
    let calls: usize = load.join_all().await.into_iter().sum();
    assert!(calls > 20, "{calls}");
    after::over(&app, &vec![(200, "complete"); calls]).await;
    let counted = i64::try_from(calls).unwrap();
    assert_eq!(after::charged(&app, "requests"), counted, "levels outlive a reload");
    assert_eq!(after::charged(&app, "tokens"), 8 * counted);
    after::let_go(&app, &origin).await;
}

/// A key that is taken away opens nothing from then on; what it opened before goes on.
#[tokio::test]
async fn a89_an_agent_that_is_removed() {
    let gate = Gate::new().await;
    let (key, line) = new_key(&["--agent", "leaver"]);
    let with = |agents: &str| {
        policy(
            &gate.origin.url(),
            "",
            &format!("agents: {{ access: known, keys: [{agents}] }}\n{COUNTED}"),
        )
    };
    let (_, other) = new_key(&["--agent", "stays"]);
    let mut app = App::start(&with(&line));
    app.secrets.push(key.clone());
    let call = |body: &str| {
        let length = body.len();
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: a\r\nx-tidegate-key: {key}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    };
    let mut running = gate.begin(&app, &call(STREAM)).await;
    app.reload(&with(&other)).await;
    let got = ask(&app, &call(PLAIN)).await;
    assert_eq!(got.status, 401, "{}", got.text());
    gate.open();
    let whole = rest(&mut running).await.expect("it was let in");
    assert!(whole.ends_with(super::DONE.as_bytes()));
    drop(running);
    after::over(&app, &[(401, "refused"), (200, "complete")]).await;
    after::let_go(&app, &gate.origin).await;
}

const FAILED: &str = "the policy before it stays in force";

#[tokio::test]
async fn a90_a_policy_with_a_fault() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    let wrong = "upstreams: { up: { url: 'http://127.0.0.1:9', concurency: 5 } }\n";
    app.rewrite(wrong);
    app.signal("HUP");
    until("it is said loudly", async || app.events().contains(FAILED)).await;
    let events = app.events();
    let line = events.lines().find(|line| line.contains(FAILED)).unwrap();
    assert!(line.contains("ERROR") && line.contains("concurency"), "{line}");
    let failed = || app.count("tidegate_config_reloads_total", &["result=\"failed\""]);
    until("it is counted", async || failed() == 1).await;
    assert_eq!(app.count("tidegate_config_last_reload_successful", &[]), 0);
    assert!(app.page("/readyz").contains("concurency"), "{}", app.page("/readyz"));
    served(&app).await;
    // who asks before says the same, and fails
    let check = tidegate()
        .args(["check", "-c"])
        .arg(app.policy_file())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8([check.stdout, check.stderr].concat()).unwrap();
    assert!(check.status.code() == Some(1) && said.contains("concurency"), "{said}");
    after::over(&app, &[(200, "complete")]).await;
    assert_eq!(after::charged(&app, "requests"), 1);
    after::let_go(&app, &origin).await;
}

/// A file that is being written: half of it is a fault, or another policy, and the rest comes later.
#[tokio::test]
async fn a90_a_policy_that_is_half_written() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    let before = std::fs::read_to_string(app.policy_file()).unwrap();
    let next = before.replace("telemetry: {", "telemetry: { level: info,");
    // cut within a word that must be there
    let half = &next[..next.find("routes:").unwrap() - 12];
    std::fs::write(app.policy_file(), half).unwrap();
    app.signal("HUP");
    until("half is no policy", async || app.events().contains(FAILED)).await;
    served(&app).await;
    // no signal: the file is watched
    std::fs::write(app.policy_file(), &next).unwrap();
    until("the whole of it is in force", async || {
        app.events().contains("the new policy is in force")
    })
    .await;
    served(&app).await;
    assert!(app.page("/readyz").starts_with("ready"));
    after::over(&app, &[(200, "complete"); 2]).await;
    assert_eq!(after::charged(&app, "requests"), 2);
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a91_a_storm_of_reloads() {
    let gate = Gate::new().await;
    let app = limited(&gate.origin.url(), "", "");
    let mut running = gate.begin(&app, &post(CHAT, "", STREAM)).await;
    let storm = format!("for i in $(seq 100); do kill -s HUP {}; sleep 0.01; done", app.pid());
    let mut storm = std::process::Command::new("sh").args(["-c", &storm]).spawn().unwrap();
    until("it is over", async || storm.try_wait().unwrap().is_some()).await;
    let reloads = || app.count("tidegate_config_reloads_total", &["result=\"ok\""]);
    until("it was heard", async || reloads() > 0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reloads = reloads();
    assert!((1..=30).contains(&reloads), "{reloads} for a hundred signals");
    gate.open();
    assert!(rest(&mut running).await.is_some(), "who was there noticed nothing");
    drop(running);
    after::over(&app, &[(200, "complete")]).await;
    after::let_go(&app, &gate.origin).await;
}
