//! Boosted trees as a table: the log of the odds that two questions ask the same.
//!
//! `data/trees.bin` is written by `packaging/semantic/train.py`: the baseline (f32), then for each
//! tree its number of nodes (u8) and its nodes of seven bytes: a feature, or 255 for a leaf; the
//! node below when the feature is at most the threshold, and the one when it is not (u8 each);
//! threshold or value (f32). All little-endian. A file that is cut off says what it has.
use super::features::COUNT;

static FILE: &[u8] = include_bytes!("data/trees.bin");

const NODE: usize = 7;
const LEAF: u8 = 255;

/// The score of two questions with these features.
pub fn score(features: &[f32; COUNT]) -> f32 {
    let Some((baseline, mut rest)) = FILE.split_first_chunk() else { return f32::MIN };
    let mut sum = f32::from_le_bytes(*baseline);
    while let Some((&nodes, trees)) = rest.split_first() {
        let Some((tree, next)) = trees.split_at_checked(usize::from(nodes) * NODE) else { break };
        sum += leaf(tree, features);
        rest = next;
    }
    sum
}

/// The value of the leaf that the features lead to.
fn leaf(tree: &[u8], features: &[f32; COUNT]) -> f32 {
    let (nodes, _) = tree.as_chunks::<NODE>();
    let mut at = 0;
    // every step goes further on, so that no file can hold it
    while let Some(&[feature, below, above, a, b, c, d]) = nodes.get(at) {
        let value = f32::from_le_bytes([a, b, c, d]);
        if feature == LEAF {
            return value;
        }
        let seen = features.get(usize::from(feature)).copied().unwrap_or_default();
        let next = usize::from(if seen <= value { below } else { above });
        if next <= at {
            break;
        }
        at = next;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::super::{Question, features::features};
    use super::*;

    /// Pairs with the scores that scikit-learn gives them, by `packaging/semantic/train.py`.
    #[test]
    fn scores_are_those_of_the_training() {
        let sample = include_str!("../../tests/fixtures/semantic/scores.tsv");
        let mut pairs = 0;
        for line in sample.lines() {
            let mut columns = line.split('\t');
            let mut next = || columns.next().expect("three columns");
            let (wanted, a, b) = (next().parse::<f32>().expect("a number"), next(), next());
            let found = score(&features(&Question::read(a), &Question::read(b)));
            assert!((found - wanted).abs() < 1e-3, "{a} / {b}: {found}, wanted {wanted}");
            pairs += 1;
        }
        assert!(pairs > 100, "{pairs} pairs");
    }
}
