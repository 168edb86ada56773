//! The sessions that agents tell of themselves, as they are: Claude Code, Codex, `OpenCode`.
use super::*;

#[tokio::test]
async fn sessions_of_the_known_agents_are_in_the_log() {
    let origin = origin().await;
    let app = App::start(&policy(&origin, ""));
    let claude = "x-claude-code-session-id: 11-22\r\nx-claude-code-agent-id: explorer\r\n\
                  x-claude-code-parent-agent-id: lead\r\nx-claude-code-request-class: subagent\r\n";
    let main = "x-claude-code-session-id: 11-22\r\nx-claude-code-request-class: main\r\n";
    let codex = "session_id: 33-44\r\noriginator: codex_cli_rs\r\n";
    let cached = BODY.replacen('{', r#"{"prompt_cache_key":"55-66","#, 1);
    let of_user =
        BODY.replacen('{', r#"{"metadata":{"user_id":"user_0f_account__session_77-88"},"#, 1);
    let beta = "/v1/messages?beta=true";
    // target, lines, body; agent, parent, session, class
    let cases = [
        (beta, claude, BODY, "explorer", "lead", "11-22", "default"),
        (beta, main, BODY, "11-22", "", "11-22", "interactive"),
        (
            beta,
            "x-claude-code-request-class: auxiliary\r\n",
            &*of_user,
            "127.0.0.1",
            "",
            "77-88",
            "batch",
        ),
        ("/v1/responses", codex, BODY, "33-44", "", "33-44", "default"),
        ("/v1/responses", "session-id: 1\r\nthread-id: 2\r\n", BODY, "1", "", "1", "default"),
        ("/v1/responses", "", &*cached, "127.0.0.1", "", "55-66", "default"),
        (CHAT, "x-session-affinity: ses_9\r\n", BODY, "ses_9", "", "ses_9", "default"),
        (
            CHAT,
            "x-agent-id: a\r\nx-session-id: s\r\nx-tidegate-priority: batch\r\n",
            BODY,
            "a",
            "",
            "s",
            "batch",
        ),
        (CHAT, "agent-session-id: t\r\n", BODY, "t", "", "t", "default"),
    ];
    for (target, lines, body, agent, parent, session, class) in cases {
        assert_eq!(ask(app.addr, &call(target, lines, body)).await.status, 200, "{lines}");
        let reached = origin.requests();
        let line = app.lines(reached).await.pop().unwrap();
        let told = ["agent", "parent", "session", "class"].map(|field| at(&line, field));
        assert_eq!(told, [agent, parent, session, class], "{lines}: {line}");
    }
    // what agents say of themselves goes on to the backend; what they say to us does not
    let reached = origin.take();
    assert_eq!(reached[0].get("x-claude-code-session-id"), Some("11-22"));
    assert_eq!(reached[3].get("session_id"), Some("33-44"));
    assert_eq!(reached[7].get("x-tidegate-priority"), None);
}

#[tokio::test]
async fn a_credential_names_an_agent_without_being_shown() {
    let origin = origin().await;
    let mut app = App::start(&policy(&origin, ""));
    app.secrets.push(FOREIGN.to_owned());
    for _ in 0..2 {
        chat(app.addr, &bearer(FOREIGN)).await;
    }
    chat(app.addr, "x-api-key: another-one\r\n").await;
    // longer than a name may be, of more than one word, and what looks like a secret
    chat(app.addr, &format!("x-agent-id: {}\r\n", "n".repeat(4000))).await;
    chat(app.addr, "x-agent-id: two words\r\n").await;
    chat(app.addr, &format!("x-agent-id: {FOREIGN}\r\n")).await;
    let lines = app.lines(6).await;
    let agents: Vec<_> = lines.iter().map(|line| at(line, "agent")).collect();
    assert!(agents[0].starts_with("key:") && agents[0].len() == 20, "{agents:?}");
    assert!(agents[0] == agents[1] && agents[1] != agents[2], "{agents:?}");
    assert!(agents[3].len() <= 128 && agents[4].starts_with('#'), "{agents:?}");
    assert!(agents[4].bytes().all(|b| b.is_ascii_graphic()), "{agents:?}");
}
