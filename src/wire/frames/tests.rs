use proptest::prelude::*;

use super::*;

/// A frame as RFC 6455, section 5.2 has it.
fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(len as u8 | masked),
        len @ 126..65_536 => {
            frame.push(0x7e | masked);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x7f | masked);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    frame.extend(
        payload.iter().enumerate().map(|(at, byte)| byte ^ mask.unwrap_or_default()[at % 4]),
    );
    frame
}

/// What was shown, as it can be kept.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Long(Vec<u8>, Vec<u8>),
    Other(Frame<'static>),
}

fn seen(frame: Frame<'_>) -> Seen {
    match frame {
        Frame::Text(text) => Seen::Text(text.to_vec()),
        Frame::Long { head, tail } => Seen::Long(head.to_vec(), tail.to_vec()),
        Frame::Part { .. } => panic!("nobody asked for parts"),
        Frame::Binary(len) => Seen::Other(Frame::Binary(len)),
        Frame::Ping => Seen::Other(Frame::Ping),
        Frame::Pong => Seen::Other(Frame::Pong),
        Frame::Close(code) => Seen::Other(Frame::Close(code)),
    }
}

fn watched<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Seen>, Frames) {
    let (mut frames, mut all) = (Frames::new(), Vec::new());
    for chunk in chunks {
        frames.push(chunk, &mut |frame| all.push(seen(frame)));
    }
    (all, frames)
}

fn text(text: &str) -> Seen {
    Seen::Text(text.as_bytes().to_vec())
}

#[test]
fn the_examples_of_the_standard() {
    // RFC 6455, section 5.7
    let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let fragments = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    for bytes in [&hello[..], &masked, &fragments] {
        for size in [1, 2, 3, bytes.len()] {
            let (all, frames) = watched(bytes.chunks(size));
            assert_eq!(all, [text("Hello")], "{bytes:x?}");
            assert!(frames.between());
        }
    }
    let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(watched([&ping[..], &pong]).0, [Seen::Other(Frame::Ping), Seen::Other(Frame::Pong)]);
    let binary = [frame(0x82, None, &[0; 256]), frame(0x82, None, &vec![0; 65_536])].concat();
    let lens = [Seen::Other(Frame::Binary(256)), Seen::Other(Frame::Binary(65_536))];
    assert_eq!(watched([&binary[..]]).0, lens);
}

#[test]
fn a_text_in_one_piece_is_not_copied() {
    let bytes = frame(0x81, None, b"Hello");
    let mut frames = Frames::new();
    let mut at = None;
    frames.push(&bytes, &mut |frame| {
        if let Frame::Text(text) = frame {
            at = Some(text.as_ptr());
        }
    });
    assert_eq!(at, Some(bytes[2..].as_ptr()));
}

#[test]
fn control_frames_stand_between_fragments() {
    let bytes = [
        frame(0x01, None, b"a"),
        frame(0x89, Some([1, 2, 3, 4]), b"ping"),
        frame(0x00, None, b""),
        frame(0x88, Some([9, 8, 7, 6]), &[0x03, 0xe9, b'b', b'y', b'e']),
        frame(0x80, Some([5, 6, 7, 8]), b"b"),
    ]
    .concat();
    let want = [Seen::Other(Frame::Ping), Seen::Other(Frame::Close(Some(1001))), text("ab")];
    for size in 1..bytes.len() {
        assert_eq!(watched(bytes.chunks(size)).0, want);
    }
}

#[test]
fn a_close_may_have_no_code() {
    for (payload, code) in [(&b""[..], None), (b"\x03", None), (b"\x03\xe8", Some(1000))] {
        let bytes = frame(0x88, None, payload);
        assert_eq!(watched([&bytes[..]]).0, [Seen::Other(Frame::Close(code))]);
    }
}

