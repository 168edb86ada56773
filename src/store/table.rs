//! The tables, and what can be done to one.
use bytes::Bytes;
use redb::TableDefinition;

/// Each is a map from bytes to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Levels of budgets, by whatever their owner calls them.
    Budgets,
    /// Keys of agents by id, as JSON.
    Keys,
    /// Messages that are to be sent, by id, as JSON.
    Webhooks,
    /// What the database says of itself.
    Meta,
    /// Tasks by id, as JSON.
    Tasks,
    /// Requests and answers of tasks, in pieces.
    TaskData,
}

impl Table {
    pub const ALL: [Self; 6] =
        [Self::Budgets, Self::Keys, Self::Webhooks, Self::Meta, Self::Tasks, Self::TaskData];

    pub fn name(self) -> &'static str {
        match self {
            Self::Budgets => "budgets",
            Self::Keys => "keys",
            Self::Webhooks => "webhooks",
            Self::Meta => "meta",
            Self::Tasks => "tasks",
            Self::TaskData => "task_data",
        }
    }

    pub(super) fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// One change of a [`super::Store::write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Put {
        table: Table,
        key: Box<[u8]>,
        value: Vec<u8>,
    },
    Delete {
        table: Table,
        key: Box<[u8]>,
    },
    /// Every key that begins so, those that wait to be written among them.
    DeletePrefix {
        table: Table,
        prefix: Box<[u8]>,
    },
}

impl Op {
    pub fn put(table: Table, key: impl Into<Box<[u8]>>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { table, key: key.into(), value: value.into() }
    }

    pub fn delete(table: Table, key: impl Into<Box<[u8]>>) -> Self {
        Self::Delete { table, key: key.into() }
    }

    /// `prefix` must not be empty.
    pub fn delete_prefix(table: Table, prefix: impl Into<Box<[u8]>>) -> Self {
        Self::DeletePrefix { table, prefix: prefix.into() }
    }
}

/// A new row of a [`super::Store::admit`]. Its value is shared, not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRow {
    pub table: Table,
    pub key: Box<[u8]>,
    pub value: Bytes,
}

/// What comes right after all keys that begin with `prefix`; `None` where nothing can.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
