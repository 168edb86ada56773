//! The memory tier against a naive model, and under many threads.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::cache::Author;
use crate::wire::{Form, Kind};

/// Some time after 1970, to the millisecond.
pub(in crate::cache) fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

pub(in crate::cache) fn key(number: u64) -> Key {
    Key(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// An answer of an agent, good for an hour.
pub(in crate::cache) fn entry(agent: &str, body: Vec<u8>, stored: SystemTime) -> Entry {
    Entry {
        kind: Kind::Chat,
        form: Form::Json,
        stream: false,
        content_type: Some((*b"application/json").into()),
        body: body.into(),
        frames: [].into(),
        stored,
        ttl: Duration::from_hours(1),
        usage: None,
        cost_nano: None,
        author: Author {
            agent: agent.into(),
            model: "gpt-x".into(),
            route: "chat".into(),
            upstream: "openai".into(),
            credential: 7,
        },
    }
}

/// Takes what one agent left.
pub(in crate::cache) fn agents(agent: &str) -> Filter {
    Filter { agent: Some(agent.into()), ..Filter::default() }
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: u64, body: usize, ttl: u64 },
    PutNew { key: u64, body: usize },
    Get(u64),
    Remove(u64),
    Budget(u64),
    Purge(bool),
    Later(u64),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0_u64..24;
    prop_oneof![
        6 => (key.clone(), 0_usize..3000, 1_u64..100)
            .prop_map(|(key, body, ttl)| Step::Put { key, body, ttl }),
        1 => (key.clone(), 0_usize..3000).prop_map(|(key, body)| Step::PutNew { key, body }),
        6 => key.clone().prop_map(Step::Get),
        1 => key.prop_map(Step::Remove),
        1 => (0_u64..20_000).prop_map(Step::Budget),
        1 => any::<bool>().prop_map(Step::Purge),
        1 => (0_u64..40).prop_map(Step::Later),
        1 => Just(Step::Sweep),
    ]
}

/// The least recently used first.
struct Model {
    entries: VecDeque<(u64, Arc<Entry>)>,
    budget: u64,
    now: u64,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.entries.iter().map(|(_, entry)| entry.weight()).sum()
    }

    fn remove(&mut self, key: u64) -> Option<Arc<Entry>> {
        let at = self.entries.iter().position(|(known, _)| *known == key)?;
        self.entries.remove(at).map(|(_, entry)| entry)
    }

    fn shrink(&mut self) {
        while self.bytes() > self.budget {
            self.entries.pop_front();
        }
    }

    fn put(&mut self, key: u64, entry: &Arc<Entry>) -> bool {
        self.remove(key);
        let fits = entry.weight() <= self.budget;
        if fits {
            self.entries.push_back((key, Arc::clone(entry)));
            self.shrink();
        }
        fits
    }

    fn get(&mut self, key: u64) -> Option<Arc<Entry>> {
        let found = self.remove(key).filter(|it| it.left(time(self.now)).is_some())?;
        self.entries.push_back((key, Arc::clone(&found)));
        Some(found)
    }

    fn take(&mut self, memory: &Memory, step: &Step) {
        match *step {
            Step::Put { key: number, body, ttl } => {
                let agent = if number % 2 == 0 { "even" } else { "odd" };
                let mut new = entry(agent, vec![1; body], time(self.now));
                new.ttl = Duration::from_secs(ttl);
                let new = Arc::new(new);
                assert_eq!(memory.put(key(number), Arc::clone(&new)), self.put(number, &new));
            }
            Step::PutNew { key: number, body } => {
                let new = Arc::new(entry("new", vec![2; body], time(self.now)));
                let given = memory.put_new(key(number), Arc::clone(&new), time(self.now));
                let live =
                    |it: &&(u64, Arc<Entry>)| it.0 == number && it.1.left(time(self.now)).is_some();
                let there = self.entries.iter().find(live).map(|(_, it)| Arc::clone(it));
                if new.weight() > self.budget {
                    assert_eq!(given, new);
                } else if let Some(there) = there {
                    assert_eq!(given, there);
                } else {
                    assert_eq!(given, new);
                    self.put(number, &new);
                }
            }
            Step::Get(number) => {
                assert_eq!(memory.get(&key(number), time(self.now)), self.get(number));
            }
            Step::Remove(number) => {
                assert_eq!(memory.remove(&key(number)), self.remove(number).is_some());
            }
            Step::Budget(budget) => {
                memory.set_budget(budget);
                self.budget = budget;
                self.shrink();
            }
            Step::Purge(even) => {
                let agent = if even { "even" } else { "odd" };
                let before = self.entries.len();
                self.entries.retain(|(_, entry)| &*entry.author.agent != agent);
                let purged = memory.purge(&agents(agent), time(self.now));
                assert_eq!(purged.memory, (before - self.entries.len()) as u64);
            }
            Step::Later(seconds) => self.now += seconds,
            Step::Sweep => {
                memory.sweep(time(self.now));
                let now = time(self.now);
                self.entries.retain(|(_, entry)| entry.left(now).is_some());
            }
        }
    }
}

