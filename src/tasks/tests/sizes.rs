//! What tasks cost: the time of a start, the memory of a queue, the wait for a 202.
use std::time::Instant;

use super::*;

/// `LONG=1` for the whole of it.
fn many(long: usize, short: usize) -> usize {
    if std::env::var_os("LONG").is_some() { long } else { short }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

#[tokio::test]
async fn a_start_with_many_tasks_is_quick() {
    let count = many(100_000, 5000);
    let (_directory, store, tasks) = tasks(Settings::default());
    let settings = Settings::default();
    let mut ops = Vec::new();
    for at in 0..count {
        let mut record = new([at as u8; 16], "").record(TaskId::new(), &settings, NOW + at as u64);
        record.model = Some("claude-some-model-of-today".to_owned());
        record.caller.session = Some(format!("session-{at}"));
        // most are over, as in a busy instance
        if at % 10 != 0 {
            record.result = Some(head());
            record.end(ends::End::of(State::Succeeded), 1000, NOW, settings.keep);
        }
        ops.push(Op::put(Table::Tasks, record.id.as_bytes().to_vec(), record.row()));
        if ops.len() == 5000 || at + 1 == count {
            store.durably(std::mem::take(&mut ops)).await.unwrap();
        }
    }
    drop(tasks);
    let before = resident();
    let from = Instant::now();
    let again = open(&store, settings);
    let took = from.elapsed();
    let each = resident().saturating_sub(before) / count as u64;
    println!("{count} tasks: {took:?}, {each} bytes each, {:?}", again.recovered());
    assert_eq!((again.recovered().tasks, again.recovered().open), (count, count.div_ceil(10)));
    assert!(again.list(None, None, None, 1)[0].record.created_ms == NOW + count as u64 - 1);
    if !cfg!(debug_assertions) {
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test]
async fn a_queue_of_many_costs_little_memory() {
    let count = many(10_000, 1000);
    let settings =
        Settings { per_agent_count: usize::MAX, per_agent_bytes: u64::MAX, ..Settings::default() };
    let (_directory, _store, tasks) = tasks(settings);
    let body = "x".repeat(8 * 1024);
    let before = resident();
    for _ in 0..count / 100 {
        let mut under_way = Vec::new();
        for _ in 0..100 {
            let mut new = new(A, &body);
            for at in 0..20 {
                new.request.headers.push((format!("x-header-{at}"), vec![b'v'; 40]));
            }
            let tasks = Arc::clone(&tasks);
            under_way.push(tokio::spawn(async move { tasks.submit(new, NOW).await.unwrap() }));
        }
        for one in under_way {
            one.await.unwrap();
        }
    }
    let grown = resident().saturating_sub(before);
    println!("{count} queued tasks of 8 KiB: {grown} bytes, {} each", grown / count as u64);
    assert_eq!(tasks.figures().of(State::Queued), count);
    assert!(grown < 100 << 20, "{grown}");
}

#[test]
fn a_task_is_acknowledged_soon() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for callers in [1, 64] {
        let (_directory, _store, tasks) =
            tasks(Settings { per_agent_count: usize::MAX, ..Settings::default() });
        let each = many(4000, 256) / callers;
        let mut times = runtime.block_on(async {
            let mut under_way = Vec::new();
            for _ in 0..callers {
                let tasks = Arc::clone(&tasks);
                under_way.push(tokio::spawn(async move {
                    let mut times = Vec::new();
                    for _ in 0..each {
                        let from = Instant::now();
                        tasks.submit(new(A, &"x".repeat(4096)), NOW).await.unwrap();
                        times.push(from.elapsed());
                    }
                    times
                }));
            }
            let mut times = Vec::new();
            for one in under_way {
                times.extend(one.await.unwrap());
            }
            times
        });
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        println!("{callers} callers: p50 {:?}, p99 {:?}, most {:?}", at(50), at(99), at(100));
        // an unhurried bound for a machine that does other things besides
        assert!(at(50) < Duration::from_secs(1), "{:?}", at(50));
    }
}
