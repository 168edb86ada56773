//! What a series of samples says: whether memory grows, whether files leak.
//!
//! No more than arithmetic, so that `tests/soak_judge.rs` can show that a leak is found. The slope is that of Theil and Sen, the median of the slopes
//! of all pairs: a few peaks do not move it (Sen, JASA 63, 1968).

/// What the process looked like at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Seconds since the load began.
    pub at: f64,
    pub rss: u64,
    pub files: usize,
    pub threads: usize,
}

/// A figure beside its bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub what: &'static str,
    pub figure: String,
    pub bound: String,
    pub passed: bool,
}

impl Verdict {
    pub fn new(what: &'static str, figure: String, bound: &str, passed: bool) -> Self {
        Self { what, figure, bound: bound.to_owned(), passed }
    }

    pub fn line(&self) -> String {
        let word = if self.passed { "PASS " } else { "SHORT" };
        format!("{word} {}: {}, wanted {}", self.what, self.figure, self.bound)
    }
}

const MIB: f64 = 1024.0 * 1024.0;
/// Growth of so many MiB a minute is noise.
const SLOPE: f64 = 1.0;
/// Or this share of the plateau.
const SHARE: f64 = 0.02;
/// Files that may be open beyond the earlier most: a log, a look at the metrics.
const FILES: usize = 8;
/// With fewer, there is nothing to judge.
const LEAST: usize = 12;

/// Judges a run; the samples are in order of time.
pub fn judge(samples: &[Sample]) -> Vec<Verdict> {
    if samples.len() < LEAST {
        let figure = samples.len().to_string();
        return vec![Verdict::new("samples", figure, &format!(">= {LEAST}"), false)];
    }
    vec![memory(samples), files(samples), threads(samples)]
}

/// The second half alone: before it, pools and caches fill.
fn memory(samples: &[Sample]) -> Verdict {
    let half: Vec<_> = samples.iter().skip(samples.len() / 2).collect();
    let points: Vec<_> = half.iter().map(|it| (it.at / 60.0, it.rss as f64 / MIB)).collect();
    let plateau = median(points.iter().map(|point| point.1).collect());
    let bound = SLOPE.max(SHARE * plateau);
    let slope = slope(&points);
    Verdict::new(
        "growth of resident memory",
        format!("{slope:+.2} MiB/min at {plateau:.0} MiB"),
        &format!("<= {bound:.2}"),
        slope <= bound,
    )
}

/// The most in the last third against the most in the one before.
fn files(samples: &[Sample]) -> Verdict {
    let third = samples.len() / 3;
    let most = |part: &[Sample]| part.iter().map(|it| it.files).max().unwrap_or(0);
    let before = most(&samples[third..2 * third]);
    let (last, bound) = (most(&samples[2 * third..]), before + FILES + before / 20);
    Verdict::new("open files, last third", last.to_string(), &format!("<= {bound}"), last <= bound)
}

fn threads(samples: &[Sample]) -> Verdict {
    let third = samples.len() / 3;
    let most = |part: &[Sample]| part.iter().map(|it| it.threads).max().unwrap_or(0);
    let (before, last) = (most(&samples[third..2 * third]), most(&samples[2 * third..]));
    // a pool for blocking work comes and goes
    let bound = before + 2;
    Verdict::new("threads, last third", last.to_string(), &format!("<= {bound}"), last <= bound)
}

/// The median slope of all pairs of points; 0 without a pair.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let mut slopes = Vec::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let later = points.iter().skip(index + 1).filter(|(later, _)| later > x);
        slopes.extend(later.map(|(later, value)| (value - y) / (later - x)));
    }
    median(slopes)
}

/// 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
