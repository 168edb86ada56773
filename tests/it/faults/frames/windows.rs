//! Windows that are never opened, or opened too far.
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{
    CHAT, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, Frames, HEADERS, PROTOCOL_ERROR, SETTINGS,
    Said, Siege, UPLOAD, WINDOW_UPDATE, after, block, empty_post, frame, limited, posting,
};
use crate::support::origin::{self, Origin, chunk};
use crate::support::until;

/// Streams for as long as it is taken.
async fn fountain() -> Origin {
    Origin::start(|mut conn| async move {
        let frame = chunk(&format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(8192)));
        while let Some(request) = conn.request().await {
            if request.target.ends_with("innocent") || request.target.ends_with("warm") {
                conn.send(&origin::whole("200 OK", "", "{}")).await;
                continue;
            }
            conn.send(origin::STREAM).await;
            while conn.io.write_all(&frame).await.is_ok() {}
            return;
        }
    })
    .await
}

/// A client that asks for streams and opens no window for them. They are cut after the time that
/// our bytes may lie unread, with their calls to the backend.
#[tokio::test]
async fn a81_zero_window() {
    let siege = Siege::against(fountain().await, "server: { write_timeout: 1s }\n").await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    let mut frames = Frames::connect(siege.app.addr, &[0, 4, 0, 0, 0, 0]).await;
    let call = || frame(HEADERS, END_HEADERS | END_STREAM, 0, &posting(UPLOAD, &[]));
    let mut all = Vec::new();
    for stream in (1..100_u32).step_by(2) {
        let mut call = call();
        call[5..9].copy_from_slice(&stream.to_be_bytes());
        all.push(call);
    }
    frames.send(&all).await;
    until("the backend has them", async || siege.origin.requests() >= 50).await;
    let gone = async || siege.app.ended("client_gone") == 50;
    until("they are cut", gone).await;
    assert!(matches!(frames.said(1).await, Said::Status(200)));
    assert!(matches!(frames.said(1).await, Said::Reset(_) | Said::Away(_) | Said::Closed));
    drop(frames);
    siege.end().await;
}

/// One byte at a time is progress, and costs little.
#[tokio::test]
async fn a81_tiny_windows() {
    let siege = Siege::against(fountain().await, "").await;
    let mut frames = Frames::connect(siege.app.addr, &[0, 4, 0, 0, 0, 1]).await;
    frames.send(&[empty_post(1)]).await;
    let mut bytes = 0;
    while bytes < 300 {
        let next = frames.next().await.expect("it goes on");
        if next.kind == super::DATA {
            bytes += next.payload.len();
            frames.send(&[frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())]).await;
        }
    }
    drop(frames);
    siege.end().await;
}

#[tokio::test]
async fn a81_window_overflow() {
    let siege = Siege::against(fountain().await, "").await;
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let update = |stream, by: [u8; 4]| frame(WINDOW_UPDATE, 0, stream, &by);
    // of the connection
    let mut frames = siege.frames().await;
    frames.send(&[update(0, most), update(0, most)]).await;
    assert_eq!(frames.said(0).await, Said::Away(FLOW_CONTROL_ERROR));
    // of one stream
    frames = Frames::connect(siege.app.addr, &[0, 4, 0, 0, 0, 0]).await;
    frames.send(&[empty_post(1), update(1, most), update(1, most)]).await;
    let said = frames.said(1).await;
    let said = if said == Said::Status(200) { frames.said(1).await } else { said };
    assert!(
        matches!(said, Said::Reset(FLOW_CONTROL_ERROR) | Said::Away(FLOW_CONTROL_ERROR)),
        "{said:?}"
    );
    // by settings, for all streams that will be; the wider word for it is right as well
    frames = Frames::connect(siege.app.addr, &[0, 4, 0x80, 0, 0, 0]).await;
    assert!(matches!(frames.said(0).await, Said::Away(FLOW_CONTROL_ERROR | PROTOCOL_ERROR)));
    // by settings, for a stream that has a wide one
    frames = siege.frames().await;
    frames.send(&[empty_post(1), update(1, 0x7fff_0000_u32.to_be_bytes())]).await;
    frames.send(&[frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])]).await;
    let mut said = frames.said(0).await;
    while said == Said::Status(200) {
        said = frames.said(0).await;
    }
    assert!(matches!(said, Said::Away(FLOW_CONTROL_ERROR)), "{said:?}");
    // by nothing
    frames = siege.frames().await;
    frames.send(&[update(0, [0; 4])]).await;
    assert_eq!(frames.said(0).await, Said::Away(PROTOCOL_ERROR));
    drop(frames);
    siege.end().await;
}

/// More data than there is a window for.
#[tokio::test]
async fn a81_data_over_the_window() {
    let siege = Siege::begin("").await;
    let mut frames = siege.frames().await;
    frames.send(&[frame(HEADERS, END_HEADERS, 1, &posting(UPLOAD, &[]))]).await;
    // the backend reads, so the stream's window opens again; the sender does not wait for that
    let flood = frame(super::DATA, 0, 1, &[b'x'; 16_384]).repeat(512);
    frames.raw.flood(&mut &flood[..], Duration::from_secs(3)).await;
    let said = frames.said(1).await;
    let right = [Said::Reset(FLOW_CONTROL_ERROR), Said::Away(FLOW_CONTROL_ERROR), Said::Closed];
    assert!(right.contains(&said), "{said:?}");
    drop(frames);
    siege.end().await;
}

/// A head that never ends is under the same clock as over HTTP/1.1; a body that never ends as well.
#[tokio::test]
async fn a81_requests_that_never_end() {
    let origin = super::answering().await;
    let app = limited(&origin.url(), "", "server: { body_timeout: 500ms, idle_timeout: 1s }\n");
    let mut frames = Frames::connect(app.addr, &[]).await;
    let lines = [("content-length", "10")];
    frames.send(&[frame(HEADERS, END_HEADERS, 1, &posting(CHAT, &lines))]).await;
    assert_eq!(frames.said(1).await, Said::Status(408));
    let start = [(":method", "POST"), (":scheme", "http")];
    let mut half = Frames::connect(app.addr, &[]).await;
    half.send(&[frame(HEADERS, END_STREAM, 1, &block(&start))]).await;
    until("it is cut", async || half.raw.ends().await).await;
    drop(frames);
    after::over(&app, &[(408, "deadline_body")]).await;
    after::unheard(&origin);
}
