//! What a client hears of a stream that says nothing: comments, and in the end an error.
use super::*;

const BEAT: &str = ": keep-alive\n\n";
const BEATING: Limits =
    Limits { heartbeat: Some(Duration::from_secs(15)), idle: Duration::MAX, ..LIMITS };
const ROLE: &str =
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const TOKEN: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

impl World {
    /// The time is this; who is to hear of it does.
    fn at(&self, second: u32) {
        self.worker.flights.sweep(Tick::from_raw(second * 1000));
    }
}

/// What is there at once, if anything.
async fn now(body: &mut ReplyBody) -> Option<Bytes> {
    let frame = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(frame),
        Poll::Pending => Poll::Ready(None),
    });
    frame.await.map(|frame| frame.unwrap().into_data().unwrap())
}

#[test]
fn a_client_that_hears_nothing_is_told_that_all_is_well_between_events_alone() {
    block_on(async {
        let world = World::new();
        let (reply, mut stream) = world.reply_under(BEATING, false, SSE).await;
        let mut body = reply.into_body();
        // the head alone is out
        world.at(1);
        assert_eq!(now(&mut body).await, None);
        world.at(16);
        assert_eq!(data(&mut body).await, BEAT);
        assert_eq!(now(&mut body).await, None, "once");
        let (half, rest) = TOKEN.split_at(20);
        stream.write_all(chunk(half).as_bytes()).await.unwrap();
        assert_eq!(data(&mut body).await, half);
        world.at(29);
        world.at(45);
        assert_eq!(now(&mut body).await, None, "half of an event stands there");
        stream.write_all(chunk(rest).as_bytes()).await.unwrap();
        assert_eq!(data(&mut body).await, rest);
        world.at(61);
        assert_eq!(data(&mut body).await, BEAT);
        assert!(!body.is_end_stream());
        // what ends the framing may be slow
        stream.write_all(chunk(DONE).as_bytes()).await.unwrap();
        assert_eq!(data(&mut body).await, DONE);
        world.at(75);
        world.at(90);
        assert_eq!(now(&mut body).await, None, "the stream is over");
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        assert!(frame(&mut body).await.is_none());
        drop(body);
        let line = &world.lines()[0];
        assert_eq!(line["outcome"], "complete");
        assert_eq!(line["response_bytes"], TOKEN.len() + DONE.len(), "comments are ours");
    });
}

#[test]
fn a_comment_is_no_sign_of_life_of_the_backend() {
    block_on(async {
        let world = World::new();
        let limits = Limits { idle: LONG, idle_before_content: LONG, ..BEATING };
        let (reply, mut stream) = world.reply_under(limits, false, SSE).await;
        let mut body = reply.into_body();
        assert_eq!(now(&mut body).await, None);
        for at in [1, 16] {
            world.at(at);
        }
        assert_eq!(data(&mut body).await, BEAT);
        assert_eq!(now(&mut body).await, None);
        world.at(32);
        let event = data(&mut body).await;
        assert!(event.starts_with(b"data: {\"error\":"), "{event:?}");
        is_gone(&mut stream).await;
        drop(body);
        assert_eq!(world.lines()[0]["outcome"], "deadline_idle");
    });
}

/// The hidden event is not there for the client: a comment may stand where it begins.
#[test]
fn comments_stand_between_events_where_some_are_hidden() {
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
    block_on(async {
        let world = World::new();
        let answer = format!("{SSE}{}", chunk(TOKEN));
        let (reply, mut stream) = world.reply_under(BEATING, true, &answer).await;
        let mut body = reply.into_body();
        assert_eq!(data(&mut body).await, TOKEN);
        let (half, rest) = USAGE.split_at(20);
        stream.write_all(chunk(half).as_bytes()).await.unwrap();
        for _ in 0..20 {
            assert_eq!(now(&mut body).await, None);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // bytes have come, but not for the client
        world.at(16);
        assert_eq!(data(&mut body).await, BEAT);
        let end = format!("{}{}0\r\n\r\n", chunk(rest), chunk(DONE));
        stream.write_all(end.as_bytes()).await.unwrap();
        assert_eq!(data(&mut body).await, DONE);
        assert!(frame(&mut body).await.is_none());
        drop(body);
        assert_eq!(world.lines()[0]["outcome"], "complete");
    });
}

#[test]
fn answers_that_cannot_bear_a_comment_get_none() {
    let json =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 900\r\n\r\n";
    let numbered = format!("{SSE}{}", chunk(&format!("id: 1\n{TOKEN}")));
    for answer in [json, long, &*numbered] {
        block_on(async {
            let world = World::new();
            let (reply, _stream) = world.reply_under(BEATING, false, answer).await;
            let mut body = reply.into_body();
            if answer == numbered {
                assert!(data(&mut body).await.starts_with(b"id: 1"));
            }
            assert_eq!(now(&mut body).await, None);
            for at in [1, 17, 40] {
                world.at(at);
                assert_eq!(now(&mut body).await, None, "{answer}");
            }
        });
    }
}

/// A stream without content ends, however alive its connection is.
#[test]
fn pings_do_not_make_up_for_content() {
    let limits = Limits {
        first_content: Duration::from_mins(1),
        between_tokens: Duration::from_secs(40),
        idle: Duration::MAX,
        ..LIMITS
    };
    for (first, code, kind, end) in [
        (ROLE, "upstream_first_content_timeout", "deadline_first_content", 80),
        (TOKEN, "upstream_stall_timeout", "deadline_between_tokens", 60),
    ] {
        block_on(async {
            let world = World::new();
            let answer = format!("{SSE}{}", chunk(first));
            let (reply, mut stream) = world.reply_under(limits, false, &answer).await;
            let mut body = reply.into_body();
            assert_eq!(data(&mut body).await, first);
            let (mut second, ping) = (0, ": ping\n\n");
            let event = loop {
                second += 10;
                world.at(second);
                if let Some(event) = now(&mut body).await {
                    break event;
                }
                stream.write_all(chunk(ping).as_bytes()).await.unwrap();
                assert_eq!(data(&mut body).await, ping);
            };
            assert!(event.starts_with(b"data: {\"error\":") && second == end, "{second}");
            assert!(std::str::from_utf8(&event).unwrap().contains(code), "{event:?}");
            is_gone(&mut stream).await;
            assert!(frame(&mut body).await.unwrap().is_err(), "an abnormal end");
            drop(body);
            let line = &world.lines()[0];
            assert_eq!((&line["outcome"], &line["error"]), (&kind.into(), &code.into()));
            assert_eq!(world.upstream().shared.gauges.deadlines().total(), 1);
        });
    }
}
