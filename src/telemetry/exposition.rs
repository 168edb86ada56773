//! An exposition as it is read again: what `tidegate top` takes from another instance's `/metrics`.
//!
//! Counters are added up over their labels; of histograms the buckets are kept, so that the
//! difference of two readings tells what happened between them. What is not known is passed over.
use std::collections::BTreeMap;

/// Counters since the start of an instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    pub started: f64,
    pub requests: f64,
    pub refusals: f64,
    pub input: f64,
    pub output: f64,
    /// Dollars: figures for people.
    pub spend: f64,
    pub saved: f64,
    pub first_token: Buckets,
    pub overhead: Buckets,
}

/// Counts up to a bound in seconds, all smaller ones included.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets(Vec<(f64, f64)>);

impl Totals {
    /// From an exposition.
    pub fn of(text: &str) -> Self {
        let mut all = Self::default();
        let (mut first_token, mut overhead) = (BTreeMap::new(), BTreeMap::new());
        for sample in text.lines().filter_map(Sample::of) {
            let Sample { name, labels, value } = sample;
            match name {
                "process_start_time_seconds" => all.started = value,
                "tidegate_requests_total" => all.requests += value,
                "tidegate_refusals_total" => all.refusals += value,
                "tidegate_tokens_total" if labels.contains("type=\"input\"") => all.input += value,
                "tidegate_tokens_total" if labels.contains("type=\"output\"") => {
                    all.output += value;
                }
                "tidegate_spend_dollars_total" => all.spend += value,
                "tidegate_cache_saved_dollars_total" => all.saved += value,
                "tidegate_time_to_first_token_seconds_bucket" => {
                    add(&mut first_token, labels, value);
                }
                "tidegate_overhead_seconds_bucket" => add(&mut overhead, labels, value),
                _ => {}
            }
        }
        (all.first_token, all.overhead) = (Buckets::of(first_token), Buckets::of(overhead));
        all
    }
}

/// By the bits of a bound: those are in order, for no bound is negative.
type Sums = BTreeMap<u64, f64>;

fn add(sums: &mut Sums, labels: &str, count: f64) {
    let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
    let bound = match bound {
        Some("+Inf") => f64::INFINITY,
        Some(bound) => bound.parse().unwrap_or(f64::INFINITY),
        None => return,
    };
    *sums.entry(bound.to_bits()).or_default() += count;
}

impl Buckets {
    fn of(sums: Sums) -> Self {
        Self(sums.into_iter().map(|(bits, count)| (f64::from_bits(bits), count)).collect())
    }

    /// In seconds, of what came since `before`: within a bucket as if spread evenly; beyond the last
    /// bound, that bound. `None`: nothing came.
    pub fn quantile(&self, before: &Self, share: f64) -> Option<f64> {
        let earlier = |at: usize| before.0.get(at).map_or(0.0, |(_, count)| *count);
        let since: Vec<(f64, f64)> =
            self.0.iter().enumerate().map(|(at, (le, count))| (*le, count - earlier(at))).collect();
        let all = since.last().map(|(_, count)| *count).filter(|all| *all > 0.0)?;
        let wanted = share * all;
        let at = since.iter().position(|(_, count)| *count >= wanted)?;
        let (low, below) = at.checked_sub(1).map_or((0.0, 0.0), |at| since[at]);
        let (high, upto) = since[at];
        if high.is_infinite() {
            return Some(low);
        }
        Some(low + (high - low) * (wanted - below) / (upto - below).max(f64::MIN_POSITIVE))
    }
}

/// One line of an exposition.
struct Sample<'t> {
    name: &'t str,
    labels: &'t str,
    value: f64,
}

impl<'t> Sample<'t> {
    fn of(line: &'t str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_at(end_of_labels(rest)?),
            None => ("", rest),
        };
        // an exemplar may follow
        let value = rest.trim_start_matches('}').split_ascii_whitespace().next()?;
        Some(Self { name, labels, value: value.parse().ok()? })
    }
}

/// A label's value may hold a brace.
fn end_of_labels(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        let ends = byte == b'}' && !quoted;
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposition_is_added_up_over_its_labels() {
        let text = "# HELP tidegate_requests x\n\
            tidegate_requests_total{route=\"a} 9\",code=\"200\"} 3\n\
            tidegate_requests_total{route=\"b\\\"} 7\",code=\"500\"} 4 # {trace_id=\"x\"} 1 2\n\
            tidegate_tokens_total{model=\"m\",type=\"input\"} 10\n\
            tidegate_tokens_total{model=\"m\",type=\"cached_input\"} 10\n\
            tidegate_tokens_total{model=\"m\",type=\"output\"} 5\n\
            tidegate_spend_dollars_total{model=\"m\"} 0.25\n\
            process_start_time_seconds 17.5\n# EOF\n";
        let totals = Totals::of(text);
        let expected = Totals {
            started: 17.5,
            requests: 7.0,
            input: 10.0,
            output: 5.0,
            spend: 0.25,
            ..Totals::default()
        };
        assert_eq!(totals, expected);
    }

    #[test]
    fn quantiles_are_of_what_came_between() {
        let buckets = |counts: [f64; 3]| {
            let lines = ["0.1", "0.2", "+Inf"].iter().zip(counts).map(|(le, count)| {
                format!("tidegate_overhead_seconds_bucket{{route=\"a\",le=\"{le}\"}} {count}\n")
            });
            Totals::of(&lines.collect::<String>()).overhead
        };
        let (before, after) = (buckets([100.0, 100.0, 100.0]), buckets([100.0, 110.0, 110.0]));
        let near = |got: Option<f64>, wanted: f64| (got.unwrap() - wanted).abs() < 1e-9;
        assert!(near(after.quantile(&before, 0.5), 0.15));
        assert!(near(after.quantile(&Buckets::default(), 0.5), 0.055));
        assert_eq!(before.quantile(&before, 0.5), None);
        let beyond = buckets([100.0, 110.0, 200.0]);
        assert!(near(beyond.quantile(&after, 0.99), 0.2), "no more than is known");
    }
}
