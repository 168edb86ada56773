//! Tells attached images, sound and files from text, so that their base64 is not taken for words.
//!
//! A backend counts an attachment by what is in it, not by its bytes. So a long string that is
//! surely base64 counts as [`MEDIA`] bytes at most. Surely: it is a `data:` URL, or a member that
//! vendors use for such data, or an element of Ollama's lists of images, and three samples of it
//! hold nothing but base64. Text in a disguise gets by; the backend's own count then corrects.
use std::ops::Range;

use memchr::memmem;

/// An attachment counts as this many bytes of a prompt: some 1,500 tokens, a large image.
pub const MEDIA: u64 = 6000;
/// How much is looked at: at the beginning, in the middle, at the end.
const SAMPLE: usize = 64;
/// The marks of a `data:` URL stand within this.
const URL_HEAD: usize = 256;

/// Whether the string at `place` is an attachment. `lists`: also as an element of an array.
pub fn is_media(text: &[u8], place: Range<usize>, lists: bool) -> bool {
    let Some(string) = text.get(place.clone()) else { return false };
    let payload = if string.starts_with(b"data:") {
        let head = &string[..string.len().min(URL_HEAD)];
        match memmem::find(head, b"base64,") {
            Some(found) => &string[found + 7..],
            None => return false,
        }
    } else {
        let before = text.get(..place.start.saturating_sub(1)).unwrap_or_default();
        match before.trim_ascii_end() {
            [name @ .., b':'] => {
                let name = name.trim_ascii_end();
                if !name.ends_with(b"\"data\"") && !name.ends_with(b"\"file_data\"") {
                    return false;
                }
            }
            [.., b'[' | b','] if lists => {}
            _ => return false,
        }
        string
    };
    let middle = payload.len() / 2;
    let end = payload.len().saturating_sub(SAMPLE);
    [0, middle, end].into_iter().all(|from| {
        let sample = &payload[from..payload.len().min(from + SAMPLE)];
        sample.iter().all(|&byte| is_base64(byte))
    })
}

/// Of either alphabet; a backslash stands before a slash that is escaped.
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\\')
}
