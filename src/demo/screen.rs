//! What is shown: plain lines to a pipe; bold, dim and a readable pace on a terminal.
//!
//! Every write may find that the reader has left; that ends the show, not with a panic.
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Where flowing text is wrapped, in characters.
const WIDTH: usize = 76;
const INDENT: &str = "     ";

/// Standard output, or a buffer in tests.
pub struct Screen {
    out: Box<dyn Write>,
    styled: bool,
    paced: bool,
    /// Characters in the current line of flowing text.
    column: usize,
}

impl Screen {
    pub fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let says = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let styled = terminal && !says("NO_COLOR") && !dumb;
        Self::new(Box::new(io::stdout()), styled, terminal)
    }

    fn new(out: Box<dyn Write>, styled: bool, paced: bool) -> Self {
        Self { out, styled, paced, column: 0 }
    }

    /// Somebody watches: answers may take their time.
    pub fn paced(&self) -> bool {
        self.paced
    }

    pub fn bold(&self, text: impl Display) -> String {
        self.style("1", text)
    }

    pub fn dim(&self, text: impl Display) -> String {
        self.style("2", text)
    }

    fn style(&self, code: &str, text: impl Display) -> String {
        if self.styled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// A piece of flowing text, shown at once, and wrapped at a space of its own.
    pub fn flow(&mut self, piece: &str) -> io::Result<()> {
        let length = piece.chars().count();
        let mut piece = piece;
        if self.column > 0 && self.column + length > WIDTH {
            self.out.write_all(b"\n")?;
            self.column = 0;
        }
        if self.column == 0 {
            piece = piece.trim_start();
            self.out.write_all(INDENT.as_bytes())?;
            self.column = INDENT.len();
        }
        self.column += piece.chars().count();
        self.out.write_all(piece.as_bytes())?;
        self.out.flush()
    }

    /// Ends flowing text.
    pub fn end_flow(&mut self) -> io::Result<()> {
        self.column = 0;
        self.line("")
    }

    /// Time to read, where somebody does.
    pub async fn pause(&self, millis: u64) {
        if self.paced {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// Told to end: the terminal shows `^C` where the cursor stood.
    pub fn leave(&mut self) -> io::Result<()> {
        if self.paced { self.line("") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn flowing_text_is_wrapped_between_pieces_and_loses_none() {
        let buffer = Buffer::default();
        let mut screen = Screen::new(Box::new(buffer.clone()), false, false);
        for _ in 0..40 {
            screen.flow(" härbour").unwrap();
        }
        screen.end_flow().unwrap();
        let text = String::from_utf8(buffer.0.lock().clone()).unwrap();
        assert_eq!(text.matches("härbour").count(), 40);
        for line in text.lines() {
            assert!(line.starts_with("     h") && line.chars().count() <= WIDTH, "{line:?}");
        }
    }

    #[test]
    fn styles_are_for_terminals() {
        let plain = Screen::new(Box::new(io::sink()), false, false);
        assert_eq!(plain.bold("x") + &plain.dim("y"), "xy");
        let styled = Screen::new(Box::new(io::sink()), true, true);
        assert_eq!(styled.bold("x"), "\x1b[1mx\x1b[0m");
    }
}
