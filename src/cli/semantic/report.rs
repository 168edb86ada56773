//! What comes out of labelled pairs: per category and point, the share served, rightly or not.
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::pairs::Pair;
use crate::semantic::{SHIPPED, Unfit, judge};

/// A rule by which a pair would be served.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Point {
    Canonical,
    /// Canonical, or judged with at least this score.
    Score(f32),
    /// The vectors alone, without guards: for comparison.
    Cosine(f32),
}

const POINTS: [Point; 6] = [
    Point::Canonical,
    Point::Score(SHIPPED - 2.0),
    Point::Score(SHIPPED),
    Point::Score(SHIPPED + 2.75),
    Point::Cosine(0.90),
    Point::Cosine(0.95),
];

impl Point {
    fn name(self) -> String {
        match self {
            Self::Canonical => "canonical".to_owned(),
            Self::Score(least) if self.shipped() => format!("score {least:.2} *"),
            Self::Score(least) => format!("score {least:.2}"),
            Self::Cosine(least) => format!("cosine {least:.2}"),
        }
    }

    fn shipped(self) -> bool {
        self == Self::Score(SHIPPED)
    }
}

/// What is known of one pair.
struct Judged {
    canonical: bool,
    cosine: f32,
    /// `None`: a guard vetoes it.
    score: Option<f32>,
}

impl Judged {
    fn of(pair: &Pair) -> Self {
        if !pair.joined {
            return Self { canonical: false, cosine: f32::MIN, score: None };
        }
        let (a, b) = pair.questions();
        let cosine = a.vector().cosine(&b.vector());
        let verdict = judge(&a, &b, cosine);
        let canonical = a.canonical().is_some() && a.canonical() == b.canonical();
        Self { canonical, cosine, score: verdict.veto.is_none().then_some(verdict.score) }
    }

    fn hit(&self, point: Point) -> bool {
        match point {
            Point::Canonical => self.canonical,
            Point::Score(least) => self.canonical || self.score.is_some_and(|score| score >= least),
            Point::Cosine(least) => self.cosine >= least,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    same: usize,
    other: usize,
    /// Served, of the same and of the others, at each point.
    hits: [(usize, usize); POINTS.len()],
}

impl Counts {
    fn add(&mut self, pair: &Pair, judged: &Judged) {
        *(if pair.same { &mut self.same } else { &mut self.other }) += 1;
        for (hits, point) in self.hits.iter_mut().zip(POINTS) {
            let hit = usize::from(judged.hit(point));
            *(if pair.same { &mut hits.0 } else { &mut hits.1 }) += hit;
        }
    }
}

/// The counts of each category, and of all.
pub(super) struct Report {
    categories: BTreeMap<String, Counts>,
    all: Counts,
}

impl Report {
    pub(super) fn of(pairs: &[Pair]) -> Self {
        let mut report = Self { categories: BTreeMap::new(), all: Counts::default() };
        for pair in pairs {
            let judged = Judged::of(pair);
            report.all.add(pair, &judged);
            report.categories.entry(pair.category.clone()).or_default().add(pair, &judged);
        }
        report
    }

    pub(super) fn json(&self) -> Value {
        let rows: Vec<_> = self.rows().map(|(name, counts)| row(name, counts)).collect();
        json!({ "shipped": Point::Score(SHIPPED).name().trim_end_matches(" *"), "categories": rows })
    }

    fn rows(&self) -> impl Iterator<Item = (&str, &Counts)> {
        let categories = self.categories.iter().map(|(name, counts)| (name.as_str(), counts));
        categories.chain([("all", &self.all)])
    }
}

/// Of one category; shares are null where there is nothing to have a share of.
fn row(name: &str, counts: &Counts) -> Value {
    let points: Vec<_> = POINTS
        .iter()
        .zip(counts.hits)
        .map(|(point, (right, wrong))| {
            json!({
                "point": point.name().trim_end_matches(" *"),
                "shipped": point.shipped(),
                "hits": right, "false_hits": wrong,
                "recall": share(right, counts.same),
                "false_hit_rate": share(wrong, counts.other),
                "precision": share(right, right + wrong),
            })
        })
        .collect();
    json!({ "category": name, "same": counts.same, "different": counts.other, "points": points })
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(8);
        write!(f, "{:width$}  {:>6} {:>6}", "category", "same", "other")?;
        for point in POINTS {
            write!(f, "  {:>20}", point.name())?;
        }
        writeln!(f)?;
        for (name, counts) in self.rows() {
            write!(f, "{name:width$}  {:>6} {:>6}", counts.same, counts.other)?;
            for (right, wrong) in counts.hits {
                let percent = |share: Option<f64>| match share {
                    Some(share) => format!("{:.1}", share * 100.0),
                    None => "-".to_owned(),
                };
                let recall = percent(share(right, counts.same));
                let wrongs = percent(share(wrong, counts.other));
                let precision = percent(share(right, right + wrong));
                write!(f, "  {recall:>6} {wrongs:>6} {precision:>6}")?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "\nAt each point: recall, false hits and precision of hits, in percent; * is shipped."
        )
    }
}

/// The pairs that come out wrong at the shipped point, with why.
pub(super) fn errors(pairs: &[Pair]) -> String {
    let wrong = pairs.iter().filter_map(|pair| {
        let hit = Judged::of(pair).hit(Point::Score(SHIPPED));
        if hit == pair.same {
            return None;
        }
        let (a, b) = pair.questions();
        let verdict = judge(&a, &b, a.vector().cosine(&b.vector()));
        let what = if hit { "served" } else { "missed" };
        let why = a.unfit().or(b.unfit()).map(Unfit::as_str);
        let why = why.or(verdict.veto).unwrap_or("score");
        let Pair { line, category, .. } = pair;
        let texts = format!("{:?} / {:?}", pair.a, pair.b);
        Some(format!("{what} line {line} {category} ({why}, {:.2}): {texts}\n", verdict.score))
    });
    wrong.collect()
}
