//! Protobuf's wire format, as far as OTLP's messages need it: <https://protobuf.dev/programming-guides/encoding/>.
//!
//! By hand: a message is written once, in order, into the buffer that it is sent from. Field numbers
//! are those of opentelemetry-proto 1.9.

/// How a field's value is laid out.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// Fields are appended to it.
pub(super) type Out = Vec<u8>;

pub(super) fn put_varint(out: &mut Out, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn tag(out: &mut Out, field: u64, layout: u64) {
    put_varint(out, field << 3 | layout);
}

pub(super) fn varint(out: &mut Out, field: u64, value: u64) {
    tag(out, field, VARINT);
    put_varint(out, value);
}

pub(super) fn fixed64(out: &mut Out, field: u64, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn fixed32(out: &mut Out, field: u64, value: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn double(out: &mut Out, field: u64, value: f64) {
    fixed64(out, field, value.to_bits());
}

pub(super) fn bytes(out: &mut Out, field: u64, value: &[u8]) {
    tag(out, field, LENGTH);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A message in a message. Most are short: one byte is kept free for the length, and what is longer
/// moves up.
pub(super) fn message(out: &mut Out, field: u64, write: impl FnOnce(&mut Out)) {
    tag(out, field, LENGTH);
    let at = out.len();
    out.push(0);
    write(out);
    let len = out.len() - at - 1;
    let more = varint_len(len as u64) - 1;
    if more > 0 {
        out.resize(out.len() + more, 0);
        out.copy_within(at + 1..=at + len, at + 1 + more);
    }
    let mut left = len;
    for (place, byte) in out[at..=at + more].iter_mut().enumerate() {
        *byte = (left & 0x7f) as u8 | if place < more { 0x80 } else { 0 };
        left >>= 7;
    }
}

/// `KeyValue` with a text.
pub(super) fn text(out: &mut Out, field: u64, key: &str, value: &str) {
    let len = value.len();
    let any = 1 + varint_len(len as u64) + len;
    open(out, field, key, any);
    bytes(out, 1, value.as_bytes());
}

/// `KeyValue` with a whole number.
pub(super) fn whole(out: &mut Out, field: u64, key: &str, value: u64) {
    open(out, field, key, 1 + varint_len(value));
    varint(out, 3, value);
}

/// `KeyValue` with a real number.
pub(super) fn real(out: &mut Out, field: u64, key: &str, value: f64) {
    open(out, field, key, 9);
    double(out, 4, value);
}

/// `KeyValue` with a flag.
pub(super) fn flag(out: &mut Out, field: u64, key: &str, value: bool) {
    open(out, field, key, 2);
    varint(out, 2, value.into());
}

/// All of a `KeyValue` but its value, which has so many bytes.
fn open(out: &mut Out, field: u64, key: &str, value: usize) {
    let len = 1 + varint_len(key.len() as u64) + key.len() + 1 + varint_len(value as u64) + value;
    tag(out, field, LENGTH);
    put_varint(out, len as u64);
    bytes(out, 1, key.as_bytes());
    tag(out, 2, LENGTH);
    put_varint(out, value as u64);
}

/// A value as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message; ends early where they are none.
pub(super) fn fields(mut from: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let tag = take_varint(&mut from)?;
        let value = match tag & 7 {
            VARINT => Value::Number(take_varint(&mut from)?),
            FIXED64 => Value::Number(u64::from_le_bytes(take(&mut from, 8)?.try_into().ok()?)),
            LENGTH => {
                let len = usize::try_from(take_varint(&mut from)?).ok()?;
                Value::Bytes(take(&mut from, len)?)
            }
            FIXED32 => {
                Value::Number(u32::from_le_bytes(take(&mut from, 4)?.try_into().ok()?).into())
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    })
}

fn take<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(taken)
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let byte = take(from, 1)?[0];
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
