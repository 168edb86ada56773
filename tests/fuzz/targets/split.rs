//! Streams in pieces: server-sent events and JSON lines are the same for every chunking, and what
//! the rules of each format say; what watches an answer, or hides an event of it, says the same.
//!
//! Input: a kind (`a` to `o`), a form (`j`, `s`, `n`), six sizes of pieces, the stream.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidegate::wire::{Ending, Event, Form, Hide, Line, Meter, NdJsonSplit, SseSplit, Usage};
use tidegate_fuzz::dice::pieces;
use tidegate_fuzz::{json, kind};

fuzz_target!(|input: &[u8]| {
    let Some(([letter, form, sizes @ ..], data)) = input.split_first_chunk::<8>() else { return };
    let pieces = pieces(data, sizes);
    events(data, &pieces);
    lines(data, &pieces);
    let form = match form {
        b'j' => Form::Json,
        b'n' => Form::NdJson,
        _ => Form::Sse,
    };
    meter(*letter, form, data, &pieces);
    hide(data, &pieces);
});

type OwnEvent = (Option<Vec<u8>>, Vec<u8>);

fn own(event: Event<'_>) -> OwnEvent {
    assert!(event.tail.is_none(), "no event is that large");
    (event.name.map(<[u8]>::to_vec), event.data.to_vec())
}

fn events(data: &[u8], pieces: &[&[u8]]) {
    let parts = parts(data);
    let (mut split, mut found, mut seen, mut before) = (SseSplit::new(), Vec::new(), 0, 0);
    let mut complete = Vec::new();
    let mut parts_left = parts.iter().peekable();
    for piece in pieces {
        split.push(piece, &mut |event| found.push(own(event)));
        seen += piece.len();
        while let Some(part) = parts_left.next_if(|part| part.blank.is_some_and(|at| at < seen)) {
            complete.extend(read_event(&data[part.from..part.to]));
            before = part.after;
        }
        assert_eq!(found, complete, "after {seen} bytes");
        assert_eq!(split.between(), seen <= before, "after {seen} bytes");
    }
    split.finish(&mut |event| found.push(own(event)));
    assert_eq!(found, all_events(data));
    assert_eq!(split.skipped(), 0);
}

/// What stands before a blank line, or before the end.
struct Part {
    from: usize,
    to: usize,
    /// Where the blank line begins; `None`: there is only the end.
    blank: Option<usize>,
    /// Behind the blank line.
    after: usize,
}

/// The HTML standard, "Interpreting an event stream": a line ends in CR LF, CR or LF.
fn parts(data: &[u8]) -> Vec<Part> {
    let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
    while let Some(end) = data[at..].iter().position(|byte| b"\r\n".contains(byte)) {
        let end = at + end;
        let after = if data[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
        if end == at {
            parts.push(Part { from, to: at, blank: Some(at), after });
            from = after;
        }
        at = after;
    }
    parts.push(Part { from, to: data.len(), blank: None, after: data.len() });
    parts
}

fn all_events(data: &[u8]) -> Vec<OwnEvent> {
    parts(data).iter().filter_map(|part| read_event(&data[part.from..part.to])).collect()
}

/// As the standard has it, but that a byte order mark may begin each event.
fn read_event(text: &[u8]) -> Option<OwnEvent> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let (mut name, mut data) = (None, Vec::new());
    for line in text.split(|byte| b"\r\n".contains(byte)) {
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = Some(value.to_vec()),
            b"data" => data.push(value),
            _ => {}
        }
    }
    (!data.is_empty()).then(|| (name, data.join(&b'\n')))
}

fn lines(data: &[u8], pieces: &[&[u8]]) {
    let expected: Vec<_> = data
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .collect();
    let (mut split, mut found, mut seen) = (NdJsonSplit::new(), Vec::new(), 0);
    let mut keep = |line: Line<'_>| {
        assert!(line.tail.is_none(), "no line is that long");
        found.push(line.data.to_vec());
    };
    for piece in pieces {
        split.push(piece, &mut keep);
        seen += piece.len();
        assert_eq!(split.between(), data[seen - 1] == b'\n');
    }
    split.finish(&mut keep);
    assert_eq!(found, expected);
}

/// What a meter tells.
#[derive(Debug, PartialEq)]
struct Told {
    usage: Option<Usage>,
    ending: Ending,
    content_events: u64,
    produced: u64,
    model: Option<String>,
}

fn told(meter: &Meter) -> Told {
    Told {
        usage: meter.usage(),
        ending: meter.ending(),
        content_events: meter.content_events(),
        produced: meter.produced(),
        model: meter.model().map(str::to_owned),
    }
}

fn meter(letter: u8, form: Form, data: &[u8], pieces: &[&[u8]]) {
    let kind = kind(letter);
    let mut once = Meter::new(kind, form);
    once.push(data);
    let mut meter = Meter::new(kind, form);
    let mut produced = 0;
    for piece in pieces {
        meter.push(piece);
        assert!(meter.produced() >= produced, "what was produced is taken back");
        produced = meter.produced();
    }
    assert_eq!(told(&meter), told(&once));
    assert_eq!(meter.between_events(), once.between_events());
    assert_eq!(meter.content_started(), once.content_started());
    meter.finish();
    once.finish();
    assert_eq!(told(&meter), told(&once));
    let plain = || json::Tree::read(data).is_some_and(|tree| !tree.repeats());
    if form == Form::Json && plain() {
        let mut whole = Meter::new(kind, form);
        whole.whole(data, false);
        assert_eq!((whole.usage(), whole.ending()), (once.usage(), once.ending()));
    }
}

fn hide(data: &[u8], pieces: &[&[u8]]) {
    let passed = |pieces: &[&[u8]]| {
        let (mut hide, mut out) = (Hide::new(), Vec::new());
        let mut pass = |piece: Bytes| {
            assert!(!piece.is_empty());
            out.extend_from_slice(&piece);
        };
        for piece in pieces {
            hide.push(Bytes::copy_from_slice(piece), &mut pass);
        }
        hide.finish(&mut pass);
        out
    };
    let whole = passed(&[data]);
    assert_eq!(passed(pieces), whole, "what passes hangs on the chunking");
    let left = all_events(&whole);
    let mut left = left.iter().peekable();
    for event in &all_events(data) {
        if left.next_if_eq(&event).is_none() {
            usage_alone(&event.1);
        }
    }
    assert_eq!(left.next(), None, "an event that nobody sent");
}

/// Only such an event may be hidden: no choices, and a usage.
fn usage_alone(data: &[u8]) {
    let has = |word: &[u8]| data.windows(word.len()).any(|part| part == word);
    assert!(has(b"\"choices\"") && has(b"\"usage\""), "{}", String::from_utf8_lossy(data));
    if let Some(tree) = json::Tree::read(data).filter(|tree| !tree.repeats()) {
        assert_eq!(tree.get("choices"), Some(&json::Tree::List(Vec::new())));
        assert_ne!(tree.get("usage").unwrap_or(&json::Tree::Null), &json::Tree::Null);
    }
}
