//! The soak's judge finds what leaks, and nothing where nothing does.
#[path = "../benches/soak/judge.rs"]
mod judge;

use judge::{Sample, judge, slope};

const MIB: f64 = 1024.0 * 1024.0;

/// Three minutes: warms up for half a minute, then whatever `grown` adds (MiB, files) by the second.
fn run(grown: impl Fn(f64) -> (f64, usize)) -> Vec<Sample> {
    let sample = |second: u32| {
        let at = f64::from(second);
        let (more, files) = grown(at);
        // a saw of 3 MiB, as an allocator's
        let noise = f64::from(second % 7) * 0.5;
        let rss = 40.0 + 20.0 * (at / 30.0).min(1.0) + noise + more;
        let files = 120 + (second as usize * 13) % 40 + files;
        Sample { at, rss: (rss * MIB) as u64, files, threads: 4 }
    };
    (0..180).map(sample).collect()
}

fn failed(samples: &[Sample]) -> Vec<&'static str> {
    judge(samples).into_iter().filter(|it| !it.passed).map(|it| it.what).collect()
}

#[test]
fn a_process_that_warms_up_and_stays_passes() {
    assert_eq!(failed(&run(|_| (0.0, 0))), Vec::<&str>::new());
}

#[test]
fn a_leak_of_two_mebibytes_a_minute_is_found_through_the_noise() {
    assert_eq!(failed(&run(|at| (at / 30.0, 0))), ["growth of resident memory"]);
}

#[test]
fn one_peak_is_no_leak() {
    let peak = |at| if (150.0..160.0).contains(&at) { (200.0, 0) } else { (0.0, 0) };
    assert_eq!(failed(&run(peak)), Vec::<&str>::new());
}

#[test]
fn a_file_lost_every_two_seconds_is_found() {
    assert_eq!(failed(&run(|at| (0.0, at as usize / 2))), ["open files, last third"]);
}

#[test]
fn a_thread_left_over_every_ten_seconds_is_found() {
    let mut samples = run(|_| (0.0, 0));
    for sample in &mut samples {
        sample.threads += sample.at as usize / 10;
    }
    assert_eq!(failed(&samples), ["threads, last third"]);
}

#[test]
fn too_little_is_no_pass() {
    let verdicts = judge(&run(|_| (0.0, 0))[..5]);
    assert_eq!(verdicts[0].line(), "SHORT samples: 5, wanted >= 12");
}

#[test]
fn the_slope_is_that_of_most_pairs() {
    let mut points: Vec<_> = (0..20).map(|x| (f64::from(x), 3.0 * f64::from(x))).collect();
    points[4].1 = 1e9;
    assert!((slope(&points) - 3.0).abs() < 1e-9);
    assert!(slope(&[]).abs() < 1e-9);
}
