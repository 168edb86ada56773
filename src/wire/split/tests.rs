use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Seen = (Option<Vec<u8>>, Vec<u8>, Option<Vec<u8>>);

fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Seen>, u64) {
    let mut split = SseSplit::new();
    let mut seen = Vec::new();
    let mut on_event = |event: Event<'_>| {
        let tail = event.tail.map(<[u8]>::to_vec);
        seen.push((event.name.map(<[u8]>::to_vec), event.data.to_vec(), tail));
    };
    for chunk in chunks {
        split.push(chunk, &mut on_event);
    }
    split.finish(&mut on_event);
    (seen, split.skipped())
}

fn lines<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<(Vec<u8>, bool)>, u64) {
    let mut split = NdJsonSplit::new();
    let mut seen = Vec::new();
    let mut on_line = |line: Line<'_>| seen.push((line.data.to_vec(), line.tail.is_some()));
    for chunk in chunks {
        split.push(chunk, &mut on_line);
    }
    split.finish(&mut on_line);
    (seen, split.skipped())
}

fn event(name: Option<&str>, data: &str) -> Seen {
    (name.map(|name| name.as_bytes().to_vec()), data.as_bytes().to_vec(), None)
}

#[test]
fn every_way_to_write_an_event() {
    for (text, want) in [
        ("data: a\n\n", vec![event(None, "a")]),
        ("data:a\n\n", vec![event(None, "a")]),
        ("data:  a\n\n", vec![event(None, " a")]),
        ("data\n\n", vec![event(None, "")]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", vec![event(None, "a"), event(None, "b")]),
        ("data: a\r\rdata: b\r\r", vec![event(None, "a"), event(None, "b")]),
        ("data: a\n\r\ndata: b\r\n\n", vec![event(None, "a"), event(None, "b")]),
        ("event: ping\ndata: {}\nid: 7\n\n", vec![event(Some("ping"), "{}")]),
        ("data: 1\ndata: 2\r\ndata:3\n\n", vec![event(None, "1\n2\n3")]),
        ("data:\ndata: 2\n\n", vec![event(None, "\n2")]),
        (": comment\n\ndata: a\n\n", vec![event(None, "a")]),
        (": comment\ndata: a\n: more\n\n", vec![event(None, "a")]),
        ("\u{feff}data: a\n\n", vec![event(None, "a")]),
        ("\n\n\r\n\rdata: a\n\n\n\n", vec![event(None, "a")]),
        ("data: a\n\ndata: cut", vec![event(None, "a"), event(None, "cut")]),
        ("event: lonely\n\n", vec![]),
        ("database: x\n\n", vec![]),
        ("", vec![]),
    ] {
        let whole = events([text.as_bytes()]);
        assert_eq!(whole.0, want, "{text:?}");
        assert_eq!(events(text.as_bytes().chunks(1)), whole, "{text:?} byte by byte");
    }
}

#[test]
fn an_event_over_the_bound_is_passed_over_and_the_next_is_read() {
    let filler = "x".repeat(MAX_EVENT + 70_000);
    let text = format!("event: big\ndata: first{filler}last\n\ndata: small\n\n");
    for size in [1000, 4096, 65_536, usize::MAX] {
        let (seen, skipped) = events(text.as_bytes().chunks(size.min(text.len())));
        assert_eq!(skipped, 1);
        let [(name, data, tail), small] = &seen[..] else { panic!("{} events", seen.len()) };
        assert_eq!(name.as_deref(), Some(&b"big"[..]));
        assert!(data.starts_with(b"first") && data.len() < HEAD);
        let tail = tail.as_deref().unwrap();
        assert!(tail.ends_with(b"xlast\n") && tail.len() == TAIL);
        assert_eq!(*small, event(None, "small"));
    }
}

#[test]
fn the_bound_itself_is_exact_in_every_chunking() {
    for (extra, want) in [(0, 0), (1, 1)] {
        // "data: " and the line's end are part of the event.
        let text = format!("data: {}\n\n", "x".repeat(MAX_EVENT - 7 + extra));
        for size in [4096, 9973, text.len()] {
            assert_eq!(events(text.as_bytes().chunks(size)).1, want, "{extra} {size}");
        }
    }
}

#[test]
fn memory_is_bounded_and_given_back() {
    let mut split = SseSplit::new();
    let chunk = vec![b'x'; 300_000];
    for _ in 0..100 {
        split.push(&chunk, &mut |_| panic!("nothing is complete"));
        assert!(split.carry.kept.capacity() <= 2 * MAX_EVENT);
        assert!(split.carry.tail.as_ref().is_none_or(|tail| tail.capacity() <= 8 * TAIL));
    }
    split.push(b"\n\n", &mut |_| {});
    assert!(split.between());
    assert!(split.carry.kept.capacity() <= KEEP && split.carry.tail.is_none());
}

#[test]
fn between_tells_whether_an_event_is_pending() {
    let mut split = SseSplit::new();
    assert!(split.between());
    split.push(b"data: a\n", &mut |_| {});
    assert!(!split.between());
    split.push(b"\n", &mut |_| {});
    assert!(split.between());
    split.push(b"data: b\r\n\r", &mut |_| {});
    assert!(split.between());
    split.push(b"\n", &mut |_| {});
    assert!(split.between());
}

#[test]
fn lines_are_split_and_bounded() {
    let want = |all: &[&str]| -> Vec<(Vec<u8>, bool)> {
        all.iter().map(|line| (line.as_bytes().to_vec(), false)).collect()
    };
    for (text, all) in [
        ("{}\n{}\n", &["{}", "{}"][..]),
        ("{\"a\":1}\r\n\r\n  \n{}", &["{\"a\":1}", "{}"]),
        ("", &[]),
    ] {
        assert_eq!(lines([text.as_bytes()]).0, want(all), "{text:?}");
        assert_eq!(lines(text.as_bytes().chunks(1)).0, want(all), "{text:?} byte by byte");
    }
    let text = format!("{}\n{{}}\n", "y".repeat(MAX_EVENT + 1));
    for size in [70_000, text.len()] {
        let (seen, skipped) = lines(text.as_bytes().chunks(size));
        assert_eq!(skipped, 1);
        assert_eq!(seen[1], (b"{}".to_vec(), false));
        assert!(seen[0].1);
    }
}

/// Cuts at the given places, which may repeat and lie outside.
fn cut<'a>(text: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = places.iter().map(|place| place % (text.len() + 1)).collect();
    places.sort_unstable();
    let mut chunks = Vec::new();
    let mut from = 0;
    for place in places {
        chunks.push(&text[from..place]);
        from = place;
    }
    chunks.push(&text[from..]);
    chunks
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_events(
        parts in vec(
            prop_oneof![
                Just("data"), Just("data:"), Just("data: {\"a\":1}"), Just("event: x"), Just(":"),
                Just("\n"), Just("\n"), Just("\r"), Just("\r\n"), Just("\n\n"), Just("é"), Just("\u{feff}"),
            ],
            0..40,
        ),
        places in vec(any::<usize>(), 0..12),
    ) {
        let text = parts.concat();
        let whole = events([text.as_bytes()]);
        prop_assert_eq!(events(cut(text.as_bytes(), &places)), whole.clone());
        prop_assert_eq!(events(text.as_bytes().chunks(1)), whole);
    }

    #[test]
    fn any_chunking_gives_the_same_lines(
        bytes in vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b' '), any::<u8>()], 0..200),
        places in vec(any::<usize>(), 0..12),
    ) {
        prop_assert_eq!(lines(cut(&bytes, &places)), lines([&bytes[..]]));
    }
}
