use std::collections::HashSet;

use proptest::prelude::*;

use super::super::recent::Recent;
use super::*;

const MODEL: u64 = 7;

fn subject(agent: u64) -> Subject {
    Subject { agent, model: MODEL, kind: 0, reasoning: false }
}

fn answer(output: u64) -> Sample {
    let usage = Some(Usage { output, ..Usage::default() });
    Sample { usage, complete: true, ..Sample::default() }
}

fn prompt(bytes: u64, input: u64) -> Sample {
    let usage = Some(Usage { input, ..Usage::default() });
    Sample { bytes, usage, ..Sample::default() }
}

fn taught(of: Subject, samples: &[Sample]) -> Predictor {
    let mut predictor = Predictor::default();
    for sample in samples {
        predictor.learn(of, sample);
    }
    predictor
}

#[test]
fn a_stranger_is_expected_to_say_what_the_model_rarely_exceeds() {
    let mut predictor = Predictor::default();
    let stranger = subject(99);
    assert_eq!(predictor.output(stranger, None, 1), 4096);
    assert_eq!(predictor.output(stranger, Some(100), 1), 100);
    assert_eq!(predictor.output(stranger, Some(100_000), 2), 8192);
    // a known model is the better guess, but 4,096 stays the most
    (0..4).for_each(|agent| predictor.learn(subject(agent), &answer(200)));
    assert_eq!(predictor.output(stranger, None, 1), 4096);
    predictor.learn(subject(4), &answer(200));
    assert_eq!(predictor.output(stranger, None, 1), 223);
    assert_eq!(predictor.output(Subject { model: 8, ..stranger }, None, 1), 4096);
    (0..50).for_each(|agent| predictor.learn(subject(agent), &answer(50_000)));
    assert_eq!(predictor.output(stranger, None, 1), 4096);
}

#[test]
fn a_known_subject_is_expected_to_say_what_it_used_to() {
    let (chatty, terse) = (subject(1), subject(2));
    let mut predictor = taught(chatty, &[answer(30_000); 5]);
    for _ in 0..5 {
        predictor.learn(terse, &answer(20));
    }
    assert_eq!(predictor.output(chatty, None, 1), 32_767);
    assert_eq!(predictor.output(chatty, Some(1_000), 1), 1_000);
    assert_eq!(predictor.output(chatty, Some(1_000), 3), 3_000);
    assert_eq!(predictor.output(terse, Some(1_000), 1), 23);
    assert_eq!(predictor.output(terse, Some(1_000), 0), 23);
    assert_eq!(predictor.output(terse, None, u64::MAX), u64::MAX);
    // other kinds of call have histories of their own
    assert_eq!(predictor.output(Subject { reasoning: true, ..terse }, None, 1), 4096);
    assert_eq!(predictor.output(Subject { kind: 1, ..terse }, None, 1), 4096);
}

#[test]
fn four_in_five_answers_are_not_longer_than_predicted() {
    // 10, 20, … 1,000 in an order without a trend
    let samples: Vec<_> = (0..500).map(|step| answer((step * 37 % 100 + 1) * 10)).collect();
    let predictor = taught(subject(1), &samples);
    let predicted = predictor.output(subject(1), None, 1);
    assert!((800..=1_000).contains(&predicted), "{predicted}");
}

#[test]
fn only_complete_answers_teach_their_length() {
    let cut = Sample { complete: false, ..answer(3) };
    let silent = Sample { usage: None, ..answer(3) };
    let mut predictor = taught(subject(1), &[cut, silent].repeat(10));
    assert_eq!(predictor.output(subject(1), None, 1), 4096);
    assert_eq!(predictor.histories().count(), 0);
    (0..5).for_each(|_| predictor.learn(subject(1), &answer(3)));
    assert_eq!(predictor.output(subject(1), None, 1), 3);
}

#[test]
fn answers_that_were_asked_for_at_once_teach_as_one_each() {
    let four = Sample { answers: 4, ..answer(400) };
    let predictor = taught(subject(1), &[four; 5]);
    assert_eq!(predictor.output(subject(1), None, 1), 111);
    assert_eq!(predictor.output(subject(1), None, 4), 444);
}

#[test]
fn the_ratio_of_tokens_to_bytes_is_learned() {
    let predictor = taught(subject(1), &[]);
    assert_eq!(predictor.input(MODEL, 1_001), 251);
    assert_eq!(predictor.input_most(MODEL, 1_000), 1_064);
    // a language of two bytes a token
    let predictor = taught(subject(1), &[prompt(10_000, 5_000); 100]);
    assert_eq!(predictor.input(MODEL, 1_000), 500);
    // 4,936 of 5,000 tokens are not the frame; a tenth on top, and the frame
    assert_eq!(predictor.input_most(MODEL, 1_000), 550 + 64);
    assert_eq!(predictor.input(8, 1_000), 250, "another model");
    let predictor = taught(subject(1), &[prompt(10_000, 5_000); 4]);
    assert_eq!(predictor.input_most(MODEL, 1_000), 1_064, "too few to trust");
}

