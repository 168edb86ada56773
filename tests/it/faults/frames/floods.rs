//! Frames that cost their sender next to nothing, in great numbers.
use std::time::{Duration, Instant};

use super::{
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, HEADERS,
    PING, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, SETTINGS, Said, Siege, UPLOAD,
    after, empty_post, frame, limited, literal, posting,
};
use crate::support::raw::Flood;

/// How long a flood may go on being taken.
const PATIENCE: Duration = Duration::from_secs(3);

/// The ends that a flood may come to: the code, or a connection that was closed before it was said.
fn ended(said: Said, codes: &[u32]) {
    let right = match said {
        Said::Away(code) => codes.contains(&code),
        Said::Closed => true,
        _ => false,
    };
    assert!(right, "{said:?}");
}

/// Streams that are opened and cancelled at once. A backend hears of few of them, if any.
#[tokio::test]
async fn a81_rapid_reset() {
    let siege = Siege::begin("").await;
    let mut reached = 0;
    for _ in 0..5 {
        let mut frames = siege.frames().await;
        let mut all = Vec::new();
        for stream in (1..4000_u32).step_by(2) {
            all.extend(empty_post(stream));
            all.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        }
        frames.raw.flood(&mut &all[..], PATIENCE).await;
        ended(frames.said(0).await, &[ENHANCE_YOUR_CALM]);
        reached += siege.reached();
    }
    assert!(reached < 5 * 200, "{reached} of 10,000 went to the backend");
    siege.end().await;
}

/// A head without end, in pieces.
#[tokio::test]
async fn a81_continuation_flood() {
    let siege = Siege::begin("").await;
    for size in [0, 1, 1000] {
        let mut frames = siege.frames().await;
        let mut piece = Vec::new();
        literal(&mut piece, 0, b"x", &vec![b'y'; size]);
        let piece = if size == 0 { Vec::new() } else { piece };
        let first = frame(HEADERS, END_STREAM, 1, &posting(UPLOAD, &[]));
        frames.send(&[first]).await;
        let flood = frame(CONTINUATION, 0, 1, &piece).repeat(20_000);
        frames.raw.flood(&mut &flood[..], PATIENCE).await;
        ended(frames.said(1).await, &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR]);
        assert_eq!(siege.reached(), 0);
    }
    siege.end().await;
}

/// Data that is nothing: it uses up no window, so that no window bounds it.
#[tokio::test]
async fn a81_empty_data_flood() {
    let siege = Siege::begin("").await;
    for path in [UPLOAD, super::CHAT] {
        let mut frames = siege.frames().await;
        frames.send(&[frame(HEADERS, END_HEADERS, 1, &posting(path, &[]))]).await;
        let flood = frame(DATA, 0, 1, &[]).repeat(100_000);
        frames.raw.flood(&mut &flood[..], PATIENCE).await;
        ended(frames.said(0).await, &[ENHANCE_YOUR_CALM]);
    }
    siege.end().await;
}

/// What must be answered, by who reads no answers. Frames wait for their answers to be taken, so the
/// sender is held back, and cut when it takes nothing for too long.
#[tokio::test]
async fn a81_settings_and_ping_floods() {
    let siege = Siege::begin("server: { write_timeout: 1s }\n").await;
    let window = [0, 4, 0, 0, 0xff, 0xff];
    for one in
        [frame(SETTINGS, 0, 0, &window), frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[7; 8])]
    {
        let mut frames = siege.frames().await;
        let (all, from) = (one.repeat(3_000_000), Instant::now());
        let mut left = &all[..];
        while frames.raw.flood(&mut left, Duration::from_secs(1)).await != Flood::Cut {
            assert!(!left.is_empty(), "three million frames were taken");
            assert!(from.elapsed() < Duration::from_mins(1), "it is neither read nor cut");
        }
    }
    siege.end().await;
}

