//! `tidegate demo` as people and scripts start it.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::life::{PATIENCE, signal, tidegate};

fn demo(args: &[&str]) -> Command {
    let mut command = tidegate();
    command.arg("demo").args(args).stdout(Stdio::piped());
    command
}

fn once(args: &[&str]) -> (Output, String) {
    let out = demo(args).arg("--once").output().unwrap();
    let said = String::from_utf8(out.stdout.clone()).unwrap();
    (out, said)
}

const FREE: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// The cells of the table's row that begins so.
fn row<'s>(said: &'s str, label: &str) -> Vec<&'s str> {
    let table = said.split("What the sidecar saw").nth(1).expect("a table");
    let found = table.lines().find_map(|line| line.trim_start().strip_prefix(label));
    found.unwrap_or_else(|| panic!("{label} in {said}")).split_whitespace().collect()
}

#[test]
fn the_show_is_whole_and_plain_without_a_terminal() {
    let began = Instant::now();
    let (out, said) = once(&FREE);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(!said.contains('\x1b'), "no escape codes in a pipe");
    assert!(!said.contains("in use"), "{said}");
    for (label, status, tokens, connection) in [
        ("OpenAI chat stream", "200", "40", "new"),
        ("Anthropic message stream", "200", "40", "new"),
        ("Ollama chat stream", "200", "24", "new"),
        ("OpenAI embeddings", "200", "0", "reused"),
        ("8 agents at once, medians", "200", "20", ""),
    ] {
        let cells = row(&said, label);
        assert_eq!(cells[0], status, "{label}: {cells:?}");
        let slash = cells.iter().position(|cell| *cell == "/").expect("tokens in and out");
        assert!(cells[slash - 1].parse::<u64>().unwrap() > 0, "{label}: {cells:?}");
        assert_eq!(cells[slash + 1], tokens, "{label}: {cells:?}");
        let overhead = cells.iter().position(|cell| *cell == "µs").expect("overhead");
        assert!(cells[overhead - 1].parse::<u64>().unwrap() > 0, "{label}: {cells:?}");
        assert!(connection.is_empty() || cells[slash + 2] == connection, "{label}: {cells:?}");
    }
    assert!(row(&said, "OpenAI chat after a reset").join(" ").ends_with("new, after a reset"));
    assert_eq!(row(&said, "Anthropic, overloaded")[0], "529");
    assert!(said.contains(r#"529  {"type":"error","error":{"type":"overloaded_error","#), "{said}");
    assert!(row(&said, "backend connections:").join(" ").contains(", 1 retried;"), "{said}");
    let tokens = said.split("as it arrived:").nth(1).and_then(|rest| rest.split("\n\n").next());
    let tokens = tokens.unwrap_or_default().trim_end();
    assert!(tokens.ends_with(['2', '6']), "both dialects of the 529 wait: {said}");
    assert!(!said.contains("Ctrl-C"), "it ends after the table");
}

/// A cell of time, in milliseconds: the figure and its unit are words of their own.
fn waits(cells: &[&str]) -> Vec<f64> {
    let unit = |at: &usize| cells[*at] == "ms";
    let figures = (1..cells.len()).filter(unit).map(|at| cells[at - 1].parse().unwrap());
    figures.collect()
}

#[test]
fn the_show_tells_a_fair_wait_and_a_budget_that_held() {
    let (_, said) = once(&FREE);
    let flood = row(&said, "flood, 16 calls at once");
    let helper = row(&said, "helper, beside the flood");
    assert_eq!(flood[..3], ["16", "×", "200"], "{flood:?}");
    assert_eq!(helper[..3], ["2", "×", "200"], "{helper:?}");
    let ([flood, longest, _], [help, ..]) = (&waits(&flood)[..], &waits(&helper)[..]) else {
        panic!("{said}")
    };
    assert!(help < flood && flood < longest, "{said}");
    let order = said.split("f or H:").nth(1).and_then(|rest| rest.trim_start().lines().next());
    let order = order.unwrap_or_default();
    assert_eq!((order.matches('f').count(), order.matches('H').count()), (16, 2), "{said}");
    assert!(order.starts_with("f ") && order.ends_with(" f"), "helper is not last: {order}");

    let spender = row(&said, "spender, until refused");
    assert_eq!(spender[..4], ["3", "×", "200,", "402"], "{spender:?}");
    let spent: f64 = spender.last().unwrap().strip_prefix('$').unwrap().parse().unwrap();
    assert!(spent > 0.009 && spent <= 0.01, "{spender:?}");
    assert!(said.contains("limits: { spend: $0.01/day hard }"), "the policy is shown: {said}");
    assert_eq!(said.matches("max_tokens lowered to ").count(), 1, "{said}");
    let told = r#"402  The budget `budget/spend` of agent "spender" is spent"#;
    assert_eq!(said.matches(told).count(), 1, "{said}");
}

/// Calls, upstream calls, and how many of the calls the cache made what of.
fn cached(said: &str, label: &str) -> (u32, u32, Vec<(u32, String)>) {
    let cells = row(said, label);
    let number = |cell: &str| cell.parse().unwrap_or_else(|_| panic!("{label}: {cells:?}"));
    let end = cells.iter().position(|cell| *cell == "ms").expect("a time") - 1;
    let how = cells[2..end].join(" ");
    let how = how.split(", ").map(|part| match part.split_once(" × ") {
        Some((count, how)) => (number(count), how.to_owned()),
        None => (1, part.to_owned()),
    });
    (number(cells[0]), number(cells[1]), how.collect())
}

/// The lines of an act behind each line that has these words.
fn behind<'s>(said: &'s str, act: &str, words: &str) -> Vec<&'s str> {
    let act = said.split(act).nth(1).and_then(|rest| rest.split("\n\n").next());
    let lines: Vec<_> = act.unwrap_or_else(|| panic!("{act:?} in {said}")).lines().collect();
    lines.windows(2).filter(|pair| pair[0].contains(words)).map(|pair| pair[1].trim()).collect()
}

