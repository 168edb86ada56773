//! HTTP/2 by the frame: floods, stalls, lies about windows and tables, and requests that only an
//! HTTP/1.1 backend would misread. All of it is case 81.
//!
//! A connection that abuses the protocol is ended, or held back by its own unread answers, with the
//! error that RFC 9113 has for it. Others are served meanwhile, and what it costs is bounded.
mod floods;
mod letters;
mod windows;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{CHAT, PLAIN, UPLOAD, after, answering, limited};
use crate::support::app::App;
use crate::support::client::{self as http, post};
use crate::support::h2frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HAS_PRIORITY, HEADERS,
    PADDED, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, Said, WINDOW_UPDATE, block, frame,
    literal,
};
use crate::support::origin::Origin;
use crate::support::until;

// codes of RFC 9113 section 7
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The block of a POST to this path.
fn posting(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let start =
        [(":method", "POST"), (":scheme", "http"), (":authority", "sidecar.test"), (":path", path)];
    block(&[&start[..], more].concat())
}

/// A whole request without a body.
fn empty_post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &posting(UPLOAD, &[]))
}

/// The program under attack, and what it cost so far.
struct Siege {
    app: App,
    origin: Origin,
    resident: u64,
    processor: Duration,
    over: Arc<AtomicBool>,
    bystander: JoinHandle<(usize, Duration)>,
}

impl Siege {
    async fn begin(rest: &str) -> Self {
        Self::against(answering().await, rest).await
    }

    /// Before this backend. Somebody else calls all the time.
    async fn against(origin: Origin, rest: &str) -> Self {
        let app = limited(&origin.url(), "", rest);
        let to = app.addr;
        assert_eq!(http::ask(to, &post("/v1/warm", "", PLAIN)).await.status, 200);
        let (resident, processor) = (app.resident(), after::processor(&app));
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let bystander = tokio::spawn(async move {
            let (mut served, mut longest) = (0, Duration::ZERO);
            while !ends.load(Relaxed) || served == 0 {
                let from = Instant::now();
                let got = http::ask(to, &post("/v1/innocent", "", PLAIN)).await;
                assert_eq!(got.status, 200, "{got:?}");
                longest = longest.max(from.elapsed());
                served += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (served, longest)
        });
        Self { app, origin, resident, processor, over, bystander }
    }

    async fn frames(&self) -> Frames {
        Frames::connect(self.app.addr, &[]).await
    }

    /// What the backend got of others than the bystander.
    fn reached(&self) -> usize {
        let all = self.origin.take();
        all.iter().filter(|one| one.target != "/v1/innocent" && one.target != "/v1/warm").count()
    }

    /// It is over: others were served, memory and processor time stayed in bounds, nothing is left.
    async fn end(self) {
        self.over.store(true, Relaxed);
        let (served, longest) = self.bystander.await.expect("the bystander is served");
        assert!(served > 0 && longest < Duration::from_secs(5), "{served} calls, {longest:?}");
        let used = after::processor(&self.app).saturating_sub(self.processor);
        assert!(used < Duration::from_secs(4), "{used:?} of processor time");
        let grown = self.app.resident().saturating_sub(self.resident);
        assert!(grown < 24 << 10, "{grown} KiB");
        until("the connections are gone", async || self.app.state()["connections"] == 0).await;
        after::at_rest(&self.app).await;
        after::logged_once(&self.app).await;
        after::let_go(&self.app, &self.origin).await;
        assert!(!self.app.events().contains("panic"));
    }
}
