#![allow(clippy::unwrap_used)]
mod ends;

use std::cell::RefCell;
use std::fs;
use std::net::IpAddr;
use std::rc::Rc;

use aws_lc_rs::hmac;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{sleep, timeout};

use super::*;
use crate::config::{Host, Origin, SigningSecret, TaskEnd, Webhook};
use crate::drain;
use crate::upstream::dns::Dns;

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FtcGxlLXNlY3JldC1vZi0yNC1ieXRlcw==";
const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
/// Far longer than anything here takes: what exceeds it hangs.
const HANGS: Duration = Duration::from_mins(1);

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let future = async { timeout(HANGS, future).await.expect("it hangs") };
    LocalSet::new().block_on(&runtime, future)
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        sleep(Duration::from_millis(2)).await;
    }
}

/// One request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    head: String,
    body: String,
    at: Instant,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        let line = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}: "));
        let line = self.head.split("\r\n").find(line).unwrap_or_else(|| panic!("{name}: {self:?}"));
        &line[name.len() + 2..]
    }

    /// Whether one of its signatures is by this secret.
    fn signed_by(&self, secret: &str) -> bool {
        let secret = SigningSecret::read(secret).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
        let at = self.header("webhook-timestamp").parse().unwrap();
        let expected = sign::signatures(&[key], self.header("webhook-id"), at, &self.body);
        self.header("webhook-signature").split(' ').any(|one| one == expected)
    }
}

/// A receiver that answers by its script; the last answer goes on. An empty one: it never answers.
struct Receiver {
    port: u16,
    asked: Rc<RefCell<Vec<Asked>>>,
    /// Connections so far.
    opened: Rc<RefCell<usize>>,
}

impl Receiver {
    async fn new(script: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Rc::<RefCell<Vec<Asked>>>::default();
        let opened = Rc::<RefCell<usize>>::default();
        let seen = (Rc::clone(&asked), Rc::clone(&opened));
        let script: Vec<String> = script.iter().map(|&answer| answer.to_owned()).collect();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *seen.1.borrow_mut() += 1;
                tokio::task::spawn_local(answer(stream, script.clone(), Rc::clone(&seen.0)));
            }
        });
        Self { port, asked, opened }
    }

    fn count(&self) -> usize {
        self.asked.borrow().len()
    }

    fn asked(&self, at: usize) -> Asked {
        self.asked.borrow()[at].clone()
    }
}

async fn answer(mut stream: TcpStream, script: Vec<String>, asked: Rc<RefCell<Vec<Asked>>>) {
    let mut got = Vec::new();
    let mut buf = [0; 4096];
    let (head, body) = loop {
        let Ok(n @ 1..) = stream.read(&mut buf).await else { return };
        got.extend_from_slice(&buf[..n]);
        let text = String::from_utf8_lossy(&got).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).expect("a length");
        if body.len() == length.split("\r\n").next().unwrap().parse::<usize>().unwrap() {
            break (head.to_owned(), body.to_owned());
        }
    };
    let index = asked.borrow().len().min(script.len() - 1);
    asked.borrow_mut().push(Asked { head, body, at: Instant::now() });
    if script[index].is_empty() {
        std::future::pending::<()>().await;
    }
    let _ = stream.write_all(script[index].as_bytes()).await;
}

/// A target on this machine, with all that it may have.
fn hook(name: &str, port: u16, secrets: &[&str]) -> Webhook {
    Webhook {
        name: name.into(),
        origin: Origin { tls: false, host: Host::Name("127.0.0.1".into()), port, path: "".into() },
        path: "/hook/".into(),
        query: Some(config::Secret::new("code=1")),
        secrets: secrets.iter().map(|secret| SigningSecret::read(secret).unwrap()).collect(),
        events: TaskEnd::ALL.to_vec(),
        private: true,
    }
}

/// Pauses in milliseconds instead of hours.
fn terms(pauses: &[u64]) -> Terms {
    let schedule = pauses.iter().map(|ms| Duration::from_millis(*ms)).collect();
    Terms { schedule, timeout: HANGS, spacing: Duration::ZERO }
}

/// A store in a directory of its own, and what sends from it.
struct World {
    directory: TempDir,
    store: Arc<Store>,
    webhooks: Arc<Webhooks>,
}

