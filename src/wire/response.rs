//! OpenAI's response objects, as far as a background mode of our own must know them: their id, and
//! the numbers of their events.
use std::ops::Range;

use bytes::Bytes;

use super::json::{Members, Raw};
use super::split::SseSplit;

/// The value of one member of an object, and its place.
fn member<'a>(object: &'a [u8], at: usize, name: &[u8]) -> Option<(Raw<'a>, Range<usize>)> {
    let mut members = Members::open(object, at)?;
    while let Ok(Some((key, value))) = members.next() {
        if key.plain().is_some_and(|key| *key == *name) {
            let end = members.at();
            return Some((value, end - value.0.len()..end));
        }
    }
    None
}

fn text(object: &[u8], name: &[u8]) -> Option<String> {
    member(object, 0, name)?.0.text().map(std::borrow::Cow::into_owned)
}

/// The id of a response object.
pub fn response_id(object: &[u8]) -> Option<String> {
    text(object, b"id").filter(|id| !id.is_empty())
}

/// How far a response object is.
pub fn response_status(object: &[u8]) -> Option<String> {
    text(object, b"status")
}

/// The id of the response that an event of its stream tells of as a whole.
pub fn event_response_id(event: &[u8]) -> Option<String> {
    response_id(member(event, 0, b"response")?.0.0)
}

/// How far the response is that an event of its stream tells of as a whole.
pub fn event_status(event: &[u8]) -> Option<String> {
    response_status(member(event, 0, b"response")?.0.0)
}

/// Which event of its stream it is.
pub fn sequence_number(event: &[u8]) -> Option<u64> {
    member(event, 0, b"sequence_number")?.0.number()
}

/// The response object that a whole stream ends with.
pub fn last_response(stream: &[u8]) -> Option<Bytes> {
    let mut last = None;
    // it may be as long as all the rest
    let mut split = SseSplit::<{ usize::MAX }>::default();
    let mut look = |event: super::Event<'_>| {
        if let Some((value, _)) = member(event.data, 0, b"response") {
            last = Some(Bytes::copy_from_slice(value.0));
        }
    };
    split.push(stream, &mut look);
    split.finish(&mut look);
    last
}

/// A response object under another id, and as one of the background. The rest of it stays as it is.
pub fn renamed_response(object: &Bytes, id: &str) -> Option<Bytes> {
    let (_, at) = member(object, 0, b"id")?;
    let quoted = serde_json::to_vec(id).ok()?;
    let mut patches = vec![(at, quoted)];
    if let Some((_, at)) = member(object, 0, b"background") {
        patches.push((at, b"true".to_vec()));
    }
    patches.sort_by_key(|(at, _)| at.start);
    let mut out = Vec::with_capacity(object.len() + id.len());
    let mut from = 0;
    for (at, text) in patches {
        out.extend_from_slice(object.get(from..at.start)?);
        out.extend_from_slice(&text);
        from = at.end;
    }
    out.extend_from_slice(object.get(from..)?);
    Some(out.into())
}

/// What an error body says, in words.
pub fn said(body: &[u8]) -> Option<String> {
    match member(body, 0, b"error") {
        Some((error, _)) => {
            error.text().map(std::borrow::Cow::into_owned).or_else(|| text(error.0, b"message"))
        }
        None => text(body, b"message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &[u8] =
        br#"{ "object":"response", "id" : "resp_a\u0062", "background":false,"output":[{"id":"x"}] }"#;

    #[test]
    fn an_object_is_renamed_in_place() {
        assert_eq!(response_id(OBJECT).as_deref(), Some("resp_ab"));
        let renamed = renamed_response(&Bytes::from_static(OBJECT), "resp_\"1").unwrap();
        let want = br#"{ "object":"response", "id" : "resp_\"1", "background":true,"output":[{"id":"x"}] }"#;
        assert_eq!(renamed, &want[..]);
        assert_eq!(renamed_response(&Bytes::from_static(b"{}"), "x"), None);
        assert_eq!(renamed_response(&Bytes::from_static(b"[\"id\"]"), "x"), None);
    }

    #[test]
    fn a_stream_names_its_response_and_its_events() {
        let stream =
            b"event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\
            \"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\"}}\n\n\
            data: {\"type\":\"x\",\"sequence_number\":7,\"delta\":\"\\\"id\\\"\"}\n\n\
            data: {\"response\":{\"id\":\"resp_1\",\"status\":\"completed\"}}\n\n";
        assert_eq!(
            last_response(stream).unwrap(),
            &b"{\"id\":\"resp_1\",\"status\":\"completed\"}"[..]
        );
        let event = b"{\"type\":\"x\",\"response\":{\"id\":\"resp_1\"}}";
        assert_eq!(event_response_id(event).as_deref(), Some("resp_1"));
        assert_eq!(event_response_id(b"{\"id\":\"resp_1\"}"), None);
        assert_eq!(sequence_number(b"{\"a\":1,\"sequence_number\":7}"), Some(7));
        assert_eq!(sequence_number(b"[DONE]"), None);
    }

    #[test]
    fn an_error_is_said_in_words() {
        assert_eq!(said(b"{\"error\":{\"message\":\"no\"}}").as_deref(), Some("no"));
        assert_eq!(said(b"{\"error\":\"no\"}").as_deref(), Some("no"));
        assert_eq!(said(b"{\"message\":\"no\"}").as_deref(), Some("no"));
        assert_eq!(said(b"no"), None);
    }
}
