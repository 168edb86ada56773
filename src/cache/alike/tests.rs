use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::cache::Filter;
use crate::config::{Cache, Embedder, Scope, Semantic, SemanticMode};

const HOUR: Duration = Duration::from_hours(1);
const PASSWORD: &str = "How do I reset my password?";
/// The same to anybody.
const PASSWORD_AGAIN: &str = "how do I reset my password";
const QUESTIONS: [&str; 8] = [
    PASSWORD,
    "What does the premium plan cost for a small company?",
    "Which countries does the express courier deliver parcels to?",
    "Why does the printer show a red light after installing the cartridge?",
    "Can the invoice be sent to a different postal address?",
    "Who is responsible for cleaning the shared kitchen?",
    "Explain how photosynthesis works in desert plants.",
    "Summarise the plot of the opera about the barber.",
];

/// A policy and its author, to ask under.
struct Desk {
    alike: Alike,
    policy: Arc<str>,
    rule: Cache,
    author: Author,
}

/// Likeness alone.
fn desk(mode: SemanticMode) -> Desk {
    let semantic = Semantic { mode, ..Semantic::default() };
    Desk {
        alike: Alike::new(Alike::BYTES),
        policy: "support".into(),
        rule: Cache { semantic: Some(semantic), ..Cache::default() },
        author: author("ada"),
    }
}

fn canonical() -> Desk {
    let mut desk = desk(SemanticMode::Off);
    desk.rule.canonical = true;
    desk
}

fn author(agent: &str) -> Author {
    Author {
        agent: agent.into(),
        model: "m".into(),
        route: "r".into(),
        upstream: "u".into(),
        credential: 0,
    }
}

