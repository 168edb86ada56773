//! What a log writer writes to: a descriptor that the process was given, or a file of its own.
//!
//! A file is appended to, made with mode 0600 where there is none, and can be opened again under
//! its name, for whoever rotates logs by moving them away. Where that fails the file that is open
//! goes on being written to: nothing is lost for want of a directory. What a crash, a full disk or
//! another program has left in the middle of a line is ended before the next one.
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};

use crate::config::LogTo;

const MODE: u32 = 0o600;

pub(super) enum Outlet {
    Stream(Box<dyn Write + Send>),
    /// What stands behind standard error: the event log's, and maybe another's, too. A pipe takes a
    /// large block in parts.
    Shared(File),
    File(LogFile),
}

/// Whose turn it is to write a block to what is shared.
static TURN: Mutex<()> = Mutex::new(());

/// A log file that is open.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
}

impl Outlet {
    /// Opens or makes the file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self::File(LogFile { path: path.to_owned(), file }))
    }

    /// The file's name; `None` for a stream.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Stream(_) | Self::Shared(_) => None,
            Self::File(log) => Some(&log.path),
        }
    }

    /// To be held for the length of a block.
    pub(super) fn turn(&self) -> Option<MutexGuard<'static, ()>> {
        matches!(self, Self::Shared(_)).then(|| TURN.lock())
    }

    /// Opens the file anew under its name. Of a stream nothing can be. `Err`: it goes on as before.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Self::File(log) = self {
            let file = open(&log.path)?;
            // the old one is complete, and may be packed now
            let _ = log.file.sync_data();
            log.file = file;
        }
        Ok(())
    }

    /// Whether what is there ends in the middle of a line.
    pub(super) fn is_torn(&mut self) -> bool {
        match self {
            Self::Stream(_) | Self::Shared(_) => false,
            Self::File(log) => ends_torn(&mut log.file).unwrap_or(false),
        }
    }

    /// Makes what was written outlive a crash of the machine, where it can be.
    pub(super) fn sync(&mut self) {
        match self {
            Self::Stream(to) => drop(to.flush()),
            Self::Shared(_) => {}
            Self::File(log) => drop(log.file.sync_data()),
        }
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(to) => to.write(bytes),
            Self::Shared(to) => to.write(bytes),
            Self::File(log) => log.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(to) => to.flush(),
            Self::Shared(to) => to.flush(),
            Self::File(log) => log.file.flush(),
        }
    }
}

/// Where the policy wants a log, and whether that is a terminal. `None`: nowhere.
pub(super) fn of(to: &LogTo) -> io::Result<Option<(Outlet, bool)>> {
    match to {
        LogTo::Off => Ok(None),
        LogTo::Stdout => {
            let stdout = io::stdout();
            Ok(Some((stream(stdout.as_fd())?, stdout.is_terminal())))
        }
        LogTo::Stderr => Ok(Some((standard_error()?, io::stderr().is_terminal()))),
        LogTo::File(path) => {
            // whoever reads the error wants to know which file
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            Ok(Some((Outlet::open(path).map_err(named)?, false)))
        }
    }
}

pub(super) fn standard_error() -> io::Result<Outlet> {
    stream(io::stderr().as_fd())
}

/// The descriptor itself: std's stdout would flush line by line under a lock.
fn stream(descriptor: BorrowedFd<'_>) -> io::Result<Outlet> {
    let own = File::from(descriptor.try_clone_to_owned()?);
    let events = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    Ok(if is_same(&own, &events)? { Outlet::Shared(own) } else { Outlet::Stream(Box::new(own)) })
}

/// As `2>&1` makes them.
fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

impl From<Box<dyn Write + Send>> for Outlet {
    fn from(to: Box<dyn Write + Send>) -> Self {
        Self::Stream(to)
    }
}

fn open(path: &Path) -> io::Result<File> {
    // read too: for the last byte; and a named pipe without a reader does not hold us up
    OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)
}

