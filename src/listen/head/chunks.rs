//! Steps over a chunked body (RFC 9112 7.1) to find where the next request head begins.
//!
//! Exact and strict, state by state: whatever is not plainly a chunk, an extension or a trailer is
//! a fault, and the connection's later heads are then unknown. Chunk data is skipped by counting.

/// Where in a chunked body we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunks {
    state: State,
    /// The size being read, or the data bytes left.
    left: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    Start,
    Size,
    /// White space after the size.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
}

/// What came of a piece of body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// All bytes were body.
    More,
    /// The body ended after so many bytes.
    End(usize),
    Malformed,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Chunks { state: State::Start, left: 0 }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == State::Data {
                let here = (bytes.len() - at) as u64;
                let step = here.min(self.left);
                self.left -= step;
                at += step as usize;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            if self.state == State::EndLf && byte == b'\n' {
                return Step::End(at);
            }
            let Some(next) = self.next(byte) else { return Step::Malformed };
            self.state = next;
        }
        Step::More
    }

    fn next(&mut self, byte: u8) -> Option<State> {
        Some(match (self.state, byte) {
            (State::Start | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16)?;
                self.left = self.left.checked_mul(16)?.checked_add(u64::from(digit))?;
                State::Size
            }
            (State::Size | State::Blank, b' ' | b'\t') => State::Blank,
            (State::Size | State::Blank, b';') => State::Extension,
            (State::Size | State::Blank | State::Extension, b'\r') => State::SizeLf,
            (State::Extension, other) if other != b'\n' => State::Extension,
            (State::SizeLf, b'\n') if self.left == 0 => State::Line,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Start,
            (State::Line, b'\r') => State::EndLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::Line | State::Trailer, other) if other != b'\n' => State::Trailer,
            (State::TrailerLf, b'\n') => State::Line,
            _ => return None,
        })
    }
}
