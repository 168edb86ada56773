//! For the fuzzer: a payload behind a head that vouches for it, so that the reader behind the
//! checksums is met by bytes that were never written.
use bytes::Bytes;

use super::{Filler, LIVE, MAGIC, Part, SUM, Spot, decode, encode, seal, size, sum};
use crate::cache::{Entry, Key};

const SPOT: Spot<'_> = Spot { salt: &[7; 32], offset: 0 };
const KEY: Key = Key([9; 32]);

/// What is read of such a payload, and what would be written of that, which has `size` bytes.
pub fn decoded(payload: &[u8]) -> Option<(Entry, Vec<u8>, u64)> {
    let mut record = vec![0; super::FIXED];
    let length = u32::try_from(payload.len()).ok()?;
    let mut head = Filler(&mut record);
    head.put(&MAGIC);
    head.put(&LIVE.to_le_bytes());
    head.put(&(super::FIXED as u16).to_le_bytes());
    head.put(&length.to_le_bytes());
    head.put(&KEY.0);
    // when, for how long, by whose credential
    head.put(&[0; 3 * 8]);
    head.put(&sum(SPOT, Part::Payload, &[payload]) as &[u8; SUM]);
    seal(SPOT, &mut record);
    record.extend_from_slice(payload);
    let entry = decode(SPOT, &KEY, &Bytes::from(record))?;
    let mut again = Vec::new();
    encode(SPOT, &KEY, &entry, &mut again)?;
    again.extend_from_slice(&entry.body);
    let written = again.split_off(super::FIXED);
    let size = size(&entry) - super::FIXED as u64;
    Some((entry, written, size))
}
