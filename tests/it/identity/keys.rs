//! Tidegate keys on the wire: found wherever clients put them, never passed on, never shown.
use std::fs;
use std::process::{Output, Stdio};

use super::*;
use crate::support::client::{Client, request};
use crate::support::h2;

#[tokio::test]
async fn a_key_is_known_wherever_it_stands_and_goes_no_further() {
    let origin = origin().await;
    let (key, line) = new_key(&["--agent", "researcher", "--team", "growth"]);
    let mut app = App::start(&policy(&origin, &format!("agents: {{ keys: [{line}] }}\n")));
    app.secrets.push(key.clone());
    let own = format!("x-api-key: {FOREIGN}\r\n");
    let cases = [
        (CHAT.to_owned(), format!("x-tidegate-key: {key}\r\n{own}")),
        (CHAT.to_owned(), format!("{}{own}", bearer(&key))),
        (CHAT.to_owned(), format!("Authorization: bearer   {key}\r\n{own}")),
        (CHAT.to_owned(), format!("authorization: {key}\r\n{own}")),
        (MESSAGES.to_owned(), format!("x-api-key: {key}\r\n{}", bearer(FOREIGN))),
        (GEMINI.to_owned(), format!("x-goog-api-key: {key}\r\n{own}")),
        (CHAT.to_owned(), format!("api-key: {key}\r\n{own}")),
        (format!("{GEMINI}?key={key}"), own.clone()),
        (format!("{GEMINI}?alt=sse&%6bey={}&x=1", key.replace("tgk_", "%74gk_")), own.clone()),
        // twice, in two places
        (CHAT.to_owned(), format!("x-tidegate-key: {key}\r\n{}{own}", bearer(&key))),
    ];
    let count = cases.len();
    for (target, lines) in cases {
        let got = ask(app.addr, &call(&target, &lines, BODY)).await;
        assert_eq!(got.status, 200, "{lines}: {}", got.text());
        let reached = origin.take().remove(0);
        let all = format!("{reached:?}");
        assert!(!all.contains("tgk_") && !all.contains(&key[8..]), "{all}");
        let passed = reached.get("x-api-key").or(reached.get("authorization"));
        assert_eq!(passed.map(|value| value.trim_start_matches("Bearer ")), Some(FOREIGN));
        let (_, query) = target.split_once('?').unwrap_or_default();
        let rest = if query.contains("alt=sse") { "?alt=sse&x=1" } else { "" };
        assert!(reached.target.ends_with(&format!("{}{rest}", target.split('?').next().unwrap())));
    }
    for line in app.lines(count).await {
        let told = (at(&line, "agent"), at(&line, "team"), at(&line, "rung"));
        assert_eq!(told, ("researcher", "growth", "key"), "{line}");
    }
}

#[tokio::test]
async fn http2_carries_keys_as_well() {
    let origin = origin().await;
    let (key, line) = new_key(&["--agent", "researcher"]);
    let mut app = App::start(&policy(&origin, &format!("agents: {{ keys: [{line}] }}\n")));
    app.secrets.push(key.clone());
    let client = h2::Client::connect(app.addr).await;
    for (lines, status) in [(&[("x-tidegate-key", &*key)][..], 200), (&[], 401)] {
        let (response, mut stream) = client.begin(CHAT, lines, false).await;
        stream.send_data(BODY.into(), true).unwrap();
        assert_eq!(h2::finish(response).await.status, status);
    }
    let reached = origin.take();
    assert!(reached.len() == 1 && !format!("{reached:?}").contains("tgk_"), "{reached:?}");
    assert_eq!(at(&app.lines(2).await[0], "agent"), "researcher");
}

#[tokio::test]
async fn the_upstreams_own_key_takes_the_place_of_ours() {
    let origin = origin().await;
    let (key, line) = new_key(&["--agent", "researcher"]);
    let app = App::start(&format!(
        "upstreams: {{ up: {{ url: '{}', dialect: openai, key: '${{CANARY}}' }} }}\n\
         routes: [{{ to: up }}]\nagents: {{ keys: [{line}] }}\n",
        origin.url()
    ));
    assert_eq!(chat(app.addr, &bearer(&key)).await.status, 200);
    let reached = origin.take().remove(0);
    let sent = format!("Bearer {}", crate::support::app::UPSTREAM_KEY);
    assert_eq!(reached.all("authorization"), [sent.as_str()]);
    assert!(!format!("{reached:?}").contains("tgk_"));
    app.line().await;
}

#[tokio::test]
async fn the_printed_line_works_in_a_policy_with_and_without_a_pepper() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("pepper");
    fs::write(&secret, "a pepper of thirty-two bytes or more\n").unwrap();
    let file = directory.path().join("policy.yaml");
    let pepper = format!("pepper: 'file:{}'", secret.display());
    fs::write(&file, format!("agents: {{ {pepper} }}\n")).unwrap();
    let args = ["--agent", "a", "--expires", "30d", "--model", "gpt-*", "--model", "m"];
    let (plain, by_sha256) = new_key(&[&args[..], &["--route", "root"]].concat());
    let file = file.display().to_string();
    let (peppered, by_hmac) = new_key(&["--agent", "b", "-c", &file]);
    assert!(by_sha256.contains("sha256:") && by_hmac.contains("hmac:"), "{by_sha256} {by_hmac}");
    assert!(!by_sha256.contains(&plain) && !by_hmac.contains(&peppered));
    let origin = origin().await;
    let keys = format!("agents: {{ {pepper}, keys: [{by_sha256}, {by_hmac}] }}\n");
    let app = App::start(&policy(&origin, &keys));
    for key in [&plain, &peppered] {
        assert_eq!(chat(app.addr, &bearer(key)).await.status, 200);
    }
    let lines = app.lines(2).await;
    assert_eq!((at(&lines[0], "agent"), at(&lines[1], "agent")), ("a", "b"));
    // of another form, of another key, cut, or with a byte too many: no key
    let other = plain.chars().rev().collect::<String>();
    for wrong in [&plain[..46], &format!("{plain}A"), &format!("tgk_{}", &other[..43]), "tgk_"] {
        assert_eq!(chat(app.addr, &bearer(wrong)).await.status, 401, "{wrong}");
    }
    assert_eq!(origin.take().len(), 2);
    app.lines(6).await;
}

