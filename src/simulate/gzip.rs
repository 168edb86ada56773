//! The gzip format without compression: stored blocks, one for each piece (RFC 1951 section 3.2.4,
//! RFC 1952). Enough to see what a reader does with a content coding.

/// The running check of what was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gzip {
    crc: u32,
    bytes: u32,
}

impl Gzip {
    /// Appends the header.
    pub fn begin(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        Self { crc: !0, bytes: 0 }
    }

    /// Appends `data` as stored blocks.
    pub fn put(&mut self, data: &[u8], out: &mut Vec<u8>) {
        for block in data.chunks(0xffff) {
            let length = block.len() as u16;
            out.push(0);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&(!length).to_le_bytes());
            out.extend_from_slice(block);
        }
        for &byte in data {
            self.crc ^= u32::from(byte);
            for _ in 0..8 {
                self.crc = (self.crc >> 1) ^ (0xedb8_8320 & (self.crc & 1).wrapping_neg());
            }
        }
        self.bytes = self.bytes.wrapping_add(data.len() as u32);
    }

    /// Appends the last, empty block and the trailer.
    pub fn end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
        out.extend_from_slice(&(!self.crc).to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_is_the_one_of_the_standard() {
        let mut out = Vec::new();
        let mut gzip = Gzip::begin(&mut out);
        gzip.put(b"1234", &mut out);
        gzip.put(b"56789", &mut out);
        gzip.end(&mut out);
        // the check value that every description of this CRC gives for "123456789"
        assert_eq!(out[out.len() - 8..out.len() - 4], 0xcbf4_3926_u32.to_le_bytes());
        assert_eq!(out[out.len() - 4..], [9, 0, 0, 0]);
        assert_eq!(out[10..19], [0, 4, 0, 0xfb, 0xff, b'1', b'2', b'3', b'4']);
    }
}
