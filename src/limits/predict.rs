//! How many tokens a call will take, learned from the calls before it.
//!
//! Output: a fading histogram of each subject's answers (`histogram`), of which four in five are
//! not longer than predicted; for a subject that is new, the model's own histogram. Input: bytes
//! times a ratio that each model teaches by what it reports. Speed and the time to the first token
//! are kept a model, too. A tokenizer is not used: an exact count costs more than all the rest of an
//! admission, and the backend's own count corrects the estimate at the end.
//! All is O(1), without a clock and without I/O; memory is bounded (`super::recent`), and what has not
//! been taught for longest is forgotten first.
use std::time::Duration;

use super::prehashed::AsGiven;
use super::recent::Recent;
use crate::wire::Usage;

mod histogram;
#[cfg(test)]
mod tests;

use histogram::Histogram;

/// Whose history a prediction comes from: hashes of names, and what kind of call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Subject {
    pub agent: u64,
    pub model: u64,
    /// Chat, embeddings, …: histories do not mix.
    pub kind: u8,
    /// The model thinks first.
    pub reasoning: bool,
}

/// What one call came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Bytes of the prompt.
    pub bytes: u64,
    /// As the backend reported it.
    pub usage: Option<Usage>,
    /// Answers that were asked for at once (`n`), which share the output; none counts as one.
    pub answers: u64,
    /// From the first token to the last.
    pub generating: Option<Duration>,
    pub first_token: Option<Duration>,
    /// The answer came to its end.
    pub complete: bool,
}

/// What is known of one subject, to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    pub subject: Subject,
    /// Complete answers that taught it.
    pub answers: u64,
    /// Tokens that four in five answers do not exceed, to a quarter of an octave.
    pub output: u64,
}

/// The histories.
#[derive(Debug)]
pub struct Predictor {
    // the keys are hashes by a key of the process
    subjects: Recent<Subject, Histogram<80>, AsGiven>,
    models: Recent<u64, Model, AsGiven>,
}

/// What all calls of a model have in common.
#[derive(Debug, Default)]
struct Model {
    input: Input,
    output: Histogram<95>,
    /// Tokens a second.
    speed: Average,
    /// Milliseconds.
    first_token: Histogram<50>,
}

/// Tokens for a byte of prompt.
#[derive(Debug, Default)]
struct Input {
    usual: Average,
    /// The largest, fading towards the usual.
    most: f64,
}

/// An average in which each sample counts a tenth, the first few more.
#[derive(Debug, Default)]
struct Average {
    value: f64,
    samples: u64,
}

/// Most subjects that are known at once: 1.4 MB.
const MAX_SUBJECTS: usize = 4_096;
/// Most models that are known at once: 0.8 MB.
const MAX_MODELS: usize = 1_024;

/// With fewer samples a history says nothing yet.
const COLD: u64 = 5;
/// Tokens of an answer of which nothing is known, and of no cold one more.
const COLD_OUTPUT: u64 = 4_096;
/// Four bytes a token, as English text has.
const USUAL_RATIO: f64 = 0.25;
/// A ratio outside is no text: a picture of a megabyte, a file by its name.
const RATIOS: (f64, f64) = (0.05, 2.0);
/// Tokens that a backend puts around the shortest prompt.
const FRAME: u64 = 64;
const USUAL_SPEED: f64 = 60.0;
const SPEEDS: (f64, f64) = (5.0, 2_000.0);
/// Shorter answers say nothing of the speed.
const FEW_TOKENS: u64 = 8;
/// What the newest sample counts in an average.
const NEWEST: f64 = 0.1;
/// What is left of the difference between the largest ratio and the usual one after a sample.
const FADE: f64 = 0.99;

impl Default for Predictor {
    fn default() -> Self {
        Self { subjects: Recent::new(MAX_SUBJECTS), models: Recent::new(MAX_MODELS) }
    }
}

/// What is to be expected of a call, by its model alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prompt {
    /// As [`Predictor::input`], [`Predictor::input_most`], [`Predictor::knows`], [`Predictor::speed`].
    pub likely: u64,
    pub most: u64,
    pub known: bool,
    pub speed: u64,
}

impl Predictor {
    /// All of it by one look.
    pub fn prompt(&self, model: u64, bytes: u64) -> Prompt {
        let known = self.models.get(&model);
        let usual = known.map_or(USUAL_RATIO, |model| model.input.usual());
        let likely = tokens(bytes, usual);
        let sure = known.map(|model| &model.input).filter(|input| input.usual.samples >= COLD);
        let most = match sure {
            Some(input) => tokens(bytes, input.most.max(input.usual()) * 1.1),
            // byte-level BPE, as all of them are, makes no more tokens than there are bytes
            None => bytes,
        };
        let speed = known.and_then(|model| model.speed.known()).unwrap_or(USUAL_SPEED);
        Prompt {
            likely,
            most: most.saturating_add(FRAME).max(likely),
            known: sure.is_some(),
            speed: speed.round() as u64,
        }
    }

