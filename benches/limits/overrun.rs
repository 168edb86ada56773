//! How exactly a token limit is held: one agent, one limit, more load than it allows.
mod scenarios;

use std::fmt::Write as _;

use self::scenarios::{AGENT_SIZED, COLD_BURST, Scenario, TIGHT};

use crate::Options;
use crate::engine::{self, Limiter};
use crate::policies::{Clamp, Held, How, Limit, Line, PostHoc, Reserve, Reserved};
use crate::real::{Rule, Tidegate};
use crate::report::{self, Verdict, percent, time};
use crate::seen::{Seen, quantile};
use crate::workload::{Nanos, SECOND};

/// Who holds the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    PostHoc,
    Clamp,
    Reserve(Reserved),
    Held(How),
    Tidegate,
    Hard,
    /// With a limit of eight calls at once beside it.
    AtOnce,
}

const ALL: [(&str, Who); 11] = [
    ("post-hoc counter", Who::PostHoc),
    ("clamp at zero", Who::Clamp),
    ("reserve input", Who::Reserve(Reserved::Input)),
    ("reserve max_tokens", Who::Reserve(Reserved::MaxTokens)),
    ("reserve q80, ticks", Who::Reserve(Reserved::Likely)),
    ("held in full", Who::Held(How::Full)),
    ("rate-aware, by formula", Who::Held(How::RateAware)),
    ("the same, careful", Who::Held(How::Careful)),
    ("tidegate", Who::Tidegate),
    ("tidegate, hard", Who::Hard),
    ("tidegate, 8 at once", Who::AtOnce),
];

impl Who {
    fn build(self, limit: Limit) -> Box<dyn Limiter> {
        let rule = Rule { limit, hard: false, shared: false, at_once: None };
        let tidegate = |rule| Box::new(Tidegate::new(&rule, None, 1));
        match self {
            Self::PostHoc => Box::new(Line::new(PostHoc::new(limit))),
            Self::Clamp => Box::new(Line::new(Clamp::new(limit))),
            Self::Reserve(what) => Box::new(Line::new(Reserve::new(limit, what))),
            Self::Held(how) => Box::new(Line::new(Held::new(limit, how))),
            Self::Tidegate => tidegate(rule),
            Self::Hard => tidegate(Rule { hard: true, ..rule }),
            Self::AtOnce => tidegate(Rule { at_once: Some(8), ..rule }),
        }
    }
}

/// The worst overshoot of all seeds; else means.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Figures {
    overshoot: f64,
    used: f64,
    drained: f64,
    done: f64,
    refused: f64,
    p50: f64,
    p99: f64,
}

fn simulate(scenario: &Scenario, who: Who, seed: u64, end: Nanos) -> (Figures, Option<String>) {
    let Scenario { shape, limit, load, burst, .. } = scenario;
    let rate = load * limit.rate / shape.mean();
    let calls = shape.calls(seed, 0, rate, *burst, end);
    let mut seen = Seen::new(limit.rate, limit.burst, end, 1);
    let mut limiter = who.build(*limit);
    let follow = |call: &_, now| shape.next_turn(seed, call, now).filter(|next| next.at < end);
    let last = engine::run(limiter.as_mut(), calls, &follow, None, &mut seen);
    let waits = seen.waits(&[0]);
    let figures = Figures {
        overshoot: seen.overshoot(),
        used: seen.used(),
        drained: seen.used_to_the_last(),
        done: seen.done as f64,
        refused: seen.refusals(),
        p50: quantile(&waits, 0.5, 0.0),
        p99: quantile(&waits, 0.99, 0.0),
    };
    (figures, limiter.residue(last))
}

fn all_seeds(scenario: &Scenario, who: Who, seeds: u64, end: Nanos) -> (Figures, Vec<String>) {
    let mut all = Figures::default();
    let mut residues = Vec::new();
    for seed in 0..seeds {
        let (run, residue) = simulate(scenario, who, seed, end);
        residues.extend(residue);
        all.overshoot = all.overshoot.max(run.overshoot);
        all.used += run.used / seeds as f64;
        all.drained += run.drained / seeds as f64;
        all.done += run.done / seeds as f64;
        all.refused += run.refused / seeds as f64;
        all.p50 += run.p50 / seeds as f64;
        all.p99 += run.p99 / seeds as f64;
    }
    (all, residues)
}

impl Figures {
    fn row(&self, name: &str) -> Vec<String> {
        vec![
            name.to_owned(),
            percent(self.overshoot),
            percent(self.used),
            percent(self.drained),
            format!("{:.0}", self.done),
            percent(self.refused),
            time(self.p50),
            time(self.p99),
        ]
    }
}

const HEAD: [&str; 8] =
    ["", "overshoot", "used", "to the last", "done", "refused", "wait p50", "wait p99"];

pub fn run(options: &Options, verdicts: &mut Vec<Verdict>) -> String {
    let (seeds, end) = (options.seeds(2), 30 * 60 * SECOND);
    let mut text = String::new();
    let (mut hard, mut left) = (0.0_f64, Vec::new());
    for scenario in scenarios::all() {
        let _ = writeln!(text, "\n{}: {}", scenario.name, scenario.about);
        let mut figures = Vec::new();
        for (name, who) in ALL {
            if who == Who::AtOnce && scenario.name != COLD_BURST {
                continue;
            }
            let (of, residues) = all_seeds(&scenario, who, seeds, end);
            left.extend(
                residues.into_iter().map(|left| format!("{name}, {}: {left}", scenario.name)),
            );
            if who == Who::Hard {
                hard = hard.max(of.overshoot);
            }
            figures.push((name, who, of));
        }
        judge(&scenario, &figures, verdicts);
        let rows: Vec<_> = figures.iter().map(|(name, _, figures)| figures.row(name)).collect();
        text += &report::table(&HEAD, &rows);
    }
    verdicts.push(Verdict::at_most("hard, every load: overshoot", hard, 0.0, percent));
    verdicts.push(Verdict::that("all is given back", left.is_empty(), left.first()));
    let twice = [(); 2].map(|()| simulate(&scenarios::all()[0], Who::Tidegate, 0, end));
    verdicts.push(Verdict::that("the same figures twice", twice[0] == twice[1], None));
    text
}

/// What has to be reached.
fn judge(scenario: &Scenario, figures: &[(&str, Who, Figures)], verdicts: &mut Vec<Verdict>) {
    let of = |who| figures.iter().find(|(_, one, _)| *one == who).map(|(.., figures)| *figures);
    let Some(ours) = of(Who::Tidegate) else { return };
    let name = |what: &str| format!("{}: {what}", scenario.name);
    let most = match scenario.name {
        AGENT_SIZED => 0.02,
        TIGHT => 0.06,
        COLD_BURST => {
            let at_once = of(Who::AtOnce).unwrap_or_default().overshoot;
            let what = name("overshoot with 8 at once");
            verdicts.push(Verdict::at_most(&what, at_once, 0.02, percent));
            return;
        }
        _ => return,
    };
    verdicts.push(Verdict::at_most(&name("overshoot"), ours.overshoot, most, percent));
    verdicts.push(Verdict::at_least(&name("limit used"), ours.drained, 1.0, percent));
    if scenario.name == AGENT_SIZED {
        let worst_case = of(Who::Reserve(Reserved::MaxTokens)).unwrap_or_default();
        let what = name("done, of reserving max_tokens");
        verdicts.push(Verdict::at_least(&what, ours.done / worst_case.done, 1.18, percent));
    }
}
