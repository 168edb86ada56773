//! Follows all heads of one connection through whatever chunks it is read in.
//!
//! The caller gives **every** byte that it reads, in order, to [`HeadTrail::feed`], and takes one
//! [`HeadFacts`] for each request, in order, with [`HeadTrail::take`]. Reads need no alignment: a
//! body's end and the next head may lie in one piece (pipelining), or a head in a hundred.
//!
//! Invariant: a head's facts are given out only while it is certain where the head begins. The
//! body of a clean head has one end (a length, or strict chunks), so the next head begins there for
//! the parser too. After any doubt (a flaw, a malformed chunk, the HTTP/2 preface, too many requests
//! ahead) the trail ends: no facts are given for later heads, and the gate refuses a request
//! without facts and closes. It cannot be out of step and go on.
use std::collections::VecDeque;

use super::chunks::{Chunks, Step};
use super::{Framing, HeadFacts, HeadScan};

/// Requests that may be read ahead of the one being served.
const AHEAD: usize = 64;

/// The heads of one connection.
#[derive(Debug)]
pub struct HeadTrail {
    scan: HeadScan,
    phase: Phase,
    first: Option<HeadFacts>,
    /// Facts after the first; allocates only when requests are pipelined.
    rest: VecDeque<HeadFacts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Length(u64),
    Chunked(Chunks),
    /// The trail has ended.
    Lost,
}

impl Default for HeadTrail {
    fn default() -> Self {
        Self::new()
    }
}

impl HeadTrail {
    pub fn new() -> Self {
        HeadTrail { scan: HeadScan::new(), phase: Phase::Head, first: None, rest: VecDeque::new() }
    }

    /// Takes the next bytes that were read.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.phase {
                Phase::Lost => return,
                Phase::Head => {
                    if let Some(facts) = self.scan.feed(bytes) {
                        self.head(facts);
                    }
                    self.scan.taken()
                }
                Phase::Length(left) => {
                    let step = (bytes.len() as u64).min(*left);
                    *left -= step;
                    if *left == 0 {
                        self.phase = Phase::Head;
                    }
                    step as usize
                }
                Phase::Chunked(chunks) => match chunks.feed(bytes) {
                    Step::More => return,
                    Step::End(at) => {
                        self.phase = Phase::Head;
                        at
                    }
                    Step::Malformed => {
                        self.phase = Phase::Lost;
                        return;
                    }
                },
            };
            bytes = &bytes[taken..];
        }
    }

    /// The facts of the next request: once for each, in order. Call it when the parser hands over
    /// the request, not later. Without facts the answer is `HeadFacts::default()`, which the gate
    /// refuses.
    pub fn take(&mut self) -> HeadFacts {
        let next = self.first.take().unwrap_or_default();
        self.first = self.rest.pop_front();
        next
    }

    /// Ends the trail: the bytes to come are no HTTP/1.x (an upgrade was granted).
    pub fn stop(&mut self) {
        self.phase = Phase::Lost;
    }

    /// Whether a head has begun and not ended: the clock of the head's deadline runs.
    pub fn is_inside_head(&self) -> bool {
        self.phase == Phase::Head && self.scan.is_inside()
    }

    /// Whether bytes of a request body are still to come.
    pub fn is_inside_body(&self) -> bool {
        matches!(self.phase, Phase::Length(_) | Phase::Chunked(_))
    }

    /// The head that was scanned last.
    pub fn last(&self) -> &HeadScan {
        &self.scan
    }

    fn head(&mut self, facts: HeadFacts) {
        if self.scan.is_preface() || self.rest.len() >= AHEAD {
            self.phase = Phase::Lost;
            return;
        }
        if self.first.is_none() {
            self.first = Some(facts);
        } else {
            self.rest.push_back(facts);
        }
        self.phase = match facts.framing() {
            Some(Framing::Empty) => Phase::Head,
            Some(Framing::Length(len)) => Phase::Length(len),
            Some(Framing::Chunked) => Phase::Chunked(Chunks::new()),
            None => Phase::Lost,
        };
    }
}