proptest! {
    #[test]
    fn it_is_what_a_list_in_order_of_use_would_be(
        steps in prop::collection::vec(step(), 1..300),
        budget in 0_u64..20_000,
    ) {
        let memory = Memory::new(budget);
        let mut model = Model { entries: VecDeque::new(), budget, now: 0 };
        for step in &steps {
            model.take(&memory, step);
            let figures = memory.figures();
            prop_assert_eq!(figures.entries, model.entries.len() as u64, "{:?}", step);
            prop_assert_eq!(figures.bytes, model.bytes(), "{:?}", step);
            prop_assert!(figures.bytes <= model.budget, "{:?}", step);
        }
        for number in 0..24 {
            prop_assert_eq!(memory.get(&key(number), time(model.now)), model.get(number));
        }
    }
}

#[test]
fn the_budget_holds_under_many_threads() {
    const BUDGET: u64 = 50_000;
    let memory = Memory::new(BUDGET);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let memory = &memory;
            scope.spawn(move || {
                for round in 0..4_000_u64 {
                    let number = (thread * 7919 + round * 31) % 200;
                    let body = vec![0; (number * 13 % 2000) as usize];
                    memory.put(key(number), Arc::new(entry("a", body, time(0))));
                    memory.get(&key((number * 3) % 200), time(round % 2 * 4000));
                    if round % 97 == 0 {
                        memory.purge(&agents("b"), time(0));
                        memory.sweep(time(0));
                    }
                }
            });
        }
    });
    let figures = memory.figures();
    assert!(figures.bytes <= BUDGET && figures.entries > 0, "{figures:?}");
    assert!(figures.evictions > 0 && figures.expired > 0, "{figures:?}");
    // the counters are those of what is there
    let purged = memory.purge(&Filter::default(), time(0));
    assert_eq!(purged.memory, figures.entries);
    let left = memory.figures();
    assert_eq!((left.entries, left.bytes), (0, 0));
}

#[test]
fn a_sweep_frees_what_nobody_asks_for() {
    let memory = Memory::new(100 << 20);
    for number in 0..50_000 {
        memory.put(key(number), Arc::new(entry("a", Vec::new(), time(number % 2 * 60))));
    }
    memory.sweep(time(3601));
    let figures = memory.figures();
    assert_eq!((figures.entries, figures.expired), (25_000, 25_000));
    assert!(memory.get(&key(1), time(3601)).is_some());
}

#[test]
#[ignore = "measures"]
fn what_a_look_up_takes() {
    const ENTRIES: u64 = 100_000;
    const ROUNDS: u64 = 2_000_000;
    let memory = Memory::new(1 << 30);
    let keys: Vec<Key> = (0..ENTRIES).map(key).collect();
    let new = Arc::new(entry("a", vec![0; 1000], time(0)));
    let now = time(1);
    let per = |begun: Instant, rounds: u64| begun.elapsed().as_nanos() as f64 / rounds as f64;
    let begun = Instant::now();
    for key in &keys {
        memory.put(*key, Arc::clone(&new));
    }
    let filling = per(begun, ENTRIES);
    let begun = Instant::now();
    let found = (0..ROUNDS)
        .filter(|round| memory.get(&keys[(round * 7919 % ENTRIES) as usize], now).is_some())
        .count();
    let hits = per(begun, ROUNDS);
    let begun = Instant::now();
    for round in 0..ROUNDS {
        memory.get(&keys[(round * 7919 % 100) as usize], now);
    }
    let hot = per(begun, ROUNDS);
    memory.set_budget(ENTRIES * new.weight());
    let fresh: Vec<Key> = (ENTRIES..3 * ENTRIES).map(key).collect();
    let begun = Instant::now();
    for key in &fresh {
        memory.put(*key, Arc::clone(&new));
    }
    let full = per(begun, 2 * ENTRIES);
    assert_eq!(memory.figures().entries, ENTRIES);
    assert_eq!(found as u64, ROUNDS);
    println!(
        "get {hits:.0} ns of {ENTRIES}, {hot:.0} ns of 100; put {filling:.0} ns, full {full:.0} ns"
    );
}