#[test]
fn the_most_covers_what_was_seen_for_a_while() {
    let mut predictor = taught(subject(1), &[prompt(10_000, 2_500); 50]);
    predictor.learn(subject(1), &prompt(10_000, 6_000));
    assert!(predictor.input_most(MODEL, 10_000) >= 6_000);
    assert!(predictor.input(MODEL, 10_000) < 3_000);
    for _ in 0..500 {
        predictor.learn(subject(1), &prompt(10_000, 2_500));
    }
    assert!(predictor.input_most(MODEL, 10_000) < 3_000, "{}", predictor.input_most(MODEL, 10_000));
}

#[test]
fn a_short_prompt_in_its_frame_is_not_taken_for_dense_text() {
    let predictor = taught(subject(1), &[prompt(20, 40); 50]);
    assert!(predictor.input_most(MODEL, 20) >= 40);
    let mixed = [prompt(20, 40), prompt(40_000, 10_000), prompt(40_000, 10_000)];
    let predictor = taught(subject(1), &mixed.repeat(50));
    let most = predictor.input_most(MODEL, 40_000);
    assert!((10_000..40_000).contains(&most), "{most}");
}

#[test]
fn pictures_hardly_move_the_ratio() {
    let mut predictor = taught(subject(1), &[prompt(10_000, 2_500); 50]);
    // a megabyte that counts as little, and a name that counts as a film
    predictor.learn(subject(1), &prompt(1 << 20, 1_000));
    assert!((2_300..=2_500).contains(&predictor.input(MODEL, 10_000)));
    predictor.learn(subject(1), &prompt(100, 100_000));
    assert!((2_300..=2_800).contains(&predictor.input(MODEL, 10_000)));
    // what never ends is no outlier
    for _ in 0..200 {
        predictor.learn(subject(1), &prompt(1 << 20, 1_000));
    }
    assert_eq!(predictor.input(MODEL, 10_000), 501, "but no lower than a twentieth");
}

#[test]
fn speed_is_an_average_within_reason() {
    let told = |output, millis| Sample {
        generating: Some(Duration::from_millis(millis)),
        ..answer(output)
    };
    assert_eq!(Predictor::default().speed(MODEL), 60);
    assert_eq!(taught(subject(1), &[told(300, 2_000); 100]).speed(MODEL), 150);
    assert_eq!(taught(subject(1), &[told(300, 2_000)]).speed(MODEL), 105, "half of each");
    assert_eq!(taught(subject(1), &[told(300, 1); 100]).speed(MODEL), 2_000);
    assert_eq!(taught(subject(1), &[told(300, 600_000); 100]).speed(MODEL), 5);
    let four = Sample { answers: 4, ..told(1_200, 2_000) };
    assert_eq!(taught(subject(1), &[four; 100]).speed(MODEL), 150);
    let nothing =
        [told(7, 1), told(300, 0), answer(300), Sample { complete: false, ..told(300, 1) }];
    assert_eq!(taught(subject(1), &nothing).speed(MODEL), 60);
    // 2,000 tokens of thought before the first that is sent
    let mut thinker = told(2_200, 2_000);
    thinker.first_token = Some(Duration::from_secs(20));
    thinker.usage = thinker.usage.map(|usage| Usage { reasoning: 2_000, ..usage });
    assert_eq!(taught(subject(1), &[thinker; 100]).speed(MODEL), 100);
}

#[test]
fn the_time_to_the_first_token_is_the_median() {
    let told =
        |millis| Sample { first_token: Some(Duration::from_millis(millis)), ..Sample::default() };
    assert_eq!(taught(subject(1), &[told(900); 4]).first_token(MODEL), None);
    let predictor = taught(subject(1), &[told(900), told(300), told(30_000)].repeat(20));
    assert_eq!(predictor.first_token(MODEL), Some(Duration::from_millis(959)));
    assert_eq!(predictor.first_token(8), None);
}

