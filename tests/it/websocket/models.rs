//! Which model a session is for: by the key's right, and by what limits charge.
use super::*;

const RESPONSES: &str = "/v1/responses";
const DEAR: &str = r#"{"type":"response.create","model":"dear"}"#;
const PLAIN: &str = r#"{"type":"response.create","model":"m"}"#;

/// What the client is told instead of an answer: the code of the close, and the line's error.
async fn cut(app: &App, client: &mut Client, message: &[u8]) -> (u16, String) {
    client.send(message).await;
    let (opcode, payload) = next(client).await;
    let text = String::from_utf8_lossy(&payload).into_owned();
    assert_eq!(opcode, 8, "an answer came: {text}; {}", String::from_utf8_lossy(message));
    let error = async { app.line().await["error"].as_str().unwrap_or("").to_owned() };
    (code(&payload).0, error.await)
}

/// The program, a key for the model `m` alone, and the lines that it is shown with.
async fn restricted(answers: &'static [&'static str]) -> (Origin, App, String) {
    let origin = backend(answers).await;
    let (key, line) = new_key(&["--agent", "voice", "--model", "m"]);
    let mut app = App::start(&policy(&origin, "", &format!("agents: {{ keys: [{line}] }}\n")));
    let shown = format!("x-tidegate-key: {key}\r\n");
    app.secrets.push(key);
    (origin, app, shown)
}

