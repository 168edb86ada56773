//! Putting a planned answer on the wire: in one write if it is plain, in one write a token if it
//! streams, and with every fault of the wire.
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Answer, Part};
use super::connection::{Connection, End};
use super::faults::{Fault, Split, pieces};
use super::gzip::Gzip;
use super::http::{self, Delimited, Head, Method, put_chunk};
use super::plan::{Plan, Reply};
use super::text::Put;
use crate::wire::Dialect;

/// How the body of one answer is written.
struct Wire {
    delimited: Delimited,
    split: Option<Split>,
    gzip: Option<Gzip>,
    /// Writes that were cut so far; the first are followed by a pause, so that the reader sees them.
    cuts: u32,
}

impl Connection {
    /// Sends the answer that `body` and the plan hold.
    pub async fn send(&mut self, head: &Head, plan: Plan) -> io::Result<End> {
        if !plan.script.early_head && !plan.script.ttft.is_zero() {
            self.pause(Instant::now() + plan.script.ttft).await?;
        }
        match plan.fault {
            Some(Fault::Reset) => return Ok(End::Reset),
            Some(Fault::Close) => return Ok(End::Close),
            Some(Fault::Stall) => return self.until_gone().await,
            Some(Fault::Garbage) => {
                self.out.put("\u{1}\u{2}not HTTP at all\r\n\r\n");
                self.flush().await?;
                return Ok(End::Close);
            }
            _ => {}
        }
        let end = match &plan.reply {
            Reply::Plain { status, content_type } => {
                self.send_plain(head, &plan, *status, content_type).await?
            }
            Reply::Stream(answer) => self.send_stream(head, &plan, answer).await?,
            Reply::Tunnel => {
                self.out.put("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n");
                self.out.extend_from_slice(&plan.fields);
                self.out.put("\r\n");
                self.flush().await?;
                return self.tunnel().await;
            }
        };
        match plan.fault {
            Some(Fault::Extra) => {
                self.out.put("these bytes belong to no answer");
                self.flush().await?;
            }
            Some(Fault::Stale(after)) => self.stale = self.served + 1 >= after,
            _ => {}
        }
        let closes = matches!(
            plan.fault,
            Some(Fault::KeepAliveClose | Fault::SilentClose | Fault::LengthLong)
        );
        Ok(if end == End::Keep && (closes || !head.keep_alive) { End::Close } else { end })
    }

    async fn send_plain(
        &mut self,
        head: &Head,
        plan: &Plan,
        status: u16,
        content_type: &str,
    ) -> io::Result<End> {
        if plan.fault == Some(Fault::Gzip) {
            let plain = std::mem::take(&mut self.body);
            let mut gzip = Gzip::begin(&mut self.body);
            gzip.put(&plain, &mut self.body);
            gzip.end(&mut self.body);
        }
        let half = self.body.len() / 2;
        if plan.fault == Some(Fault::Truncated) {
            self.body.truncate(half);
        }
        let length = match plan.fault {
            Some(Fault::LengthLong) => self.body.len() + 100,
            Some(Fault::LengthShort) => self.body.len().saturating_sub(10),
            _ => self.body.len(),
        };
        self.begin(head, plan, status, content_type, Delimited::Length(length)).await?;
        if head.method == Method::Head {
            self.body.clear();
        }
        if let Some(fault) = plan.fault.filter(|fault| fault.breaks_after().is_some()) {
            self.out.extend_from_slice(&self.body[..half]);
            self.flush().await?;
            return match fault {
                Fault::ResetMid(_) => Ok(End::Reset),
                Fault::StallMid(_) => self.until_gone().await,
                _ => Ok(End::Close),
            };
        }
        if let Some(Fault::Split(split)) = plan.fault {
            self.flush().await?;
            let delimited = Delimited::Length(length);
            let mut wire = Wire { delimited, split: Some(split), gzip: None, cuts: 0 };
            self.deliver(&mut wire).await?;
            return Ok(End::Keep);
        }
        self.out.append(&mut self.body);
        self.flush().await?;
        Ok(End::Keep)
    }

    async fn send_stream(&mut self, head: &Head, plan: &Plan, answer: &Answer) -> io::Result<End> {
        self.worker.counters().streams.fetch_add(1, Relaxed);
        self.slim();
        let delimited = match plan.fault {
            Some(Fault::LengthLong) => Delimited::Length(1 << 30),
            _ if head.chunks => Delimited::Chunked,
            _ => Delimited::Close,
        };
        self.begin(head, plan, 200, answer.face.stream_type(), delimited).await?;
        let mut wire = Wire {
            delimited,
            split: if let Some(Fault::Split(split)) = plan.fault { Some(split) } else { None },
            gzip: None,
            cuts: 0,
        };
        if plan.fault == Some(Fault::Gzip) {
            let mut begin = Vec::new();
            wire.gzip = Some(Gzip::begin(&mut begin));
            self.put_framed(&wire, &begin);
        }
        if let Some(end) = self.send_parts(plan, answer, &mut wire).await? {
            return Ok(end);
        }
        self.deliver(&mut wire).await?;
        if let Some(gzip) = wire.gzip {
            let mut end = Vec::new();
            gzip.end(&mut end);
            self.put_framed(&wire, &end);
        }
        if delimited == Delimited::Chunked {
            self.out.put("0\r\n\r\n");
        }
        self.flush().await?;
        Ok(if delimited == Delimited::Close { End::Close } else { End::Keep })
    }

