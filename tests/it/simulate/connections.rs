//! How connections live and end, and how clients are watched.
use super::*;

fn read_some(stream: &mut TcpStream) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    let n = stream.read(&mut buffer).unwrap();
    buffer[..n].to_vec()
}

#[test]
fn a_client_that_leaves_is_noticed_in_every_phase() {
    let simulator = simulator();
    let scripts =
        ["ttft=60s", "early-head; ttft=60s", "gap=60s", "fault=stall", "fault=stall-mid=2"];
    for (n, script) in scripts.into_iter().enumerate() {
        for body in [PLAIN, STREAM] {
            if body == PLAIN && script == "gap=60s" {
                continue;
            }
            let before = simulator.seen();
            let mut stream = connect(&simulator);
            let head = request(CHAT, script, body);
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
            until(|| simulator.seen().requests > before.requests);
            if n > 0 && script != "fault=stall" {
                assert!(read_some(&mut stream).starts_with(b"HTTP/1.1 200"));
            }
            assert_eq!(simulator.seen().cancelled, before.cancelled);
            drop(stream);
            let noticed = until(|| simulator.seen().cancelled == before.cancelled + 1);
            assert!(noticed < Duration::from_millis(100), "{script}: {noticed:?}");
        }
    }
    until(|| simulator.seen().open == 0);
}

#[test]
fn time_to_first_token_and_gaps_are_kept() {
    let simulator = simulator();
    let from = Instant::now();
    ask(&simulator, CHAT, "ttft=60ms", PLAIN);
    assert!(from.elapsed() >= Duration::from_millis(60));
    let from = Instant::now();
    ask(&simulator, CHAT, "tokens=11; gap=10ms", STREAM);
    let took = from.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let simulator = simulator();
    let one = |n: u32| {
        let script = format!("tokens={n}");
        format!("{}\r\n{PLAIN}", request(CHAT, &script, PLAIN))
    };
    let last = format!("{}connection: close\r\n\r\n{PLAIN}", request(CHAT, "tokens=3", PLAIN));
    let (all, end) = raw(&simulator, &[one(1), one(2), last].concat());
    end.unwrap();
    let all = text(all);
    let counts: Vec<_> = all
        .match_indices("\"completion_tokens\":")
        .map(|(i, key)| all[i + key.len()..].chars().next())
        .collect();
    assert_eq!(counts, [Some('1'), Some('2'), Some('3')]);
    assert_eq!(simulator.seen().accepted, 1);
}

#[test]
fn bodies_come_in_chunks_or_after_a_continue() {
    let simulator = simulator();
    let whole = ask(&simulator, CHAT, "", PLAIN).1;
    let head = format!("POST {CHAT} HTTP/1.1\r\nconnection: close\r\n");
    let (a, b) = PLAIN.split_at(10);
    let chunks = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    );
    assert_eq!(split_head(&raw(&simulator, &chunks).0).1, whole);
    let mut stream = connect(&simulator);
    let expect = format!("{head}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", PLAIN.len());
    stream.write_all(expect.as_bytes()).unwrap();
    assert_eq!(read_some(&mut stream), b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(PLAIN.as_bytes()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(split_head(&all).1, whole);
    // refused before the body is there, which may still come
    let mut stream = connect(&simulator);
    let early = request(CHAT, "fault=413; early", PLAIN);
    stream.write_all(format!("{early}\r\n").as_bytes()).unwrap();
    assert!(read_some(&mut stream).starts_with(b"HTTP/1.1 413"));
}

#[test]
fn old_clients_and_heads_alone_are_served() {
    let simulator = simulator();
    let length = STREAM.len();
    let old = format!("POST {CHAT} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{STREAM}");
    let (all, end) = raw(&simulator, &old);
    end.unwrap();
    let (head, body) = split_head(&all);
    assert!(!head.contains("chunked") && head.contains("connection: close\r\n"));
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    let (all, _) = raw(&simulator, "HEAD / HTTP/1.1\r\nconnection: close\r\n\r\n");
    assert!(all.starts_with(b"HTTP/1.1 200") && all.ends_with(b"\r\n\r\n"));
    let (all, _) = raw(&simulator, "nonsense\r\n\r\n");
    assert!(all.starts_with(b"HTTP/1.1 400"));
}

#[test]
fn kept_connections_break_as_told() {
    let simulator = simulator();
    let send = |stream: &mut TcpStream, script: &str| {
        let text = format!("{}\r\n{PLAIN}", request(CHAT, script, PLAIN));
        stream.write_all(text.as_bytes())
    };
    let mut stream = connect(&simulator);
    for _ in 0..2 {
        send(&mut stream, "fault=stale=2").unwrap();
        assert!(read_some(&mut stream).starts_with(b"HTTP/1.1 200"));
    }
    send(&mut stream, "").unwrap();
    let error = stream.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let mut stream = connect(&simulator);
    send(&mut stream, "fault=silent-close").unwrap();
    assert!(!text(read_some(&mut stream)).contains("connection:"));
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
    let mut stream = connect(&simulator);
    send(&mut stream, "fault=keepalive-close").unwrap();
    assert!(text(read_some(&mut stream)).contains("connection: close\r\n"));
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn a_tunnel_returns_every_byte() {
    let simulator = simulator();
    let mut stream = connect(&simulator);
    let upgrade = "GET /simulate/tunnel HTTP/1.1\r\nconnection: upgrade\r\nupgrade: ws\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).unwrap();
    let head = text(read_some(&mut stream));
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: ws\r\n"), "{head}");
    stream.write_all(b"\0\x01any bytes").unwrap();
    assert_eq!(read_some(&mut stream), b"\0\x01any bytes");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn several_threads_share_a_port_and_stop_together() {
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator = start(Options { listen, threads: 3, ..Options::default() }).unwrap();
    let kept: Vec<_> = (0..30).map(|_| connect(&simulator)).collect();
    for _ in 0..30 {
        ask(&simulator, CHAT, "", PLAIN);
    }
    let seen = simulator.seen();
    assert_eq!((seen.requests, seen.accepted), (30, 60));
    let addr = simulator.addr;
    simulator.stop();
    for mut stream in kept {
        assert!(matches!(stream.read(&mut [0; 10]), Ok(0) | Err(_)));
    }
    assert!(TcpStream::connect(addr).is_err());
}
