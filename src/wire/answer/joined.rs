//! Pieces of values put together as they were written.
//!
//! The insides of two JSON strings in a row are the inside of the joined string, whatever escapes
//! they hold, and the same goes for lists: so nothing is decoded and nothing can change. An object
//! with a member twice, or with an escape in a name, is not read.
use crate::wire::json::{Raw, skip_space, skip_value};

/// Shows the members of an object in order. `None`: it is broken, has a member twice, or `on` does
/// not know what to do with one.
pub(super) fn members<'a>(
    object: Raw<'a>,
    mut on: impl FnMut(&'a [u8], Raw<'a>) -> Option<()>,
) -> Option<()> {
    let mut names = Names::default();
    let mut members = object.members()?;
    while let Some((key, value)) = members.next().ok()? {
        names.add(key.0)?;
        on(key.0, value)?;
    }
    (members.at() == object.0.len()).then_some(())
}

/// Shows the elements of a list in order. `None`: it is broken, or `on` says so.
pub(super) fn elements<'a>(list: Raw<'a>, mut on: impl FnMut(Raw<'a>) -> Option<()>) -> Option<()> {
    let text = list.0;
    let [b'[', .., b']'] = text else { return None };
    let mut at = skip_space(text, 1);
    if text[at] == b']' {
        return (at + 1 == text.len()).then_some(());
    }
    loop {
        let end = skip_value(text, at).ok()?;
        on(Raw(&text[at..end]))?;
        at = skip_space(text, end);
        match text.get(at)? {
            b',' => at = skip_space(text, at + 1),
            b']' => return (at + 1 == text.len()).then_some(()),
            _ => return None,
        }
    }
}

/// A member as it was written: what stands between the quotes of its name, and its value.
pub(super) type Member<'a> = (&'a [u8], Raw<'a>);

/// What stands between the quotes of a string.
pub(super) fn inner(value: Raw<'_>) -> Option<&[u8]> {
    match value.0 {
        [b'"', inner @ .., b'"'] => Some(inner),
        _ => None,
    }
}

/// The names that an object had so far. Most are told apart by one bit.
#[derive(Default)]
struct Names<'a> {
    bits: u64,
    near: [&'a [u8]; 12],
    len: usize,
    more: Vec<&'a [u8]>,
}

impl<'a> Names<'a> {
    /// `None`: it was there, or it is written with escapes.
    fn add(&mut self, name: &'a [u8]) -> Option<()> {
        let (first, last) = (name.first().copied(), name.last().copied());
        let sum = name.len() * 7 + usize::from(first.unwrap_or(0)) * 5;
        let bit = 1 << ((sum + usize::from(last.unwrap_or(0))) % 64);
        let known = self.near.iter().take(self.len).chain(&self.more);
        if self.bits & bit != 0 && known.into_iter().any(|other| *other == name) {
            return None;
        }
        if memchr::memchr(b'\\', name).is_some() {
            return None;
        }
        self.bits |= bit;
        match self.near.get_mut(self.len) {
            Some(place) => {
                *place = name;
                self.len += 1;
            }
            None => self.more.push(name),
        }
        Some(())
    }
}

/// An object that grows by pieces, in the order in which its members were first seen.
#[derive(Default)]
pub(super) struct Fields<'a>(Vec<(&'a [u8], Field<'a>)>);

enum Field<'a> {
    /// As it was written.
    Value(Raw<'a>),
    /// The inside of a string.
    Text(Vec<u8>),
    /// The inside of a list.
    List(Vec<u8>),
}

