//! What comes after an attempt: nothing more, or the next one, and when.
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const HOUR: u64 = 3600;

/// Before each attempt. As Standard Webhooks has it.
const SCHEDULE: [Duration; 10] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(5 * HOUR),
    Duration::from_secs(10 * HOUR),
    Duration::from_secs(14 * HOUR),
    Duration::from_secs(20 * HOUR),
    Duration::from_secs(24 * HOUR),
];

/// The longest that a receiver may put an attempt off: the schedule's own longest pause.
const LONGEST_HINT: Duration = Duration::from_secs(24 * HOUR);

/// How messages are sent.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// The pause before each attempt.
    pub schedule: Vec<Duration>,
    /// For one attempt, from the look-up of the name to the answer's head.
    pub timeout: Duration,
    /// Between the begins of two attempts.
    pub spacing: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            schedule: SCHEDULE.to_vec(),
            timeout: Duration::from_secs(15),
            spacing: Duration::from_secs(1) / 64,
        }
    }
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    /// 410: the receiver wants no more of it.
    Gone,
    /// It may be tried again, not before the receiver's `Retry-After`. `why` is for the log.
    Failed {
        why: String,
        retry_after: Option<Duration>,
    },
}

impl Outcome {
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed { why: why.into(), retry_after: None }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Gone => f.write_str("410 Gone"),
            Self::Failed { why, .. } => f.write_str(why),
        }
    }
}

/// The time until the next attempt, when so many were made. `None`: there is none. `dice` is from 0
/// to 1; the schedule is kept to, give or take a fifth, so that what failed together does not come back
/// together.
pub(super) fn pause(
    terms: &Terms,
    attempts: u32,
    outcome: &Outcome,
    dice: f64,
) -> Option<Duration> {
    let Outcome::Failed { retry_after, .. } = outcome else { return None };
    let planned = terms.schedule.get(attempts as usize)?.mul_f64(0.8 + 0.4 * dice);
    Some(planned.max(retry_after.unwrap_or_default().min(LONGEST_HINT)))
}

/// A random number from 0 to 1.
pub(super) fn draw() -> f64 {
    (RandomState::new().hash_one(()) % 1001) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(attempts: u32, outcome: &Outcome, dice: f64) -> Option<u128> {
        pause(&Terms::default(), attempts, outcome, dice).map(|pause| pause.as_millis())
    }

    #[test]
    fn ten_attempts_give_or_take_a_fifth_then_it_is_given_up() {
        let failed = Outcome::failed("503");
        let middle: Vec<_> = (1..=10).map(|made| next(made, &failed, 0.5)).collect();
        let seconds = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
        let expected: Vec<_> = seconds.iter().map(|s| Some(s * 1000)).chain([None]).collect();
        assert_eq!(middle, expected);
        assert_eq!((next(1, &failed, 0.0), next(1, &failed, 1.0)), (Some(4000), Some(6000)));
        assert!((0..100).map(|_| draw()).all(|dice| (0.0..=1.0).contains(&dice)));
    }

    #[test]
    fn nothing_comes_after_a_delivery_or_a_410() {
        assert_eq!(next(1, &Outcome::Delivered, 0.5), None);
        assert_eq!(next(1, &Outcome::Gone, 0.5), None);
    }

    #[test]
    fn retry_after_is_waited_for_but_makes_nothing_earlier() {
        let asked = |seconds| Outcome::Failed {
            why: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(next(1, &asked(60), 0.5), Some(60_000));
        assert_eq!(next(2, &asked(60), 0.5), Some(300_000));
        assert_eq!(next(1, &asked(0), 0.5), Some(5000));
        assert_eq!(next(10, &asked(60), 0.5), None);
        // nobody has a message kept for longer than the schedule's longest pause
        for long in [HOUR * 24 * 365, u64::MAX / 1000, u64::MAX] {
            assert_eq!(next(1, &asked(long), 0.5), Some(86_400_000), "{long}");
        }
    }
}
