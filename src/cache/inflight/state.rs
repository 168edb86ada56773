//! What a hub knows: the pieces, who reads them, and how it ended.
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::{Gone, Reader, Seats};
use crate::cache::entry::Piece;
use crate::pressure::Held;

mod resumed;

pub use resumed::{Had, Unresumed};

/// How far a reader may fall behind others, and how far the writer may be ahead of the fastest, once
/// the answer is too long to be kept. In bytes.
pub const WINDOW: usize = 1 << 20;
const AHEAD: usize = 64 << 10;

pub(super) struct State<H, F> {
    head: Option<Arc<H>>,
    pieces: VecDeque<(Bytes, u32)>,
    /// Pieces that were let go of, and their bytes.
    gone: usize,
    gone_bytes: u64,
    /// Bytes in `pieces`.
    held: usize,
    /// The same, of the budget.
    counted: Held,
    /// Most bytes that are kept.
    keep: usize,
    /// Nothing has been let go of.
    whole: bool,
    /// Nobody may join.
    closed: bool,
    /// Its end is near: it is waited for though nobody reads, and others may join meanwhile.
    ending: bool,
    end: Option<Result<(), Gone<F>>>,
    /// Whoever began it wants no more of it.
    cancelled: bool,
    /// When the last reader went; `None`: somebody reads, or nobody has yet.
    left: Option<Instant>,
    seats: Seats,
    writer: Option<Waker>,
    woken: Woken,
}

/// Whom an edit concerns: mostly nobody, or one.
#[derive(Default)]
pub(super) struct Woken {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Woken {
    fn add(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if self.first.is_some() => self.more.push(waker),
            Some(waker) => self.first = Some(waker),
            None => {}
        }
    }

    pub fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
            self.more.into_iter().for_each(Waker::wake);
        }
    }
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub body: Bytes,
    /// Empty where it came in one piece.
    pub frames: Box<[Piece]>,
}

impl<H, F> State<H, F> {
    pub fn new(keep: usize, counted: Held) -> Self {
        Self {
            head: None,
            pieces: VecDeque::new(),
            gone: 0,
            gone_bytes: 0,
            held: 0,
            counted,
            keep,
            whole: true,
            closed: false,
            ending: false,
            end: None,
            cancelled: false,
            left: None,
            seats: Seats::new(),
            writer: None,
            woken: Woken::default(),
        }
    }

    pub fn take_woken(&mut self) -> Woken {
        std::mem::take(&mut self.woken)
    }

    /// From the first piece on. `joined`: for a call that did not begin it.
    pub fn seat(&mut self, joined: bool) -> usize {
        self.left = None;
        self.seats.insert(Reader { next: 0, cut: 0, waker: None, lost: false, joined })
    }

    pub fn joinable(&self) -> bool {
        self.whole && !self.closed && !matches!(self.end, Some(Err(_)))
    }

    pub fn close(&mut self) {
        self.closed = true;
    }

    pub fn ending(&mut self, near: bool) {
        self.ending = near;
    }

    pub fn head(&mut self, head: Arc<H>) {
        self.head = Some(head);
        self.wake_readers();
    }

    pub fn push(&mut self, piece: Bytes, at_ms: u32) {
        if piece.is_empty() || self.end.is_some() {
            return;
        }
        self.held += piece.len();
        self.pieces.push_back((piece, at_ms));
        if self.whole && (self.held > self.keep || !self.counted.pressure().may_share()) {
            self.whole = false;
        }
        if !self.whole {
            self.give_up_the_slow();
            self.let_go();
        }
        self.counted.set(self.held as u64);
        self.wake_readers();
    }

    pub fn end(&mut self, why: Option<Gone<F>>) {
        if self.end.is_none() {
            self.end = Some(why.map_or(Ok(()), Err));
            self.wake_readers();
        }
    }

    /// Lets go of all pieces; who has not read them all is lost.
    pub fn discard(&mut self) {
        self.whole = false;
        let all = self.gone + self.pieces.len();
        for (_, reader) in self.seats.iter_mut().filter(|(_, reader)| reader.next < all) {
            reader.lost = true;
            self.woken.add(reader.waker.take());
        }
        self.pieces.clear();
        self.gone_bytes += self.held as u64;
        (self.gone, self.held) = (all, 0);
        self.counted.set(0);
    }

