//! The tables, and what can be done to one.
use redb::TableDefinition;

/// Each is a map from bytes to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Levels of budgets, by whatever their owner calls them.
    Budgets,
    /// Keys of agents by id, as JSON.
    Keys,
    /// What the database says of itself.
    Meta,
}

impl Table {
    pub const ALL: [Self; 3] = [Self::Budgets, Self::Keys, Self::Meta];

    pub fn name(self) -> &'static str {
        match self {
            Self::Budgets => "budgets",
            Self::Keys => "keys",
            Self::Meta => "meta",
        }
    }

    pub(super) fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// One change of a [`super::Store::write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Put { table: Table, key: Box<[u8]>, value: Vec<u8> },
    Delete { table: Table, key: Box<[u8]> },
}

impl Op {
    pub fn put(table: Table, key: impl Into<Box<[u8]>>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { table, key: key.into(), value: value.into() }
    }

    pub fn delete(table: Table, key: impl Into<Box<[u8]>>) -> Self {
        Self::Delete { table, key: key.into() }
    }

    pub(super) fn into_parts(self) -> (Table, Box<[u8]>, Option<Vec<u8>>) {
        match self {
            Self::Put { table, key, value } => (table, key, Some(value)),
            Self::Delete { table, key } => (table, key, None),
        }
    }
}