impl<'a> Fields<'a> {
    fn field(&mut self, name: &[u8]) -> Option<&mut Field<'a>> {
        self.0.iter_mut().find(|(other, _)| *other == name).map(|(_, field)| field)
    }

    pub fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|(other, _)| *other == name)
    }

    /// The value of a member that is not put together from pieces.
    pub fn value(&self, name: &[u8]) -> Option<Raw<'a>> {
        self.0.iter().find_map(|(other, field)| match field {
            Field::Value(value) if *other == name => Some(*value),
            _ => None,
        })
    }

    /// The next piece of a text, or `null` for none.
    pub fn text(&mut self, name: &'a [u8], value: Raw<'a>) -> Option<()> {
        self.grow(name, value, |value| match value.0 {
            [b'"', inner @ .., b'"'] => Some(Field::Text(inner.to_vec())),
            _ => None,
        })
    }

    /// The next elements of a list, or `null` for none.
    pub fn list(&mut self, name: &'a [u8], value: Raw<'a>) -> Option<()> {
        self.grow(name, value, |value| match value.0 {
            [b'[', inner @ .., b']'] => Some(Field::List(inner.trim_ascii().to_vec())),
            _ => None,
        })
    }

    /// One more element of a list, which may not have been there.
    pub fn push(&mut self, name: &'a [u8], element: Raw<'a>) -> Option<()> {
        match self.field(name) {
            None => self.0.push((name, Field::List(element.0.to_vec()))),
            Some(Field::List(list)) => {
                comma(list);
                list.extend_from_slice(element.0);
            }
            Some(field @ Field::Value(Raw(b"null"))) => *field = Field::List(element.0.to_vec()),
            Some(_) => return None,
        }
        Some(())
    }

    fn grow(
        &mut self,
        name: &'a [u8],
        value: Raw<'a>,
        first: impl FnOnce(Raw<'a>) -> Option<Field<'a>>,
    ) -> Option<()> {
        match (self.field(name), value.0) {
            (None, b"null") => self.0.push((name, Field::Value(value))),
            (None, _) => self.0.push((name, first(value)?)),
            (Some(_), b"null") => {}
            (Some(Field::Text(text)), [b'"', inner @ .., b'"']) => text.extend_from_slice(inner),
            (Some(Field::List(list)), [b'[', inner @ .., b']']) => {
                let inner = inner.trim_ascii();
                if !list.is_empty() && !inner.is_empty() {
                    list.push(b',');
                }
                list.extend_from_slice(inner);
            }
            (Some(field @ Field::Value(Raw(b"null"))), _) => *field = first(value)?,
            _ => return None,
        }
        Some(())
    }

    /// A value that is the same wherever it stands; `null` where it is not yet, or no longer, told.
    pub fn constant(&mut self, name: &'a [u8], value: Raw<'a>) -> Option<()> {
        self.agree(name, value, Raw::is_null)
    }

    /// The same, but an empty value is as good as none.
    pub fn once(&mut self, name: &'a [u8], value: Raw<'a>) -> Option<()> {
        self.agree(name, value, Raw::is_empty)
    }

    /// A member that nobody knows how to join: only as long as it says nothing.
    pub fn silent(&mut self, name: &'a [u8], value: Raw<'a>) -> Option<()> {
        if value.is_empty() { self.constant(name, value) } else { None }
    }

    fn agree(
        &mut self,
        name: &'a [u8],
        value: Raw<'a>,
        nothing: impl Fn(Raw<'a>) -> bool,
    ) -> Option<()> {
        match self.field(name) {
            None => self.0.push((name, Field::Value(value))),
            Some(Field::Value(known)) if *known == value || nothing(value) => {}
            Some(Field::Value(known)) if nothing(*known) => *known = value,
            Some(_) => return None,
        }
        Some(())
    }

    /// A value that replaces what stood there.
    pub fn replace(&mut self, name: &'a [u8], value: Raw<'a>) {
        match self.field(name) {
            None => self.0.push((name, Field::Value(value))),
            Some(field) => *field = Field::Value(value),
        }
    }

    pub fn remove(&mut self, name: &[u8]) {
        self.0.retain(|(other, _)| *other != name);
    }

    /// Appends the members, without braces.
    pub fn put(&self, out: &mut Vec<u8>) {
        for (name, field) in &self.0 {
            match field {
                Field::Value(value) => put_member(out, name, value.0),
                Field::Text(text) => put_parts(out, name, b"\"", text, b"\""),
                Field::List(list) => put_parts(out, name, b"[", list, b"]"),
            }
        }
    }
}

/// Appends a comma where the open object or list has something in it.
pub(super) fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{' | b'[' | b',')) {
        out.push(b',');
    }
}

/// Appends a member's name, with its colon.
pub(super) fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    comma(out);
    out.push(b'"');
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
}

pub(super) fn put_member(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put_name(out, name);
    out.extend_from_slice(value);
}

pub(super) fn put_all(out: &mut Vec<u8>, members: &[Member<'_>]) {
    for (name, value) in members {
        put_member(out, name, value.0);
    }
}

/// Appends a member that is a string, by what stands between its quotes.
pub(super) fn put_string(out: &mut Vec<u8>, name: &[u8], inner: &[u8]) {
    put_parts(out, name, b"\"", inner, b"\"");
}

fn put_parts(out: &mut Vec<u8>, name: &[u8], open: &[u8], inner: &[u8], close: &[u8]) {
    put_name(out, name);
    out.extend_from_slice(open);
    out.extend_from_slice(inner);
    out.extend_from_slice(close);
}

/// What was put together, if it is JSON: the walk over the pieces was lenient.
pub(super) fn checked(out: Vec<u8>) -> Option<bytes::Bytes> {
    is_json(&out).then(|| out.into())
}

pub(super) fn is_json(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).ok();
    text.is_some_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}
