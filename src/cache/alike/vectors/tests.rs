use proptest::prelude::*;

use super::*;
use crate::semantic::DIMS;

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn floats(width: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1.0..1.0_f32, width)
        .prop_filter("a direction", |vector| vector.iter().any(|part| part.abs() > 0.1))
}

proptest! {
    #[test]
    fn the_nearest_are_those_that_a_search_by_hand_finds(
        rows in prop::collection::vec(floats(40), 1..60),
        to in floats(40),
        dead in prop::collection::hash_set(0..60_u32, 0..20),
    ) {
        let mut vectors = Vectors::default();
        for (at, row) in rows.iter().enumerate() {
            vectors.push(&Direction::remote(row).unwrap(), at as u32);
        }
        let found = vectors.nearest(&Direction::remote(&to).unwrap(), |row| !dead.contains(&row));
        let mut hand: Vec<_> = rows.iter().enumerate()
            .filter(|(at, _)| !dead.contains(&(*at as u32)))
            .map(|(_, row)| cosine(row, &to))
            .collect();
        hand.sort_by(|a, b| b.total_cmp(a));
        hand.truncate(NEIGHBOURS);
        prop_assert_eq!(found.len(), hand.len());
        for (found, hand) in found.iter().zip(&hand) {
            prop_assert!((found.cosine - hand).abs() < 0.02, "{} {}", found.cosine, hand);
            let own = cosine(&rows[found.row as usize], &to);
            prop_assert!((found.cosine - own).abs() < 0.02, "the right row: {own}");
        }
        prop_assert!(found.is_sorted_by(|a, b| a.cosine >= b.cosine));
    }
}

#[test]
fn only_its_own_width_is_a_neighbour() {
    let mut vectors = Vectors::default();
    let wide = Direction::remote(&[0.5; 96]).unwrap();
    let narrow = Direction::remote(&[0.5; 64]).unwrap();
    assert_eq!(vectors.push(&wide, 0), Some(0));
    assert_eq!(vectors.push(&narrow, 1), None);
    assert_eq!(vectors.nearest(&narrow, |_| true), []);
    assert_eq!(vectors.nearest(&wide, |_| true).len(), 1);
}

#[test]
fn what_points_nowhere_is_no_direction() {
    assert_eq!(Direction::remote(&[]), None);
    assert_eq!(Direction::remote(&[0.0; 8]), None);
    assert_eq!(Direction::remote(&[1.0, f32::NAN]), None);
    assert_eq!(Direction::remote(&[1.0, f32::INFINITY]), None);
    assert_eq!(Direction::builtin(&Vector([0; DIMS])), None);
    assert!(Direction::remote(&[1e-30, 1e30]).is_some());
}

#[test]
fn a_length_changes_nothing() {
    let mut vectors = Vectors::default();
    vectors.push(&Direction::remote(&[3e4, -4e4, 1.0]).unwrap(), 0);
    let found = vectors.nearest(&Direction::remote(&[3e-4, -4e-4, 1e-8]).unwrap(), |_| true);
    assert!((found[0].cosine - 1.0).abs() < 1e-6);
}
