//! One direction of a tunnel: a buffer that is written out before it is filled again, so that a slow
//! reader slows the writer down, and a watch over the frames in it.
//!
//! Every step may be dropped and taken up again: what was read and not yet written stays here. Bytes
//! are looked at before they go on, so that a message which must not pass lacks at least its end.
use std::cell::Cell;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::session::Cut;
use crate::wire::{Frame, Frames};

/// What one direction holds, in bytes.
pub const BUFFER: usize = 16 * 1024;

pub struct Way {
    buffer: Box<[u8]>,
    /// Of the buffer: what is written, what was looked at, what was read.
    written: usize,
    seen: usize,
    read: usize,
    /// `None`: nobody looks.
    frames: Option<Frames>,
    /// A frame was begun whose rest was kept back.
    torn: bool,
    /// A close frame has gone by.
    pub closed: bool,
    /// Bytes that went by.
    pub passed: u64,
}

/// How a direction ended.
pub enum End {
    /// Its source has no more.
    Over,
    /// Nobody reads it.
    Unread,
    Cut(Cut),
}

impl Way {
    /// `first` has been read already; `frames` look at what goes by.
    pub fn new(first: &[u8], frames: Option<Frames>) -> Self {
        let mut buffer = vec![0; BUFFER.max(first.len())].into_boxed_slice();
        buffer[..first.len()].copy_from_slice(first);
        Self {
            buffer,
            written: 0,
            seen: 0,
            read: first.len(),
            frames,
            torn: false,
            closed: false,
            passed: 0,
        }
    }

    /// Copies until either end fails, or `see` has a reason to end it. `last`: when a message, or a
    /// part of one, went by; `goodbye` is told of a close frame.
    pub async fn pump(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        last: &Cell<Instant>,
        goodbye: &Notify,
        mut see: impl FnMut(Frame<'_>) -> Option<Cut>,
    ) -> End {
        loop {
            if let Some(cut) = self.look(last, goodbye, &mut see) {
                return End::Cut(cut);
            }
            if !self.write_out(to).await {
                return End::Unread;
            }
            match from.read(&mut self.buffer).await {
                Ok(count @ 1..) => self.read = count,
                _ => return End::Over,
            }
        }
    }

    /// Looks at what was read.
    fn look(
        &mut self,
        last: &Cell<Instant>,
        goodbye: &Notify,
        see: &mut impl FnMut(Frame<'_>) -> Option<Cut>,
    ) -> Option<Cut> {
        let piece = &self.buffer[self.seen..self.read];
        self.seen = self.read;
        if piece.is_empty() {
            return None;
        }
        let Some(frames) = &mut self.frames else {
            last.set(Instant::now());
            return None;
        };
        let between = frames.between();
        let (mut cut, mut control) = (None, 0_usize);
        let (mut closed, mut messages) = (false, 0_usize);
        frames.push(piece, &mut |frame| {
            match frame {
                Frame::Ping | Frame::Pong => control += 1,
                Frame::Close(_) => closed = true,
                _ => messages += 1,
            }
            if cut.is_none() {
                cut = see(frame);
            }
        });
        // a message of which only a part has come is traffic as well
        if messages > 0 || control == 0 || !frames.between() {
            last.set(Instant::now());
        }
        if closed {
            self.closed = true;
            goodbye.notify_one();
        }
        if frames.is_lost() {
            cut = Some(Cut::malformed());
        }
        if cut.as_ref().is_some_and(|cut| !cut.passes) {
            self.torn = !between;
            self.written = self.read;
            // as the other side knows it, no frame was begun
            *frames = frames.anew();
        }
        cut
    }

    /// Writes out what the buffer has. `false`: nobody takes it.
    async fn write_out(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> bool {
        while self.written < self.read {
            match to.write(&self.buffer[self.written..self.read]).await {
                Ok(count @ 1..) => {
                    self.written += count;
                    self.passed += count as u64;
                }
                _ => return false,
            }
        }
        (self.written, self.seen, self.read) = (0, 0, 0);
        to.flush().await.is_ok()
    }

    /// Writes a frame of ours, behind the end of the one that is under way, and nothing after it.
    /// Nothing at all if `may` says no to what has come of that one.
    pub async fn say(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        frame: &[u8],
        mut may: impl FnMut(Frame<'_>) -> bool,
    ) {
        if self.torn || !self.write_out(to).await || self.closed {
            return;
        }
        let Some(frames) = &mut self.frames else { return };
        while !frames.between() {
            if frames.is_lost() {
                return;
            }
            let Ok(count @ 1..) = from.read(&mut self.buffer).await else { return };
            let (mut piece, mut goes) = (0, true);
            while piece < count && (piece == 0 || !frames.between()) {
                frames.push(&self.buffer[piece..=piece], &mut |frame| goes &= may(frame));
                piece += 1;
            }
            if !goes {
                return;
            }
            if to.write_all(&self.buffer[..piece]).await.is_err() {
                return;
            }
            self.passed += piece as u64;
            // the rest would come behind the last word; only what it is matters now
            frames.push(&self.buffer[piece..count], &mut |frame| {
                self.closed |= matches!(frame, Frame::Close(_));
            });
            if piece < count {
                break;
            }
        }
        if to.write_all(frame).await.is_ok() {
            _ = to.flush().await;
        }
    }

    /// Reads what still comes, to the close frame or the end.
    pub async fn hear(&mut self, from: &mut (impl AsyncRead + Unpin)) {
        while !self.closed {
            let Ok(count @ 1..) = from.read(&mut self.buffer).await else { return };
            if let Some(frames) = &mut self.frames {
                frames.push(&self.buffer[..count], &mut |frame| {
                    self.closed |= matches!(frame, Frame::Close(_));
                });
            }
        }
    }
}