fn ends_torn(file: &mut File) -> io::Result<bool> {
    let about = file.metadata()?;
    if !about.is_file() || about.len() == 0 {
        return Ok(false);
    }
    // appending does not care where this leaves us
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::telemetry::metrics::LineCounts;
    use crate::telemetry::sink::Sink;

    fn start(path: &Path) -> (Sink, Arc<LineCounts>) {
        let counts = Arc::new(LineCounts::default());
        let outlet = Outlet::open(path).expect("a file");
        (Sink::start("test", outlet, Arc::clone(&counts)).expect("a thread"), counts)
    }

    #[test]
    fn two_writers_of_one_pipe_tear_no_line() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let sinks = ["a", "b"].map(|letter| {
            let own = File::from(writer.as_fd().try_clone_to_owned().expect("a descriptor"));
            let sink = Sink::start("test", Outlet::Shared(own), Arc::default()).expect("a thread");
            (letter, sink)
        });
        drop(writer);
        for _ in 0..8 {
            for (letter, sink) in &sinks {
                // more than a pipe holds
                sink.offer(format!("{}\n", letter.repeat(150_000)).into_bytes(), 1);
            }
        }
        drop(sinks);
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("all of it");
        let whole =
            |line: &str| line.len() == 150_000 && line.bytes().all(|it| it == line.as_bytes()[0]);
        assert_eq!(read.lines().filter(|line| whole(line)).count(), 16);
    }

    #[test]
    fn one_stream_under_two_names_is_known() {
        let (_reader, one) = io::pipe().expect("a pipe");
        let (_other, two) = io::pipe().expect("a pipe");
        let file = |of: &io::PipeWriter| File::from(of.as_fd().try_clone_to_owned().expect("one"));
        assert!(is_same(&file(&one), &file(&one)).expect("looked at"));
        assert!(!is_same(&file(&one), &file(&two)).expect("looked at"));
    }

    fn until_written(counts: &LineCounts, lines: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while counts.written.load(Ordering::Relaxed) < lines {
            assert!(Instant::now() < deadline, "{lines} lines are written");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_file_is_the_owners_alone_and_goes_on_after_what_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        for line in ["one\n", "two\n"] {
            let (sink, _) = start(&path);
            sink.offer(line.as_bytes().to_vec(), 1);
            assert!(sink.close(Duration::from_secs(10)));
        }
        assert_eq!(fs::read_to_string(&path).expect("text"), "one\ntwo\n");
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_a_crash_left_in_the_middle_of_a_line_is_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        fs::write(&path, "one\ntw").expect("a file");
        let (sink, _) = start(&path);
        sink.offer(b"three\n".to_vec(), 1);
        assert!(sink.close(Duration::from_secs(10)));
        assert_eq!(fs::read_to_string(&path).expect("text"), "one\ntw\nthree\n");
    }

    #[test]
    fn a_rotation_under_load_loses_and_tears_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let (sink, counts) = start(&path);
        for n in 0..2000 {
            if n % 100 == 50 {
                fs::rename(&path, dir.path().join(format!("log.{n}"))).expect("moved");
                sink.reopen();
            }
            sink.offer(format!("line {n}\n").into_bytes(), 1);
            if n % 10 == 9 {
                until_written(&counts, n + 1);
            }
        }
        assert!(sink.close(Duration::from_secs(10)));
        let mut seen: Vec<u64> = Vec::new();
        for file in fs::read_dir(dir.path()).expect("files") {
            let text = fs::read_to_string(file.expect("a file").path()).expect("text");
            let number = |line: &str| line.strip_prefix("line ").expect("a line").parse::<u64>();
            seen.extend(text.lines().map(|line| number(line).expect("a number")));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..2000).collect::<Vec<_>>());
        assert_eq!(fs::read_dir(dir.path()).expect("files").count(), 21);
    }

    #[test]
    fn without_its_directory_the_open_file_goes_on_and_the_new_one_comes_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (logs, away) = (dir.path().join("logs"), dir.path().join("away"));
        fs::create_dir(&logs).expect("a directory");
        let (sink, counts) = start(&logs.join("log"));
        sink.offer(b"one\n".to_vec(), 1);
        until_written(&counts, 1);
        fs::rename(&logs, &away).expect("moved");
        sink.reopen();
        sink.offer(b"two\n".to_vec(), 1);
        until_written(&counts, 2);
        fs::create_dir(&logs).expect("a directory");
        sink.reopen();
        sink.offer(b"three\n".to_vec(), 1);
        assert!(sink.close(Duration::from_secs(10)));
        let read = |at: &Path| fs::read_to_string(at.join("log")).expect("text");
        assert_eq!((read(&away).as_str(), read(&logs).as_str()), ("one\ntwo\n", "three\n"));
    }

    #[test]
    fn a_full_disk_is_counted_and_the_file_goes_on() {
        // every write to it fails as on a full disk
        let (sink, counts) = start(Path::new("/dev/full"));
        sink.offer(b"one\ntwo\n".to_vec(), 2);
        sink.offer(b"three\n".to_vec(), 1);
        assert!(sink.close(Duration::from_secs(10)));
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        assert_eq!((count(&counts.written), count(&counts.dropped)), (0, 3));
    }
}
