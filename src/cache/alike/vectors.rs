//! Directions of questions, one row each in one block of bytes, searched whole.
//!
//! Below a hundred thousand rows that is faster than a graph, exact, and a row is taken out by moving
//! the last one into its place. Rows are as wide as the first one, rounded up to whole blocks; a
//! vector of another width is no neighbour of theirs.
use crate::semantic::Vector;

/// So many neighbours are looked at.
pub const NEIGHBOURS: usize = 8;
/// Rows are padded with zeros to whole blocks, which the compiler makes vector instructions of.
const BLOCK: usize = 32;

/// A vector in eight bits, of the width of its row.
#[derive(Debug, Clone, PartialEq)]
pub struct Direction {
    bytes: Box<[i8]>,
    /// One over its length.
    scale: f32,
}

impl Direction {
    pub fn builtin(vector: &Vector) -> Option<Self> {
        Self::padded(vector.0.iter().copied(), vector.0.len())
    }

    /// `None` for one without a direction.
    pub fn remote(vector: &[f32]) -> Option<Self> {
        let most = vector.iter().fold(0.0_f32, |most, part| most.max(part.abs()));
        let finite = vector.iter().all(|part| part.is_finite());
        if !finite || most < f32::MIN_POSITIVE {
            return None;
        }
        let scale = f32::from(i8::MAX) / most;
        Self::padded(vector.iter().map(|part| (part * scale).round() as i8), vector.len())
    }

    fn padded(parts: impl Iterator<Item = i8>, width: usize) -> Option<Self> {
        let mut bytes = Vec::with_capacity(width.next_multiple_of(BLOCK));
        bytes.extend(parts);
        bytes.resize(width.next_multiple_of(BLOCK), 0);
        let square = dot(&bytes, &bytes);
        let scale = 1.0 / (square as f32).sqrt();
        (square > 0).then(|| Self { bytes: bytes.into(), scale })
    }

    pub fn width(&self) -> usize {
        self.bytes.len()
    }
}

/// A neighbour: how like it is, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    pub cosine: f32,
    pub row: u32,
}

#[derive(Debug, Default)]
pub struct Vectors {
    width: usize,
    bytes: Vec<i8>,
    scales: Vec<f32>,
    /// Whose it is.
    rows: Vec<u32>,
}

impl Vectors {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether it could be a row of these.
    pub fn fits(&self, direction: &Direction) -> bool {
        self.rows.is_empty() || direction.width() == self.width
    }

    /// Where it now is. It fits, or stays away.
    pub fn push(&mut self, direction: &Direction, row: u32) -> Option<u32> {
        if !self.fits(direction) {
            return None;
        }
        self.width = direction.width();
        self.bytes.extend_from_slice(&direction.bytes);
        self.scales.push(direction.scale);
        self.rows.push(row);
        Some(self.rows.len() as u32 - 1)
    }

    /// Takes one out. Whose vector is now in its place, if another is.
    pub fn remove(&mut self, at: u32) -> Option<u32> {
        let (at, last) = (at as usize, self.rows.len() - 1);
        let end = last * self.width;
        self.bytes.copy_within(end.., at * self.width);
        self.bytes.truncate(end);
        self.scales.swap_remove(at);
        self.rows.swap_remove(at);
        self.rows.get(at).copied()
    }

    /// The row that one belongs to has another number now.
    pub fn renumber(&mut self, at: u32, row: u32) {
        self.rows[at as usize] = row;
    }

    /// Those that are most like it and `alive`, the nearest first.
    pub fn nearest(&self, to: &Direction, alive: impl Fn(u32) -> bool) -> Vec<Neighbour> {
        let mut best: Vec<Neighbour> = Vec::with_capacity(NEIGHBOURS + 1);
        if self.rows.is_empty() || !self.fits(to) {
            return best;
        }
        let mut least = f32::NEG_INFINITY;
        let rows = self.bytes.chunks_exact(self.width).zip(&self.scales).zip(&self.rows);
        for ((bytes, scale), &row) in rows {
            let cosine = dot(bytes, &to.bytes) as f32 * scale * to.scale;
            if cosine > least && alive(row) {
                let place = best.partition_point(|other| other.cosine >= cosine);
                best.insert(place, Neighbour { cosine, row });
                best.truncate(NEIGHBOURS);
                if best.len() == NEIGHBOURS {
                    least = best[NEIGHBOURS - 1].cosine;
                }
            }
        }
        best
    }
}

fn dot(a: &[i8], b: &[i8]) -> i32 {
    let (a, b) = (a.as_chunks::<BLOCK>().0, b.as_chunks::<BLOCK>().0);
    a.iter().zip(b).map(|(a, b)| block(a, b)).sum()
}

fn block(a: &[i8; BLOCK], b: &[i8; BLOCK]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

#[cfg(test)]
mod tests;
