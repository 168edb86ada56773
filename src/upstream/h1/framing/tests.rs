use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// What came of a body that was read in pieces.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    data: Vec<u8>,
    /// Bytes of the input that belong to the body.
    used: usize,
    ended: bool,
    failed: bool,
}

/// Decodes `input`, cut at `cuts`; stops at the body's end, like a connection does.
fn decode(mut framing: Framing, input: &[u8], cuts: &[usize]) -> Read {
    let mut read = Read { data: Vec::new(), used: 0, ended: framing.ended(), failed: false };
    let mut ends: Vec<usize> = cuts.iter().copied().filter(|cut| *cut < input.len()).collect();
    ends.push(input.len());
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        let mut piece = input[start..end].to_vec();
        start = end;
        if piece.is_empty() || framing.ended() {
            continue;
        }
        // what stands before a broken chunk comes out first, the error with the next look
        let mut rest = &mut piece[..];
        while !rest.is_empty() && !framing.ended() {
            let Ok(decoded) = framing.decode(rest) else {
                read.failed = true;
                return read;
            };
            assert!(decoded.used <= rest.len() && decoded.data.len() <= decoded.used);
            assert!(decoded.used > 0, "it would be looked at for ever");
            read.data.extend_from_slice(&decoded.data);
            read.used += decoded.used;
            rest = &mut rest[decoded.used..];
        }
        read.ended = framing.ended();
    }
    read
}

fn cuts_of(input: &[u8], cuts: &[Index]) -> Vec<usize> {
    cuts.iter().map(|cut| cut.index(input.len() + 1)).collect()
}

fn each_byte(input: &[u8]) -> Vec<usize> {
    (0..input.len()).collect()
}

#[derive(Debug, Clone)]
struct Chunk {
    data: Vec<u8>,
    upper: bool,
    zeros: usize,
    extension: String,
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let extension = prop_oneof![
        3 => Just(String::new()),
        1 => "[ \t]{0,2};[a-z]{1,4}=[!-~]{0,20}",
        1 => Just(";a=\"b;c\"".to_owned()),
        1 => Just(" ".to_owned()),
    ];
    (vec(any::<u8>(), 1..300), any::<bool>(), 0..4_usize, extension)
        .prop_map(|(data, upper, zeros, extension)| Chunk { data, upper, zeros, extension })
}

