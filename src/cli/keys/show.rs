//! Keys as people read them: a table, and a line of the policy file.
use std::fmt::Write as _;

use jiff::Timestamp;

use super::New;
use crate::store::KeyView;

/// What the policy file has of a key.
pub(super) enum Hash {
    Sha256([u8; 32]),
    /// Under `agents.pepper`.
    Hmac([u8; 32]),
}

const HEADS: [&str; 6] = ["ID", "AGENT", "TEAM", "CREATED", "EXPIRES", "REVOKED"];

/// One line a key below the heads, oldest first; `-` for what there is not.
pub(super) fn table(keys: &[KeyView]) -> String {
    let mut rows = vec![HEADS.map(str::to_owned)];
    let dash = || "-".to_owned();
    rows.extend(keys.iter().map(|key| {
        [
            key.id.clone(),
            key.agent.clone(),
            key.team.clone().unwrap_or_else(dash),
            time(key.created),
            key.expires.map_or_else(dash, time),
            key.revoked.map_or_else(dash, time),
        ]
    }));
    let widths: Vec<_> = (0..HEADS.len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // writing to a String cannot fail
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// An entry of `agents.keys`, as a YAML flow mapping. Texts are written as JSON strings, which are
/// YAML: a hash of digits alone must not become a number.
pub(super) fn line(new: &New, hash: &Hash) -> String {
    let (name, bytes) = match hash {
        Hash::Sha256(bytes) => ("sha256", bytes),
        Hash::Hmac(bytes) => ("hmac", bytes),
    };
    let digits = bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    });
    let mut parts = vec![format!("agent: {}", quoted(&new.agent))];
    parts.extend(new.team.iter().map(|team| format!("team: {}", quoted(team))));
    parts.push(format!("{name}: {}", quoted(&digits)));
    parts.extend(new.expires.map(|expires| format!("expires: {}", quoted(&time(expires)))));
    for (name, globs) in [("models", &new.models), ("routes", &new.routes)] {
        if !globs.is_empty() {
            let globs: Vec<_> = globs.iter().map(|glob| quoted(glob)).collect();
            parts.push(format!("{name}: [{}]", globs.join(", ")));
        }
    }
    format!("{{ {} }}", parts.join(", "))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// RFC 3339, to the second.
fn time(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string())
}