fn key(number: u64) -> Key {
    Key(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

impl Desk {
    fn asked<'a>(&'a self, partition: u64, text: &'a str) -> Asked<'a> {
        let Self { policy, rule, author, .. } = self;
        let partition = key(partition);
        Asked { policy, partition, text, rule, author, tighten: None, vector: None }
    }

    fn look(&self, text: &str) -> Look {
        self.alike.look(&self.asked(0, text), now())
    }

    fn add(&self, text: &str, entry: u64) {
        self.alike.add(&self.asked(0, text), key(entry), now() + HOUR, now());
    }

    fn semantic(&mut self) -> &mut Semantic {
        self.rule.semantic.as_mut().unwrap()
    }

    fn learnt(&self) -> Learnt {
        let mut policies = self.alike.figures().policies;
        assert_eq!(policies.len(), 1);
        policies.remove(0).learnt
    }
}

/// The entry of a hit by likeness, and its trial.
fn like(look: Look) -> (Key, Option<Trial>) {
    let Look::Like { entry, trial, serve, similarity, .. } = look else {
        panic!("no hit: {look:?}")
    };
    assert_eq!(serve, trial.is_none());
    assert!(similarity > 0.9);
    (entry, trial)
}

fn reason(look: &Look) -> &'static str {
    let Look::None { why, .. } = look else { panic!("a hit: {look:?}") };
    why
}

#[test]
fn the_same_question_in_other_letters_is_the_same() {
    let desk = canonical();
    assert_eq!(desk.look(PASSWORD), Look::None { why: "new", nearest: None });
    desk.add(PASSWORD, 1);
    assert_eq!(desk.look(PASSWORD_AGAIN), Look::Canonical { entry: key(1) });
    assert_eq!(desk.look(QUESTIONS[1]), Look::None { why: "new", nearest: None });
    assert_eq!((desk.learnt().counts.looks, desk.learnt().counts.canonical), (3, 1));
}

#[test]
fn a_mode_that_is_off_looks_for_nothing() {
    let desk = desk(SemanticMode::Off);
    desk.add(PASSWORD, 1);
    assert_eq!(desk.look(PASSWORD), Look::None { why: "new", nearest: None });
    assert_eq!(desk.alike.figures().policies[0].questions, 0);
}

#[test]
fn shadow_compares_every_hit_and_serves_none() {
    let desk = desk(SemanticMode::Shadow);
    desk.add(PASSWORD, 1);
    for _ in 0..100 {
        let (entry, trial) = like(desk.look(PASSWORD_AGAIN));
        assert_eq!((entry, trial.unwrap().propensity), (key(1), 1.0));
    }
    let counts = desk.learnt().counts;
    assert_eq!((counts.would, counts.explored, counts.served), (100, 100, 0));
}

#[test]
fn on_compares_a_share_and_serves_the_rest() {
    let mut desk = desk(SemanticMode::On);
    desk.semantic().explore = 0.2;
    desk.add(PASSWORD, 1);
    let explored = (0..4_000).filter_map(|_| like(desk.look(PASSWORD_AGAIN)).1);
    let explored =
        explored.inspect(|trial| assert_eq!(trial.propensity.to_bits(), 0.2_f64.to_bits())).count();
    // six standard deviations around a fifth
    assert!((650..950).contains(&explored), "{explored}");
    let counts = desk.learnt().counts;
    assert_eq!((counts.served, counts.explored), (4_000 - explored as u64, explored as u64));
}

#[test]
fn what_is_not_alike_is_no_hit_and_says_why() {
    let desk = desk(SemanticMode::On);
    desk.add(PASSWORD, 1);
    let Look::None { why, nearest } = desk.look(QUESTIONS[6]) else { panic!("a hit") };
    assert!(why == "below-threshold" && nearest.is_some_and(|cosine| cosine < 0.92), "{nearest:?}");
    let unfit = reason(&desk.look("Yes"));
    assert_eq!(unfit, Question::read("Yes").unfit().unwrap().as_str());
    let reasons = desk.learnt().reasons;
    assert_eq!(reasons, [("below-threshold", 1), (unfit, 1)]);
}

#[test]
fn an_unfit_question_is_not_put_in() {
    let desk = desk(SemanticMode::On);
    desk.add("Yes", 1);
    assert_eq!(desk.alike.table.all().len(), 0);
}

#[test]
fn a_caller_may_only_tighten() {
    let desk = desk(SemanticMode::On);
    desk.add(PASSWORD, 1);
    let at = |tighten| {
        let asked = Asked { tighten: Some(tighten), ..desk.asked(0, QUESTIONS[6]) };
        let same = Asked { tighten: Some(tighten), ..desk.asked(0, PASSWORD) };
        (reason(&desk.alike.look(&asked, now())), desk.alike.look(&same, now()))
    };
    let (other, same) = at(-1.0);
    assert_eq!(other, "below-threshold");
    like(same);
    assert_eq!(reason(&at(1.1).1), "below-threshold");
}

#[test]
fn each_tier_has_its_own_end() {
    let mut desk = desk(SemanticMode::Shadow);
    desk.rule.canonical = true;
    desk.semantic().ttl = HOUR / 4;
    desk.add(PASSWORD, 1);
    let at = |rule: &Cache, minutes| {
        let asked = Asked { rule, ..desk.asked(0, PASSWORD_AGAIN) };
        desk.alike.look(&asked, now() + Duration::from_mins(minutes))
    };
    let alone = Cache { canonical: false, ..desk.rule.clone() };
    like(at(&alone, 14));
    assert_eq!(reason(&at(&alone, 15)), "new");
    assert_eq!(at(&desk.rule, 59), Look::Canonical { entry: key(1) });
    assert_eq!(reason(&at(&desk.rule, 60)), "new");
    assert_eq!(desk.alike.sweep(now() + Duration::from_mins(59)), 0);
    assert_eq!(desk.alike.sweep(now() + HOUR), 1);
    assert_eq!(desk.alike.figures().bytes, 0);
}

#[test]
fn one_wrong_answer_bars_an_entry_for_good() {
    let desk = desk(SemanticMode::Shadow);
    desk.add(PASSWORD, 1);
    let trial = like(desk.look(PASSWORD_AGAIN)).1.unwrap();
    let lesson = desk.alike.learn(&trial, "Press the blue button.", "Call the bank at once.");
    assert_eq!((lesson.agreement, lesson.quarantined), (Agreement::Different, true));
    assert_eq!(reason(&desk.look(PASSWORD_AGAIN)), "new");
    desk.add(PASSWORD, 1);
    assert_eq!(reason(&desk.look(PASSWORD_AGAIN)), "new", "it stays out when it comes back");
    desk.add(PASSWORD, 2);
    assert_eq!(like(desk.look(PASSWORD_AGAIN)).0, key(2), "another entry is another answer");
    let learnt = desk.learnt();
    assert_eq!((learnt.counts.quarantined, learnt.counts.disagreed), (1, 1));
    assert_eq!(learnt.wrong.estimate, Some(1.0));
}

#[test]
fn a_barred_entry_is_still_found_by_its_form() {
    let mut desk = desk(SemanticMode::Shadow);
    desk.add(PASSWORD, 1);
    let trial = like(desk.look(PASSWORD_AGAIN)).1.unwrap();
    desk.rule.canonical = true;
    desk.alike.learn(&trial, "Press the blue button.", "Call the bank at once.");
    desk.add(PASSWORD, 1);
    assert_eq!(desk.look(PASSWORD_AGAIN), Look::Canonical { entry: key(1) });
}

#[test]
fn what_an_operator_calls_wrong_is_found_by_neither() {
    let desk = canonical();
    desk.add(PASSWORD, 1);
    desk.add(QUESTIONS[1], 2);
    let name = format!("{:?}", key(1));
    assert_eq!(desk.alike.wrong(&name[..7]), 0, "too short a name is nobody's");
    assert_eq!(desk.alike.wrong("zzzzzzzz"), 0);
    assert_eq!(desk.alike.wrong(&name.to_uppercase()), 1);
    desk.add(PASSWORD, 1);
    assert_eq!(reason(&desk.look(PASSWORD_AGAIN)), "new");
    assert_eq!(desk.look(QUESTIONS[1]), Look::Canonical { entry: key(2) });
    assert_eq!(desk.learnt().counts.reported, 1);
}

#[test]
fn answers_that_disagree_raise_the_threshold_until_an_operator_resets_it() {
    let mut desk = desk(SemanticMode::Shadow);
    let risen = (0..20).find_map(|entry| {
        desk.add(PASSWORD, entry);
        let trial = like(desk.look(PASSWORD)).1.unwrap();
        desk.alike.learn(&trial, "Press the blue button.", "Call the bank at once.").risen
    });
    assert_eq!(risen, Some(f64::INFINITY), "the very same words were answered wrongly");
    desk.add(PASSWORD, 99);
    assert_eq!(reason(&desk.look(PASSWORD)), "below-threshold");
    desk.semantic().threshold = 0.5;
    assert_eq!(reason(&desk.look(PASSWORD)), "below-threshold", "a reload does not lower it");
    assert_eq!(desk.learnt().threshold, Some(f64::INFINITY));
    assert!(!desk.alike.reset("another"));
    assert!(desk.alike.reset("support"));
    assert_eq!(like(desk.look(PASSWORD)).0, key(99));
}

#[test]
fn an_unsure_trial_teaches_nothing() {
    let desk = desk(SemanticMode::Shadow);
    desk.add(PASSWORD, 1);
    let trial = like(desk.look(PASSWORD_AGAIN)).1.unwrap();
    let short = "Press the blue button on the login page.";
    let long = "Press the blue button on the login page, then wait for the letter with the code, and \
                type it into the form on the page that opens.";
    let lesson = desk.alike.learn(&trial, short, long);
    assert_eq!(lesson, Lesson { agreement: Agreement::Unsure, quarantined: false, risen: None });
    assert_eq!(desk.learnt().wrong.estimate, None);
    like(desk.look(PASSWORD_AGAIN));
}

#[test]
fn another_agents_question_is_compared_before_it_is_served() {
    let mut desk = desk(SemanticMode::On);
    desk.rule.scope = Scope::Team;
    desk.semantic().explore = 0.0;
    desk.add(PASSWORD, 1);
    assert_eq!(like(desk.look(PASSWORD_AGAIN)).1, None, "its author is served at once");
    desk.author = author("bob");
    let trial = like(desk.look(PASSWORD_AGAIN)).1.unwrap();
    assert_eq!(trial.propensity.to_bits(), 1.0_f64.to_bits());
    assert!(like(desk.look(PASSWORD_AGAIN)).1.is_some(), "until it was compared");
    desk.alike.learn(&trial, "Press the blue button.", "Press the blue button.");
    assert_eq!(like(desk.look(PASSWORD_AGAIN)).1, None);
    desk.author.credential = 7;
    assert_eq!(like(desk.look(PASSWORD_AGAIN)).1, None);
}

#[test]
fn one_principal_cannot_push_the_others_out() {
    let mut desk = desk(SemanticMode::On);
    desk.rule.scope = Scope::Shared;
    desk.semantic().entries = 8;
    desk.add(PASSWORD, 0);
    desk.author = author("flood");
    for (entry, text) in (1..).zip(QUESTIONS.iter().skip(1)) {
        desk.add(text, entry);
    }
    assert_eq!(like(desk.look(PASSWORD)).0, key(0));
    assert_eq!(desk.alike.figures().policies[0].questions, 3, "a quarter of eight, and one");
    desk.rule.scope = Scope::Agent;
    for (entry, text) in (11..).zip(QUESTIONS.iter().skip(1)) {
        desk.add(text, entry);
    }
    assert_eq!(desk.alike.figures().policies[0].questions, 8, "alone it may fill all");
}

#[test]
fn a_purge_takes_all_that_is_meant_and_no_more() {
    let mut desk = canonical();
    for (entry, text) in (0..).zip(QUESTIONS) {
        desk.author = author(if entry % 2 == 0 { "ada" } else { "bob" });
        desk.alike.add(&desk.asked(entry % 3, text), key(entry), now() + HOUR, now());
    }
    let purge =
        |filter: &Filter, minutes| desk.alike.purge(filter, now() + Duration::from_mins(minutes));
    let none = Filter::default();
    assert_eq!(purge(&Filter { policy: Some("other".into()), ..none.clone() }, 0), 0);
    assert_eq!(purge(&Filter { agent: Some("b*".into()), ..none.clone() }, 0), 4);
    let left = desk
        .alike
        .table
        .all()
        .iter()
        .flat_map(|(_, partition)| {
            partition
                .read(|rows| rows.entries().map(|row| row.author.agent.clone()).collect::<Vec<_>>())
        })
        .collect::<Vec<_>>();
    assert!(left.len() == 4 && left.iter().all(|agent| &**agent == "ada"), "{left:?}");
    let old = Filter { older_than: Some(HOUR / 2), ..none.clone() };
    assert_eq!((purge(&old, 30), purge(&old, 31)), (0, 4));
    assert_eq!(desk.alike.figures().bytes, 0);
}

#[test]
fn an_entry_that_is_gone_is_forgotten() {
    let desk = canonical();
    desk.add(PASSWORD, 1);
    desk.alike.forget(&key(9), &key(1));
    assert_eq!(desk.look(PASSWORD), Look::Canonical { entry: key(1) });
    desk.alike.forget(&key(0), &key(1));
    assert_eq!(reason(&desk.look(PASSWORD)), "new");
}

#[test]
fn a_remote_embedder_gives_the_likeness() {
    let mut desk = desk(SemanticMode::Shadow);
    desk.semantic().embedder = Embedder::Remote { upstream: "u".into(), model: "e".into() };
    let with = |vector| Asked { vector, ..desk.asked(0, PASSWORD) };
    let (north, east) = ([0.0_f32, 1.0, 0.1], [1.0_f32, 0.0, 0.0]);
    desk.alike.add(&with(Some(&north)), key(1), now() + HOUR, now());
    assert_eq!(reason(&desk.alike.look(&with(None), now())), "no-vector");
    assert_eq!(reason(&desk.alike.look(&with(Some(&east)), now())), "below-threshold");
    assert_eq!(like(desk.alike.look(&with(Some(&north)), now())).0, key(1));
}

#[test]
fn a_wide_search_is_not_for_an_io_thread() {
    let desk = desk(SemanticMode::On);
    let asked = desk.asked(0, PASSWORD);
    assert_eq!(desk.alike.cost(&asked), Cost::Inline);
    let long = QUESTIONS[1].replace("small", &"very ".repeat(100));
    desk.alike.add(&desk.asked(2, &long), key(1), now() + HOUR, now());
    assert_eq!(desk.alike.figures().policies[0].questions, 1);
    let beside = desk.alike.cost(&desk.asked(2, PASSWORD));
    assert_eq!(beside, Cost::Inline, "one neighbour of 500 letters takes 75 µs");
    desk.alike.add(&desk.asked(2, QUESTIONS[2]), key(2), now() + HOUR, now());
    assert_eq!(desk.alike.cost(&desk.asked(2, PASSWORD)), Cost::Offload, "two may");
    for entry in 0..200 {
        let text = format!("What is the capital of country {}?", "x".repeat(entry + 1));
        desk.add(&text, entry as u64);
    }
    assert!(desk.alike.figures().policies[0].questions > 8 + 2);
    assert_eq!(desk.alike.cost(&asked), Cost::Offload);
    let long = "word ".repeat(2_000);
    assert_eq!(desk.alike.cost(&desk.asked(1, &long)), Cost::Offload);
}

#[test]
fn another_question_is_no_hit_however_near() {
    let mut desk = desk(SemanticMode::On);
    desk.semantic().threshold = 0.5;
    let (on, off) = (
        "How do I turn on the heating in the office kitchen?",
        "How do I turn off the heating in the office kitchen?",
    );
    desk.add(on, 1);
    let veto = choose::by_words(&Question::read(off), &Question::read(on)).veto.unwrap();
    let Look::None { why, nearest } = desk.look(off) else { panic!("a hit") };
    assert!(why == veto && nearest.is_some_and(|cosine| cosine > 0.5), "{why} {nearest:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn partitions_never_meet(
        adds in prop::collection::vec((0..5_u64, 0..QUESTIONS.len()), 1..16),
        is_canonical in any::<bool>(),
        budget in prop_oneof![Just(6_000_u64), Just(Alike::BYTES)],
    ) {
        let mut desk = desk(SemanticMode::On);
        desk.rule.canonical = is_canonical;
        desk.alike = Alike::new(budget);
        let name = |partition: u64, text: usize| key(partition * 100 + text as u64);
        let own = |partition| (0..QUESTIONS.len()).map(|text| name(partition, text)).collect::<Vec<_>>();
        for (partition, text) in adds {
            let asked = desk.asked(partition, QUESTIONS[text]);
            desk.alike.add(&asked, name(partition, text), now() + HOUR, now());
            for (partition, text) in (0..5).flat_map(|p| (0..QUESTIONS.len()).map(move |t| (p, t))) {
                let found = match desk.alike.look(&desk.asked(partition, QUESTIONS[text]), now()) {
                    Look::Canonical { entry } | Look::Like { entry, .. } => Some(entry),
                    Look::None { .. } => None,
                };
                prop_assert!(found.is_none_or(|found| own(partition).contains(&found)));
            }
            let just = desk.alike.look(&asked, now());
            prop_assert!(!matches!(just, Look::None { .. }), "{just:?}");
        }
    }
}

/// Questions that differ from each other, of about fifteen words.
fn crowd(count: usize) -> impl Iterator<Item = String> {
    let pick = |from: &[&'static str], nth: usize| from[nth % from.len()];
    let deeds = ["cancel", "renew", "upgrade", "move", "export", "insure", "audit", "rename"];
    let things = ["subscription", "contract", "dataset", "account", "shipment", "invoice", "phone"];
    let wishes = ["without a fee", "for my whole family", "while I live abroad", "on short notice"];
    let places =
        ["Norway", "Chile", "Kenya", "Japan", "Canada", "Portugal", "Vietnam", "Egypt", "Fiji"];
    let made = ["", "ber", "lan", "tos", "mir", "ken", "dal", "vor", "sin", "pel"];
    (0..count).map(move |nth| {
        let (deed, thing) = (pick(&deeds, nth), pick(&things, nth / 8));
        let (wish, place) = (pick(&wishes, nth / 56), pick(&places, nth / 224));
        let name =
            [nth / 2_016 / 100, nth / 2_016 / 10 % 10, nth / 2_016 % 10].map(|digit| made[digit]);
        let name = name.concat();
        format!("How can I {deed} the {thing} of the {name} company in {place} {wish} please?")
    })
}

/// Bytes of memory that this process has in use.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// The least of some times, which other work on the machine has not disturbed.
fn undisturbed(mut work: impl FnMut()) -> Duration {
    let times = (0..7).map(|_| {
        let began = std::time::Instant::now();
        work();
        began.elapsed()
    });
    times.min().unwrap()
}

#[test]
#[ignore = "prints times; for an optimised build"]
fn times() {
    let (one, other) = (Question::read(PASSWORD), Question::read(PASSWORD_AGAIN));
    let text = crowd(1).next().unwrap();
    println!("read {:?}", undisturbed(|| drop(std::hint::black_box(Question::read(&text)))));
    let judged = undisturbed(|| {
        std::hint::black_box(choose::by_words(&one, &other));
    });
    println!("judge {judged:?}");
    for count in [1, 8, 100, 1_000, 10_000, 100_000] {
        let mut desk = desk(SemanticMode::On);
        desk.alike = Alike::new(1 << 30);
        desk.semantic().entries = count;
        for (entry, text) in crowd(count).enumerate() {
            desk.add(&text, entry as u64);
        }
        let step = (count / 1_000).max(1);
        let mut times: Vec<Duration> = crowd(count)
            .step_by(step)
            .map(|text| {
                let asked = text.replace("How can I", "how do I");
                undisturbed(|| drop(std::hint::black_box(desk.look(&asked))))
            })
            .collect();
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        let learnt = desk.learnt();
        let cost = desk.alike.cost(&desk.asked(0, PASSWORD));
        let (hits, looks) = (learnt.counts.would, learnt.counts.looks);
        println!(
            "{count} rows, {cost:?}: p50 {:?} p99 {:?}, {hits} hits of {looks} {:?}",
            at(50),
            at(99),
            learnt.reasons
        );
    }
}

/// Run one at a time: what another has freed is not seen.
#[test]
#[ignore = "prints bytes"]
fn weights() {
    for alone in [true, false] {
        let mut desk = desk(SemanticMode::On);
        desk.rule.canonical = true;
        desk.alike = Alike::new(1 << 30);
        desk.semantic().entries = 50_000;
        let before = resident();
        for (entry, text) in (0..).zip(crowd(50_000)) {
            let partition = if alone { entry } else { 0 };
            desk.alike.add(&desk.asked(partition, &text), key(entry), now() + HOUR, now());
        }
        let took = (resident() - before) / 50_000;
        let said = desk.alike.figures().bytes / 50_000;
        println!("alone {alone}: {took} bytes each, said {said}");
        // what is freed would be taken again
        std::mem::forget(desk);
    }
}
