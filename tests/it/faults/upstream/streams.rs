//! Streams cut where it hurts, spelled in every way, too long, or longer than their end: cases 57 to
//! 59, 75 and 76. Whatever they are, what goes out is what came in.
use super::{CHAT, DONE, LAST, STREAM, after, ask, in_pieces, limited, many, origin, streaming};
use super::{TOUCHY, tripped};
use crate::support::client::{Client, End, post};
use crate::support::h2;
use crate::support::origin::{Origin, chunk};

/// A caller who wants to know what it used, so that nothing is taken out.
fn asking() -> String {
    STREAM.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1)
}

const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}\n\n";

/// Letters of one, two, three and four bytes, and no ASCII escapes for them.
fn spoken() -> String {
    let words = ["naïve ", "日本語 ", "\u{1f600}\u{1f468}\u{200d}\u{1f469} ", "plain "];
    let events = words.map(|word| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n")
    });
    format!("{}{USAGE}{DONE}", events.concat())
}

/// The backend's stream in such pieces; each is a chunk and a write of its own.
async fn cut_up(text: &str, sizes: impl Fn(usize) -> usize) -> Origin {
    let (mut pieces, mut rest) = (vec![origin::STREAM.to_vec()], text.as_bytes());
    while !rest.is_empty() {
        let (piece, left) = rest.split_at(sizes(pieces.len()).clamp(1, rest.len()));
        pieces.push([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        rest = left;
    }
    pieces.push(LAST.to_vec());
    in_pieces(pieces).await
}

#[tokio::test]
async fn a57_cuts_inside_of_letters_and_lines() {
    for text in [spoken(), spoken().replace('\n', "\r\n")] {
        for size in [1, 2, 3, 5, 7, 64] {
            let origin = cut_up(&text, |_| size).await;
            let app = limited(&origin.url(), TOUCHY, "");
            let got = ask(&app, &post(CHAT, "", &asking())).await;
            assert_eq!((got.status, got.end), (200, End::Whole), "{size}");
            assert!(got.body == text.as_bytes(), "{size}: {}", got.body.escape_ascii());
            let client = h2::Client::connect(app.addr).await;
            let got = client.ask(CHAT, "", &asking()).await;
            assert!(got.reset.is_none() && got.body == text.as_bytes(), "{size} over HTTP/2");
            drop(client);
            let lines = after::over(&app, &[(200, "complete"); 2]).await;
            for line in &lines {
                assert_eq!(
                    (&line["input_tokens"], &line["output_tokens"]),
                    (&11.into(), &7.into())
                );
            }
            assert_eq!(after::charged(&app, "output_tokens"), 14);
            assert!(!tripped(&app));
            after::let_go(&app, &origin).await;
        }
    }
}

/// Every single place to cut this stream in two.
#[tokio::test]
async fn a57_one_cut_at_every_place() {
    let text = spoken().replace('\n', "\r\n");
    let step = many(7, 1);
    for at in (1..text.len()).step_by(step) {
        let origin = cut_up(&text, |nth| if nth == 1 { at } else { usize::MAX }).await;
        let app = limited(&origin.url(), "", "");
        let got = ask(&app, &post(CHAT, "", &asking())).await;
        assert!(got.end == End::Whole && got.body == text.as_bytes(), "at {at}");
        after::over(&app, &[(200, "complete")]).await;
        assert_eq!(after::charged(&app, "output_tokens"), 7, "at {at}");
    }
}

/// All that the standard lets a stream look like (WHATWG HTML, section 9.2.6) is understood.
#[tokio::test]
async fn a58_every_spelling_of_events() {
    let usual = spoken();
    let two_lines = usual.replace(",\"usage\"", ",\ndata: \"usage\"");
    let without_end = usual.trim_end().to_owned();
    let commented = usual.replace("data: {", ": a comment\nid: 3\nretry: 10\nevent: x\ndata: {");
    for (name, text) in [
        ("CRLF", usual.replace('\n', "\r\n")),
        ("CR", usual.replace('\n', "\r")),
        ("no space behind the colon", usual.replace("data: ", "data:")),
        ("comments and other fields", commented),
        ("data in two lines", two_lines),
        ("no blank line at the end", without_end),
        ("a mark at the beginning", format!("\u{feff}{usual}")),
        ("blank lines between", usual.replace("\n\n", "\n\n\n\n")),
    ] {
        let origin = streaming(&[&text]).await;
        let app = limited(&origin.url(), TOUCHY, "");
        let got = ask(&app, &post(CHAT, "", &asking())).await;
        assert_eq!((got.end, got.text()), (End::Whole, text.as_str()), "{name}");
        after::over(&app, &[(200, "complete")]).await;
        assert_eq!(after::charged(&app, "output_tokens"), 7, "{name}");
        assert!(!tripped(&app), "{name}");
        after::let_go(&app, &origin).await;
    }
}

/// One event of twenty megabytes: it is passed on while it comes, and never held. What is too long
/// to be looked at is estimated; what stands behind it is read again.
#[tokio::test]
async fn a59_an_event_without_an_end() {
    const SIZE: usize = 20 << 20;
    let piece = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16)).into_bytes();
    let origin = Origin::start(move |mut conn| {
        let piece = piece.clone();
        async move {
            while conn.request().await.is_some() {
                conn.send(origin::STREAM).await;
                conn.send(&chunk("data: {\"choices\":[{\"delta\":{\"content\":\"")).await;
                for _ in 0..SIZE >> 16 {
                    conn.send(&piece).await;
                }
                conn.send(&chunk("\"}}]}\n\n")).await;
                conn.send(&[&chunk(USAGE), &chunk(DONE), LAST].concat()).await;
            }
        }
    })
    .await;
    let app = limited(&origin.url(), TOUCHY, "");
    // warm
    let mut client = Client::connect(app.addr).await;
    let mut most = 0;
    let before = app.resident();
    client.send(&post(CHAT, "", &asking())).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    let (mut length, mut end) = (0, Vec::new());
    loop {
        let data = client.chunk().await.expect("no cut");
        if data.is_empty() {
            break;
        }
        length += data.len();
        if length / (1 << 20) != (length - data.len()) / (1 << 20) {
            most = most.max(app.resident());
        }
        end = data;
    }
    assert!(length > SIZE && length < SIZE + 500, "{length}");
    assert!(String::from_utf8_lossy(&end).ends_with(DONE));
    let grown = most.saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB");
    let line = after::over(&app, &[(200, "complete")]).await.remove(0);
    assert_eq!(line["output_tokens"], 7, "the count behind it was read: {line}");
    assert!(!tripped(&app));
    after::let_go(&app, &origin).await;
}