impl World {
    fn new(hooks: &[Webhook], terms: Terms) -> Self {
        Self::at(tempfile::tempdir().unwrap(), hooks, terms)
    }

    fn at(directory: TempDir, hooks: &[Webhook], terms: Terms) -> Self {
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let sender = Sender::new().unwrap();
        let webhooks = Webhooks::with(Arc::clone(&store), hooks, terms, sender).unwrap();
        Self { directory, store, webhooks: Arc::new(webhooks) }
    }

    fn run(&self) -> JoinHandle<()> {
        let webhooks = Arc::clone(&self.webhooks);
        tokio::task::spawn_local(async move { webhooks.run(&drain::pair().1).await })
    }

    async fn tell(&self, name: &str, id: &str, event: &str) {
        self.try_to_tell(name, id, event).await.unwrap();
    }

    async fn try_to_tell(&self, name: &str, id: &str, event: &str) -> Result<(), NotifyError> {
        let posted = self.webhooks.post(name, id, (event, 1_700_000_000), &json!({ "id": id }));
        posted?.kept().await
    }

    fn rows(&self) -> Vec<Delivery> {
        let rows = self.store.scan(Table::Webhooks).unwrap();
        rows.iter().map(|(key, value)| Delivery::read(key, value).expect("a row")).collect()
    }

    /// Nothing is left, neither here nor on the disk.
    async fn over(&self) {
        until(|| self.webhooks.figures().waiting == 0 && self.rows().is_empty()).await;
    }

    /// What a crash at this moment would leave.
    fn as_a_crash_leaves_it(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        for file in fs::read_dir(self.directory.path()).unwrap() {
            let from = file.unwrap().path();
            fs::copy(&from, copy.path().join(from.file_name().unwrap())).unwrap();
        }
        copy
    }
}

#[test]
fn a_message_is_kept_then_sent_signed_then_over() {
    block_on(async {
        let receiver = Receiver::new(&[OK]).await;
        let world = World::new(&[hook("ops", receiver.port, &[OLD])], terms(&[0]));
        world.tell("ops", "task_1", "task.succeeded").await;
        let [row] = &world.rows()[..] else { panic!("one row") };
        assert_eq!((&*row.to, row.attempts), ("ops", 0));
        world.run();
        world.over().await;
        let asked = receiver.asked(0);
        assert!(asked.head.starts_with("POST /hook/?code=1 HTTP/1.1\r\n"), "{asked:?}");
        assert_eq!(asked.header("content-type"), "application/json");
        assert_eq!(asked.header("host"), format!("127.0.0.1:{}", receiver.port));
        assert_eq!(asked.header("webhook-id"), &*row.id);
        assert!(asked.signed_by(OLD) && !asked.signed_by(NEW));
        assert_eq!(asked.body, *row.body);
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(body["type"], "task.succeeded");
        assert_eq!(body["data"], json!({ "id": "task_1" }));
        assert_eq!(body["timestamp"], "2023-11-14T22:13:20Z", "when it came, not when it was told");
        let figures = Figures { waiting: 0, delivered: 1, failed: 0, given_up: 0 };
        assert_eq!((world.webhooks.figures(), receiver.count()), (figures, 1));
    });
}

#[test]
fn while_secrets_rotate_each_signs() {
    block_on(async {
        let receiver = Receiver::new(&[OK]).await;
        let world = World::new(&[hook("ops", receiver.port, &[NEW, OLD])], terms(&[0]));
        world.run();
        world.tell("ops", "task_1", "task.failed").await;
        until(|| receiver.count() == 1).await;
        let asked = receiver.asked(0);
        assert!(asked.signed_by(OLD) && asked.signed_by(NEW));
        // the old one is taken out of the file, and the policy read again
        world.webhooks.set(&[hook("ops", receiver.port, &[NEW])]);
        world.tell("ops", "task_2", "task.failed").await;
        until(|| receiver.count() == 2).await;
        let asked = receiver.asked(1);
        assert!(!asked.signed_by(OLD) && asked.signed_by(NEW));
    });
}

