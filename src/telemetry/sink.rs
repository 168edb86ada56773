//! Where log lines leave the process: one thread that writes, behind a bounded channel.
//!
//! Whoever hands lines over never waits: when the reader of the log does not keep up (a full
//! pipe, a slow disk), whole blocks are dropped and their lines counted. A reader that went away
//! (`EPIPE`) ends the writing for good, not the process. Other errors (a full disk) lose one block
//! each. Between two blocks a file can be opened anew; a request for that is never lost.
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::metrics::LineCounts;
use super::outlet::Outlet;

/// Blocks on their way: with full ones of 64 KiB, 2 MiB at most.
const BLOCKS: usize = 32;
/// Written blocks that are kept to be filled again, so that a busy log allocates nothing.
const SPARE: usize = 4;
const STACK: usize = 128 * 1024;
/// How long the writer waits on a descriptor that somebody else made non-blocking, and `close`
/// on a full channel.
const PAUSE: Duration = Duration::from_millis(5);
/// A file that could not be opened anew is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

enum Message {
    Block {
        bytes: Vec<u8>,
        lines: u64,
        counts: Arc<LineCounts>,
    },
    /// Something is to be looked at.
    Wake,
    /// The last one; is told whether its line was written.
    Close {
        last: Vec<u8>,
        done: SyncSender<bool>,
    },
}

/// The near end; clones share the writer. The thread ends after `close` or with the last clone.
#[derive(Clone)]
pub(super) struct Sink {
    to_writer: SyncSender<Message>,
    counts: Arc<LineCounts>,
    spare: Spare,
    reopen: Arc<AtomicBool>,
}

type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

impl Sink {
    /// Starts the writer thread, named `name`.
    pub(super) fn start(
        name: &str,
        to: impl Into<Outlet>,
        counts: Arc<LineCounts>,
    ) -> io::Result<Self> {
        let (to_writer, messages) = sync_channel(BLOCKS);
        let (spare, reopen) = (Spare::default(), Arc::<AtomicBool>::default());
        let mut to = to.into();
        let torn = to.is_torn();
        let mut writer = Writer {
            to,
            spare: Arc::clone(&spare),
            gone: false,
            torn,
            failing: false,
            reopen: Arc::clone(&reopen),
            again: None,
        };
        thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK)
            .spawn(move || writer.run(&messages))?;
        Ok(Self { to_writer, counts, spare, reopen })
    }

    /// Another near end, for lines that are counted elsewhere. What two logs write to one place goes
    /// through one writer: else they would tear each other's lines.
    pub(super) fn beside(&self, counts: Arc<LineCounts>) -> Self {
        Self { counts, ..self.clone() }
    }

    /// An empty block, used before if there is one.
    pub(super) fn block(&self) -> Vec<u8> {
        self.spare.lock().pop().unwrap_or_default()
    }

    /// Hands over whole lines, or drops and counts them. Never waits.
    pub(super) fn offer(&self, bytes: Vec<u8>, lines: u64) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self
            .to_writer
            .try_send(Message::Block { bytes, lines, counts: Arc::clone(&self.counts) })
        {
            self.counts.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }

    /// Has a file opened anew under its name, before anything else is written. Never waits.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // a full channel wakes the writer as well
        let _ = self.to_writer.try_send(Message::Wake);
    }

    /// Waits until everything handed over before is written, `within` at most; says whether it
    /// is. Lines offered later are dropped.
    pub(super) fn close(&self, within: Duration) -> bool {
        self.close_with(Vec::new(), within)
    }

    /// The same behind a last line, which is no line of the counts and waits for its turn.
    pub(super) fn close_with(&self, last: Vec<u8>, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let (done, is_done) = sync_channel(1);
        let alone = last.is_empty();
        let mut message = Message::Close { last, done };
        loop {
            match self.to_writer.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return alone,
                Err(TrySendError::Full(back)) => message = back,
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::park_timeout(PAUSE);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        is_done.recv_timeout(left).unwrap_or(false)
    }
}

struct Writer {
    to: Outlet,
    spare: Spare,
    gone: bool,
    /// The last block was cut short, so the next must not go on in the middle of its line.
    torn: bool,
    /// The last block could not be written to the file: said once.
    failing: bool,
    reopen: Arc<AtomicBool>,
    /// The file could not be opened anew; when that is tried again.
    again: Option<Instant>,
}

