//! Tasks as people read them: pure text from what an instance told.
use std::fmt::Write as _;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::cli::cells::{bytes, dollars, name, put_rows, short, time};
use crate::telemetry::view::{TaskListView, TaskView};

const HEADS: [&str; 9] =
    ["ID", "STATE", "AGENT", "MODEL", "OPERATION", "AGE", "TOOK", "TRIES", "TOKENS"];

pub(super) fn list(list: &TaskListView) -> String {
    if list.tasks.is_empty() {
        return "no tasks\n".to_owned();
    }
    let now = now_ms();
    let rows: Vec<_> = list.tasks.iter().map(|task| row(task, now)).collect();
    let mut out = String::new();
    put_rows(&mut out, HEADS, &[0, 1, 2, 3, 4], &rows);
    if let (true, Some(last)) = (list.more, list.tasks.last()) {
        // writing to a String cannot fail
        let _ = writeln!(out, "older ones: --after {}", plain(&last.id));
    }
    out
}

fn row(task: &TaskView, now_ms: u64) -> [String; HEADS.len()] {
    [
        plain(&task.id),
        state(task),
        name(&task.agent),
        name(&task.model),
        name(&task.operation),
        time(now_ms.saturating_sub(task.created_ms)),
        took(task).map_or_else(|| "–".to_owned(), time),
        task.attempts.to_string(),
        short(task.output_tokens),
    ]
}

/// `queued #3`: with its place in its agent's line, where it waits.
fn state(task: &TaskView) -> String {
    match task.position {
        Some(before) => format!("{} #{}", name(&task.state), before + 1),
        None => name(&task.state),
    }
}

/// From the first attempt to the end, where it is over.
fn took(task: &TaskView) -> Option<u64> {
    Some(task.finished_ms?.saturating_sub(task.started_ms?))
}

