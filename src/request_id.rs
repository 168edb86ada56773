//! The name of one call: `req_` and 24 hex digits, unique over restarts and workers.
//!
//! Eight bytes drawn once per worker and a counter: nothing is asked of the kernel per call. It
//! names a call in logs and answers; it grants nothing, so it need not be hard to guess.
use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

const LEN: usize = 28;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; LEN]);

impl RequestId {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("req_")
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes the ids of one worker.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    next: Cell<u32>,
}

impl RequestIds {
    pub fn new() -> Self {
        Self { prefix: drawn(), next: Cell::new(0) }
    }

    pub fn next(&self) -> RequestId {
        let count = self.next.get();
        self.next.set(count.wrapping_add(1));
        let mut id = *b"req_000000000000000000000000";
        hex(&mut id[4..20], self.prefix);
        hex(&mut id[20..], u64::from(count));
        RequestId(id)
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

/// The name of one run of the process: 32 hex digits.
pub fn run_id() -> String {
    let mut id = [0; 32];
    hex(&mut id[..16], drawn());
    hex(&mut id[16..], drawn());
    String::from_utf8_lossy(&id).into_owned()
}

/// `RandomState` is seeded by the operating system; hashing the time parts two workers that were
/// given one seed.
fn drawn() -> u64 {
    RandomState::new().hash_one(std::time::SystemTime::now())
}

fn hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_count_up() {
        let ids = RequestIds::new();
        let (first, second) = (ids.next(), ids.next());
        assert!(first.as_str().ends_with("00000000") && second.as_str().ends_with("00000001"));
        assert_eq!(first.as_str().len(), LEN);
        assert_ne!(RequestIds::new().next(), RequestIds::new().next());
        let (one, other) = (run_id(), run_id());
        assert!(one.len() == 32 && one != other && one[..16] != one[16..], "{one} {other}");
    }
}
