//! Recorded answers: a stream made of a plain answer, or the other way round, says the same to
//! everybody who reads it; vectors that are taken out of an answer come back in one.
//!
//! Input: a kind (`a` to `o`), a form (`j`, `s`, `n`), how many inputs, the answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::wire::embed::{Api, Kept, put_together, take_apart};
use tidegate::wire::{
    Form, Kind, Meter, SseSplit, Unfolded, Usage, facts, fold, restream, text, unfold,
};
use tidegate_fuzz::json::Tree;
use tidegate_fuzz::kind;

fuzz_target!(|input: &[u8]| {
    let Some(([letter, form, inputs], body)) = input.split_first_chunk::<3>() else { return };
    let kind = kind(*letter);
    let form = match form {
        b'j' => Form::Json,
        b'n' => Form::NdJson,
        b's' => Form::Sse,
        _ => Form::Opaque,
    };
    let _ = (facts(kind, form, body), text(kind, form, body));
    if let Some(plain) = fold(kind, form, body)
        && pieces(form, body).all(|piece| Tree::read(&piece).is_some())
    {
        assert!(Tree::read(&plain).is_some(), "{}", String::from_utf8_lossy(&plain));
    }
    for usage in [false, true] {
        let made = restream(kind, form, body, usage);
        made.iter().for_each(ends);
    }
    if let Some(tree) = Tree::read(body).filter(|tree| !tree.repeats()) {
        unfolded(kind, body, &tree);
    }
    vectors(kind, body, usize::from(inputs.wrapping_sub(b'0')));
});

/// What is JSON in a stream.
fn pieces(form: Form, body: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut pieces = Vec::new();
    if form == Form::Sse {
        let mut split = SseSplit::new();
        let mut keep = |event: tidegate::wire::Event<'_>| pieces.push(event.data.to_vec());
        split.push(body, &mut keep);
        split.finish(&mut keep);
        pieces.retain(|piece| piece.trim_ascii() != b"[DONE]");
    } else if form == Form::NdJson {
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        pieces.extend(lines.map(<[u8]>::to_vec));
    } else {
        pieces.push(body.to_vec());
    }
    pieces.into_iter()
}

fn ends(made: &Unfolded) {
    assert!(made.ends.is_sorted());
    assert_eq!(made.ends.last().map_or(0, |end| *end as usize), made.body.len());
}

/// A stream made of a plain answer.
fn unfolded(kind: Kind, body: &[u8], tree: &Tree) {
    let Some(made) = unfold(kind, body, true) else { return };
    ends(&made);
    let (json, stream) = (Form::Json, made.form);
    let show = || String::from_utf8_lossy(&made.body).into_owned();
    for piece in pieces(stream, &made.body) {
        assert!(Tree::read(&piece).is_some(), "{}", show());
    }
    assert_eq!(text(kind, json, body), text(kind, stream, &made.body), "{}", show());
    let mut plain = Meter::new(kind, json);
    plain.whole(body, false);
    let mut streamed = Meter::new(kind, stream);
    streamed.push(&made.body);
    streamed.finish();
    // a stream begins with an output of nothing, also where the answer has no count that can be read
    let nothing = |usage: &Usage| *usage == Usage::default();
    let told = plain.usage().or_else(|| streamed.usage().filter(nothing));
    assert_eq!(told, streamed.usage(), "{}", show());
    assert_eq!(plain.ending(), streamed.ending(), "{}", show());
    if let Some(back) = fold(kind, stream, &made.body) {
        let back = Tree::read(&back).expect("JSON");
        assert_eq!(sorted(&back), sorted(tree), "{}", show());
    }
}

/// In one order, and without what says nothing: a stream may say that or not. The model is the only
/// one that answers, so its role is no news.
fn sorted(tree: &Tree) -> Tree {
    match tree {
        Tree::List(list) => Tree::List(list.iter().map(sorted).collect()),
        Tree::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), sorted(value)));
            let says = |(name, value): &(String, Tree)| {
                !is_empty(value) && (name != "role" || value.text() != Some("assistant"))
            };
            let mut members: Vec<_> = members.filter(says).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Tree::Object(members)
        }
        other => other.clone(),
    }
}

fn is_empty(tree: &Tree) -> bool {
    match tree {
        Tree::Null => true,
        Tree::Text(text) => text.is_empty(),
        Tree::List(list) => list.is_empty(),
        Tree::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn vectors(kind: Kind, body: &[u8], inputs: usize) {
    let apis: &[Api] = match kind {
        Kind::Embeddings => &[Api::OpenAi],
        Kind::GeminiEmbed => &[Api::Gemini, Api::GeminiBatch],
        Kind::OllamaEmbed => &[Api::Ollama, Api::OllamaSingle],
        _ => &[],
    };
    for &api in apis {
        let Some(apart) = take_apart(api, body, inputs) else { continue };
        let kept: Vec<_> =
            (0..inputs).map(|index| apart.kept(index).expect("each input's")).collect();
        assert_eq!(apart.kept(inputs), None);
        let parts: Vec<_> =
            kept.iter().map(|one| Kept::read(one).expect("as it was kept")).collect();
        let tokens = apart.tokens.unwrap_or(7);
        let Some(again) = put_together(api, &parts, 0, tokens) else {
            panic!("vectors of one answer make no answer");
        };
        let apart_again = take_apart(api, &again, inputs).expect("an answer of ours is one");
        let vectors = |index: usize| Kept::read(&kept[index]);
        for index in 0..inputs {
            let other = apart_again.kept(index).expect("each input's");
            assert_eq!(Kept::read(&other), vectors(index), "{}", String::from_utf8_lossy(&again));
        }
        if Tree::read(body).is_some() {
            assert!(Tree::read(&again).is_some(), "{}", String::from_utf8_lossy(&again));
        }
    }
}
