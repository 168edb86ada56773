//! What callers were told, and whether it still holds.
use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use serde_json::Value;

use super::load::Asker;
use super::{CHAT, Work};
use crate::support::Dice;
use crate::support::client::{Answer, get, request};

const OPEN: [&str; 4] = ["queued", "running", "retry_wait", "cancelling"];
const OVER: [&str; 5] = ["succeeded", "failed", "cancelled", "expired", "interrupted"];

/// A task that a caller knows the id of.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) work: Work,
    pub(super) keyed: bool,
    /// It was to be cancelled.
    pub(super) cancel: bool,
    /// The object, once it was told to be over.
    over: Option<String>,
    /// Status, type and body.
    result: Option<(u16, Option<String>, Vec<u8>)>,
    /// The last of its events that was read, and the answer that it was of.
    pub(super) event: u64,
    answer: Option<String>,
}

#[derive(Default)]
struct Pages {
    tasks: Vec<Task>,
    numbered: HashMap<u64, usize>,
    /// Asked for with a key, and killed before they were answered.
    unanswered: Vec<(u64, Work)>,
    next: u64,
    events: HashMap<(u64, u64), String>,
    looks: u64,
    results: u64,
    again: u64,
    restarts: u64,
}

#[derive(Default)]
pub(super) struct Ledger(Mutex<Pages>);

/// `task`, `<task:answer>` of a text that the backend has made.
fn made(text: &str) -> Option<&str> {
    text.split_once('<')?.1.split_once('>').map(|(made, _)| made).filter(|made| made.contains(':'))
}

pub(super) fn submission(number: u64, work: Work, keyed: bool) -> Vec<u8> {
    let key = if keyed { format!("idempotency-key: key-{number}\r\n") } else { String::new() };
    let lines = format!("content-type: application/json\r\nprefer: respond-async\r\n{key}");
    request("POST", CHAT, &lines, &work.body(number))
}

impl Ledger {
    pub(super) fn new_number(&self) -> u64 {
        let mut pages = self.0.lock();
        pages.next += 1;
        pages.next
    }

    pub(super) fn any(&self, dice: &mut Dice) -> Option<Task> {
        let pages = self.0.lock();
        let count = pages.tasks.len() as u64;
        // the newest are those to which something happens
        let newest = count.min(40);
        let at = if dice.roll(4) == 0 {
            dice.roll(count.max(1))
        } else {
            count - newest + dice.roll(newest.max(1))
        };
        pages.tasks.get(at as usize).cloned()
    }

    pub(super) fn open(&self) -> usize {
        self.0.lock().tasks.iter().rev().take(2000).filter(|task| task.over.is_none()).count()
    }

    pub(super) fn a_stream(&self, dice: &mut Dice) -> Option<Task> {
        let pages = self.0.lock();
        let streams = pages.tasks.iter().rev().filter(|task| task.work == Work::Streamed);
        let some: Vec<_> = streams.take(12).collect();
        some.get(dice.roll(some.len().max(1) as u64) as usize).copied().cloned()
    }

    /// Takes a task on, as a caller does; once more, if it was never answered.
    pub(super) async fn submit(&self, asker: &mut Asker, dice: &mut Dice) -> Option<()> {
        let unanswered = self.0.lock().unanswered.pop();
        let (number, work, keyed) = if let Some((number, work)) = unanswered {
            (number, work, true)
        } else {
            let work = Work::ALL[dice.roll(Work::DRAWN) as usize];
            // with a key of its caller it may be repeated
            (self.new_number(), work, work != Work::Once && dice.roll(2) == 0)
        };
        match asker.ask(&submission(number, work, keyed)).await {
            Some(answer) => self.taken_on(&answer, number, work, keyed),
            None if keyed => {
                self.0.lock().unanswered.push((number, work));
                return None;
            }
            None => return None,
        }
        Some(())
    }

