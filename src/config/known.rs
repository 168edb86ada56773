//! What sections may refer to in others: names of routes and upstreams, and what listeners ask for.
use std::sync::Arc;

use super::Upstream;
use super::fault::nearest;
use super::read::{At, Reader, words};
use crate::units::glob_matches;
use crate::wire::Dialect;

pub(super) struct Known<'k> {
    /// `None`: some are at fault, so a glob that fits none is no fault of its own.
    pub routes: Option<Vec<&'k str>>,
    /// As written, also those at fault.
    pub upstreams: &'k [&'k str],
    /// Those without a fault.
    pub sound: &'k [Upstream],
    /// Some listener asks for client certificates, or is at fault.
    pub certificates: bool,
    /// Keys may be kept there.
    pub state: bool,
}

impl Known<'_> {
    /// A glob that fits the name of a route.
    pub fn route(&self, reader: &Reader<'_>, at: &At<'_>) -> Option<Arc<str>> {
        fitting(reader, at, "route", self.routes.as_deref())
    }

    /// A glob that fits the name of an upstream.
    pub fn upstream(&self, reader: &Reader<'_>, at: &At<'_>) -> Option<Arc<str>> {
        fitting(reader, at, "upstream", Some(self.upstreams))
    }

    /// The name of one upstream, and what it speaks if it is without a fault.
    pub fn one_upstream(
        &self,
        reader: &Reader<'_>,
        at: &At<'_>,
    ) -> Option<(Arc<str>, Option<Dialect>)> {
        let expected = format!("an upstream: {}", words(self.upstreams.iter().copied()));
        let text = reader.text(at, &expected)?;
        if !self.upstreams.contains(&text.value.as_ref()) {
            let hint = nearest(&text.value, self.upstreams.iter().copied());
            let found = format!("{}, which is no upstream", text.shown());
            reader.fault_near(at.node.place, &at.path, found, &expected, hint);
            return None;
        }
        let sound = self.sound.iter().find(|upstream| *upstream.name == *text.value);
        let name = sound.map(|upstream| Arc::clone(&upstream.name));
        Some((
            name.unwrap_or_else(|| Arc::from(&*text.value)),
            sound.map(|upstream| upstream.dialect),
        ))
    }
}

fn fitting(
    reader: &Reader<'_>,
    at: &At<'_>,
    what: &str,
    names: Option<&[&str]>,
) -> Option<Arc<str>> {
    let text = reader.text(at, &format!("a glob over the names of {what}s"))?;
    if let Some(names) = names
        && !names.iter().any(|name| glob_matches(&text.value, name))
    {
        let found = format!("{}, which fits no {what}", text.shown());
        let expected = format!("a glob over the {what}s: {}", words(names.iter().copied()));
        let hint = nearest(&text.value, names.iter().copied());
        reader.fault_near(at.node.place, &at.path, found, &expected, hint);
    }
    Some(Arc::from(text.value))
}
