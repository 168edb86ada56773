//! One answer as it stands in a file: a head, then a payload. All numbers are little-endian.
//!
//! The head says what is needed to find, to purge and to skip the record; the payload is the rest
//! of the [`Entry`]. Each has a checksum of its own: BLAKE3, cut to 128 bits, under the salt of its
//! file and with its place in it. So bytes that look like a record because an answer was made to
//! look like one, or that stand where another record stood, are none. An erased record keeps its
//! lengths, so that the one behind it is found, and nothing else.
#[cfg(fuzzing)]
pub(super) mod fuzz;

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::cache::{Author, Entry, Key, Piece};
use crate::wire::{Form, Kind, Usage};

/// Of the key of the checksums.
pub(super) const SALT: usize = 32;
pub(super) const SUM: usize = 16;
/// The head without names.
const FIXED: usize = 92 + SUM;
/// A record with longer names is not written.
pub(super) const LONGEST_HEAD: usize = 4096;
const MAGIC: [u8; 4] = *b"TGr\x01";
const LIVE: u16 = 1;
const ERASED: u16 = 2;

pub(super) type Sum = [u8; SUM];

/// Where a record is, and what its checksums go by.
#[derive(Clone, Copy)]
pub(super) struct Spot<'s> {
    pub(super) salt: &'s [u8; SALT],
    pub(super) offset: u64,
}

/// A head that is whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Head<'b> {
    /// Bytes of the head itself.
    pub(super) len: u32,
    pub(super) payload: u32,
    /// `None`: the record is erased.
    pub(super) live: Option<Live<'b>>,
}

/// What the head of a record says of the answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Live<'b> {
    pub(super) key: Key,
    /// Milliseconds since 1970.
    pub(super) stored: u64,
    /// Milliseconds.
    pub(super) ttl: u64,
    credential: u64,
    payload_sum: Sum,
    agent: &'b str,
    model: &'b str,
    route: &'b str,
    upstream: &'b str,
}

impl Head<'_> {
    /// Of the record.
    pub(super) fn whole(&self) -> u64 {
        u64::from(self.len) + u64::from(self.payload)
    }
}

impl Live<'_> {
    pub(super) fn expires(&self) -> u64 {
        self.stored.saturating_add(self.ttl)
    }

    pub(super) fn author(&self) -> Author {
        Author {
            agent: self.agent.into(),
            model: self.model.into(),
            route: self.route.into(),
            upstream: self.upstream.into(),
            credential: self.credential,
        }
    }

    pub(super) fn stored(&self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.stored))
    }
}

/// Milliseconds since 1970; zero before.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// When an answer is out of date: milliseconds since 1970.
pub(super) fn expires(entry: &Entry) -> u64 {
    millis(entry.stored).saturating_add(ttl(entry))
}