    pub(super) fn taken_on(&self, answer: &Answer, number: u64, work: Work, keyed: bool) {
        assert!(matches!(answer.status, 200 | 202), "{number}: {answer:?}");
        let object = answer.json();
        let id = object["id"].as_str().unwrap().to_owned();
        assert_eq!(answer.head.get("location"), Some(&*format!("/-/tasks/{id}")));
        let mut pages = self.0.lock();
        if let Some(at) = pages.numbered.get(&number) {
            assert_eq!(pages.tasks[*at].id, id, "the key of {number} named another task");
            pages.again += 1;
            return;
        }
        let task = Task {
            id,
            number,
            work,
            keyed,
            cancel: false,
            over: None,
            result: None,
            event: 0,
            answer: None,
        };
        let at = pages.tasks.len();
        pages.numbered.insert(number, at);
        pages.tasks.push(task);
    }

    pub(super) fn is_to_be_cancelled(&self, task: &Task) {
        self.change(task, |task| task.cancel = true);
    }

    fn change<T>(&self, task: &Task, change: impl FnOnce(&mut Task) -> T) -> T {
        let mut pages = self.0.lock();
        let at = pages.numbered[&task.number];
        change(&mut pages.tasks[at])
    }

    /// Whether it is over; `None`: it was killed.
    pub(super) async fn look(&self, asker: &mut Asker, task: &Task) -> Option<bool> {
        let before = self.change(task, |task| task.over.clone());
        let answer = asker.ask(&get(&format!("/-/tasks/{}", task.id), "")).await?;
        assert_eq!(answer.status, 200, "{task:?} is not there: {answer:?}");
        Some(self.seen(task, before.as_deref(), &answer))
    }

    /// An answer that is the task's object; `before`: what was known when it was asked for.
    pub(super) fn seen(&self, task: &Task, before: Option<&str>, answer: &Answer) -> bool {
        let (text, object) = (answer.text(), answer.json());
        let state = object["state"].as_str().unwrap();
        let over = OVER.contains(&state);
        assert!(over || OPEN.contains(&state), "{text}");
        assert_eq!(object["id"], *task.id);
        assert!(object["attempts"].as_u64().unwrap() <= 3, "{text}");
        assert!(
            state != "cancelled" || self.change(task, |task| task.cancel),
            "nobody asked: {text}"
        );
        if let Some(before) = before {
            assert_eq!(text, before, "what was over has changed: {task:?}");
        }
        self.0.lock().looks += 1;
        if over {
            let known = self.change(task, |task| task.over.get_or_insert(text.to_owned()).clone());
            assert_eq!(text, known, "two ends: {task:?}");
        }
        over
    }

    /// Reads its result, which may not be there yet.
    pub(super) async fn result(&self, asker: &mut Asker, task: &Task) -> Option<()> {
        let over = self.change(task, |task| task.over.clone());
        let answer = asker.ask(&get(&format!("/-/tasks/{}/result", task.id), "")).await?;
        if answer.status == 202 {
            assert_eq!(over, None, "it was over: {task:?}");
            return Some(());
        }
        let of = answer.head.get("content-type").map(str::to_owned);
        let said = (answer.status, of, answer.body.clone());
        let known = self.change(task, |task| task.result.get_or_insert(said.clone()).clone());
        assert_eq!(said, known, "two results: {task:?}");
        self.0.lock().results += 1;
        // one with a result is over
        assert!(self.look(asker, task).await?, "{task:?}: {answer:?}");
        let object = self.change(task, |task| task.over.clone()).unwrap();
        let object: Value = serde_json::from_str(&object).unwrap();
        self.fits(task, &object, &answer);
        Some(())
    }

    /// Whether the end and the result are of one kind, and of this task.
    fn fits(&self, task: &Task, object: &Value, answer: &Answer) {
        let text = answer.text();
        if let Some(made) = made(text) {
            assert!(made.starts_with(&format!("{}:", task.number)), "{task:?}: {text}");
        }
        match (object["state"].as_str().unwrap(), task.work) {
            ("succeeded", work) => {
                assert!(
                    answer.status == 200 && work != Work::Bad && made(text).is_some(),
                    "{object} {text}"
                );
                let parts = if work == Work::Streamed { 8 } else { 1 };
                assert_eq!(text.matches(made(text).unwrap()).count(), parts, "{text}");
                let end = if work == Work::Streamed { "data: [DONE]\n\n" } else { "}}" };
                assert!(text.ends_with(end), "{text}");
                assert_eq!(object["progress"]["bytes"], answer.body.len());
            }
            ("failed", Work::Bad) => assert_eq!(answer.status, 400, "{object} {text}"),
            ("failed", Work::Bare) => {
                assert_eq!(object["error"]["type"], "credential_lost", "{object} {text}");
            }
            ("failed", Work::Flaky) => assert_eq!(answer.status, 500, "{object} {text}"),
            ("interrupted", _) => assert_ne!(answer.status, 202, "{object}"),
            ("cancelled", _) if self.change(task, |task| task.cancel) => {}
            _ => panic!("{task:?} may not have ended so: {object} {text}"),
        }
    }

