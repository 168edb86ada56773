//! What goes wrong when it is told to.
use super::*;

#[test]
fn statuses_speak_the_dialect_and_say_when_to_come_back() {
    let simulator = simulator();
    for status in [400, 401, 402, 403, 404, 408, 413, 429, 500, 502, 503, 529] {
        let script = format!("fault={status}");
        let (head, body) = ask(&simulator, CHAT, &script, STREAM);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(json(&body)["error"]["type"].is_string());
        let (_, body) = ask(&simulator, MESSAGES, &script, PLAIN);
        assert!(json(&body)["error"]["type"].as_str().unwrap().contains("error") || status == 413);
        assert_eq!(head.contains("retry-after: 1\r\n"), [429, 503, 529].contains(&status));
    }
    for (form, line) in [
        ("seconds", "retry-after: 7\r\n"),
        ("ms", "retry-after-ms: 7000\r\n"),
        ("date", " GMT\r\n"),
        ("past", "2015 07:28:00 GMT\r\n"),
        ("huge", "retry-after: 86400\r\n"),
        ("garbage", "retry-after: soon"),
        ("x-ratelimit", "x-ratelimit-reset-tokens: 0m7s\r\n"),
        ("anthropic", "anthropic-ratelimit-tokens-reset: 2"),
    ] {
        let script = format!("fault=429; retry={form}; retry-after=7");
        let (head, _) = ask(&simulator, CHAT, &script, PLAIN);
        assert!(head.contains(line), "{form}: {head}");
    }
    let (head, _) = ask(&simulator, CHAT, "fault=429; retry=none", PLAIN);
    assert!(!head.contains("retry"), "{head}");
}

#[test]
fn connections_end_as_the_fault_says() {
    let simulator = simulator();
    let reset = |end: io::Result<()>| end.unwrap_err().kind() == io::ErrorKind::ConnectionReset;
    let (bytes, end) = ask_raw(&simulator, CHAT, "fault=reset", PLAIN);
    assert!(bytes.is_empty() && reset(end));
    let (bytes, end) = ask_raw(&simulator, CHAT, "fault=close", PLAIN);
    assert!(bytes.is_empty() && end.is_ok());
    for n in [0, 1, 5, 99] {
        let sent = |(all, end): (Vec<u8>, io::Result<()>)| {
            let (chunks, whole) = unchunk(&split_head(&all).1);
            assert!(!whole, "{n}");
            let tokens = events(&chunks.concat());
            (tokens.iter().filter(|e| e["type"] == "content_block_delta").count(), end)
        };
        let want = n.min(10);
        let (tokens, end) =
            sent(ask_raw(&simulator, MESSAGES, &format!("tokens=10; fault=reset-mid={n}"), STREAM));
        assert!(tokens == want && reset(end), "{n}: {tokens}");
        let (tokens, end) =
            sent(ask_raw(&simulator, MESSAGES, &format!("tokens=10; fault=close-mid={n}"), STREAM));
        assert!(tokens == want && end.is_ok(), "{n}: {tokens}");
    }
    // half of a plain body
    let (all, end) = ask_raw(&simulator, CHAT, "fault=reset-mid=1", PLAIN);
    assert!(split_head(&all).1.len() > 100 && reset(end));
    let (bytes, _) = ask_raw(&simulator, CHAT, "fault=garbage", PLAIN);
    assert!(!bytes.starts_with(b"HTTP") && !bytes.is_empty());
    let (bytes, _) = ask_raw(&simulator, CHAT, "fault=bad-chunk=2", STREAM);
    assert!(bytes.ends_with(b"not a size\r\n"));
}

#[test]
fn streams_end_without_their_terminal_event() {
    let simulator = simulator();
    for (path, terminal) in
        [(CHAT, "[DONE]"), (MESSAGES, "message_stop"), ("/v1/responses", "response.completed")]
    {
        let body = text(ask(&simulator, path, "fault=truncated", STREAM).1);
        assert!(!body.contains(terminal) && body.len() > 2000, "{path}");
        let body = text(ask(&simulator, path, "tokens=9; fault=error-event=3", STREAM).1);
        assert!(!body.contains(terminal), "{path}");
        let last = events(body.as_bytes()).pop().unwrap();
        assert!(last["type"] == "error" || last["error"].is_object(), "{path}: {last}");
    }
}

#[test]
fn split_writes_carry_the_same_bytes() {
    let simulator = simulator();
    for path in [CHAT, MESSAGES, "/api/chat"] {
        let script = "tokens=60";
        let (_, plain) = ask(&simulator, path, script, STREAM);
        for split in ["utf8", "bytes"] {
            let script = format!("{script}; fault=split={split}");
            let (all, _) = ask_raw(&simulator, path, &script, STREAM);
            let (chunks, _) = unchunk(&split_head(&all).1);
            assert_eq!(chunks.concat(), plain, "{path} {split}");
            assert!(chunks.iter().any(|chunk| std::str::from_utf8(chunk).is_err()));
        }
        let (all, _) = ask_raw(&simulator, path, &format!("{script}; fault=split=crlf"), STREAM);
        let (chunks, _) = unchunk(&split_head(&all).1);
        assert!(chunks.iter().any(|chunk| chunk.ends_with(b"\r")));
        assert_eq!(text(chunks.concat()).replace("\r\n", "\n"), text(plain));
    }
    let plain = ask(&simulator, CHAT, "", PLAIN);
    assert_eq!(ask(&simulator, CHAT, "fault=split=bytes", PLAIN), plain);
}