fn ttl(entry: &Entry) -> u64 {
    u64::try_from(entry.ttl.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes that the record of an answer has.
pub(super) fn size(entry: &Entry) -> u64 {
    let Author { agent, model, route, upstream, .. } = &entry.author;
    let names = [agent, model, route, upstream].iter().map(|name| name.len()).sum::<usize>();
    let content_type = entry.content_type.as_ref().map_or(0, |it| 2 + it.len());
    let usage = entry.usage.map_or(0, |_| 5 * 8);
    let cost = entry.cost_nano.map_or(0, |_| 8);
    let front = FIXED + names + 3 + content_type + usage + cost + 4;
    (front + entry.frames.len() * 8 + entry.body.len()) as u64
}

/// Fills `out` with the record up to the body of the answer, which must follow it. `None`: it is
/// too long in some part.
pub(super) fn encode(spot: Spot<'_>, key: &Key, entry: &Entry, out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let Author { agent, model, route, upstream, credential } = &entry.author;
    let names = [agent, model, route, upstream];
    let len = FIXED + names.iter().map(|name| name.len()).sum::<usize>();
    if len > LONGEST_HEAD {
        return None;
    }
    out.resize(len, 0);
    payload(entry, out)?;
    let length = u32::try_from(out.len() - len + entry.body.len()).ok()?;
    let payload_sum = sum(spot, Part::Payload, &[&out[len..], &entry.body]);
    let mut head = Filler(&mut out[..len]);
    head.put(&MAGIC);
    head.put(&LIVE.to_le_bytes());
    head.put(&u16::try_from(len).ok()?.to_le_bytes());
    head.put(&length.to_le_bytes());
    head.put(&key.0);
    head.put(&millis(entry.stored).to_le_bytes());
    head.put(&ttl(entry).to_le_bytes());
    head.put(&credential.to_le_bytes());
    head.put(&payload_sum);
    for name in names {
        head.put(&u16::try_from(name.len()).ok()?.to_le_bytes());
    }
    for name in names {
        head.put(name.as_bytes());
    }
    seal(spot, &mut out[..len]);
    Some(())
}

/// A head that says nothing but how long the record is.
pub(super) fn erased(spot: Spot<'_>, head: &Head<'_>) -> Vec<u8> {
    let mut bytes = vec![0; head.len as usize];
    let mut filler = Filler(&mut bytes);
    filler.put(&MAGIC);
    filler.put(&ERASED.to_le_bytes());
    filler.put(&(head.len as u16).to_le_bytes());
    filler.put(&head.payload.to_le_bytes());
    seal(spot, &mut bytes);
    bytes
}

/// Puts the checksum at the end of a head.
fn seal(spot: Spot<'_>, head: &mut [u8]) {
    if let Some((said, room)) = head.split_last_chunk_mut::<SUM>() {
        *room = sum(spot, Part::Head, &[said]);
    }
}

/// Bytes from the beginning of a head on. `None`: there is none, or it is not what was written.
pub(super) fn head<'b>(spot: Spot<'_>, bytes: &'b [u8]) -> Option<Head<'b>> {
    let mut fields = Fields(bytes);
    if fields.array()? != MAGIC {
        return None;
    }
    let state = u16::from_le_bytes(fields.array()?);
    let len = usize::from(u16::from_le_bytes(fields.array()?));
    let (said, sealed) = bytes.get(..len)?.split_last_chunk::<SUM>()?;
    if len < FIXED || *sealed != sum(spot, Part::Head, &[said]) {
        return None;
    }
    let payload = u32::from_le_bytes(fields.array()?);
    let live = match state {
        ERASED => None,
        LIVE => Some(live(&mut fields)?),
        _ => return None,
    };
    Some(Head { len: len as u32, payload, live })
}

fn live<'b>(fields: &mut Fields<'b>) -> Option<Live<'b>> {
    let key = Key(fields.array()?);
    let stored = fields.number()?;
    let ttl = fields.number()?;
    let credential = fields.number()?;
    let payload_sum = fields.array()?;
    let mut lengths = [0; 4];
    for length in &mut lengths {
        *length = usize::from(u16::from_le_bytes(fields.array()?));
    }
    let mut names = [""; 4];
    for (name, length) in names.iter_mut().zip(lengths) {
        *name = std::str::from_utf8(fields.bytes(length)?).ok()?;
    }
    let [agent, model, route, upstream] = names;
    Some(Live { key, stored, ttl, credential, payload_sum, agent, model, route, upstream })
}

/// A whole record, read back. `None`: it is not what was written, or not under this key.
pub(super) fn decode(spot: Spot<'_>, key: &Key, record: &Bytes) -> Option<Entry> {
    let head = head(spot, record)?;
    let live = head.live.filter(|live| live.key == *key)?;
    let payload = record.get(head.len as usize..)?;
    if payload.len() != head.payload as usize
        || live.payload_sum != sum(spot, Part::Payload, &[payload])
    {
        return None;
    }
    let mut fields = Fields(payload);
    let [kind, form, flags] = fields.array()?;
    let content_type = if flags & CONTENT_TYPE == 0 {
        None
    } else {
        let len = u16::from_le_bytes(fields.array()?);
        Some(fields.bytes(len.into())?.into())
    };
    let usage = if flags & USAGE == 0 { None } else { Some(usage(&mut fields)?) };
    let cost_nano =
        if flags & COST == 0 { None } else { Some(i64::from_le_bytes(fields.array()?)) };
    let count = u32::from_le_bytes(fields.array()?) as usize;
    let pieces = fields.bytes(count.checked_mul(8)?)?.as_chunks::<8>().0;
    let frames = pieces.iter().map(|&[a, b, c, d, e, f, g, h]| Piece {
        end: u32::from_le_bytes([a, b, c, d]),
        at_ms: u32::from_le_bytes([e, f, g, h]),
    });
    Some(Entry {
        kind: number_to_kind(kind)?,
        form: number_to_form(form)?,
        stream: flags & STREAM != 0,
        content_type,
        body: record.slice_ref(fields.0),
        frames: frames.collect(),
        stored: live.stored()?,
        ttl: Duration::from_millis(live.ttl),
        usage,
        cost_nano,
        author: live.author(),
    })
}

