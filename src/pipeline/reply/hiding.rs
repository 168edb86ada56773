//! A stream without the report of usage that only we asked for.
use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire::Hide;

/// What hides a part of a stream, and what of the rest is ready to go.
#[derive(Default)]
pub struct Hiding {
    pub hide: Hide,
    pub ready: VecDeque<Bytes>,
}

impl Hiding {
    pub fn take(&mut self, data: Bytes, last: bool) {
        let Self { hide, ready } = self;
        hide.push(data, &mut |piece| ready.push_back(piece));
        if last {
            self.finish();
        }
    }

    /// Says whether something is left to go.
    pub fn finish(&mut self) -> bool {
        let Self { hide, ready } = self;
        hide.finish(&mut |piece| ready.push_back(piece));
        !ready.is_empty()
    }
}