    pub fn recorded(&self) -> Option<Recorded> {
        if !self.whole {
            return None;
        }
        if let [(only, _)] = self.pieces.as_slices().0
            && self.pieces.len() == 1
        {
            return Some(Recorded { body: only.clone(), frames: Box::default() });
        }
        let mut body = BytesMut::with_capacity(self.held);
        let mut frames = Vec::with_capacity(self.pieces.len());
        for (piece, at_ms) in &self.pieces {
            body.extend_from_slice(piece);
            frames.push(Piece { end: u32::try_from(body.len()).ok()?, at_ms: *at_ms });
        }
        Some(Recorded { body: body.freeze(), frames: frames.into() })
    }

    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ahead = self.fastest().map_or(0, |next| self.bytes_from(next));
        if self.whole || ahead <= AHEAD {
            return Poll::Ready(());
        }
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub fn poll_deserted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // also of use to who waits on: somebody may come back
        match &mut self.writer {
            Some(known) => known.clone_from(cx.waker()),
            None => self.writer = Some(cx.waker().clone()),
        }
        // who was given up and does not know it yet reads no more either
        if self.seats.iter().any(|(_, reader)| !reader.lost) {
            return Poll::Pending;
        }
        self.closed |= !self.ending;
        Poll::Ready(())
    }

    pub fn poll_head(&mut self, at: usize, cx: &mut Context<'_>) -> Poll<Result<Arc<H>, Gone<F>>> {
        if self.closed
            && self.end.is_some()
            && self.seats.len() == 1
            && let Some(head) = self.head.take()
        {
            return Poll::Ready(Ok(head));
        }
        if let Some(head) = &self.head {
            return Poll::Ready(Ok(Arc::clone(head)));
        }
        if let Some(end) = &self.end {
            return Poll::Ready(Err(end.clone().err().unwrap_or(Gone::Lost)));
        }
        self.wait(at, cx);
        Poll::Pending
    }

    pub fn poll_piece(
        &mut self,
        at: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Gone<F>>>> {
        let Some(reader) = self.seats.get_mut(at).filter(|reader| !reader.lost) else {
            return Poll::Ready(Some(Err(Gone::Lost)));
        };
        let next = reader.next - self.gone;
        if let Some((piece, _)) = self.pieces.get(next) {
            let piece = piece.slice(std::mem::take(&mut reader.cut)..);
            reader.next += 1;
            if !self.whole {
                self.let_go();
                self.wake_writer();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match &self.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(gone)) => Poll::Ready(Some(Err(gone.clone()))),
            None => {
                self.wait(at, cx);
                Poll::Pending
            }
        }
    }

    pub fn rest(&mut self, at: usize) -> Option<Bytes> {
        let reader = self.seats.get_mut(at).filter(|reader| !reader.lost)?;
        if !matches!(self.end, Some(Ok(()))) || reader.next - self.gone + 1 < self.pieces.len() {
            return None;
        }
        let cut = std::mem::take(&mut reader.cut);
        let last = self.pieces.get(reader.next - self.gone).map(|(piece, _)| piece.slice(cut..));
        reader.next = self.gone + self.pieces.len();
        if !self.whole {
            self.let_go();
        }
        Some(last.unwrap_or_default())
    }

    pub fn ended(&self, at: usize) -> bool {
        matches!(self.end, Some(Ok(()))) && self.caught_up(at)
    }

    /// Whether it has read all that has come.
    pub fn caught_up(&self, at: usize) -> bool {
        let reader = self.seats.get(at).filter(|reader| !reader.lost);
        reader.is_some_and(|reader| reader.next - self.gone == self.pieces.len())
    }

    pub fn leave(&mut self, at: usize) {
        self.seats.try_remove(at);
        if self.seats.is_empty() {
            // who comes now begins anew
            self.closed |= !self.ending;
            self.left = Some(Instant::now());
        }
        if !self.whole {
            self.let_go();
        }
        self.wake_writer();
    }

    pub fn held(&self) -> usize {
        self.held
    }

    #[cfg(test)]
    pub fn fell_behind(&self, at: usize) -> bool {
        self.seats[at].lost
    }

    fn wait(&mut self, at: usize, cx: &mut Context<'_>) {
        let Some(reader) = self.seats.get_mut(at) else { return };
        match &mut reader.waker {
            Some(known) => known.clone_from(cx.waker()),
            None => reader.waker = Some(cx.waker().clone()),
        }
    }

    fn wake_readers(&mut self) {
        let Self { seats, woken, .. } = self;
        seats.iter_mut().for_each(|(_, reader)| woken.add(reader.waker.take()));
    }

    fn wake_writer(&mut self) {
        self.woken.add(self.writer.take());
    }

    fn fastest(&self) -> Option<usize> {
        let readers = self.seats.iter().filter(|(_, reader)| !reader.lost);
        readers.map(|(_, reader)| reader.next).max()
    }

    /// Bytes of the pieces from that one on.
    fn bytes_from(&self, next: usize) -> usize {
        self.pieces.iter().skip(next - self.gone).map(|(piece, _)| piece.len()).sum()
    }

    /// Who is too far behind, while somebody is not, gets no more.
    fn give_up_the_slow(&mut self) {
        let Some(fastest) = self.fastest() else { return };
        let near = self.bytes_from(fastest);
        let mut behind = 0;
        let mut oldest = self.gone + self.pieces.len();
        while oldest > self.gone && behind - near.min(behind) <= WINDOW {
            oldest -= 1;
            behind += self.pieces[oldest - self.gone].0.len();
        }
        for (_, reader) in &mut self.seats {
            if reader.next < oldest && reader.next < fastest {
                reader.lost = true;
                self.woken.add(reader.waker.take());
            }
        }
    }

    /// Pieces that everybody has read are let go of.
    fn let_go(&mut self) {
        let readers = self.seats.iter().filter(|(_, reader)| !reader.lost);
        let slowest = readers.map(|(_, reader)| reader.next).min().unwrap_or(usize::MAX);
        while self.gone < slowest
            && let Some((piece, _)) = self.pieces.pop_front()
        {
            self.gone += 1;
            self.gone_bytes += piece.len() as u64;
            self.held -= piece.len();
        }
        self.counted.set(self.held as u64);
    }
}
