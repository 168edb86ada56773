//! Watches one direction of a WebSocket go by and never changes it: messages, and the control frames
//! between them (RFC 6455, section 5).
//!
//! Bytes come in any pieces. A text that lies in one piece is shown where it stands; else, or if it
//! is masked, up to 64 KiB of it are kept. Of a longer one only the beginning and the end are shown,
//! and of a binary one nothing but its length; so memory is bounded. Who wants to see all of any text
//! is shown it in parts ([`Frames::in_parts`]). Both sides must speak without
//! extensions, or compressed messages could not be read: whoever passes the upgrade on must take
//! `Sec-WebSocket-Extensions` out of the request. What breaks the rules ends the watch, not the
//! connection: the other side will close it.
use super::split::Carry;

/// The longest text that is shown whole, in bytes.
const WHOLE: usize = 64 << 10;
/// The longest payload of a control frame.
const CONTROL: u64 = 125;
/// The longest head of a frame: two bytes, eight of length, four of mask.
const HEAD: usize = 14;
/// How much is unmasked at once.
const BLOCK: usize = 1024;

/// A message that has ended, or a control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Fragments joined, without its mask. Perhaps no UTF-8: nobody has looked.
    Text(&'a [u8]),
    /// A text of more than 64 KiB: its first bytes and its last ones.
    Long {
        head: &'a [u8],
        tail: &'a [u8],
    },
    /// As much of a text as has come, without its mask; none of it is shown again.
    Part {
        text: &'a [u8],
        last: bool,
    },
    /// How many bytes it had.
    Binary(u64),
    Ping,
    Pong,
    /// With the code, if there is one. No message follows.
    Close(Option<u16>),
}

/// Watches one direction.
#[derive(Default)]
pub struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that are here.
    got: u8,
    /// The frame whose payload is awaited.
    open: Option<Open>,
    /// The message that its fragments are of.
    message: Option<Message>,
    text: Carry<WHOLE>,
    /// Texts are shown as they come.
    in_parts: bool,
    /// The first two bytes of a control frame's payload.
    code: [u8; 2],
    lost: bool,
}

struct Open {
    kind: Kind,
    last: bool,
    left: u64,
    /// Turned as bytes go by: its first byte is the next one's.
    mask: Option<[u8; 4]>,
    /// Bytes of the payload that have passed.
    passed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Ping,
    Pong,
    Close,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Text,
    Binary(u64),
}

impl Frames {
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows texts in parts, as they come, and keeps none of them.
    pub fn in_parts() -> Self {
        Self { in_parts: true, ..Self::default() }
    }

    /// The same from the beginning.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { in_parts: self.in_parts, ..Self::default() }
    }

    /// Takes the next bytes and shows every message, and every control frame, that they complete.
    pub fn push(&mut self, chunk: &[u8], on_frame: &mut impl FnMut(Frame<'_>)) {
        let mut rest = chunk;
        while !self.lost {
            if self.open.is_none() {
                rest = self.read_head(rest);
            }
            let Some(open) = &mut self.open else { return };
            let here = rest.len().min(usize::try_from(open.left).unwrap_or(usize::MAX));
            let (piece, behind) = rest.split_at(here);
            open.left -= here as u64;
            self.payload(piece, on_frame);
            rest = behind;
            if self.open.is_some() {
                return;
            }
        }
    }

    /// Nothing is half sent: a frame of ours may follow. Never again when the watch is lost.
    pub fn between(&self) -> bool {
        self.open.is_none() && self.got == 0 && !self.lost
    }

    /// The other side has broken the rules, or uses an extension: nothing is seen any more.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Texts that were too long to be shown whole.
    pub fn skipped(&self) -> u64 {
        self.text.skipped()
    }

    /// Collects the head of a frame; says what is left of the bytes.
    fn read_head<'c>(&mut self, mut rest: &'c [u8]) -> &'c [u8] {
        loop {
            let got = usize::from(self.got);
            let need = needed(&self.head[..got]);
            if got == need {
                self.got = 0;
                self.begin();
                return rest;
            }
            let here = rest.len().min(need - got);
            if here == 0 {
                return rest;
            }
            self.head[got..got + here].copy_from_slice(&rest[..here]);
            self.got += here as u8;
            rest = &rest[here..];
        }
    }

    /// The head is here.
    fn begin(&mut self) {
        let [first, second, long @ ..] = self.head;
        let (len, mask_at) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([long[0], long[1]])), 2),
            127 => {
                let mut eight = [0; 8];
                eight.copy_from_slice(&long[..8]);
                (u64::from_be_bytes(eight), 8)
            }
            len => (u64::from(len), 0),
        };
        let mask = (second & 0x80 != 0)
            .then(|| [long[mask_at], long[mask_at + 1], long[mask_at + 2], long[mask_at + 3]]);
        let last = first & 0x80 != 0;
        let extended = first & 0x70 != 0;
        let kind = match (first & 0x0f, &self.message) {
            (0, Some(_)) => Kind::Data,
            (1, None) => {
                self.message = Some(Message::Text);
                Kind::Data
            }
            (2, None) => {
                self.message = Some(Message::Binary(0));
                Kind::Data
            }
            (8, _) => Kind::Close,
            (9, _) => Kind::Ping,
            (10, _) => Kind::Pong,
            _ => {
                self.lost = true;
                return;
            }
        };
        let control = kind != Kind::Data;
        self.lost |= extended || len > i64::MAX as u64 || control && (!last || len > CONTROL);
        if !self.lost {
            self.open = Some(Open { kind, last, left: len, mask, passed: 0 });
        }
    }

    /// Some bytes of the payload have come, perhaps the last ones, perhaps none.
    fn payload(&mut self, piece: &[u8], on_frame: &mut impl FnMut(Frame<'_>)) {
        let Some(open) = &mut self.open else { return };
        let ended = open.left == 0;
        let from = open.passed;
        open.passed += piece.len() as u64;
        if open.kind != Kind::Data {
            for (place, byte) in
                self.code.iter_mut().skip(from as usize).zip(unmasked(open.mask, piece))
            {
                *place = byte;
            }
        }
        let whole = ended && open.last;
        match (open.kind, &mut self.message) {
            (Kind::Data, Some(Message::Binary(len))) => {
                *len += piece.len() as u64;
                if whole {
                    on_frame(Frame::Binary(*len));
                }
            }
            (Kind::Data, _) if self.in_parts => {
                pass(open.mask.as_mut(), piece, whole, on_frame);
            }
            (Kind::Data, _) => take(&mut self.text, open.mask.as_mut(), piece, whole, on_frame),
            (Kind::Ping, _) if ended => on_frame(Frame::Ping),
            (Kind::Pong, _) if ended => on_frame(Frame::Pong),
            (Kind::Close, _) if ended => {
                let code = (open.passed >= 2).then(|| u16::from_be_bytes(self.code));
                on_frame(Frame::Close(code));
            }
            _ => {}
        }
        if open.kind != Kind::Data {
            turn(open.mask.as_mut(), piece.len());
        } else if whole {
            self.message = None;
        }
        if ended {
            self.open = None;
        }
    }
}