/// All of it, a fact a line.
pub(super) fn one(task: &TaskView) -> String {
    let mut out = String::new();
    let mut fact = |what: &str, value: String| {
        if !value.is_empty() {
            // writing to a String cannot fail
            let _ = writeln!(out, "{what:<10} {value}");
        }
    };
    let said = |text: &str| if text.is_empty() { String::new() } else { name(text) };
    fact("id", plain(&task.id));
    fact("state", state(task));
    fact("agent", name(&task.agent));
    fact("rung", said(&task.rung));
    fact("team", said(&task.team));
    fact("parent", said(&task.parent));
    fact("session", said(&task.session));
    fact("operation", said(&task.operation));
    fact("model", said(&task.model));
    fact("route", said(&task.route));
    fact("stream", if task.stream { "yes".to_owned() } else { "no".to_owned() });
    fact("made", date(task.created_ms));
    fact("started", task.started_ms.map_or_else(String::new, date));
    fact("ended", task.finished_ms.map_or_else(String::new, date));
    fact("next", task.next_ms.map_or_else(String::new, date));
    fact("expires", date(task.expires_ms));
    fact("elapsed", time(task.elapsed_ms));
    fact("attempts", task.attempts.to_string());
    fact("request", bytes(task.request_bytes));
    fact("answer", answer(task));
    let input =
        task.input_tokens.map_or_else(String::new, |input| format!("{} in, ", short(input)));
    fact("tokens", format!("{input}{} out", short(task.output_tokens)));
    let cost = task.cost_microdollars.map(|micro| dollars(micro.saturating_mul(1000)));
    fact("cost", cost.unwrap_or_default());
    fact("webhooks", task.webhooks.iter().map(|it| name(it)).collect::<Vec<_>>().join(", "));
    let error = task.error.as_ref();
    fact(
        "error",
        error.map_or_else(String::new, |it| {
            format!("{}: {}", plain(&it.r#type), plain(&it.message))
        }),
    );
    out
}

/// `200, 12KiB`
fn answer(task: &TaskView) -> String {
    if task.purged {
        return "gone".to_owned();
    }
    match task.status {
        Some(status) => format!("{status}, {}", bytes(task.bytes)),
        None => bytes(task.bytes),
    }
}

/// One line, for who waits: `running, 120 tokens, 3.2KiB, 12s`
pub(super) fn progress(task: &TaskView) -> String {
    let mut line = match task.position {
        Some(0) => format!("{}, next", name(&task.state)),
        Some(before) => format!("{}, {before} before it", name(&task.state)),
        None => name(&task.state),
    };
    // writing to a String cannot fail
    if task.attempts > 1 {
        let _ = write!(line, ", attempt {}", task.attempts);
    }
    if task.bytes > 0 {
        let _ = write!(line, ", {} tokens, {}", short(task.output_tokens), bytes(task.bytes));
    }
    let _ = write!(line, ", {}", time(task.elapsed_ms));
    line
}

/// A word of the program, whole; no character of it moves a cursor.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn date(ms: u64) -> String {
    let at = i64::try_from(ms / 1000).ok().and_then(|at| Timestamp::from_second(at).ok());
    at.map_or_else(|| ms.to_string(), |at| at.to_string())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::view::TaskErrorView;

    fn task() -> TaskView {
        TaskView {
            id: "task_00000000000000000000000000".to_owned(),
            state: "running".to_owned(),
            agent: "bot\u{1b}[2J".to_owned(),
            operation: "chat".to_owned(),
            model: "m".to_owned(),
            created_ms: 1_700_000_000_000,
            elapsed_ms: 12_000,
            attempts: 1,
            bytes: 3300,
            output_tokens: 120,
            ..TaskView::default()
        }
    }

    #[test]
    fn progress_is_one_line() {
        assert_eq!(progress(&task()), "running, 120 tokens, 3.2KiB, 12s");
        let waits = TaskView {
            state: "queued".to_owned(),
            position: Some(3),
            bytes: 0,
            attempts: 0,
            ..task()
        };
        assert_eq!(progress(&waits), "queued, 3 before it, 12s");
        let next = TaskView { position: Some(0), attempts: 2, ..waits };
        assert_eq!(progress(&next), "queued, next, attempt 2, 12s");
    }

    #[test]
    fn a_list_has_a_line_for_each_and_says_how_to_go_on() {
        let over = TaskView {
            state: "succeeded".to_owned(),
            started_ms: Some(1_700_000_001_000),
            finished_ms: Some(1_700_000_003_500),
            ..task()
        };
        let waits = TaskView { state: "queued".to_owned(), position: Some(0), ..task() };
        let tasks = vec![over, waits];
        let text = list(&TaskListView { tasks, more: true });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("ID "), "{text}");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(words[..3], [&*task().id, "succeeded", "bot\u{fffd}[2J"], "{text}");
        assert_eq!(words[6..], ["2.5s", "1", "120"], "{text}");
        assert!(lines[2].contains(" queued #1 "), "{text}");
        assert_eq!(lines[3], format!("older ones: --after {}", task().id));
        assert_eq!(list(&TaskListView::default()), "no tasks\n");
    }

    #[test]
    fn one_is_told_of_fact_by_fact() {
        let error = TaskErrorView {
            r#type: "refused".to_owned(),
            message: "The call was answered with status 400.".to_owned(),
            status: Some(400),
        };
        let failed = TaskView {
            state: "failed".to_owned(),
            finished_ms: Some(1_700_000_003_500),
            status: Some(400),
            input_tokens: Some(7),
            cost_microdollars: Some(1_500_000),
            webhooks: vec!["ops".to_owned(), "audit".to_owned()],
            error: Some(error),
            ..task()
        };
        let text = one(&failed);
        for line in [
            "id         task_00000000000000000000000000",
            "state      failed",
            "made       2023-11-14T22:13:20Z",
            "answer     400, 3.2KiB",
            "tokens     7 in, 120 out",
            "cost       $1.50",
            "webhooks   ops, audit",
            "error      refused: The call was answered with status 400.",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("team"), "{text}");
        let gone = one(&TaskView { purged: true, ..failed });
        assert!(gone.contains("answer     gone\n"), "{gone}");
    }
}
