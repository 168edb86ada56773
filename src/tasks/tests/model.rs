//! Many hands at once in random order, beside a naive model: a book that only remembers what each
//! task was told to be.
use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    Submit(u8),
    Claim,
    Finish(usize, bool),
    Retry(usize, bool),
    Drop(usize),
    Cancel(usize),
    Delete(usize),
    /// By so many seconds.
    Sweep(u16),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..3).prop_map(Step::Submit),
        4 => Just(Step::Claim),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, well)| Step::Finish(at, well)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(at, counts)| Step::Retry(at, counts)),
        1 => any::<usize>().prop_map(Step::Drop),
        3 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Delete),
        1 => (0_u16..1000).prop_map(Step::Sweep),
        1 => Just(Step::Restart),
    ]
}

/// What is told of a task over its life, checked at every look.
#[derive(Default)]
struct Seen {
    states: HashMap<TaskId, (Owner, State, Vec<u8>)>,
}

impl Seen {
    async fn look(&mut self, tasks: &Tasks) {
        let mut counts: HashMap<State, usize> = HashMap::new();
        for (id, (owner, before, answer)) in &mut self.states {
            let Some(view) = tasks.view(owner, *id) else {
                panic!("{id} was acknowledged and is gone");
            };
            let now = view.record.state;
            *counts.entry(now).or_default() += 1;
            if before.is_terminal() {
                assert_eq!(now, *before, "an end has changed");
            }
            if now.is_terminal() && !before.is_terminal() {
                let kept = answer_of(tasks, owner, *id).await.unwrap_or_default();
                *answer = kept.to_vec();
            } else if now.is_terminal() {
                let kept = answer_of(tasks, owner, *id).await.unwrap_or_default();
                assert!(kept == *answer, "{id} has another answer");
            }
            *before = now;
        }
        let figures = tasks.figures();
        for state in State::ALL {
            assert_eq!(figures.of(state), counts.get(&state).copied().unwrap_or(0), "{state:?}");
        }
        let running = figures.of(State::Running) + figures.of(State::Cancelling);
        assert!(running <= tasks.settings().workers);
        assert_eq!(tasks.list(None, None, None, usize::MAX).len(), self.states.len());
    }
}

fn pick<T>(of: &mut Vec<T>, at: usize) -> Option<T> {
    let length = of.len();
    (length > 0).then(|| of.swap_remove(at % length))
}

async fn play(steps: Vec<Step>) {
    let settings = Settings { workers: 3, per_agent_count: 6, attempts: 2, ..Settings::default() };
    let (_directory, store, mut tasks) = tasks(settings);
    let (mut seen, mut jobs, mut now) = (Seen::default(), Vec::new(), NOW);
    for step in steps {
        let any = |seen: &Seen, at: usize| {
            let mut ids: Vec<_> = seen.states.keys().copied().collect();
            ids.sort();
            (!ids.is_empty()).then(|| ids[at % ids.len()])
        };
        match step {
            Step::Submit(owner) => match tasks.submit(new([owner; 16], "body"), now).await {
                Ok(submitted) => {
                    let record = submitted.view.record;
                    seen.states.insert(record.id, (record.owner, State::Queued, Vec::new()));
                }
                Err(why) => assert_eq!(why, SubmitError::Full { what: Quota::Count }),
            },
            Step::Claim => {
                let claim = tokio::time::timeout(Duration::from_millis(5), tasks.claim());
                if let Ok(job) = claim.await {
                    job.lead.begin(head());
                    let piece = format!("{} run {}", job.record.id, job.record.runs);
                    job.lead.push(piece.into()).unwrap();
                    jobs.push(job.lead);
                }
            }
            Step::Finish(at, well) => {
                let Some(lead) = pick(&mut jobs, at) else { continue };
                let state = if well { State::Succeeded } else { State::Failed };
                // a cancel that comes while the end is on its way
                let id = lead.id();
                let (ended, _) =
                    tokio::join!(lead.finish(state, None, None, None), tasks.cancel(None, id));
                assert!(ended.unwrap().record.state.is_terminal());
            }
            Step::Retry(at, counts) => {
                let Some(lead) = pick(&mut jobs, at) else { continue };
                lead.retry(Duration::from_secs(1), counts, 1).await.unwrap();
            }
            Step::Drop(at) => drop(pick(&mut jobs, at)),
            Step::Cancel(at) => {
                let Some(id) = any(&seen, at) else { continue };
                tasks.cancel(None, id).await.unwrap();
            }
            Step::Delete(at) => {
                let Some(id) = any(&seen, at) else { continue };
                let (owner, state, _) = seen.states[&id].clone();
                match tasks.delete(&owner, id).await.unwrap() {
                    Ok(()) => drop(seen.states.remove(&id)),
                    Err(why) => {
                        assert_eq!(why, DeleteError::NotOver);
                        assert!(!state.is_terminal());
                    }
                }
            }
            Step::Sweep(seconds) => {
                now += u64::from(seconds) * 1000;
                tasks.sweep(now);
            }
            Step::Restart => {
                assert!(store.flush(PATIENCE));
                // the memory is gone at once, as after a kill
                jobs.drain(..).for_each(std::mem::forget);
                tasks = Tasks::open(Arc::clone(&store), settings, Arc::default(), now).unwrap();
            }
        }
        seen.look(&tasks).await;
    }
}

#[test]
fn any_order_of_any_steps_keeps_to_the_rules() {
    let cases = if std::env::var_os("LONG").is_some() { 1000 } else { 24 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let steps = proptest::collection::vec(step(), 1..60);
    TestRunner::new(config)
        .run(&steps, |steps| {
            runtime.block_on(play(steps));
            Ok(())
        })
        .unwrap();
}
