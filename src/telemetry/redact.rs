//! Masks what looks like a credential, as a last guard behind code that does not log any.
//!
//! One pass over words (`[A-Za-z0-9_-]`), no regular expressions: a word with the prefix of a
//! known kind of key, what follows `Bearer` or `Basic`, and the value of a header or parameter
//! that carries a key. Errs on the side of masking.
use std::borrow::Cow;
use std::ops::Range;

const LONGEST_NAME: usize = "proxy-authorization".len();
const SHORTEST_KEY: usize = 12;
const MASK: &str = "***";

/// Prefixes of keys, with the least length of the whole word.
const PREFIXES: &[(&str, usize)] = &[
    ("sk-", 12),
    ("AIza", 20),
    ("gsk_", 16),
    ("xai-", 16),
    ("pplx-", 16),
    ("hf_", 16),
    ("r8_", 16),
    ("ghp_", 16),
    ("github_pat_", 16),
    ("xoxb-", 16),
    ("AKIA", 16),
    ("eyJ", 20),
    ("tidegate_", 32),
    ("tgk_", 12),
    ("whsec_", 12),
];
/// Schemes of the `Authorization` header: the next word is the credential.
const SCHEMES: &[&str] = &["bearer", "basic"];
/// Names of headers and parameters; the value follows `:` or `=`.
const NAMES: &[&str] = &[
    "x-api-key",
    "api-key",
    "api_key",
    "apikey",
    "x-goog-api-key",
    "x-tidegate-key",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "password",
    "secret",
    "access_token",
    "client_secret",
];
/// The value of a shorter one is left: `Bearer token`, `Basic auth`.
const MIN_VALUE: usize = 8;

/// `text` with credentials replaced by `***`; borrowed when there are none.
pub(super) fn mask(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some(secret) = next_secret(text, from) {
        out.push_str(&text[copied..secret.start]);
        out.push_str(MASK);
        copied = secret.end;
        from = secret.end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Whether `mask` would change anything.
pub(super) fn finds_any(text: &str) -> bool {
    next_secret(text, 0).is_some()
}

/// Only ASCII is looked at, and ranges begin and end at ASCII: always on character boundaries.
fn next_secret(text: &str, mut from: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    loop {
        let start = from + length(&bytes[from..], |byte| !is_word(byte));
        let end = start + length(&bytes[start..], is_word);
        if start == bytes.len() {
            return None;
        }
        // Most words are cleared by their length or by what follows, without a comparison.
        let named = end - start <= LONGEST_NAME && bytes.get(end).is_some_and(|b| is_separator(*b));
        if named && let Some(secret) = after_name(text, start..end) {
            return Some(secret);
        }
        if end - start >= SHORTEST_KEY && has_prefix(&text[start..end]) {
            return Some(start..value_end(text, start));
        }
        from = end;
    }
}

fn has_prefix(word: &str) -> bool {
    PREFIXES.iter().any(|(prefix, least)| word.len() >= *least && word.starts_with(prefix))
}

/// The value that belongs to the word, when the word is a scheme or a name.
fn after_name(text: &str, word: Range<usize>) -> Option<Range<usize>> {
    let name = &text[word.clone()];
    let is_scheme = |text: &str| SCHEMES.iter().any(|known| text.eq_ignore_ascii_case(known));
    let rest = &text.as_bytes()[word.end..];
    let (gap, marked) = separators(rest);
    let found = is_scheme(name)
        || (marked && NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)))
        || (rest.starts_with(b"=") && name.eq_ignore_ascii_case("key"));
    if !found {
        return None;
    }
    let start = word.end + gap;
    let end = value_end(text, start);
    // `Authorization: Bearer …`: the scheme is no secret, what follows it is found next.
    (end - start >= MIN_VALUE && !is_scheme(&text[start..end])).then_some(start..end)
}

/// Bytes between a name and its value, and whether a `:` or `=` is among them.
fn separators(rest: &[u8]) -> (usize, bool) {
    let gap = length(rest, is_separator);
    (gap, rest[..gap].iter().any(|byte| b":=".contains(byte)))
}

fn is_separator(byte: u8) -> bool {
    b" :=\"'\\\t".contains(&byte)
}

fn value_end(text: &str, start: usize) -> usize {
    start + length(&text.as_bytes()[start..], |byte| is_word(byte) || b".~+/=%".contains(&byte))
}

fn length(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !is(*byte)).unwrap_or(bytes.len())
}

fn is_word(byte: u8) -> bool {
    WORD[usize::from(byte)]
}

static WORD: [bool; 256] = {
    let mut word = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        word[byte] =
            (byte as u8).is_ascii_alphanumeric() || byte == b'_' as usize || byte == b'-' as usize;
        byte += 1;
    }
    word
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_wherever_they_stand() {
        for (text, want) in [
            ("key sk-abcdefghij0123 refused", "key *** refused"),
            ("sk-ant-api03-AAAA_bbbb-cccc", "***"),
            ("(AIzaSyA1234567890abcdefghijk)", "(***)"),
            ("Authorization: Bearer abc.def/ghi+jkl==", "Authorization: Bearer ***"),
            ("{\"authorization\":\"Bearer my-own-token\"}", "{\"authorization\":\"Bearer ***\"}"),
            ("{\\\"x-api-key\\\": \\\"0123456789\\\"}", "{\\\"x-api-key\\\": \\\"***\\\"}"),
            ("X-API-KEY: plainsecret", "X-API-KEY: ***"),
            ("GET /v1beta/models?key=abcdefgh1234&alt=sse", "GET /v1beta/models?key=***&alt=sse"),
            ("proxy-authorization=Basic dXNlcjpwYXNz", "proxy-authorization=Basic ***"),
            ("é sk-abcdefghij0123 é gsk_abcdefghijklmnop", "é *** é ***"),
            ("password=hunter2hunter2;", "password=***;"),
            ("the key tgk_AbC-_0123456789, twice", "the key ***, twice"),
            ("?a=b&key=tgk_AbC-_0123456789", "?a=b&key=***"),
            ("x-tidegate-key: of-any-form", "x-tidegate-key: ***"),
        ] {
            assert_eq!(mask(text), want, "{text}");
        }
    }

    #[test]
    fn the_bounds_cover_the_tables() {
        assert_eq!(NAMES.iter().map(|name| name.len()).max(), Some(LONGEST_NAME));
        assert!(SCHEMES.iter().all(|name| name.len() <= LONGEST_NAME));
        assert_eq!(PREFIXES.iter().map(|(_, least)| *least).min(), Some(SHORTEST_KEY));
    }

    #[test]
    fn plain_words_pass_untouched() {
        for text in [
            "",
            "task-force disk-cache sk-8",
            "unknown key `upstreams.local.timeout`, expected `timeouts`",
            "/openai/v1/chat/completions",
            "gpt-4o-2024-08-06 claude-opus-4-5-20251101",
            "the Authorization header is missing",
            "Bearer token",
            "request 0190a5c0-7b7e-7cc3-98c4-dc0c0c07398f é…",
        ] {
            assert!(matches!(mask(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