/// Tool calls with gaps in their numbers, mixed, with arguments in shreds, of several choices.
#[tokio::test]
async fn a75_tool_calls_in_any_order() {
    let delta = |choice: usize, call: usize, text: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{choice},\"delta\":{{\"tool_calls\":[{{\"index\":{call},\
             \"function\":{{\"arguments\":\"{text}\"}}}}]}}}}]}}\n\n"
        )
    };
    let mut text = String::new();
    for (choice, call, arguments) in
        [(0, 7, "{\\\"a"), (1, 0, "{"), (0, 2, "{}"), (0, 7, "\\\": 1}"), (1, 0, "}"), (3, 99, "")]
    {
        text += &delta(choice, call, arguments);
    }
    text += "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
    text += USAGE;
    text += DONE;
    let origin = streaming(&[&text]).await;
    let app = limited(&origin.url(), TOUCHY, "");
    let got = ask(&app, &post(CHAT, "", &asking())).await;
    assert_eq!((got.end, got.text()), (End::Whole, text.as_str()));
    after::over(&app, &[(200, "complete")]).await;
    assert_eq!(after::charged(&app, "output_tokens"), 7);
    after::let_go(&app, &origin).await;
}

/// Behind the last event nothing counts any more: it goes out as it came, for it is the client's to
/// judge, and changes neither what is charged nor how the call ended.
#[tokio::test]
async fn a76_more_behind_the_end() {
    let forged =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":90000}}\n\n";
    let error = "data: {\"error\":{\"message\":\"late\",\"type\":\"server_error\"}}\n\n";
    for more in
        [DONE, forged, error, "data: {\"choices\":[{\"delta\":{\"content\":\"late\"}}]}\n\n"]
    {
        let text = format!("{}{more}{DONE}", spoken());
        let origin = streaming(&[&text]).await;
        let app = limited(&origin.url(), TOUCHY, "");
        let got = ask(&app, &post(CHAT, "", &asking())).await;
        assert_eq!((got.end, got.text()), (End::Whole, text.as_str()));
        after::over(&app, &[(200, "complete")]).await;
        assert!(!tripped(&app), "{more}");
        assert_eq!(after::charged(&app, "output_tokens"), 7, "{more}");
        after::let_go(&app, &origin).await;
    }
}

/// A backend that says it is done and holds the connection: who has read the last event may leave,
/// and the call was a success.
#[tokio::test]
async fn a76_an_end_that_does_not_end() {
    let origin = super::then_left(|mut conn| async move {
        conn.send(&[origin::STREAM, &chunk(&spoken())].concat()).await;
        conn
    })
    .await;
    let app = limited(&origin.url(), TOUCHY, "");
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", &asking())).await;
    client.head().await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(DONE.as_bytes()) {
        seen.extend(client.chunk().await.unwrap());
    }
    drop(client);
    after::over(&app, &[(200, "complete")]).await;
    assert!(!tripped(&app));
    assert_eq!(after::charged(&app, "output_tokens"), 7);
    after::let_go(&app, &origin).await;
}
