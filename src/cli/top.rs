//! `tidegate top`: a running instance at a glance, in a terminal.
//!
//! It asks the admin listener for `/state` and `/metrics` and changes nothing. One thread looks, in
//! its own time; another draws and takes keys, so that an instance that hangs makes no key wait. The
//! instance may go and come back. Without a terminal it says everything once, as plain text.
mod aside;
mod figures;
mod look;
mod paint;
mod rows;
mod screen;
mod terminal;

use std::io;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use self::aside::{Seen, looks, told_to_end};
use self::figures::{Figures, History};
use self::look::{Look, LookError};
use self::screen::{Sort, View};
use self::terminal::{Key, Terminal};
use super::agents::interval;
use super::instance::{Instance, Lost, Which, show};
use super::{INTERNAL, say, tell};

/// Keys and the size of the terminal are looked at this often.
const TICK: Duration = Duration::from_millis(100);
/// Columns of what is no terminal.
const COLUMNS: usize = 200;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    which: Which,
    /// Say everything once, from two looks; so it is where there is no terminal
    #[arg(long)]
    once: bool,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print the figures and what they follow from as one line of JSON, and end
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let instance = match options.which.to_look() {
        Ok(instance) => instance,
        Err(lost) => return lost.end("tidegate top"),
    };
    if options.once || options.json || !terminal::is_there() {
        return once(&instance, options);
    }
    match watch(instance, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("tidegate top: the terminal: {error}\n"));
            ExitCode::from(INTERNAL)
        }
    }
}

/// Two looks, and what they tell.
fn once(instance: &Instance, options: &Options) -> ExitCode {
    let (at, mut history) = (show(&instance.at), History::default());
    for turn in 0..2 {
        if turn > 0 {
            thread::park_timeout(options.interval);
        }
        match Look::at(instance) {
            Ok(look) => history.add(look),
            Err(error) => return Lost::Why(error.explain(&at)).end("tidegate top"),
        }
    }
    let (figures, paces) = (history.figures(), history.paces());
    let Some(look) = history.last() else { return ExitCode::from(INTERNAL) };
    if options.json {
        return say(&format!("{}\n", as_json(&at, look, &figures)));
    }
    let state = &look.state;
    let (sort, paused, lost) = (Sort::default(), false, None);
    let view = View { at: &at, state, figures: &figures, paces: &paces, sort, paused, lost };
    say(&view.text(COLUMNS))
}

fn as_json(at: &str, look: &Look, figures: &Figures) -> serde_json::Value {
    let state = &look.state;
    json!({
        "at": at,
        "version": state.version,
        "stage": state.stage,
        "figures": figures,
        "agents": state.agents,
        "queues": state.queues,
        "tasks": state.tasks,
    })
}

/// Draws until told to end. The terminal is as it was when this returns.
fn watch(instance: Instance, options: &Options) -> io::Result<()> {
    let told = told_to_end()?;
    let at = show(&instance.at);
    let seen = looks(instance, options.interval)?;
    let terminal = Terminal::take()?;
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut desk = Desk { at, colour, ..Desk::default() };
    let mut drawn = None;
    while !told.load(Ordering::Relaxed) {
        let new = desk.take(&seen)?;
        let size = terminal.size();
        if new || drawn != Some(size) {
            terminal.draw(&desk.lines(size))?;
            drawn = Some(size);
        }
        for key in terminal.keys(TICK)? {
            if !desk.press(key, size) {
                return Ok(());
            }
            drawn = None;
        }
    }
    Ok(())
}

/// What is on the screen, and how it is looked at.
#[derive(Default)]
struct Desk {
    at: String,
    colour: bool,
    history: History,
    lost: Option<String>,
    sort: Sort,
    paused: bool,
    scroll: usize,
    /// How far it can be scrolled.
    most: usize,
}

impl Desk {
    /// What was seen since; whether there is anything new to draw. `Err`: nobody looks any more.
    fn take(&mut self, seen: &Receiver<Seen>) -> io::Result<bool> {
        let mut new = false;
        loop {
            let seen = match seen.try_recv() {
                Ok(seen) => seen,
                Err(TryRecvError::Empty) => return Ok(new),
                Err(TryRecvError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
            };
            if self.paused {
                continue;
            }
            new = true;
            match seen {
                Ok(look) => {
                    self.history.add(look);
                    self.lost = None;
                }
                Err(error) => self.lost = Some(error.explain(&self.at)),
            }
        }
    }

    fn lines(&mut self, size: (usize, usize)) -> Vec<String> {
        let (figures, paces) = (self.history.figures(), self.history.paces());
        let state = self.history.last().map(|look| look.state.clone()).unwrap_or_default();
        let view = View {
            at: &self.at,
            state: &state,
            figures: &figures,
            paces: &paces,
            sort: self.sort,
            paused: self.paused,
            lost: self.lost.as_deref(),
        };
        let screen = view.screen(size, self.scroll, self.colour);
        (self.most, self.scroll) = (screen.most, self.scroll.min(screen.most));
        screen.lines
    }

    /// `false`: that is all.
    fn press(&mut self, key: Key, (_, rows): (usize, usize)) -> bool {
        let page = i32::try_from(rows.saturating_sub(6).max(1)).unwrap_or(i32::MAX);
        match key {
            Key::Quit => return false,
            Key::Pause => self.paused = !self.paused,
            Key::Sort => self.sort = self.sort.next(),
            Key::Scroll(lines) => self.scroll_by(lines),
            Key::Page(pages) => self.scroll_by(page.saturating_mul(pages)),
            Key::Top => self.scroll = 0,
            Key::Bottom => self.scroll = self.most,
        }
        true
    }

    fn scroll_by(&mut self, lines: i32) {
        let way = lines.unsigned_abs() as usize;
        let to = if lines < 0 { self.scroll.saturating_sub(way) } else { self.scroll + way };
        self.scroll = to.min(self.most);
    }
}

impl LookError {
    /// As a sentence.
    fn explain(&self, at: &str) -> String {
        match self {
            Self::Nobody(error) => format!(
                "nobody answers at {at}: {error}. Is it running, and is this its admin listener? \
                 --admin says another address"
            ),
            Self::Stranger => format!("what answers at {at} is no admin listener of Tidegate"),
            Self::Refused(401 | 403) => format!("the instance at {at} asks for a proof"),
            Self::Refused(status) => format!("{at} answers with status {status}"),
        }
    }
}