    /// Sends part after part, a write for each token. The last events are left in `body`.
    /// `Some`: a fault broke the stream off.
    async fn send_parts(
        &mut self,
        plan: &Plan,
        answer: &Answer,
        wire: &mut Wire,
    ) -> io::Result<Option<End>> {
        let breaks = plan.fault.and_then(Fault::breaks_after);
        let gap = plan.script.gap;
        let (mut sent, mut due) = (0, Instant::now());
        for part in (0..).map_while(|n| answer.part(n)) {
            let is_token = matches!(part, Part::Piece(..));
            let breaks_here = match part {
                Part::Piece(..) => breaks == Some(sent),
                // a fault that was to come after more tokens than there are
                Part::Finish => breaks.is_some(),
                _ => false,
            };
            if breaks_here {
                return self.break_off(plan, answer, part, wire).await;
            }
            if part == Part::Shut(answer.main()) && plan.fault == Some(Fault::Truncated) {
                return Ok(None);
            }
            if is_token && sent > 0 && !gap.is_zero() {
                due += gap;
                self.pause(due).await?;
            }
            self.put_event(plan, answer, part);
            if is_token {
                sent += 1;
                if sent == 1 {
                    due = Instant::now();
                }
                self.deliver(wire).await?;
                plan.used(answer, sent.into());
            }
        }
        plan.used(answer, u64::MAX);
        Ok(None)
    }

    fn put_event(&mut self, plan: &Plan, answer: &Answer, part: Part) {
        let from = self.body.len();
        answer.put_part(&mut self.body, part);
        // there is nothing between \r and \n to cut where events end in \n alone
        if plan.fault == Some(Fault::Split(Split::CrLf)) && answer.face.dialect() != Dialect::Gemini
        {
            let events = self.body.split_off(from);
            for line in events.split_inclusive(|&byte| byte == b'\n') {
                self.body.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
                self.body.put("\r\n");
            }
        }
    }

    async fn break_off(
        &mut self,
        plan: &Plan,
        answer: &Answer,
        part: Part,
        wire: &mut Wire,
    ) -> io::Result<Option<End>> {
        if let Some(Fault::ErrorEvent(_)) = plan.fault {
            answer.put_error(&mut self.body, part, 500);
            return Ok(None);
        }
        self.deliver(wire).await?;
        Ok(Some(match plan.fault {
            Some(Fault::ResetMid(_)) => End::Reset,
            Some(Fault::StallMid(_)) => self.until_gone().await?,
            Some(Fault::BadChunk(_)) => {
                self.out.put("not a size\r\n");
                self.flush().await?;
                End::Close
            }
            _ => End::Close,
        }))
    }

    /// Writes the head to `out`, and sends it where the script or a fault wants it sent alone.
    async fn begin(
        &mut self,
        head: &Head,
        plan: &Plan,
        status: u16,
        content_type: &str,
        delimited: Delimited,
    ) -> io::Result<()> {
        if plan.fault == Some(Fault::EarlyHints) {
            self.out.put("HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n");
        }
        let closes = delimited == Delimited::Close || plan.fault == Some(Fault::KeepAliveClose);
        let connection = match (closes || !head.keep_alive, head.chunks) {
            (true, _) => http::Connection::Close,
            (false, true) => http::Connection::Unsaid,
            (false, false) => http::Connection::KeepAlive,
        };
        let delimited = if status == 204 { Delimited::Close } else { delimited };
        http::put_head(&mut self.out, status, content_type, delimited, connection);
        self.out.put(match plan.dialect {
            Dialect::Anthropic => "request-id: req_",
            _ => "x-request-id: req_",
        });
        self.out.hex(plan.id).put("\r\n");
        self.out.extend_from_slice(&plan.fields);
        match plan.fault {
            Some(Fault::HugeHeaders(bytes)) => {
                self.out.put("x-huge: ").fill(bytes as usize).put("\r\n");
            }
            Some(Fault::ManyHeaders(fields)) => {
                for n in 0..fields {
                    self.out.put("x-many-").num(n.into()).put(": 1\r\n");
                }
            }
            Some(Fault::Gzip) => {
                self.out.put("content-encoding: gzip\r\n");
            }
            _ => {}
        }
        self.out.put("\r\n");
        if plan.fault == Some(Fault::SlowHeaders) {
            let head = std::mem::take(&mut self.out);
            for eight in head.chunks(8) {
                self.out.extend_from_slice(eight);
                self.flush().await?;
                self.pause(Instant::now() + Duration::from_millis(10)).await?;
            }
        } else if plan.script.early_head {
            self.flush().await?;
            self.pause(Instant::now() + plan.script.ttft).await?;
        }
        Ok(())
    }

    /// Sends and empties `body`, in one write unless it is to be split.
    async fn deliver(&mut self, wire: &mut Wire) -> io::Result<()> {
        let Some(split) = wire.split else {
            self.put_body(wire);
            return self.flush().await;
        };
        let body = std::mem::take(&mut self.body);
        for piece in pieces(&body, split) {
            self.put_framed(wire, piece);
            self.flush().await?;
            wire.cuts += 1;
            if wire.cuts < 64 {
                self.pause(Instant::now() + Duration::from_millis(1)).await?;
            } else {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Moves `body` to `out`, coded and framed.
    fn put_body(&mut self, wire: &mut Wire) {
        if self.body.is_empty() {
            return;
        }
        if let Some(gzip) = &mut wire.gzip {
            let mut coded = Vec::new();
            gzip.put(&self.body, &mut coded);
            self.body = coded;
        }
        if wire.delimited == Delimited::Chunked {
            put_chunk(&mut self.out, &self.body);
        } else {
            self.out.extend_from_slice(&self.body);
        }
        self.body.clear();
    }

    fn put_framed(&mut self, wire: &Wire, data: &[u8]) {
        if wire.delimited == Delimited::Chunked {
            put_chunk(&mut self.out, data);
        } else {
            self.out.extend_from_slice(data);
        }
    }
}
