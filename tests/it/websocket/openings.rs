//! A session is opened where one can be: over addresses and keys, before 101 and never after.
use super::*;

const KEYS: [&str; 2] = ["first.key.11", "second.key.22"];
const REFUSED: &str = r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}"#;
const SPENT: &str = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;

/// A backend that lets nobody in with the keys for which `no` says so.
async fn doorkeeper(no: impl Fn(&str) -> Option<String> + Clone + Send + Sync + 'static) -> Origin {
    Origin::start(move |mut conn| {
        let no = no.clone();
        async move {
            let Some(head) = conn.head().await else { return };
            let key = head.get("authorization").unwrap_or("").to_owned();
            match no(key.trim_start_matches("Bearer ")) {
                Some(answer) => conn.send(answer.as_bytes()).await,
                None => conn.send(SWITCH).await,
            }
            conn.until_gone().await;
        }
    })
    .await
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn start(settings: &str, rest: &str) -> App {
    let mut app = App::start(&format!(
        "upstreams: {{ up: {{ {settings} }} }}\nroutes: [{{ to: up }}]\n{rest}"
    ));
    app.secrets.extend(KEYS.map(str::to_owned));
    app
}

#[tokio::test]
async fn a_key_that_is_refused_gives_way_to_the_next() {
    for (status, body) in [
        ("401 Unauthorized", REFUSED),
        ("403 Forbidden", REFUSED),
        ("429 Too Many Requests", SPENT),
    ] {
        let said = answer(status, body);
        let origin = doorkeeper(move |key| (key == KEYS[0]).then(|| said.clone())).await;
        let settings = format!("keys: [{}], url: '{}'", KEYS.join(", "), origin.url());
        let limits =
            "policies: [{ name: all, per: all, limits: { requests: 100/day calendar } }]\n";
        let app = start(&settings, limits);
        for _ in 0..4 {
            drop(open(&app, "").await);
        }
        let used: Vec<_> = origin.take().iter().map(|r| r.all("authorization").join(",")).collect();
        let bad = used.iter().filter(|key| key.contains(KEYS[0])).count();
        assert_eq!((bad, used.len()), (1, 5), "set aside at once, {status}: {used:?}");
        assert_eq!(app.upstream()["keys"]["aside"], 1);
        let attempts = app.lines(4).await;
        let sum: u64 = attempts.iter().map(|line| line["attempts"].as_u64().unwrap()).sum();
        assert_eq!(sum, 5);
        app.quiet().await;
        assert_eq!(app.state()["limits"][0]["used"], 4, "once each, however often it was tried");
        until("all are let go", async || origin.open() == 0).await;
    }
}

#[tokio::test]
async fn where_all_keys_are_refused_the_last_answer_is_passed_on() {
    let origin = doorkeeper(|_| Some(answer("401 Unauthorized", REFUSED))).await;
    let app = start(&format!("keys: [{}], url: '{}'", KEYS.join(", "), origin.url()), "");
    let mut client = Client::connect(app.addr).await;
    client.send(&get(REALTIME, ASK)).await;
    let got = client.answer().await;
    assert_eq!((got.status, got.text()), (401, REFUSED));
    assert_eq!(got.head.get("x-should-retry"), Some("false"));
    assert_eq!(origin.connections(), 2);
    app.line().await;
    app.quiet().await;
}

/// The caller's own key is its own affair, and so is an answer that is about the call.
#[tokio::test]
async fn what_is_the_callers_doing_is_told_at_once() {
    let refusing = doorkeeper(|_| Some(answer("401 Unauthorized", REFUSED))).await;
    let app = start(&format!("url: '{}'", refusing.url()), "");
    assert_eq!((refused(&app, "").await.0, refusing.connections()), (401, 1));
    app.line().await;
    let wrong = doorkeeper(|_| Some(answer("400 Bad Request", "{\"error\":{}}"))).await;
    let app = start(&format!("keys: [{}], url: '{}'", KEYS.join(", "), wrong.url()), "");
    assert_eq!((refused(&app, "").await.0, wrong.connections()), (400, 1));
    app.line().await;
}

#[tokio::test]
async fn an_address_that_is_down_gives_way_to_another() {
    let down = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let origin = doorkeeper(|_| None).await;
    let settings =
        format!("balance: round_robin, breaker: off, urls: ['http://{down}', '{}']", origin.url());
    let app = start(&settings, "");
    for _ in 0..4 {
        drop(open(&app, "").await);
    }
    app.lines(4).await;
    app.quiet().await;
    assert_eq!(origin.connections(), 4);
}

#[tokio::test]
async fn a_session_goes_where_its_session_goes() {
    let (one, two) = (doorkeeper(|_| None).await, doorkeeper(|_| None).await);
    let urls = format!("urls: ['{}', '{}']", one.url(), two.url());
    let app = start(&format!("balance: session, {urls}"), "");
    for session in 0..8 {
        let before = (one.connections(), two.connections());
        for _ in 0..3 {
            drop(open(&app, &format!("x-claude-code-session-id: s{session}\r\n")).await);
            app.quiet().await;
        }
        let came = (one.connections() - before.0, two.connections() - before.1);
        assert!(came == (3, 0) || came == (0, 3), "{came:?}");
    }
    assert!(one.connections() > 0 && two.connections() > 0);
    app.lines(24).await;
}
