//! The credentials of an upstream. None is ever shown, nor which of them are alike.
use crate::config::Secret;
use crate::config::read::{Fields, Reader};

/// `key`, or `keys` with no two alike; in the order of the file. Empty without either.
pub(super) fn keys(reader: &Reader<'_>, fields: &Fields<'_, '_>) -> Vec<Secret> {
    let mut keys: Vec<Secret> = fields.maybe("key", Reader::secret).into_iter().collect();
    let Some(list) = fields.get("keys") else { return keys };
    if fields.get("key").is_some() {
        reader.wrong(&list, "`keys` beside `key`", "only one of the two");
        return keys;
    }
    for item in reader.list(&list, "a list of secrets like [${NAME}, file:/path]") {
        let Some(key) = reader.secret(&item) else { continue };
        if keys.contains(&key) {
            reader.wrong(&item, "a key that is in the list already", "each key once");
        }
        keys.push(key);
    }
    keys
}
