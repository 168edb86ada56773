//! Request bodies: what is read of one is what a JSON parser reads, an edit changes what was wished
//! and nothing else, and a question is the same however its text is spaced.
//!
//! Input: a kind (`a` to `o`), what is wished (a digit of bits), a bound, the body.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidegate::wire::{
    Dialect, Edits, Kind, View, Wish, conversation, embed, last_tool_call, question, view,
};
use tidegate_fuzz::json::Tree;
use tidegate_fuzz::kind;

fuzz_target!(|input: &[u8]| {
    let Some(([letter, bits, bound], body)) = input.split_first_chunk::<3>() else { return };
    let kind = kind(*letter);
    let tree = Tree::read(body);
    if let Ok(view) = view(kind, body) {
        if let Some(tree) = &tree {
            agrees(kind, &view, tree);
        }
        if let Some(messages) = view.messages {
            let conversation = conversation(kind, messages);
            assert_eq!(conversation.and_then(|it| it.tool), last_tool_call(kind, messages));
        }
        let wish = Wish {
            include_usage: bits & 1 != 0,
            // no limit lets a call go with nothing, which means no bound to some backends
            max_tokens: (bits & 2 != 0).then(|| u64::from(*bound).max(1)),
            completion_tokens: bits & 4 != 0,
            model: (bits & 8 != 0).then_some("wished"),
        };
        edited(kind, body, &view, wish, tree.as_ref());
    } else if let Some(tree) = tree.as_ref().filter(|_| kind.dialect() != Dialect::Http) {
        // JSON is refused only for what stands in it
        assert!(refusable(kind, tree), "{}", String::from_utf8_lossy(body));
    }
    asked(kind, body, tree.is_some());
    embeds(kind, body);
});

/// The names by which a backend of this dialect knows a member.
fn is(dialect: Dialect, name: &'static str) -> impl Fn(&str) -> bool {
    move |other| match dialect {
        Dialect::Ollama => other.eq_ignore_ascii_case(name),
        Dialect::Gemini => other == name || other == snake(name),
        _ => other == name,
    }
}

fn snake(camel: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.to_string() }
    };
    camel.chars().map(letter).collect()
}

fn only<'t>(tree: &'t Tree, dialect: Dialect, name: &'static str) -> Option<&'t Tree> {
    let mut all = tree.all(is(dialect, name));
    let first = all.next();
    assert!(all.next().is_none(), "`{name}` stands there twice, and was read");
    first.filter(|value| **value != Tree::Null)
}

fn agrees(kind: Kind, view: &View<'_>, tree: &Tree) {
    let dialect = kind.dialect();
    if dialect == Dialect::Http {
        return;
    }
    assert!(tree.members().is_some(), "a view of what is no object");
    let has_model = dialect != Dialect::Gemini;
    if has_model {
        assert_eq!(view.model.as_deref(), only(tree, dialect, "model").and_then(Tree::text));
    }
    if has_model && !kind.embeds() {
        assert_eq!(view.stream, only(tree, dialect, "stream").and_then(Tree::bool));
    }
    if kind == Kind::Responses {
        let background = only(tree, dialect, "background").and_then(Tree::bool);
        assert_eq!(view.background, background == Some(true));
    }
    let count = |name| only(tree, dialect, name).and_then(Tree::count);
    let expected = match kind {
        Kind::Chat => count("max_tokens").max(count("max_completion_tokens")),
        Kind::Completions | Kind::Messages | Kind::CountTokens => count("max_tokens"),
        Kind::Responses => count("max_output_tokens"),
        Kind::Generate | Kind::StreamGenerate => {
            inside(tree, dialect, "generationConfig", "maxOutputTokens")
        }
        Kind::OllamaChat | Kind::OllamaGenerate => {
            let options = only(tree, dialect, "options");
            let bound = options.and_then(|options| options.get("num_predict"));
            bound.and_then(Tree::count).filter(|count| *count > 0)
        }
        _ => return,
    };
    assert_eq!(view.max_tokens, expected);
}

fn inside(tree: &Tree, dialect: Dialect, holder: &'static str, name: &'static str) -> Option<u64> {
    let value = only(only(tree, dialect, holder)?, dialect, name)?;
    value.count().filter(|count| *count > 0)
}

/// Whether there is something in it that a view may refuse: a member twice, or of a wrong type.
fn refusable(kind: Kind, tree: &Tree) -> bool {
    let Some(members) = tree.members() else { return true };
    let folded = |name: &String| name.to_ascii_lowercase().replace('_', "");
    let mut names: Vec<_> = members.iter().map(|(name, _)| folded(name)).collect();
    names.sort();
    let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
    let dialect = kind.dialect();
    let wrong = |name, fits: fn(&Tree) -> bool| {
        tree.all(is(dialect, name)).any(|value| *value != Tree::Null && !fits(value))
    };
    twice
        || tree.repeats()
        || wrong("model", |value| value.text().is_some())
        || wrong("stream", |value| value.bool().is_some())
        || kind == Kind::Responses && wrong("background", |value| value.bool().is_some())
        || tree
            .all(is(dialect, "stream_options"))
            .any(|options| options.get("include_usage").is_some_and(|value| value.bool().is_none()))
        || members.iter().any(|(name, value)| {
            // the bound may stand there twice in two spellings
            let holds = ["generationconfig", "options"].contains(&folded(name).as_str());
            holds && value.members().is_some_and(|inner| inner.len() > 1)
        })
}