#[test]
fn memory_is_bounded_and_the_longest_idle_goes() {
    let mut predictor = Predictor::default();
    for agent in 0..3 * MAX_SUBJECTS as u64 {
        predictor.learn(subject(agent), &answer(100));
        predictor.learn(subject(0), &answer(100));
    }
    assert_eq!(predictor.histories().count(), MAX_SUBJECTS);
    let agents: HashSet<_> = predictor.histories().map(|history| history.subject.agent).collect();
    let newest = 3 * MAX_SUBJECTS as u64 - MAX_SUBJECTS as u64 + 1..3 * MAX_SUBJECTS as u64;
    assert_eq!(agents, newest.chain([0]).collect());
    let kept = predictor.histories().find(|history| history.subject.agent == 0).unwrap();
    assert_eq!((kept.answers, kept.output), (6 * MAX_SUBJECTS as u64 / 2 + 1, 111));
    for model in 0..3 * MAX_MODELS as u64 {
        predictor.learn(Subject { model, ..subject(1) }, &prompt(1_000, 1_000));
    }
    assert_eq!(predictor.models.iter().count(), MAX_MODELS);
    assert_eq!(predictor.input(0, 1_000), 250);
    assert!(predictor.input(3 * MAX_MODELS as u64 - 1, 1_000) > 600);
}

/// Prints what a call costs: `cargo test --release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn what_it_takes() {
    let mut predictor = Predictor::default();
    let agents = 10_000_u64;
    let of = |round: u64| subject(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % agents);
    let sample = |round: u64| Sample {
        bytes: 10_000 + round % 1_000,
        usage: Some(Usage { input: 2_600, output: round * 7 % 900, ..Usage::default() }),
        answers: 1,
        generating: Some(Duration::from_millis(4_000 + round % 100)),
        first_token: Some(Duration::from_millis(300 + round % 500)),
        complete: true,
    };
    let rounds = 1_000_000;
    (0..rounds).for_each(|round| predictor.learn(of(round), &sample(round)));
    let timed = |name: &str, work: &mut dyn FnMut(u64)| {
        let begin = std::time::Instant::now();
        (0..rounds).for_each(work);
        println!("{name}: {} ns", begin.elapsed().as_nanos() / u128::from(rounds));
    };
    timed("learn, 10,000 agents", &mut |round| predictor.learn(of(round), &sample(round)));
    timed("learn, 100 agents", &mut |round| predictor.learn(subject(round % 100), &sample(round)));
    timed("output, known", &mut |round| {
        std::hint::black_box(predictor.output(subject(round % 100), Some(4_096), 1));
    });
    timed("output, cold", &mut |round| {
        std::hint::black_box(predictor.output(subject(round + agents), Some(4_096), 1));
    });
    timed("input", &mut |round| {
        std::hint::black_box(predictor.input(MODEL, round));
    });
    timed("input_most", &mut |round| {
        std::hint::black_box(predictor.input_most(MODEL, round));
    });
    timed("speed", &mut |_| {
        std::hint::black_box(predictor.speed(std::hint::black_box(MODEL)));
    });
}

proptest! {
    #[test]
    fn predictions_keep_their_bounds(
        samples in prop::collection::vec(
            (any::<u64>(), any::<u64>(), any::<u64>(), 0..4_u64, any::<u64>(), any::<bool>()),
            0..40,
        ),
        bytes in any::<u64>(),
        max_tokens in any::<u64>(),
        n in any::<u64>(),
    ) {
        let mut predictor = Predictor::default();
        for (bytes, input, output, answers, millis, complete) in samples {
            let time = Some(Duration::from_millis(millis));
            predictor.learn(subject(answers), &Sample {
                bytes,
                usage: Some(Usage { input, output, reasoning: output % 2, ..Usage::default() }),
                answers,
                generating: time,
                first_token: time,
                complete,
            });
        }
        prop_assert!(predictor.input_most(MODEL, bytes) >= predictor.input(MODEL, bytes));
        let likely = predictor.input(MODEL, bytes % (1 << 40)) as f64;
        let bytes = (bytes % (1 << 40)) as f64;
        prop_assert!((bytes * 0.049..=bytes * 2.0 + 1.0).contains(&likely));
        prop_assert!((5..=2_000).contains(&predictor.speed(MODEL)));
        let output = predictor.output(subject(1), Some(max_tokens), n);
        prop_assert!(output <= max_tokens.saturating_mul(n.max(1)));
    }

    #[test]
    fn recent_is_a_map_that_forgets_the_oldest(
        most in 1..6_usize,
        keys in prop::collection::vec(0..9_u8, 0..60),
    ) {
        let mut recent = Recent::<u8, u32>::new(most);
        let mut model: Vec<(u8, u32)> = Vec::new();
        for key in keys {
            *recent.touch(key) += 1;
            let count = model.iter().position(|(known, _)| *known == key);
            let count = count.map_or(0, |at| model.remove(at).1);
            model.push((key, count + 1));
            if model.len() > most {
                model.remove(0);
            }
            for key in 0..9 {
                let expected = model.iter().find(|(known, _)| *known == key).map(|(_, count)| count);
                prop_assert_eq!(recent.get(&key), expected);
            }
            prop_assert_eq!(recent.iter().count(), model.len());
        }
    }
}