#[test]
fn what_breaks_the_rules_ends_the_watch() {
    for bytes in [
        frame(0xc1, None, b"deflated"),
        frame(0x91, None, b"a"),
        frame(0x83, None, b"a"),
        frame(0x8b, None, b"a"),
        // a fragment of nothing, and a message within a message
        frame(0x80, None, b"a"),
        [frame(0x01, None, b"a"), frame(0x81, None, b"b")].concat(),
        // a control frame in parts, or too long
        frame(0x09, None, b"a"),
        frame(0x89, None, &[0; 126]),
        // a length that is no length
        vec![0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let whole = [bytes.clone(), frame(0x81, None, b"later")].concat();
        let (all, frames) = watched(whole.chunks(3));
        assert_eq!((all, frames.is_lost(), frames.between()), (vec![], true, false), "{bytes:x?}");
    }
}

#[test]
fn long_texts_show_their_ends_and_take_no_room() {
    let body = format!("begin{}end", "x".repeat(5 << 20));
    for mask in [None, Some([0x37, 0xfa, 0x21, 0x3d])] {
        let parts = [
            frame(0x01, mask, &body.as_bytes()[..3 << 20]),
            frame(0x80, mask, &body.as_bytes()[3 << 20..]),
            frame(0x81, mask, b"short"),
        ];
        for size in [4096, 100_000] {
            let mut frames = Frames::new();
            let mut all = Vec::new();
            for chunk in parts.concat().chunks(size) {
                frames.push(chunk, &mut |frame| all.push(seen(frame)));
                assert!(!frames.text.is_wide(), "more is kept than may be");
            }
            let [Seen::Long(head, tail), short] = &all[..] else { panic!("{all:?}") };
            assert!(head.starts_with(b"beginxxx") && tail.ends_with(b"xxxend"));
            assert_eq!((short, frames.skipped()), (&text("short"), 1));
        }
    }
    let most = "y".repeat(WHOLE);
    let (all, frames) = watched(frame(0x81, Some([1, 2, 3, 4]), most.as_bytes()).chunks(999));
    assert_eq!((all, frames.skipped()), (vec![text(&most)], 0));
}

#[test]
fn it_is_between_frames_only_there() {
    let mut frames = Frames::new();
    let bytes = frame(0x01, None, b"ab");
    assert!(frames.between());
    for (at, byte) in bytes.iter().enumerate() {
        frames.push(&[*byte], &mut |_| {});
        // a control frame may stand between fragments
        assert_eq!(frames.between(), at + 1 == bytes.len());
    }
}

#[test]
fn close_frames_are_read_as_they_are_meant() {
    for (reason, shown) in [("", 0), ("going away", 10), (&"é".repeat(100), 122)] {
        let plain = close_frame(1001, reason);
        assert_eq!((plain[0], usize::from(plain[1])), (0x88, shown + 2));
        assert_eq!(plain, frame(0x88, None, &plain[2..]));
        assert!(std::str::from_utf8(&plain[4..]).is_ok());
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        assert_eq!(masked_close_frame(1001, reason, mask), frame(0x88, Some(mask), &plain[2..]));
        for bytes in [plain, masked_close_frame(1001, reason, mask)] {
            assert_eq!(watched([&bytes[..]]).0, [Seen::Other(Frame::Close(Some(1001)))]);
        }
    }
}

#[test]
fn a_watch_is_small() {
    assert!(size_of::<Frames>() <= 144, "{} bytes", size_of::<Frames>());
}

/// A message in fragments, with control frames among them; and what is to be seen.
fn message() -> impl Strategy<Value = (Vec<u8>, Vec<Seen>)> {
    let control = prop_oneof![
        Just((9_u8, Seen::Other(Frame::Ping))),
        Just((10, Seen::Other(Frame::Pong))),
        Just((8, Seen::Other(Frame::Close(Some(0x6161))))),
    ];
    let part = (
        proptest::collection::vec(any::<u8>(), 0..300),
        proptest::option::of(any::<[u8; 4]>()),
        proptest::option::of((control, 2_usize..126)),
    );
    (any::<bool>(), proptest::collection::vec(part, 1..5)).prop_map(|(binary, parts)| {
        let (mut bytes, mut want, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        let last = parts.len() - 1;
        for (at, (payload, mask, control)) in parts.into_iter().enumerate() {
            let fin = if at == last { 0x80 } else { 0 };
            let code = if at > 0 { 0 } else { 1 + u8::from(binary) };
            if let Some(((code, seen), len)) = control {
                bytes.extend(frame(0x80 | code, mask, &vec![b'a'; len]));
                want.push(seen);
            }
            bytes.extend(frame(fin | code, mask, &payload));
            whole.extend(payload);
        }
        let len = whole.len() as u64;
        want.push(if binary { Seen::Other(Frame::Binary(len)) } else { Seen::Text(whole) });
        (bytes, want)
    })
}

proptest! {
    /// What is seen does not depend on where the bytes are cut.
    #[test]
    fn any_messages_in_any_pieces(
        messages in proptest::collection::vec(message(), 0..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let want: Vec<Seen> = messages.into_iter().flat_map(|(_, want)| want).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let (all, frames) = watched(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]));
        prop_assert_eq!(&all, &want);
        prop_assert!(frames.between());
        prop_assert_eq!(watched(bytes.chunks(1)).0, want);
    }

    /// No bytes make it panic, keep too much, or depend on where they are cut.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400), size in 1_usize..20) {
        let (whole, one) = watched([&bytes[..]]);
        let (parts, other) = watched(bytes.chunks(size));
        prop_assert_eq!(whole, parts);
        prop_assert_eq!((one.is_lost(), one.between()), (other.is_lost(), other.between()));
    }
}

/// The texts of a direction that is shown in parts.
fn in_parts<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let (mut frames, mut all, mut open) = (Frames::in_parts(), Vec::new(), Vec::new());
    for chunk in chunks {
        frames.push(chunk, &mut |frame| match frame {
            Frame::Part { text, last } => {
                open.extend_from_slice(text);
                if last {
                    all.push(std::mem::take(&mut open));
                }
            }
            Frame::Text(_) | Frame::Long { .. } => panic!("it is shown in parts"),
            _ => {}
        });
    }
    assert!(open.is_empty(), "the last part says so");
    all
}

#[test]
fn parts_are_the_whole_text_however_long_it_is() {
    let long = "0123456789".repeat(9_000);
    let mask = Some([1, 2, 3, 4]);
    for mask in [mask, None] {
        let stream = [
            frame(0x81, mask, b"one"),
            frame(0x01, mask, b"tw"),
            frame(0x89, mask, b"ping"),
            frame(0x00, mask, b""),
            frame(0x80, mask, b"o"),
            frame(0x81, mask, b""),
            frame(0x82, mask, b"binary"),
            frame(0x01, mask, long.as_bytes()),
            frame(0x80, mask, b""),
        ]
        .concat();
        let wanted = [&b"one"[..], b"two", b"", long.as_bytes()];
        for size in [1, 3, 1000, 1024, 1025, 16_384, stream.len()] {
            assert_eq!(in_parts(stream.chunks(size)), wanted, "in pieces of {size}");
        }
    }
}
