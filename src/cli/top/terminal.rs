//! The terminal: keys as they are pressed, a screen of its own, and everything as it was in the end.
//!
//! No more than is needed of it (ECMA-48 and what every terminal has had since the VT100), so no
//! library of terminals. What was set is set back by [`restore`], whichever way the program ends:
//! when the guard is dropped, before a panic is told, and at a signal.
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Another screen, no cursor, long lines cut.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// How the terminal was; `None`: nothing was changed.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Pause,
    Sort,
    /// So many lines down; up where it is negative.
    Scroll(i32),
    /// So many screens down.
    Page(i32),
    Top,
    Bottom,
}

/// The terminal is ours until this is dropped.
pub(super) struct Terminal {
    stdin: io::Stdin,
    stdout: io::Stdout,
}

/// Whether there is one, to draw on and to be told by.
pub(super) fn is_there() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

impl Terminal {
    pub fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut ours = before.clone();
        // a key is told at once and not shown; ^C is a key as well
        ours.local_modes -=
            LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        *BEFORE.lock() = Some(before);
        let taken = Self { stdin: io::stdin(), stdout: io::stdout() };
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            earlier(info);
        }));
        tcsetattr(io::stdin(), OptionalActions::Now, &ours)?;
        write(ENTER)?;
        Ok(taken)
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        match tcgetwinsize(&self.stdout) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            _ => (80, 24),
        }
    }

    /// Lines from the top of the screen on; the rest of it is cleared.
    pub fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut all = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            all.push_str(if at > 0 { "\r\n" } else { "" });
            all.push_str(line);
            all.push_str("\x1b[K");
        }
        all.push_str("\x1b[J");
        let mut out = self.stdout.lock();
        out.write_all(all.as_bytes())?;
        out.flush()
    }

    /// The keys that were pressed, `within` so long. `Err`: nobody will press any more.
    pub fn keys(&self, within: Duration) -> io::Result<Vec<Key>> {
        let mut fds = [PollFd::new(&self.stdin, PollFlags::IN)];
        let within = Timespec::try_from(within).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&within)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            polled => polled?,
        };
        let mut bytes = [0; 256];
        match rustix::io::read(&self.stdin, &mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(keys(&bytes[..count])),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
        // the hook would do nothing any more; a panic that runs cannot part with it
        if !std::thread::panicking() {
            let _ = std::panic::take_hook();
        }
    }
}

/// Sets back what was set, once.
pub(super) fn restore() {
    if let Some(before) = BEFORE.lock().take() {
        let _ = write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What was pressed; what is not known is passed over.
fn keys(mut bytes: &[u8]) -> Vec<Key> {
    const KNOWN: [(&[u8], Key); 24] = [
        (b"\x1b[A", Key::Scroll(-1)),
        (b"\x1bOA", Key::Scroll(-1)),
        (b"k", Key::Scroll(-1)),
        (b"\x1b[B", Key::Scroll(1)),
        (b"\x1bOB", Key::Scroll(1)),
        (b"j", Key::Scroll(1)),
        (b"\x1b[5~", Key::Page(-1)),
        (b"b", Key::Page(-1)),
        (b"\x1b[6~", Key::Page(1)),
        (b" ", Key::Page(1)),
        (b"\x1b[H", Key::Top),
        (b"\x1b[1~", Key::Top),
        (b"\x1bOH", Key::Top),
        (b"g", Key::Top),
        (b"\x1b[F", Key::Bottom),
        (b"\x1b[4~", Key::Bottom),
        (b"\x1bOF", Key::Bottom),
        (b"G", Key::Bottom),
        (b"s", Key::Sort),
        (b"p", Key::Pause),
        (b"q", Key::Quit),
        (b"Q", Key::Quit),
        (b"\x03", Key::Quit),
        (b"\x04", Key::Quit),
    ];
    let mut pressed = Vec::new();
    while let [first, rest @ ..] = bytes {
        let known = KNOWN.iter().find(|(sequence, _)| bytes.starts_with(sequence));
        if let Some((sequence, key)) = known {
            pressed.push(*key);
            bytes = &bytes[sequence.len()..];
        } else if *first == 0x1b && rest.first() == Some(&b'[') {
            // an unknown sequence, to its last byte
            let end = rest.iter().skip(1).position(|byte| (0x40..0x7f).contains(byte));
            bytes = end.map_or(&[], |end| &rest[end + 2..]);
        } else {
            bytes = rest;
        }
    }
    pressed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_also_where_several_come_at_once() {
        let pressed = keys(b"j\x1b[A\x1b[200~x\x1b[6~\x1bqG\x03");
        let expected =
            [Key::Scroll(1), Key::Scroll(-1), Key::Page(1), Key::Quit, Key::Bottom, Key::Quit];
        assert_eq!(pressed, expected);
        assert!(keys(b"\x1b[").is_empty() && keys(&[0xff, 0xc3]).is_empty());
    }
}
