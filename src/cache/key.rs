//! The name of an answer: a keyed 256-bit hash of everything that could have made it another one.
//!
//! The key of the hash is the store's pepper, or random for a process without one, so that nobody
//! outside can aim for a key. Parts are written with their lengths: no two lists of parts are the
//! same bytes. Two sides make a key: the [`Walls`] that may not be crossed, and the question as
//! [`crate::wire`] cuts it. `Walls` is read by taking it apart, so a field that is added and not
//! decided on does not compile.
use std::fmt;
use std::hash::Hasher;

use crate::config::Scope;

/// The name of one answer, or of one partition of questions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// For maps by [`Key`]: takes eight bytes of the key as they are, for it is a hash already.
#[derive(Debug, Default, Clone, Copy)]
pub struct KeyBits(u64);

impl Hasher for KeyBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length of the key, which is always the same.
    fn write_usize(&mut self, _: usize) {}
}

/// What a hash is for; hashes for different purposes never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The whole question.
    Exact,
    /// Everything but the words of the last turn: who shares a canonical or a semantic index.
    Partition,
    /// One input of an embeddings call.
    Vector,
    /// Who began something, and may come back to it.
    Owner,
}

/// What an answer may not cross, beside the question itself.
#[derive(Debug, Clone, Copy)]
pub struct Walls<'a> {
    /// Of the policy, which is a wall too.
    pub policy: &'a str,
    pub scope: Scope,
    /// Who is inside the scope, and told apart from all who are not.
    pub tenant: &'a [u8],
    pub upstream: &'a str,
    /// Its addresses, the headers and the credential that the policy holds for it, hashed.
    pub origin: &'a [u8],
    pub route: &'a str,
    /// Below the upstream's own path, with its query (`api-version`), without keys.
    pub target: &'a str,
    /// A number of the kind of call.
    pub kind: u8,
    /// Headers that change answers: `anthropic-beta`, `openai-organization`, …, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Makes keys.
pub struct Keyer {
    secret: [u8; 32],
}

impl fmt::Debug for Keyer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyer(…)")
    }
}

impl Keyer {
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// Begins a key with the walls around it.
    pub fn within(&self, purpose: Purpose, walls: &Walls<'_>) -> Naming {
        let Walls { policy, scope, tenant, upstream, origin, route, target, kind, headers } =
            *walls;
        // one piece: the hash takes many small ones dearly
        let mut text = Vec::with_capacity(384);
        let mut part = |part: &[u8]| {
            length(&mut text, part.len());
            text.extend_from_slice(part);
        };
        part(&[VERSION, purpose as u8, scope as u8, kind]);
        for wall in [policy, upstream, route, target] {
            part(wall.as_bytes());
        }
        part(origin);
        part(tenant);
        part(&(headers.len() as u32).to_le_bytes());
        for (name, value) in headers {
            part(name.as_bytes());
            part(value);
        }
        let mut naming = Naming(blake3::Hasher::new_keyed(&self.secret));
        naming.raw(&text);
        naming
    }
}

/// Raised when what goes into a key changes its meaning: older entries on disk are then unknown.
const VERSION: u8 = 2;

/// Seven bits a byte, the last one below 128: short, and it says itself where it ends (LEB128).
pub fn length(text: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        text.push(len as u8 | 0x80);
        len >>= 7;
    }
    text.push(len as u8);
}

/// A key in the making.
#[derive(Clone)]
pub struct Naming(blake3::Hasher);

impl Naming {
    /// One more part, with its length.
    pub fn part(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// Bytes that say themselves where they end.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn key(&self) -> Key {
        Key(*self.0.finalize().as_bytes())
    }
}

impl Key {
    /// The name of one of several things of that name, told apart by a hash.
    #[must_use]
    pub fn beside(mut self, other: [u8; 32]) -> Self {
        self.0.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
        self
    }

    /// The name of one form of the same answer; `form` is below 16.
    #[must_use]
    pub fn form(mut self, form: u8) -> Self {
        self.0[31] ^= form;
        self
    }

    /// Whether its hexadecimal form begins with `prefix`.
    pub fn begins_with(&self, prefix: &str) -> bool {
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let mut digits = digits.map(|digit| char::from_digit(digit.into(), 16));
        prefix.chars().all(|wanted| digits.next() == Some(Some(wanted.to_ascii_lowercase())))
    }
}

#[cfg(test)]
mod tests;
