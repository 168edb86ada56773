//! An input is a few bytes that decide (so that seeds can be written by hand) and the data behind.

/// Bytes that decide; once they are used up, all is zero.
pub struct Dice<'i>(&'i [u8]);

impl<'i> Dice<'i> {
    pub fn new(bytes: &'i [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of `0..below`.
    pub fn below(&mut self, below: u64) -> u64 {
        let wide = if below > 256 { u64::from(self.byte()) << 8 } else { 0 };
        (wide | u64::from(self.byte())) % below.max(1)
    }

    /// `Some` of them, mostly.
    pub fn maybe(&mut self, below: u64) -> Option<u64> {
        let some = self.byte() & 3 != 0;
        some.then(|| self.below(below))
    }

    pub fn bytes(&mut self, len: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn rest(self) -> &'i [u8] {
        self.0
    }
}

/// Cuts `data` as `sizes` say, over and over: `0` to `9` by so many bytes and one, others wider.
/// No piece is empty; together they are the data.
pub fn pieces<'d>(data: &'d [u8], sizes: &[u8]) -> Vec<&'d [u8]> {
    let mut sizes = sizes.iter().cycle();
    let (mut pieces, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        let size = match sizes.next().map_or(u8::MAX, |size| size.wrapping_sub(b'0')) {
            small @ 0..=9 => usize::from(small) + 1,
            wide => usize::from(wide) * 8,
        };
        let (piece, left) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = left;
    }
    pieces
}
