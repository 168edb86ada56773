//! Reading an answer into the log of its task.
use std::pin::Pin;

use http_body::Body as _;

use crate::pipeline::reply::ReplyBody;
use crate::tasks::{Lead, TooLarge};
use crate::wire::{self, Form, Kind, Meter, SseSplit};

/// How the task says it.
pub fn format(form: Form) -> &'static str {
    match form {
        Form::Json => "json",
        Form::Sse => "sse",
        Form::NdJson => "ndjson",
        Form::Opaque => "opaque",
    }
}

/// Why an answer was not read to its end.
pub enum Torn {
    Broken,
    TooLarge,
}

impl From<TooLarge> for Torn {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

pub struct Reading<'l> {
    form: Form,
    meter: Meter,
    lead: &'l Lead,
    /// Where the backend's id of the response is still to be found.
    sought: Option<SseSplit>,
}

impl<'l> Reading<'l> {
    pub fn new(kind: Kind, form: Form, lead: &'l Lead) -> Self {
        let sought = (kind == Kind::Responses).then(SseSplit::new);
        Self { form, meter: Meter::new(kind, form), lead, sought }
    }

    pub fn into_meter(self) -> Meter {
        self.meter
    }

    pub async fn read(&mut self, mut body: ReplyBody) -> Result<(), Torn> {
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            let Some(frame) = frame else { return Ok(()) };
            let Ok(data) = frame.map_err(|_| Torn::Broken)?.into_data() else { continue };
            self.meter.push(&data);
            self.find_alias(&data);
            self.lead.push(data)?;
            self.lead.progress(self.meter.produced());
        }
    }

    /// It stands at the beginning: in the first event, or in the object.
    fn find_alias(&mut self, data: &[u8]) {
        let Some(split) = &mut self.sought else { return };
        let mut first = None;
        if self.form == Form::Sse {
            split.push(data, &mut |event| {
                first.get_or_insert_with(|| wire::event_response_id(event.data));
            });
        } else {
            first = Some(wire::response_id(data));
        }
        let Some(found) = first else { return };
        self.sought = None;
        if let Some(id) = found {
            self.lead.add_alias(id);
        }
    }
}
