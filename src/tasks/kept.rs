//! Reading what is on the disk: requests of tasks that are to run, answers of those that did.
//!
//! Reads block, so they are made on a thread that may; each sees one commit of the store. An error
//! says nothing of what is there: while the disk is full the store may be closed for a moment.
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::TaskId;
use super::record::{Data, Headers};
use crate::store::{Store, StoreError, Table};

/// Longest row of a request's body.
const ROW: usize = 256 * 1024;
/// As much of an answer is read at once.
const PART: usize = 256 * 1024;

/// A part of an answer: whole rows, and where the next begins; `None` where there is none.
pub(super) struct Part {
    pub(super) bytes: Bytes,
    pub(super) next: Option<u32>,
}

/// The rows of a request's body; they share its memory.
pub(super) fn body_rows(id: TaskId, body: &Bytes) -> impl Iterator<Item = (Vec<u8>, Bytes)> {
    let rows = body.len().div_ceil(ROW);
    (0..rows).map(move |row| {
        let from = row * ROW;
        let until = body.len().min(from + ROW);
        (Data::Body.key(id, row as u32), body.slice(from..until))
    })
}

/// Headers and body of a request; `None` where they are not there.
pub(super) async fn request(
    store: &Arc<Store>,
    id: TaskId,
) -> Result<Option<(Headers, Bytes)>, StoreError> {
    blocking(store, id, move |store| {
        let headers = store.get(Table::TaskData, &Data::Headers.key(id, 0))?;
        let headers = headers.and_then(|json| serde_json::from_slice(&json).ok());
        Ok(headers.zip(Some(whole(store, &Data::Body.prefix(id))?)))
    })
    .await
}

/// The whole answer of an attempt.
pub(super) async fn answer(store: &Arc<Store>, id: TaskId, run: u32) -> Result<Bytes, StoreError> {
    blocking(store, id, move |store| whole(store, &Data::Answer { run }.prefix(id))).await
}

/// The whole answer of an attempt, row by row.
pub(super) async fn rows(
    store: &Arc<Store>,
    id: TaskId,
    run: u32,
) -> Result<Vec<Bytes>, StoreError> {
    let prefix = Data::Answer { run }.prefix(id);
    blocking(store, id, move |store| {
        let mut rows = Vec::new();
        store.each(Table::TaskData, &prefix, &prefix, |_, value| {
            rows.push(Bytes::copy_from_slice(value));
            true
        })?;
        Ok(rows)
    })
    .await
}

/// The answer of an attempt from the row `from` on.
pub(super) async fn part(
    store: &Arc<Store>,
    id: TaskId,
    run: u32,
    from: u32,
) -> Result<Part, StoreError> {
    let kind = Data::Answer { run };
    blocking(store, id, move |store| {
        let (mut bytes, mut next) = (BytesMut::new(), None);
        store.each(Table::TaskData, &kind.prefix(id), &kind.key(id, from), |key, value| {
            if bytes.len() >= PART {
                next = piece(key);
                return false;
            }
            bytes.extend_from_slice(value);
            true
        })?;
        Ok(Part { bytes: bytes.freeze(), next })
    })
    .await
}

/// How many bytes of an attempt's answer are on the disk. Blocks.
pub(super) fn answer_bytes(store: &Store, id: TaskId, run: u32) -> Result<u64, StoreError> {
    let prefix = Data::Answer { run }.prefix(id);
    let mut bytes = 0;
    store.each(Table::TaskData, &prefix, &prefix, |_, value| {
        bytes += value.len() as u64;
        true
    })?;
    Ok(bytes)
}

fn piece(key: &[u8]) -> Option<u32> {
    key.last_chunk().map(|piece| u32::from_be_bytes(*piece))
}

fn whole(store: &Store, prefix: &[u8]) -> Result<Bytes, StoreError> {
    let mut bytes = BytesMut::new();
    store.each(Table::TaskData, prefix, prefix, |_, value| {
        bytes.extend_from_slice(value);
        true
    })?;
    Ok(bytes.freeze())
}

async fn blocking<T: Send + 'static>(
    store: &Arc<Store>,
    id: TaskId,
    read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = Arc::clone(store);
    let read = tokio::task::spawn_blocking(move || read(&store)).await;
    // an error of the runtime: it ends
    let read = read.unwrap_or(Err(StoreError::Closed));
    read.inspect_err(|error| tracing::error!(%id, %error, "a task cannot be read"))
}