impl Writer {
    fn run(&mut self, messages: &Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            let asked = self.reopen.swap(false, Ordering::Acquire);
            if asked || self.again.is_some_and(|again| again <= Instant::now()) {
                self.open_anew();
            }
            match message {
                Message::Wake => {}
                Message::Block { mut bytes, lines, counts } => {
                    let written = !self.gone && self.write_and_say(&bytes);
                    let count = if written { &counts.written } else { &counts.dropped };
                    count.fetch_add(lines, Ordering::Relaxed);
                    let mut spare = self.spare.lock();
                    if spare.len() < SPARE {
                        bytes.clear();
                        spare.push(bytes);
                    }
                }
                Message::Close { last, done } => {
                    let well = last.is_empty() || !self.gone && self.write_and_say(&last);
                    self.to.sync();
                    let _ = done.try_send(well);
                    return;
                }
            }
        }
    }

    fn open_anew(&mut self) {
        let reopened = self.to.reopen();
        let Some(path) = self.to.path().map(|path| path.display()) else { return };
        match reopened {
            Ok(()) => {
                tracing::info!(%path, "a log file was opened anew");
                (self.gone, self.again) = (false, None);
                self.torn = self.to.is_torn();
            }
            Err(error) => {
                if self.again.is_none() {
                    tracing::error!(%path, %error, "a log file cannot be opened anew: the one that is open goes on");
                }
                self.again = Some(Instant::now() + AGAIN);
            }
        }
    }

    /// Whether it went well. Of a file it is said when that changes; what the event log's own stream
    /// does is not to be told to it.
    fn write_and_say(&mut self, bytes: &[u8]) -> bool {
        let written = self.write(bytes);
        let failed = written.is_err();
        if let Some(path) =
            self.to.path().map(|path| path.display()).filter(|_| failed != self.failing)
        {
            if let Err(error) = written {
                tracing::error!(%path, %error, "a log file cannot be written to: lines are lost");
            } else {
                tracing::info!(%path, "a log file can be written to again");
            }
        }
        self.failing = failed;
        !failed
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _turn = self.to.turn();
        if self.torn {
            self.write_all(b"\n")?;
            self.torn = false;
        }
        self.write_all(bytes)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.to.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(PAUSE),
                Err(error) => {
                    self.gone = error.kind() == ErrorKind::BrokenPipe;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails as scripted, keeps the rest.
    struct Scripted {
        errors: Vec<Option<ErrorKind>>,
        kept: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(Some(kind)) = self.errors.pop() {
                return Err(kind.into());
            }
            // Half at a time, so that every block is written in parts.
            let count = bytes.len().div_ceil(2);
            self.kept.lock().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn run(script: &[Option<ErrorKind>], blocks: &[&str]) -> (String, u64, u64) {
        let kept = Arc::default();
        let errors = script.iter().rev().copied().collect();
        let counts = Arc::new(LineCounts::default());
        let to: Box<dyn Write + Send> = Box::new(Scripted { errors, kept: Arc::clone(&kept) });
        let sink = Sink::start("test", to, Arc::clone(&counts)).expect("a thread");
        for block in blocks {
            sink.offer(block.as_bytes().to_vec(), 1);
        }
        assert!(sink.close(Duration::from_secs(10)));
        let text = String::from_utf8(kept.lock().clone()).expect("text");
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        (text, read(&counts.written), read(&counts.dropped))
    }

    #[test]
    fn interruptions_and_short_writes_lose_nothing() {
        let script = [Some(ErrorKind::Interrupted), None, Some(ErrorKind::WouldBlock)];
        assert_eq!(run(&script, &["one\n", "two\n"]), ("one\ntwo\n".to_owned(), 2, 0));
    }

    #[test]
    fn a_full_disk_loses_a_block_and_not_the_next() {
        let script = [None, Some(ErrorKind::StorageFull)];
        let (text, written, dropped) = run(&script, &["abcd\n", "next\n"]);
        assert_eq!((text.as_str(), written, dropped), ("abc\nnext\n", 1, 1));
    }

    #[test]
    fn a_reader_that_left_is_not_written_to_again() {
        let script = [Some(ErrorKind::BrokenPipe)];
        assert_eq!(run(&script, &["one\n", "two\n", "three\n"]), (String::new(), 0, 3));
    }
}
