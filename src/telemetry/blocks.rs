//! One worker's lines on their way to a writer: put together in blocks of its own.
//!
//! A block is handed over at 64 KiB, or 100 ms after its first line; nothing is written and nothing
//! waited for here. Without a log there are no blocks, and no line is put together.
use super::sink::Sink;

/// A block is handed over at this size.
pub(super) const BLOCK: usize = 64 * 1024;
/// Or when its first line is this old.
const MAX_AGE_MS: u64 = 100;

pub(super) struct Blocks {
    sink: Option<Sink>,
    block: Vec<u8>,
    pub(super) count: u64,
    /// Time of the block's first line.
    first_ms: u64,
}

impl Blocks {
    /// Without a sink there is no log.
    pub fn new(sink: Option<Sink>) -> Self {
        Self { sink, block: Vec::new(), count: 0, first_ms: 0 }
    }

    pub fn enabled(&self) -> bool {
        self.sink.is_some()
    }

    /// Adds a line, with its end.
    pub fn line(&mut self, time_ms: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(sink) = &self.sink else { return };
        if self.count == 0 {
            self.first_ms = time_ms;
            self.block = sink.block();
        }
        write(&mut self.block);
        self.count += 1;
        if self.block.len() >= BLOCK {
            self.flush();
        } else {
            self.flush_if_due(time_ms);
        }
    }

    /// Hands the block over when its first line is 100 ms old, or the clock went back. A worker
    /// calls it from its tick, so that the last lines before a pause are seen.
    pub fn flush_if_due(&mut self, now_ms: u64) {
        if self.count > 0 && now_ms.checked_sub(self.first_ms).is_none_or(|age| age >= MAX_AGE_MS) {
            self.flush();
        }
    }

    /// Hands over what there is.
    pub fn flush(&mut self) {
        if let Some(sink) = &self.sink
            && self.count > 0
        {
            sink.offer(std::mem::take(&mut self.block), std::mem::take(&mut self.count));
        }
    }
}

#[cfg(test)]
impl Blocks {
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.flush();
    }
}
