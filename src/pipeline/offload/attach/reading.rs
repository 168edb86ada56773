//! The stream of a response, event by event, into the log of its task.
use bytes::Bytes;

use super::{came, end_of};
use crate::pipeline::offload::run::Came;
use crate::tasks::{Lead, State, TooLarge};
use crate::wire::{self, Form, Kind, Meter, WholeEvents};

/// All that came of a stream, over as many connections as it took.
pub struct Reading<'l> {
    lead: &'l Lead,
    most: u64,
    whole: WholeEvents,
    meter: Meter,
    known: Known,
}

#[derive(Default)]
struct Known {
    /// Of the last event that is in the log.
    number: Option<u64>,
    /// There are events.
    any: bool,
    id: Option<String>,
    end: Option<State>,
}

impl Known {
    /// Whether it is new.
    fn take(&mut self, data: &[u8]) -> bool {
        let number = wire::sequence_number(data);
        if number.zip(self.number).is_some_and(|(number, had)| number <= had) {
            return false;
        }
        (self.number, self.any) = (number.or(self.number), true);
        if self.id.is_none() {
            self.id = wire::event_response_id(data);
        }
        if let Some(end) = wire::event_status(data).and_then(|status| end_of(&status)) {
            self.end = Some(end);
        }
        true
    }
}

impl<'l> Reading<'l> {
    /// Goes on behind what is in the log.
    pub fn new(lead: &'l Lead, most: u64) -> Self {
        let (whole, meter) = (WholeEvents::default(), Meter::new(Kind::Responses, Form::Sse));
        let mut reading = Self { lead, most, whole, meter, known: Known::default() };
        for piece in lead.answer().1 {
            reading.look(&piece);
        }
        reading.whole = WholeEvents::default();
        lead.progress(reading.meter.produced());
        reading
    }

    /// Another connection: what was not whole on the one before comes again.
    pub fn anew(&mut self) {
        self.whole = WholeEvents::default();
    }

    /// Takes the next bytes. Whether there was something new in them.
    pub fn push(&mut self, chunk: &[u8]) -> Result<bool, TooLarge> {
        let mut new = self.look(chunk);
        if self.whole.held() as u64 > self.most {
            return Err(TooLarge { most: self.most });
        }
        let piece = match new.len() {
            0 => return Ok(false),
            1 => new.remove(0),
            _ => Bytes::from(new.concat()),
        };
        self.lead.push(piece)?;
        self.lead.progress(self.meter.produced());
        Ok(true)
    }

    fn look(&mut self, chunk: &[u8]) -> Vec<Bytes> {
        let (known, meter, mut new) = (&mut self.known, &mut self.meter, Vec::new());
        self.whole.push(chunk, |raw, data| {
            if data.is_none_or(|data| known.take(data)) {
                meter.push(&raw);
                new.push(raw);
            }
        });
        new
    }

    /// The id of the response.
    pub fn id(&self) -> Option<&str> {
        self.known.id.as_deref()
    }

    /// Behind which event to go on; `None`: at the beginning. An error: events came and had no
    /// numbers.
    pub fn after(&self) -> Result<Option<u64>, ()> {
        if self.known.any && self.known.number.is_none() { Err(()) } else { Ok(self.known.number) }
    }

    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    pub fn into_meter(self) -> Meter {
        self.meter
    }

    /// What it came to, if its end is there.
    pub fn came(&self) -> Option<Came> {
        self.known.end.map(|end| came(end, self.meter.usage()))
    }
}
