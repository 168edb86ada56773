//! `GET /live`: what the page is told, as server-sent events (HTML standard, section 9.2).
//!
//! First `history`, then `now` each second, made once for all who read, and only while somebody does.
//! A reader that is slow loses events and queues none: each `now` replaces the one before. It must not
//! lose a point of the history, though, so one that did is let go, and comes again for the whole. A
//! stream ends by itself before its connection would be cut.
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::respond::{Body, answer, error};
use super::{Doors, Frame, PageDoor};

const EVENTS: &str = "text/event-stream; charset=utf-8";
/// Streams at once.
const MOST: usize = 16;
/// Between two events at least, and then until the next if nobody comes: a second together.
const LEAST: Duration = Duration::from_millis(50);
const REST: Duration = Duration::from_millis(950);
/// For everything to be gathered.
const PATIENCE: Duration = Duration::from_secs(5);
/// Less than a connection may last.
const LIFE: Duration = Duration::from_mins(9);

/// All who read.
#[derive(Default)]
pub(super) struct Feed {
    readers: RefCell<Vec<Reader>>,
    came: Notify,
}

struct Reader {
    to: mpsc::Sender<Bytes>,
    /// The last point that it has.
    point: u64,
    since: Instant,
}

/// The events of one reader.
pub(super) struct Stream {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Bytes>,
}

impl Stream {
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.rest.poll_recv(cx),
        }
    }
}

impl Feed {
    /// `None`: as many read as may.
    fn open(&self, history: &Frame) -> Option<Stream> {
        let mut readers = self.readers.borrow_mut();
        readers.retain(|reader| !reader.to.is_closed());
        if readers.len() >= MOST {
            return None;
        }
        // one event may wait for its reader
        let (to, rest) = mpsc::channel(1);
        readers.push(Reader { to, point: history.point, since: Instant::now() });
        self.came.notify_one();
        Some(Stream { first: Some(event("history", &history.text)), rest })
    }

    fn send(&self, now: &Frame) {
        let text = event("now", &now.text);
        self.readers.borrow_mut().retain_mut(|reader| {
            if now.point > reader.point + 1 || reader.since.elapsed() > LIFE {
                return false;
            }
            match reader.to.try_send(text.clone()) {
                Ok(()) => reader.point = now.point,
                Err(mpsc::error::TrySendError::Full(_)) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
            }
            true
        });
    }

    fn is_empty(&self) -> bool {
        let mut readers = self.readers.borrow_mut();
        readers.retain(|reader| !reader.to.is_closed());
        readers.is_empty()
    }
}

fn event(name: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

pub(super) fn respond(feed: &Feed, door: &PageDoor, method: &Method) -> Response<Body> {
    let mut response = answer(StatusCode::OK, EVENTS, Bytes::new());
    if method == Method::HEAD {
        return response;
    }
    let Some(stream) = feed.open(&(door.history)()) else {
        let message = "as many pages are open as may be";
        let mut refused = error(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
        refused.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        return refused;
    };
    // it ends with the stream: the next one has a whole connection's life before it
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    *response.body_mut() = Body::Live(stream);
    response
}

/// Tells all readers, for as long as there are any.
pub(super) async fn run(feed: Rc<Feed>, doors: Rc<Doors>) {
    let Some(door) = &doors.page else { return };
    loop {
        if feed.is_empty() {
            feed.came.notified().await;
        }
        if let Ok(now) = timeout(PATIENCE, (door.now)()).await {
            feed.send(&now);
        }
        sleep(LEAST).await;
        // who comes in between is told at once
        let _ = timeout(REST, feed.came.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(point: u64) -> Frame {
        Frame { text: format!("{{\"n\":{point}}}"), point }
    }

    async fn next(stream: &mut Stream) -> Option<String> {
        let event = std::future::poll_fn(|cx| stream.poll(cx)).await;
        event.map(|event| String::from_utf8(event.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_slow_reader_loses_events_and_queues_none() {
        let feed = Feed::default();
        let mut stream = feed.open(&frame(7)).unwrap();
        for _ in 0..5 {
            feed.send(&frame(7));
        }
        feed.send(&frame(8));
        assert_eq!(next(&mut stream).await.unwrap(), "event: history\ndata: {\"n\":7}\n\n");
        assert_eq!(next(&mut stream).await.unwrap(), "event: now\ndata: {\"n\":7}\n\n");
        // the point 8 went by, and comes with the next event
        feed.send(&frame(8));
        assert_eq!(next(&mut stream).await.unwrap(), "event: now\ndata: {\"n\":8}\n\n");
    }

    #[tokio::test]
    async fn who_lost_a_point_is_let_go() {
        let feed = Feed::default();
        let (mut slow, mut quick) = (feed.open(&frame(1)).unwrap(), feed.open(&frame(1)).unwrap());
        next(&mut slow).await.unwrap();
        next(&mut quick).await.unwrap();
        for point in 1..=3 {
            feed.send(&frame(point));
            next(&mut quick).await.unwrap();
        }
        assert_eq!(next(&mut slow).await.unwrap(), "event: now\ndata: {\"n\":1}\n\n");
        assert_eq!(next(&mut slow).await, None, "2 was lost");
        assert_eq!(feed.readers.borrow().len(), 1);
    }

    #[test]
    fn readers_are_bounded_and_who_left_makes_room() {
        let feed = Feed::default();
        let mut streams: Vec<_> = (0..MOST).map(|_| feed.open(&frame(0)).unwrap()).collect();
        assert!(feed.open(&frame(0)).is_none());
        streams.pop();
        assert!(feed.open(&frame(0)).is_some());
        drop(streams);
        assert!(feed.is_empty());
    }
}