fn keys(args: &[&str], policy: &str) -> Output {
    let mut command = tidegate();
    command.arg("keys").args(args).args(["-c", policy]).stdout(Stdio::piped());
    command.output().unwrap()
}

fn told(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}");
    (out, err)
}

/// The key, and its id.
fn made(output: &Output) -> (String, String) {
    let (out, err) = told(output);
    assert_eq!(out.lines().count(), 1, "the key alone: {out}");
    let key = out.trim_end().to_owned();
    assert!(key.starts_with("tgk_") && key.len() == 47, "{key}");
    assert!(!err.contains(&key), "once: {err}");
    (key, err.split(' ').nth(2).unwrap().to_owned())
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test may wait for the disk")]
async fn stored_keys_live_with_and_without_a_running_instance() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let alone = policy_for_keys(directory.path(), &state, None);
    assert_eq!(told(&keys(&["list"], &alone)).0.lines().count(), 1);
    assert!(!state.exists(), "listing makes nothing");
    let (early, early_id) = made(&keys(&["new", "--agent", "early", "--team", "t"], &alone));

    let origin = origin().await;
    let kept = format!("state: '{}'\n", state.display());
    let mut app = App::start(&policy(&origin, &kept));
    app.secrets.push(early.clone());
    let asking = policy_for_keys(directory.path(), &state, Some(&app));
    let (late, late_id) = made(&keys(&["new", "--agent", "late"], &asking));
    app.secrets.push(late.clone());
    // both on connections that stay open
    let (mut one, mut two) = (Client::connect(app.addr).await, Client::connect(app.addr).await);
    for (client, key) in [(&mut one, &early), (&mut two, &late)] {
        client.send(&call(CHAT, &bearer(key), BODY)).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let (list, _) = told(&keys(&["list"], &asking));
    assert!(list.contains(&early_id) && list.contains(&late_id), "{list}");
    assert!(!list.contains(&early) && !list.contains(&late) && !list.contains("tgk_"), "{list}");
    told(&keys(&["revoke", &late_id], &asking));
    two.send(&call(CHAT, &bearer(&late), BODY)).await;
    assert_eq!(two.answer().await.status, 401, "from the next request on");
    one.send(&call(CHAT, &bearer(&early), BODY)).await;
    assert_eq!(one.answer().await.status, 200);
    assert_eq!(keys(&["revoke", "00000000"], &asking).status.code(), Some(2));

    let lines = app.lines(4).await;
    let agents: Vec<_> = lines.iter().map(|line| (at(line, "agent"), at(line, "error"))).collect();
    assert_eq!(agents[..2], [("early", ""), ("late", "")]);
    assert!(agents[2].1 == "invalid_api_key" && agents[3].0 == "early", "{agents:?}");
    app.kill();
    drop(app);

    told(&keys(&["revoke", &early_id], &alone));
    let (list, _) = told(&keys(&["list"], &alone));
    assert!(!list.contains('-') || !list.lines().skip(1).any(|line| line.ends_with('-')), "{list}");
    let app = App::start(&policy(&origin, &kept));
    for key in [&early, &late] {
        assert_eq!(chat(app.addr, &bearer(key)).await.status, 401);
    }
    app.lines(2).await;
    for entry in fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for key in [&early, &late] {
            let held = memchr::memmem::find(&bytes, &key.as_bytes()[4..]);
            assert!(held.is_none(), "{} holds a key", path.display());
        }
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{} is for its owner", path.display());
    }
}

#[tokio::test]
async fn who_has_no_token_can_neither_list_nor_make_keys() {
    let directory = tempfile::tempdir().unwrap();
    let origin = origin().await;
    let state = directory.path().join("state");
    let app = App::start(&policy(&origin, &format!("state: '{}'\n", state.display())));
    let record = r#"{"id":"00112233","hmac":"00","agent":"a"}"#;
    for (method, body) in [("GET", ""), ("POST", record), ("DELETE", "")] {
        for lines in ["", "authorization: Bearer 00\r\n"] {
            let lines = format!("host: {}\r\nconnection: close\r\n{lines}", app.admin);
            let head = format!(
                "{method} /keys HTTP/1.1\r\n{lines}content-length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut client = Client::connect(app.admin).await;
            client.send(head.as_bytes()).await;
            let got = client.answer().await;
            assert!(matches!(got.status, 401 | 404 | 405), "{method}: {}", got.status);
        }
    }
    // and none of it on the agents' door
    let got = ask(app.addr, &request("GET", "/keys", "", "")).await;
    assert_eq!(got.status, 200, "it is the upstream's");
    assert_eq!(origin.take().len(), 1);
    app.line().await;
}
