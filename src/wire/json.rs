//! A lenient walk over JSON text: members of one object, elements of one array, raw values.
//!
//! It finds where values begin and end and nothing more, in one pass, without recursion and
//! without a copy: strings are crossed by SIMD search, containers by a depth counter. So nesting
//! costs nothing, and bytes inside a skipped value may be anything a backend is willing to take
//! (lone surrogates, invalid UTF-8, `NaN`). It is not a validator: brackets are counted, not
//! paired. Text that ends inside a value is always noticed.
use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr;

/// Shorter strings are never noted by [`Members::next_noting`].
pub const LONG: usize = 2048;

/// The byte offset at which the text stopped being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson {
    pub at: usize,
}

/// One value as it was written, without the space around it. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(pub &'a [u8]);

impl<'a> Raw<'a> {
    pub fn is_null(self) -> bool {
        self.0 == b"null"
    }

    /// `null`, `""`, `[]`, `{}`: a field that is there but says nothing.
    pub fn is_empty(self) -> bool {
        self.is_null()
            || match self.0 {
                [b'"', b'"'] => true,
                [b'[', inner @ .., b']'] | [b'{', inner @ .., b'}'] => blank(inner),
                _ => false,
            }
    }

    pub fn bool(self) -> Option<bool> {
        match self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// A whole number that is not negative and fits; also when written `12.0` or `1e3`.
    pub fn number(self) -> Option<u64> {
        let digit = |so_far: Option<u64>, byte: &u8| {
            so_far?.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
        };
        if self.0.iter().all(u8::is_ascii_digit) {
            return self.0.iter().fold((!self.0.is_empty()).then_some(0), digit);
        }
        // Above 2^53 a float no longer names one integer; no count that we read is that large.
        let float: f64 = std::str::from_utf8(self.0).ok()?.parse().ok()?;
        let whole = (0.0..=9.0e15).contains(&float) && float.fract() == 0.0;
        whole.then_some(float as u64)
    }

    /// The text of a string; borrowed unless it holds escapes. `None`: no string, or no Unicode.
    pub fn text(self) -> Option<Cow<'a, str>> {
        let [b'"', inner @ .., b'"'] = self.0 else { return None };
        if memchr(b'\\', inner).is_none() {
            return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
        }
        serde_json::from_slice(self.0).ok().map(Cow::Owned)
    }

    /// Bytes of a string's text, about: an escape counts as one, `\uXXXX` as three. `None`: no string.
    pub fn text_len(self) -> Option<usize> {
        let [b'"', inner @ .., b'"'] = self.0 else { return None };
        let (mut len, mut rest) = (inner.len(), inner);
        while let Some(found) = memchr(b'\\', rest) {
            let unicode = rest.get(found + 1) == Some(&b'u');
            len = len.saturating_sub(if unicode { 3 } else { 1 });
            rest = rest.get(found + 2..).unwrap_or_default();
        }
        Some(len)
    }

    /// The members of an object.
    pub fn members(self) -> Option<Members<'a>> {
        Members::open(self.0, 0)
    }

    /// The value of the first member of that name.
    pub fn get(self, name: &[u8]) -> Option<Raw<'a>> {
        let mut members = self.members()?;
        while let Ok(Some((key, value))) = members.next() {
            if key.0 == name {
                return Some(value);
            }
        }
        None
    }

    /// The elements of an array.
    pub fn elements(self) -> Option<Elements<'a>> {
        matches!(self.0, [b'[', ..]).then_some(Elements { text: self.0, at: 1, first: true })
    }
}

/// A member's name as it was written between its quotes, escapes included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a>(pub &'a [u8]);

impl<'a> Key<'a> {
    /// The name without escapes. `None`: it is no Unicode.
    pub fn plain(self) -> Option<Cow<'a, [u8]>> {
        if memchr(b'\\', self.0).is_none() {
            return Some(Cow::Borrowed(self.0));
        }
        let mut quoted = Vec::with_capacity(self.0.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(self.0);
        quoted.push(b'"');
        let name: String = serde_json::from_slice(&quoted).ok()?;
        Some(Cow::Owned(name.into_bytes()))
    }
}

