//! The figures that the README of `packaging/semantic` states, held over pairs that nothing was
//! trained on: `held-out.jsonl` is made by `synth.py held-out`, with its own templates and words.
use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::{Question, judge};

#[derive(Deserialize)]
struct Pair {
    a: String,
    b: String,
    label: u8,
    category: String,
}

#[derive(Default)]
struct Family {
    same: usize,
    right: usize,
    other: usize,
    wrong: usize,
}

fn served(pair: &Pair) -> bool {
    let (a, b) = (Question::read(&pair.a), Question::read(&pair.b));
    let canonical = a.canonical().is_some() && a.canonical() == b.canonical();
    canonical || judge(&a, &b, a.vector().cosine(&b.vector())).same
}

fn families() -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in include_str!("../../../tests/fixtures/semantic/held-out.jsonl").lines() {
        let pair: Pair = serde_json::from_str(line).expect("a pair");
        let name = pair.category.split(':').next().expect("a family");
        let family = families.entry(name.to_owned()).or_default();
        let served = usize::from(served(&pair));
        if pair.label == 1 {
            family.same += 1;
            family.right += served;
        } else {
            family.other += 1;
            family.wrong += served;
        }
    }
    families
}

/// At most one in a hundred of each family of traps is served, and nine in ten of the questions
/// that differ in manners alone.
#[test]
fn traps_are_not_served_and_near_repeats_are() {
    let families = families();
    let traps = ["negation", "number", "entity", "scope", "order", "antonym", "sibling", "frame"];
    for name in traps {
        let family = &families[name];
        assert!(family.other >= 200, "{name}: {} pairs", family.other);
        assert!(family.wrong * 100 <= family.other, "{name}: {} of {}", family.wrong, family.other);
    }
    for name in ["manners", "contraction"] {
        let family = &families[name];
        assert!(family.same >= 200, "{name}: {} pairs", family.same);
        assert!(
            family.right * 10 >= family.same * 9,
            "{name}: {} of {}",
            family.right,
            family.same
        );
    }
    for (name, least) in [("typo", 40), ("paraphrase", 80)] {
        let family = &families[name];
        assert!(
            family.right * 100 >= family.same * least,
            "{name}: {} of {}",
            family.right,
            family.same
        );
    }
}

/// Pairs written by hand, each a small difference that changes the answer.
#[test]
fn no_trap_that_was_thought_of_is_served() {
    let file = include_str!("../../../tests/fixtures/semantic/traps.tsv");
    let mut traps = 0;
    for line in file.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let &[_, category, a, b] = cells.as_slice() else { panic!("{line}") };
        let (a, b, category) = (a.to_owned(), b.to_owned(), category.to_owned());
        assert!(!served(&Pair { a, b, label: 0, category }), "{line}");
        traps += 1;
    }
    assert!(traps >= 100, "{traps} traps");
}
