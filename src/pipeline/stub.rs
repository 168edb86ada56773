//! Until the wire can.
use std::borrow::Cow;

use http::Method;

use crate::wire::{Dialect, Kind, Meter, View};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    Freely,
    WhenFailed,
    WhenUnbegun,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    TheirFault,
    Denied,
    Limited,
    KeyRefused,
    KeySpent,
    Overloaded,
    Failed,
}

pub fn path_with_model<'p>(_path: &'p str, _model: &str, _to: &str) -> Option<Cow<'p, str>> {
    None
}

pub fn prefix(_kind: Kind, _view: &View<'_>) -> Option<u64> {
    None
}

pub fn repeat(_method: &Method, kind: Kind, _view: Option<&View<'_>>, _keyed: bool) -> Repeat {
    if kind.generates() { Repeat::WhenFailed } else { Repeat::WhenUnbegun }
}

pub fn verdict(_dialect: Dialect, status: u16, _body: &[u8]) -> Verdict {
    match status {
        ..=399 => Verdict::Fine,
        401 | 403 => Verdict::KeyRefused,
        402 => Verdict::KeySpent,
        429 => Verdict::Limited,
        408 | 503 | 529 => Verdict::Overloaded,
        500.. => Verdict::Failed,
        _ => Verdict::TheirFault,
    }
}

pub fn fault(_meter: &Meter) -> Option<Verdict> {
    Some(Verdict::Failed)
}
