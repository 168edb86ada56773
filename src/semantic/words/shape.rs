//! What a text or a chunk of it looks like: shouting, a quote, code, an address, an id.
//!
//! By form alone, and rather once too often: such texts are only left alone.

/// All capitals, or a title: then a capital says nothing about a word.
pub fn shouts(text: &str) -> bool {
    let starts =
        text.split_whitespace().filter_map(|word| word.chars().find(|c| c.is_alphabetic()));
    let (mut capital, mut all) = (0, 0);
    for start in starts {
        all += 1;
        capital += usize::from(start.is_uppercase());
    }
    all >= 2 && capital * 5 >= all * 4
}

/// A quoted part, or a payload after a colon: their case and punctuation may be the point.
pub fn quotes(text: &str) -> bool {
    let straight = text.bytes().filter(|&b| b == b'"').count();
    let curly = text.contains(['“', '”', '«', '»', '「', '`']);
    // an apostrophe is inside or behind a word; a quote is before one
    let single = text.match_indices(['\'', '‘']).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at..].chars().nth(1);
        before.is_none_or(char::is_whitespace) && after.is_some_and(char::is_alphanumeric)
    });
    straight >= 2 || curly || single
}

pub fn is_code(chunk: &str, core: &str) -> bool {
    // nearly all chunks are a plain word with its punctuation
    let signs = |byte: u8| {
        matches!(
            byte,
            b':' | b'-'
                | b'='
                | b'!'
                | b'('
                | b'{'
                | b'}'
                | b'<'
                | b'/'
                | b'&'
                | b'|'
                | b'$'
                | b'['
                | b'\\'
        )
    };
    if !chunk.bytes().any(signs) {
        return camel(core);
    }
    let has = |mark: &str| chunk.contains(mark);
    let marks =
        ["::", "->", "=>", "==", "!=", "()", "{", "}", "</", "/>", "&&", "||", "$(", "[]", "\\"];
    marks.iter().any(|mark| has(mark))
        || core.starts_with("--")
        || chunk.ends_with("();")
        || camel(core)
}

/// `fooBar`, but not `iPhone`, `eBay`, `McDonald`, `YouTube`.
fn camel(core: &str) -> bool {
    let mut lower = 0;
    let starts_lower = core.starts_with(|c: char| c.is_ascii_lowercase());
    core.bytes().any(|byte| {
        let turn = lower >= 2 && byte.is_ascii_uppercase() && starts_lower;
        lower = if byte.is_ascii_lowercase() { lower + 1 } else { 0 };
        turn
    })
}

/// An address, a path, a name with underscores, letters and digits mixed.
pub fn is_identifier(core: &str) -> bool {
    if core.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'\'') {
        return false;
    }
    if core.contains("://") || core.contains('_') || core.starts_with("www.") {
        return true;
    }
    let inner = core.trim_start_matches('@');
    if let Some((user, host)) = inner.split_once('@') {
        return !user.is_empty() && host.contains('.');
    }
    let slashes = core.bytes().filter(|&b| b == b'/').count();
    let letters = core.bytes().filter(u8::is_ascii_alphabetic).count();
    if letters > 0 && (core.starts_with('/') || slashes >= 2) {
        return true;
    }
    file_name(core) || mixed(core)
}

/// `notes.txt`: a dot, then two to four letters; not `e.g.`, nor two sentences without a space.
fn file_name(core: &str) -> bool {
    core.rsplit_once('.').is_some_and(|(name, end)| {
        let short = (2..=4).contains(&end.len()) && end.bytes().all(|b| b.is_ascii_lowercase());
        short
            && name.len() >= 2
            && !name.contains('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// `A1B2C3`: letters and digits that change sides twice, or five and more of both.
fn mixed(core: &str) -> bool {
    let mut turns = 0;
    let mut last = None;
    for byte in core.bytes().filter(u8::is_ascii_alphanumeric) {
        let digit = byte.is_ascii_digit();
        turns += usize::from(last.is_some_and(|was| was != digit));
        last = Some(digit);
    }
    let digits = core.bytes().filter(u8::is_ascii_digit).count();
    turns >= 2 && !core.contains('-') && digits >= 2 || turns >= 1 && digits >= 4 && core.len() >= 7
}

/// Whether a point before a number is part of it; `...5` has none.
pub fn is_point(head: &str, core: &str) -> bool {
    core.starts_with(|c: char| c.is_ascii_digit())
        && head.strip_suffix('.').is_some_and(|head| !head.ends_with('.'))
}

/// A sign behind it may be more than punctuation: `5!`, `6'`, `5‰`; the grade `B-`, the group `O-`.
pub fn is_more_than_it_seems(core: &str, tail: &str) -> bool {
    let number = core.ends_with(|c: char| c.is_ascii_digit());
    let marks = ['!', '\'', '"', '’', '”', '′', '″', '‰', '‱'];
    let short = |word: &str| word.len() <= 2 && word.starts_with(|c: char| c.is_ascii_uppercase());
    number && tail.starts_with(marks) || core.strip_suffix(['-', '–', '−']).is_some_and(short)
}

/// What stands alone between two numbers, and is no comma.
pub fn calculates(chunk: &str) -> bool {
    chunk.chars().all(|c| matches!(c, '-' | '–' | '—' | '·' | '•' | ':'))
}

/// A number without the commas between its thousands: `1,000`, but neither `1,5` nor `10,3`.
pub fn without_groups(number: &str) -> std::borrow::Cow<'_, str> {
    let whole = number.split('.').next().unwrap_or_default();
    let mut groups = whole.split(',');
    let first = groups.next().is_some_and(|group| group.len() <= 3);
    if first && groups.all(|group| group.len() == 3) && !number[whole.len()..].contains(',') {
        number.replace(',', "").into()
    } else {
        number.into()
    }
}

/// A unit whose prefix or name is told by its case alone: `mW` is not `MW`, nor `Mb` `MB`.
pub fn is_unit_by_case(word: &str) -> bool {
    match word.as_bytes() {
        [b'm', b'W' | b'V' | b'P' | b'J' | b'M', rest @ ..] => rest.len() <= 1,
        [b'K' | b'M' | b'G' | b'T', b'b', rest @ ..] => matches!(rest, b"" | b"ps" | b"it"),
        _ => false,
    }
}
