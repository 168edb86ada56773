//! A body that is told as it happens: what a task comes to, piece by piece.
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use crate::pipeline::record::Record;
use crate::telemetry::metrics::Outcome;

/// How long a reader hears nothing before it is told that all is well.
pub const QUIET: Duration = Duration::from_secs(15);
pub const ALIVE: &[u8] = b": keep-alive\n\n";

/// Whoever tells.
pub trait Teller: Sized + 'static {
    /// What comes next. `None`: all has been told.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>>;
}

type Step = Pin<Box<dyn Future<Output = (Option<Bytes>, Option<Next>)>>>;

/// The next step, to be begun when it is asked for.
struct Next(Box<dyn FnOnce() -> Step>);

/// A stream of events.
pub struct Live {
    step: Option<Step>,
    record: Option<Record>,
}

fn step<T: Teller>(mut teller: T) -> Step {
    Box::pin(async move {
        let told = teller.next().await;
        let next = told.is_some().then(|| Next(Box::new(|| step(teller))));
        (told, next)
    })
}

impl Live {
    pub fn new(teller: impl Teller) -> Self {
        Self { step: Some(step(teller)), record: None }
    }

    /// With the record that it closes.
    pub fn open(mut self: Box<Self>, mut record: Record) -> Box<Self> {
        record.streaming(true);
        self.record = Some(record);
        self
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(step) = &mut self.step else { return Poll::Ready(None) };
        let (told, next) = ready!(step.as_mut().poll(cx));
        self.step = next.map(|Next(begin)| begin());
        match (&told, &mut self.record) {
            (Some(told), Some(record)) => record.passed(told.len()),
            (None, record) => {
                if let Some(record) = record.take() {
                    record.close(Outcome::Complete);
                }
            }
            (Some(_), None) => {}
        }
        Poll::Ready(told)
    }
}

/// Writes a server-sent event. Line ends of every kind begin another line of data: those of SSE are
/// gone already, and in JSON they are all the same.
pub fn write_event(out: &mut Vec<u8>, number: Option<u64>, name: Option<&[u8]>, data: &[u8]) {
    if let Some(number) = number {
        out.extend_from_slice(format!("id: {number}\n").as_bytes());
    }
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name);
        out.push(b'\n');
    }
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_make_lines_of_their_own() {
        let mut out = Vec::new();
        write_event(&mut out, Some(7), Some(b"x"), b"{\"a\":\r1,\n\"b\":2}");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "id: 7\nevent: x\ndata: {\"a\":\ndata: 1,\ndata: \"b\":2}\n\n"
        );
    }
}