fn edited(kind: Kind, body: &[u8], view_before: &View<'_>, wish: Wish<'_>, tree: Option<&Tree>) {
    let edits = Edits::new(kind, view_before, wish);
    let (is_empty, asks, unbounded) = (edits.is_empty(), edits.asks_usage(), edits.unbounded());
    let body = Bytes::copy_from_slice(body);
    let out = edits.apply(&body);
    assert_eq!(is_empty, out == body || out.len() == body.len() && is_empty);
    let Some(tree) = tree else { return };
    let changed = Tree::read(&out).expect("an edit leaves JSON");
    let view = view(kind, &out).expect("an edit leaves what can be read");
    if let Some(limit) = wish.max_tokens
        && !unbounded
        && view.max_tokens != view_before.max_tokens
    {
        assert_eq!(view.max_tokens, Some(limit));
        // of chat's two bounds one may make no sense, and gives way to the limit
        let senseless = |name| {
            tree.all(is(kind.dialect(), name))
                .any(|value| *value != Tree::Null && value.count().is_none())
        };
        let broken = senseless("max_tokens") || senseless("max_completion_tokens");
        assert!(broken || view_before.max_tokens.is_none_or(|before| before >= limit));
    }
    if asks {
        assert_eq!(view.include_usage, Some(true));
    }
    if view.model != view_before.model {
        assert_eq!(view.model.as_deref(), wish.model);
    }
    assert_eq!(
        bare(&changed, kind, wish, asks),
        bare(tree, kind, wish, asks),
        "an edit changed what nobody wished"
    );
}

/// The tree without what the wish may change.
fn bare(tree: &Tree, kind: Kind, wish: Wish<'_>, asks: bool) -> Tree {
    let dialect = kind.dialect();
    let bound = |name: &str| {
        let known = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
        wish.max_tokens.is_some() && known.contains(&name)
    };
    let without = |value: &Tree, name: &'static str| match value {
        Tree::Object(members) => {
            let others = members.iter().filter(|(other, _)| !is(dialect, name)(other));
            let others: Vec<_> = others.cloned().collect();
            (!others.is_empty()).then_some(Tree::Object(others))
        }
        Tree::Null => None,
        other => Some(other.clone()),
    };
    let members = tree.members().unwrap_or_default().iter().filter_map(|(name, value)| {
        let value = if bound(name) || (wish.model.is_some() && is(dialect, "model")(name)) {
            None
        } else if asks && name == "stream_options" {
            without(value, "include_usage")
        } else if wish.max_tokens.is_some() && is(dialect, "generationConfig")(name) {
            without(value, "maxOutputTokens")
        } else if wish.max_tokens.is_some() && is(dialect, "options")(name) {
            without(value, "num_predict")
        } else if wish.model.is_some() && name == "requests" {
            // Gemini's batch names the model in each of them
            Some(Tree::List(each(value).map(without_model).collect()))
        } else {
            Some(value.clone())
        };
        value.map(|value| (name.clone(), value))
    });
    Tree::Object(members.collect())
}

fn each(list: &Tree) -> impl Iterator<Item = &Tree> {
    let elements = if let Tree::List(list) = list { list.as_slice() } else { &[] };
    elements.iter()
}

fn without_model(request: &Tree) -> Tree {
    let Some(members) = request.members() else { return request.clone() };
    Tree::Object(members.iter().filter(|(name, _)| name != "model").cloned().collect())
}

fn said(kind: Kind, body: &[u8]) -> Option<Vec<u8>> {
    let question = question(kind, body).ok()?;
    let mut said = Vec::new();
    question.say(&mut |part| said.extend_from_slice(part));
    if let Ok(turn) = question.last_turn() {
        let mut around = Vec::new();
        question.say_around(&turn, &mut |part| around.extend_from_slice(part));
        assert!(around.len() <= said.len());
    }
    Some(said)
}

fn asked(kind: Kind, body: &[u8], is_json: bool) {
    let said_here = said(kind, body);
    if is_json {
        let tight = respaced(body, b"");
        assert_eq!(said(kind, &tight), said_here, "space means something");
        assert_eq!(said(kind, &respaced(body, b" \r\n\t")), said_here, "space means something");
    }
}

/// JSON with `space` around every mark, and none elsewhere outside of strings.
fn respaced(body: &[u8], space: &[u8]) -> Vec<u8> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let (mut out, mut in_string, mut escaped) = (Vec::new(), false, false);
    for &byte in body {
        let mark = !in_string && b"{}[]:,".contains(&byte);
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => continue,
            b'"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && byte == b'\\' && !escaped;
        if mark {
            out.extend_from_slice(space);
        }
        out.push(byte);
        if mark {
            out.extend_from_slice(space);
        }
    }
    out
}

fn embeds(kind: Kind, body: &[u8]) {
    let Some(batch) = embed::batch(kind, body) else { return };
    let all: Vec<usize> = (0..batch.len()).collect();
    assert!(!all.is_empty());
    assert_eq!(batch.only(&all), body, "all inputs are the whole request");
    let say = |batch: &embed::Batch<'_>, index| {
        let mut said = Vec::new();
        batch.say_around(&mut |part| said.extend_from_slice(part));
        batch.say_input(index, &mut |part| said.extend_from_slice(part));
        said
    };
    let last = batch.len() - 1;
    let alone = batch.only(&[last]);
    let again = embed::batch(kind, &alone).expect("one input of a request is a request");
    assert_eq!(again.len(), 1);
    assert_eq!(say(&again, 0), say(&batch, last), "alone it is another input");
}