/// How many bytes the head has that begins so.
fn needed(head: &[u8]) -> usize {
    let Some(second) = head.get(1) else { return 2 };
    let len = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + len + usize::from(second >> 7) * 4
}

/// Adds to a text, and shows it if it is whole.
fn take(
    text: &mut Carry<WHOLE>,
    mut mask: Option<&mut [u8; 4]>,
    piece: &[u8],
    whole: bool,
    on_frame: &mut impl FnMut(Frame<'_>),
) {
    let mut piece = piece;
    if mask.is_some() {
        let mut block = [0; BLOCK];
        for masked in piece.chunks(BLOCK) {
            for (place, byte) in block.iter_mut().zip(unmasked(mask.as_deref().copied(), masked)) {
                *place = byte;
            }
            text.keep(&block[..masked.len()]);
            turn(mask.as_deref_mut(), masked.len());
        }
        piece = &[];
    }
    if whole {
        text.complete(piece, |head, tail| {
            on_frame(tail.map_or(Frame::Text(head), |tail| Frame::Long { head, tail }));
        });
    } else {
        text.keep(piece);
    }
}

/// Shows a part of a text, unless there is nothing to say of it.
fn pass(
    mut mask: Option<&mut [u8; 4]>,
    piece: &[u8],
    whole: bool,
    on_frame: &mut impl FnMut(Frame<'_>),
) {
    let mut block = [0; BLOCK];
    let mut rest = piece;
    while mask.is_some() && !rest.is_empty() {
        let (masked, behind) = rest.split_at(rest.len().min(BLOCK));
        for (place, byte) in block.iter_mut().zip(unmasked(mask.as_deref().copied(), masked)) {
            *place = byte;
        }
        turn(mask.as_deref_mut(), masked.len());
        on_frame(Frame::Part { text: &block[..masked.len()], last: whole && behind.is_empty() });
        rest = behind;
    }
    if !rest.is_empty() || whole && piece.is_empty() {
        on_frame(Frame::Part { text: rest, last: whole });
    }
}

fn unmasked(mask: Option<[u8; 4]>, piece: &[u8]) -> impl Iterator<Item = u8> {
    piece.iter().zip(mask.unwrap_or_default().into_iter().cycle()).map(|(byte, mask)| byte ^ mask)
}

fn turn(mask: Option<&mut [u8; 4]>, by: usize) {
    if let Some(mask) = mask {
        mask.rotate_left(by % 4);
    }
}

/// A close frame as a server sends it. The codes are those of RFC 6455, section 7.4: 1000 the purpose
/// is fulfilled, 1001 going away, 1008 against a policy, 1011 an error, 1012 a restart, 1013 try again
/// later. Of the reason, as many characters as fit in 123 bytes.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(CONTROL as usize - 2)];
    let mut frame = Vec::with_capacity(4 + reason.len());
    frame.extend([0x88, reason.len() as u8 + 2]);
    frame.extend(code.to_be_bytes());
    frame.extend(reason);
    frame
}

/// The same as a client sends it. The mask is to be fresh and random.
pub fn masked_close_frame(code: u16, reason: &str, mask: [u8; 4]) -> Vec<u8> {
    let plain = close_frame(code, reason);
    let (head, payload) = plain.split_at(2);
    let mut frame = Vec::with_capacity(plain.len() + mask.len());
    frame.extend([head[0], head[1] | 0x80]);
    frame.extend(mask);
    frame.extend(unmasked(Some(mask), payload));
    frame
}

#[cfg(test)]
mod tests;