/// The same from somebody who reads: each is answered, and nobody else waits for it.
#[tokio::test]
async fn a81_pings_that_are_answered() {
    let siege = Siege::begin("").await;
    let mut frames = siege.frames().await;
    for _ in 0..20 {
        frames.send(&[frame(PING, 0, 0, &[7; 8]).repeat(100)]).await;
        let mut answered = 0;
        while answered < 100 {
            let next = frames.next().await.expect("an answer");
            answered += usize::from((next.kind, next.flags) == (PING, ACK));
        }
    }
    drop(frames);
    siege.end().await;
}

/// A connection that is kept busy by pings alone is idle all the same.
#[tokio::test]
async fn a81_pings_keep_no_idle_connection() {
    let origin = super::answering().await;
    let app = limited(&origin.url(), "", "server: { idle_timeout: 1s }\n");
    let mut frames = Frames::connect(app.addr, &[]).await;
    let from = Instant::now();
    let ping = frame(PING, 0, 0, &[7; 8]);
    while frames.raw.flood(&mut &ping[..], PATIENCE).await != Flood::Cut {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(from.elapsed() < Duration::from_secs(8), "it is kept");
    }
    assert!(from.elapsed() >= Duration::from_millis(900));
    after::over(&app, &[]).await;
    after::unheard(&origin);
}

/// Priorities are gone from HTTP/2; they are read and forgotten.
#[tokio::test]
async fn a81_priority_flood() {
    let siege = Siege::begin("").await;
    let mut frames = siege.frames().await;
    let mut all = Vec::new();
    for stream in (3..60_000_u32).step_by(2) {
        all.extend(frame(PRIORITY, 0, stream, &[0, 0, 0, 1, 200]));
    }
    frames.raw.flood(&mut &all[..], PATIENCE).await;
    frames.send(&[empty_post(60_001)]).await;
    let said = frames.said(60_001).await;
    assert!(matches!(said, Said::Status(200) | Said::Away(_)), "{said:?}");
    drop(frames);
    siege.end().await;
}

/// Frames of kinds that nobody knows are to be ignored, however many.
#[tokio::test]
async fn a81_unknown_frames() {
    let siege = Siege::begin("").await;
    let mut frames = siege.frames().await;
    let flood = frame(0xfa, 0xff, 1, &[0; 100]).repeat(20_000);
    assert_eq!(frames.raw.flood(&mut &flood[..], PATIENCE).await, Flood::Taken);
    frames.send(&[empty_post(1)]).await;
    assert_eq!(frames.said(1).await, Said::Status(200));
    drop(frames);
    siege.end().await;
}

/// More streams at once than are allowed: those above are refused, for another time.
#[tokio::test]
async fn a81_too_many_streams() {
    let siege = Siege::begin("").await;
    for acknowledged in [false, true] {
        let mut frames = siege.frames().await;
        if acknowledged {
            frames.send(&[frame(SETTINGS, ACK, 0, &[])]).await;
        }
        // bodies that do not end
        let open = |stream| frame(HEADERS, END_HEADERS, stream, &posting(super::CHAT, &[]));
        let all: Vec<_> = (1..=201).step_by(2).map(open).collect();
        assert_eq!(all.len(), 101);
        frames.send(&all).await;
        assert_eq!(frames.said(201).await, Said::Reset(REFUSED_STREAM));
        drop(frames);
    }
    siege.end().await;
}

/// A small block that says a large head: one long line, kept in the table, named again and again.
#[tokio::test]
async fn a81_hpack_bomb() {
    let siege = Siege::begin("").await;
    for _ in 0..20 {
        let mut frames = siege.frames().await;
        let mut bomb = posting(UPLOAD, &[]);
        literal(&mut bomb, 0x40, b"x", &[b'y'; 3900]);
        bomb.extend([0xbe; 8000]);
        frames.send(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)]).await;
        let said = frames.said(1).await;
        let refused = matches!(said, Said::Status(431) | Said::Reset(_) | Said::Away(_));
        assert!(refused, "{said:?}");
    }
    assert_eq!(siege.reached(), 0);
    siege.end().await;
}
