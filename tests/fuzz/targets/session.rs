//! Sessions over WebSocket: frames are the same for every chunking, shown whole or in parts; what a
//! client's message asks for is what a JSON parser reads of it, or it is refused.
//!
//! Input: `f` for frames, `c` for a client's message, `s` for a server's; six sizes of pieces; the
//! bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::wire::{
    Frame, Frames, Listener, Said, SessionEvent, Unclear, close_frame, long_session_event,
    masked_close_frame, session_content, session_event,
};
use tidegate_fuzz::dice::pieces;
use tidegate_fuzz::json::Tree;

fuzz_target!(|input: &[u8]| {
    let Some(([way, sizes @ ..], data)) = input.split_first_chunk::<7>() else { return };
    let pieces = pieces(data, sizes);
    match way {
        b'c' => client(data, &pieces),
        b's' => server(data),
        _ => frames(data, &pieces),
    }
});

/// A frame as it can be kept; texts are all of one kind.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(u64),
    Ping,
    Pong,
    Close(Option<u16>),
}

/// What is seen, and whether the watch is between two frames, and lost.
fn watched(mut frames: Frames, pieces: &[&[u8]]) -> (Vec<Seen>, bool, bool) {
    let (mut all, mut open) = (Vec::new(), Vec::new());
    for piece in pieces {
        frames.push(piece, &mut |frame| match frame {
            Frame::Text(text) => all.push(Seen::Text(text.to_vec())),
            Frame::Long { .. } => panic!("no text is that long"),
            Frame::Part { text, last } => {
                assert!(last || !text.is_empty(), "a part that says nothing");
                open.extend_from_slice(text);
                if last {
                    all.push(Seen::Text(std::mem::take(&mut open)));
                }
            }
            Frame::Binary(len) => all.push(Seen::Binary(len)),
            Frame::Ping => all.push(Seen::Ping),
            Frame::Pong => all.push(Seen::Pong),
            Frame::Close(code) => all.push(Seen::Close(code)),
        });
    }
    (all, frames.between(), frames.is_lost())
}

fn frames(data: &[u8], pieces: &[&[u8]]) {
    let whole = watched(Frames::new(), &[data]);
    assert_eq!(watched(Frames::new(), pieces), whole, "what is seen hangs on the chunking");
    assert_eq!(watched(Frames::in_parts(), &[data]), whole, "parts are another thing");
    assert_eq!(watched(Frames::in_parts(), pieces), whole, "so are parts in pieces");
    let (read, between, lost) = read(data);
    assert_eq!((read, lost), (whole.0, whole.2), "by the standard");
    assert_eq!(between && !lost, whole.1);
    // what we say ourselves is a frame, whatever it says
    let reason = String::from_utf8_lossy(data);
    for frame in [close_frame(1000, &reason), masked_close_frame(1000, &reason, [1, 2, 3, 4])] {
        let said = (vec![Seen::Close(Some(1000))], true, false);
        assert_eq!(watched(Frames::new(), &[&frame]), said);
    }
}

/// RFC 6455, section 5.2, one frame after another.
fn read(mut rest: &[u8]) -> (Vec<Seen>, bool, bool) {
    let (mut all, mut message) = (Vec::new(), None::<(u8, Vec<u8>)>);
    while let [first, second, behind @ ..] = rest {
        let wide = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = second & 0x80 != 0;
        let head = wide + if masked { 4 } else { 0 };
        if behind.len() < head {
            return (all, false, false);
        }
        let number = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        let len = match wide {
            0 => u64::from(second & 0x7f),
            wide => behind[..wide].iter().fold(0, number),
        };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let control = opcode >= 8;
        let fits = match opcode {
            0 => message.is_some(),
            1 | 2 => message.is_none(),
            8..=10 => last && len <= 125,
            _ => false,
        };
        if !fits || first & 0x70 != 0 || len >> 63 != 0 {
            return (all, true, true);
        }
        if opcode == 1 || opcode == 2 {
            message = Some((opcode, Vec::new()));
        }
        let mask: Vec<u8> = if masked { behind[wide..head].to_vec() } else { vec![0] };
        let payload = &behind[head..];
        let Some(payload) = usize::try_from(len).ok().and_then(|len| payload.get(..len)) else {
            return (all, false, false);
        };
        rest = &behind[head + payload.len()..];
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        match opcode {
            8 => {
                let code: Vec<u8> = payload.take(2).collect();
                let code = <[u8; 2]>::try_from(code).ok().map(u16::from_be_bytes);
                all.push(Seen::Close(code));
            }
            9 => all.push(Seen::Ping),
            10 => all.push(Seen::Pong),
            _ => message.as_mut().expect("it is open").1.extend(payload),
        }
        if last && !control {
            all.push(match message.take() {
                Some((1, text)) => Seen::Text(text),
                open => Seen::Binary(open.map_or(0, |(_, bytes)| bytes.len() as u64)),
            });
        }
    }
    (all, rest.is_empty(), false)
}

fn heard(pieces: &[&[u8]]) -> Result<Said, Unclear> {
    let mut listener = Listener::default();
    for piece in pieces {
        listener.push(piece);
    }
    let said = listener.end();
    listener.push(b"{}");
    assert_eq!(listener.end().map(|said| said.model), Ok(None), "something is left of it");
    said
}

