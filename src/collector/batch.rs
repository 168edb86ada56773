//! The queue of spans in front of a collector: bounded, and the oldest go first when it is full.
use std::collections::VecDeque;

use tokio::time::Instant;

use crate::telemetry::otlp::Block;

/// A batch is sent when it has so many spans.
const BATCH: u64 = 512;
/// A batch has no more bytes, but for a single block: receivers of gRPC take 4 MiB by default.
const LARGEST: usize = 2 << 20;
/// The most that waits.
const MOST_BYTES: usize = 8 << 20;

#[derive(Default)]
pub(super) struct Queue {
    blocks: VecDeque<(Instant, Block)>,
    spans: u64,
    bytes: usize,
}

impl Queue {
    /// Adds a block; says how many spans were dropped for it.
    pub(super) fn push(&mut self, block: Block) -> u64 {
        self.spans += block.spans;
        self.bytes += block.bytes.len();
        self.blocks.push_back((Instant::now(), block));
        let mut dropped = 0;
        while self.bytes > MOST_BYTES
            && let Some(oldest) = self.pop()
        {
            dropped += oldest.spans;
        }
        dropped
    }

    fn pop(&mut self) -> Option<Block> {
        let (_, block) = self.blocks.pop_front()?;
        self.spans -= block.spans;
        self.bytes -= block.bytes.len();
        Some(block)
    }

    /// The oldest blocks, for one request. At least one, if there is any.
    pub(super) fn take(&mut self) -> Vec<Block> {
        let (mut batch, mut bytes, mut spans) = (Vec::new(), 0, 0);
        while let Some((_, next)) = self.blocks.front()
            && (batch.is_empty() || spans < BATCH && bytes + next.bytes.len() <= LARGEST)
        {
            spans += next.spans;
            bytes += next.bytes.len();
            batch.extend(self.pop());
        }
        batch
    }

    pub(super) fn is_full(&self) -> bool {
        self.spans >= BATCH
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Since when the oldest waits.
    pub(super) fn since(&self) -> Option<Instant> {
        self.blocks.front().map(|(since, _)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(spans: u64, bytes: usize) -> Block {
        Block { bytes: vec![0; bytes], spans }
    }

    #[tokio::test]
    async fn a_batch_is_bounded_by_spans_and_by_bytes() {
        let mut queue = Queue::default();
        for _ in 0..4 {
            assert_eq!(queue.push(block(200, 100)), 0);
        }
        assert!(queue.is_full());
        assert_eq!(queue.take().len(), 3);
        assert!(!queue.is_full() && !queue.is_empty());
        assert_eq!(queue.take().len(), 1);
        assert!(queue.is_empty() && queue.since().is_none() && queue.take().is_empty());
        queue.push(block(1, LARGEST + 1));
        queue.push(block(1, 1));
        assert_eq!(queue.take().len(), 1, "one that is too large goes alone");
    }

    #[tokio::test]
    async fn the_oldest_are_dropped_and_counted() {
        let mut queue = Queue::default();
        let dropped: u64 = (0..20).map(|_| queue.push(block(10, 1 << 20))).sum();
        assert_eq!(dropped, 120);
        assert_eq!((queue.spans, queue.bytes), (80, MOST_BYTES));
    }
}
