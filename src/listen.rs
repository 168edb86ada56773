//! The front door: sockets, TLS, and one HTTP/1.1 or HTTP/2 connection after another.
//!
//! hyper's limits are all set here, because several of its defaults do nothing or too much (see
//! `Door::new`). What hyper cannot bound is bounded by [`connection`]: the time a head may
//! take, idle time, and how long a client may leave our bytes unread.
pub mod connection;
pub mod head;
mod held;
pub mod inherited;
mod io;
pub mod notify;
mod seen;
pub mod socket;
mod streams;
pub mod tls;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;

use self::connection::{Connections, Supervised, Watch};
use self::held::Serving;
use self::io::WatchedIo;
use self::socket::Peer;
use self::streams::Executor;
use crate::io::Stream;
use crate::pipeline::worker::Worker;
use crate::pipeline::{self, Caller, Place};

/// Serves the connections of one worker.
pub struct Door {
    worker: Rc<Worker>,
    builder: auto::Builder<Executor>,
    pub connections: Rc<Connections>,
}

/// Most memory that hyper may use for one connection's reads, and for its writes.
const BUFFER: usize = 64 * 1024;
/// What hyper has room for without being asked.
const USUAL_HEADERS: usize = 100;

impl Door {
    /// `max_headers` lines and `max_head` bytes are what the gate allows; hyper must allow no less.
    pub fn new(worker: Rc<Worker>, max_headers: usize, max_head: usize) -> Self {
        let connections = Rc::<Connections>::default();
        let mut builder = auto::Builder::new(Executor(Rc::clone(&connections.streams)));
        builder
            .http1()
            .keep_alive(true)
            // the end of the client's stream means that the client has gone
            .half_close(false)
            // without a timer it does nothing, and with one it ends idle connections as well:
            // both times are kept by the sweep instead
            .header_read_timeout(None)
            .max_buf_size(BUFFER.max(2 * max_head))
            .pipeline_flush(false);
        if max_headers > USUAL_HEADERS {
            // setting it costs an allocation a request, so only where it is needed
            builder.http1().max_headers(max_headers);
        }
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_frame_size(16 * 1024)
            .max_header_list_size(32 * 1024)
            .max_send_buf_size(64 * 1024)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(1024)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        Self { worker, builder, connections }
    }

    /// Serves one connection to its end, or until something else takes it over, with its place.
    pub async fn serve(self: Rc<Self>, stream: Stream, peer: Peer, place: Place) {
        let watch = Arc::new(Watch::new(Arc::clone(&self.worker.clock)));
        let _listed = self.connections.enter(&watch);
        let seen = Arc::new(seen::of(&stream, peer));
        let peer: Arc<str> = match peer {
            Peer::Tcp(address) => address.ip().to_string().into(),
            Peer::Unix { .. } => Arc::from("unix"),
        };
        let service = service_fn(|request: Request<Incoming>| {
            let call = watch.begin_call();
            let http1 = request.version() < Version::HTTP_2;
            let (facts, taking) = if http1 {
                (watch.take_facts(), None)
            } else {
                (head::HeadFacts::default(), Some(self.connections.streams.begin()))
            };
            let (peer, seen, place) = (Arc::clone(&peer), Arc::clone(&seen), Rc::clone(&place));
            let caller = Caller { peer, seen, facts, place, task: None };
            let worker = Rc::clone(&self.worker);
            let answer = pipeline::serve(worker, caller, request);
            Serving::new(answer, call, taking, pipeline::refusal::broken)
        });
        let io = TokioIo::new(WatchedIo::new(stream, Arc::clone(&watch)));
        let connection = self.builder.serve_connection_with_upgrades(io, service);
        let mut connection = std::pin::pin!(connection);
        Supervised::new(&watch, &self.worker.drain, connection.as_mut()).await;
    }
}