#[test]
fn the_show_tells_what_was_not_asked_twice() {
    let (_, said) = once(&FREE);
    for (label, calls, upstream, how) in [
        ("a question", 1, 1, "miss"),
        ("the same again", 1, 0, "hit"),
        ("the same, not streamed", 1, 0, "hit"),
        ("2 embeddings", 1, 1, "miss"),
        ("4 embeddings, 2 known", 1, 1, "partial"),
        ("the same, more politely", 1, 0, "canonical"),
        ("the same in other words", 1, 0, "semantic"),
        ("another in like words", 1, 1, "miss"),
    ] {
        assert_eq!(cached(&said, label), (calls, upstream, vec![(1, how.to_owned())]), "{said}");
        let saved = row(&said, label);
        let [.., tokens, dollars] = saved[..] else { panic!("{saved:?}") };
        if how == "miss" {
            assert_eq!((tokens, dollars), ("–", "–"), "{label}: {said}");
        } else {
            assert!(tokens.parse::<u64>().unwrap() > 0, "{label}: {saved:?}");
            assert!(dollars > "$0.000000", "{label}: {saved:?}");
        }
    }
    let (calls, upstream, how) = cached(&said, "20 identical streams");
    assert_eq!((calls, upstream), (20, 1), "{said}");
    let count = |word: &str| how.iter().filter(|(_, how)| how == word).map(|(n, _)| n).sum::<u32>();
    // one that a busy machine lets come after the end finds the answer kept
    assert_eq!((count("miss"), count("joined") + count("hit")), (1, 19), "{said}");
    assert!(count("joined") > 0, "{said}");
    assert!(said.contains("20 streams, 1 answer between them"), "{said}");
    let letters =
        said.split("A letter is a token").nth(1).and_then(|rest| rest.split("20 s").next());
    let letters = letters.unwrap_or_default().split_once('\n').unwrap_or_default().1;
    for letter in 'a'..='t' {
        assert_eq!(letters.matches(letter).count(), 12, "{letter} in {said}");
    }

    let told = |word: &str| format!("cache-status: tidegate; {word}");
    let [first, answers @ ..] = &behind(&said, "The same question again", "cache-status:")[..]
    else {
        panic!("{said}")
    };
    assert_eq!((first.split(' ').count(), answers), (12, &[*first; 2][..]), "{said}");
    let act = "The same in other words";
    for tier in ["canonical", "semantic"] {
        assert_eq!(behind(&said, act, &format!("detail={tier}")), [*first], "{said}");
    }
    let [other] = behind(&said, act, &told("fwd=miss"))[..] else { panic!("{said}") };
    assert_ne!(other, *first, "{said}");
    assert_eq!(said.matches(&told("fwd=partial")).count(), 1, "{said}");
    assert!(said.contains("cache: { ttl: 1h, canonical: true, semantic: on }"), "{said}");
}