#[tokio::test]
async fn a_session_keeps_to_the_model_that_it_was_opened_with() {
    for (target, message) in [
        ("/v1/responses?model=m", DEAR),
        ("/v1/realtime?model=m", DEAR),
        ("/v1/realtime?model=m", r#"{"type":"session.update","session":{"model":"dear"}}"#),
        (
            "/v1/realtime?model=m",
            r#"{"type":"response.create","response":{"metadata":{},"model":"dear"}}"#,
        ),
    ] {
        let origin = backend(&[DONE]).await;
        let limits = "policies: [{ name: cap, per: all, limits: { spend: $1/day hard } }]\n";
        let app = App::start(&policy(&origin, "", limits));
        let mut client = open_at(&app, target, "").await;
        // the same once more is no other
        let same = message.replace("dear", "m");
        client.send(&said(&same)).await;
        assert_eq!(next(&mut client).await.0, 1);
        let (code, error) = cut(&app, &mut client, &said(message)).await;
        assert_eq!((code, error.as_str()), (1008, "session_model"), "{message}");
    }
}

/// Nothing hangs on it, so it is the backend's to judge.
#[tokio::test]
async fn without_rules_any_message_passes() {
    let origin = backend(&[DONE]).await;
    let app = App::start(&policy(&origin, "", ""));
    let mut client = open(&app, "").await;
    for message in [DEAR, "no JSON at all", "[]", r#"{"model":"m","model":"dear"}"#] {
        client.send(&said(message)).await;
        assert_eq!(next(&mut client).await, (1, DONE.as_bytes().to_vec()), "{message}");
    }
    drop(client);
    app.line().await;
}

#[tokio::test]
async fn where_the_opening_names_none_the_first_message_does() {
    let origin = backend(&[DONE]).await;
    let limits = "policies:\n  - { name: cap, match: { model: dear }, per: all, limits: { \
                  requests: 2/day calendar, spend: $900/day calendar } }\n";
    let prices = "prices: { dear: { input: 1000, output: 1000 }, m: { input: 1, output: 1 } }\n";
    let held = policy(&origin, "", limits);
    let (_, rest) = held.split_once('\n').unwrap();
    let app = App::start(&format!("{prices}{rest}"));
    for _ in 0..2 {
        let mut client = open_at(&app, RESPONSES, "").await;
        client.send(&said(DEAR)).await;
        assert_eq!(next(&mut client).await.0, 1);
        drop(client);
        app.quiet().await;
    }
    let state = app.state();
    let of = |measure: &str| {
        let mut limits = state["limits"].as_array().unwrap().iter();
        limits.find(|limit| limit["measure"] == measure).unwrap()["used"].clone()
    };
    assert_eq!(of("requests"), 2, "{state}");
    assert_eq!(of("spend"), 84_000_000, "at its own price");
    // the third is one too many, and another model is none of that policy's business
    let mut client = open_at(&app, RESPONSES, "").await;
    client.send(&said(DEAR)).await;
    let (opcode, payload) = next(&mut client).await;
    assert_eq!((opcode, code(&payload).0), (8, 1008));
    drop(client);
    let mut client = open_at(&app, RESPONSES, "").await;
    client.send(&said(PLAIN)).await;
    assert_eq!(next(&mut client).await.0, 1);
    drop(client);
    app.lines(4).await;
    app.quiet().await;
}

#[tokio::test]
async fn a_key_for_some_models_may_open_what_names_its_model_later() {
    let (origin, app, key) = restricted(&[DONE]).await;
    let mut client = open_at(&app, RESPONSES, &key).await;
    client.send(&said(PLAIN)).await;
    assert_eq!(next(&mut client).await.0, 1);
    drop(client);
    for message in [DEAR, CREATE] {
        let mut client = open_at(&app, RESPONSES, &key).await;
        client.send(&said(message)).await;
        let (opcode, payload) = next(&mut client).await;
        assert_eq!((opcode, code(&payload).0), (8, 1008), "{message}");
    }
    assert_eq!(refused_at(&app, "/v1/realtime", &key).await.0, 403);
    assert_eq!(origin.connections(), 3);
    app.lines(4).await;
}

#[tokio::test]
async fn no_spelling_gets_round_the_keys_right() {
    for message in [
        r#"{"metadata":{"type":"a.delta"},"type":"response.create","model":"dear"}"#,
        r#"{"type":"response.create","mod\u0065l":"dear"}"#,
        r#"{"type":"response.cr\u0065ate","model":"dear"}"#,
        r#"{"typ\u0065":"response.create","model":"d\u0065ar"}"#,
        r#"{"type":"response.create","model":"m","model":"dear"}"#,
        r#"{"type":"response.create","model":"dear","model":"m"}"#,
        r#"{"type":"x","type":"response.create","model":"dear"}"#,
        r#"{"type":"response.create","Model":"dear"}"#,
        r#"{"type":"response.create","response":{"model":"dear"}}"#,
        r#"{"type":"response.create","response":{"x":{},"mod\u0065l":"dear"}}"#,
        r#"{"type":"response.create","response":{},"response":{"model":"dear"}}"#,
        r#"{"type":"session.update","session":{"model":"dear"}}"#,
        r#"{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"dear"}}}}}"#,
        r#"{"type":"response.create","model":["dear"]}"#,
        r#"{"type":"response.create",/**/"model":"dear"}"#,
        r#"[{"type":"response.create","model":"dear"}]"#,
    ] {
        let (_origin, app, key) = restricted(&[DONE]).await;
        let mut client = open(&app, &key).await;
        assert_eq!(cut(&app, &mut client, &said(message)).await.0, 1008, "{message}");
    }
    let (_origin, app, key) = restricted(&[DONE]).await;
    let mut client = open(&app, &key).await;
    assert_eq!(cut(&app, &mut client, &frame(2, DEAR.as_bytes(), true)).await.0, 1003);
}

/// However long a message is, all of it is looked at.
#[tokio::test]
async fn a_model_in_the_middle_of_a_long_message_is_seen() {
    let filler = "words and words ".repeat(8000);
    let long = |model: &str| {
        said(&format!(
            r#"{{"type":"response.create","input":"{filler}","model":"{model}","more":"{filler}"}}"#
        ))
    };
    let (origin, app, key) = restricted(&[DONE]).await;
    let mut client = open(&app, &key).await;
    client.send(&long("m")).await;
    assert_eq!(next(&mut client).await.0, 1, "it may be as long as it is");
    assert_eq!(cut(&app, &mut client, &long("dear")).await.0, 1008);
    until("the backend is let go", async || origin.open() == 0).await;
}

#[tokio::test]
async fn the_query_names_one_model() {
    let (origin, app, key) = restricted(&[DONE]).await;
    for (query, status) in [
        ("model=m&model=dear", 400),
        ("model=dear&model=m", 400),
        ("%6dodel=dear&model=m", 400),
        ("model=m&Model=dear", 400),
        ("deployment=dear&model=m", 400),
        ("%6dodel=dear", 403),
        ("model=%64ear", 403),
        ("model=%zz", 400),
    ] {
        let target = format!("/v1/realtime?{query}");
        assert_eq!(refused_at(&app, &target, &key).await.0, status, "{query}");
    }
    assert_eq!(origin.connections(), 0);
    drop(open_at(&app, "/v1/realtime?x=1&%6dode%6c=%6d", &key).await);
    app.lines(9).await;
}

/// The rest of a frame that is under way at the end is judged as well.
#[tokio::test]
async fn what_is_finished_behind_the_last_word_is_judged_too() {
    let origin = backend(&[DONE]).await;
    let policies = "policies: [{ name: cap, per: all, limits: { spend: $1/day hard } }]\n";
    let app = App::start(&policy(&origin, "longest: 500ms", policies));
    let mut client = open(&app, "").await;
    let message = said(DEAR);
    client.send(&message[..message.len() / 2]).await;
    until("the half has come", async || origin.bytes() > message.len() / 2).await;
    // the session's time is up
    let (opcode, payload) = next(&mut client).await;
    assert_eq!((opcode, code(&payload).0), (8, 1001));
    let before = origin.bytes();
    client.send(&message[message.len() / 2..]).await;
    until("the backend is let go", async || origin.open() == 0).await;
    assert_eq!(origin.bytes(), before, "no end of it has come");
    drop(client);
    app.line().await;
}