/// Walks over one object. After the last member, [`Members::at`] is the offset behind its brace.
pub struct Members<'a> {
    text: &'a [u8],
    at: usize,
    first: bool,
}

impl<'a> Members<'a> {
    /// `None`: no object begins at `at`.
    pub fn open(text: &'a [u8], at: usize) -> Option<Self> {
        (text.get(at) == Some(&b'{')).then_some(Self { text, at: at + 1, first: true })
    }

    /// Inside an object, behind one of its values.
    pub fn behind(text: &'a [u8]) -> Self {
        Self { text, at: 0, first: false }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// Walks over what is left; `false` where the text is broken.
    pub fn skip(&mut self) -> bool {
        loop {
            match self.next() {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    pub fn next(&mut self) -> Result<Option<(Key<'a>, Raw<'a>)>, NotJson> {
        self.next_noting(&mut |_| {})
    }

    /// As [`Members::next`]. `long` gets the place of each string of [`LONG`] bytes or more that
    /// stands inside an object or an array: what is between its quotes.
    pub fn next_noting(
        &mut self,
        long: &mut impl FnMut(Range<usize>),
    ) -> Result<Option<(Key<'a>, Raw<'a>)>, NotJson> {
        self.next_by(|text, at| skip_noting(text, at, long))
    }

    /// As [`Members::next`]. `skip` gets the text and where a value begins, and says where it ends.
    pub fn next_by(
        &mut self,
        skip: impl FnOnce(&'a [u8], usize) -> Result<usize, NotJson>,
    ) -> Result<Option<(Key<'a>, Raw<'a>)>, NotJson> {
        let mut at = skip_space(self.text, self.at);
        match self.text.get(at) {
            Some(b'}') => {
                self.at = at + 1;
                return Ok(None);
            }
            Some(b',') if !self.first => at = skip_space(self.text, at + 1),
            Some(_) if self.first => {}
            _ => return Err(NotJson { at }),
        }
        self.first = false;
        if self.text.get(at) != Some(&b'"') {
            return Err(NotJson { at });
        }
        let name = at + 1;
        at = skip_string(self.text, name)?;
        let key = Key(&self.text[name..at - 1]);
        at = skip_space(self.text, at);
        if self.text.get(at) != Some(&b':') {
            return Err(NotJson { at });
        }
        let value = skip_space(self.text, at + 1);
        self.at = skip(self.text, value)?;
        Ok(Some((key, Raw(&self.text[value..self.at]))))
    }
}

/// Walks over the numbers in an object and in the objects within it, in one go: `note` gets each
/// member's name, its depth (1: a member of the object itself) and its value. Says where the object
/// ends; `None` where the text is broken.
pub fn numbers<'a>(text: &'a [u8], mut note: impl FnMut(Key<'a>, u32, Raw<'a>)) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_u32);
    loop {
        match *text.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b'"' => {
                let end = skip_string(text, at + 1).ok()?;
                let key = Key(&text[at + 1..end - 1]);
                at = skip_space(text, end);
                if text.get(at) == Some(&b':') {
                    at = skip_space(text, at + 1);
                    if text.get(at)?.is_ascii_digit() {
                        let end = skip_word(text, at).ok()?;
                        note(key, depth, Raw(&text[at..end]));
                        at = end;
                    }
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
}

/// Walks over one array. After an element, [`Elements::at`] is the offset behind it.
pub struct Elements<'a> {
    text: &'a [u8],
    at: usize,
    first: bool,
}

impl Elements<'_> {
    pub fn at(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    /// Ends at the closing bracket, and where the text is broken.
    fn next(&mut self) -> Option<Raw<'a>> {
        let mut at = skip_space(self.text, self.at);
        if !self.first {
            if self.text.get(at) != Some(&b',') {
                return None;
            }
            at = skip_space(self.text, at + 1);
        }
        self.first = false;
        let end = skip_value(self.text, at).ok()?;
        self.at = end;
        Some(Raw(&self.text[at..end]))
    }
}

pub fn blank(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

pub fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The offset behind the value that begins at `at`.
pub fn skip_value(text: &[u8], at: usize) -> Result<usize, NotJson> {
    skip_noting(text, at, &mut |_| {})
}

fn skip_noting(
    text: &[u8],
    at: usize,
    long: &mut impl FnMut(Range<usize>),
) -> Result<usize, NotJson> {
    match text.get(at) {
        Some(b'"') => skip_string(text, at + 1),
        Some(b'{' | b'[') => skip_container(text, at, long),
        Some(_) => skip_word(text, at),
        None => Err(NotJson { at }),
    }
}

/// `at` is behind the opening quote; the answer is behind the closing one.
fn skip_string(text: &[u8], mut at: usize) -> Result<usize, NotJson> {
    // most strings are names and short words: quicker seen than searched
    const NEAR: usize = 24;
    let near = text.len().min(at + NEAR);
    for (ahead, &byte) in text[at.min(near)..near].iter().enumerate() {
        match byte {
            b'"' => return Ok(at + ahead + 1),
            b'\\' => break,
            _ => {}
        }
    }
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let Some(found) = memchr(b'"', rest) else {
            return Err(NotJson { at: text.len() });
        };
        at += found + 1;
        if !ends_escaping(&rest[..found]) {
            return Ok(at);
        }
    }
}

/// Whether what follows this part of a string is escaped: an odd number of backslashes. Cheaper
/// than to stop at every escape on the way, since most are `\n` and do not matter.
pub fn ends_escaping(part: &[u8]) -> bool {
    part.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

fn skip_container(
    text: &[u8],
    mut at: usize,
    long: &mut impl FnMut(Range<usize>),
) -> Result<usize, NotJson> {
    let mut depth = 0_usize;
    loop {
        at = next_mark(text, at);
        match text.get(at) {
            Some(b'"') => {
                let end = skip_string(text, at + 1)?;
                if end - at > LONG + 1 {
                    long(at + 1..end - 1);
                }
                at = end;
                continue;
            }
            Some(b'{' | b'[') => depth += 1,
            Some(_) => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            None => return Err(NotJson { at }),
        }
        at += 1;
    }
}

/// The offset of the next quote, brace or bracket, or the end.
pub fn next_mark(text: &[u8], at: usize) -> usize {
    next_where::<16>(text, at, is_mark)
}

/// The offset of the next byte that is wanted, or the end. Those stand close together in most text,
/// so `NEAR` bytes are tried singly; then whole blocks, for long arrays of numbers (the compiler
/// makes vector code of them).
#[inline]
pub fn next_where<const NEAR: usize>(text: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> usize {
    const BLOCK: usize = 32;
    let near = text.len().min(at + NEAR);
    let mut at = at;
    while at < near {
        if wanted(text[at]) {
            return at;
        }
        at += 1;
    }
    for block in text[at.min(text.len())..].chunks(BLOCK) {
        if block.iter().fold(false, |any, &byte| any | wanted(byte)) {
            return at + block.iter().position(|&byte| wanted(byte)).unwrap_or(0);
        }
        at += block.len();
    }
    at
}

/// Brackets and braces differ in one bit.
fn is_mark(byte: u8) -> bool {
    byte == b'"' || byte | 0x20 == b'{' || byte | 0x20 == b'}'
}

/// A number or a literal; also `NaN` and `Infinity`, which Python writes and reads.
fn skip_word(text: &[u8], start: usize) -> Result<usize, NotJson> {
    let rest = &text[start..];
    let len = rest
        .iter()
        .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')))
        .unwrap_or(rest.len());
    if len == 0 { Err(NotJson { at: start }) } else { Ok(start + len) }
}

#[cfg(test)]
mod tests;
