//! Request smuggling: whatever a client sends, a backend sees whole requests in one spelling, and
//! only those that the client was answered for.
//!
//! Each payload goes out on a connection of its own, with a probe behind it. The backend records
//! every byte. By a strict reader of our own ([`strict`]) then holds:
//!
//! 1. what the backend got is canonical, and ends with a whole request or a connection's end;
//! 2. each request there is one that the strict reader finds in what the client sent, in order;
//! 3. the client was answered for exactly these, in order;
//! 4. the probe was answered for itself, or swallowed by a body that was announced to be longer, or
//!    the connection was closed;
//! 5. another client, over the same connections to the backend, is answered for itself.
mod payloads;
mod strict;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use self::payloads::Payload;
use self::strict::{Form, Request, Rest};
use super::{CHAT, UPLOAD, after, open};
use crate::support::client::{ask, get};
use crate::support::origin::{Conn, Origin, whole};
use crate::support::raw::Raw;
use crate::support::until;

/// What the backend got.
#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    faults: Vec<String>,
}

/// How an answer names the request that it is for.
fn named(request: &Request) -> String {
    format!("{} {} {}", request.method, request.target, request.body.len())
}

/// Reads all bytes of a connection, judges them, and answers each whole request by its name.
async fn judging(mut conn: Conn, log: Arc<Mutex<Log>>) {
    let (mut bytes, mut answered) = (Vec::new(), 0);
    while let Some(more) = conn.some().await {
        bytes.extend(more);
        let (requests, rest) = strict::read(&bytes, Form::Canonical);
        let next = &requests[answered..];
        answered = requests.len();
        log.lock().requests.extend_from_slice(next);
        for request in next {
            let head = request.method == "HEAD";
            let answer = whole("200 OK", "x-origin: 1\r\n", &named(request));
            let end = memchr::memmem::find(&answer, b"\r\n\r\n").unwrap() + 4;
            conn.send(if head { &answer[..end] } else { &answer }).await;
        }
        if let Rest::Bad(why) = rest {
            log.lock().faults.push(format!("{why}: {}", bytes.escape_ascii()));
            return;
        }
    }
}

/// What came of a payload at the client's side.
struct Answers {
    /// Names of the requests that the backend answered.
    from_origin: Vec<String>,
    statuses: Vec<u16>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The probe was answered.
    Probed,
    Closed,
    Silent,
}

async fn exchange(to: SocketAddr, payload: &Payload, piece: usize) -> Answers {
    let mut raw = Raw::connect(to).await;
    for bytes in payload.bytes.chunks(piece) {
        raw.send(bytes).await;
        // not in one read with what follows, mostly
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    raw.send(&payload.probe()).await;
    let mut answers = Answers { from_origin: Vec::new(), statuses: Vec::new(), end: End::Silent };
    loop {
        let Some(reply) = raw.reply().await else {
            if raw.ends().await {
                answers.end = End::Closed;
            }
            return answers;
        };
        if reply.status < 200 {
            continue;
        }
        answers.statuses.push(reply.status);
        if reply.header("x-origin").is_some() {
            let name = String::from_utf8(reply.body).unwrap();
            let probe = name == payload.probe_name();
            answers.from_origin.push(name);
            if probe {
                answers.end = End::Probed;
                return answers;
            }
        }
    }
}

/// One payload; what is wrong with what came of it.
async fn judge(
    to: SocketAddr,
    payload: &Payload,
    piece: usize,
    log: &Mutex<Log>,
) -> Result<Answers, String> {
    let answers = exchange(to, payload, piece).await;
    let sent = [payload.bytes.as_slice(), &payload.probe()].concat();
    let (possible, rest) = strict::read(&sent, Form::Strict);
    let reached: Vec<Request> =
        log.lock().requests.iter().filter(|one| payload.is_of(&one.target)).cloned().collect();
    let mut possible_names = possible.iter().map(named);
    for request in &reached {
        if !possible_names.any(|name| name == named(request)) {
            return Err(format!("the backend got {request:?}, the client sent {possible:?}"));
        }
        let body = |one: &&Request| named(one) == named(request) && one.body == request.body;
        if !possible.iter().any(|one| body(&one)) {
            return Err(format!("another body: {request:?}"));
        }
    }
    let reached: Vec<String> = reached.iter().map(named).collect();
    // a call whose connection was closed for what came behind it may have been made
    let unheard = answers.end == End::Closed && reached.starts_with(&answers.from_origin);
    if reached != answers.from_origin && !unheard {
        return Err(format!("answered for {:?}, the backend got {reached:?}", answers.from_origin));
    }
    if answers.end == End::Silent && rest != Rest::Part {
        return Err(format!("no answer to the probe, and no end: {:?}", answers.statuses));
    }
    // another client, whom nothing of it may touch
    let innocent = format!("/innocent/{}", payload.number);
    let got = ask(to, &get(&innocent, "")).await;
    if got.text() != format!("GET {innocent} 0") {
        return Err(format!("another client was answered {got:?}"));
    }
    Ok(answers)
}

/// All payloads, to this path, in writes of this size.
async fn all(target: &str, piece: usize) {
    let log = Arc::<Mutex<Log>>::default();
    let known = Arc::clone(&log);
    let origin = Origin::start(move |conn| judging(conn, Arc::clone(&known))).await;
    let app = open(&origin.url(), "", "");
    let payloads = payloads::all(target);
    assert!(payloads.len() >= 120, "{}", payloads.len());
    let (to, mut running, mut faults) = (app.addr, JoinSet::new(), Vec::new());
    let (mut passed, mut refused) = (0, 0);
    let mut left = payloads.into_iter();
    loop {
        while running.len() < 8 {
            let Some(payload) = left.next() else { break };
            let log = Arc::clone(&log);
            running.spawn(async move {
                let came = judge(to, &payload, piece, &log).await;
                (payload, came)
            });
        }
        let Some(done) = running.join_next().await else { break };
        match done.unwrap() {
            (payload, Err(fault)) => faults.push(format!("{}: {fault}", payload.name)),
            (payload, Ok(answers)) => {
                let own = answers.from_origin.iter().any(|name| *name != payload.probe_name());
                passed += usize::from(own);
                refused += usize::from(answers.statuses.iter().any(|status| *status >= 400));
                if payload.fine != own {
                    faults.push(format!("{}: {:?}", payload.name, answers.from_origin));
                }
            }
        }
    }
    let log = std::mem::take(&mut *log.lock());
    faults.extend(log.faults);
    assert!(faults.is_empty(), "{}:\n{}", faults.len(), faults.join("\n"));
    // a gate that let nothing through, or all, would have been found out above; this is for sure
    assert!(passed >= 20 && refused >= 80, "{passed} went on, {refused} were refused");
    until("it is over", async || app.state()["connections"] == 0).await;
    after::at_rest(&app).await;
    after::logged_once(&app).await;
    after::let_go(&app, &origin).await;
}

/// The body is read before it is sent on.
#[tokio::test]
async fn a23_smuggling_where_bodies_are_read() {
    all(CHAT, usize::MAX).await;
}

/// The body streams through as it comes.
#[tokio::test]
async fn a23_smuggling_where_bodies_stream() {
    all(UPLOAD, usize::MAX).await;
}

/// Cut between CR and LF, within sizes, before colons: a reader's state must not depend on reads.
#[tokio::test]
async fn a23_smuggling_in_pieces() {
    all(CHAT, 7).await;
    all(UPLOAD, 3).await;
}
