//! The last quarter of an hour in points of two seconds, in fixed memory.
//!
//! A point is the difference of two looks at the sums (`metrics/sums.rs`), so that all points since the
//! start add up to what a scrape reads. Points are numbered from 1, without gaps: who has seen one knows
//! whether it missed any. A point is as long as it took until the next look, two seconds as a rule.
//!
//! The shape is the page's (`admin/page/page.js`): columns as arrays for a whole window, one value each
//! for a point.
use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::metrics::{Metrics, Sums};

/// How often somebody should look.
pub const EVERY: Duration = Duration::from_secs(2);
/// Points that are kept: 15 minutes.
const KEPT: usize = 450;

#[derive(Debug)]
pub struct History {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    points: VecDeque<Point>,
    /// The number of the last one.
    last: u64,
    before: Sums,
}

/// What happened between two looks; the gauges are of the second.
#[derive(Debug, Clone, Copy)]
struct Point {
    end_ms: u64,
    moved: Sums,
    waiting: u64,
}

type Column = (&'static str, fn(&Point) -> u64);

const COLUMNS: [Column; 21] = [
    ("end_ms", |point| point.end_ms),
    ("calls_complete", |point| point.moved.complete),
    ("calls_refused", |point| point.moved.refused),
    ("calls_upstream", |point| point.moved.upstream),
    ("calls_deadline", |point| point.moved.deadline),
    ("calls_client_gone", |point| point.moved.left),
    ("input_tokens", |point| point.moved.input_tokens),
    ("output_tokens", |point| point.moved.output_tokens),
    ("spend_nano", |point| point.moved.spend_nano),
    ("saved_nano", |point| point.moved.saved.nano),
    ("saved_calls", |point| point.moved.saved.calls),
    ("saved_tokens", |point| point.moved.saved.tokens),
    ("cache_hit", |point| point.moved.cache[0]),
    ("cache_canonical", |point| point.moved.cache[1]),
    ("cache_semantic", |point| point.moved.cache[2]),
    ("cache_joined", |point| point.moved.cache[3]),
    ("cache_partial", |point| point.moved.cache[4]),
    ("cache_miss", |point| point.moved.cache[5]),
    ("cache_bypass", |point| point.moved.cache[6]),
    ("in_flight", |point| point.moved.in_flight),
    ("waiting", |point| point.waiting),
];

impl Default for History {
    fn default() -> Self {
        let points = VecDeque::with_capacity(KEPT);
        Self { state: Mutex::new(State { points, last: 0, before: Sums::default() }) }
    }
}

impl History {
    /// Looks: a point ends here. `waiting`: the most calls that stood in line at once.
    pub fn look(&self, sums: &Sums, waiting: u64, end_ms: u64) {
        let mut state = self.state.lock();
        let moved = since(sums, &state.before);
        if state.points.len() == KEPT {
            state.points.pop_front();
        }
        state.points.push_back(Point { end_ms, moved, waiting });
        state.last += 1;
        state.before = *sums;
    }

    /// The number of the last point; 0 before the first.
    pub fn last(&self) -> u64 {
        self.state.lock().last
    }

    /// The last point: `n` and a value of each column. `None` before the first.
    pub fn point(&self) -> Option<Value> {
        let state = self.state.lock();
        let point = state.points.back()?;
        let mut all: Map<_, _> =
            COLUMNS.iter().map(|(name, of)| ((*name).to_owned(), json!(of(point)))).collect();
        all.insert("n".to_owned(), json!(state.last));
        all.insert("first_token".to_owned(), counts(&point.moved.first_token));
        all.insert("overhead".to_owned(), counts(&point.moved.overhead));
        Some(Value::Object(all))
    }

    /// The whole window, and the number of its last point.
    pub fn window(&self, started_ms: u64) -> (Value, u64) {
        let state = self.state.lock();
        let mut columns: Map<String, Value> = COLUMNS
            .iter()
            .map(|(name, of)| ((*name).to_owned(), state.points.iter().map(of).collect()))
            .collect();
        let histogram = |of: fn(&Point) -> Value| state.points.iter().map(of).collect::<Value>();
        columns
            .insert("first_token".to_owned(), histogram(|point| counts(&point.moved.first_token)));
        columns.insert("overhead".to_owned(), histogram(|point| counts(&point.moved.overhead)));
        let bounds = Metrics::bounds();
        let window = json!({
            "started_ms": started_ms,
            "every_ms": EVERY.as_millis() as u64,
            "last": state.last,
            "bounds": { "first_token": bounds.first_token, "overhead": bounds.overhead },
            "points": columns,
        });
        (window, state.last)
    }
}

/// By bucket; null where nothing was counted.
fn counts(counts: &[u64]) -> Value {
    if counts.iter().all(|count| *count == 0) { Value::Null } else { json!(counts) }
}

/// Sums only grow; a gauge stays as it is.
fn since(now: &Sums, before: &Sums) -> Sums {
    let mut moved = *now;
    let pairs = [
        (&mut moved.complete, before.complete),
        (&mut moved.refused, before.refused),
        (&mut moved.upstream, before.upstream),
        (&mut moved.deadline, before.deadline),
        (&mut moved.left, before.left),
        (&mut moved.input_tokens, before.input_tokens),
        (&mut moved.output_tokens, before.output_tokens),
        (&mut moved.spend_nano, before.spend_nano),
        (&mut moved.saved.nano, before.saved.nano),
        (&mut moved.saved.calls, before.saved.calls),
        (&mut moved.saved.tokens, before.saved.tokens),
    ];
    let rows = moved.cache.iter_mut().zip(before.cache);
    let rows = rows.chain(moved.first_token.iter_mut().zip(before.first_token));
    let rows = rows.chain(moved.overhead.iter_mut().zip(before.overhead));
    for (sum, before) in pairs.into_iter().chain(rows) {
        *sum = sum.saturating_sub(before);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Saved;

    fn sums(calls: u64) -> Sums {
        let mut sums = Sums {
            complete: calls,
            input_tokens: calls * 10,
            spend_nano: calls * 7,
            saved: Saved { calls, tokens: calls, nano: calls * 3 },
            in_flight: 2,
            ..Sums::default()
        };
        sums.cache[5] = calls;
        sums.overhead[3] = calls;
        sums
    }

    #[test]
    fn points_add_up_to_the_sums_and_are_bounded() {
        let history = History::default();
        assert!(history.point().is_none() && history.last() == 0);
        for at in 1..=500 {
            history.look(&sums(at * at), 1, at * 2000);
        }
        let (window, last) = history.window(7);
        assert_eq!((last, &window["last"], &window["started_ms"]), (500, &json!(500), &json!(7)));
        let points = &window["points"];
        let column =
            |name: &str| -> Vec<u64> { serde_json::from_value(points[name].clone()).unwrap() };
        for (name, _) in COLUMNS {
            assert_eq!(column(name).len(), KEPT, "{name}");
        }
        // what went out of the window is the square of the last look before it
        let moved: u64 = column("calls_complete").iter().sum();
        assert_eq!(moved, 500 * 500 - 50 * 50);
        assert_eq!(column("spend_nano").iter().sum::<u64>(), 7 * moved);
        assert_eq!(column("cache_miss").iter().sum::<u64>(), moved);
        assert_eq!(column("in_flight")[0], 2, "a gauge is no difference");
        assert_eq!(column("end_ms")[449], 1_000_000);
        assert_eq!(points["first_token"][0], Value::Null);
        assert_eq!(points["overhead"][449][3], 999);
    }

    #[test]
    fn a_point_is_the_last_row_of_the_window() {
        let history = History::default();
        history.look(&sums(3), 4, 2000);
        history.look(&sums(8), 0, 4000);
        let point = history.point().unwrap();
        let (window, _) = history.window(0);
        for (name, _) in COLUMNS {
            assert_eq!(point[name], window["points"][name][1], "{name}");
        }
        assert_eq!((&point["n"], &point["calls_complete"]), (&json!(2), &json!(5)));
        assert_eq!(point["overhead"], window["points"]["overhead"][1]);
        assert_eq!(window["bounds"]["overhead"].as_array().unwrap().len(), 13);
        assert_eq!(window["bounds"]["first_token"].as_array().unwrap().len(), 16);
    }
}
