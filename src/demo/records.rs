//! The sidecar's own records of the calls: its access log, taken off a channel.
use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A worker hands its lines over within a fraction of this.
const PATIENCE: Duration = Duration::from_secs(5);

/// One line of the access log, as far as the demo shows it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Record {
    pub request_id: String,
    pub path: String,
    pub status: u16,
    pub duration_ms: f64,
    pub first_token_ms: Option<f64>,
    pub overhead_us: u64,
    /// Time in the fair queue.
    pub queued_ms: f64,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub attempts: u32,
    /// The task that it is a call of.
    pub task: String,
    pub reused: bool,
    /// Billionths of a dollar.
    #[serde(rename = "spend_dollars", deserialize_with = "nano")]
    pub spend_nano: i64,
    /// The bound on the output that a hard limit wrote into the call.
    pub clamped: Option<u64>,
    /// What the cache had for the call, in a word; empty where no policy caches it.
    pub cache: String,
    pub saved_tokens: u64,
    /// Billionths of a dollar.
    #[serde(rename = "saved_dollars", deserialize_with = "nano")]
    pub saved_nano: i64,
}

/// From a decimal number of dollars; exact far beyond what a demo spends.
fn nano<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let dollars = f64::deserialize(from)?;
    Ok((dollars * 1e9).round() as i64)
}

/// The end that the access log writes to.
#[derive(Clone)]
pub struct Tap(UnboundedSender<Vec<u8>>);

/// The end that is read.
pub struct Records {
    blocks: UnboundedReceiver<Vec<u8>>,
    /// A line whose end has not come.
    partial: Vec<u8>,
    /// Read and not asked for yet.
    unread: VecDeque<Record>,
}

pub fn channel() -> (Tap, Records) {
    let (sender, blocks) = unbounded_channel();
    (Tap(sender), Records { blocks, partial: Vec::new(), unread: VecDeque::new() })
}

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Records {
    /// The record of this call.
    pub async fn of(&mut self, id: &str) -> io::Result<Record> {
        self.find(|record| record.request_id == id).await
    }

    /// The record of the call that a task made.
    pub async fn of_task(&mut self, id: &str) -> io::Result<Record> {
        self.find(|record| record.task == id && record.attempts > 0).await
    }

    async fn find(&mut self, wanted: impl Fn(&Record) -> bool) -> io::Result<Record> {
        let awaited = async {
            loop {
                let found = self.unread.iter().position(&wanted);
                if let Some(record) = found.and_then(|at| self.unread.remove(at)) {
                    return Ok(record);
                }
                self.receive().await?;
            }
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "a call was not recorded");
        tokio::time::timeout(PATIENCE, awaited).await.map_err(late)?
    }

    /// The records of these calls.
    pub async fn of_all(&mut self, ids: &[String]) -> io::Result<Vec<Record>> {
        let mut records = Vec::with_capacity(ids.len());
        for id in ids {
            records.push(self.of(id).await?);
        }
        Ok(records)
    }

    /// The next record that nobody has asked for.
    pub async fn next(&mut self) -> io::Result<Record> {
        loop {
            if let Some(record) = self.unread.pop_front() {
                return Ok(record);
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> io::Result<()> {
        let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "the access log ended");
        let block = self.blocks.recv().await.ok_or_else(ended)?;
        self.partial.extend_from_slice(&block);
        let whole = memchr::memrchr(b'\n', &self.partial).map_or(0, |at| at + 1);
        for line in self.partial.drain(..whole).as_slice().split(|&byte| byte == b'\n') {
            if !line.is_empty() {
                self.unread.push_back(serde_json::from_slice(line)?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_found_by_id_however_they_arrive() {
        let (mut tap, mut records) = channel();
        let line = |id: u8| format!("{{\"request_id\":\"{id}\",\"status\":200,\"new\":[1]}}\n");
        let text = [line(1), line(2), line(3)].concat();
        let (head, tail) = text.split_at(60);
        tap.write_all(head.as_bytes()).unwrap();
        tap.write_all(tail.as_bytes()).unwrap();
        assert_eq!(records.of("2").await.unwrap().status, 200);
        assert_eq!(records.next().await.unwrap().request_id, "1");
        assert_eq!(records.of("3").await.unwrap().request_id, "3");
        drop(tap);
        assert!(records.of("4").await.is_err(), "no record will come");
    }
}
