use super::*;
use crate::flight::{About, Flights, Limits, Ticket};
use crate::request_id::RequestIds;
use crate::wire::{Form, Kind};

const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn ticket() -> Ticket {
    let about = About::new(RequestIds::new().next(), "chat", Instant::now().into_std());
    std::rc::Rc::new(Flights::default()).begin(&Clock::new(), Limits::UNBOUNDED, about)
}

fn patience(racing: Option<&Cell<bool>>) -> Patience<'_> {
    Patience { until: Instant::now() + Duration::from_secs(2), slow: false, racing }
}

/// An answer that has come in pieces of this size, and its end with it.
fn come(text: &str, size: usize) -> AnswerBody {
    let mut body = AnswerBody::ended_already();
    body.put_back(text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect());
    body
}

/// All that is left to be read.
async fn read(mut body: AnswerBody) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(Ok(piece)) = poll_fn(|cx| body.poll_data(cx)).await {
        all.extend_from_slice(&piece);
    }
    all
}

/// What holding comes to, in a word; nothing of the stream may be lost, whatever its pieces.
async fn held(text: &str) -> String {
    let mut all = Vec::new();
    for size in [1, 7, 64, 4096, usize::MAX] {
        let (mut body, meter) = (come(text, size), Meter::new(Kind::Chat, Form::Sse));
        let (ticket, clock) = (ticket(), Clock::new());
        let held = until_content(&ticket, &clock, &mut body, meter, &patience(None)).await;
        all.push(match held {
            Held::Goes => "goes".to_owned(),
            Held::Failed(verdict) => format!("{verdict:?}"),
            Held::Broken(_) | Held::Expired(_) | Held::Slow => "lost".to_owned(),
        });
        assert_eq!(String::from_utf8(read(body).await).unwrap(), text, "{size}");
    }
    all.dedup();
    all.join(" ")
}

#[tokio::test]
async fn it_ends_with_the_first_content_or_an_error_before_it() {
    let comments = ": hello\n\n".repeat(100);
    for (text, want) in [
        (format!("{ROLE}{TOKEN}{DONE}"), "goes"),
        (format!("{ROLE}{ERROR}"), "Failed"),
        (format!("{comments}{ERROR}{DONE}"), "Failed"),
        (ERROR.replace("server_error", "overloaded_error"), "Overloaded"),
        (ERROR.replace("server_error", "invalid_request_error"), "TheirFault"),
        // content came first
        (format!("{TOKEN}{ERROR}"), "goes"),
        // it says nothing, and says so
        (format!("{ROLE}{DONE}"), "goes"),
    ] {
        assert_eq!(held(&text).await, want, "{text}");
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_before_content_has_failed() {
    for text in [String::new(), ROLE.to_owned(), ROLE[..20].to_owned(), ": hello\n\n".to_owned()] {
        assert_eq!(held(&text).await, "Failed", "{text}");
    }
}

#[tokio::test]
async fn no_more_than_its_bound_is_held() {
    let text = ": hello\n\n".repeat(20_000) + ERROR;
    let (mut body, meter) = (come(&text, 1000), Meter::new(Kind::Chat, Form::Sse));
    let held = until_content(&ticket(), &Clock::new(), &mut body, meter, &patience(None)).await;
    assert!(matches!(held, Held::Goes));
    assert_eq!(read(body).await, text.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn there_is_no_end_to_it_while_another_request_runs() {
    let racing = Cell::new(true);
    let patience = patience(Some(&racing));
    let mut ends = pin!(patience.ends());
    let hour = Instant::now() + Duration::from_hours(1);
    assert!(timeout_at(hour, &mut ends).await.is_err(), "it is still held");
    racing.set(false);
    ends.await;
}

#[tokio::test]
async fn an_error_is_read_as_far_as_it_may_be() {
    for length in [0, 1, MOST - 1, MOST, 3 * MOST] {
        let text = "x".repeat(length);
        let mut body = come(&text, 1000);
        let read_first = short_body(&ticket(), &mut body).await.unwrap();
        assert!(read_first.len() >= length.min(MOST) && read_first.len() < MOST + 1000);
        assert!(text.as_bytes().starts_with(&read_first));
        assert_eq!(read(body).await.len(), length);
    }
}

#[tokio::test]
async fn what_came_in_one_piece_is_not_copied() {
    let mut body = come("{\"error\":{}}", 1000);
    let seen = short_body(&ticket(), &mut body).await.unwrap();
    let piece = poll_fn(|cx| body.poll_data(cx)).await.unwrap().unwrap();
    assert_eq!((seen.as_ptr(), seen.len()), (piece.as_ptr(), piece.len()));
}

#[test]
fn what_is_small_says_so() {
    let of = |length: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, length.parse().unwrap());
        is_small(&headers)
    };
    assert!(of("0") && of("4096"));
    assert!(!of("4097") && !of("99999999999999999999999") && !of("x"));
    assert!(!is_small(&HeaderMap::new()));
}
