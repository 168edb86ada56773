use proptest::prelude::*;

use super::*;

const TOKEN: &str =
    r#"data: {"choices":[{"index":0,"delta":{"content":"\"choices\":[]"}}],"usage":null}"#;
const FILTER: &str =
    r#"data: {"choices":[],"id":"","prompt_filter_results":[{"prompt_index":0}],"usage":null}"#;
const USAGE: &str =
    r#"data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;

/// What passes, frame by frame.
fn passed<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<Bytes>> {
    let mut hide = Hide::new();
    let mut all = Vec::new();
    for frame in frames {
        let mut out = Vec::new();
        hide.push(Bytes::copy_from_slice(frame), &mut |piece| out.push(piece));
        all.push(out);
    }
    let mut out = Vec::new();
    hide.finish(&mut |piece| out.push(piece));
    all.push(out);
    all
}

fn text<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> String {
    String::from_utf8(passed(frames).concat().concat()).unwrap()
}

fn whole(stream: &str) -> String {
    text([stream.as_bytes()])
}

#[test]
fn the_usage_goes_and_nothing_else() {
    for end in ["\n\n", "\r\n\r\n", "\r\r", "\n\r\n"] {
        let stream =
            |events: &[&str]| events.iter().map(|event| [event, end].concat()).collect::<String>();
        let came = stream(&[FILTER, TOKEN, ": a comment", TOKEN, USAGE, "data: [DONE]"]);
        let want = stream(&[FILTER, TOKEN, ": a comment", TOKEN, "data: [DONE]"]);
        assert_eq!(whole(&came), want);
        assert_eq!(text(came.as_bytes().chunks(1)), want, "byte by byte");
        for cut in 0..came.len() {
            let (left, right) = came.as_bytes().split_at(cut);
            assert_eq!(text([left, right]), want, "cut at {cut}");
        }
    }
}

#[test]
fn what_counts_as_usage_alone() {
    for (event, hidden) in [
        (USAGE, true),
        ("event: x\nid: 3\ndata: { \"usage\" : {}, \"choices\" : [ \n ] }", false),
        ("event: x\nid: 3\ndata: { \"usage\" : {}, \"choices\" : [ ] }", true),
        ("data: {\"choices\":[],\ndata: \"usage\":{}}", true),
        ("\u{feff}data:{\"choices\":[],\"usage\":{}}", true),
        (r#"data: {"choices":[]}"#, false),
        (r#"data: {"choices":null,"usage":{}}"#, false),
        (r#"data: {"usage":{"choices":[]}}"#, false),
        (r#"data: {"choices":[],"usage":{},"error":{"message":"no"}}"#, false),
        (r#"data: {"choices":[],"usage":{},"error":null}"#, true),
        (r#": {"choices":[],"usage":{}}"#, false),
        ("data: [DONE]", false),
    ] {
        let stream = format!("{event}\n\n");
        assert_eq!(whole(&stream), if hidden { "" } else { &stream }, "{event}");
    }
}

#[test]
fn whole_events_pass_at_once_and_uncopied() {
    let frame = Bytes::from(format!("{TOKEN}\n\n{TOKEN}\n\n"));
    let mut hide = Hide::new();
    let mut out = Vec::new();
    hide.push(frame.clone(), &mut |piece| out.push(piece));
    assert_eq!(out, std::slice::from_ref(&frame));
    assert_eq!(out[0].as_ptr(), frame.as_ptr());

    // a piece of the next event waits for its end, what was before it does not
    let frame = Bytes::from(format!("{TOKEN}\n\ndata: {{\"cho"));
    let cut = frame.len() - 11;
    out.clear();
    hide.push(frame.clone(), &mut |piece| out.push(piece));
    assert_eq!(out, [frame.slice(..cut)]);
    assert!(hide.between());
    out.clear();
    hide.push(Bytes::from_static(b"ices\":1}\n\nda"), &mut |piece| out.push(piece));
    assert_eq!(out.concat(), b"data: {\"choices\":1}\n\n");
    assert_eq!(out[0].as_ptr(), frame[cut..].as_ptr(), "copied for nothing");
}

#[test]
fn an_event_that_is_too_large_passes_as_it_comes() {
    let large = format!("data: {{\"choices\":[],\"usage\":\"{}\"}}\n\n", "x".repeat(MOST));
    let stream = format!("{large}{USAGE}\n\n{large}");
    let want = format!("{large}{large}");
    for size in [stream.len(), 1000, 65_000] {
        assert_eq!(text(stream.as_bytes().chunks(size)), want, "in chunks of {size}");
    }
    let mut hide = Hide::new();
    let mut seen = 0;
    for chunk in large.as_bytes()[..MOST + 20].chunks(100) {
        hide.push(Bytes::copy_from_slice(chunk), &mut |piece| seen += piece.len());
        assert!(hide.held.len() + hide.more.len() <= MOST);
    }
    assert!((MOST..=MOST + 20).contains(&seen) && !hide.between());
}

#[test]
fn the_last_event_may_lack_its_blank_line() {
    assert_eq!(whole(&format!("{TOKEN}\n\n{USAGE}")), format!("{TOKEN}\n\n"));
    assert_eq!(whole(&format!("{TOKEN}\n\n{USAGE}\n")), format!("{TOKEN}\n\n"));
    assert_eq!(whole("data: [DONE]"), "data: [DONE]");
    assert_eq!(whole("\n\n: ping\n\n\n"), "\n\n: ping\n\n\n");
}

#[test]
fn recorded_streams_pass_but_for_the_usage() {
    let stream = include_str!("../../../tests/fixtures/wire/openai/chat_stream.sse");
    let without = whole(stream);
    let events: Vec<&str> = stream.split_inclusive("\n\n").collect();
    let kept: Vec<&str> = without.split_inclusive("\n\n").collect();
    assert_eq!(kept.len(), events.len() - 1);
    assert!(
        events
            .iter()
            .filter(|event| !kept.contains(event))
            .all(|event| event.contains("\"choices\":[]"))
    );
    let unasked = include_str!("../../../tests/fixtures/wire/openai/chat_stream_no_usage.sse");
    assert_eq!(whole(unasked), unasked);
}

proptest! {
    /// The chunking makes no difference, to any stream.
    #[test]
    fn any_chunking_passes_the_same(
        parts in proptest::collection::vec(prop_oneof![
            Just(USAGE), Just(TOKEN), Just(FILTER), Just("\n"), Just("\n\n"), Just("\r"), Just("\r\n"),
            Just("data: [DONE]"), Just(":"), Just("data: "), Just("{\"choices\":[],"), Just("\"usage\":{}}"), Just("\u{feff}"),
        ], 0..20),
        sizes in proptest::collection::vec(1_usize..90, 1..30),
    ) {
        let stream = parts.concat();
        let mut chunks = Vec::new();
        let mut rest = stream.as_bytes();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, next) = rest.split_at(rest.len().min(*size));
            chunks.push(chunk);
            rest = next;
        }
        let want = whole(&stream);
        prop_assert_eq!(text(chunks), want.as_str());
        prop_assert_eq!(text(stream.as_bytes().chunks(1)), want);
    }
}