fn usage(fields: &mut Fields<'_>) -> Option<Usage> {
    Some(Usage {
        input: fields.number()?,
        output: fields.number()?,
        cached_input: fields.number()?,
        cache_write: fields.number()?,
        reasoning: fields.number()?,
    })
}

const STREAM: u8 = 1;
const CONTENT_TYPE: u8 = 2;
const USAGE: u8 = 4;
const COST: u8 = 8;

/// All of the payload but the body.
fn payload(entry: &Entry, out: &mut Vec<u8>) -> Option<()> {
    let Entry { kind, form, stream, content_type, frames, usage, cost_nano, .. } = entry;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(*stream, STREAM)
        | flag(content_type.is_some(), CONTENT_TYPE)
        | flag(usage.is_some(), USAGE)
        | flag(cost_nano.is_some(), COST);
    out.extend([kind_to_number(*kind), form_to_number(*form), flags]);
    if let Some(content_type) = content_type {
        out.extend(u16::try_from(content_type.len()).ok()?.to_le_bytes());
        out.extend_from_slice(content_type);
    }
    if let Some(Usage { input, output, cached_input, cache_write, reasoning }) = usage {
        for count in [input, output, cached_input, cache_write, reasoning] {
            out.extend(count.to_le_bytes());
        }
    }
    if let Some(cost) = cost_nano {
        out.extend(cost.to_le_bytes());
    }
    out.extend(u32::try_from(frames.len()).ok()?.to_le_bytes());
    for Piece { end, at_ms } in frames {
        out.extend(end.to_le_bytes());
        out.extend(at_ms.to_le_bytes());
    }
    Some(())
}

/// What a checksum is of; the same bytes as the other part have another one.
#[derive(Clone, Copy)]
enum Part {
    Head,
    Payload,
}

fn sum(spot: Spot<'_>, part: Part, pieces: &[&[u8]]) -> Sum {
    let mut hasher = blake3::Hasher::new_keyed(spot.salt);
    hasher.update(&spot.offset.to_le_bytes());
    hasher.update(&[part as u8]);
    for piece in pieces {
        hasher.update(piece);
    }
    let mut sum = [0; SUM];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// Numbers in files: never changed, only added to.
macro_rules! numbers {
    ($to:ident, $from:ident, $type:ident, $($name:ident = $number:literal),+ $(,)?) => {
        pub(super) fn $to(value: $type) -> u8 {
            match value {
                $($type::$name => $number,)+
            }
        }

        pub(super) fn $from(number: u8) -> Option<$type> {
            match number {
                $($number => Some($type::$name),)+
                _ => None,
            }
        }
    };
}

numbers!(
    kind_to_number,
    number_to_kind,
    Kind,
    Chat = 1,
    Completions = 2,
    Responses = 3,
    Embeddings = 4,
    Messages = 5,
    CountTokens = 6,
    Generate = 7,
    StreamGenerate = 8,
    GeminiEmbed = 9,
    GeminiCount = 10,
    OllamaChat = 11,
    OllamaGenerate = 12,
    OllamaEmbed = 13,
    Models = 14,
    Other = 15,
    Session = 16,
);
numbers!(form_to_number, number_to_form, Form, Json = 1, Sse = 2, NdJson = 3, Opaque = 4);

/// Writes from the front of a slice that is long enough.
struct Filler<'b>(&'b mut [u8]);

impl Filler<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = std::mem::take(&mut self.0);
        if let Some((place, rest)) = room.split_at_mut_checked(bytes.len()) {
            place.copy_from_slice(bytes);
            self.0 = rest;
        }
    }
}

/// Reads from the front of a slice; `None` where it ends too soon.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, len: usize) -> Option<&'b [u8]> {
        let (first, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(first)
    }
}
