//! Vectors of an embeddings call, each kept by itself: which inputs are known, which must be asked
//! for, and the answer made of both.
//!
//! An input is named by the walls, by all that the request says beside its inputs, and by itself: so
//! a batch finds what another batch, or a single call, has left. The same input twice in one batch
//! is asked for once. An [`Entry`] holds one vector, the frame it came in, and its share of the
//! tokens that were counted for its batch. What wire will not put together is not given: then all
//! of it counts as unknown.
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::entry::{Author, Entry};
use super::key::{Key, KeyBits, Naming};
use super::spaces::Space;
use crate::wire::embed::{Api, Batch, Kept, put_together, shares, take_apart};
use crate::wire::{Form, Kind, Usage};

/// The inputs of one call, in their order.
pub struct Vectors {
    kind: Kind,
    api: Api,
    inputs: Vec<Input>,
}

struct Input {
    key: Key,
    /// Its part of what is counted for the batch.
    weight: u64,
    entry: Option<Arc<Entry>>,
    /// The first input that is the same; itself, if there is none before it.
    first: usize,
}

/// What is said of each vector that is kept.
pub struct Keeping<'k> {
    pub space: &'k Space,
    pub content_type: Option<Box<[u8]>>,
    pub ttl: Duration,
    /// A heavier entry is not kept.
    pub max_entry: u64,
    pub author: &'k Author,
    /// What so many tokens cost, in billionths of a dollar.
    pub cost: &'k dyn Fn(&Usage) -> i64,
}

impl Vectors {
    /// Names the inputs of a call; `walls` is what they may not cross. And the name of the call.
    pub fn new(kind: Kind, batch: &Batch<'_>, mut walls: Naming) -> (Self, Key) {
        batch.say_around(&mut |bytes| walls.raw(bytes));
        let mut whole = walls.clone();
        whole.part(&(batch.len() as u64).to_le_bytes());
        let mut firsts: HashMap<Key, usize, BuildHasherDefault<KeyBits>> =
            HashMap::with_capacity_and_hasher(batch.len(), BuildHasherDefault::default());
        let mut inputs = Vec::with_capacity(batch.len());
        for index in 0..batch.len() {
            let (mut naming, mut weight) = (walls.clone(), 0);
            batch.say_input(index, &mut |bytes| {
                naming.raw(bytes);
                weight += bytes.len() as u64;
            });
            let key = naming.key();
            whole.part(&key.0);
            let first = *firsts.entry(key).or_insert(index);
            inputs.push(Input { key, weight, entry: None, first });
        }
        (Self { kind, api: batch.api(), inputs }, whole.key())
    }

    /// How many inputs; one or more.
    #[expect(clippy::len_without_is_empty, reason = "there is no call without an input")]
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Takes what is in memory and may be given.
    pub fn look(&mut self, space: &Space, now: SystemTime, good: impl Fn(&Entry) -> bool) {
        for index in 0..self.inputs.len() {
            if self.asks(index) {
                let entry = space.get_now(&self.inputs[index].key, now);
                self.inputs[index].entry = entry.filter(|entry| good(entry));
            }
        }
    }

    /// Takes what is on disk besides.
    pub async fn look_on_disk(
        &mut self,
        space: &Space,
        now: SystemTime,
        good: impl Fn(&Entry) -> bool,
    ) {
        for index in 0..self.inputs.len() {
            let key = self.inputs[index].key;
            if self.asks(index) && space.on_disk(&key, now) {
                let entry = space.get_from_disk(&key, now).await;
                self.inputs[index].entry = entry.filter(|entry| good(entry));
            }
        }
    }

    /// Whether this input is to be asked for, or looked for.
    fn asks(&self, index: usize) -> bool {
        let input = &self.inputs[index];
        input.entry.is_none() && input.first == index
    }

    /// The inputs to ask for, in order.
    pub fn missing(&self) -> Vec<usize> {
        (0..self.inputs.len()).filter(|&index| self.asks(index)).collect()
    }

    /// Not all of the inputs are to be asked for.
    pub fn any_known(&self) -> bool {
        (0..self.inputs.len()).any(|index| !self.asks(index))
    }