    /// Likely tokens of a prompt.
    pub fn input(&self, model: u64, bytes: u64) -> u64 {
        self.prompt(model, bytes).likely
    }

    /// Tokens that a prompt will hardly exceed; for limits that must hold. Never less than
    /// [`Predictor::input`].
    pub fn input_most(&self, model: u64, bytes: u64) -> u64 {
        self.prompt(model, bytes).most
    }

    /// Whether prompts of the model are known well enough to say how far a guess may be off.
    pub fn knows(&self, model: u64) -> bool {
        self.prompt(model, 0).known
    }

    /// Likely tokens of all `n` answers, at most `max_tokens` each.
    pub fn output(&self, of: Subject, max_tokens: Option<u64>, n: u64) -> u64 {
        let known = self.subjects.get(&of).filter(|history| history.samples() >= COLD);
        let likely = match known.and_then(Histogram::quantile) {
            Some((_, most)) => most,
            None => self.of_all(of.model).min(COLD_OUTPUT),
        };
        likely.min(max_tokens.unwrap_or(u64::MAX)).saturating_mul(n.max(1))
    }

    /// Tokens a second of one answer.
    pub fn speed(&self, model: u64) -> u64 {
        self.prompt(model, 0).speed
    }

    /// The usual time to the first token: the median. `None` until enough calls have told theirs.
    pub fn first_token(&self, model: u64) -> Option<Duration> {
        let times = &self.models.get(&model)?.first_token;
        let (least, most) = times.quantile().filter(|_| times.samples() >= COLD)?;
        Some(Duration::from_millis(least.midpoint(most)))
    }

    pub fn learn(&mut self, of: Subject, sample: &Sample) {
        let model = self.models.touch(of.model);
        if let Some(time) = sample.first_token {
            model.first_token.add(time.as_millis() as u64);
        }
        let Some(usage) = sample.usage else { return };
        model.input.learn(usage.input, sample.bytes);
        if !sample.complete {
            return;
        }
        let output = usage.output.div_ceil(sample.answers.max(1));
        if let Some(speed) = speed(output, &usage, sample) {
            model.speed.add(speed, USUAL_SPEED);
        }
        model.output.add(output);
        self.subjects.touch(of).add(output);
    }

    /// All subjects that are known, in no order.
    pub fn histories(&self) -> impl Iterator<Item = History> {
        self.subjects.iter().map(|(subject, history)| History {
            subject: *subject,
            answers: history.samples(),
            output: history.quantile().map_or(0, |(_, most)| most),
        })
    }

    /// Tokens that few answers of the model exceed; without end if too few are known.
    fn of_all(&self, model: u64) -> u64 {
        let known = self.models.get(&model).map(|model| &model.output);
        let known = known.filter(|output| output.samples() >= COLD);
        known.and_then(Histogram::quantile).map_or(u64::MAX, |(_, most)| most)
    }
}

impl Input {
    fn usual(&self) -> f64 {
        self.usual.known().unwrap_or(USUAL_RATIO)
    }

    fn learn(&mut self, tokens: u64, bytes: u64) {
        if tokens == 0 || bytes == 0 {
            return;
        }
        let ratio = |tokens: u64| tokens as f64 / bytes as f64;
        let mut seen = ratio(tokens).clamp(RATIOS.0, RATIOS.1);
        // the frame is added apart: in a short prompt it would look like a large ratio
        let bound = ratio(tokens.saturating_sub(FRAME)).min(RATIOS.1);
        if self.usual.samples >= COLD {
            // one prompt with a picture does not undo what many have taught
            seen = seen.clamp(self.usual() / 2.0, self.usual() * 2.0);
        }
        self.usual.add(seen, USUAL_RATIO);
        let faded = self.usual.value + (self.most - self.usual.value) * FADE;
        self.most = faded.max(bound);
    }
}

impl Average {
    fn known(&self) -> Option<f64> {
        (self.samples > 0).then_some(self.value)
    }

    /// What stood there before the first sample counts as one.
    fn add(&mut self, sample: f64, before: f64) {
        let value = self.known().unwrap_or(before);
        self.samples += 1;
        let weight = (1.0 / (self.samples as f64 + 1.0)).max(NEWEST);
        self.value = value + (sample - value) * weight;
    }
}

fn tokens(bytes: u64, ratio: f64) -> u64 {
    (bytes as f64 * ratio).ceil() as u64
}

/// Tokens a second of one answer of so many tokens, where that can be told.
fn speed(output: u64, usage: &Usage, sample: &Sample) -> Option<f64> {
    let mut time = sample.generating.filter(|time| !time.is_zero() && output >= FEW_TOKENS)?;
    if usage.reasoning > 0 {
        // thoughts that are counted but not sent are made before the first token comes
        time += sample.first_token.unwrap_or_default();
    }
    Some((output as f64 / time.as_secs_f64()).clamp(SPEEDS.0, SPEEDS.1))
}
