//! A task as server-sent events: its states, and the events of its answer with numbers.
//!
//! An answer that streams is told event by event, each with its number as `id:`; who comes back
//! with `Last-Event-ID` or `starting_after` gets what follows that number. When another attempt
//! begins after some of an answer was told, a numbered `task.restarted` says that all before is
//! void. The last event is the task itself. One that does not stream has states alone, and they are
//! not numbered: the first that a reader gets is the present one. While nothing else is to be told,
//! `task.progress` says how far it is: its place in line, the tokens so far, the time.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::live::{Teller, write_event};
use super::object;
use crate::drain::{Drain, Stage};
use crate::tasks::{Follow, Follower, Lead, Owner, Tasks, View};
use crate::wire::{NdJsonSplit, SseSplit};

/// How long a reader hears nothing before it is told how far the task is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Tells of one task.
pub struct Events {
    tasks: Arc<Tasks>,
    owner: Owner,
    drain: Drain,
    view: View,
    /// `None`: it does not stream.
    answer: Option<Answer>,
    /// What was told last is the last.
    over: bool,
    /// The state has been told.
    told: Option<u64>,
}

struct Answer {
    follower: Follower,
    split: Split,
    /// The number of the event that was told last, by this attempt or one before.
    number: u64,
    /// What the reader has had.
    after: u64,
    /// Some of this attempt has come.
    begun: bool,
}

/// Shows every event whole: the policy bounds the answer.
enum Split {
    Sse(SseSplit<{ usize::MAX }>),
    Lines(NdJsonSplit<{ usize::MAX }>),
}

impl Split {
    fn new(lines: bool) -> Self {
        if lines { Self::Lines(NdJsonSplit::default()) } else { Self::Sse(SseSplit::default()) }
    }
}

/// How many events of the attempt that runs its readers may have been told.
pub fn told(lead: &Lead) -> u64 {
    let (lines, pieces) = lead.answer();
    let (mut split, mut count) = (Split::new(lines), 0);
    for piece in pieces {
        match &mut split {
            Split::Sse(split) => split.push(&piece, &mut |_| count += 1),
            Split::Lines(split) => split.push(&piece, &mut |_| count += 1),
        }
    }
    count
}

impl Events {
    pub fn new(
        tasks: &Arc<Tasks>,
        owner: Owner,
        drain: Drain,
        view: View,
        after: u64,
    ) -> Option<Self> {
        let answer = if view.record.request.stream {
            Some(Answer {
                follower: tasks.follow(&owner, view.record.id)?,
                split: Split::new(false),
                number: 0,
                after,
                begun: false,
            })
        } else {
            None
        };
        Some(Self { tasks: Arc::clone(tasks), owner, drain, view, answer, over: false, told: None })
    }

    fn state(&mut self) -> Bytes {
        self.told = Some(self.view.version);
        self.over = self.view.record.state.is_terminal();
        let name = object::event_name(self.view.record.state);
        let mut event = Vec::new();
        write_event(&mut event, None, Some(name.as_bytes()), &object::json(&self.view));
        event.into()
    }

    fn progress(&mut self) -> Option<Bytes> {
        if !self.look() {
            return None;
        }
        let mut event = Vec::new();
        write_event(&mut event, None, Some(b"task.progress"), &object::json(&self.view));
        Some(event.into())
    }

    fn look(&mut self) -> bool {
        let view = self.tasks.view(&self.owner, self.view.record.id);
        view.map(|view| self.view = view).is_some()
    }

    /// The next state, for one that does not stream.
    async fn next_state(&mut self) -> Option<Bytes> {
        while self.told == Some(self.view.version) {
            self.tasks.changed(self.view.record.id, self.view.version).await;
            if !self.look() {
                return None;
            }
        }
        Some(self.state())
    }

    /// The next events of the answer, or how it ended.
    async fn next_events(&mut self) -> Option<Bytes> {
        loop {
            let answer = self.answer.as_mut()?;
            match answer.follower.next().await {
                Follow::Piece(piece) => {
                    let mut told = Vec::new();
                    if !answer.begun {
                        self.look();
                        let answer = self.answer.as_mut()?;
                        let lines = is_lines(&self.view);
                        told = answer.begin(lines, self.view.record.attempts);
                    }
                    told.extend(self.answer.as_mut()?.push(&piece));
                    if !told.is_empty() {
                        return Some(told.into());
                    }
                }
                Follow::Restarted => answer.begun = false,
                Follow::Ended(view) => {
                    self.view = view;
                    let mut told = answer.finish();
                    told.extend_from_slice(&self.state());
                    return Some(told.into());
                }
                Follow::Broken => return None,
            }
        }
    }
}

fn is_lines(view: &View) -> bool {
    view.record.result.as_ref().is_some_and(|head| head.format == "ndjson")
}

impl Answer {
    /// Another attempt, or the first. A reader who has had some of one before is told so.
    fn begin(&mut self, lines: bool, attempt: u32) -> Vec<u8> {
        self.begun = true;
        self.split = Split::new(lines);
        let (had, before) = (self.after.max(self.number), self.follower.events_before());
        self.number = before;
        let mut told = Vec::new();
        if had > 0 && had < before {
            let data = format!("{{\"attempt\":{attempt}}}");
            write_event(&mut told, Some(before), Some(b"task.restarted"), data.as_bytes());
        }
        told
    }

    fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let (mut told, number, after) = (Vec::new(), &mut self.number, self.after);
        match &mut self.split {
            Split::Sse(split) => split.push(piece, &mut |event| {
                *number += 1;
                if *number > after {
                    write_event(&mut told, Some(*number), event.name, event.data);
                }
            }),
            Split::Lines(split) => split.push(piece, &mut |line| {
                *number += 1;
                if *number > after {
                    write_event(&mut told, Some(*number), None, line.data);
                }
            }),
        }
        told
    }

    fn finish(&mut self) -> Vec<u8> {
        let (mut told, number, after) = (Vec::new(), &mut self.number, self.after);
        match &mut self.split {
            Split::Sse(split) => split.finish(&mut |event| {
                *number += 1;
                if *number > after {
                    write_event(&mut told, Some(*number), event.name, event.data);
                }
            }),
            Split::Lines(split) => split.finish(&mut |line| {
                *number += 1;
                if *number > after {
                    write_event(&mut told, Some(*number), None, line.data);
                }
            }),
        }
        told
    }
}

impl Teller for Events {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if self.told.is_none() && !(self.answer.is_some() && self.view.record.state.is_terminal()) {
            return Some(self.state());
        }
        let drain = self.drain.clone();
        let next = async {
            if self.answer.is_some() { self.next_events().await } else { self.next_state().await }
        };
        tokio::select! {
            told = next => told,
            () = tokio::time::sleep(PROGRESS) => self.progress(),
            // who comes back goes on where it was
            () = drain.reached(Stage::Draining) => None,
        }
    }
}