#[test]
fn events_can_be_spelled_otherwise() {
    let simulator = simulator();
    let (_, plain) = ask(&simulator, MESSAGES, "", STREAM);
    let spelled = |form: &str| text(ask(&simulator, MESSAGES, &format!("sse={form}"), STREAM).1);
    assert_eq!(spelled("crlf").replace("\r\n", "\n"), text(plain.clone()));
    assert_eq!(spelled("cr").replace('\r', "\n"), text(plain.clone()));
    assert!(!spelled("cr").contains('\n'));
    assert_eq!(events(spelled("tight").as_bytes()), events(&plain));
    assert!(!spelled("tight").contains("data: "));
    assert!(spelled("comments").contains("\n: keep-alive\n\n"));
}

#[test]
fn heads_and_lengths_lie_as_told() {
    let simulator = simulator();
    let huge = ask(&simulator, CHAT, "fault=huge-headers=40KiB", PLAIN).0;
    assert!(huge.len() > 40 << 10);
    assert!(ask(&simulator, CHAT, "fault=many-headers=200", PLAIN).0.lines().count() > 200);
    let (all, _) = ask_raw(&simulator, CHAT, "fault=early-hints", PLAIN);
    let (hints, rest) = split_head(&all);
    assert!(hints.starts_with("HTTP/1.1 103 ") && rest.starts_with(b"HTTP/1.1 200 OK"));
    let length = |head: &str| -> usize {
        let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        line.unwrap().parse().unwrap()
    };
    let (head, body) = ask(&simulator, CHAT, "fault=cl-long", PLAIN);
    assert_eq!(length(&head), body.len() + 100);
    let (head, body) = ask(&simulator, CHAT, "fault=cl-short", PLAIN);
    assert_eq!(length(&head), body.len() - 10);
    let (head, body) = ask(&simulator, CHAT, "fault=empty", PLAIN);
    assert!(head.starts_with("HTTP/1.1 200") && length(&head) == 0 && body.is_empty());
    let (head, body) = ask(&simulator, CHAT, "fault=error-200", STREAM);
    assert!(head.starts_with("HTTP/1.1 200") && json(&body)["error"].is_object());
    let (head, _) = ask(&simulator, CHAT, "fault=redirect", PLAIN);
    assert!(head.starts_with("HTTP/1.1 302 ") && head.contains("\r\nlocation: /"));
    let (all, _) = ask_raw(&simulator, CHAT, "fault=extra", PLAIN);
    assert!(all.ends_with(b"}these bytes belong to no answer"));
    let slow = Instant::now();
    ask(&simulator, CHAT, "fault=slow-headers", PLAIN);
    assert!(slow.elapsed() > Duration::from_millis(100));
}

#[test]
fn an_event_can_be_as_large_as_wished() {
    let simulator = simulator();
    let (_, body) = ask(&simulator, CHAT, "tokens=2; fault=big-event=20MiB", STREAM);
    let largest = body.split(|&byte| byte == b'\n').map(<[u8]>::len).max();
    assert!(largest > Some(20 << 20));
    let (_, body) = ask(&simulator, CHAT, "fault=big-event=2MiB", PLAIN);
    assert!(json(&body)["choices"][0]["message"]["content"].as_str().unwrap().len() > 2 << 20);
}

#[test]
fn gzip_holds_the_plain_bytes() {
    let simulator = simulator();
    for body in [PLAIN, STREAM] {
        let (_, plain) = ask(&simulator, CHAT, "", body);
        let (head, coded) = ask(&simulator, CHAT, "fault=gzip", body);
        assert!(head.contains("content-encoding: gzip\r\n"));
        let (mut rest, mut got) = (&coded[10..], Vec::new());
        while rest[0] == 0 {
            let size = usize::from(u16::from_le_bytes([rest[1], rest[2]]));
            got.extend_from_slice(&rest[5..5 + size]);
            rest = &rest[5 + size..];
        }
        assert_eq!((got, rest.len()), (plain, 13));
    }
}

#[test]
fn a_fault_can_be_rare_or_pass() {
    let simulator = simulator();
    let status = |script: &str| ask(&simulator, CHAT, script, PLAIN).0[9..12].to_owned();
    let seen: Vec<_> = (0..3).map(|_| status("fault=500; times=2")).collect();
    assert_eq!(seen, ["500", "500", "200"]);
    assert_eq!(status("fault=500; times=2; id=other"), "500");
    let failed = (0..200).filter(|_| status("fault=500; fault-rate=0.3") == "500").count();
    assert!((30..90).contains(&failed), "{failed} of 200");
    assert_eq!(simulator.seen().faults, failed as u64 + 3);
}

#[test]
fn the_processes_fault_spares_the_control_paths() {
    let fault = Some("500".parse().unwrap());
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator = start(Options { listen, fault, ..Options::default() }).unwrap();
    assert!(ask(&simulator, CHAT, "", PLAIN).0.starts_with("HTTP/1.1 500"));
    assert!(ask(&simulator, CHAT, "fault=none", PLAIN).0.starts_with("HTTP/1.1 200"));
    assert!(ask(&simulator, "/simulate/echo", "", "").0.starts_with("HTTP/1.1 200"));
}

#[test]
fn what_the_header_gets_wrong_is_refused_in_the_dialect() {
    let simulator = simulator();
    let (head, body) = ask(&simulator, MESSAGES, "tokns=5", PLAIN);
    assert!(head.starts_with("HTTP/1.1 400"));
    assert_eq!(json(&body)["error"]["type"], "invalid_request_error");
    assert!(json(&body)["error"]["message"].as_str().unwrap().contains("tokns"));
    let (head, body) = ask(&simulator, "/api/chat", "", "{");
    assert!(head.starts_with("HTTP/1.1 400") && json(&body)["error"].is_string());
}