#[test]
fn the_show_tells_what_outlived_its_connection() {
    let (_, said) = once(&FREE);
    for (label, connections, after, act) in [
        ("a task, read in two parts", "3", "ms", "a new one reads on:"),
        ("a stream, in two parts", "2", "–", "The backend is not asked again:"),
    ] {
        let cells = row(&said, label);
        assert_eq!(cells[..2], [connections, "1"], "{label}: {cells:?}");
        assert!(cells.contains(&after) && cells.ends_with(&["/", "24"]), "{label}: {cells:?}");
        let told = said.split(act).nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
        let (first, rest) = told.split_once('┊').expect("it was dropped");
        let words = |text: &str| text.split_whitespace().count();
        assert_eq!((words(first), words(rest)), (9, 15), "{told}");
    }
    assert!(said.contains("     202  /-/tasks/task_"), "{said}");
}

#[test]
fn addresses_that_are_taken_are_replaced_only_if_nobody_asked_for_them() {
    // if somebody else holds them, so much the better
    let _held = ["127.0.0.1:8080", "127.0.0.1:8081"].map(TcpListener::bind);
    let (out, said) = once(&[]);
    assert_eq!(out.status.code(), Some(0), "{said}");
    for at in ["127.0.0.1:8080", "127.0.0.1:8081"] {
        assert!(said.contains(&format!("{at} is in use by another program")), "{said}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    for args in [["--listen", &at, FREE[2], FREE[3]], [FREE[0], FREE[1], "--admin", &at]] {
        let (out, said) = once(&args);
        assert_eq!(out.status.code(), Some(3), "{said}");
        let why = String::from_utf8(out.stderr).unwrap();
        assert_eq!(why, format!("tidegate: {at}: the address is in use by another program\n"));
    }
}

/// A demo that serves on, and its lines as they come.
struct Serving {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Serving {
    fn start() -> Self {
        let mut child = demo(&FREE).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    fn line_with(&self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect(words);
            if line.contains(words) {
                return line;
            }
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_serves_on_says_how_to_reach_it_and_ends_with_ctrl_c() {
    for name in ["INT", "TERM"] {
        let mut serving = Serving::start();
        let way = serving.line_with("export OPENAI_BASE_URL=http://");
        let addr = way.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        let at = format!("http://{addr}");
        assert!(way.contains(&format!("OPENAI_BASE_URL={at}/v1 OPENAI_API_KEY=")), "{way}");
        serving.line_with(&format!("export ANTHROPIC_BASE_URL={at} ANTHROPIC_API_KEY="));
        serving.line_with(&format!("ANTHROPIC_BASE_URL={at} ANTHROPIC_AUTH_TOKEN=any claude"));
        serving.line_with(&format!("curl -N {at}/v1/chat/completions"));
        serving.line_with("/metrics");
        let state = serving.line_with("/state");
        let admin = state.split("http://").nth(1).unwrap().trim_end_matches("/state").to_owned();
        serving.line_with(&format!("tidegate agents --admin {admin}"));
        serving.line_with(&format!("tidegate cache stats --admin {admin}"));
        let token = serving.line_with("TIDEGATE_ADMIN_TOKEN=");
        let tasks = serving.line_with(&format!("tidegate tasks list --admin {admin}"));
        serving.line_with("Limit it");
        serving.line_with("Your calls appear here");
        let mut tcp = TcpStream::connect(&addr).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let length = body.len();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        write!(tcp, "{head}content-length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let line = serving.line_with("/v1/chat/completions");
        assert_eq!(line.split_whitespace().nth(1), Some("200"), "{line}");
        let mut agents = tidegate();
        agents.args(["agents", "--once", "--admin", &admin]).stdout(Stdio::piped());
        let agents = String::from_utf8(agents.output().unwrap().stdout).unwrap();
        for name in ["flood", "helper", "spender", "$0.01"] {
            assert!(agents.contains(name), "{name} in {agents}");
        }
        let mut stats = tidegate();
        stats.args(["cache", "stats", "--admin", &admin]).stdout(Stdio::piped());
        let stats = stats.output().unwrap();
        assert!(stats.status.success() && !stats.stdout.is_empty(), "{stats:?}");
        let typed = [token, tasks].map(|line| line.trim().trim_start_matches("tasks").to_owned());
        let listed = Command::new("sh").args(["-ec", &typed.join("\n")]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("succeeded"), "{typed:?}: {listed}");
        signal(&serving.child, name);
        assert_eq!(serving.child.wait().unwrap().code(), Some(0));
        assert!(TcpStream::connect(&addr).is_err());
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = demo(&FREE).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
}