fn client(data: &[u8], pieces: &[&[u8]]) {
    let heard_whole = heard(&[data]);
    assert_eq!(heard(pieces), heard_whole, "what is heard hangs on the chunking");
    let Ok(tree) = serde_json::from_slice::<Tree>(data) else { return };
    match heard_whole {
        Ok(said) => {
            assert!(said.prompt_bytes <= data.len() as u64);
            let asks = only(&tree, "type").and_then(Tree::text) == Some("response.create");
            assert_eq!(said.asks, asks);
            assert_eq!(said.model.as_deref(), models(&tree).first().copied());
            assert_eq!(said.writes.as_deref(), writes(&tree).first().copied());
        }
        // JSON is refused only for what stands in it
        Err(Unclear::Unreadable) => assert!(tree.members().is_none() || is_odd(&tree)),
        Err(Unclear::Twice(_)) => assert!(is_double(&tree), "{}", String::from_utf8_lossy(data)),
    }
}

fn all<'t>(of: &'t Tree, name: &'static str) -> impl Iterator<Item = &'t Tree> {
    of.all(move |other| other.eq_ignore_ascii_case(name))
}

/// The member of that name in any case, of which there must be one alone.
fn only<'t>(of: &'t Tree, name: &'static str) -> Option<&'t Tree> {
    let mut found = all(of, name);
    let first = found.next();
    assert!(found.next().is_none(), "`{name}` stands there twice, and was read");
    first
}

/// The objects that may name the session's model.
fn named(tree: &Tree) -> Vec<&Tree> {
    let inner = ["session", "response"].into_iter().flat_map(|name| all(tree, name));
    std::iter::once(tree).chain(inner).collect()
}

/// Those that may name the one that writes down.
fn writers(tree: &Tree) -> Vec<&Tree> {
    let sessions = || all(tree, "session");
    let audio = sessions().flat_map(|session| all(session, "audio"));
    let input = audio.flat_map(|audio| all(audio, "input"));
    let new = input.flat_map(|input| all(input, "transcription"));
    new.chain(sessions().flat_map(|session| all(session, "input_audio_transcription"))).collect()
}

fn models(tree: &Tree) -> Vec<&str> {
    let mut models: Vec<_> =
        named(tree).into_iter().filter_map(|of| only(of, "model")?.text()).collect();
    models.dedup();
    assert!(models.len() < 2, "two models, and one was read");
    models
}

fn writes(tree: &Tree) -> Vec<&str> {
    let writes: Vec<_> =
        writers(tree).into_iter().filter_map(|of| only(of, "model")?.text()).collect();
    assert!(writes.len() < 2, "two of them, and one was read");
    writes
}

/// A model that is no text, or too long to be one.
fn is_odd(tree: &Tree) -> bool {
    let odd = |model: &Tree| match model {
        Tree::Null => false,
        Tree::Text(text) => text.len() > 150,
        _ => true,
    };
    named(tree).into_iter().chain(writers(tree)).any(|of| all(of, "model").any(odd))
}

/// Something that is read stands there more than once.
fn is_double(tree: &Tree) -> bool {
    let twice =
        |of: &Tree, names: &[&'static str]| names.iter().any(|name| all(of, name).count() > 1);
    let named = named(tree);
    let texts: Vec<_> = named.iter().flat_map(|of| all(of, "model")).collect();
    let audio: Vec<_> = named.iter().flat_map(|of| all(of, "audio")).collect();
    let inputs: Vec<_> = audio.iter().flat_map(|of| all(of, "input")).collect();
    texts.windows(2).any(|pair| pair[0] != pair[1])
        || named.iter().any(|of| {
            twice(
                of,
                &["type", "model", "session", "response", "audio", "input_audio_transcription"],
            )
        })
        || audio.iter().any(|of| twice(of, &["input"]))
        || inputs.iter().any(|of| twice(of, &["transcription"]))
        || writers(tree).len() > 1
        || writers(tree).iter().any(|of| twice(of, &["model"]))
}

fn server(data: &[u8]) {
    let event = session_event(data);
    let content = session_content(data, data.len() as u64);
    assert!(content.is_none_or(|tokens| (1..=data.len() as u64).contains(&tokens)));
    assert!(content.is_none() || event.is_none(), "it carries content and ends something");
    let cut = data.len() / 2;
    long_session_event(&data[..cut], &data[cut..]);
    let Some(tree) = Tree::read(data).filter(|tree| !tree.repeats()) else { return };
    if let Some(event) = event {
        let kind = tree.get("type").and_then(Tree::text).expect("an event without a type");
        match event {
            SessionEvent::Model(model) => {
                let session = tree.get("session").and_then(|session| session.get("model"));
                assert_eq!(session.and_then(Tree::text), Some(&*model));
                assert!(kind.starts_with("session."));
            }
            SessionEvent::Begun => assert_eq!(kind, "response.created"),
            SessionEvent::Refused => assert_eq!(kind, "error"),
            SessionEvent::Used(_) => assert!(kind.ends_with("transcription.completed")),
            SessionEvent::Done(_) | SessionEvent::Failed => assert!(kind.starts_with("response.")),
        }
    }
}