#[test]
fn a_redirect_is_a_failure_and_not_followed() {
    block_on(async {
        let elsewhere = Receiver::new(&[OK]).await;
        let moved = |status: &str| {
            let port = elsewhere.port;
            format!(
                "HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n"
            )
        };
        let script = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"];
        let script: Vec<String> = script.into_iter().map(moved).chain([OK.to_owned()]).collect();
        let script: Vec<&str> = script.iter().map(String::as_str).collect();
        let receiver = Receiver::new(&script).await;
        let world = World::new(&[hook("ops", receiver.port, &[OLD])], terms(&[0; 9]));
        world.run();
        world.tell("ops", "task_1", "task.failed").await;
        world.over().await;
        assert_eq!((receiver.count(), *elsewhere.opened.borrow()), (6, 0));
        let ids: Vec<String> =
            (0..6).map(|at| receiver.asked(at).header("webhook-id").to_owned()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert!((0..6).all(|at| receiver.asked(at).body == receiver.asked(0).body));
        let figures = Figures { waiting: 0, delivered: 1, failed: 5, given_up: 0 };
        assert_eq!(world.webhooks.figures(), figures);
    });
}

#[test]
fn any_2xx_is_taken_for_success_and_nothing_else() {
    block_on(async {
        for (status, well) in [
            ("200 OK", true),
            ("202 Accepted", true),
            ("299 Odd", true),
            ("300 Choices", false),
            ("400 Bad", false),
            ("401 Who", false),
            ("404 Not Found", false),
            ("500 Broken", false),
            ("503 Later", false),
        ] {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            let receiver = Receiver::new(&[&answer]).await;
            let world = World::new(&[hook("ops", receiver.port, &[OLD])], terms(&[0, 1]));
            world.run();
            world.tell("ops", "task_1", "task.failed").await;
            world.over().await;
            assert_eq!(world.webhooks.figures().delivered, u64::from(well), "{status}");
            assert_eq!(receiver.count(), if well { 1 } else { 2 }, "{status}");
        }
    });
}

#[test]
fn a_410_ends_that_message_for_good_and_no_other() {
    block_on(async {
        let gone = "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n";
        let receiver = Receiver::new(&[gone, OK]).await;
        let world = World::new(&[hook("ops", receiver.port, &[OLD])], terms(&[0; 9]));
        world.run();
        world.tell("ops", "task_1", "task.failed").await;
        world.over().await;
        world.tell("ops", "task_2", "task.failed").await;
        until(|| world.webhooks.figures().delivered == 1).await;
        assert_eq!(receiver.count(), 2);
        assert_ne!(receiver.asked(0).header("webhook-id"), receiver.asked(1).header("webhook-id"));
        assert_eq!(world.webhooks.figures().given_up, 1);
    });
}

#[test]
fn retry_after_is_waited_for() {
    block_on(async {
        let later = "HTTP/1.1 503 Later\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n";
        let receiver = Receiver::new(&[later, OK]).await;
        let world = World::new(&[hook("ops", receiver.port, &[OLD])], terms(&[0, 1]));
        world.run();
        world.tell("ops", "task_1", "task.failed").await;
        until(|| receiver.count() == 2).await;
        let pause = receiver.asked(1).at - receiver.asked(0).at;
        // due times are whole milliseconds of the wall clock
        assert!(pause > Duration::from_millis(990), "{pause:?}");
    });
}

#[test]
fn after_the_last_attempt_it_is_given_up() {
    block_on(async {
        let receiver = Receiver::new(&[BROKEN]).await;
        let world = World::new(&[hook("ops", receiver.port, &[OLD])], terms(&[0, 1, 1, 1]));
        world.run();
        world.tell("ops", "task_1", "task.failed").await;
        world.over().await;
        assert_eq!(receiver.count(), 4);
        let figures = Figures { waiting: 0, delivered: 0, failed: 4, given_up: 1 };
        assert_eq!(world.webhooks.figures(), figures);
    });
}

#[test]
fn a_crash_in_the_middle_of_the_schedule_forgets_no_attempt() {
    block_on(async {
        let receiver = Receiver::new(&[BROKEN]).await;
        let hooks = [hook("ops", receiver.port, &[OLD])];
        let schedule = terms(&[0, 1, 1500, 1]);
        let world = World::new(&hooks, schedule.clone());
        let unsent = {
            world.tell("ops", "task_1", "task.failed").await;
            world.as_a_crash_leaves_it()
        };
        let running = world.run();
        // the second attempt has failed, and the third has its time
        until(|| world.rows().first().is_some_and(|row| row.attempts == 2)).await;
        let left = world.as_a_crash_leaves_it();
        let row = world.rows().remove(0);
        running.abort();
        let first = receiver.asked(0);
        drop(world);

        let after = World::at(left, &hooks, schedule.clone());
        assert_eq!(after.rows(), std::slice::from_ref(&row));
        let running = after.run();
        after.over().await;
        assert_eq!(receiver.count(), 4, "two before, two after");
        assert!(receiver.asked(2).at - receiver.asked(1).at > Duration::from_millis(1100));
        let again = receiver.asked(2);
        assert_eq!((again.header("webhook-id"), &again.body), (&*row.id, &first.body));
        running.abort();
        drop(after);

        // nothing had been sent: nothing is lost
        let after = World::at(unsent, &hooks, schedule);
        after.run();
        until(|| receiver.count() == 5).await;
        assert_eq!(receiver.asked(4).header("webhook-id"), &*row.id);
    });
}

#[test]
fn what_is_dropped_on_its_way_is_sent_again() {
    block_on(async {
        let receiver = Receiver::new(&["", OK]).await;
        let world = World::new(&[hook("ops", receiver.port, &[OLD])], terms(&[0]));
        let running = world.run();
        world.tell("ops", "task_1", "task.failed").await;
        until(|| receiver.count() == 1).await;
        running.abort();
        let _ = running.await;
        assert_eq!(world.webhooks.figures().waiting, 1);
        world.run();
        world.over().await;
        assert_eq!((receiver.count(), world.webhooks.figures().delivered), (2, 1));
    });
}

/// What one attempt at this host comes to, and how often it connected.
async fn attempt(host: &str, private: bool) -> (Outcome, usize) {
    let receiver = Receiver::new(&[OK]).await;
    let mut config = hook("ops", receiver.port, &[OLD]);
    config.origin.host = Host::Name(host.into());
    config.private = private;
    let dns = || {
        Dns::with(Box::new(|name| {
            let address: IpAddr = match name {
                "inside.example" => [127, 0, 0, 1].into(),
                "mapped.example" => "::ffff:127.0.0.1".parse().unwrap(),
                _ => [169, 254, 169, 254].into(),
            };
            Box::pin(async move { Ok(vec![address]) })
        }))
    };
    let Sender { public, private } = Sender::new().unwrap();
    let sender = Sender { public: public.with_dns(dns()), private: private.with_dns(dns()) };
    let delivery =
        Delivery { id: "msg_1".into(), to: "ops".into(), body: "{}".into(), attempts: 0, due: 0 };
    let outcome = sender.send(&Hook::new(&config), &delivery, HANGS).await;
    let opened = *receiver.opened.borrow();
    (outcome, opened)
}

#[test]
fn addresses_that_are_not_public_are_refused_unless_allowed() {
    block_on(async {
        let hosts = ["127.0.0.1", "localhost", "inside.example", "mapped.example", "cloud.example"];
        for host in hosts.into_iter().chain(["::1", "::ffff:127.0.0.1", "10.0.0.1", "0.0.0.0"]) {
            let (outcome, opened) = attempt(host, false).await;
            assert!(outcome.to_string().ends_with(": at no public address"), "{host}: {outcome}");
            assert_eq!(opened, 0, "{host}");
        }
        for host in ["127.0.0.1", "localhost", "inside.example"] {
            assert_eq!(attempt(host, true).await, (Outcome::Delivered, 1), "{host}");
        }
    });
}

#[test]
fn a_receiver_that_hangs_delays_itself_alone() {
    block_on(async {
        let (hung, well) = (Receiver::new(&[""]).await, Receiver::new(&[OK]).await);
        let hooks = [hook("hung", hung.port, &[OLD]), hook("well", well.port, &[OLD])];
        let world = World::new(&hooks, terms(&[0]));
        world.run();
        for at in 0..20 {
            world.tell("hung", &format!("task_{at}"), "task.failed").await;
        }
        until(|| hung.count() == 2).await;
        for at in 0..20 {
            world.tell("well", &format!("task_{at}"), "task.failed").await;
        }
        until(|| well.count() == 20).await;
        assert_eq!(*hung.opened.borrow(), 2);
    });
}

#[test]
fn no_answer_in_time_is_a_failure() {
    block_on(async {
        let receiver = Receiver::new(&["", OK]).await;
        let patience = Terms { timeout: Duration::from_millis(100), ..terms(&[0, 1]) };
        let world = World::new(&[hook("ops", receiver.port, &[OLD])], patience);
        world.run();
        world.tell("ops", "task_1", "task.failed").await;
        until(|| world.webhooks.figures().delivered == 1).await;
        assert_eq!((receiver.count(), world.webhooks.figures().failed), (2, 1));
    });
}

#[test]
fn who_is_told_of_what_is_for_the_policy() {
    block_on(async {
        let receiver = Receiver::new(&[OK]).await;
        let wants = Webhook { events: vec![TaskEnd::Failed], ..hook("ops", receiver.port, &[OLD]) };
        let world = World::new(&[wants], terms(&[0]));
        assert!(world.webhooks.knows("ops") && !world.webhooks.knows("op"));
        let unknown = world.try_to_tell("op", "task_1", "task.failed").await;
        assert_eq!(unknown, Err(NotifyError::Unknown));
        for event in ["task.succeeded", "failed", "task.running", ""] {
            world.tell("ops", "task_1", event).await;
        }
        assert!(world.rows().is_empty());
        // told of twice, as after a crash
        world.tell("ops", "task_1", "task.failed").await;
        world.tell("ops", "task_1", "task.failed").await;
        assert_eq!((world.rows().len(), world.webhooks.figures().waiting), (1, 1));
    });
}

#[test]
fn a_target_that_leaves_the_policy_and_comes_back_is_told() {
    block_on(async {
        let receiver = Receiver::new(&[OK]).await;
        let hooks = [hook("ops", receiver.port, &[OLD])];
        let world = World::new(&hooks, terms(&[0, 10, 10, 10, 10, 60_000]));
        world.tell("ops", "task_1", "task.failed").await;
        world.webhooks.set(&[]);
        world.run();
        until(|| world.webhooks.figures().failed > 0).await;
        assert_eq!(receiver.count(), 0);
        world.webhooks.set(&hooks);
        until(|| world.webhooks.figures().delivered == 1).await;
    });
}

#[test]
fn a_store_that_fails_is_told_of_and_nothing_is_promised() {
    block_on(async {
        let receiver = Receiver::new(&[OK]).await;
        let world = World::new(&[hook("ops", receiver.port, &[OLD])], terms(&[0]));
        world.run();
        world.store.close(HANGS);
        let told = world.try_to_tell("ops", "task_1", "task.failed").await;
        assert_eq!(told, Err(NotifyError::Store(Failed::Closed)));
        assert_eq!((world.webhooks.figures().waiting, receiver.count()), (0, 0));
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a small file of a test")]
fn no_secret_is_in_a_row() {
    block_on(async {
        let world = World::new(&[hook("ops", 1, &[OLD])], terms(&[0]));
        world.tell("ops", "task_1", "task.failed").await;
        assert!(world.store.flush(HANGS));
        let bytes = fs::read(world.directory.path().join(crate::store::DATABASE)).unwrap();
        let holds = |what: &[u8]| memchr::memmem::find(&bytes, what).is_some();
        assert!(holds(b"task_1"), "the row is there");
        let secret = SigningSecret::read(OLD).unwrap();
        assert!(!holds(&OLD.as_bytes()[6..]) && !holds(secret.expose()) && !holds(b"code=1"));
    });
}

#[test]
fn a_row_that_nobody_can_read_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path()).unwrap());
    store.put(Table::Webhooks, b"msg_1", b"not JSON");
    assert!(store.flush(HANGS));
    let webhooks = Webhooks::new(Arc::clone(&store), &[]).unwrap();
    assert_eq!(webhooks.figures().waiting, 0);
    assert!(store.flush(HANGS) && store.scan(Table::Webhooks).unwrap().is_empty());
}
