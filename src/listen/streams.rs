//! HTTP/2 streams whose client does not take what it asked for.
//!
//! A connection can be well while one of its streams has no window left: no write of ours waits, and
//! hyper asks the body for nothing, so that no part of the call would ever notice. Each stream
//! therefore notes when a frame was handed over and not yet followed by a question for the next.
//! The sweep ends those that have stood too long, and their upstream calls with them; the other
//! streams of the connection go on.
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use crate::clock::Tick;
use crate::flight::TICK;

/// The HTTP/2 streams of one worker.
#[derive(Default)]
pub struct Streams {
    all: RefCell<Slab<Rc<Stream>>>,
    /// The one whose call was made just now; hyper runs its future next.
    begun: RefCell<Option<Rc<Stream>>>,
}

#[derive(Default)]
struct Stream {
    /// Since when a frame lies with hyper.
    handed: Cell<Option<Tick>>,
    cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Streams {
    /// For a call over HTTP/2. To be asked for inside hyper's call of the service.
    pub fn begin(self: &Rc<Self>) -> Taking {
        let stream = Rc::new(Stream::default());
        *self.begun.borrow_mut() = Some(Rc::clone(&stream));
        let key = self.all.borrow_mut().insert(Rc::clone(&stream));
        Taking { stream, key, of: Rc::clone(self) }
    }

    /// Cuts the streams whose client has left a frame for longer than this.
    pub fn sweep(&self, now: Tick, most: Duration) {
        for (_, stream) in self.all.borrow().iter() {
            let stands = stream.handed.get().map(|since| now.since(since));
            if stands.is_some_and(|stands| stands > most.saturating_add(TICK)) {
                stream.cut.set(true);
                if let Some(waker) = stream.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl Stream {
    fn is_cut(&self, cx: &mut Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        match waker.as_mut() {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        self.cut.get()
    }
}

/// What a stream's body says of its client.
pub struct Taking {
    stream: Rc<Stream>,
    key: usize,
    of: Rc<Streams>,
}

impl Taking {
    /// The next frame is asked for.
    pub fn asked(&self) {
        self.stream.handed.set(None);
    }

    pub fn handed(&self, now: Tick) {
        self.stream.handed.set(Some(now));
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.of.all.borrow_mut().remove(self.key);
    }
}

/// Spawns hyper's parts of a connection on this thread; those that are streams can be cut.
#[derive(Clone)]
pub struct Executor(pub Rc<Streams>);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, part: F) {
        let Some(stream) = self.0.begun.take() else {
            tokio::task::spawn_local(part);
            return;
        };
        tokio::task::spawn_local(async move {
            let mut part = pin!(part);
            // dropped in the middle, a stream is reset
            poll_fn(|cx| {
                if stream.is_cut(cx) { Poll::Ready(()) } else { part.as_mut().poll(cx).map(drop) }
            })
            .await;
        });
    }
}