    /// As if nothing were known.
    pub fn forget(&mut self) {
        for input in &mut self.inputs {
            input.entry = None;
        }
    }

    /// How much of `bytes` is to be asked for.
    pub fn asked_share(&self, bytes: u64) -> u64 {
        let weight = |index: usize| u128::from(self.inputs[index].weight);
        let all: u128 = (0..self.inputs.len()).map(weight).sum();
        let asked: u128 = self.missing().into_iter().map(weight).sum();
        // no more than all
        (u128::from(bytes) * asked / all.max(1)) as u64
    }

    /// Takes the answer to the inputs that were asked for apart, and keeps what it says. `false`: it
    /// is not the answer that was expected, and nothing is kept.
    pub fn take(&mut self, asked: &[usize], answer: &[u8], keeping: &Keeping<'_>) -> bool {
        let Some(apart) = take_apart(self.api, answer, asked.len()) else { return false };
        let weights: Vec<_> = asked.iter().map(|&index| self.inputs[index].weight).collect();
        let shares = apart.tokens.map(|tokens| shares(tokens, &weights));
        for (nth, &index) in asked.iter().enumerate() {
            let Some(body) = apart.kept(nth) else { return false };
            let usage =
                shares.as_ref().map(|shares| Usage { input: shares[nth], ..Usage::default() });
            let entry = Arc::new(Entry {
                kind: self.kind,
                form: Form::Json,
                stream: false,
                content_type: keeping.content_type.clone(),
                body,
                frames: Box::default(),
                stored: SystemTime::now(),
                ttl: keeping.ttl,
                usage,
                cost_nano: usage.as_ref().map(keeping.cost),
                author: keeping.author.clone(),
            });
            if !keeping.ttl.is_zero() && entry.weight() <= keeping.max_entry {
                keeping.space.put(self.inputs[index].key, Arc::clone(&entry));
            }
            self.inputs[index].entry = Some(entry);
        }
        true
    }

    /// The answer, where all is known: made as the one to input `like` was. Its age is that of its
    /// oldest vector, its life what is left of the shortest; its usage is the sum of all shares.
    pub fn answer(&self, like: usize, now: SystemTime) -> Option<Entry> {
        let entries: Option<Vec<&Arc<Entry>>> =
            self.inputs.iter().map(|input| self.inputs[input.first].entry.as_ref()).collect();
        let entries = entries?;
        let parts: Option<Vec<_>> = entries.iter().map(|entry| Kept::read(&entry.body)).collect();
        let sum = |of: fn(&Entry) -> u64| entries.iter().map(|entry| of(entry)).sum::<u64>();
        let input = sum(|entry| entry.usage.map_or(0, |usage| usage.input));
        let body: Bytes = put_together(self.api, &parts?, like, input)?;
        let counted = entries.iter().any(|entry| entry.usage.is_some());
        let stored = entries.iter().map(|entry| entry.stored).min()?;
        let until = |entry: &&Arc<Entry>| entry.stored.checked_add(entry.ttl);
        let until = entries.iter().map(until).min()??;
        let like = entries.get(like)?;
        let cost = entries.iter().filter_map(|entry| entry.cost_nano).sum();
        Some(Entry {
            kind: self.kind,
            form: Form::Json,
            stream: false,
            content_type: like.content_type.clone(),
            body,
            frames: Box::default(),
            stored,
            ttl: until.max(now).duration_since(stored).unwrap_or_default(),
            usage: counted.then_some(Usage { input, ..Usage::default() }),
            cost_nano: counted.then_some(cost),
            author: like.author.clone(),
        })
    }

    /// Tokens of the inputs that were not asked for: what the answer has saved.
    pub fn spared(&self, asked: &[usize]) -> Usage {
        let known = |index: &usize| asked.binary_search(index).is_err();
        let share = |index: usize| {
            let entry = self.inputs[self.inputs[index].first].entry.as_ref();
            entry.and_then(|entry| entry.usage).map_or(0, |usage| usage.input)
        };
        let input = (0..self.inputs.len()).filter(known).map(share).sum();
        Usage { input, ..Usage::default() }
    }
}

#[cfg(test)]
mod tests;
