//! What it takes, to be read by a person: `--run-ignored`, with optimisation.
use std::hint::black_box;
use std::time::Instant;

use super::*;

fn body(turns: usize, words: usize, spaced: bool) -> String {
    let text = "The quick brown fox jumps over the lazy dog\\n".repeat(words);
    let messages: Vec<_> = (0..turns)
        .map(|turn| {
            let role = if turn % 2 == 0 { "user" } else { "assistant" };
            format!(r#"{{"role":"{role}","content":"{text}"}}"#)
        })
        .collect();
    let body = format!(
        r#"{{"model":"gpt-5","messages":[{},{{"role":"user","content":"And then?"}}],"temperature":0.2,"max_tokens":100,"stream":true,"stream_options":{{"include_usage":true}},"user":"u-1","response_format":{{"type":"json_object"}}}}"#,
        messages.join(",")
    );
    if spaced { body.replace("\":", "\": ").replace(",\"", ", \"") } else { body }
}

fn time(what: &str, mut run: impl FnMut()) {
    // short rounds and the best of many: what else runs on the machine is not in it
    let best = (0..400).map(|_| {
        let begun = Instant::now();
        (0..20).for_each(|_| run());
        begun.elapsed() / 20
    });
    println!("{what}: {:?}", best.min().unwrap());
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    for (name, body) in [
        ("1 kB", body(3, 6, false)),
        ("1 kB, spaced", body(3, 6, true)),
        ("100 kB in 9 turns", body(9, 240, false)),
        ("100 kB in 9 turns, spaced", body(9, 240, true)),
        ("100 kB in 301 turns", body(301, 6, false)),
        ("100 kB in 301 turns, spaced", body(301, 6, true)),
    ] {
        let body = body.as_bytes();
        println!("{name}: {} bytes", body.len());
        time("  question + say", || {
            let question = question(Kind::Chat, black_box(body)).unwrap();
            let mut total = 0;
            question.say(&mut |piece| total += black_box(piece).len());
            black_box(total);
        });
        time("  question", || {
            black_box(question(Kind::Chat, black_box(body)).unwrap());
        });
        let asked = question(Kind::Chat, body).unwrap();
        time("  last_turn + say_around", || {
            let turn = asked.last_turn().unwrap();
            asked.say_around(&turn, &mut |piece| {
                black_box(piece);
            });
        });
        time("  all, with BLAKE3", || {
            let mut hasher = blake3::Hasher::new_keyed(&[7; 32]);
            question(Kind::Chat, black_box(body)).unwrap().say(&mut |piece| {
                hasher.update(piece);
            });
            black_box(hasher.finalize());
        });
        time("  BLAKE3 of the body alone", || {
            black_box(blake3::keyed_hash(&[7; 32], black_box(body)));
        });
    }
}