    /// An event of a task; no number may have two contents, and no two answers may be mixed.
    pub(super) fn event(&self, task: &Task, number: u64, name: &str, data: &str) {
        let mut pages = self.0.lock();
        let whole = format!("{name} {data}");
        if name != "task.restarted" {
            let known = pages.events.entry((task.number, number)).or_insert(whole.clone());
            assert_eq!(*known, whole, "event {number} of {task:?}");
        }
        pages.restarts += u64::from(name == "task.restarted");
        let at = pages.numbered[&task.number];
        let task = &mut pages.tasks[at];
        assert!(number > task.event, "event {number} after {}: {task:?}", task.event);
        task.event = number;
        if name == "task.restarted" {
            task.answer = None;
        } else if let Some(made) = made(data) {
            let known = task.answer.get_or_insert(made.to_owned()).clone();
            assert_eq!(known, made, "two answers in one: {task:?}");
        }
    }

    /// Looks at all that were open when they were last seen; whether all are over.
    pub(super) async fn look_at_all_open(&self, asker: &mut Asker) -> Option<bool> {
        let open: Vec<_> =
            self.0.lock().tasks.iter().filter(|task| task.over.is_none()).cloned().collect();
        let mut all = true;
        for task in open {
            all &= self.look(asker, &task).await?;
        }
        Some(all)
    }

    /// Each task, each result, each key.
    pub(super) async fn look_at_everything(&self, asker: &mut Asker) -> Option<()> {
        let tasks = self.0.lock().tasks.clone();
        for task in tasks {
            self.look(asker, &task).await?;
            self.result(asker, &task).await?;
            if task.keyed {
                let answer = asker.ask(&submission(task.number, task.work, true)).await?;
                self.taken_on(&answer, task.number, task.work, true);
            }
        }
        Some(())
    }

    pub(super) fn nothing_was_done_twice(&self, asked: &HashMap<u64, u64>) {
        for task in self.0.lock().tasks.iter().filter(|task| task.work == Work::Once) {
            let times = asked.get(&task.number).copied().unwrap_or_default();
            assert!(times <= 1, "done {times} times: {task:?}");
        }
    }

    fn states(&self) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for task in &self.0.lock().tasks {
            let state = task.over.as_ref().map_or("open".to_owned(), |object| {
                let object: Value = serde_json::from_str(object).unwrap();
                object["state"].as_str().unwrap().to_owned()
            });
            *states.entry(state).or_default() += 1;
        }
        states
    }

    pub(super) fn figures(&self) -> String {
        let states = self.states();
        let pages = self.0.lock();
        format!(
            "{} tasks {states:?}; {} looks, {} results, {} keys again, {} events, {} restarts told",
            pages.tasks.len(),
            pages.looks,
            pages.results,
            pages.again,
            pages.events.len(),
            pages.restarts
        )
    }

    /// A load under which nothing could have gone wrong proves nothing.
    pub(super) fn was_worth_it(&self, kills: u64) {
        let states = self.states();
        for state in ["succeeded", "failed", "cancelled", "interrupted"] {
            assert!(states.contains_key(state), "no task was {state}: {}", self.figures());
        }
        let pages = self.0.lock();
        assert!(pages.tasks.len() as u64 > 3 * kills, "{} tasks", pages.tasks.len());
        assert!(pages.again > 0 && pages.events.len() as u64 > kills && pages.results > kills);
    }
}