fn render(chunks: &[Chunk], last: &str, trailers: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for Chunk { data, upper, zeros, extension } in chunks {
        let size = data.len();
        let size = if *upper { format!("{size:X}") } else { format!("{size:x}") };
        let line = format!("{}{size}{extension}\r\n", "0".repeat(*zeros));
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(last.as_bytes());
    for trailer in trailers {
        out.extend_from_slice(trailer.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

proptest! {
    /// Whatever the chunks, their extensions and the trailers, and wherever reads cut them: the data
    /// comes out, and not one byte behind the end is touched.
    #[test]
    fn chunks_in_any_reads_give_the_data(
        chunks in vec(chunk(), 0..6),
        last in prop_oneof![Just("0\r\n"), Just("000\r\n"), Just("0;x=y\r\n")],
        trailers in vec("[a-z]{1,8}: ?[ -~]{0,20}", 0..3),
        surplus in vec(any::<u8>(), 0..40),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let body = render(&chunks, last, &trailers);
        let data: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.data.clone()).collect();
        let input = [&body[..], &surplus].concat();
        let want = Read { data, used: body.len(), ended: true, failed: false };
        prop_assert_eq!(&decode(Framing::chunked(), &input, &cuts_of(&input, &cuts)), &want);
        prop_assert_eq!(&decode(Framing::chunked(), &input, &each_byte(&input)), &want);
        prop_assert_eq!(&decode(Framing::chunked(), &input, &[]), &want);
    }

    /// A body that is cut off has not ended, wherever it was cut.
    #[test]
    fn a_cut_body_has_no_end(chunks in vec(chunk(), 1..4), cut in any::<Index>()) {
        let body = render(&chunks, "0\r\n", &[]);
        let part = &body[..cut.index(body.len())];
        let mut framing = Framing::chunked();
        prop_assert!(framing.decode(&mut part.to_vec()).is_ok());
        prop_assert!(!framing.ended());
        prop_assert!(matches!(framing.closed(), Err(H1Error::Closed)));
    }

    /// Any bytes at all: the same verdict however they are cut, and never a byte that was not sent.
    #[test]
    fn noise_is_judged_alike_in_any_reads(
        noise in vec(prop_oneof![
            2 => proptest::sample::select(&b"0123456789abcdefABCDEF\r\n; xyz"[..]),
            1 => any::<u8>(),
        ], 0..60),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let whole = decode(Framing::chunked(), &noise, &[]);
        let cut = decode(Framing::chunked(), &noise, &cuts_of(&noise, &cuts));
        prop_assert_eq!((whole.ended, whole.failed, &whole.data), (cut.ended, cut.failed, &cut.data));
        prop_assert!(whole.failed || whole.used == cut.used);
    }

    #[test]
    fn a_length_takes_its_bytes_and_no_more(
        length in 0..200_u64,
        input in vec(any::<u8>(), 0..300),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let read = decode(Framing::Length(length), &input, &cuts_of(&input, &cuts));
        let takes = input.len().min(usize::try_from(length).unwrap());
        prop_assert_eq!(&read.data[..], &input[..takes]);
        prop_assert_eq!(read.used, takes);
        prop_assert_eq!(read.ended, takes as u64 == length);
    }
}

#[test]
fn what_is_no_chunk_is_an_error() {
    for bad in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\nx\r\n",
        "0x1\r\nx\r\n",
        " 1\r\nx\r\n",
        "1\nx\r\n",
        // two sizes, or a size with a word behind it
        "1 0\r\nx\r\n",
        "0 1\r\n\r\n",
        "1\tx\r\nx\r\n",
        "1\r\rx",
        "1\rx",
        "1;a\nx\r\n",
        "1\r\nxy\r\n",
        "1\r\nx\n",
        "1\r\nx\r\r",
        "2\r\nx\r\n\r\n",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\na: b\n\r\n",
        "0\r\na: b\rx",
        // 16 digits: past what fits, and leading zeros may not hide it
        "ffffffffffffffff\r\n",
        "1000000000000000\r\n",
        "0000000000000001\r\nx\r\n",
    ] {
        let whole = decode(Framing::chunked(), bad.as_bytes(), &[]);
        let bytes = decode(Framing::chunked(), bad.as_bytes(), &each_byte(bad.as_bytes()));
        assert!(whole.failed && bytes.failed, "{bad:?}");
    }
}

#[test]
fn the_largest_size_is_counted_and_not_trusted() {
    let mut framing = Framing::chunked();
    let read = framing.decode(&mut b"fffffffffffffff\r\nabc".to_vec());
    assert!(read.is_ok_and(|read| &read.data[..] == b"abc"));
    assert!(!framing.ended());
}

/// Extensions and trailers are read past, within bounds.
#[test]
fn slack_is_bounded_over_the_whole_body() {
    let long = |n: usize| "x".repeat(n);
    let extension = |n| format!("1;{}\r\na\r\n0\r\n\r\n", long(n));
    let trailer = |n| format!("0\r\na{}\r\n\r\n", long(n));
    for (good, bad) in [
        (extension(usize::from(SLACK)), extension(usize::from(SLACK) + 1)),
        (trailer(usize::from(SLACK) - 1), trailer(usize::from(SLACK))),
        (
            format!("1;{}\r\na\r\n0;{}\r\n\r\n", long(4096), long(4096)),
            format!("1;{}\r\na\r\n0;{}\r\n\r\n", long(4096), long(4097)),
        ),
    ] {
        assert!(decode(Framing::chunked(), good.as_bytes(), &[]).ended);
        assert!(decode(Framing::chunked(), bad.as_bytes(), &[]).failed);
    }
}

#[test]
fn the_close_ends_only_what_it_frames() {
    for (mut framing, ends) in [
        (Framing::None, true),
        (Framing::UntilClose, true),
        (Framing::Length(0), true),
        (Framing::Length(1), false),
        (Framing::chunked(), false),
    ] {
        assert_eq!(framing.closed().is_ok(), ends, "{framing:?}");
        assert_eq!(framing.ended(), ends, "{framing:?}");
    }
}
