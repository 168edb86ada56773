//! Maps whose keys are hashes already: hashing them once more would only cost time.
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from one hash, or a few of them. They must come from a hasher with a random key, so that
/// nobody can make them meet.
pub type Prehashed<K, V> = HashMap<K, V, AsGiven>;

pub type AsGiven = BuildHasherDefault<Given>;

/// Takes the key as it is.
#[derive(Debug, Default, Clone, Copy)]
pub struct Given(u64);

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = self.0.rotate_left(32) ^ hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
}
